//! Horizontal bars with their spread, each with its value beside it.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Deserialize;

use super::ChartError;
use super::theme::{self, Tooltips};

const WIDTH: u32 = 860;
const ROW: u32 = 26;
const NAMES: u32 = 240;
const VALUES: u32 = 170;
const HEAD: u32 = 26;
const FONT: i32 = 14;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// How much of its row a bar fills, to each side of the middle.
const HALF: f64 = 0.33;

/// Rows of bars over one axis that begins at zero.
#[derive(Clone, Debug, Deserialize)]
pub struct Bars {
    /// The rows, from top to bottom.
    pub rows: Vec<Bar>,
    /// What the colours mean, if the bars have several parts.
    #[serde(default)]
    pub legend: Vec<Key>,
}

/// A colour and its meaning.
#[derive(Clone, Debug, Deserialize)]
pub struct Key {
    /// What it means.
    pub name: String,
    /// The number of the colour.
    pub series: usize,
}

/// A row.
#[derive(Clone, Debug, Deserialize)]
pub struct Bar {
    /// Stands to the left.
    pub name: String,
    /// Stands to the right of the bar.
    pub label: String,
    /// One after another; at least one.
    pub parts: Vec<Part>,
    /// The lowest and the highest value of the rounds.
    pub spread: Option<(f64, f64)>,
}

/// A piece of a bar.
#[derive(Clone, Debug, Deserialize)]
pub struct Part {
    /// Its length.
    pub value: f64,
    /// The number of its colour.
    pub series: usize,
    /// Is shown when the pointer rests on it.
    pub title: String,
}

impl Bar {
    fn length(&self) -> f64 {
        self.parts.iter().map(|part| part.value).sum()
    }

    fn reach(&self) -> f64 {
        self.spread.map_or(0.0, |(_, high)| high).max(self.length())
    }
}

pub(super) fn draw(bars: &Bars, description: &str) -> Result<String, ChartError> {
    let longest = bars.rows.iter().map(Bar::reach).fold(0.0, f64::max);
    if !(longest > 0.0 && longest.is_finite()) {
        return Err(ChartError("it has no bar of any length".to_owned()));
    }
    let rows = u32::try_from(bars.rows.len()).map_err(ChartError::from_drawing)?;
    let head = if bars.legend.is_empty() { 0 } else { HEAD };
    let mut svg = String::new();
    let mut tooltips = Tooltips::default();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, rows * ROW + head + 8));
        let root = root.into_drawing_area();
        legend(bars, &root).map_err(ChartError::from_drawing)?;
        let mut chart = ChartBuilder::on(&root)
            .margin_top(head)
            .set_label_area_size(LabelAreaPosition::Left, NAMES)
            .margin_right(VALUES)
            .build_cartesian_2d(0.0..longest, f64::from(rows)..0.0)
            .map_err(ChartError::from_drawing)?;
        for (place, bar) in bars.rows.iter().enumerate() {
            let middle = f64::from(u32::try_from(place).unwrap_or(rows)) + 0.5;
            chart
                .draw_series(pieces(bar, middle, &mut tooltips))
                .map_err(ChartError::from_drawing)?;
            chart.draw_series(whisker(bar, middle)).map_err(ChartError::from_drawing)?;
            let name = chart.backend_coord(&(0.0, middle));
            words(&root, &bar.name, (name.0 - 8, name.1), HPos::Right)
                .map_err(ChartError::from_drawing)?;
            let end = chart.backend_coord(&(bar.reach(), middle));
            words(&root, &bar.label, (end.0 + 8, end.1), HPos::Left)
                .map_err(ChartError::from_drawing)?;
        }
        root.present().map_err(ChartError::from_drawing)?;
    }
    Ok(theme::finish(&svg, &tooltips, description))
}

fn pieces(bar: &Bar, middle: f64, tooltips: &mut Tooltips) -> Vec<Rectangle<(f64, f64)>> {
    let mut from = 0.0;
    let piece = |part: &Part| {
        let to = from + part.value;
        let corners = [(from, middle - HALF), (to, middle + HALF)];
        from = to;
        Rectangle::new(corners, tooltips.mark(part.series, &part.title).filled())
    };
    bar.parts.iter().map(piece).collect()
}

/// From the lowest to the highest round.
fn whisker(bar: &Bar, middle: f64) -> Vec<PathElement<(f64, f64)>> {
    let Some((low, high)) = bar.spread else { return Vec::new() };
    let end = |at: f64| vec![(at, middle - HALF / 2.0), (at, middle + HALF / 2.0)];
    let style = theme::INK.stroke_width(1);
    [vec![(low, middle), (high, middle)], end(low), end(high)]
        .map(|path| PathElement::new(path, style))
        .into()
}

fn words(root: &Area<'_>, text: &str, at: (i32, i32), anchor: HPos) -> Drawn {
    let style = TextStyle::from(("sans-serif", FONT)).color(&theme::INK);
    root.draw(&Text::new(text, at, style.pos(Pos::new(anchor, VPos::Center))))
}

/// The names of the parts, above the bars.
fn legend(bars: &Bars, root: &Area<'_>) -> Drawn {
    let mut left = i32::try_from(NAMES).unwrap_or(0);
    for Key { name, series } in &bars.legend {
        root.draw(&Rectangle::new([(left, 4), (left + 12, 16)], theme::color(*series).filled()))?;
        words(root, name, (left + 18, 10), HPos::Left)?;
        // Wide enough for any usual font.
        left += 18 + 24 + i32::try_from(name.chars().count()).unwrap_or(0) * FONT * 6 / 10;
    }
    Ok(())
}
