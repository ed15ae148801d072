//! `responses.log`: every answer with its number, its request where that differs from others, status
//! and body, then the count of each repeated answer.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::burst::Requests;
use crate::reply::Reply;
use crate::run_error::RunError;

/// The open log, or none.
pub(crate) struct ResponseLog(Option<(PathBuf, BufWriter<File>)>);

impl ResponseLog {
    /// Creates the file, or truncates it. Call it before anything is sent: a burst whose answers
    /// cannot be logged would have to be repeated.
    ///
    /// # Errors
    /// [`RunError::Log`] if the file cannot be created.
    pub(crate) fn create(path: Option<&Path>) -> Result<Self, RunError> {
        let Some(path) = path else { return Ok(Self(None)) };
        match File::create(path) {
            Ok(file) => Ok(Self(Some((path.to_owned(), BufWriter::new(file))))),
            Err(source) => Err(RunError::Log { path: path.to_owned(), source }),
        }
    }

    /// Appends the replies of one burst and flushes the file.
    ///
    /// # Errors
    /// [`RunError::Log`], for example on a full disk.
    pub(crate) fn append(
        &mut self,
        requests: &dyn Requests,
        replies: &[Reply],
    ) -> Result<(), RunError> {
        let Some((path, file)) = &mut self.0 else { return Ok(()) };
        write_section(file, requests, replies)
            .and_then(|()| file.flush())
            .map_err(|source| RunError::Log { path: path.clone(), source })
    }
}

fn write_section(
    to: &mut impl Write,
    requests: &dyn Requests,
    replies: &[Reply],
) -> io::Result<()> {
    let name = requests.name();
    writeln!(to, "== {name}: {} answers", replies.len())?;
    for (index, reply) in replies.iter().enumerate() {
        match requests.line(index) {
            Some(request) => writeln!(to, "{}: {request}: {reply}", index + 1)?,
            None => writeln!(to, "{}: {reply}", index + 1)?,
        }
    }
    writeln!(to)?;
    writeln!(to, "== {name}: repeated answers")?;
    for (reply, count) in repeated(replies) {
        writeln!(to, "{count} times: {reply}")?;
    }
    writeln!(to)
}

/// The replies that occur more than once, the most frequent first. Equally frequent ones are in
/// order of their first occurrence.
fn repeated(replies: &[Reply]) -> Vec<(&Reply, usize)> {
    let mut counts: HashMap<&Reply, (usize, usize)> = HashMap::new();
    for (index, reply) in replies.iter().enumerate() {
        counts.entry(reply).or_insert((0, index)).0 += 1;
    }
    let mut repeated: Vec<_> = counts.into_iter().filter(|(_, (count, _))| *count > 1).collect();
    repeated.sort_by_key(|(_, (count, first))| (Reverse(*count), *first));
    repeated.into_iter().map(|(reply, (count, _))| (reply, count)).collect()
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use hyper::Request;
    use hyper::body::Bytes;

    use super::*;
    use crate::client::Client;

    struct Same;

    impl Requests for Same {
        fn name(&self) -> &str {
            "self"
        }

        fn count(&self) -> usize {
            6
        }

        fn request(&self, _client: &Client, _number: usize) -> Request<Full<Bytes>> {
            unreachable!("nothing is sent")
        }
    }

    #[test]
    fn a_section_has_every_answer_and_then_the_repeated_ones() {
        let answer = |status, body: &str| Reply::Answer { status, body: body.as_bytes().into() };
        let refused = || answer(400, r#"{"error":"Insufficient funds"}"#);
        let replies = [
            answer(200, r#"{"balance":8}"#),
            Reply::TimedOut,
            refused(),
            answer(200, r#"{"balance":8}"#),
            refused(),
            refused(),
        ];
        let mut log = Vec::new();
        write_section(&mut log, &Same, &replies).unwrap();
        let expected = r#"== self: 6 answers
1: 200 {"balance":8}
2: no answer: the time was up
3: 400 {"error":"Insufficient funds"}
4: 200 {"balance":8}
5: 400 {"error":"Insufficient funds"}
6: 400 {"error":"Insufficient funds"}

== self: repeated answers
3 times: 400 {"error":"Insufficient funds"}
2 times: 200 {"balance":8}

"#;
        assert_eq!(String::from_utf8(log).unwrap(), expected);
    }
}
