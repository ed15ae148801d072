//! An open-loop load: sends changes at a fixed rate, whether or not earlier ones were answered.
//!
//! `flood ADDRESS PATH USER RATE SECONDS` prints a line of JSON: how many responses there were by status, how
//! many 503 had no `Retry-After`, how many requests had no response, and the seconds that were measured. The
//! first second does not count, since connections are opened in it. It takes no part in a build of the
//! service.

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a response is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most requests at a time; more would only be refused by the limit of open files.
const OPEN_MAX: usize = 16_000;

/// What came back.
#[derive(Default)]
struct Counts {
    by_status: BTreeMap<u16, u64>,
    no_retry_after: u64,
    none: u64,
    /// Not sent, because too many were open.
    not_sent: u64,
}

struct Load {
    address: String,
    request: String,
    idle: Mutex<VecDeque<TcpStream>>,
    open: AtomicUsize,
    counts: Mutex<Counts>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, user, rate, seconds] = arguments.as_slice() else {
        eprintln!("flood ADDRESS PATH USER RATE SECONDS");
        return ExitCode::from(2);
    };
    let (Ok(rate), Ok(seconds)) = (rate.parse::<u32>(), seconds.parse::<u32>()) else {
        eprintln!("RATE and SECONDS must be whole numbers");
        return ExitCode::from(2);
    };
    let body = format!("{{\"userId\":{user},\"amount\":1}}");
    let request = format!(
        "PATCH {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let load = Arc::new(Load {
        address: address.clone(),
        request,
        idle: Mutex::default(),
        open: AtomicUsize::new(0),
        counts: Mutex::default(),
    });
    let began = Instant::now();
    let warm = began + Duration::from_secs(1);
    let ends = warm + Duration::from_secs(seconds.into());
    for number in 0..rate * (seconds + 1) {
        let due = began + Duration::from_secs(1) * number / rate;
        sleep_until(due).await;
        // Only responses that arrive in the measured time count, so that a backlog is not goodput.
        tokio::spawn(one(Arc::clone(&load), warm..ends));
    }
    sleep_until(ends).await;
    print(&load.counts.lock().unwrap_or_else(PoisonError::into_inner), seconds);
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(counts: &Counts, seconds: u32) {
    let Counts { by_status, no_retry_after, none, not_sent } = counts;
    let statuses: Vec<_> =
        by_status.iter().map(|(status, n)| format!("\"{status}\":{n}")).collect();
    println!(
        "{{\"statuses\":{{{}}},\"no_retry_after\":{no_retry_after},\"none\":{none},\
         \"not_sent\":{not_sent},\"seconds\":{seconds}}}",
        statuses.join(",")
    );
}

async fn one(load: Arc<Load>, measured: std::ops::Range<Instant>) {
    let response = if load.open.fetch_add(1, Ordering::Relaxed) < OPEN_MAX {
        Some(timeout(PATIENCE, exchange(&load)).await.ok().flatten())
    } else {
        None
    };
    load.open.fetch_sub(1, Ordering::Relaxed);
    if !measured.contains(&Instant::now()) {
        return;
    }
    let mut counts = load.counts.lock().unwrap_or_else(PoisonError::into_inner);
    match response {
        Some(Some((status, has_retry_after))) => {
            *counts.by_status.entry(status).or_default() += 1;
            counts.no_retry_after += u64::from(status == 503 && !has_retry_after);
        }
        Some(None) => counts.none += 1,
        None => counts.not_sent += 1,
    }
}

/// The status of the response, and whether it says when to come again. `None` if there is none.
async fn exchange(load: &Load) -> Option<(u16, bool)> {
    let idle = load.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
    let mut stream = match idle {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(&load.address).await.ok()?;
            stream.set_nodelay(true).ok()?;
            stream
        }
    };
    // A refused connection may be closed before the request is sent; its response is there.
    let _ = stream.write_all(load.request.as_bytes()).await;
    let mut received = Vec::with_capacity(512);
    // Each response is one JSON object, and small.
    while !received.ends_with(b"}") {
        if stream.read_buf(&mut received).await.ok()? == 0 {
            return None;
        }
    }
    let text = str::from_utf8(&received).ok()?;
    let status = text.get(9..12)?.parse().ok()?;
    if !text.contains("connection: close") {
        load.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(stream);
    }
    Some((status, text.contains("retry-after: 1")))
}
