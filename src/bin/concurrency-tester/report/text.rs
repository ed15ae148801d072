//! The report for people: the verdict, then the table, then the violations.

use std::io::{self, Write};

use super::Figures;
use crate::flags::Plan;
use crate::run::{CheckedBurst, Run, Verdict};

const HEADINGS: [&str; 10] = [
    "approach",
    "accepted",
    "refused",
    "wrong",
    "seconds",
    "requests/s",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "max ms",
];

/// Writes the report. A run without any burst has no report: its only message goes to standard
/// error.
pub(crate) fn write(to: &mut impl Write, plan: &Plan, run: &Run) -> io::Result<()> {
    if run.bursts.is_empty() {
        return Ok(());
    }
    writeln!(to, "{}", verdict(plan, run))?;
    writeln!(to)?;
    write_table(to, &run.bursts)?;
    for checked in &run.bursts {
        write_remarks(to, checked)?;
    }
    writeln!(to)?;
    writeln!(to, "Every answer: {}", plan.log.display())
}

fn verdict(plan: &Plan, run: &Run) -> String {
    match run.verdict() {
        Verdict::Pass => {
            let accepted = plan.terms.acceptable(plan.requests);
            format!(
                "PASS: every answer is exact{}: of {} simultaneous changes by {}, {accepted} \
                 accepted, {} refused, final balance {}",
                if plan.database.is_some() { ", and so is the database" } else { "" },
                plan.requests,
                plan.terms.amount,
                plan.requests - accepted,
                plan.terms.balance_after(accepted),
            )
        }
        Verdict::Fail => {
            let broken = run.bursts.iter().filter(|checked| !checked.findings.exact());
            let why: Vec<_> = broken.map(why_not_exact).collect();
            format!("FAIL: {}", why.join("; "))
        }
        Verdict::CouldNotRun => format!(
            "COULD NOT RUN to the end: {} of {} bursts made",
            run.bursts.len(),
            plan.approach_sets().len(),
        ),
    }
}

fn why_not_exact(checked: &CheckedBurst) -> String {
    let violations: Vec<_> = checked.findings.violations.iter().map(ToString::to_string).collect();
    format!("{}: {}", checked.approach, violations.join(", "))
}

fn write_table(to: &mut impl Write, bursts: &[CheckedBurst]) -> io::Result<()> {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(bursts.iter().map(row));
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].len()).max().unwrap_or_default()
    });
    for row in &rows {
        let [approach, figures @ ..] = row;
        write!(to, "{approach:<width$}", width = widths[0])?;
        for (figure, width) in figures.iter().zip(&widths[1..]) {
            write!(to, "  {figure:>width$}")?;
        }
        writeln!(to)?;
    }
    Ok(())
}

fn row(checked: &CheckedBurst) -> [String; HEADINGS.len()] {
    let findings = &checked.findings;
    let figures = Figures::of(checked);
    [
        checked.approach.clone(),
        findings.accepted.to_string(),
        findings.refused.to_string(),
        findings.wrong.to_string(),
        format!("{:.2}", figures.seconds),
        format!("{:.0}", figures.requests_per_second),
        format!("{:.1}", figures.p50_ms),
        format!("{:.1}", figures.p90_ms),
        format!("{:.1}", figures.p99_ms),
        format!("{:.1}", figures.max_ms),
    ]
}

fn write_remarks(to: &mut impl Write, checked: &CheckedBurst) -> io::Result<()> {
    let CheckedBurst { approach, burst, findings, .. } = checked;
    if burst.reconnects > 0 {
        writeln!(to)?;
        writeln!(to, "{approach}: {} connects beyond one per connection", burst.reconnects)?;
    }
    if findings.exact() {
        return Ok(());
    }
    writeln!(to)?;
    writeln!(to, "{approach}:")?;
    for violation in &findings.violations {
        writeln!(to, "  {violation}")?;
        for example in &violation.examples {
            writeln!(to, "      {example}")?;
        }
        let more = violation.count.saturating_sub(violation.examples.len());
        if more > 0 && violation.kind.is_counted_one_by_one() {
            writeln!(to, "      and {more} more")?;
        }
    }
    Ok(())
}
