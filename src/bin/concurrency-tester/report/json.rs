//! The report for programs: one JSON document.

use std::io::{self, Write};

use serde::Serialize;

use super::Figures;
use crate::exactness::Violation;
use crate::flags::Plan;
use crate::run::{CheckedBurst, Run, Verdict};

/// Writes the document, with a line break at its end.
pub(crate) fn write(to: &mut impl Write, plan: &Plan, run: &Run) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *to, &Document::of(plan, run))?;
    writeln!(to)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    verdict: Verdict,
    /// The error that stopped the run early, or null.
    stopped: Option<String>,
    url: String,
    user_id: i64,
    balance: i64,
    amount: i64,
    requests: usize,
    connections: usize,
    log: String,
    /// Whether the database was also checked after each burst.
    database_checked: bool,
    approaches: Vec<Approach>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Approach {
    approach: String,
    verdict: Verdict,
    accepted: usize,
    refused: usize,
    wrong: usize,
    /// Null if the balance could not be read.
    final_balance: Option<i64>,
    seconds: f64,
    requests_per_second: f64,
    latency_ms: Latency,
    connect_seconds: f64,
    reconnects: u64,
    violations: Vec<ReportedViolation>,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

#[derive(Serialize)]
struct ReportedViolation {
    kind: String,
    meaning: String,
    count: usize,
    examples: Vec<String>,
}

impl Document {
    fn of(plan: &Plan, run: &Run) -> Self {
        Self {
            verdict: run.verdict(),
            stopped: run.stopped.as_ref().map(ToString::to_string),
            url: plan.target.to_string(),
            user_id: plan.user,
            balance: plan.terms.start,
            amount: plan.terms.amount,
            requests: plan.requests,
            connections: plan.connections,
            log: plan.log.display().to_string(),
            database_checked: plan.database.is_some(),
            approaches: run.bursts.iter().map(Approach::of).collect(),
        }
    }
}

impl Approach {
    fn of(checked: &CheckedBurst) -> Self {
        let CheckedBurst { approach, burst, final_balance, findings } = checked;
        let figures = Figures::of(checked);
        Self {
            approach: approach.clone(),
            verdict: if findings.exact() { Verdict::Pass } else { Verdict::Fail },
            accepted: findings.accepted,
            refused: findings.refused,
            wrong: findings.wrong,
            final_balance: final_balance.as_ref().ok().copied(),
            seconds: figures.seconds,
            requests_per_second: figures.requests_per_second,
            latency_ms: Latency {
                p50: figures.p50_ms,
                p90: figures.p90_ms,
                p99: figures.p99_ms,
                max: figures.max_ms,
            },
            connect_seconds: burst.connecting_took.as_secs_f64(),
            reconnects: burst.reconnects,
            violations: findings.violations.iter().map(ReportedViolation::of).collect(),
        }
    }
}

impl ReportedViolation {
    fn of(violation: &Violation) -> Self {
        Self {
            kind: violation.kind.slug(),
            meaning: violation.kind.to_string(),
            count: violation.count,
            examples: violation.examples.clone(),
        }
    }
}
