//! The report for people: the verdict, then the table, then the violations.

use std::io::{self, Write};

use super::histogram;
use crate::baseline::Compared;
use crate::figures::Figures;
use crate::findings::Findings;
use crate::operations::Counts;
use crate::plan::{Changes, Plan, Work};
use crate::run::{CheckedBurst, Details, Run, Verdict};

/// The columns of each kind of burst; those of the timings follow.
const CHANGES: [&str; 4] = ["approach", "accepted", "refused", "wrong"];
const OPERATIONS: [&str; 7] =
    ["operations", "requests", "applied", "accepted", "refused", "undecided", "wrong"];
const TIMINGS: [&str; 6] = ["seconds", "requests/s", "p50 ms", "p90 ms", "p99 ms", "max ms"];

/// Writes the report. A run without any burst has no report: its only message goes to standard
/// error.
pub(crate) fn write(to: &mut impl Write, plan: &Plan, run: &Run) -> io::Result<()> {
    if run.bursts.is_empty() {
        return Ok(());
    }
    writeln!(to, "{}", verdict(plan, run))?;
    writeln!(to)?;
    write_table(to, plan, &run.bursts)?;
    write_histogram(to, &run.bursts)?;
    write_comparison(to, plan, run)?;
    for checked in &run.bursts {
        write_remarks(to, checked)?;
    }
    writeln!(to)?;
    match &plan.log {
        Some(log) => writeln!(to, "Every answer: {}", log.display()),
        None => Ok(()),
    }
}

/// The first line: the verdict, and what it is about.
pub(super) fn verdict(plan: &Plan, run: &Run) -> String {
    match run.verdict() {
        Verdict::Pass => {
            let and_more = if plan.database.is_some() { ", and so is the database" } else { "" };
            format!("PASS: every answer is exact{and_more}: {}", summary(plan, run))
        }
        Verdict::Fail => {
            let broken = run.bursts.iter().filter(|checked| !checked.findings.exact());
            let why: Vec<_> = broken.map(why_not_exact).collect();
            format!("FAIL: {}", why.join("; "))
        }
        Verdict::CouldNotRun => format!(
            "COULD NOT RUN to the end: {} of {} bursts made",
            run.bursts.len(),
            plan.work.bursts(),
        ),
    }
}

fn summary(plan: &Plan, run: &Run) -> String {
    match &plan.work {
        Work::Changes(Changes { terms, .. }) => {
            let accepted = terms.acceptable(plan.requests);
            format!(
                "of {} simultaneous changes by {}, {accepted} accepted, {} refused, final balance {}",
                plan.requests,
                terms.amount,
                plan.requests - accepted,
                terms.balance_after(accepted),
            )
        }
        Work::Operations => {
            let applied: usize = run.bursts.iter().map(|checked| checked.details.applied()).sum();
            let requests: usize = run.bursts.iter().map(|c| c.burst.replies.len()).sum();
            format!(
                "{applied} operations applied in {requests} requests of {} bursts, each of them \
                 once and in full",
                run.bursts.len()
            )
        }
    }
}

fn why_not_exact(checked: &CheckedBurst) -> String {
    let violations: Vec<_> = checked.findings.violations.iter().map(ToString::to_string).collect();
    format!("{}: {}", checked.name, violations.join(", "))
}

fn write_table(to: &mut impl Write, plan: &Plan, bursts: &[CheckedBurst]) -> io::Result<()> {
    let mut rows: Vec<Vec<String>> = vec![headings(plan)];
    rows.extend(bursts.iter().map(row));
    let widths: Vec<_> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or_default())
        .collect();
    for row in &rows {
        write!(to, "{:<width$}", row[0], width = widths[0])?;
        for (figure, width) in row.iter().zip(&widths).skip(1) {
            write!(to, "  {figure:>width$}")?;
        }
        writeln!(to)?;
    }
    Ok(())
}

fn write_histogram(to: &mut impl Write, bursts: &[CheckedBurst]) -> io::Result<()> {
    let width =
        bursts.iter().map(|checked| checked.name.len()).chain([7]).max().unwrap_or_default();
    writeln!(to)?;
    for line in histogram::lines(bursts, width) {
        writeln!(to, "{line}")?;
    }
    Ok(())
}

fn write_comparison(to: &mut impl Write, plan: &Plan, run: &Run) -> io::Result<()> {
    let Some(comparand) = &plan.comparand else { return Ok(()) };
    writeln!(to)?;
    writeln!(to, "Beside {}:", comparand.path.display())?;
    for compared in run.compared(plan) {
        let Compared { name, requests_per_second, p99, is_worse } = compared;
        let worse = if is_worse { "  WORSE" } else { "" };
        writeln!(to, "  {name}: requests/s × {requests_per_second:.2}, p99 × {p99:.2}{worse}")?;
    }
    Ok(())
}

pub(super) fn headings(plan: &Plan) -> Vec<String> {
    let own: &[&str] = match plan.work {
        Work::Changes(_) => &CHANGES,
        Work::Operations => &OPERATIONS,
    };
    own.iter().chain(&TIMINGS).copied().map(str::to_owned).collect()
}

/// In the order of the headings.
pub(super) fn row(checked: &CheckedBurst) -> Vec<String> {
    let Findings { accepted, refused, wrong, .. } = checked.findings;
    let mut row = vec![checked.name.clone()];
    let counts = match checked.details {
        Details::Changes { .. } => vec![accepted, refused, wrong],
        Details::Operations(Counts { applied, undecided }) => {
            vec![checked.burst.replies.len(), applied, accepted, refused, undecided, wrong]
        }
    };
    row.extend(counts.iter().map(ToString::to_string));
    let figures = Figures::of(checked);
    row.extend([format!("{:.2}", figures.seconds), format!("{:.0}", figures.requests_per_second)]);
    let times = [figures.p50_ms, figures.p90_ms, figures.p99_ms, figures.max_ms];
    row.extend(times.map(|ms| format!("{ms:.1}")));
    row
}

fn write_remarks(to: &mut impl Write, checked: &CheckedBurst) -> io::Result<()> {
    let CheckedBurst { name, burst, findings, .. } = checked;
    if burst.reconnects > 0 {
        writeln!(to)?;
        writeln!(to, "{name}: {} connects beyond one per connection", burst.reconnects)?;
    }
    if findings.exact() {
        return Ok(());
    }
    writeln!(to)?;
    writeln!(to, "{name}:")?;
    for violation in &findings.violations {
        writeln!(to, "  {violation}")?;
        for example in &violation.examples {
            writeln!(to, "      {}", example.replace('\n', "\n        "))?;
        }
        let more = violation.count.saturating_sub(violation.examples.len());
        if more > 0 && violation.kind.is_counted_one_by_one() {
            writeln!(to, "      and {more} more")?;
        }
    }
    Ok(())
}
