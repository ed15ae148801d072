//! The console, in a real browser: what a person does there is done here with mouse and keyboard.

mod acting;
mod looks;
mod picture;
mod service_charts;
mod tokens;
mod watching;

use crate::browser::{Look, Tab};
use crate::service::TestService;

/// The console with this user looked up by typing and clicking.
async fn looked_up(service: &TestService, user: i64) -> Tab {
    let tab = Tab::open(&format!("{}/console", service.url), Look::USUAL).await;
    look_up(&tab, user).await;
    tab
}

async fn look_up(tab: &Tab, user: i64) {
    tab.type_into("#user", &user.to_string()).await;
    tab.click("#lookup button").await;
    tab.until_text("#user-title", &format!("User {user}")).await;
    tab.until_text("#live", "live").await;
}
