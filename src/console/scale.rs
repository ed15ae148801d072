//! Where the lines of a grid stand, and what is written beside them.

use crate::charts::{Axis, Tick};
use crate::ledger::Timestamp;

/// The most steps between two lines of a grid.
const STEPS_MAX: i128 = 4;

/// An axis from 0 to the next round number that is at least `most`.
pub(super) fn from_zero(name: &str, most: f64, label: impl Fn(f64) -> String) -> Axis {
    let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
    let magnitude = 10_f64.powf((most / 5.0).log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude);
    let step = round.into_iter().find(|step| step * 5.0 >= most).unwrap_or(most);
    let steps = (1..=5).find(|count| f64::from(*count) * step >= most).unwrap_or(5);
    let ticks = (0..=steps).map(|number| {
        let at = f64::from(number) * step;
        Tick { at, label: label(at) }
    });
    let ticks = ticks.collect();
    Axis { name: name.to_owned(), range: (0.0, f64::from(steps) * step), ticks }
}

/// A number in few characters.
pub(super) fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        n if n >= 1e6 => (n / 1e6, "M"),
        n if n >= 1e4 => (n / 1e3, "k"),
        n => (n, ""),
    };
    let digits = match scaled {
        n if n >= 100.0 || (n - n.round()).abs() < 1e-9 => 0,
        n if n >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{scaled:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// A time in few characters.
pub(super) fn short_time(seconds: f64) -> String {
    match seconds {
        s if s >= 10.0 => format!("{} s", short(s.round())),
        s if s >= 1.0 => format!("{} s", short(s)),
        s => format!("{} ms", short(s * 1e3)),
    }
}

/// An axis of whole numbers, exact up to 64 bits: the numbers on it are the distances from the first.
pub(super) struct WholeAxis {
    pub(super) axis: Axis,
    from: i128,
}

impl WholeAxis {
    /// From a round number below `least` to one above `most`.
    pub(super) fn new(name: &str, least: i64, most: i64) -> Self {
        let (least, most) = (i128::from(least), i128::from(most));
        let step = round_step((most - least).max(1));
        let from = least.div_euclid(step) * step;
        let mut ticks = Vec::new();
        let mut at = from;
        loop {
            ticks.push(Tick { at: distance(at - from), label: grouped(at) });
            if at >= most && ticks.len() > 1 {
                break;
            }
            at += step;
        }
        let range = (0.0, distance(at - from));
        Self { axis: Axis { name: name.to_owned(), range, ticks }, from }
    }

    /// Where a number stands on it.
    pub(super) fn place(&self, number: i64) -> f64 {
        distance(i128::from(number) - self.from)
    }
}

/// 1, 2 or 5, with zeros, so that a few of them span the distance.
fn round_step(span: i128) -> i128 {
    let mut magnitude = 1;
    loop {
        for factor in [1, 2, 5] {
            if magnitude * factor * STEPS_MAX >= span {
                return magnitude * factor;
            }
        }
        magnitude *= 10;
    }
}

/// For drawing only: a chart has fewer pixels than a float has steps.
fn distance(number: i128) -> f64 {
    number.to_string().parse().unwrap_or(f64::MAX)
}

/// Digits in groups of three.
pub(super) fn grouped(number: i128) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Steps between two moments on an axis, in microseconds. Beyond them it is whole multiples of 30 days.
const TIME_STEPS: [i64; 30] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    60 * SECOND,
    120 * SECOND,
    300 * SECOND,
    600 * SECOND,
    900 * SECOND,
    1_800 * SECOND,
    3_600 * SECOND,
    7_200 * SECOND,
    10_800 * SECOND,
    21_600 * SECOND,
    43_200 * SECOND,
    DAY,
    2 * DAY,
    7 * DAY,
    30 * DAY,
];

/// An axis of moments, in UTC: the numbers on it are microseconds after the first.
pub(super) fn of_moments(first: Timestamp, last: Timestamp) -> Axis {
    let span = (last.micros() - first.micros()).max(1_000);
    // The finer the step, the longer the labels.
    let fits = |step: &&i64| span / **step < if **step < SECOND { 3 } else { 5 };
    let step =
        TIME_STEPS.iter().find(fits).copied().unwrap_or(span / (180 * DAY) * 30 * DAY + 30 * DAY);
    let mut ticks = Vec::new();
    let mut at = (first.micros().div_euclid(step) + 1) * step;
    while at <= first.micros() + span {
        let label = moment_label(Timestamp::from_micros(at), step);
        ticks.push(Tick { at: distance(i128::from(at - first.micros())), label });
        at += step;
    }
    Axis { name: "UTC".to_owned(), range: (0.0, distance(i128::from(span))), ticks }
}

/// The part of a moment that tells it from its neighbours.
fn moment_label(moment: Timestamp, step: i64) -> String {
    let text = moment.to_string();
    let part = match step {
        step if step >= DAY => 0..10,
        step if step >= 60 * SECOND => 11..16,
        step if step >= SECOND => 11..19,
        _ => 11..23,
    };
    text.get(part).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn whole_numbers_of_64_bits_are_exact() {
        let whole = WholeAxis::new("", 9_007_199_254_740_991, 9_007_199_254_740_993);
        assert_eq!(
            labels(&whole.axis),
            ["9,007,199,254,740,991", "9,007,199,254,740,992", "9,007,199,254,740,993"]
        );
        let places = [9_007_199_254_740_991, 9_007_199_254_740_992].map(|at| whole.place(at));
        assert_eq!(places.map(|place| place.to_string()), ["0", "1"]);
        for (least, most) in [(0, i64::MAX), (i64::MAX, i64::MAX), (0, 0)] {
            let whole = WholeAxis::new("", least, most);
            assert!(whole.axis.ticks.len() >= 2 && whole.axis.ticks.len() < 8, "{least} {most}");
            assert!(whole.place(least) >= 0.0 && whole.place(most) <= whole.axis.range.1);
        }
    }

    #[test]
    fn moments_are_written_as_finely_as_they_lie_apart() {
        let from = Timestamp::from_rfc3339("2026-01-31T11:59:58.5Z").unwrap();
        let axis = |span| of_moments(from, Timestamp::from_micros(from.micros() + span));
        assert_eq!(labels(&axis(3 * SECOND)), ["11:59:59", "12:00:00", "12:00:01"]);
        assert_eq!(labels(&axis(DAY))[0], "12:00");
        assert_eq!(labels(&axis(3 * DAY))[0], "2026-02-01");
        assert_eq!(labels(&axis(0)).len(), 1);
        for days in 0..400 {
            let from = Timestamp::from_micros(from.micros() + days * DAY);
            for span in [1, 7, 999_999, 77 * SECOND, 5 * DAY, 6 * DAY, 400 * DAY, 9_000 * DAY] {
                let axis = of_moments(from, Timestamp::from_micros(from.micros() + span));
                let count = labels(&axis).len();
                assert!((1..=6).contains(&count), "{days} {span}: {count}");
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 3.0, 3.25, 31.25, 512.0, 9_999.0, 41_230.0, 2_500_000.0].map(short);
        assert_eq!(numbers, ["0", "3", "3.25", "31.2", "512", "9999", "41.2k", "2.5M"]);
        let times = [0.0, 0.000_25, 0.012, 1.5, 12.4].map(short_time);
        assert_eq!(times, ["0 ms", "0.25 ms", "12 ms", "1.5 s", "12 s"]);
        assert_eq!(labels(&from_zero("", 35_000.0, short)), ["0", "10k", "20k", "30k", "40k"]);
        assert_eq!(labels(&from_zero("", 0.0, short)), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
    }
}
