//! What ends a stream, and what does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use sqlx::Executor;
use tokio::time::timeout;

use super::client::{End, Events};
use super::{make_entries, open};
use crate::cluster::{fresh_folder, options_in};
use crate::faults::{end_sessions, until};
use crate::process::ServiceProcess;
use crate::service::{TestService, error_body, read};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_all_streams_at_once_and_politely() {
    let variables = [("DRAIN_TIMEOUT_SECS", "600"), ("IDLE_TIMEOUT_SECS", "600")];
    let service = TestService::start_with(&variables).await;
    let user = service.user_with(0).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(open(&service, user).await);
    }
    service.change("self", user, 1).await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.unwrap().name, "state");
        assert_eq!(stream.change().await.id, 1);
    }
    // Another client does not read, though there is more for it than the kernel keeps.
    let stalled = Events::resume(service.service.address(), user, 0).await;
    make_entries(&service, user, 5_000, &"💶".repeat(255)).await;
    service.assert_verified().await;
    let address = service.service.address();
    let stopping = tokio::spawn(service.service.stop());
    for stream in &mut streams {
        let mut last = None;
        while let Some(block) = stream.block().await {
            last = Some(block);
        }
        assert_eq!(last.as_deref(), Some(": the service is stopping, connect again"));
        assert_eq!(stream.end().await, End::Complete);
    }
    timeout(Duration::from_secs(60), stopping).await.expect("nobody holds it up").unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    drop(stalled);
}

/// The real executable, and its signals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_served_until_the_end_of_the_stop_delay() {
    let mut process = ServiceProcess::start_with("true", &[("STOP_DELAY_SECS", "600")]).await;
    let mut before = Events::open(process.address, 1).await;
    process.terminate();
    until("it leaves", async || {
        let url = format!("http://{}/readyz", process.address);
        reqwest::get(url).await.unwrap().status() == 503
    })
    .await;
    // `EventSource` gives up for good where it is answered with an error.
    let mut after = Events::open(process.address, 1).await;
    for events in [&mut before, &mut after] {
        assert_eq!(events.next().await.unwrap().name, "state");
    }
    process.terminate();
    for events in [&mut before, &mut after] {
        let last = events.block().await;
        assert_eq!(last.as_deref(), Some(": the service is stopping, connect again"));
        assert_eq!(events.end().await, End::Complete);
    }
    timeout(Duration::from_secs(30), process.ended()).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_outlives_a_killed_database_and_misses_nothing() {
    let options = options_in(&fresh_folder("watched"));
    let service = TestService::start_private(options.clone()).await;
    let user = service.user_with(0).await;
    let mut events = open(&service, user).await;
    assert_eq!(events.next().await.unwrap().id, 0);
    let mut made = 0;
    for _ in 0..3 {
        let pid_file = options.data_dir.join("postgres/postmaster.pid");
        let first = fs::read_to_string(&pid_file).unwrap();
        let pid = first.lines().next().unwrap().to_owned();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        until("a new postmaster serves changes", async || {
            let again = fs::read_to_string(&pid_file).unwrap_or_default();
            again.lines().next().is_some_and(|new| new != pid)
                && service.change("self", user, 1).await.0 == 200
        })
        .await;
        let until = service.journal_rows(user).await;
        events.changes(made + 1..=until).await;
        made = until;
    }
    drop(events);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_session_is_replaced_by_both_kinds_of_reads() {
    let service = TestService::start().await;
    let user = service.user_with(0).await;
    let mut events = open(&service, user).await;
    assert_eq!(events.next().await.unwrap().id, 0);
    for version in 1..=5 {
        until("it serves again", async || {
            end_sessions(&service).await;
            service.change("self", user, 1).await.0 == 200
        })
        .await;
        end_sessions(&service).await;
        // By the ring, and by a page.
        assert_eq!(events.change().await.id, version);
        let (address, headers) =
            (service.service.address(), format!("Last-Event-ID: {}\r\n", version - 1));
        let mut resumed = None;
        until("a stream begins", async || {
            let path = format!("/users/{user}/events");
            let events = Events::request(address, &path, &headers).await;
            resumed = events.head.starts_with("HTTP/1.1 200 ").then_some(events);
            resumed.is_some()
        })
        .await;
        end_sessions(&service).await;
        assert_eq!(resumed.unwrap().change().await.id, version);
    }
    drop(events);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_taken_back_ends_its_streams() {
    let file = fresh_folder("tokens").join("tokens");
    let write = |tokens: &str| {
        fs::write(&file, tokens).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("kept:read:token-of-a-friend\nlost:read:token-that-leaked\nw:write:token-to-write\n");
    let variables = [("AUTH_TOKENS_FILE", file.to_str().unwrap()), ("IDLE_TIMEOUT_SECS", "3")];
    let service = TestService::start_with(&variables).await;
    let (address, path) = (service.service.address(), "/users/1/events");
    let with = |token: &str| format!("authorization: Bearer {token}\r\n");
    for (token, status) in [("wrong-token-of-anybody", "401"), ("token-to-write", "403")] {
        let refused = Events::request(address, path, &with(token)).await;
        assert!(refused.head.starts_with(&format!("HTTP/1.1 {status} ")), "{}", refused.head);
    }
    let mut kept = Events::open_with(address, 1, &with("token-of-a-friend")).await;
    let mut lost = Events::open_with(address, 1, &with("token-that-leaked")).await;
    for events in [&mut kept, &mut lost] {
        assert_eq!(events.next().await.unwrap().name, "state");
        assert_eq!(events.block().await.as_deref(), Some(": still here"));
    }
    write("kept:read:token-of-a-friend\nlost:write:token-that-leaked\n");
    service.service.reload().await;
    let mut blocks = Vec::new();
    while !blocks.contains(&": the token is not valid any more".to_owned()) {
        blocks.push(lost.block().await.expect("a reason"));
        assert!(blocks.len() < 10, "{blocks:?}");
    }
    assert_eq!(lost.block().await, None);
    assert_eq!(lost.end().await, End::Complete);
    assert_eq!(kept.block().await.as_deref(), Some(": still here"));
    drop(kept);
    service.stop().await;
}

/// Whoever deletes entries gets no stream that looks complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_with_a_gap_ends_the_streams_of_its_user_only() {
    let service = TestService::start().await;
    let (user, other) = (service.user_with(0).await, service.user_with(0).await);
    make_entries(&service, user, 10, "r").await;
    let mut beside = open(&service, other).await;
    assert_eq!(beside.next().await.unwrap().id, 0);
    let taken = format!(
        "CREATE TABLE taken AS SELECT * FROM balance_changes WHERE user_id = {user} \
        AND version = 7; DELETE FROM balance_changes WHERE user_id = {user} AND version = 7"
    );
    service.pool.execute(&*taken).await.unwrap();
    // As a page of the journal.
    let mut events = Events::resume(service.service.address(), user, 0).await;
    events.changes(1..=6).await;
    let last = events.block().await;
    assert_eq!(last.as_deref(), Some(": the events cannot go on, connect again"));
    assert_eq!(events.end().await, End::Complete);
    // As new entries.
    let mut events = open(&service, user).await;
    assert_eq!(events.next().await.unwrap().id, 10);
    let gap = format!(
        "WITH moved AS (UPDATE users SET version = 12, balance = 12, changed_at = now() WHERE id = {user}) \
        INSERT INTO balance_changes \
            (user_id, version, kind, amount, held_amount, balance, held, created_at) \
        VALUES ({user}, 12, 'change', 1, 0, 12, 0, now())"
    );
    service.pool.execute(&*gap).await.unwrap();
    let last = events.block().await;
    assert_eq!(last.as_deref(), Some(": the events cannot go on, connect again"));
    assert_eq!(events.end().await, End::Complete);
    service.change("self", other, 1).await;
    assert_eq!(beside.change().await.id, 1);
    let mended = format!(
        "INSERT INTO balance_changes SELECT * FROM taken; \
        INSERT INTO balance_changes \
            (user_id, version, kind, amount, held_amount, balance, held, created_at) \
        SELECT {user}, 11, 'change', 1, 0, 11, 0, created_at FROM balance_changes \
            WHERE user_id = {user} AND version = 10; DROP TABLE taken"
    );
    service.pool.execute(&*mended).await.unwrap();
    let mut events = Events::resume(service.service.address(), user, 5).await;
    events.changes(6..=12).await;
    drop((events, beside));
    service.stop().await;
}

/// The state is read from the database, so a stream does not begin without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_begins_when_the_database_answers() {
    let service = TestService::start_with(&[("ANSWER_TIMEOUT_SECS", "1")]).await;
    crate::faults::signal_backends(&service, "-STOP").await;
    until("it is refused", async || {
        let answer = read(service.send(reqwest::Method::GET, "/users/1/events", None).await);
        let answer = timeout(Duration::from_secs(20), answer).await;
        answer.is_ok_and(|answer| answer == (503, error_body("Not applied, try again")))
    })
    .await;
    crate::faults::signal_backends(&service, "-CONT").await;
    until("the database answers", async || service.change("self", 1, 0).await.0 == 200).await;
    let mut events = open(&service, 1).await;
    assert_eq!(events.next().await.unwrap().name, "state");
    drop(events);
    service.stop().await;
}

/// As after a failover to a standby that was behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_the_database_has_lost_end_the_streams_and_new_ones_begin_again() {
    let service = TestService::start().await;
    let user = service.user_with(0).await;
    let mut before = open(&service, user).await;
    assert_eq!(before.next().await.unwrap().id, 0);
    make_entries(&service, user, 10, "r").await;
    before.changes(1..=10).await;
    let lost = format!(
        "DELETE FROM balance_changes WHERE user_id = {user} AND version > 5; \
         UPDATE users SET version = 5, balance = 5 WHERE id = {user}"
    );
    service.pool.execute(&*lost).await.unwrap();
    let mut after = open(&service, user).await;
    assert_eq!(after.next().await.unwrap().id, 5);
    let last = before.block().await;
    assert_eq!(last.as_deref(), Some(": the events cannot go on, connect again"));
    service.change("self", user, 1).await;
    assert_eq!(after.change().await.id, 6);
    let path = format!("/users/{user}/events");
    let refused = Events::request(service.service.address(), &path, "Last-Event-ID: 10\r\n").await;
    assert!(refused.head.starts_with("HTTP/1.1 400 "), "{}", refused.head);
    drop(after);
    service.stop().await;
}
