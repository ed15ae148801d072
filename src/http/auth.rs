//! Bearer tokens, if any are configured.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, header};
use axum::middleware::Next;
use axum::response::IntoResponse;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::error::HttpError;
use crate::config::tokens::{Scope, Scopes, Token, TokenDigest};

/// The name of the token that came with a request.
///
/// It is among the extensions of each request whose token was accepted, and of each response to such a
/// request that may be logged: one that is not a success, or that has other extensions, such as reasons
/// or a stream. A 403 has it as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(pub Arc<str>);

/// The tokens that open the guarded routes. An empty list opens them to everybody, which is meant
/// for loopback only. Clones share the list, which can be replaced while requests are served.
#[derive(Clone)]
pub struct Tokens(Arc<ArcSwap<Vec<Token>>>);

impl Tokens {
    /// From the configuration.
    pub fn new(tokens: Vec<Token>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(tokens)))
    }

    /// Whether the guarded routes require a token. Never changes: see [`Self::replace`].
    pub fn are_required(&self) -> bool {
        !self.0.load().is_empty()
    }

    /// From the next request on, these tokens are the valid ones. The caller must not replace some by
    /// none or none by some, because the routes are guarded from the start or never.
    pub fn replace(&self, tokens: Vec<Token>) {
        self.0.store(Arc::new(tokens));
    }

    /// Finds the token of a request. Compares digests, and with every token in constant time, so that
    /// the time taken reveals neither a token nor its length.
    fn admit(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Refused> {
        let sent = bearer(headers).ok_or(Refused::Unauthorized)?;
        self.find(&TokenDigest::of(sent), scope)
    }

    /// The name and the scopes of the token of a request, if it is a valid one.
    pub(super) fn known(&self, headers: &HeaderMap) -> Option<(Arc<str>, Scopes)> {
        let token = self.token(&TokenDigest::of(bearer(headers)?))?;
        Some((token.name, token.scopes))
    }

    fn find(&self, sent: &TokenDigest, scope: Scope) -> Result<Caller, Refused> {
        let token = self.token(sent).ok_or(Refused::Unauthorized)?;
        let caller = Caller(token.name);
        if token.scopes.include(scope) { Ok(caller) } else { Err(Refused::Forbidden(caller)) }
    }

    fn token(&self, sent: &TokenDigest) -> Option<Token> {
        let tokens = self.0.load();
        let mut found = u64::MAX;
        for (number, token) in (0..).zip(tokens.iter()) {
            found.conditional_assign(&number, token.digest.ct_eq(sent));
        }
        usize::try_from(found).ok().and_then(|number| tokens.get(number)).cloned()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Refused {
    Unauthorized,
    Forbidden(Caller),
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// The token of a request whose response lasts, to be checked again. Only its digest is kept.
pub(super) struct Pass {
    tokens: Tokens,
    sent: Option<TokenDigest>,
    scope: Scope,
}

impl Pass {
    /// For a request that was let in.
    pub(super) fn of(tokens: &Tokens, headers: &HeaderMap, scope: Scope) -> Self {
        let sent = bearer(headers).filter(|_| tokens.are_required()).map(TokenDigest::of);
        Self { tokens: tokens.clone(), sent, scope }
    }

    /// Whether the request would be let in now.
    pub(super) fn is_valid(&self) -> bool {
        self.sent.as_ref().is_none_or(|sent| self.tokens.find(sent, self.scope).is_ok())
    }
}

/// What guards some routes.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) tokens: Tokens,
    pub(super) scope: Scope,
}

/// Passes a request on, or responds with 401 or 403 before its body is read.
pub(super) async fn require_token(
    State(Guard { tokens, scope }): State<Guard>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let (mut response, caller) = match tokens.admit(request.headers(), scope) {
        Ok(caller) => {
            request.extensions_mut().insert(caller.clone());
            (next.run(request).await, caller)
        }
        Err(Refused::Forbidden(caller)) => (HttpError::Forbidden.into_response(), caller),
        Err(Refused::Unauthorized) => return HttpError::Unauthorized.into_response(),
    };
    if !response.status().is_success() || !response.extensions().is_empty() {
        response.extensions_mut().insert(caller);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::routing::get;
    use axum::{Router, middleware};
    use tower::ServiceExt;

    use super::*;
    use crate::config::Config;

    fn tokens(list: &str) -> Vec<Token> {
        let only = |name: &str| (name == "AUTH_TOKENS").then(|| list.to_owned());
        Config::from_lookup(&only).unwrap().tokens.read().unwrap()
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    fn named(name: &str) -> Caller {
        Caller(name.into())
    }

    #[test]
    fn only_a_whole_token_of_the_list_is_let_in() {
        let tokens = Tokens::new(tokens("alpha,b:read:beta"));
        let admit = |value| tokens.admit(&headers(value), Scope::Read);
        assert_eq!(admit("Bearer beta"), Ok(named("b")));
        assert_eq!(admit("bearer alpha"), Ok(named("token-1")));
        for wrong in ["Bearer alph", "Bearer alphaa", "Bearer ", "Basic alpha", "alpha", ""] {
            assert_eq!(admit(wrong), Err(Refused::Unauthorized), "{wrong:?}");
        }
        assert_eq!(tokens.admit(&HeaderMap::new(), Scope::Read), Err(Refused::Unauthorized));
        let mut twice = headers("Bearer alpha");
        twice.append(header::AUTHORIZATION, "Bearer alpha".parse().unwrap());
        assert_eq!(tokens.admit(&twice, Scope::Read), Err(Refused::Unauthorized));
    }

    #[test]
    fn no_scope_includes_another() {
        let tokens = Tokens::new(tokens("read:read:a,write:write:b,metrics:metrics:c"));
        for (token, held) in ["a", "b", "c"].into_iter().zip(Scope::ALL) {
            for scope in Scope::ALL {
                let admitted = tokens.admit(&headers(&format!("Bearer {token}")), scope);
                let caller = named(held.name());
                let expected =
                    if scope == held { Ok(caller) } else { Err(Refused::Forbidden(caller)) };
                assert_eq!(admitted, expected);
            }
        }
    }

    #[test]
    fn a_pass_is_valid_as_long_as_its_token_has_the_scope() {
        let of = |list| Tokens::new(tokens(list));
        let current = of("a:read:alpha,b:read:beta");
        let pass = Pass::of(&current, &headers("Bearer alpha"), Scope::Read);
        assert!(pass.is_valid());
        for (list, is_valid) in [
            ("renamed:read+write:alpha", true),
            ("a:write:alpha,b:read:beta", false),
            ("b:read:beta", false),
        ] {
            current.replace(tokens(list));
            assert_eq!(pass.is_valid(), is_valid, "{list}");
        }
        assert!(Pass::of(&Tokens::new(Vec::new()), &HeaderMap::new(), Scope::Read).is_valid());
    }

    #[tokio::test]
    async fn the_callers_name_is_where_a_log_line_can_find_it() {
        let guard = Guard { tokens: Tokens::new(tokens("shop:read:alpha")), scope: Scope::Read };
        let say = async |request: Request| {
            assert_eq!(request.extensions().get(), Some(&named("shop")));
            if request.uri() == "/fails" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
        };
        let forbidding = Guard { scope: Scope::Write, ..guard.clone() };
        let guarded = |guard| middleware::from_fn_with_state(guard, require_token);
        let routes = Router::new().route("/fails", get(say)).route("/works", get(say));
        let routes = routes.route_layer(guarded(guard));
        let closed = Router::new().route("/closed", get(say)).route_layer(guarded(forbidding));
        let routes = routes.merge(closed);
        for (path, status, caller) in [
            ("/fails", StatusCode::SERVICE_UNAVAILABLE, Some(named("shop"))),
            ("/closed", StatusCode::FORBIDDEN, Some(named("shop"))),
            ("/works", StatusCode::OK, None),
        ] {
            let request = Request::get(path).header(header::AUTHORIZATION, "Bearer alpha");
            let request = request.body(Body::empty()).unwrap();
            let response = routes.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(response.extensions().get::<Caller>().cloned(), caller, "{path}");
        }
    }
}
