//! The pages of the history, whose answers come late, not at all, or in another order.

use serde_json::json;

use crate::browser::{Stage, Tab};
use crate::console::looked_up;
use crate::service::TestService;

const LIVE: &str = "The newest entries, live.";
const FIRST: &str = "#history tr:first-child td:first-child";

/// A user of this many entries, looked up.
async fn user_with_entries(service: &TestService, count: i64) -> (i64, Tab) {
    let user = service.user_with(1_000).await;
    for _ in 1..count {
        assert_eq!(service.change("batched", user, -1).await.0, 200);
    }
    (user, looked_up(service, user).await)
}

/// That the page has the 25 entries up to this one.
async fn assert_page(tab: &Tab, newest: i64) {
    let shown = "[...document.querySelectorAll('#history td:first-child')].map((cell) => Number(cell.innerText))";
    let expected: Vec<i64> = (newest - 24..=newest).rev().collect();
    assert_eq!(tab.value(shown).await, json!(expected));
}

#[tokio::test]
async fn a_page_that_fails_leaves_the_one_before_live() {
    let service = TestService::start().await;
    let (user, tab) = user_with_entries(&service, 60).await;
    tab.stop_requests(&["*/changes?*before=*"], Stage::Sent).await;
    tab.click("#older").await;
    tab.answer(tab.stopped("before=").await, 503).await;
    tab.until_text("#notice", "The service answered 503").await;
    assert_eq!(tab.text("#page-note").await, LIVE);
    assert_eq!(service.change("batched", user, -1).await.0, 200);
    tab.until_text(FIRST, "61").await;
    assert_page(&tab, 61).await;
    tab.let_requests_go().await;
    tab.click("#older").await;
    tab.until_text(FIRST, "36").await;
    assert_eq!(tab.text("#page-note").await, "Before version 37.");
    assert!(!tab.shows("#notice").await);
    tab.close(&[503]).await;
    service.stop().await;
}

#[tokio::test]
async fn the_page_that_was_clicked_last_is_shown_with_the_events_since_it_was_read() {
    let service = TestService::start().await;
    let (user, tab) = user_with_entries(&service, 60).await;
    tab.click("#older").await;
    tab.until_text(FIRST, "35").await;
    tab.stop_requests(&["*/changes?*"], Stage::Answered).await;
    tab.click("#older").await;
    let older = tab.stopped("before=").await;
    tab.click("#newest").await;
    let newest = tab.stopped("/changes").await;
    assert!(!newest.url.contains("before="));
    // The page was read without these two.
    for _ in 0..2 {
        assert_eq!(service.change("batched", user, -1).await.0, 200);
    }
    tab.until_text("#balance", "939").await;
    tab.let_go(newest).await;
    tab.until_text("#page-note", LIVE).await;
    tab.until_text(FIRST, "62").await;
    assert_page(&tab, 62).await;
    tab.let_go(older).await;
    assert_eq!(service.change("batched", user, -1).await.0, 200);
    tab.until_text(FIRST, "63").await;
    assert_page(&tab, 63).await;
    assert_eq!(tab.text("#page-note").await, LIVE);
    tab.close(&[]).await;
    service.stop().await;
}
