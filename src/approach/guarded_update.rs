//! `self`: one guarded `UPDATE`, which is its own transaction.
//!
//! # Protocol
//! One statement, one round trip, one commit:
//! ```sql
//! UPDATE users SET balance = balance + $1, … WHERE id = $2 AND balance + $1 >= 0 RETURNING balance
//! ```
//!
//! # Why it is exact
//! The check and the write are one statement on one row. Under READ COMMITTED a statement that
//! finds the row locked waits, and then checks its `WHERE` again on the version that was committed
//! meanwhile; so of all statements that want the row, each decides on the result of the one before.
//! What it returns is the balance that it wrote itself. Where it returns nothing, the guard was
//! false, either on the snapshot of the statement or on the version it waited for: true at a moment
//! between request and answer.
//!
//! # Unknown user or no money?
//! Both touch no row. The second arm of the `UNION ALL` tells them apart in the same statement; it
//! is a primary-key look-up that only runs when nothing was updated.
//!
//! # When the process dies
//! Before the server has the statement: nothing happened. After that, the server runs it to its end
//! whether or not anybody listens: it is one transaction, so it is there in full or not at all.
//! Only the answer can be lost, which is "outcome unknown".
//!
//! # When it loses
//! On one hot row each change waits for the commit of the one before: one flush of the log each.
//! Refusals do not write and do not wait.

use sqlx::PgConnection;

use super::Pooled;
use crate::balance::{Balance, Change, ChangeError};
use crate::store::error::{Sent, change_error};

#[derive(Default)]
pub(super) struct GuardedUpdate;

impl Pooled for GuardedUpdate {
    async fn apply(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> Result<Balance, ChangeError> {
        let row: Option<(Option<Balance>,)> = sqlx::query_as(
            "WITH changed AS ( \
                 UPDATE users SET balance = balance + $1, version = version + 1 \
                 WHERE id = $2 AND balance + $1 >= 0 \
                 RETURNING balance \
             ) \
             SELECT balance FROM changed \
             UNION ALL \
             SELECT NULL FROM users WHERE id = $2 AND NOT EXISTS (SELECT FROM changed)",
        )
        .bind(change.amount.get())
        .bind(change.user.get())
        .fetch_optional(connection)
        .await
        .map_err(|error| change_error(error, Sent::Commit))?;
        match row {
            Some((Some(balance),)) => Ok(balance),
            Some((None,)) => Err(ChangeError::InsufficientFunds),
            None => Err(ChangeError::UserNotFound),
        }
    }
}
