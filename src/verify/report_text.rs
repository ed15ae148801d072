//! The report for people: the verdict, then the totals, then the violations.

use std::fmt;

use super::report::{Found, Report, Violation};

/// Several lines, with a line break at the end of each.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            writeln!(f, "PASS: the journal explains every balance")?;
        } else {
            let kinds: Vec<String> = self.violations.iter().map(ToString::to_string).collect();
            writeln!(f, "FAIL: {}", kinds.join(", "))?;
        }
        writeln!(f)?;
        writeln!(f, "users            {}", self.users)?;
        writeln!(f, "changes          {}", self.changes)?;
        writeln!(f, "keys             {}", self.keys)?;
        writeln!(f, "sum of balances  {}", self.sum_of_balances)?;
        writeln!(f, "snapshot held    {} ms", self.snapshot_ms)?;
        self.violations.iter().try_for_each(|found| write_found(f, found))
    }
}

/// As in the verdict: `3 × gap in a journal`.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.count, self.kind)
    }
}

/// On one line: `user 7, version 3: the version before it is 1`.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}", self.user)?;
        if let Some(version) = self.version {
            write!(f, ", version {version}")?;
        }
        write!(f, ": {}", self.sentence)
    }
}

fn write_found(f: &mut fmt::Formatter<'_>, found: &Found) -> fmt::Result {
    writeln!(f, "\n{found}")?;
    for violation in &found.first {
        writeln!(f, "    {violation}")?;
    }
    let shown = found.first.len() as u64;
    match found.count - shown {
        0 => Ok(()),
        more => writeln!(f, "    and {more} more"),
    }
}
