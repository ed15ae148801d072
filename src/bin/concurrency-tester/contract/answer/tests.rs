//! What each status and body means, and which bodies mean nothing.

use super::*;
use crate::contract::books::HoldId;
use crate::contract::operation::Item;

fn said(action: Action, status: u16, body: &str) -> Said {
    let operation = Operation { action, key: None, reference: None };
    read(&operation, &Reply::Answer { status, body: body.as_bytes().into() })
}

fn transfer() -> Action {
    Action::Transfer { from: 1, to: 2, amount: 5 }
}

#[test]
fn only_the_exact_bytes_of_a_success_are_one() {
    let right =
        r#"{"from":{"id":1,"balance":5,"version":3},"to":{"id":2,"balance":9,"version":1}}"#;
    assert!(matches!(said(transfer(), 201, right), Said::Accepted(facts) if facts.len() == 2));
    for wrong in [
        right.replace(r#""id":1"#, r#""id":3"#),
        right.replace(r#","version":1"#, ""),
        right.replace(':', ": "),
        right.replace(r#""balance":5,"version":3"#, r#""version":3,"balance":5"#),
        right.replace(r#""id":1"#, r#""id":1,"id":1"#),
        right.replace(r#""balance":5"#, r#""balance":5.0"#),
        String::new(),
    ] {
        let expected = Said::Wrong(Kind::UnexpectedBody(201));
        assert_eq!(said(transfer(), 201, &wrong), expected, "{wrong}");
    }
    assert_eq!(said(transfer(), 200, right), Said::Wrong(Kind::UnexpectedStatus(200)));
}

#[test]
fn a_no_is_understood_where_it_can_be_meant() {
    let all = Action::All(vec![Item { user: 1, amount: 1, reference: None }; 3]);
    let release = Action::Release { id: HoldId { user: 1, hold: 2 }, of: 5 };
    let error = |sentence: &str| format!(r#"{{"error":"{sentence}"}}"#);
    let insufficient = error("Insufficient funds");
    for (action, status, body, expected) in [
        (transfer(), 400, insufficient.clone(), Said::Refused(None)),
        (all.clone(), 400, error("changes[2]: Insufficient funds"), Said::Refused(Some(2))),
        (
            all.clone(),
            400,
            error("changes[3]: Insufficient funds"),
            Said::Wrong(Kind::UnexpectedBody(400)),
        ),
        (
            all.clone(),
            400,
            error("changes[02]: Insufficient funds"),
            Said::Wrong(Kind::UnexpectedBody(400)),
        ),
        (all, 400, insufficient.clone(), Said::Wrong(Kind::UnexpectedBody(400))),
        (release.clone(), 400, insufficient, Said::Wrong(Kind::UnexpectedBody(400))),
        (release.clone(), 409, error("The hold is captured"), Said::Resolved("captured")),
        (release, 409, error("The hold is lost"), Said::Wrong(Kind::UnexpectedStatus(409))),
        (transfer(), 409, error("The hold is captured"), Said::Wrong(Kind::UnexpectedStatus(409))),
        (transfer(), 409, error(STILL_RUNNING), Said::StillRunning),
        (transfer(), 503, error("Not applied, try again"), Said::NotApplied),
        (transfer(), 504, String::new(), Said::Lost(Kind::UnexpectedStatus(504))),
        (transfer(), 500, String::new(), Said::Wrong(Kind::UnexpectedStatus(500))),
    ] {
        assert_eq!(said(action, status, &body), expected, "{status} {body}");
    }
}

#[test]
fn a_bulk_has_one_result_for_each_change() {
    let reply = |body: &str| Reply::Answer { status: 200, body: body.as_bytes().into() };
    let two = r#"{"results":[{"balance":5},{"status":400,"error":"Insufficient funds"}]}"#;
    let said: Vec<_> = read_each(2, &reply(two)).into_iter().map(|(said, _)| said).collect();
    let five = Fact { balance: Some(5), ..Fact::default() };
    assert_eq!(said, [Said::Accepted(vec![five]), Said::Refused(None)]);
    let wrong = Said::Wrong(Kind::UnexpectedBody(200));
    for (said, _) in read_each(3, &reply(two)) {
        assert_eq!(said, wrong);
    }
}
