//! Decides on operations, one after the other, on books whose users are locked. Pure.

use serde_json::json;

use super::answer::Answer;
use super::books::{Books, Hold, User};
use super::bug::{Bug, Planted};
use super::operation::{Action, Item, Operation};
use super::time::rfc3339;

/// Why an operation is not applied.
enum No {
    /// The user lacks the money. Of a bulk, the position of the change.
    Lacks {
        user: i64,
        position: Option<usize>,
    },
    /// The hold that it names has expired, and the journal does not say so yet.
    Expired {
        user: i64,
    },
    Answer(Answer),
}

impl From<Answer> for No {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// Applies the operation to the books, or leaves them as they are, except for holds that have expired.
pub(super) fn decide(books: &mut Books, operation: &Operation, planted: &Planted) -> Answer {
    loop {
        let mut after = books.clone();
        let first = after.entries.len();
        match apply(&mut after, operation, planted) {
            Ok(answer) => {
                name_entries(&mut after, first, operation);
                *books = after;
                return answer;
            }
            Err(No::Lacks { user, .. }) if books.has_expired_holds(user) => books.expire(user),
            Err(No::Lacks { position, .. }) => {
                // The items of a bulk are applied one by one, and nobody takes back what came before
                // the one that failed.
                if planted.has(Bug::BulkStopsHalfWay) {
                    name_entries(&mut after, first, operation);
                    *books = after;
                }
                return Answer::refusal(position);
            }
            Err(No::Expired { user }) => books.expire(user),
            Err(No::Answer(answer)) => return answer,
        }
    }
}

/// The key stands in the first entry of its owner, the reference in all.
fn name_entries(books: &mut Books, first: usize, operation: &Operation) {
    for entry in &mut books.entries[first..] {
        entry.reference = entry.reference.take().or_else(|| operation.reference.clone());
    }
    if let Some(entry) = books.entries.get_mut(first) {
        entry.key.clone_from(&operation.key);
    }
}

fn apply(books: &mut Books, operation: &Operation, planted: &Planted) -> Result<Answer, No> {
    match operation.action {
        Action::Change { user, amount } => {
            books.user(user, "")?;
            change(books, user, amount, "")?;
            Ok(Answer::balance(books.users[&user].balance))
        }
        Action::Transfer { from, to, amount } => transfer(books, from, to, amount, planted),
        Action::Reserve { user, amount, seconds } => reserve(books, user, amount, seconds),
        Action::Capture { user, hold, amount, to } => {
            capture(books, (user, hold), amount, to, planted)
        }
        Action::Release { user, hold } => {
            let Hold { amount, .. } = open_hold(books, user, hold)?;
            books.enter(user, "release", amount, -amount).hold = Some(hold);
            books.resolve(user, hold, "released", 0);
            let User { balance, held, .. } = books.users[&user];
            Ok(Answer::new(200, json!({ "balance": balance, "held": held })))
        }
        Action::All(ref items) => all(books, items),
    }
}

/// The rule of the line: no balance below zero, nor more than fits.
fn can_enter(books: &Books, user: i64, amount: i64, part: &str) -> Result<(), No> {
    let User { balance, held, .. } = books.users[&user];
    if amount < 0 && balance + amount < 0 {
        return Err(No::Lacks { user, position: None });
    }
    if amount > 0 && (balance + held).checked_add(amount).is_none() {
        return Err(Answer::error(400, &format!("{part}Balance out of range")).into());
    }
    Ok(())
}

fn change(books: &mut Books, user: i64, amount: i64, part: &str) -> Result<(), No> {
    can_enter(books, user, amount, part)?;
    // A change by 0 only reads.
    if amount != 0 {
        books.enter(user, "change", amount, 0);
    }
    Ok(())
}

fn transfer(
    books: &mut Books,
    from: i64,
    to: i64,
    amount: i64,
    planted: &Planted,
) -> Result<Answer, No> {
    books.user(from, "from: ")?;
    books.user(to, "to: ")?;
    // The check of the funds is in the code of changes, and was forgotten here.
    if !planted.has(Bug::MissingGuard) {
        can_enter(books, from, -amount, "")?;
    }
    can_enter(books, to, amount, "to: ")?;
    pay(books, "transfer", (from, -amount, 0), to, amount);
    let side = |user: i64| {
        let User { balance, version, .. } = books.users[&user];
        json!({ "id": user, "balance": balance, "version": version })
    };
    Ok(Answer::new(201, json!({ "from": side(from), "to": side(to) })))
}

/// Enters both sides, which name each other. Returns the position of the payer's entry.
fn pay(
    books: &mut Books,
    kind: &'static str,
    (from, amount, held_amount): (i64, i64, i64),
    to: i64,
    paid: i64,
) -> usize {
    let payer = books.entries.len();
    let from_version = books.enter(from, kind, amount, held_amount).version;
    let payee = books.enter(to, kind, paid, 0);
    payee.peer = Some((from, from_version));
    let to_version = payee.version;
    books.entries[payer].peer = Some((to, to_version));
    payer
}

fn reserve(books: &mut Books, user: i64, amount: i64, seconds: i64) -> Result<Answer, No> {
    books.user(user, "")?;
    can_enter(books, user, -amount, "")?;
    let entry = books.enter(user, "hold", -amount, amount);
    let number = entry.version;
    entry.hold = Some(number);
    let expires_at = books.stamp + seconds * 1_000_000;
    let hold = Hold { amount, captured: 0, state: "open".to_owned(), expires_at };
    books.holds.insert((user, number), hold);
    books.changed_holds.insert((user, number));
    let User { balance, held, .. } = books.users[&user];
    Ok(Answer::new(
        201,
        json!({
            "hold": number, "amount": amount, "balance": balance, "held": held,
            "expiresAt": rfc3339(expires_at),
        }),
    ))
}

fn capture(
    books: &mut Books,
    (user, number): (i64, i64),
    amount: Option<i64>,
    to: Option<i64>,
    planted: &Planted,
) -> Result<Answer, No> {
    // Only the sweep looks at the times of the holds, and it has not come yet.
    let found = if planted.has(Bug::ExpiredHoldCaptured) {
        find_hold(books, user, number)
    } else {
        open_hold(books, user, number)
    };
    let Hold { amount: of, .. } = found?;
    let captured = amount.unwrap_or(of);
    if captured > of {
        let sentence = format!("amount must not be more than the hold's {of}");
        return Err(Answer::error(422, &sentence).into());
    }
    let owner = match to {
        None => {
            books.enter(user, "capture", of - captured, -of);
            books.entries.len() - 1
        }
        Some(to) => {
            books.user(to, "to: ")?;
            can_enter(books, to, captured, "to: ")?;
            pay(books, "capture", (user, of - captured, -of), to, captured)
        }
    };
    books.entries[owner].hold = Some(number);
    books.resolve(user, number, "captured", captured);
    let User { balance, held, .. } = books.users[&user];
    Ok(Answer::new(200, json!({ "captured": captured, "balance": balance, "held": held })))
}

/// A hold that can be resolved.
fn open_hold(books: &Books, user: i64, number: i64) -> Result<Hold, No> {
    let hold = find_hold(books, user, number)?;
    if hold.expires_at <= books.stamp { Err(No::Expired { user }) } else { Ok(hold) }
}

/// A hold that is not resolved.
fn find_hold(books: &Books, user: i64, number: i64) -> Result<Hold, No> {
    books.user(user, "")?;
    let Some(hold) = books.holds.get(&(user, number)) else {
        return Err(Answer::error(404, "Hold not found").into());
    };
    match hold.state.as_str() {
        "open" => Ok(hold.clone()),
        state => Err(Answer::error(409, &format!("The hold is {state}")).into()),
    }
}

fn all(books: &mut Books, items: &[Item]) -> Result<Answer, No> {
    let mut results = Vec::new();
    for (position, Item { user, amount, reference }) in items.iter().enumerate() {
        let part = format!("changes[{position}]: ");
        books.user(*user, &part)?;
        change(books, *user, *amount, &part).map_err(|no| match no {
            No::Lacks { user, .. } => No::Lacks { user, position: Some(position) },
            other => other,
        })?;
        if *amount != 0
            && let Some(entry) = books.entries.last_mut()
        {
            entry.reference.clone_from(reference);
        }
        results.push(json!({ "balance": books.users[user].balance }));
    }
    Ok(Answer::new(200, json!({ "results": results })))
}
