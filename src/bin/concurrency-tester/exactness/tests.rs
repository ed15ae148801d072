//! Generates valid runs and plants faults into them. Each fault must be found under its own name.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

fn accepted(balance: impl std::fmt::Display) -> Reply {
    answer(200, &format!(r#"{{"balance":{balance}}}"#))
}

fn refused() -> Reply {
    answer(400, r#"{"error":"Insufficient funds"}"#)
}

fn answer(status: u16, body: &str) -> Reply {
    Reply::Answer { status, body: body.as_bytes().into() }
}

/// The answers of a correct service, in the order in which it served the requests.
fn correct_replies(terms: Terms, requests: usize) -> Vec<Reply> {
    let acceptable = terms.acceptable(requests);
    let balances = (1..=acceptable).map(|place| accepted(terms.balance_after(place)));
    balances.chain(std::iter::repeat_with(refused)).take(requests).collect()
}

fn correct_final_balance(terms: Terms, requests: usize) -> Result<i64, String> {
    Ok(i64::try_from(terms.balance_after(terms.acceptable(requests))).unwrap())
}

fn slugs(findings: &Findings) -> Vec<String> {
    findings.violations.iter().map(|violation| violation.kind.slug()).collect()
}

/// The findings on ten withdrawals of 2 from 10, after `fault` has changed the replies, which are
/// 8, 6, 4, 2, 0 and five refusals.
fn findings_after(fault: impl FnOnce(&mut Vec<Reply>)) -> Findings {
    let terms = Terms { start: 10, amount: -2 };
    let mut replies = correct_replies(terms, 10);
    fault(&mut replies);
    check(terms, &replies, &Ok(0))
}

#[test]
fn half_of_ten_thousand_withdrawals_is_exact() {
    let terms = Terms { start: 10_000, amount: -2 };
    let findings = check(terms, &correct_replies(terms, 10_000), &Ok(0));
    assert!(findings.exact(), "{:?}", findings.violations);
    assert_eq!((findings.accepted, findings.refused, findings.wrong), (5_000, 5_000, 0));
}

#[test]
fn a_lost_update_is_a_repeated_balance_and_one_accepted_too_many() {
    let findings = findings_after(|replies| replies[5] = accepted(4));
    assert_eq!(slugs(&findings), ["too-many-accepted", "repeated-balance"]);
    assert_eq!(findings.violations[1].examples, ["balance 4: requests 3 and 6"]);
    assert_eq!((findings.accepted, findings.refused, findings.wrong), (5, 4, 1));
}

#[test]
fn two_equal_balances_in_the_right_number_of_acceptances_are_found() {
    let findings = findings_after(|replies| replies[1] = accepted(8));
    assert_eq!(slugs(&findings), ["repeated-balance", "missing-balance"]);
    assert_eq!(findings.violations[1].examples, ["balance 6"]);
}

#[test]
fn a_balance_between_the_steps_and_one_beyond_the_start_cannot_come_about() {
    for balance in [7, 10, 12, i64::MAX] {
        let findings = findings_after(|replies| replies[0] = accepted(balance));
        assert_eq!(slugs(&findings), ["impossible-balance", "missing-balance"], "{balance}");
    }
}

#[test]
fn a_balance_below_zero_is_named_first() {
    for balance in [-2, -1, i64::MIN] {
        let findings = findings_after(|replies| replies[5] = accepted(balance));
        assert_eq!(slugs(&findings), ["negative-balance", "too-many-accepted"], "{balance}");
    }
}

#[test]
fn a_refusal_while_the_balance_can_pay_is_found() {
    let findings = findings_after(|replies| replies[4] = refused());
    assert_eq!(slugs(&findings), ["missing-balance", "refused-while-affordable"]);
    assert_eq!((findings.accepted, findings.refused, findings.wrong), (4, 5, 1));
}

#[test]
fn a_refusal_that_differs_by_one_byte_is_no_refusal() {
    for (status, body, slug) in [
        (400, r#"{"error":"Insufficient funds" }"#, "unexpected-body-400"),
        (400, r#"{"error":"Insufficient fund"}"#, "unexpected-body-400"),
        (400, r#"{"error":"userId and amount are required"}"#, "unexpected-body-400"),
        (400, "", "unexpected-body-400"),
        (409, r#"{"error":"Insufficient funds"}"#, "status-409"),
        (200, r#"{"error":"Insufficient funds"}"#, "unexpected-body-200"),
        (400, r#"{"balance":8}"#, "unexpected-body-400"),
    ] {
        let findings = findings_after(|replies| replies[9] = answer(status, body));
        assert_eq!(slugs(&findings), [slug], "{status} {body}");
        assert_eq!((findings.accepted, findings.refused, findings.wrong), (5, 4, 1));
    }
}

#[test]
fn server_errors_are_counted_by_their_status() {
    let findings = findings_after(|replies| {
        replies[7] = answer(500, r#"{"error":"Internal server error"}"#);
        replies[8] = answer(503, "");
        replies[9] = answer(503, "");
    });
    assert_eq!(slugs(&findings), ["status-500", "status-503"]);
    assert_eq!(findings.violations[1].count, 2);
}

#[test]
fn requests_without_an_answer_are_violations_of_two_kinds() {
    let findings = findings_after(|replies| {
        replies[8] = Reply::TimedOut;
        replies[9] = Reply::ConnectionLost("reset".into());
    });
    assert_eq!(slugs(&findings), ["timed-out", "connection-lost"]);
    assert_eq!(findings.wrong, 2);
}

#[test]
fn the_final_balance_counts_even_if_every_answer_is_right() {
    let terms = Terms { start: 10, amount: -2 };
    let replies = correct_replies(terms, 10);
    for final_balance in [Ok(2), Ok(-2), Err("no answer".to_owned())] {
        let findings = check(terms, &replies, &final_balance);
        assert_eq!(slugs(&findings), ["final-balance"], "{final_balance:?}");
    }
}

#[test]
fn all_replies_wrong_keep_a_few_examples_and_the_whole_count() {
    let findings = findings_after(|replies| replies.fill(Reply::TimedOut));
    let timed_out = findings.violations.iter().find(|v| v.kind == Kind::TimedOut).unwrap();
    assert_eq!((timed_out.count, timed_out.examples.len()), (10, 5));
}

/// A fault that can be planted into any run, at the position that the index selects.
#[derive(Debug, Clone)]
enum Fault {
    LoseUpdate,
    ShiftBalance,
    GoBelowZero,
    RefuseAffordable,
    ServerError,
    DropAnswer,
    ChangeOneByte(Index),
    FinalBalanceOff,
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::LoseUpdate),
        Just(Fault::ShiftBalance),
        Just(Fault::GoBelowZero),
        Just(Fault::RefuseAffordable),
        Just(Fault::ServerError),
        Just(Fault::DropAnswer),
        any::<Index>().prop_map(Fault::ChangeOneByte),
        Just(Fault::FinalBalanceOff),
    ]
}

/// Terms and a number of requests of which at least two are accepted.
fn runs() -> impl Strategy<Value = (Terms, usize)> {
    let withdrawals = (1_i64..1_000, 2_i64..400, 0_i64..1_000, 2_usize..400).prop_map(
        |(step, affordable, rest, requests)| {
            (Terms { start: step * affordable + rest % step, amount: -step }, requests)
        },
    );
    let deposits = (0_i64..1_000_000, 1_i64..1_000, 2_usize..400)
        .prop_map(|(start, amount, requests)| (Terms { start, amount }, requests));
    let at_the_limits = prop_oneof![
        Just((Terms { start: i64::MAX, amount: -(i64::MAX / 2) }, 5)),
        Just((Terms { start: 1, amount: i64::MAX / 4 }, 3)),
        Just((Terms { start: i64::MAX, amount: -1 }, 50)),
    ];
    prop_oneof![8 => withdrawals, 3 => deposits, 1 => at_the_limits]
}

/// Plants the fault into the replies, which are still in the order of service. Returns the name
/// under which the checker must find it.
fn plant(fault: &Fault, terms: Terms, replies: &mut [Reply], place: Index) -> &'static str {
    let acceptable = terms.acceptable(replies.len());
    let place = place.index(acceptable);
    match fault {
        Fault::LoseUpdate => {
            replies[place] = replies[(place + 1) % acceptable].clone();
            "repeated-balance"
        }
        Fault::ShiftBalance => {
            replies[place] = accepted(terms.balance_after(place + 1) + 1);
            // With steps of one, the neighbour of an expected balance may be expected as well.
            if terms.amount.abs() == 1 { "missing-balance" } else { "impossible-balance" }
        }
        Fault::GoBelowZero => {
            replies[place] = accepted(-terms.amount.abs());
            "negative-balance"
        }
        Fault::RefuseAffordable => {
            replies[place] = refused();
            "refused-while-affordable"
        }
        Fault::ServerError => {
            replies[place] = answer(500, r#"{"error":"Internal server error"}"#);
            "status-500"
        }
        Fault::DropAnswer => {
            replies[place] = Reply::ConnectionLost("closed".into());
            "connection-lost"
        }
        Fault::ChangeOneByte(index) => {
            let Reply::Answer { status, body } = &mut replies[place] else { unreachable!() };
            *status = 400;
            *body = REFUSAL.into();
            body[index.index(REFUSAL.len())] ^= 1;
            "unexpected-body-400"
        }
        Fault::FinalBalanceOff => "final-balance",
    }
}

proptest! {
    #[test]
    fn every_right_run_is_exact_in_whatever_order_it_arrives(
        (terms, mut replies) in runs()
            .prop_flat_map(|(terms, requests)| {
                (Just(terms), Just(correct_replies(terms, requests)).prop_shuffle())
            }),
    ) {
        let requests = replies.len();
        let findings = check(terms, &replies, &correct_final_balance(terms, requests));
        prop_assert!(findings.exact(), "{:?}", findings.violations);
        prop_assert_eq!(findings.accepted + findings.refused, requests);
        // The order of arrival changes nothing.
        replies.reverse();
        prop_assert_eq!(check(terms, &replies, &correct_final_balance(terms, requests)), findings);
    }

    #[test]
    fn every_planted_fault_is_found_by_its_name(
        (terms, requests) in runs(),
        fault in faults(),
        place in any::<Index>(),
        rotation in any::<Index>(),
    ) {
        let mut replies = correct_replies(terms, requests);
        let name = plant(&fault, terms, &mut replies, place);
        let rotation = rotation.index(replies.len());
        replies.rotate_left(rotation);
        let final_balance = correct_final_balance(terms, requests)
            .map(|balance| balance ^ i64::from(matches!(fault, Fault::FinalBalanceOff)));
        let findings = check(terms, &replies, &final_balance);
        prop_assert!(slugs(&findings).iter().any(|slug| slug == name), "{findings:?}");
        prop_assert_eq!(findings.accepted + findings.refused + findings.wrong, requests);
    }
}
