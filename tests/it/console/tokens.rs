//! Tokens: asked for, kept for the tab, and what they open.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use reqwest::Method;

use crate::browser::{Look, Tab};
use crate::cluster::fresh_folder;
use crate::console::look_up;
use crate::service::{TestService, read};

#[tokio::test]
async fn a_token_is_asked_for_and_opens_what_its_scopes_say() {
    let file = fresh_folder("tokens").join("tokens");
    let write = |text: &str| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("viewer:read:only-for-reading-1\non-call:read+write+metrics:for-everything-1\n");
    let variables = [("AUTH_TOKENS_FILE", file.to_str().unwrap())];
    let service = TestService::start_with(&variables).await;
    let tab = Tab::open(&format!("{}/console", service.url), Look::USUAL).await;
    tab.until("a token is asked for", "document.querySelector('#token-dialog').open").await;
    assert!(!tab.shows("#lookup").await && !tab.shows("#service-part").await);
    tab.type_into("#token", "wrong").await;
    tab.click("#token-form button").await;
    tab.until_text("#token-why", "The service does not know this token.").await;

    // One that may read sees no form, and nothing of the service.
    tab.type_into("#token", "only-for-reading-1").await;
    tab.press("Enter").await;
    tab.until_text("#caller", "viewer: read").await;
    look_up(&tab, 1).await;
    tab.until_text("#balance", "10,000").await;
    assert_eq!(tab.value("document.querySelectorAll('main form').length").await, 0);
    assert!(!tab.shows("#service-part").await);

    // Another one sees everything, and stays with the tab only.
    tab.click("#change-token").await;
    tab.type_into("#token", "for-everything-1").await;
    tab.click("#token-form button").await;
    tab.until_text("#caller", "on-call: read, write, metrics").await;
    tab.until("the charts are drawn", "document.querySelectorAll('#charts figure').length === 6")
        .await;
    let kept = "[sessionStorage.length, localStorage.length, document.cookie]";
    assert_eq!(tab.value(kept).await, serde_json::json!([1, 0, ""]));

    // A token that loses its scope while the page is open.
    write("on-call:read+metrics:for-everything-1\n");
    service.service.reload().await;
    tab.type_into("#change [name=amount]", "-2").await;
    tab.click("#change button").await;
    tab.until_text("#status", "403: the token does not have the scope write").await;
    assert_eq!(tab.text("#body").await, r#"{"error":"Forbidden"}"#);

    // One that is taken back.
    write("other:read:another-token-1\n");
    service.service.reload().await;
    tab.until("it is asked for again", "document.querySelector('#token-dialog').open").await;
    assert!(!tab.shows("#user-part").await && !tab.shows("#service-part").await);
    assert_eq!(tab.value("sessionStorage.length").await, 0);
    tab.close(&[401, 403]).await;
    service.stop().await;
}

#[tokio::test]
async fn each_address_shows_in_the_console_what_it_serves() {
    let variables =
        [("INTERNAL_PORT", "0"), ("AUTH_TOKENS", "a:read:may-read,b:metrics:may-scrape")];
    let service = TestService::start_with(&variables).await;
    let internal = format!("http://{}", service.service.internal_address().unwrap());
    let access = async |base: &str, token: &str| {
        let request = service.client.get(format!("{base}/console/access"));
        read(request.header("authorization", format!("Bearer {token}")).send().await.unwrap())
            .await
            .1
    };
    let expected = |caller: &str, scopes: &str, places: &str| {
        format!(r#"{{"needsToken":true,"caller":{caller},"scopes":[{scopes}],{places}}}"#)
    };
    let (users, charts) =
        (r#""hasUsers":true,"hasService":false"#, r#""hasUsers":false,"hasService":true"#);
    assert_eq!(access(&service.url, "may-read").await, expected(r#""a""#, r#""read""#, users));
    assert_eq!(access(&service.url, "wrong").await, expected("null", "", users));
    assert_eq!(access(&internal, "may-scrape").await, expected(r#""b""#, r#""metrics""#, charts));
    let status = async |url: String, token: &str| {
        let request = service.client.request(Method::GET, url);
        request
            .header("authorization", format!("Bearer {token}"))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    for (path, token, public, inside) in [
        ("/console", "", 200, 200),
        ("/console/files/page.js", "", 200, 200),
        ("/console/charts", "may-scrape", 404, 200),
        ("/console/charts", "may-read", 404, 403),
        ("/console/users/1/balance", "may-read", 200, 404),
        ("/console/users/1/balance", "may-scrape", 403, 404),
    ] {
        assert_eq!(status(format!("{}{path}", service.url), token).await, public, "public {path}");
        assert_eq!(status(format!("{internal}{path}"), token).await, inside, "internal {path}");
    }
    service.stop().await;
}
