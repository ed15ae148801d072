//! The report as a page in Markdown.

use std::fmt;

use super::figures::Figures;
use super::{Report, millis};

pub(super) struct Page<'a>(pub(super) &'a Report);

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report) = self;
        let figures = Figures::of(report);
        writeln!(f, "# Faults\n\n**{}**\n", report.headline(&figures))?;
        writeln!(
            f,
            "{}. `concurrency-tester faults --help` says what is done.",
            report.conditions()
        )?;
        let said: Vec<_> = report.findings().into_iter().chain(report.not_run()).collect();
        if !said.is_empty() {
            writeln!(f, "\n```text\n{}\n```", said.join("\n"))?;
        }
        writeln!(f, "\n| What | |\n|---|---:|")?;
        for (what, number) in figures.lines() {
            writeln!(f, "| {} | {number} |", what.trim())?;
        }
        writeln!(
            f,
            "\nA recovery time runs from the moment when the database, the instance or the way to it is \
             back to the first accepted request through each instance, the later of the two.\n\n\
             | Fault | Count | Recovery p50 | max |\n|---|---:|---:|---:|"
        )?;
        for kind in &figures.kinds {
            let (p50, max) =
                (millis(kind.times.percentile(50)), millis(kind.times.percentile(100)));
            writeln!(f, "| {} | {} | {p50} | {max} |", kind.kind, kind.count)?;
        }
        writeln!(
            f,
            "\n| Round | Seed | Faults | Requests | Violations |\n|---|---:|---:|---:|---:|"
        )?;
        for round in &report.rounds {
            let violations: usize = round.violations.iter().map(|violation| violation.count).sum();
            let faults = round.faults.iter().filter(|fault| !fault.missed).count();
            writeln!(
                f,
                "| {} | {} | {faults} | {} | {violations} |",
                round.sort, round.seed, round.counts.requests
            )?;
        }
        Ok(())
    }
}
