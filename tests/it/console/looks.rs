//! Light and dark, wide and narrow, with the keyboard alone, and where the page comes from.

use std::path::PathBuf;

use reqwest::Method;

use crate::browser::{Look, Tab};
use crate::console::{looked_up, until_holds};
use crate::service::{TestService, read};

/// Where the pictures are, for those who want to see them.
fn pictures() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

#[tokio::test]
async fn the_page_fits_narrow_and_dark_screens() {
    let service = TestService::start().await;
    let user = service.user_with(i64::MAX).await;
    let tab = looked_up(&service, user).await;
    tab.type_into("#hold [name=amount]", "9007199254740993").await;
    tab.type_into("#hold [name=reference]", &"long".repeat(60)).await;
    tab.click("#hold button").await;
    tab.until_text("#held", "9,007,199,254,740,993").await;
    tab.until("the hold is listed", "document.querySelectorAll('#holds tr').length === 1").await;
    tab.until("charts", "document.querySelectorAll('#charts svg[role]').length >= 6").await;
    let light = tab.value("getComputedStyle(document.body).backgroundColor").await;
    for (width, is_dark) in [(1280, false), (1280, true), (360, false), (360, true)] {
        let look = Look { width, height: 1600, is_dark };
        tab.look(look).await;
        tab.value("scrollTo(0, 0)").await;
        let widest = "document.documentElement.scrollWidth";
        assert_eq!(tab.value(widest).await, width, "nothing is beyond the edge at {width}");
        let background = tab.value("getComputedStyle(document.body).backgroundColor").await;
        assert_eq!(background != light, is_dark, "{background}");
        let name = format!("console-{width}-{}.png", if is_dark { "dark" } else { "light" });
        tab.picture(&pictures().join(name)).await;
    }
    tab.close(&[]).await;
    service.stop().await;
}

#[tokio::test]
async fn everything_can_be_done_with_the_keyboard() {
    let service = TestService::start().await;
    let user = service.user_with(100).await;
    let tab = Tab::open(&format!("{}/console", service.url), Look::USUAL).await;
    tab.until("the form is there", "document.querySelector('#lookup').checkVisibility()").await;
    tab.press("Tab").await;
    assert_eq!(tab.value("document.activeElement.id").await, "user");
    tab.type_text(&user.to_string()).await;
    tab.press("Enter").await;
    tab.until_text("#user-title", &format!("User {user}")).await;
    tab.until_text("#live", "live").await;
    let mut visited = Vec::new();
    for _ in 0..16 {
        tab.press("Tab").await;
        let of_form = "document.activeElement.closest('form')?.id";
        let name = format!(
            "`${{{of_form}}} ${{document.activeElement.name || document.activeElement.innerText}}`"
        );
        visited.push(tab.value(&name).await.as_str().unwrap().to_owned());
        let outlined = "getComputedStyle(document.activeElement).outlineStyle === 'solid'";
        assert_eq!(tab.value(outlined).await, true, "the focus is not seen: {visited:?}");
        if visited.last().unwrap() == "hold Hold" {
            break;
        }
    }
    let expected = [
        "lookup Look up",
        "change amount",
        "change reference",
        "change Change",
        "transfer to",
        "transfer amount",
        "transfer reference",
        "transfer Transfer",
        "hold amount",
        "hold expiresInSeconds",
        "hold reference",
        "hold Hold",
    ];
    assert_eq!(visited, expected);
    let unnamed = "[...document.querySelectorAll('input, button')].filter((it) => \
                   !it.labels?.length && !it.innerText && !it.ariaLabel).length";
    assert_eq!(tab.value(unnamed).await, 0, "fields without a label");

    tab.tab_to("#change [name=amount]").await;
    tab.type_text("-30").await;
    tab.press("Enter").await;
    tab.until_text("#body", r#"{"balance":70}"#).await;
    tab.tab_to("#retry").await;
    for _ in 0..2 {
        tab.press("Enter").await;
        tab.until_text("#status", "200, replayed: the answer of the first time").await;
        assert_eq!(tab.value("document.activeElement.id").await, "retry", "it keeps the focus");
    }
    tab.tab_to("#hold [name=amount]").await;
    tab.type_text("50").await;
    tab.press("Enter").await;
    until_holds(&tab, 1).await;
    tab.tab_to("#holds .acts button").await;
    tab.press("Enter").await;
    assert_eq!(tab.value("document.activeElement.innerText").await, "Capture 50?");
    tab.press("Enter").await;
    tab.until_text("#body", r#"{"captured":50,"balance":20,"held":0}"#).await;
    until_holds(&tab, 0).await;
    assert_eq!(service.balance_of(user).await, 20);
    tab.close(&[]).await;
    service.stop().await;
}

#[tokio::test]
async fn the_page_is_whole_in_the_executable_and_its_policy_is_strict() {
    let service = TestService::start().await;
    let response = service.send(Method::GET, "/console", None).await;
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let strict = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                  connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    assert_eq!(policy, strict);
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    let mut page = read(response).await.1;
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onclick="));
    for file in plimsoll::console::FILES {
        let path = format!("/console/files/{}", file.name);
        let response = service.send(Method::GET, &path, None).await;
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        page += &read(response).await.1;
    }
    for file in plimsoll::console::FILES {
        assert!(page.contains(file.name), "nobody needs {}", file.name);
    }
    assert!(!page.contains("://"), "an address elsewhere");
    service.stop().await;
}
