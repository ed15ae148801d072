//! The results of a stream: splits them into lines, and says what each means for its change.

use crate::contract::answer::{Said, alone, read_result};
use crate::findings::Kind;
use crate::reply::Reply;
use crate::witness::record::Window;

/// Lines that are no result: nothing of this change and of what follows was applied.
const LAST: [&str; 3] = [
    r#"{"status":503,"error":"The service is stopping: what follows was not applied"}"#,
    r#"{"status":400,"error":"The request body could not be read"}"#,
    r#"{"status":408,"error":"The request body did not arrive in time"}"#,
];

/// How a stream ended.
#[derive(Debug)]
pub(super) enum End {
    /// The response was complete.
    Complete,
    /// An answer to the whole, before any result.
    NoStream(Reply),
    Lost(String),
    TimedOut,
}

/// What was told about one line.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    pub(super) window: Window,
    pub(super) said: Said,
    pub(super) text: String,
}

/// The results so far.
#[derive(Debug, Default)]
pub(super) struct Results {
    lines: Vec<(u64, String)>,
    /// The beginning of the next line.
    begun: Vec<u8>,
}

impl Results {
    pub(super) fn count(&self) -> usize {
        self.lines.len()
    }

    /// Adds a piece of the response, which may begin and end anywhere in a line.
    pub(super) fn add(&mut self, piece: &[u8], now: u64) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(part);
            if self.begun.pop_if(|last| *last == b'\n').is_some() {
                self.lines.push((now, String::from_utf8_lossy(&self.begun).into_owned()));
                self.begun.clear();
            }
        }
    }

    /// What was told about each line that may have been sent, by when each was called.
    pub(super) fn told(mut self, called: &[u64], end: &End, now: u64) -> Vec<Line> {
        let last = self.lines.iter().position(|(_, text)| LAST.contains(&&**text));
        let last = last.map(|position| self.lines.split_off(position).remove(0));
        let too_many = self.lines.len() > called.len();
        let mut told = Vec::with_capacity(called.len());
        for (position, called) in called.iter().enumerate() {
            let (returned, said, text) = match (self.lines.get(position), &last) {
                (Some((at, result)), _) => (*at, read_result(result), alone(result)),
                (None, Some((at, text))) => (*at, Said::NotApplied, text.clone()),
                (None, None) => missing(end, now),
            };
            let said = if too_many { Said::Wrong(Kind::UnexpectedBody(200)) } else { said };
            told.push(Line { window: Window { called: *called, returned }, said, text });
        }
        told
    }
}

/// What the end of the stream means for a line without a result.
fn missing(end: &End, now: u64) -> (u64, Said, String) {
    let (said, text) = match end {
        End::Complete => {
            let text = "the response ended without its result".to_owned();
            (Said::Wrong(Kind::UnexpectedBody(200)), text)
        }
        End::NoStream(reply) => {
            let said = match reply {
                Reply::Answer { status: 503, .. } => Said::NotApplied,
                Reply::Answer { status: 504, .. } => Said::Lost(Kind::UnexpectedStatus(504)),
                Reply::Answer { status, .. } => Said::Wrong(Kind::UnexpectedStatus(*status)),
                Reply::TimedOut => Said::Lost(Kind::TimedOut),
                Reply::ConnectionLost(_) => Said::Lost(Kind::ConnectionLost),
            };
            (said, reply.to_string())
        }
        End::Lost(why) => (Said::Lost(Kind::ConnectionLost), format!("no answer: {why}")),
        End::TimedOut => (Said::Lost(Kind::TimedOut), Reply::TimedOut.to_string()),
    };
    (now, said, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::answer::Fact;

    fn balance(balance: i64) -> Said {
        Said::Accepted(vec![Fact { balance: Some(balance), ..Fact::default() }])
    }

    fn said(pieces: &[&str], lines: usize, end: &End) -> Vec<Said> {
        let mut results = Results::default();
        for (now, piece) in (1..).zip(pieces) {
            results.add(piece.as_bytes(), now);
        }
        let told = results.told(&vec![0; lines], end, 9);
        told.into_iter().map(|line| line.said).collect()
    }

    #[test]
    fn results_are_split_wherever_a_piece_ends() {
        let mut results = Results::default();
        results.add(b"{\"balance\":5}\n{\"bal", 1);
        assert_eq!(results.count(), 1);
        results.add(b"ance\":", 2);
        results.add(b"6}", 3);
        results.add(b"\n{\"status\":400,\"error\":\"Insufficient funds\"}\n", 4);
        let told = results.told(&[0, 0, 0], &End::Complete, 9);
        let returned: Vec<_> = told.iter().map(|line| line.window.returned).collect();
        assert_eq!(returned, [1, 4, 4]);
        assert_eq!(told[1].said, balance(6));
        assert_eq!(told[2].said, Said::Refused(None));
        assert_eq!(told[2].text, r#"400 {"error":"Insufficient funds"}"#);
    }

    #[test]
    fn what_has_no_result_is_unknown_unless_the_service_says_more() {
        let five = "{\"balance\":5}\n";
        let lost = Said::Lost(Kind::ConnectionLost);
        let cut = End::Lost("reset".to_owned());
        assert_eq!(said(&[five], 3, &cut), [balance(5), lost.clone(), lost.clone()]);
        assert_eq!(said(&["{\"balance\":5}"], 1, &cut), [lost], "half a line is no result");
        let stopping = format!("{five}{}\n", LAST[0]);
        let not = Said::NotApplied;
        assert_eq!(said(&[&stopping], 3, &End::Complete), [balance(5), not.clone(), not.clone()]);
        let busy = End::NoStream(Reply::Answer { status: 503, body: Box::default() });
        assert_eq!(said(&[], 1, &busy), [not]);
    }

    #[test]
    fn a_response_with_too_few_or_too_many_results_is_wrong() {
        let wrong = Said::Wrong(Kind::UnexpectedBody(200));
        let five = "{\"balance\":5}\n";
        assert_eq!(said(&[five], 2, &End::Complete), [balance(5), wrong.clone()]);
        assert_eq!(said(&[five, five], 1, &End::Complete), [wrong]);
        let stopping = format!("{five}{}\n", LAST[0]);
        assert_eq!(said(&[&stopping], 1, &End::Complete), [balance(5)]);
    }
}
