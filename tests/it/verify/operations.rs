//! Each test breaks what one row says about another one: holds, the two sides of a payment, keys.

use plimsoll::verify::Kind;

use super::Books;
use crate::planted::ROWS;

type Places = Vec<(Kind, i64, Option<i64>)>;

/// Plants each fault in sound books with every kind of operation, and compares the violations found
/// with the expected ones.
async fn plant_each(faults: Vec<(String, Places)>) {
    let mut books = Books::open().await;
    books.drop_constraints().await;
    for (fault, expected) in faults {
        books
            .run("TRUNCATE users, balance_changes, holds, idempotency_keys, user_creation_keys")
            .await;
        books.run(ROWS).await;
        assert_eq!(books.violations().await, [], "before: {fault}");
        books.run(&fault).await;
        assert_eq!(books.violations().await, expected, "{fault}");
    }
}

/// A fault of an entry. No key is stored that would disagree with it as well.
fn entry(user: i64, version: i64, change: &str) -> String {
    format!(
        "DELETE FROM idempotency_keys; \
         UPDATE balance_changes SET {change} WHERE user_id = {user} AND version = {version}"
    )
}

fn hold(number: i64, change: &str) -> String {
    format!(
        "DELETE FROM idempotency_keys; \
         UPDATE holds SET {change} WHERE user_id = 101 AND hold = {number}"
    )
}

fn key(key: &str, change: &str) -> String {
    format!("UPDATE idempotency_keys SET {change} WHERE key = '{key}'")
}

/// Places of user 101.
fn of(kind: Kind, versions: &[i64]) -> Places {
    versions.iter().map(|version| (kind, 101, Some(*version))).collect()
}

fn sides(first: i64, second: i64) -> Places {
    vec![(Kind::PeerMismatch, 101, Some(first)), (Kind::PeerMismatch, 102, Some(second))]
}

const SUM: (Kind, i64, Option<i64>) = (Kind::OpenHoldsMismatch, 101, None);

#[tokio::test]
async fn every_kind_of_operation_is_sound() {
    let mut books = Books::open().await;
    books.run(ROWS).await;
    let report = books.verify().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.users, report.changes, report.keys), (4, 20, 14));
}

#[tokio::test]
async fn an_entry_that_its_kind_does_not_allow_is_found() {
    use Kind::{HoldMismatch, HoldResolvedAgain, MalformedEntry, WrongSum};
    let malformed = |version, more: &[Places]| {
        let malformed = of(MalformedEntry, &[version]);
        [malformed].into_iter().chain(more.iter().cloned()).flatten().collect()
    };
    let other_side = |version| vec![(Kind::PeerMismatch, 102, Some(version))];
    plant_each(vec![
        // A change.
        (entry(101, 12, "hold = 6"), malformed(12, &[of(HoldMismatch, &[12])])),
        (entry(101, 12, "peer_user = 102"), malformed(12, &[])),
        (
            entry(101, 12, "peer_user = 102, peer_version = 9"),
            malformed(12, &[of(Kind::PeerMismatch, &[12])]),
        ),
        // A transfer.
        (entry(101, 2, "peer_user = NULL, peer_version = NULL"), malformed(2, &[other_side(2)])),
        (entry(101, 2, "peer_version = NULL"), malformed(2, &[other_side(2)])),
        (entry(101, 2, "peer_user = 101"), malformed(2, &[sides(2, 2)])),
        (
            entry(101, 2, "hold = 3"),
            malformed(2, &[of(HoldMismatch, &[2, 3]), of(HoldResolvedAgain, &[7])]),
        ),
        // A hold.
        (entry(101, 6, "hold = NULL"), malformed(6, &[of(HoldMismatch, &[6])])),
        (entry(101, 6, "hold = 4"), {
            malformed(6, &[of(HoldMismatch, &[6, 6]), of(HoldResolvedAgain, &[8])])
        }),
        (entry(101, 6, "peer_user = 102"), malformed(6, &[])),
        // A capture, and the payee's side of one.
        (entry(101, 7, "hold = NULL"), malformed(7, &[of(HoldMismatch, &[3])])),
        (entry(101, 7, "peer_version = NULL"), malformed(7, &[other_side(3)])),
        (entry(102, 3, "peer_user = NULL, peer_version = NULL"), {
            vec![(MalformedEntry, 102, Some(3)), (Kind::PeerMismatch, 101, Some(7))]
        }),
        (
            entry(101, 11, "amount = 50"),
            [of(WrongSum, &[11]), malformed(11, &[of(HoldMismatch, &[11])])].concat(),
        ),
        // A release and an expiry.
        (entry(101, 8, "hold = NULL"), malformed(8, &[of(HoldMismatch, &[4])])),
        (entry(101, 8, "hold = 8"), malformed(8, &[of(HoldMismatch, &[4, 8])])),
        (
            entry(101, 8, "amount = 299"),
            [of(WrongSum, &[8]), malformed(8, &[of(HoldMismatch, &[8])])].concat(),
        ),
        (entry(101, 9, "peer_version = 1"), malformed(9, &[])),
    ])
    .await;
}

#[tokio::test]
async fn an_entry_without_its_other_side_is_found() {
    let wrong_sum = |version| vec![(Kind::WrongSum, 102, Some(version))];
    plant_each(vec![
        (entry(101, 2, "peer_version = 9"), sides(2, 2)),
        (entry(101, 2, "peer_user = 103"), sides(2, 2)),
        (entry(101, 7, "peer_version = 2"), sides(7, 3)),
        (entry(102, 3, "peer_version = 2"), sides(7, 3)),
        // Both sides of the transfer name each other, and so do two entries more.
        (entry(101, 12, "kind = 'transfer', peer_user = 102, peer_version = 2"), {
            of(Kind::PeerMismatch, &[12])
        }),
        (entry(102, 2, "kind = 'capture'"), sides(2, 2)),
        (entry(101, 2, "created_at = created_at + interval '1 microsecond'"), sides(2, 2)),
        (entry(102, 2, "amount = 501"), [wrong_sum(2), sides(2, 2)].concat()),
        (entry(102, 3, "amount = 400"), [wrong_sum(3), sides(7, 3)].concat()),
        // Only the payer has the key.
        (entry(102, 2, "key = 'pay'"), sides(2, 2)),
        (entry(102, 3, "key = 'x'"), sides(7, 3)),
        // Numbers at their ends do not end the check.
        (
            entry(102, 2, "amount = -9223372036854775808, held_amount = -9223372036854775808"),
            [wrong_sum(2), wrong_sum(2), vec![(Kind::MalformedEntry, 102, Some(2))], sides(2, 2)]
                .concat(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_hold_that_its_journal_does_not_explain_is_found() {
    let mismatch = |versions: &[i64]| of(Kind::HoldMismatch, versions);
    let with_sum = |versions: &[i64]| [vec![SUM], mismatch(versions)].concat();
    let missing =
        |number| format!("DELETE FROM idempotency_keys; DELETE FROM holds WHERE hold = {number}");
    plant_each(vec![
        (missing(3), mismatch(&[3, 7])),
        (missing(6), with_sum(&[6])),
        (
            "INSERT INTO holds SELECT 999, 5, 7, 0, 'open', now(), now() + interval '1 day'".into(),
            vec![(Kind::OpenHoldsMismatch, 999, None), (Kind::HoldMismatch, 999, Some(5))],
        ),
        // What made it.
        (hold(4, "amount = 301"), mismatch(&[4, 8])),
        (hold(6, "amount = 101"), with_sum(&[6])),
        (hold(4, "created_at = created_at + interval '1 microsecond'"), mismatch(&[4])),
        // What resolved it.
        (hold(3, "captured = 251"), mismatch(&[7])),
        (hold(3, "state = 'released', captured = 0"), mismatch(&[7])),
        (hold(4, "state = 'expired', expires_at = resolved_at"), mismatch(&[8])),
        (hold(4, "state = 'open', resolved_at = NULL"), with_sum(&[8])),
        (hold(4, "resolved_at = resolved_at + interval '1 microsecond'"), mismatch(&[8])),
        (hold(6, "state = 'released', resolved_at = now() - interval '5 years'"), with_sum(&[6])),
        (entry(101, 9, "key = 'x'"), mismatch(&[9])),
        // Its own columns.
        (hold(3, "captured = 0"), mismatch(&[3])),
        (hold(3, "captured = 401"), mismatch(&[3])),
        (hold(3, "resolved_at = NULL"), mismatch(&[3])),
        (hold(3, "expires_at = resolved_at"), mismatch(&[3])),
        (hold(4, "captured = 1"), mismatch(&[4])),
        (hold(4, "expires_at = resolved_at"), mismatch(&[4])),
        (hold(5, "expires_at = expires_at + interval '1 microsecond'"), mismatch(&[5])),
        (hold(6, "captured = 1"), mismatch(&[6])),
        (hold(6, "resolved_at = created_at"), mismatch(&[6])),
        (hold(6, "expires_at = created_at"), mismatch(&[6])),
        (hold(4, "amount = 0"), mismatch(&[4])),
        (hold(4, "amount = -9223372036854775808"), mismatch(&[4])),
    ])
    .await;
}

#[tokio::test]
async fn a_hold_that_is_resolved_again_is_found() {
    let again = |kind: &str, number: i64, amount: i64| {
        format!(
            "INSERT INTO balance_changes (user_id, version, kind, amount, held_amount, balance, \
                 held, created_at, hold) \
             SELECT id, 13, '{kind}', {amount}, -{amount}, balance + {amount}, held - {amount}, \
                 changed_at, {number} FROM users WHERE id = 101; \
             UPDATE users SET balance = balance + {amount}, held = held - {amount}, version = 13 \
             WHERE id = 101"
        )
    };
    let found = || vec![SUM, (Kind::HoldResolvedAgain, 101, Some(13))];
    plant_each(vec![
        (again("expiry", 10, 50), found()),
        (again("release", 10, 50), found()),
        // Its time is over, and its expiry is the first entry that resolves it.
        (
            again("expiry", 6, 100)
                + "; UPDATE holds SET state = 'expired', resolved_at = changed_at, \
                    expires_at = changed_at FROM users WHERE id = user_id AND hold = 6",
            vec![],
        ),
    ])
    .await;
}

#[tokio::test]
async fn held_money_that_the_open_holds_do_not_add_up_to_is_found() {
    plant_each(vec![
        (
            "UPDATE users SET held = 99 WHERE id = 101".into(),
            vec![(Kind::HeldMismatch, 101, Some(12)), SUM],
        ),
        (
            "UPDATE users SET held = 1 WHERE id = 102".into(),
            vec![(Kind::HeldMismatch, 102, Some(5)), (Kind::OpenHoldsMismatch, 102, None)],
        ),
        // Both are wrong by as much.
        (
            "UPDATE users SET held = 99, balance = 9081 WHERE id = 101; \
             UPDATE balance_changes SET amount = -99, held_amount = 99, balance = balance + 1, \
                 held = held - 1 WHERE user_id = 101 AND version = 6; \
             UPDATE balance_changes SET balance = balance + 1, held = held - 1 \
             WHERE user_id = 101 AND version > 6; \
             DELETE FROM idempotency_keys"
                .into(),
            [vec![SUM], of(Kind::HoldMismatch, &[6])].concat(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_key_without_its_effect_is_found() {
    let without = |user, version| vec![(Kind::KeyWithoutChange, user, version)];
    let other = |version| without(101, Some(version));
    let mut faults = Vec::new();
    for (name, version, fingerprints, answers) in [
        (
            "pay",
            2,
            &["transfer 102 501 rent 11", "transfer 103 500 rent 11", "transfer 102 500"][..],
            &["{9501,2,10500,2}", "{9500,3,10500,2}", "{9500,2,10501,2}", "{9500,2,10500,3}"][..],
        ),
        (
            "reserve",
            3,
            &["hold 401 604800 room 12", "hold 400 604801 room 12", "hold 400 604800 room 1"],
            &[
                "{4,9100,400,1738929603000001}",
                "{3,9101,400,1738929603000001}",
                "{3,9100,401,1738929603000001}",
                "{3,9100,400,1738929603000000}",
                "{3,9100,400}",
            ],
        ),
        (
            "capture",
            7,
            &["capture 4 250 102", "capture 3 251 102", "capture 3 all 102", "capture 3 250 -"],
            &["{251,8650,600}", "{250,8651,600}", "{250,8650,601}", "{250,8650}"],
        ),
        ("all of it", 11, &["capture 10 all 102", "capture 10 49 -"], &["{49,9100,100}"]),
        ("release", 8, &["release 5"], &["{8951,300}", "{8950,301}"]),
    ] {
        for fingerprint in fingerprints {
            let fault = key(name, &format!("fingerprint = '{fingerprint}'"));
            faults.push((fault, other(version)));
        }
        for answer in answers {
            faults.push((key(name, &format!("answer = '{answer}'")), other(version)));
        }
        let lost = format!("UPDATE balance_changes SET key = NULL WHERE key = '{name}'");
        faults.push((lost, without(101, None)));
    }
    faults.push(("UPDATE holds SET expires_at = 'infinity' WHERE hold = 3".into(), other(3)));
    // What was refused has no effect, and a capture of everything may say how much that is.
    faults.push((key("no money", "fingerprint = 'transfer 102 50000 x'"), vec![]));
    faults.push((key("all of it", "fingerprint = 'capture 10 50 -'"), vec![]));
    // The two versions of a transfer differ.
    faults.push((
        "UPDATE users SET balance = balance - 5, version = 13 WHERE id = 101; \
         UPDATE users SET balance = balance + 5, version = 6 WHERE id = 102; \
         INSERT INTO balance_changes (user_id, version, kind, amount, held_amount, balance, held, \
             created_at, key, peer_user, peer_version) \
         SELECT id, version, 'transfer', CASE id WHEN 101 THEN -5 ELSE 5 END, 0, balance, held, \
             changed_at, CASE id WHEN 101 THEN 'more' END, \
             CASE id WHEN 101 THEN 102 ELSE 101 END, CASE id WHEN 101 THEN 6 ELSE 13 END \
         FROM users WHERE id IN (101, 102); \
         INSERT INTO idempotency_keys (user_id, key, fingerprint, answer) \
         VALUES (101, 'more', 'transfer 102 5', '{9075,13,10750,6}')"
            .into(),
        vec![],
    ));
    plant_each(faults).await;
}

#[tokio::test]
async fn a_second_operation_with_a_stored_key_is_found() {
    let again = |user: i64, key: &str| {
        format!(
            "INSERT INTO balance_changes (user_id, version, kind, amount, held_amount, balance, \
                 held, created_at, key) \
             SELECT id, version + 1, 'change', -1, 0, balance - 1, held, changed_at, '{key}' \
             FROM users WHERE id = {user}; \
             UPDATE users SET balance = balance - 1, version = version + 1 WHERE id = {user}"
        )
    };
    let mut faults: Vec<(String, Places)> = Vec::new();
    for key in ["pay", "reserve", "capture", "all of it", "release"] {
        faults.push((again(101, key), vec![(Kind::KeyWithoutChange, 101, Some(13))]));
    }
    faults.push((again(102, "bulk"), vec![(Kind::KeyWithoutChange, 102, Some(6))]));
    // The key has expired, and was used again.
    let stored = "UPDATE idempotency_keys SET fingerprint = 'change -1', answer = '{9079}'";
    faults.push((format!("{}; {stored} WHERE key = 'pay'", again(101, "pay")), vec![]));
    let bulk = "UPDATE idempotency_keys SET answer = '{7,10744}' WHERE key = 'bulk'";
    faults.push((format!("{}; {bulk}", again(102, "bulk")), vec![]));
    // A bulk may have changed nothing of its owner, so that its key has no entry.
    let nothing = "UPDATE idempotency_keys SET answer = '{7}' WHERE key = 'bulk'";
    faults.push((nothing.into(), vec![]));
    faults.push(("UPDATE balance_changes SET key = NULL WHERE key = 'bulk'".into(), vec![]));
    plant_each(faults).await;
}
