//! Small charts of something over time, both axes linear. Their names and values stand on the page beside them.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use serde::Deserialize;

use super::ChartError;
use super::lines::{Axis, Tick};
use super::theme::{self, Tooltips};

const FONT: i32 = 12;
/// The height of the labels below the chart.
const BELOW: u32 = 22;
/// The width of a character of a label, at most.
const CHARACTER: usize = 7;
/// A swatch shows how a series is drawn.
const SWATCH: (u32, u32) = (30, 10);

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Series over time.
#[derive(Clone, Debug, Deserialize)]
pub struct Times {
    /// Width and height.
    pub size: (u32, u32),
    /// Time.
    pub x: Axis,
    /// What is shown, from the bottom to the top.
    pub y: Axis,
    /// Drawn in this order.
    pub series: Vec<Track>,
}

/// One series.
#[derive(Clone, Debug, Deserialize)]
pub struct Track {
    /// The number of its colour and dashes.
    pub style: usize,
    /// Lines from left to right, with a gap between one and the next.
    pub runs: Vec<Vec<(f64, f64)>>,
}

pub(super) fn draw(times: &Times, description: &str) -> Result<String, ChartError> {
    check(&times.x)?;
    check(&times.y)?;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, times.size).into_drawing_area();
        draw_on(&root, times).map_err(ChartError::from_drawing)?;
        root.present().map_err(ChartError::from_drawing)?;
    }
    Ok(theme::finish(&svg, &Tooltips::default(), description))
}

/// How a series is drawn, for the list of their names.
pub(super) fn swatch(style: usize) -> Result<String, ChartError> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SWATCH).into_drawing_area();
        line(&root, vec![(0, 5), (30, 5)], style).map_err(ChartError::from_drawing)?;
        root.present().map_err(ChartError::from_drawing)?;
    }
    Ok(theme::finish(&svg, &Tooltips::default(), ""))
}

fn draw_on(root: &Area<'_>, times: &Times) -> Drawn {
    let longest = times.y.ticks.iter().map(|tick| tick.label.chars().count()).max().unwrap_or(0);
    let beside = u32::try_from(longest * CHARACTER + 10).unwrap_or(0);
    // Half of the last label may stand beyond the axis.
    let last = times.x.ticks.last().map_or(0, |tick| tick.label.chars().count());
    let beyond = i32::try_from(last * CHARACTER / 2 + 2).unwrap_or(0);
    let mut chart = ChartBuilder::on(root)
        .margin_top(8)
        .margin_right(14.max(beyond))
        .set_label_area_size(LabelAreaPosition::Left, beside)
        .set_label_area_size(LabelAreaPosition::Bottom, BELOW)
        .build_cartesian_2d(Ticked::new(&times.x), Ticked::new(&times.y))?;
    chart
        .configure_mesh()
        .x_labels(times.x.ticks.len())
        .y_labels(times.y.ticks.len())
        .x_label_formatter(&|at| label(&times.x, *at))
        .y_label_formatter(&|at| label(&times.y, *at))
        .label_style(TextStyle::from(("sans-serif", FONT)).color(&theme::MUTED))
        .axis_style(theme::MUTED)
        .bold_line_style(theme::GRID)
        .disable_x_mesh()
        .max_light_lines(0)
        .draw()?;
    for Track { style, runs } in &times.series {
        for run in runs {
            let places = run.iter().map(|point| chart.backend_coord(point)).collect();
            line(root, places, *style)?;
        }
    }
    Ok(())
}

/// Other dashes for each style, so that series can be told apart in grey.
fn line(root: &Area<'_>, places: Vec<(i32, i32)>, style: usize) -> Drawn {
    let (width, dashes) = match style % 6 {
        0 => (2, None),
        1 => (2, Some((7, 4))),
        2 => (2, Some((2, 3))),
        3 => (2, Some((14, 3))),
        4 => (1, None),
        _ => (1, Some((7, 4))),
    };
    let stroke = theme::color(style).stroke_width(width);
    match dashes {
        None => root.draw(&PathElement::new(places, stroke)),
        Some((dash, gap)) => root.draw(&DashedPathElement::new(places, dash, gap, stroke)),
    }
}

/// An axis whose grid is given. The library's own for that takes no labels but its own on linear axes.
struct Ticked {
    range: RangedCoordf64,
    ticks: Vec<f64>,
}

impl Ticked {
    fn new(axis: &Axis) -> Self {
        let (from, to) = axis.range;
        Self { range: (from..to).into(), ticks: axis.ticks.iter().map(|tick| tick.at).collect() }
    }
}

impl Ranged for Ticked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.range.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.range()
    }
}

/// The label of the tick that is nearest.
fn label(axis: &Axis, at: f64) -> String {
    let distance = |tick: &&Tick| (tick.at - at).abs();
    let nearest = axis.ticks.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    nearest.map_or_else(String::new, |tick| tick.label.clone())
}

fn check(axis: &Axis) -> Result<(), ChartError> {
    let (from, to) = axis.range;
    if from.is_finite() && from < to && to.is_finite() {
        return Ok(());
    }
    Err(ChartError(format!("{}: not a range: {from} to {to}", axis.name)))
}
