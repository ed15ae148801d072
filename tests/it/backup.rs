//! Backup and restore as docs/operating.md has them: a base backup under load, and a recovery to a point
//! in time.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll::cluster::{PrivateCluster, SERVICE_DATABASE};
use plimsoll::verify::verify;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::cluster::{fresh_folder, options_in};
use crate::faults::until;
use crate::service::{TestService, read};

/// A cluster that archives its log in this folder.
async fn archiving_to(archive: &Path) -> PrivateCluster {
    let mut options = options_in(&fresh_folder("archiving"));
    let command = format!("cp %p {}/%f", archive.display());
    options.settings =
        vec![("archive_mode".into(), "on".into()), ("archive_command".into(), command)];
    let cluster = PrivateCluster::start(options).await.unwrap();
    give(archive, &cluster);
    cluster
}

/// Makes the server's user the owner.
fn give(path: &Path, cluster: &PrivateCluster) {
    let owner = fs::metadata(cluster.cluster_dir()).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// Some of everything: a change, a transfer, a hold and its capture.
async fn work(service: &TestService, users: [i64; 2]) {
    let [one, two] = users;
    let post = async |path: &str, body| {
        let response = service.send(Method::POST, path, Some(body)).await;
        let (status, text) = read(response).await;
        assert!(matches!(status, 200 | 201), "{path}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_eq!(service.change("batched", one, -1).await.0, 200);
    post("/transfers", json!({ "from": one, "to": two, "amount": 2 })).await;
    let held = post(&format!("/users/{two}/holds"), json!({ "amount": 1 })).await;
    let capture = format!("/users/{two}/holds/{}/capture", held["hold"]);
    post(&capture, json!({ "to": one })).await;
}

async fn version_of(connection: &mut PgConnection, user: i64) -> i64 {
    sqlx::query_scalar("SELECT version FROM users WHERE id = $1")
        .bind(user)
        .fetch_one(connection)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_recovered_to_a_point_in_time() {
    let archive = fresh_folder("archive");
    let cluster = archiving_to(&archive).await;
    let service = TestService::start_on(cluster.connect_options(SERVICE_DATABASE), &[]).await;
    let users = [service.user_with(1_000_000).await, service.user_with(1_000_000).await];
    let restored_folder = fresh_folder("restored");
    let data_dir = options_in(&restored_folder).data_dir;
    let stop = AtomicBool::new(false);
    let load = async {
        while !stop.load(Ordering::Relaxed) {
            work(&service, users).await;
        }
    };
    let backup = async {
        cluster.copy_to(&data_dir, &[]).await.unwrap();
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, backup);

    // After the backup, up to the moment.
    work(&service, users).await;
    let mut admin = cluster.superuser_options(SERVICE_DATABASE).connect().await.unwrap();
    let moment: String =
        sqlx::query_scalar("SELECT clock_timestamp()::text").fetch_one(&mut admin).await.unwrap();
    let wanted = [version_of(&mut admin, users[0]).await, version_of(&mut admin, users[1]).await];
    // A mistake, say, that is to be undone.
    work(&service, users).await;
    archive_everything(&mut admin).await;
    admin.close().await.unwrap();
    service.stop().await;
    cluster.stop().await.unwrap();

    let target = format!(
        "restore_command = 'cp {}/%f %p'\nrecovery_target_time = '{moment}'\n\
         recovery_target_action = 'promote'\n",
        archive.display()
    );
    let postgres = data_dir.join("postgres");
    let configuration =
        fs::OpenOptions::new().append(true).open(postgres.join("postgresql.auto.conf"));
    configuration.unwrap().write_all(target.as_bytes()).unwrap();
    let signal = postgres.join("recovery.signal");
    fs::write(&signal, "").unwrap();
    give(&signal, &cluster);
    let restored = PrivateCluster::start(options_in(&restored_folder)).await.unwrap();
    let mut connection = restored.connect_options(SERVICE_DATABASE).connect().await.unwrap();
    until("the recovery has ended", async || {
        let query = sqlx::query_scalar("SELECT NOT pg_is_in_recovery()");
        query.fetch_one(&mut connection).await.unwrap()
    })
    .await;
    for (user, wanted) in users.into_iter().zip(wanted) {
        assert_eq!(version_of(&mut connection, user).await, wanted);
    }
    let report = verify(&mut connection).await.unwrap();
    assert!(report.is_clean(), "{report:#?}");
    connection.close().await.unwrap();

    // And it serves.
    let service = TestService::start_on(restored.connect_options(SERVICE_DATABASE), &[]).await;
    work(&service, users).await;
    service.stop().await;
    restored.stop().await.unwrap();
}

/// Waits until the log so far is in the archive.
async fn archive_everything(admin: &mut PgConnection) {
    let last: String = sqlx::query_scalar("SELECT pg_walfile_name(pg_switch_wal())")
        .fetch_one(&mut *admin)
        .await
        .unwrap();
    until("the log is archived", async || {
        let archived: Option<String> =
            sqlx::query_scalar("SELECT last_archived_wal FROM pg_stat_archiver")
                .fetch_one(&mut *admin)
                .await
                .unwrap();
        archived.is_some_and(|archived| archived >= last)
    })
    .await;
}
