//! An operation that the tester asks for, and the entries that it must leave in the histories.

use std::fmt;

use super::books::{Entry, EntryKind, HoldId};

/// What is asked for once, however many requests ask for it. It must happen at most once.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) action: Action,
    /// Requests with the same key ask for the same operation.
    pub(crate) key: Option<String>,
    /// Of a transfer, a reservation or a change.
    pub(crate) reference: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Transfer {
        from: i64,
        to: i64,
        amount: i64,
    },
    Reserve {
        user: i64,
        amount: i64,
        /// The service's own default where it is missing.
        expires_in_seconds: Option<i64>,
    },
    Capture {
        id: HoldId,
        /// The amount of the hold.
        of: i64,
        /// What is taken; everything where it is missing.
        amount: Option<i64>,
        /// Who gets it. Where it is missing, the money leaves the service.
        to: Option<i64>,
    },
    Release {
        id: HoldId,
        /// The amount of the hold.
        of: i64,
    },
    /// One change of a bulk in which each is decided for itself.
    Change {
        user: i64,
        amount: i64,
    },
    /// A bulk of which all changes are applied, or none.
    All(Vec<Item>),
}

/// One change of a bulk that is applied as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) user: i64,
    pub(crate) amount: i64,
    pub(crate) reference: Option<String>,
}

/// An entry of a history, without the numbers that only the service decides: its version, and the
/// balances after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) effect: Effect,
    pub(crate) key: Option<&'a str>,
    pub(crate) reference: Option<&'a str>,
}

/// What an entry does. Amounts are unique in a run, so that only the entries of operations that resolve
/// the same hold are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Effect {
    pub(crate) user: i64,
    pub(crate) kind: EntryKind,
    pub(crate) amount: i64,
    pub(crate) held_amount: i64,
    pub(crate) hold: Option<Hold>,
    /// The user of the other side.
    pub(crate) peer: Option<i64>,
}

/// The hold that an entry names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hold {
    /// The one that the entry itself makes.
    New,
    Number(i64),
}

impl<'a> Row<'a> {
    /// The row of an entry in the history of `user`.
    pub(crate) fn of(user: i64, entry: &'a Entry) -> Self {
        let key = entry.key.as_deref();
        Self { effect: Effect::of(user, entry), key, reference: entry.reference.as_deref() }
    }
}

impl Effect {
    /// What an entry in the history of `user` does.
    pub(crate) fn of(user: i64, entry: &Entry) -> Self {
        let is_new = |number| entry.kind == EntryKind::Hold && number == entry.version;
        Self {
            user,
            kind: entry.kind,
            amount: entry.amount,
            held_amount: entry.held_amount,
            hold: entry.hold.map(|n| if is_new(n) { Hold::New } else { Hold::Number(n) }),
            peer: entry.peer.map(|peer| peer.user),
        }
    }

    fn new(user: i64, kind: EntryKind, amount: i64) -> Self {
        Self { user, kind, amount, held_amount: 0, hold: None, peer: None }
    }
}

impl Operation {
    /// The entries that it must leave, all or none. The first belongs to the owner of the key, except
    /// in a bulk, where the order is that of the changes.
    pub(crate) fn rows(&self) -> Vec<Row<'_>> {
        match &self.action {
            Action::Transfer { from, to, amount } => {
                let side = |user, peer, amount| Effect {
                    peer: Some(peer),
                    ..Effect::new(user, EntryKind::Transfer, amount)
                };
                let payee = self.row(side(*to, *from, *amount));
                vec![self.row(side(*from, *to, -amount)), Row { key: None, ..payee }]
            }
            Action::Reserve { user, amount, .. } => {
                let effect = Effect::new(*user, EntryKind::Hold, -amount);
                vec![self.row(Effect { held_amount: *amount, hold: Some(Hold::New), ..effect })]
            }
            Action::Capture { id, of, amount, to } => {
                let captured = amount.unwrap_or(*of);
                let owner = Effect::new(id.user, EntryKind::Capture, of - captured);
                let owner = Effect { peer: *to, ..resolving(*id, *of, owner) };
                let payee = to.map(|to| {
                    let payee = Effect::new(to, EntryKind::Capture, captured);
                    Row { key: None, ..self.row(Effect { peer: Some(id.user), ..payee }) }
                });
                [self.row(owner)].into_iter().chain(payee).collect()
            }
            Action::Release { id, of } => {
                let effect = Effect::new(id.user, EntryKind::Release, *of);
                vec![self.row(resolving(*id, *of, effect))]
            }
            Action::Change { user, amount } => {
                vec![self.row(Effect::new(*user, EntryKind::Change, *amount))]
            }
            Action::All(items) => self.rows_of_all(items),
        }
    }

    /// The key stands only in the first entry.
    fn rows_of_all<'a>(&'a self, items: &'a [Item]) -> Vec<Row<'a>> {
        let mut key = self.key.as_deref();
        let row = |item: &'a Item| Row {
            key: key.take(),
            reference: item.reference.as_deref(),
            effect: Effect::new(item.user, EntryKind::Change, item.amount),
        };
        items.iter().map(row).collect()
    }

    fn row(&self, effect: Effect) -> Row<'_> {
        Row { effect, key: self.key.as_deref(), reference: self.reference.as_deref() }
    }

    /// By how much it changes the sum of all money, if it happens.
    pub(crate) fn net(&self) -> i128 {
        let rows = self.rows();
        let net =
            |row: &Row<'_>| i128::from(row.effect.amount) + i128::from(row.effect.held_amount);
        rows.iter().map(net).sum()
    }

    /// The hold that it resolves.
    pub(crate) fn resolves(&self) -> Option<HoldId> {
        match self.action {
            Action::Capture { id, .. } | Action::Release { id, .. } => Some(id),
            _ => None,
        }
    }
}

fn resolving(id: HoldId, of: i64, effect: Effect) -> Effect {
    Effect { held_amount: -of, hold: Some(Hold::Number(id.hold)), ..effect }
}

/// Short, for the reports.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Transfer { from, to, amount } => {
                write!(f, "transfer of {amount} from user {from} to user {to}")
            }
            Action::Reserve { user, amount, .. } => write!(f, "hold of {amount} for user {user}"),
            Action::Capture { id, amount, to, .. } => {
                write!(f, "capture of hold {} of user {}", id.hold, id.user)?;
                amount.map_or(Ok(()), |amount| write!(f, ", {amount} of it"))?;
                to.map_or(Ok(()), |to| write!(f, ", to user {to}"))
            }
            Action::Release { id, .. } => {
                write!(f, "release of hold {} of user {}", id.hold, id.user)
            }
            Action::Change { user, amount } => write!(f, "change of user {user} by {amount}"),
            Action::All(items) => write!(f, "bulk of {} changes, all or none", items.len()),
        }?;
        self.key.as_ref().map_or(Ok(()), |key| write!(f, ", key {key}"))
    }
}

/// As in the examples of the report.
impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Effect { user, kind, amount, held_amount, hold, peer } = self.effect;
        write!(f, "user {user}, {kind} of {amount:+}")?;
        if held_amount != 0 {
            write!(f, " (held {held_amount:+})")?;
        }
        match hold {
            Some(Hold::Number(hold)) => write!(f, ", hold {hold}")?,
            Some(Hold::New) => f.write_str(", a new hold")?,
            None => {}
        }
        if let Some(peer) = peer {
            write!(f, ", other side user {peer}")?;
        }
        if let Some(key) = self.key {
            write!(f, ", key {key}")?;
        }
        match self.reference {
            Some(reference) => write!(f, ", reference {reference}"),
            None => Ok(()),
        }
    }
}
