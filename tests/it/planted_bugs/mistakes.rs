//! The mistakes that need more than a condition: around the commit, and in the answers.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::postgres::PgQueryResult;
use sqlx::{Executor, PgConnection, Postgres, Transaction};
use tokio::time::sleep;

use super::answer::Answer;
use super::books::Entry;
use super::bug::{Bug, Planted};
use super::operation::Operation;
use super::rows;
use super::store::{Failure, Store, Writing};

/// How long the commits of [`Bug::AnswerBeforeCommit`] wait for others.
const COMMIT_DELAY: Duration = Duration::from_millis(3);

/// Writes everything and commits. Without a bug, that is all.
pub(super) async fn write_and_commit(
    store: &Store,
    mut transaction: Transaction<'static, Postgres>,
    writing: Writing,
) -> Result<(), Failure> {
    let planted = &store.planted;
    if planted.has(Bug::HalfTransfer) {
        return half_transfer(store, transaction, &writing).await;
    }
    if planted.has(Bug::KeyAfterEffect) {
        return key_after_effect(store, transaction, &writing).await;
    }
    if planted.has(Bug::KeyBeforeEffect) {
        return key_before_effect(store, transaction, &writing).await;
    }
    rows::write_books(&mut transaction, &writing.books, |_| true).await?;
    rows::write_keys(&mut transaction, &writing.keys).await?;
    if planted.has(Bug::DirtyRead) {
        // Readers find the users there before they are committed, and also where they never are.
        store.write_to_cache(&writing.books);
        if planted.strikes(Bug::DirtyRead, 15) {
            transaction.rollback().await?;
            return Err(Failure::NotApplied);
        }
    }
    if planted.has(Bug::AnswerBeforeCommit) {
        // Commits wait for each other, to share a flush. The answer does not.
        tokio::spawn(async move {
            sleep(COMMIT_DELAY).await;
            transaction.commit().await
        });
        return Ok(());
    }
    if planted.strikes(Bug::FailureAfterAnswer, 50) {
        // As above, and the connection is lost before the commit arrives.
        let lost = send(&mut transaction, "SELECT pg_terminate_backend(pg_backend_pid())").await;
        assert!(lost.is_err());
        return Ok(());
    }
    if planted.strikes(Bug::RetryAfterUnknownCommit, 30) {
        // The backend ends right after the commit: the connection is lost without an answer to it.
        let both = "COMMIT; SELECT pg_terminate_backend(pg_backend_pid())";
        return send(&mut transaction, both).await.map(drop).map_err(|_| Failure::Unknown);
    }
    transaction.commit().await.map_err(|_| Failure::Unknown)
}

/// Several statements in one message.
fn send<'a>(
    connection: &'a mut PgConnection,
    sql: &'static str,
) -> BoxFuture<'a, Result<PgQueryResult, sqlx::Error>> {
    connection.execute(sql)
}

/// The payer's side is committed first. The payee's follows in a transaction of its own, and is lost
/// where somebody else has changed the payee meanwhile, or where the process is killed in between.
async fn half_transfer(
    store: &Store,
    mut transaction: Transaction<'static, Postgres>,
    writing: &Writing,
) -> Result<(), Failure> {
    let Writing { books, keys } = writing;
    let is_paid = |entry: &&Entry| entry.kind == "transfer" && entry.amount > 0;
    let payee = books.entries.iter().find(is_paid).map(|entry| entry.user);
    rows::write_books(&mut transaction, books, |user| Some(user) != payee).await?;
    rows::write_keys(&mut transaction, keys).await?;
    transaction.commit().await.map_err(|_| Failure::Unknown)?;
    if payee.is_some() && !store.planted.strikes(Bug::HalfTransfer, 20) {
        let mut second = store.pool.begin().await?;
        if rows::write_books(&mut second, books, |user| Some(user) == payee).await.is_ok() {
            let _ = second.commit().await;
        }
    }
    Ok(())
}

/// The key is stored when everything else is done. Sometimes the process does not live to see that.
async fn key_after_effect(
    store: &Store,
    mut transaction: Transaction<'static, Postgres>,
    writing: &Writing,
) -> Result<(), Failure> {
    rows::write_books(&mut transaction, &writing.books, |_| true).await?;
    transaction.commit().await.map_err(|_| Failure::Unknown)?;
    if writing.keys.is_empty() {
        return Ok(());
    }
    if store.planted.strikes(Bug::KeyAfterEffect, 20) {
        return Err(Failure::Unknown);
    }
    let mut second = store.pool.acquire().await?;
    // A duplicate was faster.
    let _ = rows::write_keys(&mut second, &writing.keys).await;
    Ok(())
}

/// The key is stored, with its answer, before everything else is done. Sometimes that fails.
async fn key_before_effect(
    store: &Store,
    mut transaction: Transaction<'static, Postgres>,
    writing: &Writing,
) -> Result<(), Failure> {
    let mut first = store.pool.acquire().await?;
    rows::write_keys(&mut first, &writing.keys).await?;
    drop(first);
    rows::write_books(&mut transaction, &writing.books, |_| true).await?;
    if !writing.keys.is_empty() && store.planted.strikes(Bug::KeyBeforeEffect, 20) {
        transaction.rollback().await?;
        return Err(Failure::NotApplied);
    }
    transaction.commit().await.map_err(|_| Failure::Unknown)
}

/// A change that reads the balance without a lock, and writes what follows from it.
pub(super) async fn read_modify_write(
    store: &Store,
    operation: &Operation,
    user: i64,
    amount: i64,
) -> Result<Answer, Failure> {
    let mut transaction = store.pool.begin().await?;
    let found: Option<i64> = sqlx::query_scalar("SELECT balance FROM users WHERE id = $1")
        .bind(user)
        .fetch_optional(&mut *transaction)
        .await?;
    let balance = found.map(|balance| balance + amount).filter(|after| *after >= 0 && amount != 0);
    let balance = balance.ok_or(Failure::NotApplied)?;
    sqlx::query(
        "WITH updated AS ( \
             UPDATE users SET balance = $2, version = version + 1, \
                 changed_at = greatest(statement_timestamp(), changed_at) \
             WHERE id = $1 RETURNING version, held, changed_at \
         ) \
         INSERT INTO balance_changes (user_id, version, kind, amount, held_amount, balance, held, \
             created_at, reference) \
         SELECT $1, version, 'change', $3, 0, $2, held, changed_at, $4 FROM updated",
    )
    .bind(user)
    .bind(balance)
    .bind(amount)
    .bind(&operation.reference)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await.map_err(|_| Failure::Unknown)?;
    Ok(Answer::balance(balance))
}

/// Answers that are not the ones of what was done.
pub(super) fn spoil(planted: &Planted, answers: &mut [Answer]) {
    // The results come in the order in which the users were locked, and are taken for that of the input.
    if answers.len() > 1 && planted.strikes(Bug::SwappedAnswers, 20) {
        answers.swap(0, 1);
    }
    // A time-out of the answer is taken for one of the work.
    if planted.strikes(Bug::AppliedBut503, 40) {
        answers.fill(Answer::not_applied());
    }
}
