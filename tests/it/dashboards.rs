//! The dashboard and the alerts under `deploy/` name only metrics, labels and values that there are.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::faults::until;
use crate::metrics::Metrics;
use crate::service::TestService;

const DASHBOARD: &str = include_str!("../../deploy/grafana/plimsoll.json");
const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");
const GUIDE: &str = include_str!("../../docs/operating.md");

/// The labels that Prometheus itself adds.
const OF_PROMETHEUS: [&str; 2] = ["job", "instance"];

/// Every expression of the dashboard.
fn expressions_of_dashboard() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match (name.as_str(), member) {
                        ("expr", Value::String(text)) => found.push(text.clone()),
                        _ => collect(member, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_str(DASHBOARD).unwrap(), &mut found);
    found
}

/// The values behind these words of the alerts, one a line.
fn of_alerts(word: &str) -> Vec<&'static str> {
    ALERTS.lines().filter_map(|line| line.trim().strip_prefix(word)).map(str::trim).collect()
}

/// The metrics of an expression, each with the text that follows it.
fn metrics_of(expression: &str) -> Vec<(&str, &str)> {
    let starts = expression.match_indices("plimsoll_").map(|(start, _)| &expression[start..]);
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let split = starts.map(|text| text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len())));
    split.collect()
}

/// The labels of each sample, and their values.
type Samples = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn samples(text: &str) -> Samples {
    let mut samples = Samples::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let labels = samples.entry(name.to_owned()).or_default();
        let Some((list, _)) = rest.strip_prefix('{').and_then(|rest| rest.rsplit_once("} ")) else {
            continue;
        };
        for pair in list.split("\",") {
            let (label, value) = pair.split_once("=\"").unwrap();
            let value = value.trim_end_matches('"').to_owned();
            labels.entry(label.to_owned()).or_default().insert(value);
        }
    }
    samples
}

/// Checks the metrics of an expression, their labels in braces, and those behind `by`.
fn check(expression: &str, samples: &Samples) -> Result<usize, String> {
    let metrics = metrics_of(expression);
    let mut known: BTreeSet<&str> = OF_PROMETHEUS.into();
    for (name, rest) in &metrics {
        let labels = samples.get(*name).ok_or_else(|| format!("there is no {name}"))?;
        known.extend(labels.keys().map(String::as_str));
        let Some((matchers, _)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        else {
            continue;
        };
        for matcher in matchers.split(',') {
            let (label, value) = matcher.split_at(matcher.find(['=', '!']).unwrap());
            if OF_PROMETHEUS.contains(&label) {
                continue;
            }
            let values = labels.get(label).ok_or_else(|| format!("{name} has no {label}"))?;
            let exact = value.strip_prefix("=\"").map(|value| value.trim_end_matches('"'));
            if exact.is_some_and(|value| !values.contains(value)) {
                return Err(format!("{name} has no {matcher}, but {values:?}"));
            }
        }
    }
    for (_, list) in
        expression.match_indices("by (").map(|(at, by)| expression.split_at(at + by.len()))
    {
        for label in list.split(')').next().unwrap_or_default().split(", ") {
            if !known.contains(label) {
                return Err(format!("no metric has {label}"));
            }
        }
    }
    Ok(metrics.len())
}

/// The metrics of a service that did some of everything.
async fn live() -> Samples {
    let service = TestService::start().await;
    let user = service.user_with(10).await;
    for (approach, amount) in [("batched", -1), ("self", -1), ("batched", -99)] {
        service.change(approach, user, amount).await;
    }
    let transfer = json!({ "from": 1, "to": user, "amount": 1 });
    for (path, body) in [("/transfers", transfer), ("/users/1/holds", json!({ "amount": 1 }))] {
        assert_eq!(service.send(Method::POST, path, Some(body)).await.status(), 201);
    }
    until("the database was asked", async || {
        Metrics::scrape(&service).await.find("plimsoll_database_up") == Some(1.0)
    })
    .await;
    let samples = samples(Metrics::scrape(&service).await.text());
    service.stop().await;
    samples
}

#[tokio::test]
async fn every_metric_of_the_dashboard_and_of_the_alerts_exists_with_its_labels() {
    let samples = live().await;
    let dashboard = expressions_of_dashboard();
    assert!(dashboard.len() > 30, "{dashboard:?}");
    let mut count = 0;
    for expression in dashboard.iter().map(String::as_str).chain(of_alerts("expr:")) {
        count += check(expression, &samples).unwrap_or_else(|no| panic!("{no}: {expression}"));
    }
    let named = DASHBOARD.matches("plimsoll_").count() + ALERTS.matches("plimsoll_").count();
    // The dashboard's variables name one metric twice each.
    assert_eq!(count + 4, named, "a metric stands outside of an expression");

    // The guide has a row for each metric, and no others.
    let families: BTreeSet<_> = samples.keys().map(|name| family(name)).collect();
    let rows: BTreeSet<_> = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("| `plimsoll_")?.split('`').next())
        .map(|name| format!("plimsoll_{name}"))
        .collect();
    assert_eq!(rows, families.into_iter().map(str::to_owned).collect());
}

/// The name without what a histogram appends.
fn family(name: &str) -> &str {
    let ends = ["_bucket", "_sum", "_count"];
    ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

#[tokio::test]
async fn a_wrong_expression_is_noticed() {
    let samples = live().await;
    for wrong in [
        "rate(plimsoll_change_total[5m])",
        "plimsoll_lane_queue{lane=\"changes\"}",
        "plimsoll_changes_total{outcome=\"unkown\"}",
        "sum by (end) (plimsoll_changes_total)",
    ] {
        assert!(check(wrong, &samples).is_err(), "{wrong}");
    }
    let right =
        "sum by (outcome, job) (rate(plimsoll_changes_total{outcome!=\"x\",job=~\"y\"}[5m]))";
    assert_eq!(check(right, &samples), Ok(1));
}

#[test]
fn each_alert_has_a_severity_and_a_section_of_the_guide() {
    let count = of_alerts("- alert:").len();
    assert!(count >= 9);
    for word in ["expr:", "labels: { severity:", "summary:"] {
        assert_eq!(of_alerts(word).len(), count, "{word}");
    }
    let runbooks = of_alerts("runbook: docs/operating.md#");
    assert_eq!(runbooks.len(), count);
    let sections: Vec<_> = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|title| title.to_lowercase().replace(' ', "-").replace([',', ':'], ""))
        .collect();
    for runbook in runbooks {
        assert!(sections.iter().any(|section| section == runbook), "{runbook}");
    }
}
