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
