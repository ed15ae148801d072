//! What a failure of the database means for a change: one place, by SQLSTATE, never by text.
//!
//! The question is always the same: is it known that the change did not happen? PostgreSQL answers
//! a failed statement with an error *instead of* committing it, so an `ERROR` always means rolled
//! back. Only the connection itself can leave the outcome open, and only once a commit was sent.

use std::io;

use crate::balance::ChangeError;

/// What had been sent when the database failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing that could commit: a read, or a statement inside an open transaction.
    NothingFinal,
    /// A commit, or a statement that commits by itself.
    Commit,
}

/// The SQLSTATE of an answer of the server, where there is one.
pub fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// Turns a failure into what the client may be told.
pub fn change_error(error: sqlx::Error, sent: Sent) -> ChangeError {
    match &error {
        sqlx::Error::Database(answer) => {
            let code = answer.code().unwrap_or_default().into_owned();
            by_sqlstate(&code, error, sent)
        }
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
            ChangeError::NotApplied(error.into())
        }
        // EPIPE comes only from a write that the server did not take in full. The commit is the
        // last byte of what is written, so the server never saw it.
        sqlx::Error::Io(cause) if cause.kind() == io::ErrorKind::BrokenPipe => {
            ChangeError::NotApplied(error.into())
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => match sent {
            Sent::NothingFinal => ChangeError::NotApplied(error.into()),
            Sent::Commit => ChangeError::OutcomeUnknown(error.into()),
        },
        _ => ChangeError::Internal(error.into()),
    }
}

fn by_sqlstate(code: &str, error: sqlx::Error, sent: Sent) -> ChangeError {
    match code {
        // numeric_value_out_of_range: the sum left 64 bits.
        "22003" => ChangeError::BalanceOutOfRange,
        // The session was ended from outside: admin_shutdown, crash_shutdown, and the like. The
        // message may overtake a commit that already happened, so it proves nothing.
        "57P01" | "57P02" | "57P05" if sent == Sent::Commit => {
            ChangeError::OutcomeUnknown(error.into())
        }
        _ if is_passing(code) => ChangeError::NotApplied(error.into()),
        _ => ChangeError::Internal(error.into()),
    }
}

/// Failures that are no fault of the change: rolled back, and worth another try later.
fn is_passing(code: &str) -> bool {
    matches!(
        code,
        "40001" | "40P01"           // serialization_failure, deadlock_detected
        | "55P03"                   // lock_not_available (lock_timeout)
        | "57014"                   // query_canceled (statement_timeout)
        | "57P01" | "57P02" | "57P03" | "57P05" // the server is going down or coming up
        | "25006"                   // read_only_sql_transaction: a standby, mid-failover
        | "25P03" | "25P04" // idle_in_transaction and transaction time-outs
    ) || matches!(code.get(..2), Some("08" | "53")) // connection exceptions, resources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(kind: io::ErrorKind) -> sqlx::Error {
        sqlx::Error::Io(io::Error::from(kind))
    }

    #[test]
    fn a_connection_lost_after_a_commit_was_sent_leaves_the_outcome_unknown() {
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset] {
            let error = change_error(io(kind), Sent::Commit);
            assert!(matches!(error, ChangeError::OutcomeUnknown(_)), "{kind:?}: {error:?}");
        }
    }

    #[test]
    fn a_connection_lost_inside_a_transaction_has_changed_nothing() {
        let error = change_error(io(io::ErrorKind::UnexpectedEof), Sent::NothingFinal);
        assert!(matches!(error, ChangeError::NotApplied(_)));
    }

    #[test]
    fn a_write_that_the_server_never_took_has_changed_nothing() {
        let error = change_error(io(io::ErrorKind::BrokenPipe), Sent::Commit);
        assert!(matches!(error, ChangeError::NotApplied(_)));
    }

    #[test]
    fn waiting_in_vain_for_a_connection_has_changed_nothing() {
        let error = change_error(sqlx::Error::PoolTimedOut, Sent::NothingFinal);
        assert!(matches!(error, ChangeError::NotApplied(_)));
    }

    #[test]
    fn contention_is_passing_and_a_broken_constraint_is_not() {
        for code in ["40001", "40P01", "55P03", "57014", "53300", "08006"] {
            assert!(is_passing(code), "{code}");
        }
        for code in ["23514", "23505", "42P01", ""] {
            assert!(!is_passing(code), "{code}");
        }
    }
}
