//! What a failure of the database means: one place, by SQLSTATE, never by text.
//!
//! The question is always the same: is it *known* that nothing was applied? PostgreSQL answers a
//! statement that failed with an error instead of committing it. But an error may also be relayed
//! (by a pooler, a proxy, the coordinator of a cluster) or overtake a commit that has happened. So
//! only the classes listed in `is_rolled_back` count as proof. Every other error leaves the outcome
//! unknown.

use std::io;

use crate::ledger::{Cause, ChangeError};

/// The constraints that a second use of a key violates.
const PRIMARY_KEYS: [&str; 2] = ["idempotency_keys_pkey", "user_creation_keys_pkey"];

/// Why an attempt made no decision.
#[derive(Debug)]
pub enum Failure {
    /// No session could be opened. Nothing was sent.
    Unreachable(Cause),
    /// The session broke before the database had the statement, or none was free in time.
    NotSent(Cause),
    /// Rolled back: a concurrent change came first. Another attempt may succeed.
    Race(Cause),
    /// Rolled back: a row stayed locked for longer than `lock_timeout`.
    Locked(Cause),
    /// Rolled back: the database rejects the data itself. Another attempt would fail the same way.
    Data(ChangeError),
    /// The change may or may not have been applied. Only its key can tell, if it has one.
    Unknown(Cause),
    /// Nothing was written: the user lacks funds, but has holds whose time is over. They must be released
    /// first ([`hold_expiry`](super::hold_expiry)); then the request is decided again.
    HoldsExpired,
    /// Nothing was applied, and another attempt would not help. The error is for the caller.
    Final(ChangeError),
}

impl Failure {
    /// For `map_err`, where nothing was sent that could commit: on a read, or inside an open
    /// transaction.
    pub fn before_commit(error: sqlx::Error) -> Self {
        match Self::at_commit(error) {
            Self::Unknown(cause) => Self::Final(ChangeError::NotApplied(cause)),
            failure => failure,
        }
    }

    /// For `map_err`, inside a transaction that can be run again as a whole.
    pub fn in_transaction(error: sqlx::Error) -> Self {
        match Self::at_commit(error) {
            Self::Unknown(cause) => Self::NotSent(cause),
            failure => failure,
        }
    }

    /// For `map_err`, on a commit or on a statement that commits by itself.
    pub fn at_commit(error: sqlx::Error) -> Self {
        if let Some(code) = sqlstate(&error) {
            if is_key_conflict(&error) {
                return Self::Race(error.into());
            }
            return Self::by_sqlstate(&code, error);
        }
        match &error {
            // EPIPE comes only from a write that the server did not take in full. The commit is the
            // last byte of what is written, so the server never saw it.
            sqlx::Error::Io(cause) if cause.kind() == io::ErrorKind::BrokenPipe => {
                Self::NotSent(error.into())
            }
            _ => Self::Unknown(error.into()),
        }
    }

    /// For an error that the server answered with.
    pub(crate) fn by_sqlstate(code: &str, error: impl Into<Cause>) -> Self {
        let cause = error.into();
        match code {
            "40001" | "40P01" => Self::Race(cause),
            "55P03" => Self::Locked(cause),
            // numeric_value_out_of_range: the sum left 64 bits.
            "22003" => Self::Data(ChangeError::BalanceOutOfRange),
            _ if !is_rolled_back(code) => Self::Unknown(cause),
            _ if matches!(code.get(..2), Some("22" | "23")) => {
                Self::Data(ChangeError::Internal(cause))
            }
            _ if is_passing(code) => Self::Final(ChangeError::NotApplied(cause)),
            _ => Self::Final(ChangeError::Internal(cause)),
        }
    }

    /// Whether the session that it happened on must not be used again.
    pub fn costs_session(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::NotSent(_) | Self::Unknown(_) => true,
            Self::Race(_) | Self::Locked(_) | Self::Data(_) | Self::HoldsExpired => false,
            Self::Final(ChangeError::NotApplied(cause) | ChangeError::Internal(cause)) => {
                cause.downcast_ref::<sqlx::Error>().is_some_and(ends_session)
            }
            Self::Final(_) => false,
        }
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        Self::Final(error)
    }
}

/// What the caller is told when there is no further attempt.
impl From<Failure> for ChangeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(cause)
            | Failure::NotSent(cause)
            | Failure::Race(cause)
            | Failure::Locked(cause) => Self::NotApplied(cause),
            Failure::Unknown(cause) => Self::OutcomeUnknown(cause),
            Failure::HoldsExpired => Self::NotApplied("expired holds were not released".into()),
            Failure::Data(error) | Failure::Final(error) => error,
        }
    }
}

/// Whether a concurrent request used the key first. Everything is rolled back, and another attempt
/// finds the stored outcome.
fn is_key_conflict(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|answer| {
        answer.code().as_deref() == Some("23505") && may_be_of_a_key(answer.constraint())
    })
}

/// A cluster that shards the tables appends the number of the shard (`idempotency_keys_pkey_102025`),
/// or relays the error without a name. Mistaking another nameless violation for a used key only costs
/// an attempt.
fn may_be_of_a_key(constraint: Option<&str>) -> bool {
    let Some(name) = constraint.filter(|name| !name.is_empty()) else { return true };
    let is_shard = |rest: &str| {
        rest.strip_prefix('_').is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    };
    PRIMARY_KEYS
        .iter()
        .any(|key| name.strip_prefix(key).is_some_and(|rest| rest.is_empty() || is_shard(rest)))
}

/// The SQLSTATE of an error that the server answered with.
pub fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// The codes that prove that the statement, and its transaction with it, was rolled back.
///
/// These prove nothing: connection exceptions (08) and system and internal errors (58, XX), which a
/// cluster also relays after a commit was sent; the end of a session from outside (57P01 and the
/// like), whose message may overtake a commit; 40003; and every code that is not listed here.
fn is_rolled_back(code: &str) -> bool {
    match code {
        // statement_completion_unknown; and time-outs that end the session, since their message
        // may overtake a commit.
        "40003" | "25P03" | "25P04" => false,
        // query_canceled (statement_timeout), and a server that lets nobody in yet.
        "57014" | "57P03" => true,
        _ => matches!(
            code.get(..2),
            Some(
                "0A" | "21" | "22" | "23" // what is asked for, and the data
                | "25" | "26" | "28" | "3D" | "3F" // transaction state, names, access
                | "40" | "42" | "44" // lost races, syntax and rights, check option
                | "53" | "54" | "55" // resources, limits, object not in the right state
            )
        ),
    }
}

/// Rolled back through no fault of the request, so another attempt later makes sense: 503.
fn is_passing(code: &str) -> bool {
    matches!(
        code,
        "57014" | "57P03"           // statement_timeout; the server is coming up
        | "25006" // read_only_sql_transaction: a standby, mid-failover
    ) || code.starts_with("53") // resources
}

/// Whether the session is gone, or would answer the next request with the same error. A session that
/// was opened on a primary stays read-only after the primary became a standby (25006). A plan (0A000)
/// or a prepared statement (26000) may belong to another schema.
fn ends_session(error: &sqlx::Error) -> bool {
    let Some(code) = sqlstate(error) else { return true };
    matches!(code.as_str(), "0A000" | "25006" | "26000")
        || code.starts_with("57P")
        || !is_rolled_back(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(kind: io::ErrorKind) -> sqlx::Error {
        sqlx::Error::Io(io::Error::from(kind))
    }

    fn by_code(code: &str) -> Failure {
        Failure::by_sqlstate(code, "as a server would say it")
    }

    #[test]
    fn a_connection_lost_after_a_commit_was_sent_leaves_the_outcome_unknown() {
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset] {
            let failure = Failure::at_commit(io(kind));
            assert!(matches!(failure, Failure::Unknown(_)), "{kind:?}: {failure:?}");
        }
    }

    #[test]
    fn a_connection_lost_inside_a_transaction_has_changed_nothing() {
        let failure = Failure::before_commit(io(io::ErrorKind::UnexpectedEof));
        assert!(matches!(failure, Failure::Final(ChangeError::NotApplied(_))));
        assert!(failure.costs_session());
    }

    #[test]
    fn a_write_that_the_server_never_took_has_changed_nothing() {
        let failure = Failure::at_commit(io(io::ErrorKind::BrokenPipe));
        assert!(matches!(failure, Failure::NotSent(_)));
    }

    #[test]
    fn whatever_is_not_known_to_be_rolled_back_is_unknown() {
        let relayed = ["08006", "08007", "XX000", "XX001", "58030", "57P01", "57P02", "57P05"];
        for code in
            relayed.into_iter().chain(["40003", "25P03", "F0000", "HV000", "99999", "2", ""])
        {
            let failure = by_code(code);
            assert!(matches!(failure, Failure::Unknown(_)), "{code}: {failure:?}");
            assert!(failure.costs_session(), "{code}");
        }
        let strange = Failure::at_commit(sqlx::Error::RowNotFound);
        assert!(matches!(strange, Failure::Unknown(_)), "{strange:?}");
    }

    #[test]
    fn only_the_data_is_an_objection_to_the_data() {
        assert!(matches!(by_code("22003"), Failure::Data(ChangeError::BalanceOutOfRange)));
        for code in ["22P02", "23514", "23505"] {
            assert!(matches!(by_code(code), Failure::Data(ChangeError::Internal(_))), "{code}");
        }
        for code in ["57014", "53100", "53200", "53300", "25006", "57P03"] {
            let failure = by_code(code);
            assert!(matches!(failure, Failure::Final(ChangeError::NotApplied(_))), "{code}");
        }
        for code in ["42P01", "0A000", "54001"] {
            let failure = by_code(code);
            assert!(matches!(failure, Failure::Final(ChangeError::Internal(_))), "{code}");
        }
    }

    #[test]
    fn a_used_key_is_recognised_on_a_shard_and_without_a_name() {
        for name in [
            Some("idempotency_keys_pkey"),
            Some("user_creation_keys_pkey"),
            Some("idempotency_keys_pkey_102025"),
            Some(""),
            None,
        ] {
            assert!(may_be_of_a_key(name), "{name:?}");
        }
        for name in ["balance_changes_pkey", "idempotency_keys_pkey2", "idempotency_keys_pkey_x"] {
            assert!(!may_be_of_a_key(Some(name)), "{name}");
        }
    }

    #[test]
    fn a_lock_that_is_waited_for_in_vain_is_told_from_a_lost_race() {
        assert!(matches!(by_code("55P03"), Failure::Locked(_)));
        for code in ["40001", "40P01"] {
            assert!(matches!(by_code(code), Failure::Race(_)), "{code}");
        }
    }
}
