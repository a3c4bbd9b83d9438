//! One worker's thread: its sockets, the connections on them, and the generations of the configuration that it follows.
//!
//! A worker starts under the first generation and puts each later one in force between two polls of its tasks: routes and
//! limits hold from the next message on, a certificate from the next handshake. It takes its socket of each address that
//! is new; where an address is gone it stops accepting, lets idle connections end, and the others after their exchange.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use postern_capabilities::keys::SigningKey;
use postern_capabilities::message::Scheme;
use postern_capabilities::path::EncodedSlash;
use postern_capabilities::revocation::Standing;
use postern_capabilities::token::Capability;
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use crate::budget::Budget;
use crate::config::{self, TrustedFields, TrustedProxies};
use crate::generation::Generation;
use crate::listener::{self, Connection, Connections, Dismissal, Leaving, Listener, Settings, Stream};
use crate::request::Peer;
use crate::request::cors::Policy;
use crate::request::resource::Resource;
use crate::request::route::Routes;
use crate::telemetry::WorkerTelemetry;
use crate::upstream::board::Roster;
use crate::upstream::pool::Pool;
use crate::wall_clock::WallClock;
use crate::worker::{View, Worker};
use crate::{http1, http2};

/// What one worker thread is made of, before it has a runtime.
pub(crate) struct Parts {
    /// Its number, by which it finds its sockets.
    pub(crate) index: usize,
    pub(crate) generations: watch::Receiver<Arc<Generation>>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) statement_key: Arc<SigningKey>,
    pub(crate) telemetry: WorkerTelemetry,
    pub(crate) connections: Arc<Connections>,
    pub(crate) budget: Arc<Budget>,
    /// The time by which messages are decided.
    pub(crate) clock: Arc<WallClock>,
    /// True once the gateway is to drain.
    pub(crate) shutdown: watch::Receiver<bool>,
}

impl Parts {
    /// The thread's whole life.
    pub(crate) fn run(mut self) {
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "a worker has no runtime and serves nothing"),
        };
        let generation = Arc::clone(&self.generations.borrow_and_update());
        let limits = Rc::new(generation.config.limits.clone());
        let nowhere = View {
            routes: Routes::new(Vec::new()),
            limits,
            trusted_proxies: TrustedProxies::default(),
            trusted_fields: TrustedFields::default(),
            proxy_protocol: false,
            tls: None,
        };
        let worker = Worker::of(nowhere, self.standing, Arc::clone(&self.budget), self.telemetry);
        let worker = Rc::new(worker.stating(self.statement_key).by_clock(self.clock));
        worker.follow(view(&generation, &worker.pool));
        let mut sockets = Sockets {
            index: self.index,
            worker: Rc::clone(&worker),
            connections: self.connections,
            budget: self.budget,
            shutdown: self.shutdown.clone(),
            open: Vec::new(),
            loops: JoinSet::new(),
        };
        LocalSet::new().block_on(&runtime, async {
            let (ticked, swept) = (Rc::clone(&worker), Rc::clone(&worker));
            let each_tick = move || ticked.leases.tick(ticked.now());
            let shared = Rc::clone(&worker.http1);
            let sweep = move || {
                swept.telemetry.turned();
                swept.pool.sweep();
            };
            let ticking = shared.run(self.shutdown.clone(), each_tick, sweep);
            let ticking = tokio::task::spawn_local(ticking);
            let settling = tokio::task::spawn_local(Rc::clone(&worker.leases).run());
            sockets.follow(&generation);
            drop(generation);
            loop {
                tokio::select! {
                    biased;
                    // A sender that is gone has shut down as well.
                    _ = self.shutdown.wait_for(|down| *down) => break,
                    changed = self.generations.changed() => {
                        if changed.is_err() {
                            break;
                        }
                        let generation = Arc::clone(&self.generations.borrow_and_update());
                        worker.follow(view(&generation, &worker.pool));
                        sockets.follow(&generation);
                        generation.is_followed();
                    }
                    Some(_) = sockets.loops.join_next() => {}
                }
            }
            sockets.leave().await;
            ticking.abort();
            settling.abort();
        });
        // What did not finish within the drain ends here.
        runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

/// The sockets that a worker accepts on.
struct Sockets {
    index: usize,
    worker: Rc<Worker>,
    connections: Arc<Connections>,
    budget: Arc<Budget>,
    shutdown: watch::Receiver<bool>,
    open: Vec<(Arc<Listener>, Dismissal)>,
    /// A loop for each socket, also for those that accept no more while connections of theirs are open.
    loops: JoinSet<()>,
}

impl Sockets {
    /// Listens where this generation does, and nowhere else.
    fn follow(&mut self, generation: &Generation) {
        self.open.retain(|(listener, dismissal)| {
            let stays = generation.listeners.iter().any(|other| Arc::ptr_eq(listener, other));
            if !stays {
                dismissal.give();
            }
            stays
        });
        self.worker.http1.wake_all();
        for listener in &generation.listeners {
            if let Some(socket) = listener.take(self.index) {
                self.accept(Arc::clone(listener), socket);
            }
        }
    }

    fn accept(&mut self, listener: Arc<Listener>, socket: std::net::TcpListener) {
        let socket = match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, "a listening socket cannot be used"),
        };
        let (dismissal, leaving) = Leaving::new();
        let refusing = Rc::clone(&self.worker);
        let settings = Settings {
            view: self.worker.current_view(),
            connections: Arc::clone(&self.connections),
            budget: Arc::clone(&self.budget),
            leaving,
            shutdown: self.shutdown.clone(),
            refused: Rc::new(move |why| refusing.telemetry.connection_refused(why)),
        };
        let served = Rc::clone(&self.worker);
        let serve = move |connection| serve(Rc::clone(&served), connection);
        self.loops.spawn_local(listener::run(socket, settings, serve));
        self.open.push((listener, dismissal));
    }

    /// Accepts no more, and waits for the connections that are open.
    async fn leave(mut self) {
        self.open.iter().for_each(|(_, dismissal)| dismissal.give());
        self.worker.http1.wake_all();
        while self.loops.join_next().await.is_some() {}
    }
}

/// Serves one client connection in the version of HTTP that it speaks.
async fn serve(worker: Rc<Worker>, connection: Connection) {
    let handshake = connection.handshake.as_ref();
    let peer = Peer {
        address: connection.peer.ip(),
        is_introduced: connection.is_introduced,
        scheme: if handshake.is_some() { Scheme::Https } else { Scheme::Http },
        server_name: handshake.and_then(|h| h.server_name.as_deref()).map(Into::into),
        client_cert: handshake.and_then(|h| h.client_cert.as_deref()).map(Into::into),
    };
    let (is_h2, leaving) = (connection.is_h2, connection.leaving.clone());
    let (stream, _place) = connection.into_parts();
    worker.telemetry.connection_opened();
    match (stream, is_h2) {
        (Stream::Plain(stream), false) => http1::serve(&worker, stream, peer, leaving).await,
        (Stream::Tls(stream), false) => http1::serve(&worker, *stream, peer, leaving).await,
        (Stream::Plain(stream), true) => http2::serve(&worker, stream, peer, leaving.told()).await,
        (Stream::Tls(stream), true) => http2::serve(&worker, *stream, peer, leaving.told()).await,
    }
    worker.telemetry.connection_closed();
}

/// A generation as one worker reads it, with that worker's connections.
fn view(generation: &Generation, pool: &Pool) -> View {
    let resources = generation.config.resources.iter().zip(&generation.anonymous).zip(&generation.rosters).enumerate();
    let resources = resources.map(|(index, ((r, a), roster))| Rc::new(resource(index, r, a, (pool, roster))));
    View {
        routes: Routes::new(resources.collect()),
        limits: Rc::new(generation.config.limits.clone()),
        trusted_proxies: generation.config.trusted_proxies.clone(),
        trusted_fields: generation.config.trusted_fields.clone(),
        proxy_protocol: generation.config.proxy_protocol,
        tls: generation.tls.clone(),
    }
}

fn resource(
    index: usize,
    checked: &config::Resource,
    anonymous: &Option<Arc<Capability>>,
    (pool, roster): (&Pool, &Arc<Roster>),
) -> Resource {
    Resource {
        name: checked.name.clone(),
        index,
        host: checked.host.as_deref().map(Into::into),
        prefix: checked.prefix.as_str().into(),
        keep_prefix: checked.keep_prefix,
        forward_token: checked.forward_token,
        authorization: checked.authorization,
        passes_encoded_slash: checked.encoded_slash == EncodedSlash::Pass,
        upstream_host: checked.upstream_host.as_deref().map(Into::into),
        service_host: checked.upstream.first().map(config::Upstream::authority).unwrap_or_default().into(),
        anonymous: anonymous.clone(),
        max_body: checked.max_body,
        body_rate_min: checked.body_rate_min,
        cors: checked.cors.as_ref().map(Policy::new),
        upgrades: checked.upgrades.iter().map(|name| name.as_str().into()).collect(),
        allow_headers: checked.allow_headers.iter().map(|name| name.as_str().into()).collect(),
        strip_headers: checked.strip_headers.iter().map(|name| name.as_str().into()).collect(),
        shared_cache: checked.shared_cache,
        filter_tools: checked.filter_tools,
        mcp: checked.mcp,
        upstreams: pool.group(roster, roster.endpoints()),
        response_timeout: checked.response_timeout,
    }
}
