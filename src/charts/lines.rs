//! Lines over two logarithmic axes, each with its name at its end.

use plotters::coord::Shift;
use plotters::coord::combinators::{BindKeyPoints, IntoLogRange};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Deserialize;

use super::ChartError;
use super::theme::{self, Tooltips};

const SIZE: (u32, u32) = (860, 400);
const NAMES: u32 = 220;
const FONT: i32 = 14;
/// The least distance between the names at the ends.
const NAME_HEIGHT: i32 = 17;
/// The radius of a marker.
const MARKER: i32 = 4;

/// Series over two axes.
#[derive(Clone, Debug, Deserialize)]
pub struct Lines {
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// At most as many as can be told apart.
    pub series: Vec<Series>,
}

/// A logarithmic axis.
#[derive(Clone, Debug, Deserialize)]
pub struct Axis {
    /// What it shows, with its unit.
    pub name: String,
    /// The lowest and the highest value, both above zero.
    pub range: (f64, f64),
    /// Where a line of the grid stands.
    pub ticks: Vec<Tick>,
}

/// A line of the grid.
#[derive(Clone, Debug, Deserialize)]
pub struct Tick {
    /// Its place.
    pub at: f64,
    /// Stands beside it.
    pub label: String,
}

/// A line.
#[derive(Clone, Debug, Deserialize)]
pub struct Series {
    /// Stands at its end.
    pub name: String,
    /// The number of its colour, marker and dashes.
    pub style: usize,
    /// From left to right.
    pub points: Vec<Point>,
}

/// A measured point.
#[derive(Clone, Debug, Deserialize)]
pub struct Point {
    /// On the horizontal axis.
    pub x: f64,
    /// On the vertical axis.
    pub y: f64,
    /// The lowest and the highest value of the rounds.
    #[serde(default)]
    pub spread: Option<(f64, f64)>,
    /// Is shown when the pointer rests on it.
    pub title: String,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

pub(super) fn draw(lines: &Lines, description: &str) -> Result<String, ChartError> {
    lines.check()?;
    let mut svg = String::new();
    let mut tooltips = Tooltips::default();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw_on(&root, lines, &mut tooltips).map_err(ChartError::from_drawing)?;
        root.present().map_err(ChartError::from_drawing)?;
    }
    Ok(theme::finish(&svg, &tooltips, description))
}

fn draw_on(root: &Area<'_>, lines: &Lines, tooltips: &mut Tooltips) -> Drawn {
    let mut chart = ChartBuilder::on(root)
        .margin_top(14)
        .margin_right(NAMES)
        .set_label_area_size(LabelAreaPosition::Left, 76)
        .set_label_area_size(LabelAreaPosition::Bottom, 46)
        .build_cartesian_2d(
            (lines.x.range.0..lines.x.range.1).log_scale().with_key_points(lines.x.places()),
            (lines.y.range.0..lines.y.range.1).log_scale().with_key_points(lines.y.places()),
        )?;
    chart
        .configure_mesh()
        .x_desc(lines.x.name.as_str())
        .y_desc(lines.y.name.as_str())
        .x_labels(lines.x.ticks.len())
        .y_labels(lines.y.ticks.len())
        .x_label_formatter(&|at| lines.x.label(*at))
        .y_label_formatter(&|at| lines.y.label(*at))
        .label_style(text(&theme::INK))
        .axis_desc_style(text(&theme::MUTED))
        .axis_style(theme::MUTED)
        .bold_line_style(theme::GRID)
        .max_light_lines(0)
        .draw()?;
    let mut ends = Vec::new();
    for series in &lines.series {
        let style = theme::color(series.style).stroke_width(2);
        let path: Vec<_> = series.points.iter().map(|point| (point.x, point.y)).collect();
        if series.style % 2 == 0 {
            chart.draw_series([PathElement::new(path, style)])?;
        } else {
            chart.draw_series([DashedPathElement::new(path, 7, 4, style)])?;
        }
        let spreads = series.points.iter().filter_map(|point| Some((point.x, point.spread?)));
        chart.draw_series(spreads.map(|(x, (low, high))| {
            PathElement::new([(x, low), (x, high)], theme::color(series.style).stroke_width(1))
        }))?;
        for point in &series.points {
            let place = chart.backend_coord(&(point.x, point.y));
            marker(root, place, series.style, tooltips.mark(series.style, &point.title))?;
        }
        if let Some(last) = series.points.last() {
            ends.push((chart.backend_coord(&(last.x, last.y)), series));
        }
    }
    names(root, ends)
}

fn text(color: &RGBColor) -> TextStyle<'_> {
    TextStyle::from(("sans-serif", FONT)).color(color)
}

/// Another form for each style, so that series can be told apart in grey.
fn marker(root: &Area<'_>, (x, y): (i32, i32), style: usize, color: RGBColor) -> Drawn {
    let square = [(x - MARKER, y - MARKER), (x + MARKER, y + MARKER)];
    match style % 6 {
        0 => root.draw(&Circle::new((x, y), MARKER, color.filled())),
        1 => root.draw(&Rectangle::new(square, color.filled())),
        2 => root.draw(&TriangleMarker::new((x, y), MARKER + 2, color.filled())),
        3 => root.draw(&Circle::new((x, y), MARKER, color.stroke_width(2))),
        4 => root.draw(&Rectangle::new(square, color.stroke_width(2))),
        _ => root.draw(&Cross::new((x, y), MARKER, color.stroke_width(2))),
    }
}

/// The name of each series at the end of its line, or as near to it as the others allow.
fn names(root: &Area<'_>, mut ends: Vec<((i32, i32), &Series)>) -> Drawn {
    ends.sort_by_key(|((_, y), _)| *y);
    let wanted: Vec<i32> = ends.iter().map(|((_, y), _)| *y).collect();
    let (width, height) = root.dim_in_pixel();
    let bottom = i32::try_from(height).unwrap_or(i32::MAX) - 46;
    let left = i32::try_from(width.saturating_sub(NAMES)).unwrap_or(0) + 22;
    for (((x, y), series), at) in ends.into_iter().zip(apart(&wanted, NAME_HEIGHT, 10, bottom)) {
        let color = theme::color(series.style);
        root.draw(&PathElement::new([(x + MARKER + 2, y), (left - 4, at)], color.stroke_width(1)))?;
        let style = text(&theme::INK).pos(Pos::new(HPos::Left, VPos::Center));
        marker(root, (left + 5, at), series.style, color)?;
        root.draw(&Text::new(series.name.as_str(), (left + 15, at), style))?;
    }
    Ok(())
}

/// Places that are at least `distance` apart, between `top` and `bottom`, near the wanted ones, which are in
/// ascending order.
pub(super) fn apart(wanted: &[i32], distance: i32, top: i32, bottom: i32) -> Vec<i32> {
    let mut places = Vec::with_capacity(wanted.len());
    let mut free_from = top;
    for place in wanted {
        let place = (*place).max(free_from);
        places.push(place);
        free_from = place + distance;
    }
    let mut free_to = bottom;
    for place in places.iter_mut().rev() {
        *place = (*place).min(free_to);
        free_to = *place - distance;
    }
    places
}

impl Lines {
    fn check(&self) -> Result<(), ChartError> {
        for axis in [&self.x, &self.y] {
            let (from, to) = axis.range;
            if !(from > 0.0 && from < to && to.is_finite()) {
                return Err(ChartError(format!("{}: not a range: {from} to {to}", axis.name)));
            }
        }
        if self.series.iter().all(|series| series.points.is_empty()) {
            return Err(ChartError("it has no point".to_owned()));
        }
        Ok(())
    }
}

impl Axis {
    fn places(&self) -> Vec<f64> {
        self.ticks.iter().map(|tick| tick.at).collect()
    }

    /// The label of the tick that is nearest.
    fn label(&self, at: f64) -> String {
        let distance = |tick: &&Tick| (tick.at / at).ln().abs();
        let nearest = self.ticks.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.map_or_else(String::new, |tick| tick.label.clone())
    }
}
