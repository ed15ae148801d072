//! Watches a user with many streams of events, and changes it at a fixed rate.
//!
//! `watchers ADDRESS USER STREAMS RATE` prints a line when all streams are open. It goes on until its input
//! ends, and waits for the streams to see the user's last version. Then it prints a line of JSON: how many
//! changes it made and how many failed, how many events all streams had, how many of these did not follow the
//! one before, and how many streams have not seen everything. It takes no part in a build of the service.

use std::cell::Cell;
use std::io::{self, Read as _};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_blocking, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// How long the streams may take for the last events.
const REST_MAX: Duration = Duration::from_secs(30);

type Outcome<T> = Result<T, String>;

/// What a stream has seen.
#[derive(Default)]
struct Seen {
    version: Cell<u64>,
    events: Cell<u64>,
    gaps: Cell<u64>,
}

/// What was changed.
#[derive(Default)]
struct Changes {
    made: Cell<u64>,
    failed: Cell<u64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, user, streams, rate] = arguments.as_slice() else {
        eprintln!("watchers ADDRESS USER STREAMS RATE");
        return ExitCode::from(2);
    };
    let (Ok(user), Ok(streams), Ok(rate)) =
        (user.parse::<u64>(), streams.parse::<usize>(), rate.parse::<u32>())
    else {
        eprintln!("USER, STREAMS and RATE must be whole numbers");
        return ExitCode::from(2);
    };
    match LocalSet::new().run_until(run(address, user, streams, rate)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watchers: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
async fn run(address: &str, user: u64, streams: usize, rate: u32) -> Outcome<()> {
    let mut all = Vec::new();
    for _ in 0..streams {
        let request = format!("GET /users/{user}/events HTTP/1.1\r\nhost: x\r\n\r\n");
        let stream = send(address, &request).await?;
        let seen = Rc::new(Seen::default());
        spawn_local(watch(stream, Rc::clone(&seen)));
        all.push(seen);
    }
    // Each begins with the user's version.
    while all.iter().any(|seen| seen.events.get() == 0) {
        sleep(Duration::from_millis(5)).await;
    }
    println!("{streams} streams are open");
    let changes = Rc::new(Changes::default());
    let changing = spawn_local(change(address.to_owned(), user, rate, Rc::clone(&changes)));
    let _ = spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await;
    changing.abort();
    let ends = Instant::now() + REST_MAX;
    let behind = loop {
        let last = version(address, user).await?;
        let behind = all.iter().filter(|seen| seen.version.get() < last).count();
        if behind == 0 || Instant::now() > ends {
            break behind;
        }
        sleep(Duration::from_millis(50)).await;
    };
    let sum =
        |count: fn(&Seen) -> &Cell<u64>| all.iter().map(|seen| count(seen).get()).sum::<u64>();
    println!(
        "{{\"changes\":{},\"failed\":{},\"events\":{},\"gaps\":{},\"behind\":{behind}}}",
        changes.made.get(),
        changes.failed.get(),
        sum(|seen| &seen.events) - all.len() as u64,
        sum(|seen| &seen.gaps),
    );
    Ok(())
}

async fn send(address: &str, request: &str) -> Outcome<TcpStream> {
    let connecting = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(request.as_bytes()).await?;
        Ok(stream)
    };
    connecting.await.map_err(|error: io::Error| error.to_string())
}

/// Reads lines, and takes the versions of those that have one. What frames the body's parts are lines as
/// well, since no part ends within a line.
async fn watch(mut stream: TcpStream, seen: Rc<Seen>) {
    let mut received = Vec::with_capacity(64 * 1024);
    while stream.read_buf(&mut received).await.is_ok_and(|count| count > 0) {
        let end = received.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in received[..end].split(|byte| *byte == b'\n') {
            let Some(id) = line.strip_prefix(b"id: ") else { continue };
            let id = str::from_utf8(id).ok().and_then(|id| id.parse().ok()).unwrap_or(0);
            let is_next = seen.events.get() == 0 || id == seen.version.get() + 1;
            seen.gaps.set(seen.gaps.get() + u64::from(!is_next));
            seen.events.set(seen.events.get() + 1);
            seen.version.set(id);
        }
        received.drain(..end);
    }
}

/// Sends one change after the other, each when it is due.
async fn change(address: String, user: u64, rate: u32, changes: Rc<Changes>) {
    if rate == 0 {
        return;
    }
    let body = format!("{{\"userId\":{user},\"amount\":1}}");
    let length = body.len();
    let request = format!(
        "PATCH /approach/batched/balance HTTP/1.1\r\nhost: x\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        let (address, request, changes) = (address.clone(), request.clone(), Rc::clone(&changes));
        // A change that waits for a busy service does not hold up the next one.
        spawn_local(async move {
            let answered = answer(&address, &request).await;
            let is_made = answered.is_ok_and(|text| text.starts_with("HTTP/1.1 200 "));
            let count = if is_made { &changes.made } else { &changes.failed };
            count.set(count.get() + 1);
        });
    }
}

/// The response to a request, which ends with an object.
async fn answer(address: &str, request: &str) -> Outcome<String> {
    let mut stream = send(address, request).await?;
    let mut received = Vec::with_capacity(512);
    while !received.ends_with(b"}") {
        let count = stream.read_buf(&mut received).await.map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("the connection has ended".into());
        }
    }
    String::from_utf8(received).map_err(|error| error.to_string())
}

async fn version(address: &str, user: u64) -> Outcome<u64> {
    let text = answer(address, &format!("GET /users/{user} HTTP/1.1\r\nhost: x\r\n\r\n")).await?;
    let version =
        text.rsplit_once("\"version\":").map(|(_, version)| version.trim_end_matches('}'));
    version.and_then(|version| version.parse().ok()).ok_or(text)
}
