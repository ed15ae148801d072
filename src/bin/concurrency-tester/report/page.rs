//! The report as one page of HTML: complete in itself, without a script.

use std::fmt::Write as _;

use plimsoll::charts::{Axis, Bar, Bars, Chart, Lines, Part, Point, SERIES, Series, THEME, Tick};

use super::text;
use crate::figures::Figures;
use crate::plan::Plan;
use crate::run::{CheckedBurst, Run, Verdict};

const STYLE: &str = include_str!("page.css");

/// Of so many requests one is slower than a point of the curve.
const ONE_OF: [f64; 9] = [1.0, 1.25, 2.0, 4.0, 10.0, 20.0, 100.0, 1_000.0, 10_000.0];

/// The whole page.
pub(crate) fn page(plan: &Plan, run: &Run) -> String {
    let verdict = escaped(&text::verdict(plan, run));
    let broken = if run.verdict() == Verdict::Pass { "" } else { " broken" };
    let mut body = format!("<h1>Concurrency test of {}</h1>\n", escaped(&plan.target.to_string()));
    body += &format!("<p class=\"verdict{broken}\">{verdict}</p>\n");
    let answered: Vec<_> =
        run.bursts.iter().filter(|checked| !checked.burst.latency_us.is_empty()).collect();
    if !answered.is_empty() {
        body += &figure("Answers per second", &throughput(&answered));
        body += &figure("Share of answers that took longer", &latency(&answered));
    }
    if !run.bursts.is_empty() {
        body += &table(plan, run);
        body += &violations(run);
    }
    body += &settings(plan);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Plimsoll: concurrency test</title>\n<style>\n{THEME}{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

fn figure(title: &str, chart: &Chart) -> String {
    // A chart that cannot be drawn is no reason to have no report.
    let drawn = chart.svg(title).unwrap_or_else(|error| escaped(&error.to_string()));
    format!("<figure>\n<h2>{title}</h2>\n<div class=\"chart\">\n{drawn}</div>\n</figure>\n")
}

fn throughput(bursts: &[&CheckedBurst]) -> Chart {
    let row = |checked: &&CheckedBurst| {
        let rate = Figures::of(checked).requests_per_second;
        let title = format!("{}: {rate:.0} answers per second", checked.name);
        Bar {
            name: checked.name.clone(),
            label: format!("{rate:.0}"),
            parts: vec![Part { value: rate, series: 0, title }],
            spread: None,
        }
    };
    Chart::Bars(Bars { rows: bursts.iter().map(row).collect(), legend: Vec::new() })
}

/// The share of answers that took longer than a time, both logarithmic: so the slowest can be seen.
fn latency(bursts: &[&CheckedBurst]) -> Chart {
    let series = bursts.iter().take(SERIES).enumerate().map(|(style, checked)| Series {
        name: checked.name.clone(),
        style,
        points: curve(checked),
    });
    let series: Vec<_> = series.collect();
    let times = || series.iter().flat_map(|series| &series.points).map(|point| point.x);
    let least = 10_f64.powf(times().fold(f64::INFINITY, f64::min).log10().floor());
    let most = 10_f64.powf(times().fold(0.0, f64::max).log10().ceil());
    let decades = (0..12).map(|n| least * 10_f64.powi(n)).take_while(|at| *at <= most * 1.001);
    let x = Axis {
        name: "milliseconds".to_owned(),
        range: (least, most.max(least * 10.0)),
        ticks: decades.map(|at| Tick { at, label: format!("{at}") }).collect(),
    };
    let shares = [(1.0, "all"), (0.5, "half"), (0.1, "10 %"), (0.01, "1 %"), (0.001, "0.1 %")];
    let y = Axis {
        name: "took longer".to_owned(),
        range: (0.000_1, 1.0),
        ticks: shares.map(|(at, label)| Tick { at, label: label.to_owned() }).into(),
    };
    Chart::Lines(Lines { x, y, series })
}

fn curve(checked: &CheckedBurst) -> Vec<Point> {
    let histogram = &checked.burst.latency_us;
    // One of more requests than there were is none.
    let shares = ONE_OF.iter().filter(|one_of| **one_of <= histogram.len() as f64);
    let points = shares.map(|one_of| {
        let share = 1.0 / one_of;
        let ms = histogram.value_at_quantile(1.0 - share) as f64 / 1e3;
        let title = format!("{}: {:.2} % took longer than {ms:.1} ms", checked.name, share * 100.0);
        Point { x: ms.max(0.001), y: share, spread: None, title }
    });
    points.collect()
}

fn table(plan: &Plan, run: &Run) -> String {
    let mut html = "<h2>All figures</h2>\n<div class=\"wide\">\n<table>\n".to_owned();
    let headings = text::headings(plan);
    html += &cells("th", &headings);
    for checked in &run.bursts {
        html += &cells("td", &text::row(checked));
    }
    html += "</table>\n</div>\n";
    for compared in run.compared(plan) {
        let worse = if compared.is_worse { ", worse than allowed" } else { "" };
        let _ = writeln!(
            html,
            "<p>{}: requests per second × {:.2}, p99 × {:.2} of the baseline{worse}</p>",
            escaped(&compared.name),
            compared.requests_per_second,
            compared.p99
        );
    }
    html
}

fn cells(tag: &str, cells: &[String]) -> String {
    let cells: Vec<_> =
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect();
    format!("<tr>{}</tr>\n", cells.concat())
}

fn violations(run: &Run) -> String {
    let mut html = String::new();
    for checked in run.bursts.iter().filter(|checked| !checked.findings.exact()) {
        let _ = writeln!(html, "<h2>Violations: {}</h2>", escaped(&checked.name));
        for violation in &checked.findings.violations {
            let examples = escaped(&violation.examples.join("\n"));
            let _ =
                writeln!(html, "<p>{}</p>\n<pre>{examples}</pre>", escaped(&violation.to_string()));
        }
    }
    html
}

/// What it takes to make the run again. The token stays out.
fn settings(plan: &Plan) -> String {
    let Plan { requests, connections, timeout, .. } = plan;
    let checked =
        if plan.database.is_some() { "checked after each burst" } else { "not looked at" };
    format!(
        "<h2>Settings</h2>\n<p>{requests} requests a burst over {connections} connections, time-out \
         {} s; database {checked}; version {} of the tester.</p>\n",
        timeout.as_secs(),
        env!("CARGO_PKG_VERSION"),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
