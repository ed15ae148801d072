//! The hosts of the database: one, or a primary and its standbys.
//!
//! A session is opened on the host that accepts changes. Two things must not delay it: a host that is
//! down, and a host that does not answer at all. So the next host is tried as soon as an attempt fails,
//! and beside an attempt that takes longer than a second ("happy eyeballs", RFC 8305). The same second
//! attempt helps with a single host: when a network is back, a new attempt connects at once, while the
//! packets of an old one are repeated at growing intervals.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::net::lookup_host;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{debug, info};

/// How long an attempt has the way to itself.
const HEAD_START: Duration = Duration::from_secs(1);

/// The attempts of one session that run at the same time. The first one is kept, since a host may be
/// slow and not dead; the last one is replaced.
const ATTEMPTS_MAX: usize = 2;

/// One or more hosts. Clones share the knowledge of which one answered last.
#[derive(Clone, Debug)]
pub struct Hosts {
    all: Arc<[PgConnectOptions]>,
    /// The host that a session was opened on last. It is tried first.
    last: Arc<AtomicUsize>,
}

impl From<PgConnectOptions> for Hosts {
    fn from(options: PgConnectOptions) -> Self {
        Self::from(vec![options])
    }
}

impl From<Vec<PgConnectOptions>> for Hosts {
    fn from(all: Vec<PgConnectOptions>) -> Self {
        Self { all: all.into(), last: Arc::default() }
    }
}

impl Hosts {
    /// Reads a URL with one host, or with several as libpq has them:
    /// `postgres://user@db1:5432,db2:5433/plimsoll`. The other parts hold for all hosts. `None` if it is
    /// not of this form.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        if !matches!(scheme, "postgres" | "postgresql") {
            return None;
        }
        let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let tail = without_attributes(tail)?;
        let one = |host: &str| format!("{scheme}://{user}{host}{tail}").parse().ok();
        hosts.split(',').map(one).collect::<Option<Vec<_>>>().map(Self::from)
    }

    /// All hosts, under this application's name.
    pub(super) fn named(&self, application: &str) -> Self {
        // No line for each statement, slow ones among them: a slow database would fill the log with
        // requests that succeed. The metrics have the times.
        let named = |options: &PgConnectOptions| {
            options.clone().application_name(application).disable_statement_logging()
        };
        self.all.iter().map(named).collect::<Vec<_>>().into()
    }

    /// How many there are. At least one.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The host that a session was opened on last; at first, the first one.
    pub fn last(&self) -> &PgConnectOptions {
        &self.all[self.last.load(Ordering::Relaxed) % self.all.len()]
    }

    /// Where they are, for people.
    pub fn addresses(&self) -> String {
        let address = |options: &PgConnectOptions| match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        self.all.iter().map(address).collect::<Vec<_>>().join(",")
    }

    /// Whether the names of all hosts are known. May take as long as the resolver does.
    pub(super) async fn resolve(&self) -> bool {
        for options in self.all.iter().filter(|options| options.get_socket().is_none()) {
            if lookup_host((options.get_host(), options.get_port())).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The result of the first attempt that succeeds.
    ///
    /// # Errors
    /// When each host has failed: the failure that `severity` ranks highest. Not bounded in time: dropping
    /// the future drops all attempts.
    pub(super) async fn first<T, E, F>(
        &self,
        attempt: impl Fn(PgConnectOptions) -> F,
        severity: impl Fn(&E) -> u8,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: std::fmt::Display,
    {
        let before = self.last.load(Ordering::Relaxed) % self.all.len();
        let attempt = |host: usize| attempt(self.all[host].clone());
        let (host, value) = race(self.all.len(), before, attempt, severity).await?;
        if host != before && self.last.swap(host, Ordering::Relaxed) != host {
            let (host, port) = (self.all[host].get_host(), self.all[host].get_port());
            info!(host, port, "using another host of DATABASE_URL");
        }
        Ok(value)
    }
}

/// Removes `target_session_attrs`, which sqlx does not know, from the end of a URL. A session always
/// needs a host that accepts changes; `None` if another one is asked for.
fn without_attributes(tail: &str) -> Option<String> {
    let Some((path, query)) = tail.split_once('?') else { return Some(tail.to_owned()) };
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("target_session_attrs", "any" | "read-write" | "primary")) => {}
            Some(("target_session_attrs", _)) => return None,
            _ => kept.push(pair),
        }
    }
    Some(format!("{path}?{}", kept.join("&")))
}

/// Starts with the host `first`, and returns the first success with its host.
async fn race<T, E, F>(
    hosts: usize,
    first: usize,
    attempt: impl Fn(usize) -> F,
    severity: impl Fn(&E) -> u8,
) -> Result<(usize, T), E>
where
    F: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
{
    let mut next = (0..).map(|number| (first + number) % hosts);
    let mut start = || next.next().map(|host| (host, Box::pin(attempt(host))));
    let mut running: Vec<(usize, Pin<Box<F>>)> = start().into_iter().collect();
    let mut untried = hosts - 1;
    let mut worst: Option<E> = None;
    let mut slow = interval_at(Instant::now() + HEAD_START, HEAD_START);
    slow.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            (host, result) = ended(&mut running) => match result {
                Ok(value) => return Ok((host, value)),
                Err(error) => {
                    debug!(host, %error, "a host of the database did not accept a session");
                    worst = Some(match worst.take() {
                        Some(worst) if severity(&worst) >= severity(&error) => worst,
                        _ => error,
                    });
                    if untried > 0 {
                        untried -= 1;
                        running.extend(start());
                        slow.reset();
                    }
                }
            },
            _ = slow.tick() => {
                untried = untried.saturating_sub(1);
                running.truncate(ATTEMPTS_MAX - 1);
                running.extend(start());
            }
        }
        if running.is_empty()
            && let Some(error) = worst
        {
            return Err(error);
        }
    }
}

/// Waits for the first of the attempts that ends, and removes it.
async fn ended<T, F: Future<Output = T>>(running: &mut Vec<(usize, Pin<Box<F>>)>) -> (usize, T) {
    poll_fn(|context| {
        for position in 0..running.len() {
            if let Poll::Ready(result) = running[position].1.as_mut().poll(context) {
                return Poll::Ready((running.remove(position).0, result));
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;

    use tokio::time::{sleep, timeout};

    use super::*;

    fn shown(url: &str) -> Option<Vec<String>> {
        let hosts = Hosts::parse(url)?;
        let show = |options: &PgConnectOptions| {
            let socket = options.get_socket().map(|path| path.display().to_string());
            let host = socket.unwrap_or_else(|| options.get_host().to_owned());
            let database = options.get_database().unwrap_or("-");
            format!("{}@{host}:{}/{database}", options.get_username(), options.get_port())
        };
        Some(hosts.all.iter().map(show).collect())
    }

    #[test]
    fn a_url_has_one_host_or_several() {
        let one = shown("postgres://u:p@db:5433/d").unwrap();
        assert_eq!(one, ["u@db:5433/d"]);
        let two = shown("postgresql://u:p%40,@db1,db2:5433/d?sslmode=disable").unwrap();
        assert_eq!(two, ["u@db1:5432/d", "u@db2:5433/d"]);
        let sockets = shown("postgres://u@%2Frun%2Fa:1,%2Frun%2Fb:2/d").unwrap();
        assert_eq!(sockets, ["u@/run/a:1/d", "u@/run/b:2/d"]);
        let attributes =
            shown("postgres://u@[::1]:1,b/d?target_session_attrs=read-write&sslmode=disable");
        assert_eq!(attributes.unwrap(), ["u@[::1]:1/d", "u@b:5432/d"]);
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for url in [
            "mysql://u@db/d",
            "db1,db2",
            "postgres://u@db:70000/d",
            "postgres://u@db1,db2:x/d",
            "postgres://u@db1,db2/d?target_session_attrs=standby",
        ] {
            assert!(shown(url).is_none(), "{url}");
        }
    }

    /// How an attempt on a host goes: it ends after this many milliseconds, or never.
    type Script = (Option<u64>, Result<(), &'static str>);

    /// Lets three hosts behave as scripted. Returns the result, the milliseconds it took, and the hosts
    /// that were tried.
    async fn played(
        first: usize,
        script: [Script; 3],
    ) -> (Result<usize, &'static str>, u128, Vec<usize>) {
        let tried = RefCell::new(Vec::new());
        let begun = Instant::now();
        let attempt = |host: usize| {
            tried.borrow_mut().push(host);
            let (after, result) = script[host];
            async move {
                match after {
                    Some(millis) => sleep(Duration::from_millis(millis)).await,
                    None => pending().await,
                }
                result
            }
        };
        let severity = |error: &&str| u8::from(*error == "full");
        let result = race(3, first, attempt, severity).await.map(|(host, ())| host);
        (result, begun.elapsed().as_millis(), tried.into_inner())
    }

    const DOWN: Script = (Some(0), Err("refused"));
    const FULL: Script = (Some(0), Err("full"));
    const SILENT: Script = (None, Ok(()));
    const UP: Script = (Some(5), Ok(()));

    #[tokio::test(start_paused = true)]
    async fn the_host_that_answered_last_is_tried_first_and_alone() {
        assert_eq!(played(1, [UP, UP, UP]).await, (Ok(1), 5, vec![1]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_host_is_tried_at_once_after_a_refusal_and_after_a_second_of_silence() {
        assert_eq!(played(0, [DOWN, DOWN, UP]).await, (Ok(2), 5, vec![0, 1, 2]));
        assert_eq!(played(0, [SILENT, UP, DOWN]).await, (Ok(1), 1005, vec![0, 1]));
        assert_eq!(played(0, [SILENT, SILENT, UP]).await, (Ok(2), 2005, vec![0, 1, 2]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_host_is_waited_for_while_the_others_fail() {
        let slow = (Some(4_000), Ok(()));
        assert_eq!(played(0, [slow, DOWN, DOWN]).await.0, Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn when_each_host_has_failed_the_worst_failure_is_told() {
        assert_eq!(played(0, [DOWN, FULL, DOWN]).await, (Err("full"), 0, vec![0, 1, 2]));
        assert_eq!(played(2, [DOWN, DOWN, DOWN]).await.0, Err("refused"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_host_that_comes_back_is_found_by_a_new_attempt() {
        let begun = Instant::now();
        // Packets that were sent while the host was away are lost.
        let attempt = |_| async move {
            if begun.elapsed() < Duration::from_millis(3_500) {
                pending::<()>().await;
            }
            Ok::<_, &str>(())
        };
        let found = timeout(Duration::from_secs(5), race(1, 0, attempt, |_: &&str| 0)).await;
        assert_eq!(found, Ok(Ok((0, ()))));
        assert_eq!(begun.elapsed(), Duration::from_secs(4));
    }
}
