//! Draws the charts of the benchmarks: reads an object of charts by name on standard input, and prints an object
//! of `<svg>` elements. A chart has a `description` beside the members of [`plimsoll::charts::Chart`].

use std::collections::BTreeMap;
use std::error::Error;
use std::io;

use plimsoll::charts::Chart;
use serde::Deserialize;

#[derive(Deserialize)]
struct Described {
    description: String,
    chart: Chart,
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn main() -> Result<(), Box<dyn Error>> {
    let wanted: BTreeMap<String, Described> = serde_json::from_reader(io::stdin().lock())?;
    let mut drawn = BTreeMap::new();
    for (name, Described { description, chart }) in wanted {
        let svg = chart.svg(&description).map_err(|error| format!("{name}: {error}"))?;
        drawn.insert(name, svg);
    }
    println!("{}", serde_json::to_string(&drawn)?);
    Ok(())
}
