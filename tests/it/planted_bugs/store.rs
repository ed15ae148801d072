//! What every part of the service shares, and what a transaction writes.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sqlx::PgPool;

use super::answer::Answer;
use super::books::{Books, User};
use super::bug::Planted;

/// How long a user is in the cache of [`Bug::DirtyRead`](super::bug::Bug::DirtyRead).
const CACHED_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Store {
    pub(super) pool: PgPool,
    pub(super) planted: Planted,
    /// Users as they were written last, to spare the database.
    cache: Mutex<HashMap<i64, (User, Instant)>>,
}

impl Store {
    pub(super) fn new(pool: PgPool, planted: Planted) -> Self {
        Self { pool, planted, cache: Mutex::default() }
    }

    pub(super) fn write_to_cache(&self, books: &Books) {
        let mut cache = self.cache.lock().unwrap();
        for entry in &books.entries {
            cache.insert(entry.user, (books.users[&entry.user], Instant::now()));
        }
    }

    pub(super) fn cached(&self, user: i64) -> Option<User> {
        let cache = self.cache.lock().unwrap();
        let (user, since) = cache.get(&user)?;
        (since.elapsed() < CACHED_MAX).then_some(*user)
    }
}

/// Everything that a transaction writes.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) books: Books,
    pub(super) keys: Vec<((i64, String), Used)>,
}

/// What a key was used for, and what was answered.
#[derive(Debug, Clone)]
pub(super) struct Used {
    pub(super) fingerprint: String,
    pub(super) answer: Answer,
}

/// By owner and key.
pub(super) type Keys = HashMap<(i64, String), Used>;

/// Why a transaction has no answers.
#[derive(Debug)]
pub(super) enum Failure {
    NotApplied,
    /// The connection was lost after the commit was sent.
    Unknown,
}

/// Whatever fails before the commit was rolled back.
impl From<sqlx::Error> for Failure {
    fn from(_: sqlx::Error) -> Self {
        Self::NotApplied
    }
}
