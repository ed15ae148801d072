//! Prints a report, for people or for programs.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON document for programs.
    Json,
}

/// Prints the text, or the document.
pub(super) fn print(
    text: &impl Display,
    document: &impl Serialize,
    format: Format,
    to: &mut impl Write,
) -> io::Result<()> {
    match format {
        Format::Text => write!(to, "{text}")?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut *to, document)?;
            writeln!(to)?;
        }
    }
    to.flush()
}
