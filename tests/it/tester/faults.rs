//! `concurrency-tester faults`: a tiny run with everything that a long one has, and bad usage.

use std::fs;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::running::Tester;

fn faults(arguments: &[&str]) -> Tester {
    Tester::bare().args(&["faults"]).args(arguments).log(Path::new(""))
}

#[tokio::test]
async fn two_kinds_of_faults_are_made_and_every_answer_was_true() {
    let only = "kill-instance,db-cut-after";
    let output = faults(&["--seconds", "5", "--seed", "1", "--only", only]).run().await;
    output.assert_code(0);
    output.assert_stdout_starts("PASS: ");
    let lines: Vec<_> = output.stdout.lines().collect();
    assert!(lines[0].contains(" faults of 2 kinds, "), "{output}");
    for kind in only.split(',') {
        assert!(lines.iter().any(|line| line.starts_with(kind)), "{kind}\n{output}");
        assert!(output.stderr.lines().any(|line| line.contains(kind)), "{kind}\n{output}");
    }
    assert!(lines[1].starts_with("seed 1, "), "{output}");
}

#[tokio::test]
async fn bad_usage_of_faults_ends_with_2_and_names_the_flag() {
    for (arguments, named) in [
        (&["--only", "kill-everything"][..], "kill-instance, terminate-instance"),
        (&["--minutes", "0"], "--minutes"),
        (&["--quick", "--minutes", "5"], "--quick"),
        (&["--minutes", "5", "--seconds", "5"], "--minutes"),
        (&["--seed", "x"], "--seed"),
        (&["--colour"], "--colour"),
    ] {
        faults(arguments).run().await.assert_refused_to_run(2, named);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_ends_all_processes_and_removes_the_folder() {
    let mut running = faults(&["--seconds", "60", "--only", "db-delay"]).start();
    let mut lines = BufReader::new(running.stderr()).lines();
    let first = lines.next_line().await.unwrap().expect("where it is");
    let folder = first.split_once(", folder ").expect("the folder").1.to_owned();
    while !lines.next_line().await.unwrap().expect("a fault").contains("db-delay") {}
    let output = running.interrupt().await;
    output.assert_code(130);
    assert!(output.stdout.is_empty(), "{output}");
    assert!(!Path::new(&folder).exists(), "{folder}");
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        assert!(!arguments.contains(&folder), "still there: {arguments}");
    }
}
