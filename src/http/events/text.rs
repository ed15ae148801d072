//! The text of events.
//!
//! A blank line ends an event. Lines that begin with a colon are comments, for people and to keep the
//! connection alive. JSON has no line breaks, so `data` is one line.

use std::fmt::Write as _;
use std::io::Write as _;

use hyper::body::Bytes;
use serde::Serialize;

use crate::http::wire::{AppliedChange, RECONNECT_MILLIS, Standing};
use crate::store::history::Entry;
use crate::store::users::User;

pub(super) const HEARTBEAT: Bytes = Bytes::from_static(b": still here\n\n");
pub(super) const STOPPING: Bytes =
    Bytes::from_static(b": the service is stopping, connect again\n\n");
pub(super) const INVALID_TOKEN: Bytes =
    Bytes::from_static(b": the token is not valid any more\n\n");
pub(super) const ENDED: Bytes = Bytes::from_static(b": the events cannot go on, connect again\n\n");

/// Appends an entry of the journal, for all of its watchers.
pub fn append(text: &mut Vec<u8>, entry: Entry) {
    // Neither can fail: a vector takes everything, and no type here is refused by JSON.
    let _ = write!(text, "id: {}\nevent: change\ndata: ", entry.version);
    let _ = serde_json::to_writer(&mut *text, &AppliedChange::from(entry));
    text.extend_from_slice(b"\n\n");
}

/// The begin of a stream: the user as of now.
pub(super) fn state(user: &User) -> Bytes {
    let User { balance, held, version } = *user;
    let data = json(&Standing { balance, held, version });
    let mut text = retry();
    // Writing to a String cannot fail.
    let _ = write!(text, "id: {version}\nevent: state\ndata: {data}\n\n");
    text.into()
}

/// The begin of a stream that goes on after a version.
pub(super) fn resumed(after: i64) -> Bytes {
    let mut text = retry();
    // Writing to a String cannot fail.
    let _ = write!(text, ": after version {after}\n\n");
    text.into()
}

/// Part of the first event: how long the client waits before it connects again.
fn retry() -> String {
    format!("retry: {}\n", fastrand::u32(RECONNECT_MILLIS))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Timestamp;

    #[test]
    fn an_entry_is_one_event_whatever_its_texts_are() {
        let entry = Entry {
            version: 7,
            kind: "transfer".into(),
            amount: -2,
            held_amount: 0,
            balance: 9_998,
            held: 0,
            created_at: Timestamp::from_micros(1),
            reference: Some("\u{2028}\u{85}\"data: x\\n".into()),
            key: Some("k".into()),
            hold: None,
            peer_user: Some(2),
            peer_version: Some(3),
        };
        let mut text = Vec::new();
        append(&mut text, entry);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "id: 7\nevent: change\ndata: {\"version\":7,\"kind\":\"transfer\",\"amount\":-2,\
             \"heldAmount\":0,\"balance\":9998,\"held\":0,\
             \"createdAt\":\"1970-01-01T00:00:00.000001Z\",\
             \"reference\":\"\u{2028}\u{85}\\\"data: x\\\\n\",\"key\":\"k\",\
             \"peer\":{\"user\":2,\"version\":3}}\n\n"
        );
    }

    #[test]
    fn a_stream_begins_with_a_time_to_wait_before_the_next() {
        let user = User { balance: 5, held: 1, version: 3 };
        let begins =
            [state(&user), resumed(3)].map(|begin| String::from_utf8(begin.to_vec()).unwrap());
        let rests = begins.map(|begin| {
            let (first, rest) = begin.split_once('\n').unwrap();
            let millis = first.strip_prefix("retry: ").unwrap().parse().unwrap();
            assert!(RECONNECT_MILLIS.contains(&millis));
            rest.to_owned()
        });
        let state = "id: 3\nevent: state\ndata: {\"balance\":5,\"held\":1,\"version\":3}\n\n";
        assert_eq!(rests, [state, ": after version 3\n\n"]);
    }
}
