//! An open loop: changes of one balance become due at a fixed rate, and the time of each response is
//! counted from when its request was due, not from when it could be sent. So a stall of the server shows up in
//! every request that should have been sent meanwhile (no coordinated omission).
//!
//! `open_loop ADDRESS PATH USER AMOUNT RATE SECONDS CONNECTIONS` prints a line of JSON. Whichever connection
//! is free takes the request that has been due for longest. The first second does not count. A request without
//! a response ten seconds after the end counts with its age then, and as `unanswered`.
//!
//! Of the packaged generators wrk and hey send the next request only after a response, and h2load reports no
//! percentiles.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::timeout_at;

const WARM_UP: Duration = Duration::from_secs(1);

/// How long responses are waited for after the last request was due.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often due requests are released. Part of the latency: a request may go out this much late.
const TICK: Duration = Duration::from_micros(200);

/// The longest latency that is told apart from longer ones: an hour.
const MICROS_MAX: u64 = 3_600_000_000;

struct Load {
    address: String,
    request: String,
    rate: u32,
    total: u32,
    begin: Instant,
    /// One permit for each request that is due.
    due: Semaphore,
    connections: usize,
}

impl Load {
    fn due_at(&self, number: u32) -> Instant {
        let nanos = u64::from(number) * 1_000_000_000 / u64::from(self.rate);
        self.begin + Duration::from_nanos(nanos)
    }

    fn ends(&self) -> Instant {
        self.due_at(self.total)
    }
}

struct Found {
    next: u32,
    statuses: BTreeMap<u16, u64>,
    unanswered: u64,
    /// From when the request was due.
    latency: Histogram<u64>,
    /// From when the request was sent: what a closed loop would have reported.
    from_sending: Histogram<u64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(load) = parse(&arguments) else {
        eprintln!("open_loop ADDRESS PATH USER AMOUNT RATE SECONDS CONNECTIONS");
        return ExitCode::from(2);
    };
    match run(load) {
        Ok(line) => {
            print(&line);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(line: &str) {
    println!("{line}");
}

fn parse(arguments: &[String]) -> Option<Load> {
    let [address, path, user, amount, rate, seconds, connections] = arguments else {
        return None;
    };
    let rate: u32 = rate.parse().ok().filter(|rate| *rate > 0)?;
    let seconds: u32 = seconds.parse().ok()?;
    let warm_up = u32::try_from(WARM_UP.as_secs()).ok()?;
    let body = format!("{{\"userId\":{user},\"amount\":{amount}}}");
    Some(Load {
        address: address.clone(),
        request: format!(
            "PATCH {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ),
        rate,
        total: rate.checked_mul(seconds.checked_add(warm_up)?)?,
        begin: Instant::now(),
        due: Semaphore::new(0),
        connections: connections.parse().ok().filter(|connections| *connections > 0)?,
    })
}

fn run(mut load: Load) -> Result<String, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = Rc::new(RefCell::new(Found {
        next: 0,
        statuses: BTreeMap::new(),
        unanswered: 0,
        latency: Histogram::new_with_bounds(1, MICROS_MAX, 3)?,
        from_sending: Histogram::new_with_bounds(1, MICROS_MAX, 3)?,
    }));
    LocalSet::new().block_on(&runtime, async {
        let mut streams = Vec::with_capacity(load.connections);
        for _ in 0..load.connections {
            streams.push(open(&load.address).await?);
        }
        load.begin = Instant::now();
        let load = Arc::new(load);
        let pacer = thread::spawn({
            let load = Arc::clone(&load);
            move || release(&load)
        });
        let callers: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                tokio::task::spawn_local(call(Arc::clone(&load), stream, Rc::clone(&found)))
            })
            .collect();
        for caller in callers {
            caller.await?;
        }
        pacer.join().map_err(|_| "the pacer panicked")?;
        let mut found = found.borrow_mut();
        count_unsent(&load, &mut found);
        Ok(json(&load, &found))
    })
}

/// Releases each request when it is due. On a thread of its own, because tokio's timers are good to a
/// millisecond.
#[expect(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
fn release(load: &Load) {
    let mut released = 0;
    while released < load.total {
        let elapsed = load.begin.elapsed().as_nanos() * u128::from(load.rate) / 1_000_000_000;
        let due = u32::try_from(elapsed + 1).unwrap_or(u32::MAX).min(load.total);
        load.due.add_permits(usize::try_from(due - released).unwrap_or(0));
        released = due;
        let next = load.due_at(released).saturating_duration_since(Instant::now());
        thread::sleep(next.max(TICK));
    }
    // Lets every caller find that nothing is left.
    load.due.add_permits(load.connections);
}

async fn call(load: Arc<Load>, mut stream: TcpStream, found: Rc<RefCell<Found>>) {
    let deadline = tokio::time::Instant::from_std(load.ends() + PATIENCE);
    while let Ok(permit) = load.due.acquire().await {
        permit.forget();
        if Instant::now() >= load.ends() + PATIENCE {
            return;
        }
        let number = {
            let mut found = found.borrow_mut();
            found.next += 1;
            found.next - 1
        };
        if number >= load.total {
            return;
        }
        let sent = Instant::now();
        let status = timeout_at(deadline, exchange(&mut stream, &load.request)).await;
        let status = status.ok().flatten();
        record(&load, &mut found.borrow_mut(), number, sent, status);
        if status.is_none() {
            // A connection that was lost is replaced. At the deadline this was the last request.
            match open(&load.address).await {
                Ok(opened) => stream = opened,
                Err(_) => return,
            }
        }
    }
}

fn record(load: &Load, found: &mut Found, number: u32, sent: Instant, status: Option<u16>) {
    let due = load.due_at(number);
    if due < load.begin + WARM_UP {
        return;
    }
    match status {
        Some(status) => *found.statuses.entry(status).or_default() += 1,
        None => found.unanswered += 1,
    }
    found.latency.saturating_record(micros(due.elapsed()));
    found.from_sending.saturating_record(micros(sent.elapsed()));
}

/// Requests for which no connection became free.
fn count_unsent(load: &Load, found: &mut Found) {
    for number in found.next..load.total {
        record(load, found, number, load.due_at(number), None);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

async fn open(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The status of the response. `None` if there is none.
async fn exchange(stream: &mut TcpStream, request: &str) -> Option<u16> {
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut received = Vec::with_capacity(512);
    // Each response is one JSON object, and small.
    while !received.ends_with(b"}") {
        if stream.read_buf(&mut received).await.ok()? == 0 {
            return None;
        }
    }
    str::from_utf8(received.get(9..12)?).ok()?.parse().ok()
}

fn json(load: &Load, found: &Found) -> String {
    let statuses: BTreeMap<String, u64> =
        found.statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect();
    serde_json::json!({
        "rate": load.rate,
        "connections": load.connections,
        "requests": found.latency.len(),
        "statuses": statuses,
        "unanswered": found.unanswered,
        "latency_us": curve(&found.latency),
        "from_sending_us": curve(&found.from_sending),
    })
    .to_string()
}

/// Pairs of a percentile and the microseconds within which so many were answered.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    const PERCENTILES: [f64; 17] = [
        1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.5,
        99.9, 100.0,
    ];
    PERCENTILES.map(|p| (p, histogram.value_at_percentile(p))).to_vec()
}
