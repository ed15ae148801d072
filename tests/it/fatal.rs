//! What the executable says of itself, and of an error that ends it.

use serde_json::Value;

use crate::cluster::fresh_folder;
use crate::executable::{error_line, run, text};

#[tokio::test]
async fn an_error_that_ends_it_has_the_format_of_the_log() {
    let folder = fresh_folder("fatal");
    let json = ("LOG_FORMAT", "json");
    // The configuration is refused; the command fails; and no level hides it.
    for (variables, code, sentence) in [
        (&[json, ("PORT", "70000")][..], 2, "PORT is \"70000\": must be"),
        (
            &[
                json,
                ("DATABASE_URL", "postgres:///d?host=/nowhere"),
                ("RUST_LOG", "off"),
                ("CONNECT_TIMEOUT_SECS", "1"),
            ],
            3,
            "cannot connect to PostgreSQL at /nowhere",
        ),
    ] {
        let output = run(&folder, &["serve"], variables).await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let line: Value = serde_json::from_str(error_line(&output)).expect("one JSON document");
        assert_eq!(line["level"], "ERROR");
        assert!(line["timestamp"].is_string() && line["target"] == "plimsoll", "{line}");
        let message = line["fields"]["message"].as_str().unwrap();
        assert!(message.starts_with(sentence), "{message}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
    }
    let output = run(&folder, &["serve"], &[("LOG_FORMAT", "xml"), ("PORT", "70000")]).await;
    assert!(error_line(&output).starts_with("plimsoll: PORT is "), "{output:?}");
}

#[tokio::test]
async fn without_postgresql_it_says_that_database_url_is_not_set() {
    let folder = fresh_folder("no-database");
    for (variable, value) in [("PG_BIN", "/nowhere"), ("DATA_DIR", "/proc/nowhere")] {
        for command in ["serve", "migrate"] {
            let output = run(&folder, &[command], &[("PORT", "0"), (variable, value)]).await;
            assert_eq!(output.status.code(), Some(3), "{output:?}");
            let line = error_line(&output);
            assert!(line.starts_with("plimsoll: DATABASE_URL is not set, and "), "{line}");
        }
    }
}

#[tokio::test]
async fn the_version_names_the_commit() {
    let output = run(&fresh_folder("version"), &["--version"], &[]).await;
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let commit = if let Some(commit) =
        option_env!("PLIMSOLL_COMMIT").filter(|_| !manifest.join(".git").exists())
    {
        commit.to_owned()
    } else {
        let git = ["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short=12", "HEAD"];
        let head = std::process::Command::new("git").args(git).output().expect("git runs");
        text(&head.stdout).trim().to_owned()
    };
    let expected = format!("plimsoll {} ({commit})\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&output.stdout), expected);
}
