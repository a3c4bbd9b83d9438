//! Administration: a resource like any other, on a listener of its own.
//!
//! Every message but the two health checks goes the way that data messages go: strict head, canonical path, bearer,
//! verification, and `authorize` for the resource `postern` ([`exchange`]). What is then done stands in [`endpoints`] and
//! [`mint`]; [`body`] reads what callers send, [`openapi`] describes it all.
//!
//! An administration capability is an ordinary token with `right("postern", …)`, so its holder narrows it like any
//! other: `--path /revocations` makes one that can only revoke and list, `--path /capabilities/orders` one that can only
//! mint for `orders`.

mod body;
mod connections;
mod endpoints;
mod exchange;
mod mint;
mod openapi;
mod presenter;
mod problem;
mod socket;
mod status;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use postern_capabilities::chain::Prefixes;
use postern_capabilities::keys::SigningKey;
use postern_capabilities::plans::RefusalCache;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, watch};
use tokio::task::LocalSet;

use self::connections::{Place, Places};
use self::socket::Socket;
use crate::generation::Generation;
use crate::ledger::Ledger;
use crate::limits::{self, Limits};
use crate::listener;
use crate::state::{StateDir, StateError};
use crate::telemetry::{Telemetry, WorkerTelemetry};
use crate::wall_clock::WallClock;

/// Why administration did not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Somebody else has its port.
    #[error(
        "{address}, where administration should be, is in use by another program; stop that one or choose another port: `[admin] listen` in the configuration, --admin with `postern proxy`"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// Its address cannot be listened on.
    #[error("administration: {0}")]
    Listen(listener::ListenError),
    /// The root key cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its thread cannot be started.
    #[error(
        "the administration's thread cannot be started: {0}; the system's limit on threads or open files is too low"
    )]
    Thread(#[from] std::io::Error),
}

impl From<listener::ListenError> for AdminError {
    fn from(error: listener::ListenError) -> Self {
        match error {
            listener::ListenError::InUse { address } => Self::InUse { address },
            other => Self::Listen(other),
        }
    }
}

/// Administration that is up.
pub struct Started {
    /// Where it listens, with the port that the system chose.
    pub address: SocketAddr,
    /// Its socket on this machine; `None` where none could be made.
    pub socket: Option<PathBuf>,
    /// Its thread, which ends some time after `is_ending` becomes true.
    pub thread: JoinHandle<()>,
}

/// What administration works on: one for its thread.
struct Admin {
    ledger: Ledger,
    state: StateDir,
    /// The key that mints. Replaced by a rotation; the number it goes by comes from the ledger.
    root_key: RefCell<SigningKey>,
    /// One change of keys at a time: each touches files and the ledger.
    changing_keys: Mutex<()>,
    generations: watch::Receiver<Arc<Generation>>,
    telemetry: Arc<Telemetry>,
    worker: WorkerTelemetry,
    /// The time by which messages are decided, as workers have it.
    clock: Arc<WallClock>,
    /// Presented tokens that were refused at the cost of a signature check, and beginnings of chains that verified.
    refusals: RefCell<RefusalCache>,
    prefixes: Prefixes,
    shutdown: Shutdown,
    started: Instant,
}

/// What administration is made of.
pub struct Parts {
    /// The configurations in force.
    pub generations: watch::Receiver<Arc<Generation>>,
    /// Keys and capabilities.
    pub state: StateDir,
    /// The record; it moves in and lives as long as the thread does.
    pub ledger: Ledger,
    /// What is counted and logged.
    pub telemetry: Arc<Telemetry>,
    /// The time by which messages are decided.
    pub clock: Arc<WallClock>,
    /// When it ends.
    pub shutdown: Shutdown,
}

/// The two steps in which a gateway ends.
#[derive(Clone)]
pub struct Shutdown {
    /// True once data connections are to end: nothing is ready any more, and all else goes on.
    pub is_draining: watch::Receiver<bool>,
    /// True once administration is to end as well.
    pub is_ending: watch::Receiver<bool>,
}

impl Admin {
    /// The configuration as it is at this moment.
    fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.generations.borrow())
    }

    /// Every bound, as it is at this moment.
    fn limits(&self) -> Limits {
        self.generations.borrow().config.limits.clone()
    }
}

/// Binds the administration listener and the socket for this machine's commands, and starts the thread.
///
/// # Errors
/// The port cannot be listened on, or there is no thread. A socket that cannot be made is told, and done without.
pub fn start(parts: Parts, runtime_folder: Option<&Path>) -> Result<Started, AdminError> {
    let Parts { generations, state, ledger, telemetry, clock, shutdown } = parts;
    let root_key = state.root_key()?;
    let listen = generations.borrow().config.admin.listen;
    let port = listener::bind(listen, 1)?.pop().ok_or_else(no_socket)?;
    let address = port.local_addr()?;
    let socket = match socket::bind(&state, runtime_folder) {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(%error, "administration has no socket for this machine's commands; they use its port");
            None
        }
    };
    let path = socket.as_ref().map(|socket| socket.path.clone());
    let thread = std::thread::Builder::new().name("administration".into()).spawn(move || {
        let admin = Admin {
            ledger,
            state,
            root_key: root_key.into(),
            changing_keys: Mutex::new(()),
            generations,
            worker: telemetry.worker(),
            telemetry,
            clock,
            refusals: RefCell::default(),
            prefixes: Prefixes::default(),
            shutdown,
            started: Instant::now(),
        };
        run(admin, port, socket);
    })?;
    Ok(Started { address, socket: path, thread })
}

fn no_socket() -> std::io::Error {
    std::io::Error::other("no socket was bound")
}

/// The thread's whole life.
fn run(admin: Admin, port: TcpListener, socket: Option<Socket>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "administration has no runtime and serves nothing"),
    };
    LocalSet::new().block_on(&runtime, async {
        let admin = Rc::new(admin);
        tokio::task::spawn_local(status::keep_rates(Rc::clone(&admin)));
        tokio::task::spawn_local(status::keep_clock(Rc::clone(&admin)));
        let local = socket.map(|socket| tokio::task::spawn_local(accept_local(Rc::clone(&admin), socket)));
        match tokio::net::TcpListener::from_std(port) {
            Ok(port) => accept(admin, port).await,
            Err(error) => tracing::error!(%error, "the administration's port cannot be used"),
        }
        if let Some(local) = local {
            // A task that panicked has ended, which is all that is asked of it here.
            drop(local.await);
        }
    });
}

/// Accepts until the gateway shuts down, then lets what is under way finish.
async fn accept(admin: Rc<Admin>, port: tokio::net::TcpListener) {
    let places = Places::new(limits::ADMIN_CONNECTIONS_MAX);
    let mut ending = admin.shutdown.is_ending.clone();
    loop {
        let accepted = tokio::select! {
            accepted = port.accept() => accepted,
            // An error means that whoever shuts down is gone, which is a shutdown too.
            _ = ending.wait_for(|down| *down) => break,
        };
        match accepted {
            Ok((stream, peer)) => admit(&admin, &places, stream, peer.ip()),
            Err(error) => pause(&error).await,
        }
    }
    drop(port);
    drained(&admin, &places).await;
}

/// The same for the socket of this machine, with places of its own: nobody from elsewhere takes one.
async fn accept_local(admin: Rc<Admin>, socket: Socket) {
    let listener = match tokio::net::UnixListener::from_std(socket.listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the administration's socket cannot be used"),
    };
    let places = Places::new(limits::ADMIN_LOCAL_CONNECTIONS_MAX);
    let mut ending = admin.shutdown.is_ending.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.wait_for(|down| *down) => break,
        };
        match accepted {
            // To a caveat it is a client on this machine.
            Ok((stream, _)) if socket::is_own(&stream) => {
                admit(&admin, &places, stream, Ipv4Addr::LOCALHOST.into());
            }
            Ok(_) => tracing::warn!("another account connected to the administration's socket and was sent away"),
            Err(error) => pause(&error).await,
        }
    }
    drop(listener);
    // The ledger, and with it the folder's lock, is still held: the next gateway's socket cannot lie here yet. What cannot
    // be removed is made anew at the next start.
    let _ = std::fs::remove_file(&socket.path);
    drained(&admin, &places).await;
}

/// Out of file descriptors, most likely: others must close first.
async fn pause(error: &std::io::Error) {
    tracing::warn!(%error, "an administration connection could not be accepted");
    tokio::time::sleep(limits::ADMIN_ACCEPT_PAUSE).await;
}

async fn drained(admin: &Admin, places: &Places) {
    if tokio::time::timeout(admin.limits().drain_timeout, places.emptied()).await.is_err() {
        tracing::warn!("administration connections were still open at the end of the drain and were closed");
    }
}

/// Serves a connection in a place of its own. Where everybody is being answered it is closed at once.
fn admit(
    admin: &Rc<Admin>,
    places: &Rc<Places>,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    client: IpAddr,
) {
    match places.take() {
        Some(place) => drop(tokio::task::spawn_local(serve(Rc::clone(admin), stream, client, place))),
        None => tracing::warn!("all administration connections are being answered; one more was closed"),
    }
}

/// One connection: HTTP/1 by hyper. Nothing is forwarded from here, so there is no second reader to confuse.
async fn serve(admin: Rc<Admin>, stream: impl AsyncRead + AsyncWrite + Unpin, client: IpAddr, place: Place) {
    let mut ending = admin.shutdown.is_ending.clone();
    let place = Rc::new(place);
    let service = service_fn(|request| {
        let (admin, place) = (Rc::clone(&admin), Rc::clone(&place));
        async move { Ok::<_, std::convert::Infallible>(exchange::answer(&admin, &place, client, request).await) }
    });
    let limits = admin.limits();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // hyper panics where the system's clock is beyond the dates that it can write; the answers have one of their own.
        .auto_date_header(false)
        // Also how long a connection may idle: few places, and operators must find one.
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes_max.max(8 * 1024))
        .max_headers(limits.fields_max)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut silence = std::pin::pin!(tokio::time::sleep(limits::ADMIN_FIRST_HEAD_TIMEOUT));
    let outcome = loop {
        tokio::select! {
            outcome = connection.as_mut() => break outcome,
            _ = ending.wait_for(|down| *down) => {
                connection.as_mut().graceful_shutdown();
                break connection.await;
            }
            () = place.given_away() => return,
            () = silence.as_mut(), if !silence.is_elapsed() => if !place.has_asked() { return },
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "an administration connection ended early");
    }
}

#[cfg(test)]
mod tests;
