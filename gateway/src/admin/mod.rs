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
mod endpoints;
mod exchange;
mod mint;
mod openapi;
mod presenter;
mod problem;
mod status;

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use postern_capabilities::keys::SigningKey;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::LocalSet;

use crate::generation::Generation;
use crate::ledger::Ledger;
use crate::limits::{self, Limits};
use crate::listener;
use crate::state::{StateDir, StateError};
use crate::telemetry::{Telemetry, WorkerTelemetry};

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
    shutdown: Shutdown,
    started: Instant,
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

/// Binds the administration listener and starts its thread. The ledger moves in: it lives as long as the thread does.
pub fn start(
    generations: watch::Receiver<Arc<Generation>>,
    state: StateDir,
    ledger: Ledger,
    telemetry: Arc<Telemetry>,
    shutdown: Shutdown,
) -> Result<Started, AdminError> {
    let root_key = state.root_key()?;
    let listen = generations.borrow().config.admin.listen;
    let socket = listener::bind(listen, 1)?.pop().ok_or_else(no_socket)?;
    let address = socket.local_addr()?;
    let thread = std::thread::Builder::new().name("administration".into()).spawn(move || {
        let admin = Admin {
            ledger,
            state,
            root_key: root_key.into(),
            changing_keys: Mutex::new(()),
            generations,
            worker: telemetry.worker(),
            telemetry,
            shutdown,
            started: Instant::now(),
        };
        run(admin, socket);
    })?;
    Ok(Started { address, thread })
}

fn no_socket() -> std::io::Error {
    std::io::Error::other("no socket was bound")
}

/// The thread's whole life.
fn run(admin: Admin, socket: TcpListener) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "administration has no runtime and serves nothing"),
    };
    LocalSet::new().block_on(&runtime, async {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => {
                let admin = Rc::new(admin);
                tokio::task::spawn_local(status::keep_rates(Rc::clone(&admin)));
                accept(admin, socket).await;
            }
            Err(error) => tracing::error!(%error, "the administration's socket cannot be used"),
        }
    });
}

/// Accepts until the gateway shuts down, then lets what is under way finish.
async fn accept(admin: Rc<Admin>, socket: tokio::net::TcpListener) {
    let places = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS_MAX));
    let mut ending = admin.shutdown.is_ending.clone();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            // An error means that whoever shuts down is gone, which is a shutdown too.
            _ = ending.wait_for(|down| *down) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let admin = Rc::clone(&admin);
                tokio::task::spawn_local(async move {
                    serve(admin, stream, peer).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: others must close first.
                tracing::warn!(%error, "an administration connection could not be accepted");
                tokio::time::sleep(limits::ADMIN_ACCEPT_PAUSE).await;
            }
        }
    }
    drop(socket);
    let all = u32::try_from(limits::ADMIN_CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let drained = tokio::time::timeout(admin.limits().drain_timeout, places.acquire_many(all)).await;
    if drained.is_err() {
        tracing::warn!("administration connections were still open at the end of the drain and were closed");
    }
}

/// One connection: HTTP/1 by hyper. Nothing is forwarded from here, so there is no second reader to confuse.
async fn serve(admin: Rc<Admin>, stream: tokio::net::TcpStream, peer: SocketAddr) {
    let mut ending = admin.shutdown.is_ending.clone();
    let service = service_fn(|request| {
        let admin = Rc::clone(&admin);
        async move { Ok::<_, std::convert::Infallible>(exchange::answer(&admin, peer, request).await) }
    });
    let limits = admin.limits();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also how long a connection may idle: few places, and operators must find one.
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes_max.max(8 * 1024))
        .max_headers(limits.fields_max)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        _ = ending.wait_for(|down| *down) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "an administration connection ended early");
    }
}

#[cfg(test)]
mod tests;
