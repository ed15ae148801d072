//! A user is looked up, and kept up to date while others change it.

use crate::console::{look_up, looked_up};
use crate::service::TestService;

#[tokio::test]
async fn a_user_is_looked_up_with_all_pages_of_the_history() {
    let service = TestService::start().await;
    let user = service.user_with(1_000).await;
    for _ in 0..60 {
        assert_eq!(service.change("batched", user, -1).await.0, 200);
    }
    let tab = looked_up(&service, user).await;
    for (selector, text) in [("#balance", "940"), ("#held", "0"), ("#version", "61")] {
        assert_eq!(tab.text(selector).await, text, "{selector}");
    }
    tab.until("the chart is drawn", "document.querySelector('#balance-chart polyline') !== null")
        .await;
    let first_version = "#history tr:first-child td:first-child";
    let last_version = "#history tr:last-child td:first-child";
    for (first, last) in [("61", "37"), ("36", "12"), ("11", "1")] {
        tab.until_text(first_version, first).await;
        assert_eq!(tab.text(last_version).await, last);
        if last != "1" {
            tab.click("#older").await;
        }
    }
    assert_eq!(tab.value("document.querySelector('#older').disabled").await, true);
    // An old page stays while the balance goes on.
    assert_eq!(service.change("batched", user, -1).await.0, 200);
    tab.until_text("#balance", "939").await;
    assert_eq!(tab.text(first_version).await, "11");
    tab.click("#newest").await;
    tab.until_text(first_version, "62").await;

    tab.type_into("#user", "999999").await;
    tab.click("#lookup button").await;
    tab.until_text("#notice", "User not found").await;
    assert!(!tab.shows("#user-part").await);
    look_up(&tab, user).await;
    assert!(!tab.shows("#notice").await);
    tab.close(&[404]).await;
    service.stop().await;
}

#[tokio::test]
async fn changes_of_others_are_seen_at_once_and_after_a_restart() {
    let service = TestService::start().await;
    let user = service.user_with(1_000).await;
    let tab = looked_up(&service, user).await;
    assert_eq!(service.change("self", user, -7).await.0, 200);
    tab.until_text("#balance", "993").await;
    tab.until_text("#history tr:first-child td:nth-child(4)", "-7").await;
    assert_eq!(tab.value("document.querySelectorAll('#history tr').length").await, 2);

    let database = service.database.clone();
    let port = service.service.address().port().to_string();
    service.stop().await;
    tab.until_text("#live", "reconnecting").await;
    // While nobody listens, another instance makes two changes.
    let elsewhere = TestService::start_on(database.clone(), &[]).await;
    for _ in 0..2 {
        assert_eq!(elsewhere.change("self", user, -1).await.0, 200);
    }
    elsewhere.stop().await;
    let again = TestService::start_on(database, &[("PORT", &port)]).await;
    tab.until_text("#live", "live").await;
    tab.until_text("#balance", "991").await;
    let versions =
        "[...document.querySelectorAll('#history td:first-child')].map((cell) => cell.innerText)";
    assert_eq!(tab.value(versions).await, serde_json::json!(["4", "3", "2", "1"]));
    // A browser reports each attempt to connect in vain.
    let others: Vec<_> =
        tab.messages().into_iter().filter(|message| !message.contains("net::ERR_")).collect();
    assert!(others.is_empty(), "{others:#?}");
    again.stop().await;
}
