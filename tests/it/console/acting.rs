//! Changes, transfers and holds, each by its form or its button.

use crate::browser::{Look, Tab};
use crate::console::looked_up;
use crate::service::TestService;

/// 2^53 + 1, the smallest whole number that JavaScript's own numbers do not have.
const BEYOND: i64 = 9_007_199_254_740_993;

/// Waits for the answer to a click. Returns its status and its body.
async fn answer(tab: &Tab) -> (String, String) {
    tab.until("an answer", "/^[0-9]/.test(document.querySelector('#status').innerText)").await;
    (tab.text("#status").await, tab.text("#body").await)
}

/// Clicks, and confirms it by another click.
async fn twice(tab: &Tab, selector: &str) {
    tab.click(selector).await;
    tab.click(selector).await;
}

#[tokio::test]
async fn a_change_is_made_once_and_its_answer_is_shown_as_it_came() {
    let service = TestService::start().await;
    let user = service.user_with(100).await;
    let tab = looked_up(&service, user).await;
    tab.type_into("#change [name=amount]", "-30").await;
    tab.type_into("#change [name=reference]", "\"quoted\" \\ é").await;
    tab.click("#change button").await;
    assert_eq!(answer(&tab).await, ("200".into(), r#"{"balance":70}"#.into()));
    let key = tab.text("#key").await;
    assert_eq!(tab.text("#asked").await, format!("PATCH /users/{user}/balance"));
    assert_eq!(tab.text("#sent").await, r#"{"amount":-30,"reference":"\"quoted\" \\ é"}"#);
    tab.click("#retry").await;
    tab.until_text("#status", "200, replayed: the answer of the first time").await;
    assert_eq!(tab.text("#body").await, r#"{"balance":70}"#);
    assert_eq!(tab.text("#key").await, key);
    tab.until_text("#balance", "70").await;
    let details = tab.text("#history tr:first-child .details").await;
    assert_eq!(details, format!("“\"quoted\" \\ é” · key {key}"));

    // Another click is another change, with another key.
    tab.type_into("#change [name=amount]", "-71").await;
    tab.click("#change button").await;
    let refused = ("400".into(), r#"{"error":"Insufficient funds"}"#.into());
    tab.until("refused", "document.querySelector('#status').innerText === '400'").await;
    assert_eq!(answer(&tab).await, refused);
    assert_ne!(tab.text("#key").await, key);

    // What is no amount is not sent.
    tab.type_into("#change [name=amount]", "1.5").await;
    tab.click("#change button").await;
    tab.until("the field says so", "document.querySelector('#change :invalid') !== null").await;
    let message =
        tab.value("document.querySelector('#change input:invalid').validationMessage").await;
    assert_eq!(message, "Amount must be a whole number, without separators");
    assert_eq!(tab.text("#sent").await, r#"{"amount":-71,"reference":"\"quoted\" \\ é"}"#);
    assert_eq!(service.balance_of(user).await, 70);
    tab.close(&[400]).await;
    service.stop().await;
}

#[tokio::test]
async fn money_is_transferred_held_captured_and_released() {
    let service = TestService::start().await;
    let (payer, payee) = (service.user_with(1_000).await, service.user_with(0).await);
    // A colleague's address may have zeros in front, which JSON does not have.
    let address = format!("{}/console#user=00{payer}", service.url);
    let tab = Tab::open(&address, Look::USUAL).await;
    tab.until_text("#user-title", &format!("User {payer}")).await;
    tab.type_into("#transfer [name=to]", &payee.to_string()).await;
    tab.type_into("#transfer [name=amount]", "100").await;
    tab.click("#transfer button").await;
    let (status, body) = answer(&tab).await;
    assert_eq!(status, "201");
    let from = format!(r#"{{"from":{{"id":{payer},"balance":900,"version":2}},"#);
    assert!(body.starts_with(&from), "{body}");
    assert!(tab.shows("#no-holds").await);

    for (amount, held) in [("30", "30"), ("50", "80")] {
        tab.type_into("#hold [name=amount]", amount).await;
        tab.type_into("#hold [name=expiresInSeconds]", "3600").await;
        tab.click("#hold button").await;
        tab.until_text("#held", held).await;
    }
    tab.until("both holds are listed", "document.querySelectorAll('#holds tr').length === 2").await;
    // The newest comes first: the one of 50.
    twice(&tab, "#holds tr:first-child .acts button:nth-child(1)").await;
    tab.until_text("#held", "30").await;
    tab.until("one is left", "document.querySelectorAll('#holds tr').length === 1").await;
    tab.until_text("#body", r#"{"captured":50,"balance":820,"held":30}"#).await;
    twice(&tab, "#holds tr:first-child .acts button:nth-child(2)").await;
    tab.until_text("#held", "0").await;
    tab.until_text("#body", r#"{"balance":850,"held":0}"#).await;
    tab.until_text("#balance", "850").await;
    tab.until_text("#no-holds", "None.").await;
    assert_eq!(service.balance_of(payee).await, 100);
    tab.close(&[]).await;
    service.stop().await;
}

#[tokio::test]
async fn amounts_beyond_2_to_the_53_are_shown_and_sent_exactly() {
    let service = TestService::start().await;
    let user = service.user_with(BEYOND).await;
    let tab = looked_up(&service, user).await;
    assert_eq!(tab.text("#balance").await, "9,007,199,254,740,993");
    tab.type_into("#change [name=amount]", &format!("-{BEYOND}")).await;
    tab.click("#change button").await;
    assert_eq!(answer(&tab).await, ("200".into(), r#"{"balance":0}"#.into()));
    tab.until_text("#balance", "0").await;
    tab.type_into("#change [name=amount]", &i64::MAX.to_string()).await;
    tab.click("#change button").await;
    tab.until_text("#body", r#"{"balance":9223372036854775807}"#).await;
    tab.until_text("#balance", "9,223,372,036,854,775,807").await;
    let amounts =
        "[...document.querySelectorAll('#history td:nth-child(4)')].map((cell) => cell.innerText)";
    let amounts = tab.value(amounts).await;
    let shown = ["+9,223,372,036,854,775,807", "-9,007,199,254,740,993", "+9,007,199,254,740,993"];
    assert_eq!(amounts, serde_json::json!(shown));
    assert_eq!(service.balance_of(user).await, i64::MAX);
    tab.close(&[]).await;
    service.stop().await;
}
