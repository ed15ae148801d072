//! What a drawing must have, whatever it looks like.

use super::lines::apart;
use super::*;

fn bars(value: f64) -> Chart {
    let part = Part { value, series: 1, title: "a <b> & \"c\"".to_owned() };
    let bar = Bar {
        name: "first".to_owned(),
        label: "12 /s".to_owned(),
        parts: vec![part],
        spread: Some((value / 2.0, value * 2.0)),
    };
    Chart::Bars(Bars { rows: vec![bar], legend: Vec::new() })
}

fn lines(points: Vec<Point>) -> Chart {
    let axis = |name: &str| Axis {
        name: name.to_owned(),
        range: (1.0, 100.0),
        ticks: vec![Tick { at: 10.0, label: "ten".to_owned() }],
    };
    let series = Series { name: "only".to_owned(), style: 0, points };
    Chart::Lines(Lines { x: axis("across"), y: axis("up"), series: vec![series] })
}

fn drawn(chart: &Chart) -> String {
    chart.svg("said").expect("it can be drawn")
}

#[test]
fn a_bar_has_its_name_its_value_and_its_tooltip() {
    let svg = drawn(&bars(12.0));
    for wanted in ["first", "12 /s", "<title>a &lt;b&gt; &amp; &quot;c&quot;</title></rect>"] {
        assert!(svg.contains(wanted), "no {wanted} in {svg}");
    }
}

#[test]
fn no_drawing_has_a_colour_of_its_own() {
    let point = Point { x: 2.0, y: 3.0, spread: Some((2.0, 4.0)), title: "here".to_owned() };
    for svg in [drawn(&bars(12.0)), drawn(&lines(vec![point]))] {
        assert!(!svg.contains("\"#"), "a colour in {svg}");
        assert!(svg.contains("var(--chart-ink)"), "no ink in {svg}");
        assert!(svg.starts_with("<svg role=\"img\" aria-label=\"said\" viewBox="), "{svg}");
    }
}

#[test]
fn a_line_has_its_ticks_and_its_points() {
    let point = |x: f64| Point { x, y: x, spread: None, title: format!("at {x}") };
    let svg = drawn(&lines(vec![point(2.0), point(20.0)]));
    for wanted in ["ten", "across", "only", "<title>at 2</title></circle>", "<title>at 20</title>"]
    {
        assert!(svg.contains(wanted), "no {wanted} in {svg}");
    }
}

#[test]
fn what_cannot_be_drawn_is_an_error() {
    assert!(bars(0.0).svg("").is_err());
    assert!(bars(f64::NAN).svg("").is_err());
    assert!(lines(Vec::new()).svg("").is_err());
}

#[test]
fn names_keep_their_distance_and_stay_inside() {
    assert_eq!(apart(&[10, 50], 17, 0, 100), [10, 50]);
    assert_eq!(apart(&[10, 12, 13], 17, 0, 100), [10, 27, 44]);
    assert_eq!(apart(&[95, 99, 120], 17, 0, 100), [66, 83, 100]);
}

#[test]
fn series_over_time_have_gaps_and_dashes_of_their_own() {
    let tick = |at: f64| Tick { at, label: format!("at {at}") };
    let axis =
        |to: f64| Axis { name: "n".to_owned(), range: (0.0, to), ticks: vec![tick(0.0), tick(to)] };
    let runs = vec![vec![(0.0, 1.0), (3.0, 2.0)], vec![(6.0, 0.0), (10.0, 4.0)]];
    let drawn_as = |style| {
        let series = vec![Track { style, runs: runs.clone() }];
        let times = Times { size: (300, 100), x: axis(10.0), y: axis(4.0), series };
        drawn(&Chart::Times(times))
    };
    let lines = |style: usize| drawn_as(style).matches(&format!("series-{style})")).count();
    assert_eq!(lines(0), 2);
    assert!(lines(1) > 10 && lines(2) > lines(1) && lines(3) < lines(1) && lines(4) == 2);
    for wanted in ["at 0", "at 4", "at 10", "var(--chart-series-0)"] {
        assert!(drawn_as(0).contains(wanted), "no {wanted}");
    }
    assert!(!drawn_as(1).contains("style="), "a strict policy forbids it");
    let nowhere = Times { size: (300, 100), x: axis(0.0), y: axis(1.0), series: Vec::new() };
    assert!(Chart::Times(nowhere).svg("").is_err());
    assert_ne!(swatch(0).unwrap(), swatch(2).unwrap());
}
