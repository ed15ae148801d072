//! Each test breaks one invariant on purpose, and `verify` must find it.

use plimsoll::verify::{FIRST_MAX, Kind};

use super::Books;

/// Plants one fault in sound books and compares the violations found with the expected ones.
async fn plant(fault: &str, expected: &[(Kind, i64, Option<i64>)]) {
    let mut books = Books::open().await;
    assert_eq!(books.violations().await, [], "before: {fault}");
    books.drop_constraints().await;
    books.run(fault).await;
    assert_eq!(books.violations().await, expected, "{fault}");
}

#[tokio::test]
async fn sound_books_are_clean_and_counted() {
    let report = Books::open().await.verify().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.users, report.changes, report.keys), (2, 3, 6));
    assert_eq!(report.sum_of_balances, 9_990);
}

#[tokio::test]
async fn an_empty_database_is_clean() {
    let mut books = Books::open().await;
    books.run("TRUNCATE users, balance_changes, idempotency_keys, user_creation_keys").await;
    let report = books.verify().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.users, report.changes, report.sum_of_balances), (0, 0, 0));
}

#[tokio::test]
async fn a_balance_edited_by_hand_is_found() {
    let mismatch = |user, version| (Kind::BalanceMismatch, user, Some(version));
    plant("UPDATE users SET balance = balance + 1 WHERE id = 1", &[mismatch(1, 3)]).await;
    // Also if there is no journal row at all.
    plant("UPDATE users SET balance = balance + 1 WHERE id = 2", &[mismatch(2, 0)]).await;
}

#[tokio::test]
async fn a_balance_below_zero_is_found() {
    plant(
        "UPDATE users SET balance = -1, version = 1 WHERE id = 2; \
         INSERT INTO balance_changes (user_id, version, amount, balance) VALUES (2, 1, -1, -1)",
        &[(Kind::BalanceBelowZero, 2, Some(1)), (Kind::JournalBelowZero, 2, Some(1))],
    )
    .await;
}

#[tokio::test]
async fn a_deleted_change_is_found_wherever_it_stood() {
    let delete = |version: i64| {
        format!(
            "DELETE FROM user_creation_keys; DELETE FROM idempotency_keys; \
             DELETE FROM balance_changes WHERE user_id = 1 AND version = {version}"
        )
    };
    plant(&delete(1), &[(Kind::VersionGap, 1, Some(2))]).await;
    plant(&delete(2), &[(Kind::VersionGap, 1, Some(3))]).await;
    let last = [(Kind::BalanceMismatch, 1, Some(3)), (Kind::VersionMismatch, 1, Some(3))];
    plant(&delete(3), &last).await;
    let all = "DELETE FROM user_creation_keys; DELETE FROM idempotency_keys; \
               DELETE FROM balance_changes";
    plant(all, &last).await;
}

#[tokio::test]
async fn a_changed_amount_is_found() {
    plant(
        "UPDATE balance_changes SET amount = 11 WHERE user_id = 1 AND version = 3; \
         UPDATE idempotency_keys SET fingerprint = 'change 11' WHERE user_id = 1 AND key = 'c'",
        &[(Kind::WrongSum, 1, Some(3))],
    )
    .await;
    plant(
        "UPDATE balance_changes SET amount = 9999 WHERE user_id = 1 AND version = 1; \
         DELETE FROM user_creation_keys",
        &[(Kind::WrongSum, 1, Some(1))],
    )
    .await;
}

#[tokio::test]
async fn a_changed_balance_in_the_journal_is_found_on_both_of_its_sides() {
    plant(
        "UPDATE balance_changes SET balance = 9981 WHERE user_id = 1 AND version = 2; \
         UPDATE idempotency_keys SET answer = '{9981}' WHERE user_id = 1 AND key = 'b'",
        &[(Kind::WrongSum, 1, Some(2)), (Kind::WrongSum, 1, Some(3))],
    )
    .await;
}

#[tokio::test]
async fn swapped_versions_are_found() {
    plant(
        "UPDATE balance_changes SET version = 9 WHERE user_id = 1 AND version = 2; \
         UPDATE balance_changes SET version = 2 WHERE user_id = 1 AND version = 3; \
         UPDATE balance_changes SET version = 3 WHERE user_id = 1 AND version = 9",
        &[
            (Kind::BalanceMismatch, 1, Some(3)),
            (Kind::WrongSum, 1, Some(2)),
            (Kind::WrongSum, 1, Some(3)),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_version_that_is_too_high_or_too_low_is_found() {
    let mismatch = |user, version| [(Kind::VersionMismatch, user, Some(version))];
    plant("UPDATE users SET version = 4 WHERE id = 1", &mismatch(1, 4)).await;
    plant("UPDATE users SET version = 2 WHERE id = 1", &mismatch(1, 2)).await;
    plant("UPDATE users SET version = 1 WHERE id = 2", &mismatch(2, 1)).await;
    plant("UPDATE users SET version = -1 WHERE id = 2", &mismatch(2, -1)).await;
}

#[tokio::test]
async fn a_change_by_zero_is_found() {
    plant(
        "INSERT INTO balance_changes (user_id, version, amount, balance) VALUES (2, 1, 0, 0); \
         UPDATE users SET version = 1 WHERE id = 2",
        &[(Kind::ZeroAmount, 2, Some(1))],
    )
    .await;
}

#[tokio::test]
async fn held_money_that_the_journal_does_not_explain_is_found() {
    let mismatch = |user, version| {
        [(Kind::HeldMismatch, user, Some(version)), (Kind::OpenHoldsMismatch, user, None)]
    };
    plant("UPDATE users SET held = 5 WHERE id = 1", &mismatch(1, 3)).await;
    plant("UPDATE users SET held = 5 WHERE id = 2", &mismatch(2, 0)).await;
    let malformed = (Kind::MalformedEntry, 1, Some(3));
    plant(
        "UPDATE users SET held = -5 WHERE id = 1; \
         UPDATE balance_changes SET held = -5, held_amount = -5 WHERE user_id = 1 AND version = 3",
        &[
            (Kind::HeldBelowZero, 1, Some(3)),
            (Kind::JournalBelowZero, 1, Some(3)),
            malformed,
            (Kind::OpenHoldsMismatch, 1, None),
        ],
    )
    .await;
    // A row in the middle: the one after it does not follow either.
    plant(
        "UPDATE balance_changes SET held = 5 WHERE user_id = 1 AND version = 2",
        &[(Kind::WrongSum, 1, Some(2)), (Kind::WrongSum, 1, Some(3))],
    )
    .await;
    plant(
        "UPDATE balance_changes SET held_amount = 5 WHERE user_id = 1 AND version = 3",
        &[(Kind::WrongSum, 1, Some(3)), malformed],
    )
    .await;
}

#[tokio::test]
async fn funds_that_could_not_be_released_are_found() {
    let max = i64::MAX;
    let rich = |held: i64| {
        format!(
            "INSERT INTO users (id, balance, held, version) VALUES (9, {max} - 5, {held}, 2); \
             INSERT INTO balance_changes \
                 (user_id, version, kind, amount, held_amount, balance, held, hold) \
             VALUES (9, 1, 'change', {max}, 0, {max}, 0, NULL), \
                 (9, 2, 'hold', -5, {held}, {max} - 5, {held}, 2); \
             INSERT INTO holds (user_id, hold, amount, captured, state, created_at, expires_at) \
             VALUES (9, 2, {held}, 0, 'open', '2026-01-01', '2026-01-02')"
        )
    };
    plant(&rich(5), &[]).await;
    let found = [(Kind::FundsOutOfRange, 9, Some(2)), (Kind::MalformedEntry, 9, Some(2))];
    plant(&rich(6), &found).await;
}

#[tokio::test]
async fn a_time_that_runs_backwards_is_found() {
    let earlier = "created_at - interval '1 microsecond'";
    plant(
        &format!(
            "UPDATE balance_changes SET created_at = {earlier} WHERE user_id = 1 AND version = 2"
        ),
        &[(Kind::TimeBackwards, 1, Some(2))],
    )
    .await;
    plant(
        "UPDATE users SET changed_at = changed_at - interval '1 microsecond' WHERE id = 1",
        &[(Kind::TimeBackwards, 1, Some(3))],
    )
    .await;
    // Two changes may have the same time, and the user's may be later than the last one.
    plant("UPDATE users SET changed_at = changed_at + interval '1 hour'", &[]).await;
}

#[tokio::test]
async fn changes_of_a_user_who_does_not_exist_are_found() {
    plant(
        "INSERT INTO balance_changes (user_id, version, amount, balance) \
         VALUES (7, 1, 5, 5), (7, 2, 5, 10)",
        &[(Kind::NoSuchUser, 7, Some(2))],
    )
    .await;
    plant(
        "DELETE FROM user_creation_keys; DELETE FROM users WHERE id = 1",
        &[(Kind::NoSuchUser, 1, Some(3))],
    )
    .await;
}

#[tokio::test]
async fn a_key_without_its_change_is_found() {
    let insert = "INSERT INTO idempotency_keys (user_id, key, fingerprint, answer) VALUES";
    let found = |user, version| [(Kind::KeyWithoutChange, user, version)];
    plant(&format!("{insert} (2, 'b', 'change -20', '{{9980}}')"), &found(2, None)).await;
    let other = "UPDATE idempotency_keys SET fingerprint = 'change 11' WHERE key = 'c'";
    plant(other, &found(1, Some(3))).await;
    let reference = "UPDATE idempotency_keys SET fingerprint = 'change 10 rent' WHERE key = 'c'";
    plant(reference, &found(1, Some(3))).await;
    let both =
        format!("{reference}; UPDATE balance_changes SET reference = 'rent' WHERE key = 'c'");
    plant(&both, &[]).await;
    plant("UPDATE idempotency_keys SET answer = '{9991}' WHERE key = 'c'", &found(1, Some(3)))
        .await;
    plant("UPDATE balance_changes SET key = NULL WHERE key = 'c'", &found(1, None)).await;
}

#[tokio::test]
async fn a_second_change_with_a_stored_key_is_found() {
    let again = "INSERT INTO balance_changes (user_id, version, amount, balance, key) \
                 VALUES (1, 4, -20, 9970, 'b'); \
                 UPDATE users SET balance = 9970, version = 4 WHERE id = 1";
    plant(again, &[(Kind::KeyWithoutChange, 1, Some(4))]).await;
}

#[tokio::test]
async fn a_key_that_expired_and_was_used_again_is_no_violation() {
    // The change of the first use stays in the journal. The key belongs to the second change.
    let again = "INSERT INTO balance_changes (user_id, version, amount, balance, key) \
                 VALUES (1, 4, -20, 9970, 'b'); \
                 UPDATE users SET balance = 9970, version = 4 WHERE id = 1; \
                 UPDATE idempotency_keys SET answer = '{9970}' WHERE key = 'b'";
    plant(again, &[]).await;
    plant("DELETE FROM idempotency_keys", &[]).await;
    plant("UPDATE idempotency_keys SET answer = NULL WHERE key = 'b'", &[]).await;
}

#[tokio::test]
async fn a_creation_key_without_its_user_is_found() {
    let found = |user, version| [(Kind::CreationWithoutUser, user, version)];
    let insert = "INSERT INTO user_creation_keys (key, balance, user_id) VALUES";
    plant(&format!("{insert} ('x', 0, 7)"), &found(7, None)).await;
    plant(&format!("{insert} ('x', 9999, 1)"), &found(1, Some(1))).await;
    plant(&format!("{insert} ('x', 5, 2)"), &found(2, None)).await;
}

#[tokio::test]
async fn numbers_at_the_ends_of_64_bits_neither_overflow_nor_hide() {
    let rich = "INSERT INTO users (id, balance, version) \
                SELECT id, 9223372036854775807, 1 FROM generate_series(8, 10) AS id; \
                INSERT INTO balance_changes (user_id, version, amount, balance) \
                SELECT id, 1, 9223372036854775807, 9223372036854775807 \
                FROM generate_series(8, 10) AS id";
    let mut books = Books::open().await;
    books.run(rich).await;
    let report = books.verify().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.sum_of_balances, 3 * i128::from(i64::MAX) + 9_990);

    let min = i64::MIN;
    let max = i64::MAX;
    let extremes = format!(
        "INSERT INTO users (id, balance, version) VALUES (9, {min}, {max}); \
         INSERT INTO balance_changes (user_id, version, amount, balance) \
         VALUES (9, 1, {max}, {max}), (9, 2, {max}, {min}), \
         (9, 3, {max}, {max}), (9, {max}, {min}, {max})"
    );
    plant(
        &extremes,
        &[
            (Kind::BalanceBelowZero, 9, Some(max)),
            (Kind::BalanceMismatch, 9, Some(max)),
            (Kind::VersionGap, 9, Some(max)),
            (Kind::WrongSum, 9, Some(2)),
            (Kind::WrongSum, 9, Some(3)),
            (Kind::JournalBelowZero, 9, Some(2)),
        ],
    )
    .await;
}

#[tokio::test]
async fn all_violations_are_counted_and_the_first_of_each_kind_are_kept() {
    let mut books = Books::open().await;
    books
        .run("INSERT INTO users (id, balance) SELECT id, 1 FROM generate_series(100, 4099) id")
        .await;
    let report = books.verify().await;
    let [found] = &report.violations[..] else { panic!("one kind: {report}") };
    assert_eq!((found.kind, found.count), (Kind::BalanceMismatch, 4_000));
    let users: Vec<i64> = found.first.iter().map(|violation| violation.user).collect();
    assert_eq!(users, (100..).take(FIRST_MAX).collect::<Vec<_>>());
    assert_eq!(report.violation_count(), 4_000);
    let text = report.to_string();
    assert!(
        text.starts_with("FAIL: 4000 × balance that its journal does not end with\n"),
        "{text}"
    );
    assert!(
        text.contains("user 100, version 0: the journal ends with 0, the balance is 1"),
        "{text}"
    );
    assert!(text.ends_with("and 3980 more\n"), "{text}");
}
