//! A stream of changes: the lines that have arrived are one batch, then their results are sent.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};

use super::answer::Answer;
use super::ledger::Ledger;
use super::request;

/// The most lines of a batch.
const LINES_MAX: usize = 100;

struct Lines {
    ledger: Arc<Ledger>,
    body: Incoming,
    /// What has arrived and was not answered.
    unread: Vec<u8>,
}

/// The body with the results, one line for each line.
pub(super) fn results(ledger: Arc<Ledger>, body: Incoming) -> Body {
    let lines = Lines { ledger, body, unread: Vec::new() };
    let results = stream::unfold(lines, async |mut lines| {
        let results = lines.answer_some().await?;
        Some((Ok::<_, Infallible>(Bytes::from(results)), lines))
    });
    Body::from_stream(results)
}

impl Lines {
    /// The results of the lines that have arrived; waits for the first one. `None` at the end.
    async fn answer_some(&mut self) -> Option<String> {
        while !self.unread.contains(&b'\n') {
            match self.body.frame().await {
                Some(frame) => self.unread.extend_from_slice(frame.ok()?.data_ref()?),
                None if self.unread.is_empty() => return None,
                // The last line may have no end.
                None => self.unread.push(b'\n'),
            }
        }
        let mut batch = Vec::new();
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n')
            && batch.len() < LINES_MAX
        {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let item = serde_json::from_slice(&line).ok()?;
            batch.push(request::change(&item, "stream")?);
        }
        let answers = self.ledger.run(batch).await;
        Some(answers.iter().map(|answer| Answer::as_item(answer) + "\n").collect())
    }
}
