//! What a client asks for.

/// One operation, decided and applied as a whole.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) action: Action,
    pub(super) key: Option<String>,
    pub(super) reference: Option<String>,
    /// Where it came from, which must make no difference.
    pub(super) route: String,
}

#[derive(Debug, Clone)]
pub(super) enum Action {
    Change { user: i64, amount: i64 },
    Transfer { from: i64, to: i64, amount: i64 },
    Reserve { user: i64, amount: i64, seconds: i64 },
    Capture { user: i64, hold: i64, amount: Option<i64>, to: Option<i64> },
    Release { user: i64, hold: i64 },
    All(Vec<Item>),
}

/// One change of a bulk that is applied as a whole.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) user: i64,
    pub(super) amount: i64,
    pub(super) reference: Option<String>,
}

impl Operation {
    /// The user whom the key belongs to.
    pub(super) fn owner(&self) -> i64 {
        match &self.action {
            Action::Change { user, .. }
            | Action::Reserve { user, .. }
            | Action::Capture { user, .. }
            | Action::Release { user, .. } => *user,
            Action::Transfer { from, .. } => *from,
            Action::All(items) => items[0].user,
        }
    }

    /// Every user whose row it needs; a user may come more than once.
    pub(super) fn users(&self) -> Vec<i64> {
        match &self.action {
            Action::Transfer { from, to, .. } => vec![*from, *to],
            Action::Capture { user, to, .. } => [*user].into_iter().chain(*to).collect(),
            Action::All(items) => items.iter().map(|item| item.user).collect(),
            _ => vec![self.owner()],
        }
    }

    /// The hold that it resolves.
    pub(super) fn hold(&self) -> Option<(i64, i64)> {
        match self.action {
            Action::Capture { user, hold, .. } | Action::Release { user, hold } => {
                Some((user, hold))
            }
            _ => None,
        }
    }

    /// What a key is used for: everything that was asked, but not the route.
    pub(super) fn fingerprint(&self) -> String {
        format!("{:?} {:?}", self.action, self.reference)
    }
}
