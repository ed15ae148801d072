//! The report for people: the verdict, the operations, the violations, and how to repeat the run.

use std::io::{self, Write};

use super::{Verdict, WitnessPlan, Witnessed};
use crate::load::{Category, Operations};

const HEADINGS: [&str; 11] = [
    "operation",
    "asked for",
    "acknowledged",
    "refused",
    "not applied",
    "unknown",
    "applied by key",
    "refused by key",
    "in journal",
    "not in journal",
    "unresolved",
];

pub(crate) fn write(
    to: &mut impl Write,
    plan: &WitnessPlan,
    witnessed: &Witnessed,
) -> io::Result<()> {
    writeln!(to, "{}", verdict(plan, witnessed))?;
    writeln!(to)?;
    write_table(to, witnessed)?;
    write_violations(to, witnessed)?;
    writeln!(to)?;
    if witnessed.verdict() == Verdict::Fail {
        for why in &witnessed.unproven {
            writeln!(to, "Not checked: {why}")?;
        }
    }
    writeln!(to, "Seed {}: {}", plan.load.seed, repeat(plan))
}

fn verdict(plan: &WitnessPlan, witnessed: &Witnessed) -> String {
    let total = witnessed.counts.total();
    match witnessed.verdict() {
        Verdict::Pass => {
            let and_more = if plan.database.is_some() { ", and the database agrees" } else { "" };
            format!(
                "PASS: {} operations acknowledged and each there once, {} refused and {} not \
                 applied and none of them there, {} unknown and each there at most once, {} reads \
                 true{and_more}",
                total.acknowledged,
                total.refused,
                total.not_applied,
                total.unknown,
                witnessed.counts.reads,
            )
        }
        Verdict::Fail => {
            let violations: Vec<_> = witnessed.violations.iter().map(ToString::to_string).collect();
            format!("FAIL: {}", violations.join(", "))
        }
        Verdict::NotProven => format!("NOT PROVEN: {}", witnessed.unproven.join("; ")),
    }
}

fn write_table(to: &mut impl Write, witnessed: &Witnessed) -> io::Result<()> {
    let counts = &witnessed.counts;
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    for (category, operations) in Category::ALL.into_iter().zip(&counts.categories) {
        rows.push(row(category.name(), operations));
    }
    rows.push(row("all", &counts.total()));
    for row in &rows {
        write!(to, "{:<9}", row[0])?;
        for (cell, heading) in row.iter().zip(HEADINGS).skip(1) {
            write!(to, "  {cell:>width$}", width = heading.len())?;
        }
        writeln!(to)?;
    }
    let seconds = witnessed.took.as_secs_f64();
    writeln!(to)?;
    writeln!(
        to,
        "{} requests in {seconds:.1} s ({:.0} a second), {} reads answered, judged in {:.1} s",
        counts.requests,
        counts.requests as f64 / seconds.max(0.001),
        counts.reads,
        witnessed.judging_took.as_secs_f64(),
    )
}

/// In the order of the headings.
fn row(name: &str, of: &Operations) -> [String; 11] {
    [
        name.to_owned(),
        of.operations().to_string(),
        of.acknowledged.to_string(),
        of.refused.to_string(),
        of.not_applied.to_string(),
        of.unknown.to_string(),
        of.applied_by_key.to_string(),
        of.not_applied_by_key.to_string(),
        of.in_journal.to_string(),
        of.not_in_journal.to_string(),
        of.unresolved.to_string(),
    ]
}

fn write_violations(to: &mut impl Write, witnessed: &Witnessed) -> io::Result<()> {
    for violation in &witnessed.violations {
        writeln!(to)?;
        writeln!(to, "{violation}:")?;
        for example in &violation.examples {
            for (number, line) in example.lines().enumerate() {
                writeln!(to, "  {}{line}", if number == 0 { "- " } else { "  " })?;
            }
        }
        let more = violation.count.saturating_sub(violation.examples.len());
        if more > 0 {
            writeln!(to, "  and {more} more")?;
        }
    }
    Ok(())
}

/// The command that draws the same again. The token and the database are secret.
pub(super) fn repeat(plan: &WitnessPlan) -> String {
    use std::fmt::Write as _;

    let load = &plan.load;
    let mut command = "concurrency-tester witness".to_owned();
    for target in &load.targets {
        let _ = write!(command, " --url {target}");
    }
    let _ = write!(command, " --seconds {}", plan.duration.as_secs());
    if let Some(requests) = load.requests_max {
        let _ = write!(command, " --requests {requests}");
    }
    if let Some(per_second) = load.per_second {
        let _ = write!(command, " --per-second {per_second}");
    }
    let (clients, users, seed) = (load.clients, load.users, load.seed);
    let _ = write!(command, " --clients {clients} --users {users} --seed {seed}");
    command
}
