//! An operation that the tester asks for, and the entries that it must leave in the histories.

use super::books::Entry;

/// What is asked for once, however many requests ask for it. It must happen at most once.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) action: Action,
    /// Requests with the same key ask for the same operation.
    pub(crate) key: Option<String>,
    /// Of a transfer, a reservation or a change.
    pub(crate) reference: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HoldId {
    pub(crate) user: i64,
    pub(crate) hold: i64,
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) user: i64,
    pub(crate) kind: String,
    pub(crate) amount: i64,
    pub(crate) held_amount: i64,
    pub(crate) key: Option<String>,
    pub(crate) reference: Option<String>,
    pub(crate) hold: Option<Hold>,
    /// The user of the other side.
    pub(crate) peer: Option<i64>,
}

/// The hold that an entry names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Hold {
    /// The one that the entry itself makes.
    New,
    Number(i64),
}

impl Row {
    /// The row of an entry in the history of `user`.
    pub(crate) fn of(user: i64, entry: &Entry) -> Self {
        let own = |number| entry.kind == "hold" && number == entry.version;
        Self {
            user,
            kind: entry.kind.clone(),
            amount: entry.amount,
            held_amount: entry.held_amount,
            key: entry.key.clone(),
            reference: entry.reference.clone(),
            hold: entry.hold.map(|n| if own(n) { Hold::New } else { Hold::Number(n) }),
            peer: entry.peer.map(|peer| peer.user),
        }
    }
}

impl Operation {
    /// The entries that it must leave, all or none. The first belongs to the owner of the key, except
    /// in a bulk, where the order is that of the changes.
    pub(crate) fn rows(&self) -> Vec<Row> {
        match &self.action {
            Action::Transfer { from, to, amount } => {
                let payer = Row { peer: Some(*to), ..self.row(*from, "transfer", -amount, 0) };
                let payee = self.row(*to, "transfer", *amount, 0);
                vec![payer, Row { peer: Some(*from), key: None, ..payee }]
            }
            Action::Reserve { user, amount } => {
                vec![Row { hold: Some(Hold::New), ..self.row(*user, "hold", -amount, *amount) }]
            }
            Action::Capture { id, of, amount, to } => {
                let captured = amount.unwrap_or(*of);
                let hold = Some(Hold::Number(id.hold));
                let owner = self.row(id.user, "capture", of - captured, -of);
                let owner = Row { hold, peer: *to, ..owner };
                let payee = to.map(|to| {
                    let payee = self.row(to, "capture", captured, 0);
                    Row { peer: Some(id.user), key: None, ..payee }
                });
                [owner].into_iter().chain(payee).collect()
            }
            Action::Release { id, of } => {
                let hold = Some(Hold::Number(id.hold));
                vec![Row { hold, ..self.row(id.user, "release", *of, -of) }]
            }
            Action::Change { user, amount } => vec![self.row(*user, "change", *amount, 0)],
            Action::All(items) => self.rows_of_all(items),
        }
    }

    /// The key stands only in the first entry.
    fn rows_of_all(&self, items: &[Item]) -> Vec<Row> {
        let mut key = self.key.clone();
        let row = |item: &Item| Row {
            key: key.take(),
            reference: item.reference.clone(),
            ..self.row(item.user, "change", item.amount, 0)
        };
        items.iter().map(row).collect()
    }

    fn row(&self, user: i64, kind: &str, amount: i64, held_amount: i64) -> Row {
        Row {
            user,
            kind: kind.to_owned(),
            amount,
            held_amount,
            key: self.key.clone(),
            reference: self.reference.clone(),
            hold: None,
            peer: None,
        }
    }

    /// By how much it changes the sum of all money, if it happens.
    pub(crate) fn net(&self) -> i128 {
        let rows = self.rows();
        rows.iter().map(|row| i128::from(row.amount) + i128::from(row.held_amount)).sum()
    }

    /// The hold that it resolves.
    pub(crate) fn resolves(&self) -> Option<HoldId> {
        match self.action {
            Action::Capture { id, .. } | Action::Release { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// As in the examples of the report.
impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "user {}, {} of {:+}", self.user, self.kind, self.amount)?;
        if self.held_amount != 0 {
            write!(f, " (held {:+})", self.held_amount)?;
        }
        match self.hold {
            Some(Hold::Number(hold)) => write!(f, ", hold {hold}")?,
            Some(Hold::New) => f.write_str(", a new hold")?,
            None => {}
        }
        if let Some(peer) = self.peer {
            write!(f, ", other side user {peer}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ", key {key}")?;
        }
        match &self.reference {
            Some(reference) => write!(f, ", reference {reference}"),
            None => Ok(()),
        }
    }
}
