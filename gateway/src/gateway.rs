//! A running gateway: ledger, workers and administration, started and drained as one.
//!
//! The order of a start is the order of trust: state folder and ledger first, so that every revocation is known; then the
//! sockets, so that a taken port is an error and not a surprise; then the workers; administration last. A gateway that
//! cannot do all of this does not start.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use postern_capabilities::message::Scheme;
use postern_capabilities::revocation::Standing;
use postern_capabilities::token::{Capability, Unverified};
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use crate::config::{self, Config, TrustedProxies};
use crate::ledger::{EmbeddedOptions, Ledger};
use crate::limits::Limits;
use crate::listener::{self, Connection, Connections, Settings, Stream};
use crate::request::Peer;
use crate::request::resource::Resource;
use crate::request::route::Routes;
use crate::state::{StateDir, read_secret_file};
use crate::telemetry::{AccessLog, LedgerMetrics, Telemetry, Traces, WorkerTelemetry};
use crate::tls::Tls;
use crate::upstream::endpoint::Endpoint;
use crate::worker::Worker;
use crate::{admin, http1, http2};

/// Why a gateway did not start. Each is a sentence: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder or a file in it.
    #[error(transparent)]
    State(#[from] crate::state::StateError),
    /// The ledger's file.
    #[error(transparent)]
    LedgerFile(#[from] crate::ledger::OpenError),
    /// The ledger's contents.
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] crate::listener::ListenError),
    /// Administration.
    #[error(transparent)]
    Admin(#[from] crate::admin::AdminError),
    /// A resource's anonymous capability.
    #[error("resource.{resource}.anonymous: {sentence}")]
    Anonymous {
        /// The resource.
        resource: String,
        /// What is wrong, and what to do.
        sentence: String,
    },
    /// The access log's file.
    #[error("the access log {path} cannot be opened: {error}. Name a file in a folder that is there, with log.access.")]
    AccessLog {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// Traces.
    #[error(transparent)]
    Traces(#[from] crate::telemetry::TracesError),
    /// A thread or its runtime.
    #[error(
        "a thread cannot be started: {0}. The system's limit on threads or open files is too low for this gateway."
    )]
    Thread(std::io::Error),
}

/// A gateway that is up. Dropping it stops it at once; [`Running::drain`] lets exchanges finish.
pub struct Running {
    data: Vec<SocketAddr>,
    admin: SocketAddr,
    shutdown: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    /// Outlives the workers: what they write and record at their end still has somewhere to go.
    telemetry: Arc<Telemetry>,
}

impl Running {
    /// Where messages are taken, with the ports that the system chose.
    pub fn data_addresses(&self) -> &[SocketAddr] {
        &self.data
    }

    /// Where administration is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Closes the access log's file and opens it again under its name, after a rotation.
    pub fn reopen_access_log(&self) {
        self.telemetry.access_log().reopen();
    }

    /// Takes no more connections, lets exchanges that are under way finish within `drain_timeout`, and ends.
    pub async fn drain(mut self) {
        self.shutdown.send_replace(true);
        let threads = std::mem::take(&mut self.threads);
        // Joining blocks, so it is done where blocking is allowed. A worker that panicked has ended, which is all that
        // is asked of it here. The last lines and spans are written when nobody is left who could add one.
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().for_each(|thread| drop(thread.join()));
            drop(self);
        });
        drop(joined.await);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.send_replace(true);
    }
}

/// Starts a gateway from a checked configuration and its state folder.
///
/// # Errors
/// [`StartError`]: nothing keeps running in that case.
pub async fn start(config: Config, state: StateDir) -> Result<Running, StartError> {
    let access_log = open_access_log(&config)?;
    let spans_max = config.limits.trace_queue_spans_max;
    let traces = config.telemetry.as_ref().map(|settings| Traces::start(settings, spans_max)).transpose()?;
    let telemetry = Telemetry::new(access_log, traces.unwrap_or_else(Traces::off));
    let ledger = open_ledger(&state, &config.limits, Arc::clone(telemetry.ledger())).await?;
    let standing = Arc::clone(ledger.standing());
    let tls = config.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
    let connections = Connections::new(&config.limits);
    let resources = Arc::new(
        config
            .resources
            .iter()
            .map(|resource| Ok((resource.clone(), anonymous(resource, &standing, &config.limits)?)))
            .collect::<Result<Vec<_>, StartError>>()?,
    );

    let workers = config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let (data, sockets) = listen(&config.listen, workers)?;
    let (shutdown, watch) = watch::channel(false);
    let mut running =
        Running { data, admin: config.admin.listen, shutdown, threads: Vec::new(), telemetry: Arc::clone(&telemetry) };

    for (index, sockets) in sockets.into_iter().enumerate() {
        let parts = Parts {
            resources: Arc::clone(&resources),
            limits: config.limits.clone(),
            standing: Arc::clone(&standing),
            trusted_proxies: config.trusted_proxies.clone(),
            telemetry: telemetry.worker(),
            tls: tls.clone(),
            connections: Arc::clone(&connections),
            sockets,
            shutdown: watch.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || parts.run())
            .map_err(StartError::Thread)?;
        running.threads.push(thread);
    }
    let admin = admin::start(&config, state, ledger, telemetry, watch)?;
    running.admin = admin.address;
    running.threads.push(admin.thread);
    Ok(running)
}

/// The ledger, replayed, with the state folder's root key as the one that mints. Commands that take the place of a gateway
/// which does not run use it too.
///
/// # Errors
/// Also where the folder was in use and its ledger is gone or has lost its records: a fresh one would have forgotten every
/// revocation.
pub async fn open_ledger(state: &StateDir, limits: &Limits, metrics: Arc<LedgerMetrics>) -> Result<Ledger, StartError> {
    let root = state.root_key()?;
    state.expect_ledger()?;
    let options = EmbeddedOptions { queue_max: limits.ledger_queue_max, ..EmbeddedOptions::new(state.ledger_path()) };
    let ledger = Ledger::open(&options, metrics)?;
    // A rotation that was cut short is settled first; only then can the root key and the record agree.
    let minting = ledger.standing().keys().minting().map(|entry| entry.key);
    match minting {
        Some(minting) => state.settle_rotation(&minting)?,
        None => {
            state.expect_ledger_unused()?;
            ledger.adopt_root_key(root.public()).await?;
        }
    }
    state.record_key_ring(&ledger.standing().keys())?;
    Ok(ledger)
}

/// What one worker thread is made of, before it has a runtime.
struct Parts {
    resources: Arc<Vec<(config::Resource, Option<Arc<Capability>>)>>,
    limits: Limits,
    standing: Arc<Standing>,
    trusted_proxies: TrustedProxies,
    telemetry: WorkerTelemetry,
    tls: Option<Arc<Tls>>,
    connections: Arc<Connections>,
    sockets: Vec<TcpListener>,
    shutdown: watch::Receiver<bool>,
}

impl Parts {
    /// The thread's whole life.
    fn run(self) {
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "a worker has no runtime and serves nothing"),
        };
        let resources =
            self.resources.iter().enumerate().map(|(index, (r, a))| Rc::new(resource(index, r, a))).collect();
        let limits = Rc::new(self.limits);
        let routes = Routes::new(resources);
        let worker =
            Rc::new(Worker::new(routes, Rc::clone(&limits), self.standing, self.trusted_proxies, self.telemetry));
        let refusing = Rc::clone(&worker);
        let settings = Settings {
            refused: Rc::new(move || refusing.telemetry.connection_refused()),
            tls: self.tls,
            connections: self.connections,
            limits,
            shutdown: self.shutdown.clone(),
        };
        let (served, shutdown) = (Rc::clone(&worker), self.shutdown.clone());
        let serve = move |connection| serve(Rc::clone(&served), connection, shutdown.clone());
        LocalSet::new().block_on(&runtime, async {
            let (standing, swept) = (Arc::clone(&worker.standing), Rc::clone(&worker));
            let shared = Rc::clone(&worker.http1);
            let ticking = shared.run(self.shutdown.clone(), move || standing.version(), move || swept.pool.sweep());
            let ticking = tokio::task::spawn_local(ticking);
            let mut loops = JoinSet::new();
            for socket in self.sockets {
                match tokio::net::TcpListener::from_std(socket) {
                    Ok(socket) => drop(loops.spawn_local(listener::run(socket, settings.clone(), serve.clone()))),
                    Err(error) => tracing::error!(%error, "a listening socket cannot be used"),
                }
            }
            while loops.join_next().await.is_some() {}
            ticking.abort();
        });
        // What did not finish within the drain ends here.
        runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

/// Serves one client connection in the version of HTTP that it speaks.
async fn serve(worker: Rc<Worker>, connection: Connection, shutdown: watch::Receiver<bool>) {
    let handshake = connection.handshake.as_ref();
    let peer = Peer {
        address: connection.peer.ip(),
        scheme: if handshake.is_some() { Scheme::Https } else { Scheme::Http },
        server_name: handshake.and_then(|h| h.server_name.as_deref()).map(Into::into),
        client_cert: handshake.and_then(|h| h.client_cert.as_deref()).map(Into::into),
    };
    let is_h2 = connection.is_h2;
    let (stream, _place) = connection.into_parts();
    worker.telemetry.connection_opened();
    match (stream, is_h2) {
        (Stream::Plain(stream), false) => http1::serve(&worker, stream, peer).await,
        (Stream::Tls(stream), false) => http1::serve(&worker, *stream, peer).await,
        (Stream::Plain(stream), true) => http2::serve(&worker, stream, peer, shutdown).await,
        (Stream::Tls(stream), true) => http2::serve(&worker, *stream, peer, shutdown).await,
    }
    worker.telemetry.connection_closed();
}

fn resource(index: usize, checked: &config::Resource, anonymous: &Option<Arc<Capability>>) -> Resource {
    Resource {
        name: checked.name.clone(),
        index,
        host: checked.host.as_deref().map(Into::into),
        prefix: checked.prefix.as_str().into(),
        keep_prefix: checked.keep_prefix,
        forward_token: checked.forward_token,
        authorization: checked.authorization,
        passes_encoded_slash: checked.encoded_slash == postern_capabilities::path::EncodedSlash::Pass,
        upstream_host: checked.upstream_host.as_deref().map(Into::into),
        anonymous: anonymous.clone(),
        max_body: checked.max_body,
        allow_headers: checked.allow_headers.iter().map(|name| name.as_str().into()).collect(),
        upstreams: checked.upstream.iter().map(Endpoint::new).collect(),
    }
}

/// One listening socket an address for each worker, all bound before any accepts.
fn listen(addresses: &[SocketAddr], workers: usize) -> Result<(Vec<SocketAddr>, Vec<Vec<TcpListener>>), StartError> {
    let mut bound = Vec::new();
    let mut by_worker: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for &address in addresses {
        let sockets = listener::bind(address, workers)?;
        bound.extend(sockets.first().and_then(|socket| socket.local_addr().ok()));
        for (worker, socket) in by_worker.iter_mut().zip(sockets) {
            worker.push(socket);
        }
    }
    Ok((bound, by_worker))
}

/// The capability that messages without a token present at a resource. It may hold rights to that resource only.
fn anonymous(
    resource: &config::Resource,
    standing: &Standing,
    limits: &Limits,
) -> Result<Option<Arc<Capability>>, StartError> {
    let Some(path) = &resource.anonymous else { return Ok(None) };
    let wrong = |sentence: String| StartError::Anonymous { resource: resource.name.as_str().into(), sentence };
    let text = read_secret_file(path).map_err(|error| wrong(error.to_string()))?;
    let at =
        |what: &dyn std::fmt::Display, path: &Path| format!("the token in {} is not usable: {what}", path.display());
    let capability = Unverified::parse(text.trim())
        .map_err(|error| wrong(at(&error, path)))?
        .verify(standing, limits.price_budget)
        .map_err(|error| wrong(at(&error, path)))?;
    if capability.rights().iter().any(|right| right.resource != resource.name) || capability.rights().is_empty() {
        return Err(wrong(format!(
            "the token in {} must hold rights to {:?} and to nothing else; mint one with `postern mint {} --allow GET`.",
            path.display(),
            resource.name.as_str(),
            resource.name.as_str(),
        )));
    }
    Ok(Some(Arc::new(capability)))
}

fn open_access_log(config: &Config) -> Result<AccessLog, StartError> {
    AccessLog::open(config.access_log.clone(), config.limits.log_queue_lines_max).map_err(|error| {
        let path = match &config.access_log {
            config::AccessLog::File(path) => path.display().to_string(),
            _ => "stream".to_owned(),
        };
        StartError::AccessLog { path, error }
    })
}
