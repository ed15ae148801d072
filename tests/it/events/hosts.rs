//! Streams whose host of the database no longer accepts changes.

use std::time::Duration;

use plimsoll::cluster::SERVICE_DATABASE;
use reqwest::Method;
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::timeout;

use super::open;
use crate::failover::Pair;
use crate::faults::until;
use crate::service::{TestService, read};

/// The old primary stays up and answers, so no error tells the reader to leave it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_leave_a_host_that_became_read_only() {
    let pair = Pair::start().await;
    let survivor = pair.standby.connect_options(SERVICE_DATABASE);
    let service = TestService::start_on_hosts(pair.hosts(), survivor).await;
    let user = service.user_with(5).await;
    let mut events = open(&service, user).await;
    assert_eq!(events.next().await.unwrap().name, "state");
    assert_eq!(service.change("batched", user, 1).await.0, 200);
    assert_eq!(events.change().await.id, 2);

    let mut admin = pair.primary.superuser_options("postgres").connect().await.unwrap();
    for sql in [
        "ALTER SYSTEM SET default_transaction_read_only = 'on'",
        "ALTER SYSTEM RESET synchronous_standby_names",
        "SELECT pg_reload_conf()",
    ] {
        admin.execute(sql).await.unwrap();
    }
    admin.close().await.unwrap();
    until("it is read-only", async || service.change("batched", user, 1).await.0 == 503).await;
    pair.promote().await;
    until("changes go on", async || service.change("batched", user, 1).await.0 == 200).await;
    let last = service.journal_rows(user).await;
    let seen = timeout(Duration::from_secs(30), events.changes(3..=last)).await;
    seen.expect("they arrive, and not only heartbeats");
    // Reads of any other kind leave it as well, so no new stream begins with a version of the past.
    let path = format!("/users/{user}");
    until("a read is up to date", async || {
        let (status, text) = read(service.send(Method::GET, &path, None).await).await;
        status == 200 && text.contains(&format!("\"version\":{last}}}"))
    })
    .await;
    let mut after = open(&service, user).await;
    assert_eq!(after.next().await.unwrap().id, last);
    assert_eq!(service.change("batched", user, 1).await.0, 200);
    for events in [&mut events, &mut after] {
        assert_eq!(events.change().await.id, last + 1);
    }
    drop((events, after));
    service.stop().await;
    pair.standby.stop().await.unwrap();
    pair.primary.stop().await.unwrap();
}
