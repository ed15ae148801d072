//! Databases that do not accept a connection, each in its own way.

use std::net::{SocketAddr, TcpListener as Blocking};

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How it does not.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// Nobody listens.
    Refused,
    /// The packets of a new connection get no answer.
    Dropped,
    /// It accepts, and says nothing.
    Mute,
    /// It says that it is starting up (57P03).
    StartingUp,
    /// The host's name is not known.
    Nameless,
}

pub(super) const WAITS: &[Wait] =
    &[Wait::Refused, Wait::Dropped, Wait::Mute, Wait::StartingUp, Wait::Nameless];

/// Such a database.
pub(super) struct Silence {
    pub(super) url: String,
    pub(super) address: String,
    _held: Held,
}

/// What it is made of, until it is dropped.
enum Held {
    Nothing,
    Full { _listener: Socket, _queued: Vec<Socket> },
    Task { _serving: AbortOnDrop },
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Silence {
    pub(super) async fn start(wait: Wait) -> Self {
        let (address, held) = match wait {
            Wait::Refused => (format!("127.0.0.1:{}", free_port()), Held::Nothing),
            // A domain that never exists (RFC 6761).
            Wait::Nameless => ("db.invalid:5432".to_owned(), Held::Nothing),
            Wait::Dropped => full_queue(),
            Wait::Mute | Wait::StartingUp => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap().to_string();
                let serving = tokio::spawn(answer(listener, matches!(wait, Wait::StartingUp)));
                (address, Held::Task { _serving: AbortOnDrop(serving) })
            }
        };
        Self { url: format!("postgres://u:p@{address}/d?sslmode=disable"), address, _held: held }
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    Blocking::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The kernel drops the packets of a connection that its listener's queue has no room for.
fn full_queue() -> (String, Held) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let queued = (0..8)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            // "In progress", and the later ones for ever.
            let _ = socket.connect(&address);
            socket
        })
        .collect();
    let text = address.as_socket().unwrap().to_string();
    (text, Held::Full { _listener: listener, _queued: queued })
}

async fn answer(listener: TcpListener, is_starting_up: bool) {
    let mut mute = Vec::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if is_starting_up {
            say_starting_up(stream).await;
        } else {
            mute.push(stream);
        }
    }
}

async fn say_starting_up(mut stream: TcpStream) {
    let mut part = [0; 1024];
    let _ = stream.read(&mut part).await;
    let fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    let message = [b"E", &length[..], fields].concat();
    let _ = stream.write_all(&message).await;
}
