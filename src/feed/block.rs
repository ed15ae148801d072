//! Blocks: entries of one user in a row, as the bytes that every watcher gets.

use std::ops::Range;

use bytes::Bytes;

use super::Render;
use crate::store::history::Entry;

/// A block ends with the entry that reaches this length. It is what one write sends, and what a client
/// that does not read keeps in memory a few times over.
pub(super) const BLOCK_BYTES: usize = 8 * 1024;

/// Some entries in a row. Clones share the bytes.
#[derive(Clone, Debug)]
pub(super) struct Block {
    versions: Range<i64>,
    /// Where each entry begins.
    starts: Box<[u32]>,
    bytes: Bytes,
}

/// Entries on their way to a watcher.
#[derive(Debug, PartialEq, Eq)]
pub struct Entries {
    /// Their text.
    pub bytes: Bytes,
    /// The version of the last entry.
    pub last: i64,
    /// How many there are.
    pub count: u64,
}

impl Block {
    /// The version of the last entry.
    pub(super) fn last(&self) -> i64 {
        self.versions.end - 1
    }

    /// The version of the first entry.
    pub(super) fn first(&self) -> i64 {
        self.versions.start
    }

    /// How long it is.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The entries that follow a version; none if there are none here.
    pub(super) fn after(&self, version: i64) -> Option<Entries> {
        let skipped = usize::try_from(version + 1 - self.first()).unwrap_or(0);
        let start = usize::try_from(*self.starts.get(skipped)?).ok()?;
        let count = u64::try_from(self.starts.len() - skipped).unwrap_or(0);
        Some(Entries { bytes: self.bytes.slice(start..), last: self.last(), count })
    }
}

/// Puts the entries of one user into blocks.
pub(super) struct Blocks {
    render: Render,
    bytes_max: usize,
    done: Vec<Block>,
    bytes: usize,
    /// The block that is being made.
    text: Vec<u8>,
    starts: Vec<u32>,
    first: i64,
    next: i64,
    has_gap: bool,
    is_cut: bool,
}

impl Blocks {
    /// For the entries that follow a version, up to the one that reaches this length.
    pub(super) fn after(version: i64, bytes_max: usize, render: Render) -> Self {
        Self {
            render,
            bytes_max,
            done: Vec::new(),
            bytes: 0,
            text: Vec::new(),
            starts: Vec::new(),
            first: version + 1,
            next: version + 1,
            has_gap: false,
            is_cut: false,
        }
    }

    /// Appends the next entry. One that does not follow the last one is left out, and so are all later
    /// ones: a journal has no gap, so there is something wrong with it. Those beyond the length are left out
    /// as well.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.len() >= self.bytes_max {
            self.is_cut = true;
            return;
        }
        self.has_gap |= entry.version != self.next;
        let Ok(start) = u32::try_from(self.text.len()) else { return };
        if self.has_gap {
            return;
        }
        self.next += 1;
        self.starts.push(start);
        (self.render)(&mut self.text, entry);
        if self.text.len() >= BLOCK_BYTES {
            self.close();
        }
    }

    /// How many bytes there are so far.
    fn len(&self) -> usize {
        self.bytes + self.text.len()
    }

    /// How many entries there are so far.
    pub(super) fn entries(&self) -> i64 {
        let begun = i64::try_from(self.starts.len()).unwrap_or(0);
        self.first - self.done.first().map_or(self.first, Block::first) + begun
    }

    /// Whether an entry was missing.
    pub(super) fn has_gap(&self) -> bool {
        self.has_gap
    }

    /// Whether an entry was left out for the length.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// All blocks.
    pub(super) fn finish(mut self) -> Vec<Block> {
        self.close();
        self.done
    }

    fn close(&mut self) {
        if self.starts.is_empty() {
            return;
        }
        self.bytes += self.text.len();
        self.done.push(Block {
            versions: self.first..self.next,
            starts: self.starts.as_slice().into(),
            // A copy has no room to spare.
            bytes: Bytes::copy_from_slice(&self.text),
        });
        self.first = self.next;
        self.text.clear();
        self.starts.clear();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ledger::Timestamp;

    pub(in crate::feed) fn entry(version: i64) -> Entry {
        Entry {
            version,
            kind: "change".into(),
            amount: 1,
            held_amount: 0,
            balance: version,
            held: 0,
            created_at: Timestamp::from_micros(0),
            reference: None,
            key: None,
            hold: None,
            peer_user: None,
            peer_version: None,
        }
    }

    /// The version, in ten digits.
    #[expect(clippy::needless_pass_by_value, reason = "as every `Render`")]
    pub(in crate::feed) fn ten_digits(out: &mut Vec<u8>, entry: Entry) {
        out.extend_from_slice(format!("{:010}", entry.version).as_bytes());
    }

    /// Blocks of the entries with these versions.
    pub(in crate::feed) fn blocks(versions: Range<i64>) -> Vec<Block> {
        let mut blocks = Blocks::after(versions.start - 1, usize::MAX, ten_digits);
        versions.for_each(|version| blocks.push(entry(version)));
        blocks.finish()
    }

    #[test]
    fn each_entry_is_in_one_block_and_can_be_the_first_to_be_sent() {
        let blocks = blocks(5..5_005);
        assert_eq!((blocks[0].first(), blocks.last().unwrap().last()), (5, 5_004));
        assert!(blocks.windows(2).all(|pair| pair[0].last() + 1 == pair[1].first()));
        assert!(blocks.iter().all(|block| block.len() < BLOCK_BYTES + 10));
        for version in 4..5_004 {
            let found = blocks.iter().find_map(|block| block.after(version)).unwrap();
            let first = format!("{:010}", version + 1);
            assert!(found.bytes.starts_with(first.as_bytes()), "{version}");
            assert_eq!(found.bytes.len() as u64, found.count * 10);
            assert!(found.bytes.ends_with(format!("{:010}", found.last).as_bytes()));
        }
        assert_eq!(blocks.last().unwrap().after(5_004), None);
        assert_eq!(blocks[0].after(-100).unwrap().count, 820, "and all of it before its first");
    }

    #[test]
    fn what_follows_a_gap_is_left_out() {
        let mut blocks = Blocks::after(0, usize::MAX, ten_digits);
        for version in [1, 2, 4, 3, 5] {
            blocks.push(entry(version));
        }
        assert!(blocks.has_gap());
        assert_eq!((blocks.entries(), blocks.len()), (2, 20));
        assert_eq!(blocks.finish()[0].last(), 2);
    }

    #[test]
    fn what_is_too_long_is_left_out_and_is_no_gap() {
        let mut blocks = Blocks::after(0, 45, ten_digits);
        for version in 1..=5 {
            blocks.push(entry(version));
            assert!(!blocks.is_cut());
        }
        blocks.push(entry(6));
        blocks.push(entry(8));
        assert!(blocks.is_cut() && !blocks.has_gap());
        assert_eq!((blocks.entries(), blocks.len()), (5, 50));
        assert_eq!(blocks.finish()[0].last(), 5);
    }
}
