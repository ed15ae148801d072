//! One suite for every approach: answers are exact under contention. Approaches run alone and mixed,
//! without and with keys, through two instances of the service on one database.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll::approach::registry;
use tokio::task::JoinSet;

use crate::service::{Answer, TestService, balance_body, insufficient, stop_both, two_instances};

/// The changes of one run, and the approaches that they go through.
struct Workload {
    names: Vec<&'static str>,
    /// Whether each change has its own key.
    keyed: bool,
    amounts: Vec<i64>,
}

/// Sends all changes to one user from 64 concurrent clients. The changes alternate between the
/// instances and rotate through the approaches, so that each instance serves each approach.
async fn run_workload(
    instances: &[Arc<TestService>; 2],
    user: i64,
    workload: Workload,
) -> Vec<(i64, Answer)> {
    let (next, workload) = (Arc::new(AtomicUsize::new(0)), Arc::new(workload));
    let mut clients = JoinSet::new();
    for _ in 0..64 {
        let (instances, next) = (instances.clone(), Arc::clone(&next));
        let workload = Arc::clone(&workload);
        clients.spawn(async move {
            let mut answers = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(&amount) = workload.amounts.get(i) else { return answers };
                let name = workload.names[i / 2 % workload.names.len()];
                let service = &instances[i % 2];
                let answer = if workload.keyed {
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

/// Every approach alone, and all of them at once, each without keys and with keys.
fn workloads(amounts: &[i64]) -> Vec<(String, Workload)> {
    let names: Vec<&'static str> = registry::names().collect();
    let approach_sets = names.iter().map(|name| vec![*name]).chain([names.clone()]);
    let workload = |names: &Vec<_>, keyed| {
        let title = format!("{names:?}{}", if keyed { ", with keys" } else { "" });
        (title, Workload { names: names.clone(), keyed, amounts: amounts.to_vec() })
    };
    approach_sets.flat_map(|names| [workload(&names, false), workload(&names, true)]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_2000_withdrawals_exactly_the_affordable_ones_succeed_each_with_its_own_balance() {
    let instances = two_instances(None).await;
    for (title, workload) in workloads(&[-2; 2_000]) {
        let user = instances[0].user_with(2_001).await;
        let answers = run_workload(&instances, user, workload).await;
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
    // The amounts sum to about zero and the start is low, so the balance often reaches zero.
    let amounts: Vec<i64> = (0..1_000).map(|i| [7, -3, -5, 2, -9, 8][i % 6]).collect();
    for (title, workload) in workloads(&amounts) {
        let user = instances[0].user_with(5).await;
        let mut sum = 5;
        for (amount, answer) in run_workload(&instances, user, workload).await {
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
    for (title, workload) in workloads(&[1, -1, 0, -1_000].repeat(100)) {
        let user = instances[0].user_with(100).await;
        let answers = run_workload(&instances, user, workload).await;
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
