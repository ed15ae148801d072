//! A page in a browser of its own: nothing is shared with the pages of other tests.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Browser, SHARED};

/// How long a test waits for the page.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How often it looks meanwhile.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// How the page is shown.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) is_dark: bool,
}

impl Look {
    pub(crate) const USUAL: Self = Self { width: 1280, height: 1000, is_dark: false };
}

/// An open page.
pub(crate) struct Tab {
    pub(super) browser: &'static Browser,
    context: String,
    pub(super) session: String,
}

impl Tab {
    /// What [`Self::close`] takes for the status of a request that got no answer.
    pub(crate) const LOST: u16 = 0;

    /// Opens a page.
    pub(crate) async fn open(url: &str, look: Look) -> Self {
        let tab = Self::empty(look).await;
        tab.go_to(url).await;
        tab
    }

    /// Opens a tab without a page.
    pub(crate) async fn empty(look: Look) -> Self {
        let browser = &*SHARED;
        let whole = async |method, parameters| browser.call(None, method, parameters).await;
        let context =
            text(&whole("Target.createBrowserContext", json!({})).await, "browserContextId");
        let target = json!({ "url": "about:blank", "browserContextId": context });
        let target = text(&whole("Target.createTarget", target).await, "targetId");
        let attach = json!({ "targetId": target, "flatten": true });
        let session = text(&whole("Target.attachToTarget", attach).await, "sessionId");
        let tab = Self { browser, context, session };
        for domain in ["Page", "Runtime", "Log"] {
            tab.call(&format!("{domain}.enable"), json!({})).await;
        }
        tab.look(look).await;
        tab
    }

    /// Opens a page in it.
    pub(crate) async fn go_to(&self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        self.until(
            "the page is loaded",
            "document.readyState === 'complete' && location.href !== 'about:blank'",
        )
        .await;
    }

    pub(super) async fn call(&self, method: &str, parameters: Value) -> Value {
        self.browser.call(Some(&self.session), method, parameters).await
    }

    /// Shows it in another way.
    pub(crate) async fn look(&self, Look { width, height, is_dark }: Look) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = if is_dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [feature] })).await;
    }

    /// The value of an expression.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let wanted =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut result = self.call("Runtime.evaluate", wanted).await;
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&self, what: &str, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(expression).await != Value::Bool(true) {
            if Instant::now() > deadline {
                let page = self.value("document.body.innerText").await;
                panic!("in vain: {what}: {expression}\n{page}\n{:?}", self.messages());
            }
            sleep(POLL).await;
        }
    }

    /// Waits until an element has this text.
    pub(crate) async fn until_text(&self, selector: &str, expected: &str) {
        let is = format!("{}?.innerText.trim() === {}", element(selector), json!(expected));
        self.until(&format!("{selector} is {expected:?}"), &is).await;
    }

    /// The text of an element, as it is seen.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let value = self.value(&format!("{}.innerText.trim()", element(selector))).await;
        value.as_str().expect(selector).to_owned()
    }

    /// Whether there is an element that can be seen.
    pub(crate) async fn shows(&self, selector: &str) -> bool {
        let is = format!("{}?.checkVisibility() === true", element(selector));
        self.value(&is).await == Value::Bool(true)
    }

    /// Puts another page in front of it, as somebody does who opens a tab, or takes that away again.
    pub(crate) async fn hide(&self, hides: bool) {
        if hides {
            let target = json!({ "url": "about:blank", "browserContextId": self.context });
            self.browser.call(None, "Target.createTarget", target).await;
        } else {
            self.call("Page.bringToFront", json!({})).await;
        }
        self.until("it is hidden, or not", &format!("document.hidden === {hides}")).await;
    }

    /// Takes a picture of what is seen.
    pub(crate) async fn picture(&self, file: &Path) {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let encoded = picture["data"].as_str().expect("a picture");
        std::fs::write(file, decoded(encoded)).expect("a folder for pictures");
    }

    /// Everything in the browser's console.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.browser.messages.lock().unwrap().get(&self.session).cloned().unwrap_or_default()
    }

    /// Closes it, if the browser's console has nothing but answers of these statuses, which a browser reports
    /// whatever the page does with them.
    pub(crate) async fn close(self, refusals: &[u16]) {
        let unexpected = self.messages().into_iter().filter(|message| {
            let is_refusal = |status: &u16| {
                let reported = match *status {
                    Self::LOST => "net::ERR_".to_owned(),
                    status => format!("status of {status} "),
                };
                message.starts_with("\"network\"") && message.contains(&reported)
            };
            !refusals.iter().any(is_refusal)
        });
        let unexpected: Vec<_> = unexpected.collect();
        assert!(unexpected.is_empty(), "in the browser's console: {unexpected:#?}");
        let context = json!({ "browserContextId": self.context });
        self.browser.call(None, "Target.disposeBrowserContext", context).await;
    }
}

pub(super) fn element(selector: &str) -> String {
    format!("document.querySelector({})", json!(selector))
}

fn text(result: &Value, member: &str) -> String {
    result[member].as_str().expect(member).to_owned()
}

/// From base 64.
fn decoded(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes().filter(|byte| *byte != b'=') {
        let value = DIGITS.iter().position(|known| *known == digit).expect("base 64");
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}
