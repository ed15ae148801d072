//! One suite for every approach: exact under contention, alone and mixed, through two instances of
//! the service on one database, without and with keys.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll::approach;
use tokio::task::JoinSet;

use crate::service::{Answer, TestService, balance_body, insufficient, stop_both, two_instances};

/// What every test here is repeated for.
struct Contest {
    names: Vec<&'static str>,
    /// Whether each change has a key, of its own.
    keyed: bool,
    amounts: Vec<i64>,
}

/// Sends all changes to one user through 64 clients at once; the changes go through the approaches
/// round and round, and each approach of both instances.
async fn contend(
    instances: &[Arc<TestService>; 2],
    user: i64,
    contest: Contest,
) -> Vec<(i64, Answer)> {
    let (next, contest) = (Arc::new(AtomicUsize::new(0)), Arc::new(contest));
    let mut clients = JoinSet::new();
    for _ in 0..64 {
        let (instances, next) = (instances.clone(), Arc::clone(&next));
        let contest = Arc::clone(&contest);
        clients.spawn(async move {
            let mut answers = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(&amount) = contest.amounts.get(i) else { return answers };
                let name = contest.names[i / 2 % contest.names.len()];
                let service = &instances[i % 2];
                let answer = if contest.keyed {
                    let (answer, replayed) =
                        service.keyed(name, user, amount, &format!("k{i}")).await;
                    assert!(!replayed, "{name}: each key is used once");
                    answer
                } else {
                    service.change(name, user, amount).await
                };
                answers.push((amount, answer));
            }
        });
    }
    clients.join_all().await.into_iter().flatten().collect()
}

/// Every approach alone and all of them at once; without keys and with keys.
fn contests(amounts: &[i64]) -> Vec<(String, Contest)> {
    let names: Vec<&'static str> = approach::names().collect();
    let line_ups = names.iter().map(|name| vec![*name]).chain([names.clone()]);
    let contest = |names: &Vec<_>, keyed| {
        let title = format!("{names:?}{}", if keyed { ", with keys" } else { "" });
        (title, Contest { names: names.clone(), keyed, amounts: amounts.to_vec() })
    };
    line_ups.flat_map(|names| [contest(&names, false), contest(&names, true)]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_2000_withdrawals_exactly_the_affordable_ones_succeed_each_with_its_own_balance() {
    let instances = two_instances(None).await;
    for (title, contest) in contests(&[-2; 2_000]) {
        let user = instances[0].user_with(2_001).await;
        let answers = contend(&instances, user, contest).await;
        let expected: BTreeSet<Answer> =
            (0..1_000).map(|i| (200, balance_body(1 + 2 * i))).collect();
        let accepted: Vec<&Answer> =
            answers.iter().map(|(_, answer)| answer).filter(|answer| answer.0 == 200).collect();
        assert_eq!(accepted.len(), 1_000, "{title}");
        assert_eq!(accepted.into_iter().cloned().collect::<BTreeSet<_>>(), expected, "{title}");
        let refused = answers.iter().filter(|(_, answer)| *answer == insufficient()).count();
        assert_eq!(refused, 1_000, "{title}");
        assert_eq!(instances[0].balance_of(user).await, 1, "{title}");
    }
    stop_both(instances).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_deposits_and_withdrawals_add_up_and_never_cross_the_line() {
    let instances = two_instances(None).await;
    // Sums to zero, and starts so low that the line is reached all the time.
    let amounts: Vec<i64> = (0..1_000).map(|i| [7, -3, -5, 2, -9, 8][i % 6]).collect();
    for (title, contest) in contests(&amounts) {
        let user = instances[0].user_with(5).await;
        let mut sum = 5;
        for (amount, answer) in contend(&instances, user, contest).await {
            match answer.0 {
                200 => sum += amount,
                _ => {
                    assert_eq!(answer, insufficient(), "{title}");
                    assert!(amount < 0, "{title}: a deposit was refused");
                }
            }
        }
        assert_eq!(instances[0].balance_of(user).await, sum, "{title}");
        assert!(sum >= 0, "{title}");
    }
    stop_both(instances).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_change_counts_one_version() {
    let instances = two_instances(None).await;
    for (title, contest) in contests(&[1, -1, 0, -1_000].repeat(100)) {
        let user = instances[0].user_with(100).await;
        let answers = contend(&instances, user, contest).await;
        let accepted =
            answers.iter().filter(|(amount, (status, _))| *amount != 0 && *status == 200);
        // The opening balance is the first row.
        let rows = i64::try_from(1 + accepted.count()).unwrap();
        let version: i64 = sqlx::query_scalar("SELECT version FROM users WHERE id = $1")
            .bind(user)
            .fetch_one(&instances[0].pool)
            .await
            .unwrap();
        assert_eq!(version, rows, "{title}");
        assert_eq!(instances[0].journal_rows(user).await, rows, "{title}");
    }
    stop_both(instances).await;
}
