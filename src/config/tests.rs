use std::collections::HashMap;

use super::variables::{VARIABLES, Variable, help};
use super::{Config, ConfigError, DatabaseChoice};

fn with(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let map: HashMap<String, String> =
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Config::from_lookup(&|name| map.get(name).cloned())
}

#[test]
fn nothing_set_means_loopback_and_a_private_cluster() {
    let config = with(&[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:3000");
    assert!(matches!(config.database, DatabaseChoice::Private(_)));
    assert!(!config.tokens.is_set());
    assert!(config.tls.is_none());
    assert_eq!(config.internal, None);
}

#[test]
fn a_bad_value_is_named_with_what_is_allowed() {
    let line = |pairs| with(pairs).unwrap_err().to_string();
    assert_eq!(
        line(&[("PORT", "70000")]),
        "PORT is \"70000\": must be a whole number from 0 to 65535"
    );
    assert_eq!(
        line(&[("POOL_SIZE", "0")]),
        "POOL_SIZE is \"0\": must be a whole number from 1 to 1000"
    );
    assert_eq!(
        line(&[("READ_TIMEOUT_SECS", "60")]),
        "READ_TIMEOUT_SECS is \"60\": must be unset: HEAD_TIMEOUT_SECS, BODY_TIMEOUT_SECS and \
         IDLE_TIMEOUT_SECS have replaced it"
    );
    assert_eq!(
        line(&[("MIGRATE_ON_START", "no")]),
        "MIGRATE_ON_START is \"no\": must be true or false"
    );
    assert_eq!(line(&[("LOG_FORMAT", "xml")]), "LOG_FORMAT is \"xml\": must be text or json");
    assert!(line(&[("HOST", "localhost:1")]).starts_with("HOST is \"localhost:1\": must be"));
    assert_eq!(
        line(&[("LOCK_WAIT_MILLIS", "5000")]),
        "LOCK_WAIT_MILLIS is \"5000\": must be less than half of ANSWER_TIMEOUT_SECS"
    );
    assert!(line(&[("RUST_LOG", "a=b=c")]).starts_with("RUST_LOG is \"a=b=c\": must be"));
}

#[test]
fn an_address_that_others_can_reach_needs_tokens() {
    for host in ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"] {
        for name in ["HOST", "INTERNAL_HOST"] {
            let of = |config: Config| match name {
                "HOST" => config.listen.ip().to_string(),
                _ => config.internal.unwrap().ip().to_string(),
            };
            let listening = [(name, host), ("INTERNAL_PORT", "0")];
            assert_eq!(
                with(&listening).unwrap_err().to_string(),
                format!(
                    "{name} is \"{host}\": must be a loopback address such as 127.0.0.1, unless \
                     AUTH_TOKENS or AUTH_TOKENS_FILE is set (or DANGEROUSLY_OPEN_TO_EVERYONE is yes)"
                )
            );
            for allowing in [
                ("AUTH_TOKENS", "alpha"),
                ("AUTH_TOKENS_FILE", "/etc/plimsoll/tokens"),
                ("DANGEROUSLY_OPEN_TO_EVERYONE", "yes"),
            ] {
                let config = with(&[&listening[..], &[allowing]].concat()).unwrap();
                assert_eq!(of(config), host);
            }
        }
    }
    for host in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(with(&[("HOST", host)]).unwrap().listen.ip().to_string(), host);
    }
}

#[test]
fn what_belongs_together_is_set_together() {
    let line = |name, value| with(&[(name, value)]).unwrap_err().to_string();
    assert_eq!(
        line("INTERNAL_HOST", "127.0.0.1"),
        "INTERNAL_PORT is \"\": must be a port, since INTERNAL_HOST is set (0: the system chooses one)"
    );
    for (one, other) in [("TLS_CERT_FILE", "TLS_KEY_FILE"), ("TLS_KEY_FILE", "TLS_CERT_FILE")] {
        assert_eq!(
            line(one, "x.pem"),
            format!("{other} is \"\": must be the path of a file in PEM, since {one} is set")
        );
    }
    let both = with(&[("TLS_CERT_FILE", "x.pem"), ("TLS_KEY_FILE", "y.pem")]).unwrap();
    assert_eq!(both.tls.unwrap().key.path().to_str(), Some("y.pem"));
    let internal = with(&[("INTERNAL_PORT", "9100")]).unwrap().internal.unwrap();
    assert_eq!(internal.to_string(), "127.0.0.1:9100");
}

#[test]
fn only_yes_opens_the_service_to_everyone() {
    for value in ["no", "1", "true", "YES", "yes!"] {
        // Rejected even where it has no effect, since it was set on purpose.
        for host in ["0.0.0.0", "127.0.0.1"] {
            let line = with(&[("HOST", host), ("DANGEROUSLY_OPEN_TO_EVERYONE", value)]);
            assert_eq!(
                line.unwrap_err().to_string(),
                format!("DANGEROUSLY_OPEN_TO_EVERYONE is {value:?}: must be yes, or unset")
            );
        }
    }
}

#[test]
fn secrets_are_never_quoted() {
    for (name, value) in [("DATABASE_URL", "mysql://u:hunter2@h/d"), ("AUTH_TOKENS", "hunter2,,")] {
        let line = with(&[(name, value)]).unwrap_err().to_string();
        assert!(line.starts_with(name), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[test]
fn the_example_file_and_the_help_list_every_variable_with_its_default() {
    let example = include_str!("../../.env.example");
    for Variable { name, default, .. } in VARIABLES {
        let line = format!("{name}={default}");
        let found = example.lines().any(|l| {
            let text = l.trim_start_matches("# ").trim();
            if default.is_empty() { text.starts_with(&line) } else { text == line }
        });
        assert!(found, ".env.example lacks {line}");
        assert!(help().contains(name));
    }
}
