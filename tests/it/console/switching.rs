//! From one user to the next: what belongs to one must never be seen, or acted on, under the name of another.

use crate::browser::{Stage, Tab};
use crate::console::{ask_for, hold, look_up, looked_up};
use crate::service::TestService;

async fn rows(tab: &Tab) -> serde_json::Value {
    tab.value("document.querySelectorAll('#holds tr, #history tr, #balance-chart svg').length")
        .await
}

#[tokio::test]
async fn nothing_of_a_user_is_seen_under_the_name_of_the_next() {
    let service = TestService::start().await;
    let (first, second) = (service.user_with(100).await, service.user_with(200).await);
    hold(&service, first, 30).await;
    let tab = looked_up(&service, first).await;
    assert!(tab.shows("#holds .acts button").await);

    // The last of what is needed for the second user hangs, and then fails.
    tab.stop_requests(&[&format!("*/users/{second}/holds*")], Stage::Sent).await;
    ask_for(&tab, second).await;
    let hanging = tab.stopped("/holds").await;
    assert!(!tab.shows("#user-part").await);
    assert_eq!((rows(&tab).await, tab.text("#live").await), (0.into(), String::new()));
    tab.answer(hanging, 503).await;
    tab.until_text("#notice", "The service answered 503").await;
    assert!(!tab.shows("#user-part").await);
    assert_eq!((rows(&tab).await, tab.text("#live").await), (0.into(), String::new()));

    // Whoever asks for the first one again, while the second hangs, keeps that one.
    ask_for(&tab, second).await;
    let hanging = tab.stopped("/holds").await;
    look_up(&tab, first).await;
    tab.let_go(hanging).await;
    assert_eq!(service.change("self", first, -1).await.0, 200);
    tab.until_text("#balance", "69").await;
    assert_eq!(tab.text("#user-title").await, format!("User {first}"));
    assert!(tab.shows("#holds .acts button").await);

    tab.let_requests_go().await;
    look_up(&tab, second).await;
    assert!(!tab.shows("#notice").await && !tab.shows("#holds-region").await);
    assert_eq!(tab.text("#balance").await, "200");
    tab.close(&[503]).await;
    service.stop().await;
}
