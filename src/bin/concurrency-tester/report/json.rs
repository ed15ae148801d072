//! The report for programs: one JSON document.

use std::io::{self, Write};

use serde::Serialize;

use crate::baseline::Compared;
use crate::figures::Figures;
use crate::findings::ReportedViolation;
use crate::operations::Counts;
use crate::plan::{Plan, Work};
use crate::run::{CheckedBurst, Details, Run, Verdict};

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
    #[serde(flatten)]
    changes: Option<Changes>,
    requests: usize,
    connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// Whether the database was also checked after each burst.
    database_checked: bool,
    #[serde(flatten)]
    bursts: Bursts,
    /// Each burst beside that of `--compare-with`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    compared: Vec<Compared>,
}

/// What the changes of all bursts have in common.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Changes {
    user_id: i64,
    balance: i64,
    amount: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Bursts {
    Approaches(Vec<Burst>),
    Operations(Vec<Burst>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Burst {
    #[serde(flatten)]
    name: Name,
    verdict: Verdict,
    accepted: usize,
    refused: usize,
    wrong: usize,
    #[serde(flatten)]
    details: BurstDetails,
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
#[serde(rename_all = "camelCase")]
enum Name {
    Approach(String),
    Operation(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", untagged, rename_all_fields = "camelCase")]
enum BurstDetails {
    Changes {
        /// Null if the balance could not be read.
        final_balance: Option<i64>,
    },
    Operations {
        requests: usize,
        applied: usize,
        undecided: usize,
    },
}

impl Document {
    fn of(plan: &Plan, run: &Run) -> Self {
        let bursts = run.bursts.iter().map(Burst::of).collect();
        let (changes, bursts) = match &plan.work {
            Work::Changes(changes) => {
                let (user_id, terms) = (changes.user, changes.terms);
                let changes = Changes { user_id, balance: terms.start, amount: terms.amount };
                (Some(changes), Bursts::Approaches(bursts))
            }
            Work::Operations => (None, Bursts::Operations(bursts)),
        };
        Self {
            verdict: run.verdict(),
            stopped: run.stopped.as_ref().map(ToString::to_string),
            url: plan.target.to_string(),
            changes,
            requests: plan.requests,
            connections: plan.connections,
            log: plan.log.as_ref().map(|log| log.display().to_string()),
            database_checked: plan.database.is_some(),
            bursts,
            compared: run.compared(plan),
        }
    }
}

impl Burst {
    fn of(checked: &CheckedBurst) -> Self {
        let CheckedBurst { name, burst, findings, details } = checked;
        let figures = Figures::of(checked);
        let (name, details) = match details {
            Details::Changes { final_balance } => {
                let final_balance = final_balance.as_ref().ok().copied();
                (Name::Approach(name.clone()), BurstDetails::Changes { final_balance })
            }
            Details::Operations(Counts { applied, undecided }) => {
                let (applied, undecided) = (*applied, *undecided);
                let requests = burst.replies.len();
                let details = BurstDetails::Operations { requests, applied, undecided };
                (Name::Operation(name.clone()), details)
            }
        };
        Self {
            name,
            verdict: if findings.exact() { Verdict::Pass } else { Verdict::Fail },
            accepted: findings.accepted,
            refused: findings.refused,
            wrong: findings.wrong,
            details,
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
