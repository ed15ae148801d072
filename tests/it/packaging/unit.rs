//! The unit of systemd, and what the service tells systemd.

use std::time::Duration;

use rustix::process::Signal;
use sqlx::ConnectOptions;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use super::{duration, read};
use crate::cluster::{fresh_folder, shared};
use crate::executable::{PATIENCE, run, send, start, text, wait_for};

/// The values of a directive, in order.
fn values(name: &str) -> Vec<String> {
    let text = read("deploy/systemd/plimsoll.service");
    let found = text.lines().filter_map(|line| line.split_once('='));
    found.filter(|(found, _)| *found == name).map(|(_, value)| value.to_owned()).collect()
}

#[track_caller]
fn assert_only(name: &str, value: &str) {
    assert_eq!(values(name), [value], "{name}");
}

pub(super) fn timeout_stop() -> Duration {
    duration(&values("TimeoutStopSec")[0])
}

#[test]
fn the_unit_gives_the_service_nothing_but_sockets() {
    for name in [
        "NoNewPrivileges",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateUsers",
        "ProtectHostname",
        "ProtectClock",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectControlGroups",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
        "MemoryDenyWriteExecute",
        "RemoveIPC",
    ] {
        assert_only(name, "yes");
    }
    assert_only("ProtectSystem", "strict");
    assert_only("CapabilityBoundingSet", "");
    assert_only("AmbientCapabilities", "");
    assert_only("User", "plimsoll");
    assert_only("UMask", "0077");
    assert_only("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX");
    assert_eq!(values("SystemCallFilter"), ["@system-service", "~@privileged"]);
    assert!(values("ReadWritePaths").is_empty());
}

#[test]
fn the_unit_starts_the_service_again_unless_that_cannot_help() {
    assert_only("Type", "notify");
    assert_only("Restart", "on-failure");
    // The exit code of a bad variable, see `plimsoll --help`.
    assert_only("RestartPreventExitStatus", "2");
    assert_only("StartLimitIntervalSec", "0");
    // A migration may take minutes, and the service itself bounds its wait for the database.
    assert_only("TimeoutStartSec", "infinity");
    assert_only("ExecReload", "/bin/kill -HUP $MAINPID");
    let open_files: u64 = values("LimitNOFILE")[0].parse().unwrap();
    let most = plimsoll::config::VARIABLES.iter().find(|v| v.name == "MAX_CONNECTIONS").unwrap();
    assert!(open_files > most.default.parse::<u64>().unwrap() + 128);
    // The file that it names is the one that the comment above installs.
    let unit = read("deploy/systemd/plimsoll.service");
    assert!(unit.contains(&format!(".env.example {}", values("EnvironmentFile")[0])));
}

#[tokio::test]
async fn the_command_of_the_unit_exists() {
    let command = &values("ExecStart")[0];
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("/usr/local/bin/plimsoll"));
    let arguments: Vec<&str> = words.chain(["--help"]).collect();
    let output = run(&fresh_folder("unit"), &arguments, &[]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).starts_with("Serve until told to stop"), "{output:?}");
}

#[tokio::test]
async fn systemd_learns_when_the_service_is_ready_and_when_it_stops() {
    let database = shared().await.fresh_database().await;
    let folder = fresh_folder("notify");
    let (socket, late) = (folder.join("notify"), fresh_folder("late"));
    let systemd = UnixDatagram::bind(&socket).unwrap();
    let url = database.clone().socket(&late).to_url_lossy().to_string();
    let variables =
        [("DATABASE_URL", &*url), ("PORT", "0"), ("NOTIFY_SOCKET", socket.to_str().unwrap())];
    let (mut child, mut log) = start(&folder, &["serve"], &variables);
    wait_for(&mut log, "waiting for the database").await;
    let mut message = [0; 100];
    let early = systemd.try_recv(&mut message).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock, "not before it is ready");
    let real = database.get_socket().unwrap().join(".s.PGSQL.5432");
    std::os::unix::fs::symlink(real, late.join(".s.PGSQL.5432")).unwrap();
    for expected in ["READY=1\n", "STOPPING=1\n"] {
        let length =
            timeout(PATIENCE, systemd.recv(&mut message)).await.expect("it tells").unwrap();
        assert_eq!(text(&message[..length]), expected);
        if expected.starts_with("READY") {
            send(&child, Signal::TERM);
        }
    }
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert!(status.success());
}
