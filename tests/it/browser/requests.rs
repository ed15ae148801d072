//! Faults between a page and the service: its requests are stopped, answered by the test, or lose their answers.

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::tab::{PATIENCE, POLL, Tab};

/// Where a request is stopped.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    /// Before the service has it.
    Sent,
    /// When the service has answered, and the page does not know it yet.
    Answered,
}

/// A request that waits for the test. Until then it hangs.
pub(crate) struct Request {
    id: Value,
    /// Its address.
    pub(crate) url: String,
}

impl Tab {
    /// From now on, stops the requests whose addresses are like one of these patterns (`*` is any text), and no
    /// others.
    pub(crate) async fn stop_requests(&self, patterns: &[&str], stage: Stage) {
        let stage = match stage {
            Stage::Sent => "Request",
            Stage::Answered => "Response",
        };
        let patterns: Vec<_> = patterns
            .iter()
            .map(|pattern| json!({ "urlPattern": pattern, "requestStage": stage }))
            .collect();
        self.call("Fetch.enable", json!({ "patterns": patterns })).await;
    }

    /// Stops no further request, and lets go those that are stopped.
    pub(crate) async fn let_requests_go(&self) {
        self.call("Fetch.disable", json!({})).await;
        self.browser.requests.lock().unwrap().remove(&self.session);
    }

    /// Waits for a stopped request whose address has this text.
    pub(crate) async fn stopped(&self, text: &str) -> Request {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(request) = self.take_stopped(text) {
                return request;
            }
            assert!(Instant::now() < deadline, "no request for {text} is stopped");
            sleep(POLL).await;
        }
    }

    fn take_stopped(&self, text: &str) -> Option<Request> {
        let mut all = self.browser.requests.lock().unwrap();
        let stopped = all.get_mut(&self.session)?;
        let url = |stopped: &Value| stopped["request"]["url"].as_str().unwrap().to_owned();
        let place = stopped.iter().position(|stopped| url(stopped).contains(text))?;
        let mut found = stopped.remove(place);
        Some(Request { url: url(&found), id: found["requestId"].take() })
    }

    /// Lets it go on, or its answer.
    pub(crate) async fn let_go(&self, request: Request) {
        self.call("Fetch.continueRequest", json!({ "requestId": request.id })).await;
    }

    /// Ends it without an answer.
    pub(crate) async fn lose(&self, request: Request) {
        let reason = json!({ "requestId": request.id, "errorReason": "ConnectionReset" });
        self.call("Fetch.failRequest", reason).await;
    }

    /// Answers it as a proxy in between does, whatever the service has answered.
    pub(crate) async fn answer(&self, request: Request, status: u16) {
        let answer = json!({ "requestId": request.id, "responseCode": status });
        self.call("Fetch.fulfillRequest", answer).await;
    }
}
