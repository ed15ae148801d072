//! `verify` beside writers: it sees only whole changes, and no writer waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use plimsoll::verify::verify;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::Books;

/// Writes balance, journal row and key in one statement, like an approach.
const CHANGE: &str = "\
WITH changed AS ( \
    UPDATE users SET balance = balance + $1, version = version + 1, \
        changed_at = greatest(statement_timestamp(), changed_at) \
    WHERE id = $2 AND balance + $1 >= 0 RETURNING id, version, balance, changed_at \
), journal AS ( \
    INSERT INTO balance_changes (user_id, version, amount, balance, key, created_at) \
    SELECT id, version, $1, balance, $3, changed_at FROM changed \
) \
INSERT INTO idempotency_keys (user_id, key, fingerprint, answer) \
SELECT $2, $3, 'change ' || $1, (SELECT ARRAY[balance] FROM changed)";

async fn write_until(stop: Arc<AtomicBool>, options: PgConnectOptions, writer: u64) -> u64 {
    let mut connection = PgConnection::connect_with(&options).await.expect("connects");
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        let amount: i64 = if written % 2 == 0 { -7 } else { 5 };
        sqlx::query(CHANGE)
            .bind(amount)
            // Mostly one hot user, so that the row has many versions at once.
            .bind(if written % 4 == 0 { 2_i64 } else { 1 })
            .bind(format!("{writer}-{written}"))
            .execute(&mut connection)
            .await
            .expect("the change is written");
        written += 1;
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_database_is_clean_every_time_and_grows_between_the_looks() {
    let mut books = Books::open().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| tokio::spawn(write_until(Arc::clone(&stop), books.options.clone(), writer)))
        .collect();
    let (mut looks, mut seen) = (0, 0);
    // On a busy machine, twenty checks may end before the writers begin.
    while looks < 20 || seen <= 3 {
        looks += 1;
        assert!(looks < 10_000, "nothing is ever written while it looks");
        let report = books.verify().await;
        assert!(report.is_clean(), "{report}");
        assert!(report.changes >= seen);
        seen = report.changes;
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    let report = books.verify().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.keys, 6 + written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_go_on_while_a_check_is_held_up_and_it_sees_nothing_of_them() {
    let mut books = Books::open().await;
    // The snapshot is taken before the first table is read. So the check has its snapshot when it
    // waits for this table, which the writers do not need.
    let mut holder = PgConnection::connect_with(&books.options).await.expect("connects");
    let mut lock = holder.begin().await.expect("begins");
    sqlx::query("LOCK TABLE user_creation_keys").execute(&mut *lock).await.expect("locks");
    let (ended, options) = (Arc::new(AtomicU64::new(0)), books.options.clone());
    let checking = tokio::spawn({
        let ended = Arc::clone(&ended);
        async move {
            let mut connection = PgConnection::connect_with(&options).await.expect("connects");
            let report = verify(&mut connection).await.expect("it can look");
            ended.store(1, Ordering::Relaxed);
            report
        }
    });
    books.until_a_check_waits_for("user_creation_keys").await;

    for i in 0..100 {
        let change = sqlx::query(CHANGE).bind(-1_i64).bind(1_i64).bind(format!("late-{i}"));
        let written = timeout(Duration::from_secs(10), change.execute(&mut books.connection));
        written.await.expect("nobody waits for the check").expect("the change is written");
    }
    assert_eq!(ended.load(Ordering::Relaxed), 0, "the check is still under way");
    lock.rollback().await.expect("lets go");
    let report = checking.await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.changes, report.sum_of_balances), (3, 9_990));
    assert_eq!(books.verify().await.changes, 103);
}
