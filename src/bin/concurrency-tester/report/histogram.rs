//! The latencies of all bursts as one line each, over a common logarithmic axis.

use hdrhistogram::Histogram;

use crate::run::CheckedBurst;

const COLUMNS: usize = 60;

/// From few to many. What is not there at all is a blank.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const DECADES_US: [(u64, &str); 9] = [
    (10, "10 µs"),
    (100, "100 µs"),
    (1_000, "1 ms"),
    (10_000, "10 ms"),
    (100_000, "100 ms"),
    (1_000_000, "1 s"),
    (10_000_000, "10 s"),
    (100_000_000, "100 s"),
    (1_000_000_000, "1000 s"),
];

/// The axis, then a line for each burst, all beginning with `width` characters for its name. Nothing where
/// no request was answered.
pub(super) fn lines(bursts: &[CheckedBurst], width: usize) -> Vec<String> {
    let answered =
        || bursts.iter().map(|checked| &checked.burst.latency_us).filter(|h| !h.is_empty());
    let least = answered().map(|histogram| histogram.min()).min();
    let most = answered().map(|histogram| histogram.max()).max();
    let Some(axis) = least.zip(most).map(|(least, most)| Axis::around(least, most)) else {
        return Vec::new();
    };
    let mut lines = vec![format!("{:<width$}  {}", "latency", axis.labels())];
    lines.extend(bursts.iter().map(|checked| {
        let bars = axis.bars(&checked.burst.latency_us);
        format!("{:<width$}  {bars}", checked.name).trim_end().to_owned()
    }));
    lines
}

/// Columns of equal ratio, from one power of ten to another.
struct Axis {
    /// As exponents of ten, in microseconds.
    from: i32,
    to: i32,
}

impl Axis {
    fn around(least_us: u64, most_us: u64) -> Self {
        let exponent = |us: u64| i32::try_from(us.max(1).ilog10()).unwrap_or_default();
        Self { from: exponent(least_us), to: exponent(most_us) + 1 }
    }

    /// The lower bound of a column in microseconds.
    fn bound_us(&self, column: usize) -> f64 {
        let decades = f64::from(self.to - self.from);
        10_f64.powf(f64::from(self.from) + decades * column as f64 / COLUMNS as f64)
    }

    fn labels(&self) -> String {
        let mut line = vec![' '; COLUMNS];
        for (us, label) in DECADES_US {
            let column = (0..COLUMNS).find(|column| self.bound_us(*column) >= us as f64 * 0.999);
            let is_on_axis = self.bound_us(0) <= us as f64 * 1.001;
            let Some(column) = column.filter(|_| is_on_axis) else { continue };
            for (place, character) in (column..).zip(label.chars()) {
                match line.get_mut(place) {
                    Some(place) => *place = character,
                    None => line.push(character),
                }
            }
        }
        line.iter().collect::<String>().trim_end().to_owned()
    }

    /// Each bar is as high as its column has requests, beside the column that has most.
    fn bars(&self, histogram: &Histogram<u64>) -> String {
        let mut counts = [0_u64; COLUMNS];
        let mut column = 0;
        for value in histogram.iter_recorded() {
            let us = value.value_iterated_to() as f64;
            while column + 1 < COLUMNS && us >= self.bound_us(column + 1) {
                column += 1;
            }
            counts[column] += value.count_at_value();
        }
        let most = counts.iter().copied().max().unwrap_or_default();
        counts.iter().map(|count| bar(*count, most)).collect()
    }
}

fn bar(count: u64, most: u64) -> char {
    if count == 0 {
        return ' ';
    }
    let height = (count * 8).div_ceil(most).clamp(1, 8);
    BARS[usize::try_from(height - 1).unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[(u64, u64)]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        for (value, count) in values {
            histogram.record_n(*value, *count).unwrap();
        }
        histogram
    }

    #[test]
    fn each_request_is_in_the_column_of_its_latency() {
        let axis = Axis::around(1_500, 80_000);
        assert_eq!((axis.from, axis.to), (3, 5));
        let bars: Vec<_> =
            axis.bars(&histogram(&[(1_500, 1), (20_000, 80), (80_000, 8)])).chars().collect();
        let shown: Vec<_> = bars.iter().enumerate().filter(|(_, bar)| **bar != ' ').collect();
        // Of 60 columns, thirty a power of ten.
        let due = [(5, &'▁'), (39, &'█'), (57, &'▁')];
        assert_eq!(shown, due);
    }

    #[test]
    fn the_axis_names_its_powers_of_ten() {
        let labels = Axis::around(150, 90_000).labels();
        let place = |text: &str| labels.find(text).map(|byte| labels[..byte].chars().count());
        assert_eq!([place("100 µs"), place("1 ms"), place("10 ms")], [Some(0), Some(20), Some(40)]);
        assert_eq!(place("100 ms"), None);
    }
}
