//! Where connections come from: an address that is taken, then listened on, then closed in order.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::tls::Tls;

/// The connections that the kernel queues until they are accepted. With tokio's default of 128,
/// 10,000 clients that connect at once would wait a second or more for SYN retries. The kernel caps
/// it at `somaxconn`.
const BACKLOG: i32 = 16_384;

/// What the kernel stores for a client that does not take it, in bytes. Otherwise the buffers of a
/// stream grow to megabytes, and the service sees such a client go on only when it has taken a third of
/// them.
#[cfg(target_os = "linux")]
const UNSENT_MAX: u32 = 128 * 1024;

/// An address that is taken, but refuses connections until [`listen`](Self::listen).
///
/// A start may wait for the database for long. A client that is refused meanwhile knows that nothing was
/// applied, and a load balancer sends its request to another instance by itself. It would do neither if
/// the kernel queued the connection, nor, by default, if the service answered 503. A probe of whether
/// the process is alive fails until the start is complete; `startupProbe` is what Kubernetes has for that.
pub struct Bound(Socket);

impl Bound {
    /// Binds. An address that another process listens on is an error, never shared.
    ///
    /// # Errors
    /// As the system says.
    pub fn to(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart can bind while connections of the last run are still in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Connections inherit it.
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
        socket.bind(&address.into())?;
        Ok(Self(socket))
    }

    /// Accepts connections from now on.
    ///
    /// # Errors
    /// As the system says. Another process may have bound the same address, and listened first.
    pub fn listen(self) -> io::Result<TcpListener> {
        self.0.listen(BACKLOG)?;
        TcpListener::from_std(self.0.into())
    }
}

/// Where connections come from.
pub struct Listener {
    pub(super) listener: TcpListener,
    /// Without it, connections speak plain HTTP.
    pub(super) tls: Option<Tls>,
}

impl Listener {
    /// With the certificate of TLS connections, if there is one.
    pub fn new(listener: TcpListener, tls: Option<Tls>) -> Self {
        Self { listener, tls }
    }

    /// The address. Where port 0 was asked for, this is the port that was chosen.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::new(listener, None)
    }
}

/// Makes the kernel drop the first packet of each new connection, while those that it has answered are
/// still accepted. Closing the listener resets every connection that waits to be accepted, although its
/// client may have sent a request. A client whose first packet was dropped repeats it after a second, and
/// is then refused, or reaches the next service on this port.
#[cfg(target_os = "linux")]
pub(super) fn refuse_new(listener: &TcpListener) {
    use socket2::{SockFilter, SockRef};
    // Classic BPF (linux/bpf_common.h), applied from the TCP header on. Byte 13 has the flags.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    let program = [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_ANY_BIT, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    if let Err(error) = SockRef::from(listener).attach_filter(&program) {
        tracing::warn!(%error, "cannot refuse new connections in order");
    }
}

/// Elsewhere a connection that is made at the last moment may be reset.
#[cfg(not(target_os = "linux"))]
pub(super) fn refuse_new(_: &TcpListener) {}
