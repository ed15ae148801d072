//! The buttons of holds: they act on what the person means, while the list moves.

use crate::browser::Tab;
use crate::console::{hold, looked_up, until_holds};
use crate::service::TestService;

async fn row_of(tab: &Tab, amount: &str) -> String {
    let number = format!(
        "[...document.querySelectorAll('#holds tr')].find((row) => row.cells[1].innerText === '{amount}').cells[0].innerText"
    );
    let number = tab.value(&number).await;
    format!("#holds tr[data-hold='{}'] .acts", number.as_str().unwrap())
}

#[tokio::test]
async fn a_hold_is_captured_by_two_clicks_on_its_own_row() {
    let service = TestService::start().await;
    let user = service.user_with(1_000).await;
    hold(&service, user, 50).await;
    let tab = looked_up(&service, user).await;
    let row = row_of(&tab, "50").await;
    let (capture, release) =
        (format!("{row} button:nth-child(1)"), format!("{row} button:nth-child(2)"));
    tab.click(&capture).await;
    assert_eq!(tab.text(&capture).await, "Capture 50?");
    let name = format!("document.querySelector(\"{capture}\").ariaLabel");
    let number = row.split('\'').nth(1).unwrap();
    assert_eq!(tab.value(&name).await, format!("Capture 50? hold {number}"));
    assert!(!tab.shows("#answer").await, "nothing is sent");

    // A hold that comes pushes the row down: neither the focus nor the question goes to another one.
    hold(&service, user, 70).await;
    until_holds(&tab, 2).await;
    let focused = format!("document.activeElement === document.querySelector(\"{capture}\")");
    assert_eq!(tab.value(&focused).await, true);
    let first = "#holds tr:first-child .acts button";
    tab.value("document.activeElement.blur()").await;
    tab.click(&capture).await;
    tab.click(first).await;
    assert_eq!(tab.text(first).await, "Capture 70?");
    assert_eq!(tab.text(&capture).await, "Capture", "it is asked once at a time");
    assert!(!tab.shows("#answer").await, "nothing is sent");

    // A question without an answer is withdrawn.
    tab.until_text(first, "Capture").await;
    tab.click(&release).await;
    tab.click(&capture).await;
    assert_eq!(tab.text(&release).await, "Release");
    tab.click(&capture).await;
    tab.until_text("#body", r#"{"captured":50,"balance":880,"held":70}"#).await;
    until_holds(&tab, 1).await;
    tab.close(&[]).await;
    service.stop().await;
}

#[tokio::test]
async fn neither_a_double_click_nor_a_key_held_down_captures() {
    let service = TestService::start().await;
    let user = service.user_with(100).await;
    hold(&service, user, 50).await;
    let tab = looked_up(&service, user).await;
    let capture = "#holds .acts button:first-child";
    tab.double_click(capture).await;
    assert_eq!(tab.text(capture).await, "Capture 50?");
    tab.value("document.activeElement.blur()").await;
    tab.tab_to(capture).await;
    for _ in 0..3 {
        tab.key_down("Enter", true).await;
    }
    assert_eq!(tab.text(capture).await, "Capture", "a key that was held down before");
    tab.key_down("Enter", false).await;
    for _ in 0..3 {
        tab.key_down("Enter", true).await;
    }
    assert_eq!(tab.text(capture).await, "Capture 50?");
    assert!(!tab.shows("#answer").await, "nothing is sent");
    tab.close(&[]).await;
    service.stop().await;
}
