//! The ring of a watched user: the newest blocks, which all of its watchers share.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::block::{BLOCK_BYTES, Block, Entries};

/// How long a block stays. Whoever has not taken it by then reads it from the journal. So all rings
/// together have what is written in this time, however many users are watched.
const KEPT: Duration = Duration::from_secs(1);

/// The longest ring, in bytes: some 20,000 entries, or 3,000 with the longest references.
const RING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The length after which one question takes no more entries of a user. So what one has found fits into the
/// ring, and what the next one has found does not push it out.
pub(super) const NEWS_BYTES: usize = RING_BYTES_MAX / 2 - 2 * BLOCK_BYTES;

/// The newest entries of a user.
#[derive(Debug)]
pub(super) struct Ring {
    blocks: VecDeque<(Instant, Block)>,
    bytes: usize,
    /// The version of the last entry that was read.
    last: i64,
}

/// What follows a version.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// These entries.
    Entries(Entries),
    /// Nothing so far.
    Nothing,
    /// Entries that are not here any more.
    Gone,
}

impl Ring {
    /// An empty one. The next entry follows this version.
    pub(super) fn after(version: i64) -> Self {
        Self { blocks: VecDeque::new(), bytes: 0, last: version }
    }

    /// The version of the last entry that was read.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// What follows a version.
    pub(super) fn next(&self, version: i64) -> Next {
        // A watcher may know of entries that were not read for all so far.
        if version >= self.last {
            return Next::Nothing;
        }
        let position = self.blocks.partition_point(|(_, block)| block.last() <= version);
        match self.blocks.get(position) {
            Some((_, block)) if block.first() <= version + 1 => {
                block.after(version).map_or(Next::Gone, Next::Entries)
            }
            _ => Next::Gone,
        }
    }

    /// Appends blocks, which must follow the last entry.
    pub(super) fn push(&mut self, blocks: Vec<Block>, now: Instant) {
        for block in blocks {
            self.last = block.last();
            self.bytes += block.len();
            self.blocks.push_back((now, block));
        }
        while self.bytes > RING_BYTES_MAX {
            self.drop_oldest();
        }
    }

    /// Drops the blocks whose time is over.
    pub(super) fn forget(&mut self, now: Instant) {
        while self.blocks.front().is_some_and(|(since, _)| *since + KEPT <= now) {
            self.drop_oldest();
        }
        if self.is_empty() {
            // It may have been long.
            self.blocks.shrink_to_fit();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, block)) = self.blocks.pop_front() {
            self.bytes -= block.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::tests::blocks;
    use super::*;

    /// Takes everything that follows a version. Returns the text, and the last version.
    fn rest(ring: &Ring, mut version: i64) -> (String, i64) {
        let mut text = Vec::new();
        while let Next::Entries(found) = ring.next(version) {
            text.extend_from_slice(&found.bytes);
            version = found.last;
        }
        (String::from_utf8(text).unwrap(), version)
    }

    #[test]
    fn a_watcher_gets_what_follows_its_version_once_and_in_order() {
        let now = Instant::now();
        let mut ring = Ring::after(10);
        assert_eq!(ring.next(10), Next::Nothing);
        assert_eq!(ring.next(12), Next::Nothing, "it knows more than the ring");
        assert_eq!(ring.next(9), Next::Gone);
        ring.push(blocks(11..3_000), now);
        ring.push(blocks(3_000..3_001), now);
        assert_eq!(ring.last(), 3_000);
        for version in (10..=3_000).step_by(7) {
            let expected: String = (version + 1..=3_000).map(|n| format!("{n:010}")).collect();
            assert_eq!(rest(&ring, version), (expected, 3_000));
        }
        assert_eq!(ring.next(9), Next::Gone);
    }

    #[test]
    fn a_ring_keeps_what_is_young_and_never_more_than_its_bound() {
        let (begun, half) = (Instant::now(), KEPT / 2);
        let mut ring = Ring::after(0);
        ring.push(blocks(1..2_000), begun);
        ring.push(blocks(2_000..4_000), begun + half);
        ring.forget(begun + KEPT);
        assert_eq!(ring.next(1_998), Next::Gone);
        assert_eq!(rest(&ring, 1_999).1, 3_999);
        ring.forget(begun + half + KEPT);
        assert!(ring.is_empty());
        assert_eq!(
            (ring.bytes, ring.next(3_999), ring.next(3_998)),
            (0, Next::Nothing, Next::Gone)
        );
        // Ten bytes each, three times as many as fit.
        let most = i64::try_from(RING_BYTES_MAX / 10).unwrap();
        for part in 0..30 {
            let first = 4_000 + part * most / 10;
            ring.push(blocks(first..first + most / 10), begun + KEPT * 2);
            assert!(ring.bytes <= RING_BYTES_MAX);
        }
        let oldest = ring.blocks[0].1.first();
        assert!(ring.last() - oldest > most * 9 / 10, "{oldest} to {}", ring.last());
        assert_eq!(rest(&ring, oldest - 1).1, ring.last());
        assert_eq!(ring.next(oldest - 2), Next::Gone);
    }
}
