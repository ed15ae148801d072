//! What a run has shown: as text, and as a page.

mod figures;
mod page;

use std::fmt;
use std::time::Duration;

use super::kind::Kind;
use super::round::Round;
use crate::witness_command::Verdict;
use figures::Figures;

/// A whole run.
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) took: Duration,
    pub(crate) rounds: Vec<Round>,
    /// Kinds that were meant to be run, and why they were not.
    pub(crate) not_run: Vec<(Kind, &'static str)>,
}

impl Report {
    /// A violation counts even in a run that proves nothing.
    pub(crate) fn verdict(&self) -> Verdict {
        let figures = Figures::of(self);
        let broken = |round: &Round| !round.violations.is_empty() || !round.wrong.is_empty();
        if self.rounds.iter().any(broken) {
            Verdict::Fail
        } else if self.rounds.iter().any(|round| !round.not_proven.is_empty())
            || figures.total.acknowledged == 0
            || figures.faults == 0
        {
            Verdict::NotProven
        } else {
            Verdict::Pass
        }
    }

    /// The report as a page in Markdown.
    pub(crate) fn page(&self) -> String {
        page::Page(self).to_string()
    }

    /// The first line.
    fn headline(&self, figures: &Figures) -> String {
        let Figures { faults, violations, requests, .. } = figures;
        let kinds = figures.kinds.iter().filter(|kind| kind.count > 0).count();
        format!(
            "{}: {} faults of {kinds} kinds, {} requests, {} violations",
            word(self.verdict()),
            grouped(*faults),
            grouped(*requests),
            grouped(*violations),
        )
    }

    fn conditions(&self) -> String {
        let postgres = self.rounds.first().map_or("", |round| &round.postgres);
        let version = env!("CARGO_PKG_VERSION");
        let minutes = self.took.as_secs_f64() / 60.0;
        format!(
            "seed {}, {} rounds in {minutes:.1} minutes, plimsoll {version}, PostgreSQL {postgres}",
            self.seed,
            self.rounds.len(),
        )
    }

    /// What was found, a line each.
    fn findings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for round in &self.rounds {
            let of = format!("round {}, {}, seed {}", round.number, round.sort, round.seed);
            for violation in &round.violations {
                lines.push(format!("{of}: {violation}"));
                let examples = violation.examples.iter().flat_map(|example| example.lines());
                lines.extend(examples.map(|line| format!("    {line}")));
            }
            lines.extend(round.wrong.iter().map(|wrong| format!("{of}: {wrong}")));
            lines.extend(round.not_proven.iter().map(|why| format!("{of}: not proven: {why}")));
        }
        lines
    }

    fn not_run(&self) -> impl Iterator<Item = String> + '_ {
        self.not_run.iter().map(|(kind, why)| format!("NOT RUN: {kind}: {why}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = Figures::of(self);
        writeln!(f, "{}", self.headline(&figures))?;
        writeln!(f, "{}", self.conditions())?;
        for line in self.findings().into_iter().chain(self.not_run()) {
            writeln!(f, "{line}")?;
        }
        writeln!(f)?;
        for (what, number) in figures.lines() {
            writeln!(f, "{what:<58} {number:>12}")?;
        }
        writeln!(f, "\n{:<24} {:>6} {:>14} {:>14}", "fault", "count", "recovery p50", "max")?;
        for kind in &figures.kinds {
            let (p50, max) =
                (millis(kind.times.percentile(50)), millis(kind.times.percentile(100)));
            writeln!(f, "{:<24} {:>6} {p50:>14} {max:>14}", kind.kind, kind.count)?;
        }
        Ok(())
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "PASS",
        Verdict::Fail => "FAIL",
        Verdict::NotProven => "NOT PROVEN",
    }
}

fn millis(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{} ms", grouped_millis(time)))
}

fn grouped_millis(time: Duration) -> String {
    grouped(usize::try_from(time.as_millis()).unwrap_or(usize::MAX))
}

/// With a comma before each three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_run_without_faults_or_requests_proves_nothing() {
        let report =
            Report { seed: 1, took: Duration::ZERO, rounds: Vec::new(), not_run: Vec::new() };
        assert_eq!(report.verdict(), Verdict::NotProven);
    }
}
