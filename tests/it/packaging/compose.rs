//! The compose file.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{duration, file, is_variable, read};

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).expect("YAML")
}

fn services(document: &Value) -> &Map<String, Value> {
    document["services"].as_object().expect("services")
}

fn service<'a>(document: &'a Value, name: &str) -> &'a Value {
    &services(document)[name]
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().map_or(Vec::new(), |list| list.iter().filter_map(Value::as_str).collect())
}

pub(super) fn stop_grace_period() -> Duration {
    duration(service(&compose(), "plimsoll")["stop_grace_period"].as_str().expect("a duration"))
}

#[test]
fn every_service_has_no_more_rights_than_it_needs_and_comes_back() {
    for (name, service) in services(&compose()) {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert!(service.get("cap_add").is_none(), "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        let restart = service["restart"].as_str().unwrap_or_default();
        let wanted = if name == "migrate" { "on-failure" } else { "unless-stopped" };
        assert_eq!(restart, wanted, "{name}");
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
        if service.get("build").is_none() {
            let image = service["image"].as_str().expect("an image");
            assert!(image.contains(':') && !image.ends_with(":latest"), "{image}");
        }
    }
}

#[test]
fn every_service_that_stays_has_a_health_check() {
    for (name, service) in services(&compose()) {
        let check = &service["healthcheck"];
        if name == "migrate" {
            // It inherits that of the image, and answers nobody.
            assert_eq!(check["disable"], true);
            continue;
        }
        let test = texts(&check["test"]);
        assert!(test.len() > 1 && test[0] == "CMD", "{name}: {test:?}");
        assert!(check["retries"].is_number() && check["timeout"].is_string(), "{name}");
    }
    let document = compose();
    let test = &service(&document, "plimsoll")["healthcheck"]["test"];
    assert_eq!(texts(test), ["CMD", "plimsoll", "health"]);
}

#[test]
fn the_service_starts_after_the_migration_as_a_role_that_only_serves() {
    let document = compose();
    let (service, migrate) = (service(&document, "plimsoll"), service(&document, "migrate"));
    let role = |service: &Value| {
        let url = service["environment"]["DATABASE_URL"].as_str().expect("a URL");
        url.trim_start_matches("postgres://").split(':').next().unwrap().to_owned()
    };
    assert_eq!(texts(&migrate["command"]), ["migrate", "--grant-to", &role(service)]);
    assert_ne!(role(service), role(migrate));
    assert_eq!(service["environment"]["MIGRATE_ON_START"], "false");
    let condition =
        |service: &Value, other: &str| service["depends_on"][other]["condition"].clone();
    assert_eq!(condition(service, "migrate"), "service_completed_successfully");
    for waits in [service, migrate] {
        assert_eq!(condition(waits, "postgres"), "service_healthy");
        assert_eq!(waits["build"], service["build"], "the same image");
    }
    // They are what roles.sql makes by default.
    let roles = read("deploy/postgres/roles.sql");
    assert!(roles.contains(&format!("\\set owner {}\n", role(migrate))));
    assert!(roles.contains(&format!("\\set service {}\n", role(service))));
}

#[test]
fn its_variables_exist_and_tokens_can_be_passed() {
    let document = compose();
    for name in ["plimsoll", "migrate"] {
        let environment = service(&document, name)["environment"].as_object().expect("variables");
        for variable in environment.keys() {
            assert!(is_variable(variable), "{name}: {variable}");
        }
    }
    let environment = &service(&document, "plimsoll")["environment"];
    assert_eq!(environment["AUTH_TOKENS"], "${AUTH_TOKENS:-}");
}

#[test]
fn what_is_named_by_a_profile_can_be_ended_by_the_command_above() {
    let text = read("docker-compose.yml");
    let down = text.lines().find(|line| line.starts_with('#') && line.ends_with(" down"));
    let down = down.expect("the command that ends everything");
    let document = compose();
    let profiles = services(&document).values().flat_map(|service| texts(&service["profiles"]));
    let profiles: std::collections::BTreeSet<_> = profiles.collect();
    assert_eq!(profiles.iter().copied().collect::<Vec<_>>(), ["monitoring", "service"]);
    for profile in profiles {
        assert!(down.contains(&format!("--profile {profile} ")), "{down} leaves {profile} running");
    }
    // The database alone is the default.
    assert!(service(&document, "postgres").get("profiles").is_none());
}

#[test]
fn what_is_mounted_from_here_is_here_and_read_only() {
    for (name, service) in services(&compose()) {
        for volume in texts(&service["volumes"]) {
            let Some(path) = volume.strip_prefix("./") else { continue };
            let parts: Vec<&str> = path.split(':').collect();
            assert_eq!(parts.len(), 3, "{volume}");
            assert_eq!(parts[2], "ro", "{volume}");
            assert!(file(parts[0]).exists(), "{name}: {volume}");
        }
    }
}

#[test]
fn prometheus_scrapes_the_service() {
    let document = compose();
    let config: Value = serde_saphyr::from_str(&read("deploy/compose/prometheus.yml")).unwrap();
    let target = config["scrape_configs"][0]["static_configs"][0]["targets"][0].as_str().unwrap();
    let (host, port) = target.split_once(':').unwrap();
    let ports = texts(&service(&document, host)["ports"]);
    assert!(ports[0].ends_with(&format!(":{port}")), "{target}: {ports:?}");
    let rules = config["rule_files"][0].as_str().unwrap();
    let mounts = texts(&service(&document, "prometheus")["volumes"]);
    let folder = rules.rsplit_once('/').unwrap().0;
    assert!(mounts.contains(&&*format!("./deploy/prometheus:{folder}:ro")), "{mounts:?}");
}

#[test]
fn grafana_finds_its_data_source_and_its_dashboards() {
    let folder = "deploy/grafana/provisioning";
    let source: Value =
        serde_saphyr::from_str(&read(&format!("{folder}/datasources/prometheus.yml"))).unwrap();
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    assert_eq!(source["datasources"][0]["uid"], "prometheus");
    let provider: Value =
        serde_saphyr::from_str(&read(&format!("{folder}/dashboards/plimsoll.yml"))).unwrap();
    let path = provider["providers"][0]["options"]["path"].as_str().expect("a path");
    let document = compose();
    let mounts = &service(&document, "grafana")["volumes"];
    let mounted = format!("./deploy/grafana:{path}:ro");
    assert!(texts(mounts).contains(&&*mounted), "{mounted}");
}
