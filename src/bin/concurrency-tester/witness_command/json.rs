//! The report for programs: one JSON document.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::text::repeat;
use super::{Verdict, WitnessPlan, Witnessed};
use crate::findings::ReportedViolation;
use crate::load::{Category, Operations};

/// Writes the document, with a line break at its end.
pub(crate) fn write(
    to: &mut impl Write,
    plan: &WitnessPlan,
    witnessed: &Witnessed,
) -> io::Result<()> {
    let counts = &witnessed.counts;
    let categories = Category::ALL.into_iter().zip(&counts.categories);
    let document = Document {
        verdict: witnessed.verdict(),
        unproven: &witnessed.unproven,
        urls: plan.load.targets.iter().map(ToString::to_string).collect(),
        seed: plan.load.seed,
        repeat: repeat(plan),
        seconds: witnessed.took.as_secs_f64(),
        judging_seconds: witnessed.judging_took.as_secs_f64(),
        requests: counts.requests,
        reads: counts.reads,
        operations: categories.map(|(c, operations)| (c.name(), Counted::of(operations))).collect(),
        all: Counted::of(&counts.total()),
        database_checked: plan.database.is_some(),
        violations: witnessed.violations.iter().map(ReportedViolation::of).collect(),
    };
    serde_json::to_writer_pretty(&mut *to, &document)?;
    writeln!(to)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    verdict: Verdict,
    /// Why the run proves nothing, or not everything.
    unproven: &'a [String],
    urls: Vec<String>,
    seed: u64,
    repeat: String,
    seconds: f64,
    judging_seconds: f64,
    requests: usize,
    reads: usize,
    operations: BTreeMap<&'static str, Counted>,
    all: Counted,
    database_checked: bool,
    violations: Vec<ReportedViolation>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counted {
    asked_for: usize,
    acknowledged: usize,
    refused: usize,
    not_applied: usize,
    unknown: usize,
    applied_by_key: usize,
    refused_by_key: usize,
    in_journal: usize,
    not_in_journal: usize,
    unresolved: usize,
}

impl Counted {
    fn of(operations: &Operations) -> Self {
        Self {
            asked_for: operations.operations(),
            acknowledged: operations.acknowledged,
            refused: operations.refused,
            not_applied: operations.not_applied,
            unknown: operations.unknown,
            applied_by_key: operations.applied_by_key,
            refused_by_key: operations.not_applied_by_key,
            in_journal: operations.in_journal,
            not_in_journal: operations.not_in_journal,
            unresolved: operations.unresolved,
        }
    }
}
