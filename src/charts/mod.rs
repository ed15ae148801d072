//! Charts as SVG, drawn by `plotters`, for pages that must work without a script and without a network.
//!
//! A chart has no colours of its own: it names CSS variables (`--chart-ink`, `--chart-series-0`, …), so that
//! one drawing fits light and dark pages. Series also differ in their markers and dashes, so that they can be
//! told apart in grey. Each mark has a `<title>`, which a browser shows when the pointer rests on it.

mod bars;
mod lines;
mod theme;
mod times;

use serde::Deserialize;
use thiserror::Error;

pub use bars::{Bar, Bars, Key, Part};
pub use lines::{Axis, Lines, Point, Series, Tick};
pub use times::{Times, Track};

/// The colours that a page must give to its charts, for light and for dark.
pub const THEME: &str = include_str!("theme.css");

/// How many series can be told apart.
pub const SERIES: usize = theme::SERIES;

/// A chart to draw.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Chart {
    /// A row for each name, with a bar that may consist of parts.
    Bars(Bars),
    /// Lines over two logarithmic axes.
    Lines(Lines),
    /// Lines over time.
    Times(Times),
}

/// The chart could not be drawn.
#[derive(Debug, Error)]
#[error("the chart cannot be drawn: {0}")]
pub struct ChartError(String);

impl ChartError {
    fn from_drawing(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl Chart {
    /// The chart as an `<svg>` element to be put into a page. `description` is read out to those who cannot
    /// see it.
    ///
    /// # Errors
    /// [`ChartError`] if there is nothing to draw, or a value does not fit on its axis.
    pub fn svg(&self, description: &str) -> Result<String, ChartError> {
        match self {
            Self::Bars(bars) => bars::draw(bars, description),
            Self::Lines(lines) => lines::draw(lines, description),
            Self::Times(times) => times::draw(times, description),
        }
    }
}

/// How the series of a [`Times`] with this style is drawn, as a small `<svg>` element.
///
/// # Errors
/// As [`Chart::svg`].
pub fn swatch(style: usize) -> Result<String, ChartError> {
    times::swatch(style)
}

#[cfg(test)]
mod tests;
