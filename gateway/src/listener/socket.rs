//! Listening sockets: one for each worker on each address, all bound before any accepts.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::keep_alive;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel completes before a worker takes them.
const BACKLOG: i32 = 1024;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has the port, another gateway perhaps.
    #[error(
        "{address} is in use by another program; stop that one or choose another port: `listen` in the configuration, --listen with `postern proxy`"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses.
    #[error("cannot listen on {address}: {error}. Choose an address of this machine and a port that may be used.")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
}

/// Opens one listening socket for each worker on one address. Port 0 becomes one free port for all of them.
///
/// # Errors
/// The address is taken or not usable.
pub fn bind(address: SocketAddr, workers: usize) -> Result<Vec<std::net::TcpListener>, ListenError> {
    let wrong = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address },
        _ => ListenError::Refused { address, error },
    };
    // With SO_REUSEPORT alone a second gateway would silently take half of the connections: a socket without it shows
    // first that nobody listens there.
    let probe = socket(address, Sharing::Alone).map_err(wrong)?;
    let address = probe.local_addr().map_err(wrong)?;
    drop(probe);
    (0..workers.max(1)).map(|_| socket(address, Sharing::WithWorkers).map_err(wrong)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    WithWorkers,
}

fn socket(address: SocketAddr, sharing: Sharing) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if sharing == Sharing::WithWorkers {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two addresses, listed apart; and an IPv4 peer never shows in IPv6 clothes.
        socket.set_only_v6(true)?;
    }
    // Inherited by what is accepted: a peer that is gone without a word is noticed, also where silence is in order.
    socket.set_tcp_keepalive(&keep_alive())?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One address that is listened on: a socket for each worker, until that worker takes it.
#[derive(Debug)]
pub struct Listener {
    /// As the configuration names it.
    pub configured: SocketAddr,
    /// With the port that the system chose, where the configuration leaves it to the system.
    pub address: SocketAddr,
    sockets: Mutex<Vec<Option<std::net::TcpListener>>>,
}

impl Listener {
    /// Binds an address for so many workers.
    ///
    /// # Errors
    /// The address is taken or not usable.
    pub fn bind(configured: SocketAddr, workers: usize) -> Result<Arc<Self>, ListenError> {
        let sockets = bind(configured, workers)?;
        let address = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(configured);
        Ok(Arc::new(Self { configured, address, sockets: Mutex::new(sockets.into_iter().map(Some).collect()) }))
    }

    /// A worker's own socket. From then on it is open for as long as that worker keeps it.
    pub fn take(&self, worker: usize) -> Option<std::net::TcpListener> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).get_mut(worker)?.take()
    }
}
