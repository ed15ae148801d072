//! A user's balance over time, as a chart.

use super::scale::{WholeAxis, grouped, of_moments};
use crate::charts::{Chart, ChartError, Times, Track};
use crate::store::history::Entry;

/// Width and height.
const SIZE: (u32, u32) = (480, 170);

/// The number of the colour.
const STYLE: usize = 0;

/// The chart of a user without an entry.
const EMPTY: &str = "<svg role=\"img\" aria-label=\"No entry\" viewBox=\"0 0 480 1\" \
                     xmlns=\"http://www.w3.org/2000/svg\"></svg>";

/// Draws the balance after each of these entries, which are the newest first.
///
/// # Errors
/// [`ChartError`] as for any chart; none is expected.
pub fn draw(entries: &[Entry]) -> Result<String, ChartError> {
    let (Some(last), Some(first)) = (entries.first(), entries.last()) else {
        return Ok(EMPTY.to_owned());
    };
    let (least, most) = entries.iter().fold((i64::MAX, 0), |(least, most), entry| {
        (least.min(entry.balance), most.max(entry.balance))
    });
    // Zero is shown where it is near. Elsewhere it would hide how the balance changes.
    let least = if least <= most / 2 { 0 } else { least };
    let y = WholeAxis::new("minor units", least, most);
    let begin = first.created_at.micros();
    let places = entries.iter().rev().map(|entry| {
        let after = entry.created_at.micros().saturating_sub(begin);
        (micros(after), y.place(entry.balance))
    });
    let series = vec![Track { style: STYLE, runs: vec![steps(places)] }];
    let x = of_moments(first.created_at, last.created_at);
    let description = format!(
        "Balance over time: from {} after version {} to {} after version {}",
        grouped(first.balance.into()),
        first.version,
        grouped(last.balance.into()),
        last.version,
    );
    Chart::Times(Times { size: SIZE, x, y: y.axis, series }).svg(&description)
}

/// A value stays until the next one.
fn steps(places: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut path: Vec<(f64, f64)> = Vec::new();
    for (at, value) in places {
        if let Some((_, before)) = path.last().copied() {
            path.push((at, before));
        }
        path.push((at, value));
    }
    if let [(_, value)] = path[..] {
        // As short as an axis of moments may be.
        path.push((1_000.0, value));
    }
    path
}

/// For drawing only: a chart has fewer pixels than a float has steps.
fn micros(number: i64) -> f64 {
    number.to_string().parse().unwrap_or(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Timestamp;

    fn entry(version: i64, balance: i64) -> Entry {
        Entry {
            version,
            kind: "change".into(),
            amount: 1,
            held_amount: 0,
            balance,
            held: 0,
            created_at: Timestamp::from_micros(version * 1_000_000),
            reference: None,
            key: None,
            hold: None,
            peer_user: None,
            peer_version: None,
        }
    }

    #[test]
    fn large_balances_are_exact_and_zero_is_shown_where_it_is_near() {
        let most = 9_007_199_254_740_993;
        let svg = draw(&[entry(3, most), entry(2, most - 2)]).unwrap();
        assert!(svg.contains(">\n9,007,199,254,740,993\n"), "{svg}");
        assert!(svg.contains("from 9,007,199,254,740,991 after version 2"), "{svg}");
        assert!(svg.contains("series-0") && !svg.contains(">\n0\n"), "{svg}");
        assert!(draw(&[entry(3, 100), entry(2, 50)]).unwrap().contains(">\n0\n"));
        assert!(draw(&[entry(1, 0)]).unwrap().contains("series-0"));
        assert!(draw(&[]).unwrap().contains("No entry"));
    }

    #[test]
    fn a_value_stays_until_the_next() {
        let path = steps([(0.0, 1.0), (5.0, 2.0)].into_iter());
        let path: Vec<_> = path.iter().map(|(at, value)| format!("{at} {value}")).collect();
        assert_eq!(path, ["0 1", "5 1", "5 2"]);
    }
}
