//! A tab that nobody sees.

use reqwest::Method;

use crate::console::{hold, looked_up, until_holds};
use crate::faults::until;
use crate::service::{TestService, read};

async fn streams(service: &TestService) -> String {
    let text = read(service.send(Method::GET, "/metrics", None).await).await.1;
    let line = text.lines().find(|line| line.starts_with("plimsoll_event_streams")).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_hidden_tab_has_no_stream_and_catches_up_when_it_is_seen() {
    // A stream that the client has left is noticed with the next heartbeat, which comes in a third of this.
    let service = TestService::start_with(&[("IDLE_TIMEOUT_SECS", "3")]).await;
    let user = service.user_with(1_000).await;
    let tab = looked_up(&service, user).await;
    until("it has a stream", async || streams(&service).await == "1").await;
    tab.hide(true).await;
    until("it has none", async || streams(&service).await == "0").await;
    for _ in 0..2 {
        assert_eq!(service.change("self", user, -1).await.0, 200);
    }
    hold(&service, user, 10).await;
    tab.hide(false).await;
    tab.until_text("#live", "live").await;
    tab.until_text("#balance", "988").await;
    until_holds(&tab, 1).await;
    let versions =
        "[...document.querySelectorAll('#history td:first-child')].map((cell) => cell.innerText)";
    assert_eq!(tab.value(versions).await, serde_json::json!(["4", "3", "2", "1"]));
    tab.close(&[]).await;
    service.stop().await;
}
