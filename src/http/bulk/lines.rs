//! Splits a stream of bytes into lines of bounded length.

use crate::http::wire::LINE_BYTES_MAX;

/// The line that has begun.
#[derive(Default)]
pub(super) struct Lines {
    /// What has arrived of it.
    begun: Vec<u8>,
    /// It was given out, and its bytes are cleared before the next one.
    is_given: bool,
    /// It was too long, and its rest is skipped.
    is_skipped: bool,
}

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Text(&'a [u8]),
    /// It is longer than [`LINE_BYTES_MAX`].
    TooLong,
}

impl Lines {
    /// The next line that ends in `bytes`, or is too long. The bytes are advanced behind it, or to the
    /// end.
    pub(super) fn next<'a, 'b: 'a>(&'a mut self, bytes: &mut &'b [u8]) -> Option<Line<'a>> {
        if std::mem::take(&mut self.is_given) {
            self.begun.clear();
        }
        if self.is_skipped {
            let end = end_of_line(bytes)?;
            *bytes = &bytes[end + 1..];
            self.is_skipped = false;
        }
        let all = *bytes;
        let end = all.iter().position(|byte| *byte == b'\n');
        let (part, rest) = match end {
            Some(end) => (&all[..end], &all[end + 1..]),
            None => (all, [].as_slice()),
        };
        *bytes = rest;
        if self.begun.len() + part.len() > LINE_BYTES_MAX {
            self.begun.clear();
            self.is_skipped = end.is_none();
            return Some(Line::TooLong);
        }
        if end.is_some() && self.begun.is_empty() {
            return Some(Line::Text(part));
        }
        self.begun.extend_from_slice(part);
        self.is_given = end.is_some();
        self.is_given.then_some(Line::Text(&self.begun))
    }

    /// The last line, if the stream has ended without its end.
    pub(super) fn last(&mut self) -> Option<Line<'_>> {
        let is_there = !self.is_given && !self.begun.is_empty();
        self.is_given = true;
        is_there.then_some(Line::Text(&self.begun))
    }
}

/// Skips all bytes where there is none.
fn end_of_line(bytes: &mut &[u8]) -> Option<usize> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    if end.is_none() {
        *bytes = &[];
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a text that arrives in these parts; `None` for one that is too long.
    fn split(parts: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let owned = |line: Line<'_>| match line {
            Line::Text(text) => Some(text.to_vec()),
            Line::TooLong => None,
        };
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for part in parts {
            let mut bytes = *part;
            while let Some(line) = lines.next(&mut bytes) {
                found.push(owned(line));
            }
            assert!(bytes.is_empty());
        }
        found.extend(lines.last().map(owned));
        found
    }

    fn texts(lines: &[&str]) -> Vec<Option<Vec<u8>>> {
        lines.iter().map(|line| Some(line.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_text_has_the_same_lines_in_whatever_parts_it_arrives() {
        let text = b"one\n\nthree\r\nfour";
        let expected = texts(&["one", "", "three\r", "four"]);
        for at in 0..=text.len() {
            let (first, second) = text.split_at(at);
            assert_eq!(split(&[first, second]), expected, "{at}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(split(&bytes), expected);
        assert_eq!(split(&[b"one\n"]), texts(&["one"]), "the last line may have an end");
        assert_eq!(split(&[]), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_to_its_end() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        let mut text = [b"one\n", &*long, b"\ntwo\n"].concat();
        text.extend_from_slice(&long[1..]);
        let expected =
            [texts(&["one"]), vec![None], texts(&["two", str::from_utf8(&long[1..]).unwrap()])];
        let expected = expected.concat();
        for size in [1, 7, LINE_BYTES_MAX, text.len()] {
            let parts: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(split(&parts), expected, "{size}");
        }
        assert_eq!(split(&[&long]), [None]);
    }

    #[test]
    fn memory_is_bounded_by_the_longest_line() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            let part = [b'x'; 1_000];
            let mut bytes = part.as_slice();
            while lines.next(&mut bytes).is_some() {}
        }
        assert!(lines.begun.capacity() <= 2 * LINE_BYTES_MAX, "{}", lines.begun.capacity());
    }
}
