//! The charts of the service as a whole.

use super::sample::{Buckets, Sample};
use super::samples::Samples;
use super::scale::{from_zero, short, short_time};
use crate::charts::{Axis, Chart, Tick, Times, Track, swatch};

/// Width and height of each.
const SIZE: (u32, u32) = (320, 160);

/// Whole numbers on the axis, and times that a disk can reach.
const COUNT: f64 = 4.0;
const MILLIS: f64 = 0.004;

/// A chart of the last five minutes.
#[derive(Clone, Debug)]
pub struct DrawnChart {
    /// What it shows, with its unit.
    pub title: &'static str,
    /// An `<svg>` element.
    pub svg: String,
    /// The series, in the order in which they are listed.
    pub series: Vec<DrawnSeries>,
}

/// A series of a chart.
#[derive(Clone, Debug)]
pub struct DrawnSeries {
    /// What it is.
    pub name: &'static str,
    /// Its value in the last second.
    pub now: String,
    /// How it is drawn, as an `<svg>` element.
    pub swatch: String,
}

/// What a chart shows.
struct Plan {
    title: &'static str,
    label: fn(f64) -> String,
    /// The top of the axis where there is nothing or little.
    top_min: f64,
    series: &'static [Line],
}

/// A series, and how to compute it from a second: its length, and the samples at its begin and its end.
struct Line(&'static str, fn(f64, &Sample, &Sample) -> Option<f64>);

const PLANS: [Plan; 6] = [
    Plan {
        title: "Changes and operations per second",
        label: short,
        top_min: COUNT,
        series: &[
            Line("accepted", |long, a, b| rate(long, a.outcomes.accepted, b.outcomes.accepted)),
            Line("refused: no funds", |long, a, b| {
                rate(long, a.outcomes.refused, b.outcomes.refused)
            }),
            Line("replayed", |long, a, b| rate(long, a.outcomes.replayed, b.outcomes.replayed)),
            Line("rejected", |long, a, b| rate(long, a.outcomes.rejected, b.outcomes.rejected)),
            Line("not applied: 503", |long, a, b| {
                rate(long, a.outcomes.not_applied, b.outcomes.not_applied)
            }),
            Line("unknown or failed", |long, a, b| {
                rate(long, a.outcomes.failed, b.outcomes.failed)
            }),
        ],
    },
    Plan {
        title: "Response time of writes",
        label: short_time,
        top_min: MILLIS,
        series: &[
            Line("50 %", |_, a, b| of_requests(a, b).quantile(0.5)),
            Line("95 %", |_, a, b| of_requests(a, b).quantile(0.95)),
            Line("99 %", |_, a, b| of_requests(a, b).quantile(0.99)),
        ],
    },
    Plan {
        title: "Changes in a batch",
        label: short,
        top_min: COUNT,
        series: &[
            Line("mean", |_, a, b| b.batches.since(&a.batches).mean()),
            Line("95 %", |_, a, b| b.batches.since(&a.batches).quantile(0.95)),
        ],
    },
    Plan {
        title: "Time of a batch in the database",
        label: short_time,
        top_min: MILLIS,
        series: &[
            Line("50 %", |_, a, b| b.statements.since(&a.statements).quantile(0.5)),
            Line("99 %", |_, a, b| b.statements.since(&a.statements).quantile(0.99)),
        ],
    },
    Plan {
        title: "Waiting, and in flight",
        label: short,
        top_min: COUNT,
        series: &[
            Line("for a batch", |_, _, b| Some(b.levels.in_lanes)),
            Line("for a session", |_, _, b| Some(b.levels.for_sessions)),
            Line("requests in flight", |_, _, b| Some(b.levels.in_flight)),
            Line("connections", |_, _, b| Some(b.levels.connections)),
        ],
    },
    Plan {
        title: "Database sessions",
        label: short,
        top_min: COUNT,
        series: &[
            Line("used for changes", |_, _, b| Some(b.levels.changes_in_use)),
            Line("used for reads", |_, _, b| Some(b.levels.reads_in_use)),
            Line("limit", |_, _, b| Some(b.levels.sessions_max)),
        ],
    },
];

fn rate(long: f64, before: f64, after: f64) -> Option<f64> {
    Some((after - before) / long)
}

fn of_requests(before: &Sample, after: &Sample) -> Buckets {
    after.requests.since(&before.requests)
}

/// All charts.
pub(super) fn draw(samples: &Samples) -> Vec<DrawnChart> {
    PLANS.iter().map(|plan| plan.draw(samples)).collect()
}

impl Plan {
    fn draw(&self, samples: &Samples) -> DrawnChart {
        let mut most: f64 = 0.0;
        let mut tracks = Vec::new();
        let mut series = Vec::new();
        for (style, Line(name, value)) in self.series.iter().enumerate() {
            let points = samples
                .seconds()
                .map(|(ago, long, before, after)| (-ago, value(long, before, after)));
            let points: Vec<_> = points.collect();
            most = points.iter().filter_map(|(_, value)| *value).fold(most, f64::max);
            let last = points.last().and_then(|(_, value)| *value);
            series.push(DrawnSeries {
                name,
                now: last.map_or_else(|| "none".to_owned(), self.label),
                swatch: swatch(style).unwrap_or_default(),
            });
            tracks.push(Track { style, runs: runs(&points) });
        }
        // What comes first is the most important: it is drawn last, over the others.
        tracks.reverse();
        let y = from_zero(self.title, most.max(self.top_min), self.label);
        let chart = Chart::Times(Times { size: SIZE, x: last_minutes(), y, series: tracks });
        let values = series.iter().map(|one| format!("{} {}", one.name, one.now));
        let description = format!("{}: {}", self.title, values.collect::<Vec<_>>().join(", "));
        // An axis from zero to a finite number is always one.
        let svg = chart.svg(&description).unwrap_or_default();
        DrawnChart { title: self.title, svg, series }
    }
}

/// The points without gaps, a run for each. A single point is a short line, so that it can be seen.
fn runs(points: &[(f64, Option<f64>)]) -> Vec<Vec<(f64, f64)>> {
    let known = points.split(|(_, value)| value.is_none()).filter(|run| !run.is_empty());
    known
        .map(|run| {
            let mut run: Vec<_> =
                run.iter().filter_map(|(at, value)| Some((*at, (*value)?))).collect();
            if let [(at, value)] = run[..] {
                run.insert(0, (at - 1.0, value));
            }
            run
        })
        .collect()
}

fn last_minutes() -> Axis {
    let ticks = (0..=5).map(|minutes| Tick {
        at: -60.0 * f64::from(minutes),
        label: if minutes == 0 { "now".to_owned() } else { format!("-{minutes} min") },
    });
    Axis { name: "minutes ago".to_owned(), range: (-300.0, 0.0), ticks: ticks.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_are_drawn_without_any_sample() {
        let charts = draw(&Samples::default());
        assert_eq!(charts.len(), PLANS.len());
        for chart in charts {
            assert!(chart.svg.starts_with("<svg role=\"img\" aria-label="), "{}", chart.svg);
            assert!(chart.svg.contains("now"));
            for series in chart.series {
                assert_eq!(series.now, "none");
                assert!(series.swatch.contains("<poly") || series.swatch.contains("<line"));
            }
        }
    }

    #[test]
    fn each_series_has_a_colour_in_light_and_in_dark() {
        let style = crate::console::FILES.iter().find(|file| file.name == "console.css").unwrap();
        let most = PLANS.iter().map(|plan| plan.series.len()).max().unwrap();
        for number in 0..most {
            let colour = format!("--chart-series-{number}:");
            assert_eq!(style.content.matches(&colour).count(), 2, "{colour}");
        }
    }

    #[test]
    fn a_second_without_a_value_is_a_gap() {
        let points = [(-4.0, Some(1.0)), (-3.0, Some(2.0)), (-2.0, None), (-1.0, Some(3.0))];
        let lengths: Vec<_> = runs(&points).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 2]);
        assert_eq!(runs(&[(0.0, None)]).len(), 0);
    }
}
