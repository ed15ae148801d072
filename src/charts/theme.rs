//! Colours as CSS variables, and tooltips.
//!
//! `plotters` knows colours as three bytes. Here they are codes, which `finish` replaces: the first byte says
//! which variable, the others which tooltip.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// How many series can be told apart.
pub(super) const SERIES: usize = 11;

const FIRST_SERIES: u8 = 3;
const ROLES: [&str; 3] = ["ink", "muted", "grid"];

/// Text and axes.
pub(super) const INK: RGBColor = RGBColor(0, 0, 0);
/// Text that explains.
pub(super) const MUTED: RGBColor = RGBColor(1, 0, 0);
/// Lines of the grid.
pub(super) const GRID: RGBColor = RGBColor(2, 0, 0);

/// The tooltips of a chart.
#[derive(Default)]
pub(super) struct Tooltips(Vec<String>);

impl Tooltips {
    /// The colour of a mark of this series, with a tooltip.
    pub(super) fn mark(&mut self, series: usize, text: &str) -> RGBColor {
        self.0.push(text.to_owned());
        // Number 0 stands for none.
        let [high, low] = u16::try_from(self.0.len()).unwrap_or(0).to_be_bytes();
        RGBColor(role_of(series), high, low)
    }
}

/// The colour of a series, without a tooltip.
pub(super) fn color(series: usize) -> RGBColor {
    RGBColor(role_of(series), 0, 0)
}

fn role_of(series: usize) -> u8 {
    u8::try_from(series % SERIES).unwrap_or(0) + FIRST_SERIES
}

/// The drawing with variables instead of codes, with its tooltips, and as wide as its place on the page.
pub(super) fn finish(svg: &str, tooltips: &Tooltips, description: &str) -> String {
    let mut finished = String::with_capacity(svg.len() * 2);
    for line in svg.lines() {
        if line.starts_with("<svg ") {
            let view = line.find("viewBox").map_or("", |at| &line[at..]);
            let _ = writeln!(
                finished,
                "<svg role=\"img\" aria-label=\"{}\" {view}",
                escape(description)
            );
            continue;
        }
        let (themed, tooltip) = themed(line);
        let text = tooltip.checked_sub(1).and_then(|place| tooltips.0.get(place));
        match (text, themed.strip_suffix("/>"), line[1..].split_once(' ')) {
            (Some(text), Some(open), Some((tag, _))) => {
                let _ = writeln!(finished, "{open}><title>{}</title></{tag}>", escape(text));
            }
            _ => {
                finished.push_str(&themed);
                finished.push('\n');
            }
        }
    }
    finished
}

/// The line with variables, and the number of its tooltip.
fn themed(line: &str) -> (String, usize) {
    let mut rest = line;
    let (mut themed, mut tooltip) = (String::with_capacity(line.len()), 0);
    while let Some(at) = rest.find("\"#") {
        let code = rest.get(at + 2..at + 8).and_then(|code| u32::from_str_radix(code, 16).ok());
        let Some([_, role, high, low]) = code.map(u32::to_be_bytes) else { break };
        tooltip = usize::from(u16::from_be_bytes([high, low]));
        let _ = write!(themed, "{}\"var(--chart-{})\"", &rest[..at], name_of(role));
        rest = &rest[at + "\"#123456\"".len()..];
    }
    themed.push_str(rest);
    (themed, tooltip)
}

fn name_of(role: u8) -> String {
    match ROLES.get(usize::from(role)) {
        Some(name) => (*name).to_owned(),
        None => format!("series-{}", role - FIRST_SERIES),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
