//! A headless Chromium that all tests share, driven by the DevTools protocol.
//!
//! The protocol goes over a pipe: JSON messages, each with a zero byte at its end. The tests need a dozen of its
//! commands, and no library for that: those for Rust compile code for each of its thousand types. Chromium ends by
//! itself when the pipe is closed, which happens however this process ends.

mod input;
mod requests;
mod tab;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::cluster::folder_of_the_run;

pub(crate) use requests::Stage;
pub(crate) use tab::{Look, Tab};

/// The names under which systems have it.
const NAMES: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/// The time in which Chromium has to answer a command, even on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// It speaks with the service that a test names, and with nobody else.
const ARGUMENTS: [&str; 14] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

static SHARED: LazyLock<Browser> = LazyLock::new(Browser::start);

struct Browser {
    commands: Mutex<ChildStdin>,
    number: AtomicU64,
    answers: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    /// What a person would see in the browser's console, by session.
    messages: Mutex<HashMap<String, Vec<String>>>,
    /// The requests that tests have stopped, by session.
    requests: Mutex<HashMap<String, Vec<Value>>>,
    /// Held, so that its end is known to be none of ours.
    _child: Child,
}

impl Browser {
    fn start() -> Self {
        let mut child = launch();
        let commands = child.stdin.take().expect("a pipe");
        let answers = child.stdout.take().expect("a pipe");
        std::thread::spawn(move || read_all(answers));
        Self {
            commands: Mutex::new(commands),
            number: AtomicU64::new(1),
            answers: Mutex::default(),
            messages: Mutex::default(),
            requests: Mutex::default(),
            _child: child,
        }
    }

    /// The result of a command, in a session or of the browser itself.
    async fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let id = self.number.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let (sender, receiver) = oneshot::channel();
        self.answers.lock().unwrap().insert(id, sender);
        let mut text = message.to_string().into_bytes();
        text.push(0);
        self.commands.lock().unwrap().write_all(&text).expect("Chromium runs");
        let answer = timeout(ANSWER_MAX, receiver).await.expect(method).expect("Chromium runs");
        assert!(answer.get("error").is_none(), "{method} {parameters}: {answer}");
        answer["result"].clone()
    }

    fn take(&self, mut message: Value) {
        if let Some(id) = message["id"].as_u64() {
            if let Some(sender) = self.answers.lock().unwrap().remove(&id) {
                // A test that has failed waits no more.
                let _ = sender.send(message);
            }
            return;
        }
        let parameters = message["params"].take();
        let session = message["sessionId"].as_str().unwrap_or_default().to_owned();
        let text = match message["method"].as_str() {
            Some("Log.entryAdded") => {
                let entry = &parameters["entry"];
                format!("{}: {} {}", entry["source"], entry["text"], entry["url"])
            }
            Some("Runtime.consoleAPICalled") => format!("console: {}", parameters["args"]),
            Some("Runtime.exceptionThrown") => {
                format!("exception: {}", parameters["exceptionDetails"])
            }
            Some("Fetch.requestPaused") => {
                self.requests.lock().unwrap().entry(session).or_default().push(parameters);
                return;
            }
            _ => return,
        };
        self.messages.lock().unwrap().entry(session).or_default().push(text);
    }
}

/// Starts it with the protocol on its descriptors 3 and 4, which here are its input and its output.
fn launch() -> Child {
    let folder = folder_of_the_run("chromium");
    let mut tried = Vec::new();
    for name in NAMES {
        let version = Command::new(name).arg("--version").stderr(Stdio::null()).output();
        if !version.is_ok_and(|output| output.status.success()) {
            tried.push(name);
            continue;
        }
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", name])
            .args(ARGUMENTS)
            .arg(format!("--user-data-dir={}", folder.display()))
            .env("HOME", &folder)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // Its sandbox does not work for root.
        if rustix::process::geteuid().is_root() {
            command.arg("--no-sandbox");
        }
        return command.arg("about:blank").spawn().expect("sh runs");
    }
    panic!(
        "there is no Chromium, which the tests of the console need: `scripts/setup chromium` installs it \
         (looked for {})",
        tried.join(", ")
    );
}

fn read_all(answers: ChildStdout) {
    for message in BufReader::new(answers).split(0) {
        let Ok(message) = message else { return };
        SHARED.take(serde_json::from_slice(&message).expect("JSON"));
    }
}
