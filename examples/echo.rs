//! The ceiling for the benchmarks: the service's own server and body parsing, and a constant answer.
//!
//! Listens on `127.0.0.1:$PORT` until it is killed.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::patch;
use plimsoll::config::{Config, HttpLimits};
use plimsoll::http::body::{amount, members, read_json, whole_number};
use plimsoll::http::error::HttpError;
use plimsoll::http::leaving::Leaving;
use plimsoll::http::listener::Bound;
use plimsoll::http::response::json;
use plimsoll::http::server::Workers;

const BODY_LIMIT: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let config = Config::from_environment().map_err(io::Error::other)?;
    let limits: HttpLimits = config.http;
    rlimit::increase_nofile_limit(u64::MAX)?;
    let listener = Bound::to(config.listen)?.listen()?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    let workers = Workers::start("http", config.workers, limits, Leaving::default(), |_| async {
        let router = Router::new().route("/approach/echo/balance", patch(echo));
        Ok::<_, io::Error>((router, std::future::ready(())))
    });
    workers.await?.serve(listener, limits, std::future::pending()).await;
    Ok(())
}

/// As strict as the real route.
async fn echo(request: Request) -> Result<impl IntoResponse, HttpError> {
    let body = read_json(request, BODY_LIMIT).await?;
    let [Some(user), Some(by)] = members(&body, ["userId", "amount"])? else {
        return Err(HttpError::bad_request("userId and amount are required"));
    };
    whole_number("userId", user, 1)?;
    amount(by)?;
    Ok(json(StatusCode::OK, r#"{"balance":9998}"#))
}
