//! The answers to those who want to watch a user. A stream has no end, so only its head is read.

use sqlx::Executor;

use super::recorder::AnswerRecorder;
use crate::service::TestService;

const PATH: &str = "/users/{id}/events";

/// Asks for a stream. Returns the status, and the response if a stream begins.
async fn watch(
    recorder: &mut AnswerRecorder,
    service: &TestService,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, Option<reqwest::Response>) {
    let request = service.client.get(format!("{}{path}", service.url));
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = request.send().await.expect("the service answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let (body, stream) = match status {
        200 => (Vec::new(), Some(response)),
        _ => (response.bytes().await.unwrap().to_vec(), None),
    };
    recorder.check("get", PATH, status, headers, body);
    (status, stream)
}

/// Every documented answer, except to wrong methods and to long heads.
pub(super) async fn answers(recorder: &mut AnswerRecorder) {
    let tokens = "everything,r:read:may-read,w:write:may-write";
    let variables = [("MAX_CONNECTIONS", "2"), ("AUTH_TOKENS", tokens)];
    let service = TestService::start_with(&variables).await;
    let admitted = ("authorization", "Bearer may-read");
    for (path, headers, status) in [
        ("/users/1/events", [].as_slice(), 401),
        ("/users/1/events", &[("authorization", "Bearer may-write")], 403),
        ("/users/none/events", &[admitted], 400),
        ("/users/1/events", &[admitted, ("last-event-id", "2")], 400),
        ("/users/999999/events", &[admitted], 404),
    ] {
        assert_eq!(watch(recorder, &service, path, headers).await.0, status, "{path}");
    }
    service.pool.execute("ALTER TABLE users RENAME TO x_users").await.unwrap();
    assert_eq!(watch(recorder, &service, "/users/1/events", &[admitted]).await.0, 500);
    service.pool.execute("ALTER TABLE x_users RENAME TO users").await.unwrap();
    let (status, stream) = watch(recorder, &service, "/users/1/events", &[admitted]).await;
    assert_eq!(status, 200);
    // One of two connections may be a stream.
    assert_eq!(watch(recorder, &service, "/users/1/events", &[admitted]).await.0, 503);
    drop(stream);
    service.stop().await;
}
