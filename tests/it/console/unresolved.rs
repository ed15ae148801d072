//! Operations whose outcome is not known: the page keeps their keys until they are resolved or dismissed.

use crate::browser::{Look, Stage, Tab};
use crate::console::{ask_for, look_up, looked_up};
use crate::service::TestService;

const CHANGE: &str = "*/users/*/balance";
const LOST: &str = "no answer: it may have been applied. Retry to learn it.";
const UNKNOWN: &str = ": unknown whether it was applied, retry to learn it";
const STILL_UNKNOWN: &str = ": this attempt was not applied. Whether an earlier one was is still \
                             unknown, retry to learn it";
const REPLAYED: &str = "200, replayed: the answer of the first time";
const NOT_SENT: &str = "Not sent: resolve the last operation first. Retry it, or dismiss it if its \
                        key is in the history.";

async fn change(tab: &Tab, amount: &str) {
    tab.type_into("#change [name=amount]", amount).await;
    tab.click("#change button").await;
}

#[tokio::test]
async fn a_change_of_unknown_outcome_is_resolved_with_its_key_whatever_is_answered_meanwhile() {
    let service = TestService::start().await;
    let user = service.user_with(100).await;
    let tab = looked_up(&service, user).await;
    // Without an answer, and with the one of a proxy that has not waited for it.
    for (balance, lost) in [(90, None), (80, Some(504)), (70, Some(502)), (60, Some(500))] {
        tab.stop_requests(&[CHANGE], Stage::Answered).await;
        change(&tab, "-10").await;
        let answered = tab.stopped("/balance").await;
        match lost {
            None => {
                tab.lose(answered).await;
                tab.until_text("#status", LOST).await;
            }
            Some(status) => {
                tab.answer(answered, status).await;
                tab.until_text("#status", &format!("{status}{UNKNOWN}")).await;
            }
        }
        let key = tab.text("#key").await;
        // None of these says anything about the first attempt.
        for status in [503, 409, 429] {
            tab.stop_requests(&[CHANGE], Stage::Sent).await;
            tab.click("#retry").await;
            tab.answer(tab.stopped("/balance").await, status).await;
            tab.until_text("#status", &format!("{status}{STILL_UNKNOWN}")).await;
        }
        tab.let_requests_go().await;
        change(&tab, "-10").await;
        tab.until_text("#answer-note", NOT_SENT).await;
        tab.click("#retry").await;
        tab.until_text("#status", REPLAYED).await;
        assert_eq!(tab.text("#key").await, key);
        assert_eq!(tab.text("#body").await, format!(r#"{{"balance":{balance}}}"#));
        assert_eq!(tab.text("#answer-note").await, "");
    }
    assert_eq!(service.balance_of(user).await, 60);
    // A retry that fails does not make unknown what is known.
    tab.stop_requests(&[CHANGE], Stage::Sent).await;
    tab.click("#retry").await;
    tab.lose(tab.stopped("/balance").await).await;
    tab.until_text("#status", "no answer, but it was applied before").await;
    tab.let_requests_go().await;
    change(&tab, "-1").await;
    tab.until_text("#body", r#"{"balance":59}"#).await;
    tab.close(&[Tab::LOST, 409, 429, 500, 502, 503, 504]).await;
    service.stop().await;
}

#[tokio::test]
async fn an_unresolved_operation_stays_on_the_page_until_it_is_dismissed() {
    let service = TestService::start().await;
    let (user, other) = (service.user_with(100).await, service.user_with(100).await);
    let tab = looked_up(&service, user).await;
    tab.stop_requests(&[CHANGE], Stage::Answered).await;
    change(&tab, "-10").await;
    let hanging = tab.stopped("/balance").await;
    let key = tab.text("#key").await;
    // Whoever wants to see whether it was applied looks the user up, or others.
    for looked_up in [user, other] {
        look_up(&tab, looked_up).await;
        change(&tab, "-20").await;
        tab.until_text("#answer-note", NOT_SENT).await;
        assert_eq!(tab.text("#asked").await, format!("PATCH /users/{user}/balance"));
        assert_eq!(tab.text("#key").await, key);
    }
    ask_for(&tab, 999_999).await;
    tab.until_text("#notice", "User not found").await;
    assert!(tab.shows("#answer").await && !tab.shows("#user-part").await);
    tab.lose(hanging).await;
    tab.until_text("#status", LOST).await;
    look_up(&tab, other).await;
    change(&tab, "-20").await;
    tab.until_text("#answer-note", NOT_SENT).await;
    let leaves = "dispatchEvent(new Event('beforeunload', { cancelable: true }))";
    assert_eq!(tab.value(leaves).await, false, "the key would be lost");

    tab.let_requests_go().await;
    tab.click("#dismiss").await;
    assert!(!tab.shows("#answer").await);
    assert_eq!(tab.value(leaves).await, true);
    change(&tab, "-20").await;
    tab.until_text("#body", r#"{"balance":80}"#).await;
    // What is resolved goes with the user.
    look_up(&tab, user).await;
    assert!(!tab.shows("#answer").await);
    assert_eq!((service.balance_of(user).await, service.balance_of(other).await), (90, 80));
    tab.close(&[Tab::LOST, 404]).await;
    service.stop().await;
}

#[tokio::test]
async fn an_unresolved_operation_outlives_the_token() {
    let token = "for-everything-1";
    let tokens = format!("on-call:read+write:{token}");
    let service = TestService::start_with(&[("AUTH_TOKENS", &tokens)]).await;
    let give = async |tab: &Tab| {
        tab.until("it is asked for", "document.querySelector('#token-dialog').open").await;
        tab.type_into("#token", token).await;
        tab.press("Enter").await;
        tab.until_text("#caller", "on-call: read, write").await;
    };
    let tab = Tab::open(&format!("{}/console", service.url), Look::USUAL).await;
    give(&tab).await;
    look_up(&tab, 1).await;
    tab.stop_requests(&[CHANGE], Stage::Answered).await;
    change(&tab, "-10").await;
    tab.answer(tab.stopped("/balance").await, 504).await;
    tab.until_text("#status", &format!("504{UNKNOWN}")).await;
    // A refusal of one instance, and then the token is taken away.
    tab.stop_requests(&[CHANGE], Stage::Sent).await;
    tab.click("#retry").await;
    tab.answer(tab.stopped("/balance").await, 401).await;
    tab.until_text("#status", &format!("401{STILL_UNKNOWN}")).await;
    tab.let_requests_go().await;
    tab.click("#change-token").await;
    tab.click("#forget-token").await;
    tab.until("nobody is shown", "document.querySelector('#user-part').hidden").await;
    give(&tab).await;
    tab.until_text("#live", "live").await;
    tab.click("#retry").await;
    tab.until_text("#status", REPLAYED).await;
    assert_eq!(tab.text("#body").await, r#"{"balance":9990}"#);
    tab.close(&[401, 504]).await;
    service.stop().await;
}

#[tokio::test]
async fn what_was_not_applied_is_said_so_and_keeps_nobody_from_the_next() {
    let service = TestService::start().await;
    let user = service.user_with(100).await;
    let tab = looked_up(&service, user).await;
    tab.stop_requests(&[CHANGE], Stage::Sent).await;
    change(&tab, "-10").await;
    tab.answer(tab.stopped("/balance").await, 503).await;
    tab.until_text("#status", "503: not applied, retry").await;
    let key = tab.text("#key").await;
    // The answer to a request that has been dismissed is not that of the next one.
    change(&tab, "-20").await;
    let dismissed = tab.stopped("/balance").await;
    assert_ne!(tab.text("#key").await, key);
    tab.click("#dismiss").await;
    change(&tab, "-30").await;
    let next = tab.stopped("/balance").await;
    tab.answer(dismissed, 500).await;
    tab.until(
        "it is reported",
        "performance.getEntriesByType('resource').some((it) => it.responseStatus === 500)",
    )
    .await;
    assert_eq!(tab.text("#status").await, "sent, waiting for the answer");
    assert_eq!(tab.value("document.querySelector('#retry').ariaDisabled").await, "true");
    tab.let_go(next).await;
    tab.until_text("#body", r#"{"balance":70}"#).await;
    tab.close(&[500, 503]).await;
    service.stop().await;
}
