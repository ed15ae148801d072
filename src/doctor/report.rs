//! The findings, as lines for people and as JSON for programs.

use std::fmt;

use serde::Serialize;

/// Whether something is all right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Fit for production.
    Ok,
    /// Works, with a risk that the advice names.
    Warn,
    /// Not fit for production: money can be lost, or the service will not work.
    Fail,
}

/// What a check has come to.
pub(super) struct Verdict {
    status: Status,
    seen: String,
    advice: Option<String>,
}

impl Verdict {
    pub(super) fn ok(seen: impl Into<String>) -> Self {
        Self { status: Status::Ok, seen: seen.into(), advice: None }
    }

    pub(super) fn warn(seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { status: Status::Warn, seen: seen.into(), advice: Some(advice.into()) }
    }

    pub(super) fn fail(seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { status: Status::Fail, seen: seen.into(), advice: Some(advice.into()) }
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> Status {
        self.status
    }
}

/// One line of the report.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// Whether it is all right.
    pub status: Status,
    /// What was seen.
    pub seen: String,
    /// What to change, unless it is all right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    pub(super) fn new(check: &'static str, Verdict { status, seen, advice }: Verdict) -> Self {
        Self { check, status, seen, advice }
    }
}

/// All findings, in the order of the checks.
#[derive(Debug, Serialize)]
pub struct Report {
    /// One for each check.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The worst status.
    pub fn status(&self) -> Status {
        self.findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok)
    }

    fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { check, status, seen, advice } in &self.findings {
            let word = match status {
                Status::Ok => "ok",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
            };
            writeln!(f, "{word:<5} {check:<22} {seen}")?;
            if let Some(advice) = advice {
                writeln!(f, "{:<29}-> {advice}", "")?;
            }
        }
        let (failed, warned) = (self.count(Status::Fail), self.count(Status::Warn));
        writeln!(f, "{failed} FAIL, {warned} warn, {} ok", self.count(Status::Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_as_bad_as_its_worst_finding_and_says_what_to_change() {
        let mut report = Report { findings: vec![Finding::new("fsync", Verdict::ok("on"))] };
        assert_eq!(report.status(), Status::Ok);
        report.findings.push(Finding::new("role", Verdict::warn("postgres", "use another")));
        assert_eq!(report.status(), Status::Warn);
        report.findings.push(Finding::new("schema", Verdict::fail("missing", "migrate")));
        assert_eq!(report.status(), Status::Fail);
        let expected = "\
ok    fsync                  on
warn  role                   postgres
                             -> use another
FAIL  schema                 missing
                             -> migrate
1 FAIL, 1 warn, 1 ok
";
        assert_eq!(report.to_string(), expected);
    }
}
