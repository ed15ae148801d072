//! Draws what a client sends next. Everything follows from the seed, the number of the client and the
//! number of the draw, except which hold is resolved: that depends on the answers.

mod actions;

#[cfg(test)]
mod tests;

use fastrand::Rng;

use super::amounts::Amounts;
use super::counts::Category;
use super::holds::KnownHolds;
use crate::contract::operation::Operation;

/// The most changes of a bulk, and lines of a stream.
const BULK_MAX: usize = 12;
const STREAM_MAX: usize = 40;

/// Who takes part.
#[derive(Debug, Clone)]
pub(super) struct Cast {
    /// The first is the hot one.
    pub(super) users: Vec<i64>,
    pub(super) merchant: i64,
}

/// What a client does next.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) work: Work,
    pub(super) hang_up: HangUp,
}

#[derive(Debug, Clone)]
pub(super) enum Work {
    /// One request. A change takes any route.
    One(Operation, Category),
    /// A bulk in which each is decided for itself.
    Each(Vec<Operation>),
    /// A stream, of which the client cuts the connection once it has read so many results.
    Stream {
        lines: Vec<Operation>,
        cut_after: Option<usize>,
    },
    Read(Ask),
    /// An operation that was answered is sent again with its key.
    Again,
}

/// Asks for this user, or for a hold of anybody.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) user: i64,
    pub(super) what: What,
    /// Chooses among what the client knows by then.
    pub(super) random: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    State,
    /// At a moment that an answer named.
    At,
    /// So many microseconds ago, by the clock of this machine.
    Ago(i64),
    Version,
    Page,
    PageBefore,
    Hold,
}

/// When a client hangs up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum HangUp {
    Never,
    /// After this share of the request's bytes.
    Within(f64),
    /// As soon as the request is sent.
    AtOnce,
    /// If there is no answer within so many microseconds.
    After(u64),
}

/// Draws for one client.
#[derive(Debug)]
pub(super) struct Draws {
    pub(super) seed: u64,
    pub(super) client: usize,
    pub(super) clients: usize,
    pub(super) next: usize,
}

impl Draws {
    /// The next step. `None` after more steps than there are amounts for.
    pub(super) fn step(&mut self, cast: &Cast, holds: &KnownHolds) -> Option<Step> {
        let number = (self.next * self.clients + self.client) as u64;
        let amounts = Amounts::of(self.seed, number)?;
        let name = format!("{}-{}", self.client, self.next);
        self.next += 1;
        let rng = Rng::with_seed(scramble(self.seed ^ scramble(number)));
        let mut draw = Draw { rng, amounts, name, items: 0, cast, holds };
        let work = draw.work();
        let hang_up = match work {
            Work::One(..) | Work::Each(_) => draw.hang_up(),
            Work::Stream { .. } | Work::Read(_) | Work::Again => HangUp::Never,
        };
        Some(Step { work, hang_up })
    }
}

/// Neighbouring numbers must not lead to similar draws.
pub(super) fn scramble(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// One draw.
struct Draw<'a> {
    rng: Rng,
    amounts: Amounts,
    /// Distinct for each draw of a run: keys and references begin with it.
    name: String,
    items: usize,
    cast: &'a Cast,
    holds: &'a KnownHolds,
}

impl Draw<'_> {
    /// The weights add up to 100.
    fn work(&mut self) -> Work {
        match self.rng.u8(..100) {
            0..30 => Work::One(self.change(), Category::Change),
            30..36 => Work::Each(self.changes(BULK_MAX)),
            36..41 => Work::One(self.all(), Category::All),
            41..44 => self.stream(),
            44..60 => Work::One(self.transfer(), Category::Transfer),
            60..72 => Work::One(self.hold(), Category::Hold),
            72..80 => self.resolution(Category::Capture),
            80..84 => self.resolution(Category::Release),
            84..97 => Work::Read(self.ask()),
            _ => Work::Again,
        }
    }

    fn changes(&mut self, most: usize) -> Vec<Operation> {
        let count = self.rng.usize(1..=most);
        (0..count).map(|_| self.change()).collect()
    }

    fn stream(&mut self) -> Work {
        let lines = self.changes(STREAM_MAX);
        let cut = self.rng.u8(..4) == 0;
        let cut_after = cut.then(|| self.rng.usize(..lines.len()));
        Work::Stream { lines, cut_after }
    }

    fn ask(&mut self) -> Ask {
        let what = match self.rng.u8(..12) {
            0..3 => What::State,
            3..5 => What::At,
            5 => What::Ago(self.rng.i64(1..20_000)),
            6..8 => What::Version,
            8 => What::Page,
            9 => What::PageBefore,
            _ => What::Hold,
        };
        Ask { user: self.anybody(), what, random: self.rng.usize(..) }
    }

    /// One in twelve, at every point.
    fn hang_up(&mut self) -> HangUp {
        match self.rng.u8(..48) {
            0 => HangUp::Within(self.rng.f64()),
            1 => HangUp::AtOnce,
            2..4 => HangUp::After(self.rng.u64(..8_000)),
            _ => HangUp::Never,
        }
    }
}
