//! The console, in a real browser: what a person does there is done here with mouse and keyboard.

mod acting;
mod hidden;
mod holds;
mod looks;
mod paging;
mod picture;
mod refreshing;
mod service_charts;
mod switching;
mod token_faults;
mod tokens;
mod unresolved;
mod watching;

use reqwest::Method;
use serde_json::json;

use crate::browser::{Look, Tab};
use crate::service::{TestService, read};

/// The console with this user looked up by typing and clicking.
async fn looked_up(service: &TestService, user: i64) -> Tab {
    let tab = Tab::open(&format!("{}/console", service.url), Look::USUAL).await;
    look_up(&tab, user).await;
    tab
}

async fn look_up(tab: &Tab, user: i64) {
    ask_for(tab, user).await;
    tab.until_text("#user-title", &format!("User {user}")).await;
    tab.until_text("#live", "live").await;
}

/// Asks for a user, and does not wait for the answer.
async fn ask_for(tab: &Tab, user: i64) {
    tab.type_into("#user", &user.to_string()).await;
    tab.click("#lookup button").await;
}

/// Somebody else holds an amount of a user's balance.
async fn hold(service: &TestService, user: i64, amount: i64) {
    let body = json!({ "amount": amount });
    let response = service.send(Method::POST, &format!("/users/{user}/holds"), Some(body)).await;
    let (status, text) = read(response).await;
    assert_eq!(status, 201, "{text}");
}

/// How many holds are listed.
async fn until_holds(tab: &Tab, count: usize) {
    let is = format!("document.querySelectorAll('#holds tr').length === {count}");
    tab.until(&format!("{count} holds are listed"), &is).await;
}
