//! Holds: money is set aside, and taken or given back once.

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use super::{capture, entries, funds, let_expire, parse, post, release, reserve, state, total};
use crate::service::{TestService, error_body, insufficient, stop_both, two_instances};

#[tokio::test]
async fn a_hold_counts_against_the_balance_from_its_answer_on() {
    let service = TestService::start().await;
    let user = service.user_with(500).await;
    let path = format!("/users/{user}/holds");
    let response = service.send(reqwest::Method::POST, &path, Some(json!({ "amount": 300 }))).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["location"], format!("/users/{user}/holds/2").as_str());
    let body = parse(&response.text().await.unwrap());
    assert_eq!((&body["hold"], &body["amount"]), (&json!(2), &json!(300)));
    assert_eq!((&body["balance"], &body["held"]), (&json!(200), &json!(300)));
    for name in plimsoll::approach::registry::names() {
        assert_eq!(service.change(name, user, -201).await, insufficient(), "{name}");
    }
    assert_eq!(super::transfer(&service, user, 1, 201).await, insufficient());
    let (answer, _) = post(&service, &path, json!({ "amount": 201 }), None).await;
    assert_eq!(answer, insufficient());
    let entry = entries(&service, user).await.remove(1);
    assert_eq!((entry.kind.as_str(), entry.amount, entry.held_amount), ("hold", -300, 300));
    assert_eq!((entry.balance, entry.held, entry.hold), (200, 300, Some(2)));
    service.stop().await;
}

#[tokio::test]
async fn a_hold_lasts_a_week_unless_it_is_told_otherwise() {
    let service = TestService::start().await;
    for (seconds, expected) in [(None, 604_800_i64), (Some(1), 1), (Some(31_536_000), 31_536_000)] {
        let body = json!({ "amount": 1, "expiresInSeconds": seconds });
        let (answer, _) = post(&service, "/users/1/holds", body, None).await;
        let hold = parse(&answer.1)["hold"].as_i64().unwrap();
        let (lasts, shown): (i64, bool) = sqlx::query_as(
            "SELECT extract(epoch FROM h.expires_at - c.created_at)::bigint, \
             h.expires_at = $2::timestamptz \
             FROM holds h JOIN balance_changes c ON c.user_id = 1 AND c.version = h.hold \
             WHERE h.user_id = 1 AND h.hold = $1",
        )
        .bind(hold)
        .bind(parse(&answer.1)["expiresAt"].as_str().unwrap())
        .fetch_one(&service.pool)
        .await
        .unwrap();
        assert_eq!((lasts, shown), (expected, true));
    }
    for seconds in [json!(0), json!(31_536_001), json!(-1), json!(1.5), json!("1")] {
        let body = json!({ "amount": 1, "expiresInSeconds": seconds });
        let (answer, _) = post(&service, "/users/1/holds", body, None).await;
        let sentence = "expiresInSeconds must be a whole number from 1 to 31536000";
        assert_eq!(answer, (400, error_body(sentence)), "{seconds}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_capture_takes_what_it_says_and_gives_the_rest_back() {
    let service = TestService::start().await;
    let (user, payee) = (service.user_with(1_000).await, service.user_with(0).await);
    let [all, part, paid] =
        [reserve(&service, user, 100).await, reserve(&service, user, 100).await, {
            reserve(&service, user, 100).await
        }];
    assert_eq!(funds(&service, user).await, (700, 300));
    let body = json!({ "captured": 100, "balance": 700, "held": 200 });
    assert_eq!(capture(&service, user, all, json!({})).await, (200, body.to_string()));
    let body = json!({ "captured": 30, "balance": 770, "held": 100 });
    assert_eq!(
        capture(&service, user, part, json!({ "amount": 30 })).await,
        (200, body.to_string())
    );
    let beyond = (422, error_body("amount must not be more than the hold's 100"));
    assert_eq!(capture(&service, user, paid, json!({ "amount": 101 })).await, beyond);
    let body = json!({ "captured": 60, "balance": 810, "held": 0 });
    let answer = capture(&service, user, paid, json!({ "amount": 60, "to": payee })).await;
    assert_eq!(answer, (200, body.to_string()));
    assert_eq!(funds(&service, payee).await, (60, 0));
    let (owner, other) = (entries(&service, user).await, entries(&service, payee).await);
    let (owner, other) = (owner.last().unwrap(), other.last().unwrap());
    assert_eq!((owner.kind.as_str(), owner.amount, owner.held_amount), ("capture", 40, -100));
    assert_eq!((owner.peer_user, owner.peer_version), (Some(payee), Some(other.version)));
    assert_eq!((other.kind.as_str(), other.amount, other.held_amount), ("capture", 60, 0));
    assert_eq!((other.peer_user, other.peer_version), (Some(user), Some(owner.version)));
    assert_eq!((owner.hold, other.hold), (Some(paid), None));
    service.stop().await;
}

#[tokio::test]
async fn a_resolved_hold_says_how_it_ended_and_a_wrong_one_says_what_is_missing() {
    let service = TestService::start().await;
    let user = service.user_with(100).await;
    let holds = [
        reserve(&service, user, 10).await,
        reserve(&service, user, 10).await,
        reserve(&service, user, 10).await,
    ];
    assert_eq!(capture(&service, user, holds[0], json!({})).await.0, 200);
    let body = json!({ "balance": 80, "held": 10 }).to_string();
    assert_eq!(release(&service, user, holds[1]).await, (200, body));
    assert!(let_expire(&service, user, holds[2]).await);
    for (hold, end) in holds.into_iter().zip(["captured", "released", "expired"]) {
        let answer = (409, error_body(&format!("The hold is {end}")));
        assert_eq!(capture(&service, user, hold, json!({ "amount": 1 })).await, answer);
        assert_eq!(capture(&service, user, hold, json!({ "amount": 99 })).await, answer);
        assert_eq!(release(&service, user, hold).await, answer);
        assert_eq!(state(&service, user, hold).await, end);
    }
    assert_eq!(funds(&service, user).await, (90, 0));
    let no_hold = (404, error_body("Hold not found"));
    assert_eq!(release(&service, user, 77).await, no_hold);
    assert_eq!(capture(&service, 1, holds[0], json!({})).await, no_hold);
    assert_eq!(release(&service, 1_000_000, 1).await, (404, error_body("User not found")));
    let open = reserve(&service, user, 10).await;
    for (to, answer) in [
        (user, (400, error_body("to must be another user than the hold's"))),
        (1_000_000, (404, error_body("to: User not found"))),
        (service.user_with(i64::MAX).await, (400, error_body("to: Balance out of range"))),
    ] {
        assert_eq!(capture(&service, user, open, json!({ "to": to })).await, answer);
    }
    assert_eq!(state(&service, user, open).await, "open");
    service.stop().await;
}

/// 64 clients capture, release and let expire one hold at once, through two instances.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_who_resolve_a_hold_at_once_one_wins_and_the_others_learn_how_it_ended() {
    let instances = two_instances(None).await;
    let (user, payee) = (instances[0].user_with(1_000).await, instances[0].user_with(0).await);
    let before = total(&instances[0]).await;
    let mut seen = std::collections::BTreeSet::new();
    let mut captured = 0;
    for round in 0..30 {
        let hold = reserve(&instances[0], user, 10).await;
        let expires = round % 3 == 2;
        let mut clients = JoinSet::new();
        for client in 0..64_usize {
            let service = Arc::clone(&instances[client % 2]);
            clients.spawn(async move {
                match client / 2 % 4 {
                    0 => capture(&service, user, hold, json!({})).await,
                    1 => capture(&service, user, hold, json!({ "amount": 4, "to": payee })).await,
                    2 => release(&service, user, hold).await,
                    // Its time is over as well, and somebody wants the money.
                    _ if expires && client == 7 => {
                        let_expire(&service, user, hold).await;
                        (0, String::new())
                    }
                    // Looks at the holds, and is not affordable even with the money of this one.
                    _ => service.change("batched", user, -1_001).await,
                }
            });
        }
        let answers = clients.join_all().await;
        let state = state(&instances[0], user, hold).await;
        let winners = answers.iter().filter(|(status, _)| *status == 200).count();
        assert_eq!(winners, usize::from(state != "expired"), "{state}: {answers:?}");
        let lost = (409, error_body(&format!("The hold is {state}")));
        let losers = answers.iter().filter(|answer| **answer == lost).count();
        assert_eq!(losers, 48 - winners, "{state}: {answers:?}");
        if state == "captured" {
            captured += i64::from(!answers.iter().any(|(_, text)| text.contains("\"captured\":4")));
        }
        assert_eq!(funds(&instances[0], user).await.1, 0);
        seen.insert(state);
    }
    // Only captures to nobody leave the ledger.
    assert_eq!(total(&instances[0]).await, before - 10 * captured);
    assert!(seen.len() >= 2, "{seen:?}");
    stop_both(instances).await;
}
