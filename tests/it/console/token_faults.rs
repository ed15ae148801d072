//! Tokens that are replaced, and a service that does not answer, while a token is checked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::browser::{Look, Stage, Tab};
use crate::cluster::fresh_folder;
use crate::console::{ask_for, look_up};
use crate::service::TestService;

const FIRST: &str = "viewer:read:only-for-reading-1\n";
const SECOND: &str = "other:read:only-for-reading-2\n";

/// A service with tokens, and the file that they are in.
async fn with_tokens() -> (TestService, PathBuf) {
    let file = fresh_folder("tokens").join("tokens");
    fs::write(&file, FIRST).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    // Heartbeats come in a third of it, and a stream whose token is taken back ends with the next one.
    let variables = [("AUTH_TOKENS_FILE", file.to_str().unwrap()), ("IDLE_TIMEOUT_SECS", "3")];
    (TestService::start_with(&variables).await, file)
}

async fn opened(service: &TestService) -> Tab {
    let tab = Tab::open(&format!("{}/console", service.url), Look::USUAL).await;
    tab.until("a token is asked for", "document.querySelector('#token-dialog').open").await;
    give(&tab, "only-for-reading-1").await;
    tab.until_text("#caller", "viewer: read").await;
    tab
}

async fn give(tab: &Tab, token: &str) {
    tab.type_into("#token", token).await;
    tab.press("Enter").await;
}

#[tokio::test]
async fn a_token_that_is_taken_back_is_asked_for_where_there_is_only_a_stream() {
    let (service, file) = with_tokens().await;
    let tab = opened(&service).await;
    look_up(&tab, 1).await;
    fs::write(&file, SECOND).unwrap();
    service.service.reload().await;
    tab.until("it is asked for", "document.querySelector('#token-dialog').open").await;
    assert_eq!(tab.text("#token-why").await, "The token is not valid any more.");
    assert_eq!(tab.value("sessionStorage.length").await, 0);
    tab.until("nobody is shown", "document.querySelector('#user-part').hidden").await;
    // No header can carry this one: kept, it would make each request of the tab fail.
    give(&tab, "tok\u{20ac}n").await;
    tab.until_text("#token-why", "No token has such characters.").await;
    assert_eq!(tab.value("sessionStorage.length").await, 0);
    give(&tab, "only-for-reading-2").await;
    tab.until_text("#caller", "other: read").await;
    tab.until_text("#live", "live").await;
    tab.close(&[401]).await;
    service.stop().await;
}

#[tokio::test]
async fn an_answer_to_the_token_before_does_not_forget_the_present_one() {
    let (service, file) = with_tokens().await;
    let tab = opened(&service).await;
    fs::write(&file, SECOND).unwrap();
    service.service.reload().await;
    tab.stop_requests(&["*/console/access"], Stage::Answered).await;
    ask_for(&tab, 1).await;
    let before = tab.stopped("/console/access").await;
    tab.click("#change-token").await;
    give(&tab, "only-for-reading-2").await;
    tab.let_go(tab.stopped("/console/access").await).await;
    tab.until_text("#caller", "other: read").await;
    tab.let_go(before).await;
    tab.let_requests_go().await;
    look_up(&tab, 1).await;
    assert_eq!(tab.text("#caller").await, "other: read");
    assert_eq!(tab.value("document.querySelector('#token-dialog').open").await, false);
    assert_eq!(tab.value("sessionStorage.length").await, 1);
    tab.close(&[401]).await;
    service.stop().await;
}

#[tokio::test]
async fn an_instance_that_does_not_know_the_token_yet_is_not_asked_without_a_pause() {
    let (service, _) = with_tokens().await;
    let tab = opened(&service).await;
    tab.stop_requests(&["*/users/1/changes*"], Stage::Sent).await;
    ask_for(&tab, 1).await;
    tab.answer(tab.stopped("/changes").await, 401).await;
    // Once at the start, once for the token, and once for the refusal.
    let asked = "performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/console/access')).length === 3";
    tab.until("it is asked what the token opens", asked).await;
    tab.until_text("#notice", "The service answered 401").await;
    assert!(!tab.shows("#token-dialog").await && !tab.shows("#user-part").await);
    tab.let_requests_go().await;
    look_up(&tab, 1).await;
    tab.close(&[401]).await;
    service.stop().await;
}

#[tokio::test]
async fn a_service_that_does_not_answer_at_first_is_asked_again() {
    let (service, _) = with_tokens().await;
    let tab = Tab::empty(Look::USUAL).await;
    tab.stop_requests(&["*/console/access"], Stage::Sent).await;
    tab.go_to(&format!("{}/console", service.url)).await;
    tab.lose(tab.stopped("/console/access").await).await;
    tab.until("it is said", "!document.querySelector('#notice').hidden").await;
    tab.let_requests_go().await;
    tab.until("a token is asked for", "document.querySelector('#token-dialog').open").await;
    assert!(!tab.shows("#notice").await);
    // The token stays in the field while it cannot be checked.
    tab.stop_requests(&["*/console/access"], Stage::Sent).await;
    give(&tab, "only-for-reading-1").await;
    tab.lose(tab.stopped("/console/access").await).await;
    tab.until_text("#token-why", "The service could not be asked: Failed to fetch").await;
    tab.let_requests_go().await;
    tab.press("Enter").await;
    tab.until_text("#caller", "viewer: read").await;
    tab.close(&[Tab::LOST]).await;
    service.stop().await;
}
