//! `GET /users/{id}/events`: each new entry of a user's history, as a server-sent event.
//!
//! A stream begins with `event: state`, the user as of now, or where the client resumes, with the entries
//! that it has not seen. Then each new entry is an `event: change` with its version as `id`. One name for all
//! kinds, so that one listener gets everything, kinds of later versions included; `data` says the kind. It is
//! the name of what the history lists, and `data` is an item of that list, byte for byte.
//!
//! - `text`: what is sent.
//! - `stream`: the task that sends it.

mod stream;
mod text;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header};

use self::stream::Stream;
use super::app::{App, Segment, number_in, path_user};
use super::auth::Pass;
use super::error::{HttpError, OfUser};
use super::openapi::{parameters, responses};
use super::query;
use super::response::of_type;
use super::streaming::{output, streaming};
use super::wire::{EVENT_STREAM, LAST_EVENT_ID};
use crate::config::tokens::Scope;

pub use self::text::append;

/// Streams the new entries of a user's history, as server-sent events.
///
/// Begins with the user as of now (`event: state`), or with the entries after `Last-Event-ID`. Then each new
/// entry is an `event: change`: its `id` is the version, its `data` an item of the history. So a client that
/// connects again misses nothing and gets nothing twice. A comment every 15 seconds shows that the stream is
/// alive.
#[utoipa::path(
    get,
    path = "/users/{id}/events",
    operation_id = "watchUser",
    tag = "Users",
    params(parameters::User, parameters::Position),
    responses(responses::Events)
)]
pub async fn watch(
    State(app): State<App>,
    id: Segment,
    request: Request,
) -> Result<Response<Body>, HttpError> {
    let user = path_user(id)?;
    let position = position(request.headers(), request.uri().query())?;
    let place = app.feed.place(user).of_user(user)?;
    let now = app.store.user(user).await.of_user(user)?;
    if let Some((name, after)) = position
        && after > now.version
    {
        let version = now.version;
        let sentence =
            format!("{name} must not be more than the user's version, which is {version}");
        return Err(HttpError::bad_request(sentence));
    }
    let (output, body) = output();
    if request.method() == Method::HEAD {
        return Ok(head(body));
    }
    let (begin, after) = match position {
        Some((_, after)) => (text::resumed(after), after),
        None => (text::state(&now), now.version),
    };
    let (mark, connecting) = streaming();
    let stream = Stream {
        watch: app.feed.watch(place, after, now.version),
        output,
        pass: Pass::of(&app.tokens, request.headers(), Scope::Read),
        idle_limit: app.idle_limit,
    };
    tokio::spawn(stream.run(begin, connecting));
    let mut response = head(body);
    response.extensions_mut().insert(mark);
    Ok(response)
}

/// The version after which the client resumes, if it does, and the name under which it came.
///
/// The header comes first: `EventSource` sends it when it connects again, to the same URL as before.
fn position(
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Option<(&'static str, i64)>, HttpError> {
    let number = |name, text: &str| Ok(Some((name, number_in(name, text, 0, i64::MAX)?)));
    let [after] = query::parameters(query, ["after"])?;
    let after = after.map_or(Ok(None), |after| number("after", &after))?;
    let mut sent = headers.get_all(LAST_EVENT_ID).iter();
    match (sent.next(), sent.next()) {
        (None, _) => Ok(after),
        // Neither can be a number that is not text.
        (Some(id), None) => number(LAST_EVENT_ID, id.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => {
            Err(HttpError::bad_request(format!("{LAST_EVENT_ID} must not be sent twice")))
        }
    }
}

fn head(body: Body) -> Response<Body> {
    let mut response = of_type(EVENT_STREAM, body);
    let no = HeaderValue::from_static;
    response.headers_mut().extend([
        (header::CACHE_CONTROL, no("no-store")),
        // nginx would otherwise collect events until it has enough for a buffer.
        (HeaderName::from_static("x-accel-buffering"), no("no")),
    ]);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(ids: &[&str], query: &str) -> Result<Option<(&'static str, i64)>, String> {
        let ids = ids.iter().map(|id| HeaderValue::from_bytes(id.as_bytes()).unwrap());
        let name = HeaderName::from_static("last-event-id");
        let headers =
            ids.map(|id| (name.clone(), id)).fold(HeaderMap::new(), |mut all, (name, id)| {
                all.append(name, id);
                all
            });
        position(&headers, Some(query)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_header_comes_before_the_query_and_both_are_checked() {
        assert_eq!(parsed(&[], ""), Ok(None));
        assert_eq!(parsed(&[], "after=0"), Ok(Some(("after", 0))));
        assert_eq!(parsed(&["17"], "after=3"), Ok(Some(("Last-Event-ID", 17))));
        let header = "Last-Event-ID must be a whole number from 0 to 9223372036854775807";
        for id in ["", "-1", "+1", "x", "1.0", "9223372036854775808", "é"] {
            assert_eq!(parsed(&[id], ""), Err(header.into()), "{id}");
        }
        let query = "after must be a whole number from 0 to 9223372036854775807";
        assert_eq!(parsed(&["17"], "after="), Err(query.into()));
        assert_eq!(parsed(&["1", "1"], ""), Err("Last-Event-ID must not be sent twice".into()));
        let unknown = "Unknown parameter \"before\"; there are after";
        assert_eq!(parsed(&["1"], "before=1"), Err(unknown.into()));
    }
}
