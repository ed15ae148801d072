//! One suite for every approach: exact under contention, alone and mixed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll::approach;

use crate::service::{Answer, TestService, balance_body, insufficient};

/// Sends `amounts` to one user through `clients` connections at once; change `i` goes through
/// approach `i` of `names`, round and round.
async fn contend(
    service: &Arc<TestService>,
    names: &[&'static str],
    user: i64,
    amounts: &Arc<Vec<i64>>,
    clients: usize,
) -> Vec<(i64, Answer)> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let (service, next, amounts) =
            (Arc::clone(service), Arc::clone(&next), Arc::clone(amounts));
        let names = names.to_vec();
        tasks.push(tokio::spawn(async move {
            let mut answers = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(&amount) = amounts.get(i) else { return answers };
                answers.push((amount, service.change(names[i % names.len()], user, amount).await));
            }
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all
}

/// Every approach alone, and all of them at once.
fn line_ups() -> Vec<Vec<&'static str>> {
    let names: Vec<&'static str> = approach::names().collect();
    let mut all: Vec<_> = names.iter().map(|name| vec![*name]).collect();
    all.push(names);
    all
}

fn finish(service: Arc<TestService>) -> TestService {
    Arc::into_inner(service).expect("all clients are done")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_2000_withdrawals_exactly_the_affordable_ones_succeed_each_with_its_own_balance() {
    let service = Arc::new(TestService::start().await);
    let amounts = Arc::new(vec![-2; 2_000]);
    for names in line_ups() {
        let user = service.user_with(2_001).await;
        let answers = contend(&service, &names, user, &amounts, 64).await;
        let expected: BTreeSet<Answer> =
            (0..1_000).map(|i| (200, balance_body(1 + 2 * i))).collect();
        let accepted: Vec<&Answer> =
            answers.iter().map(|(_, answer)| answer).filter(|answer| answer.0 == 200).collect();
        assert_eq!(accepted.len(), 1_000, "{names:?}");
        assert_eq!(accepted.into_iter().cloned().collect::<BTreeSet<_>>(), expected, "{names:?}");
        let refused = answers.iter().filter(|(_, answer)| *answer == insufficient()).count();
        assert_eq!(refused, 1_000, "{names:?}");
        assert_eq!(service.balance_of(user).await, 1, "{names:?}");
    }
    finish(service).stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_deposits_and_withdrawals_add_up_and_never_cross_the_line() {
    let service = Arc::new(TestService::start().await);
    // Sums to zero, and starts so low that the line is reached all the time.
    let amounts: Arc<Vec<i64>> =
        Arc::new((0..2_000).map(|i| [7, -3, -5, 2, -9, 8][i % 6]).collect());
    for names in line_ups() {
        let user = service.user_with(5).await;
        let answers = contend(&service, &names, user, &amounts, 64).await;
        let mut sum = 5;
        for (amount, answer) in answers {
            match answer.0 {
                200 => sum += amount,
                _ => {
                    assert_eq!(answer, insufficient(), "{names:?}");
                    assert!(amount < 0, "{names:?}: a deposit was refused");
                }
            }
        }
        assert_eq!(service.balance_of(user).await, sum, "{names:?}");
        assert!(sum >= 0, "{names:?}");
    }
    finish(service).stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_change_counts_one_version() {
    let service = Arc::new(TestService::start().await);
    let amounts = Arc::new([1, -1, 0, -1_000].repeat(100));
    for names in line_ups() {
        let user = service.user_with(100).await;
        let answers = contend(&service, &names, user, &amounts, 16).await;
        let accepted =
            answers.iter().filter(|(amount, (status, _))| *amount != 0 && *status == 200);
        let version: i64 = sqlx::query_scalar("SELECT version FROM users WHERE id = $1")
            .bind(user)
            .fetch_one(&service.pool)
            .await
            .unwrap();
        // The opening balance is the first.
        assert_eq!(usize::try_from(version).unwrap(), 1 + accepted.count(), "{names:?}");
    }
    finish(service).stop().await;
}
