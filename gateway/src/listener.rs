//! Where client connections come in: sockets, caps, handshakes, and which HTTP is spoken.
//!
//! Each worker has its own sockets on each address (`SO_REUSEPORT`): the kernel spreads connections and workers share
//! nothing but two counts. A loop here accepts, refuses above the caps, finishes the TLS handshake or looks at the first
//! bytes, and hands a [`Connection`] to whoever serves it. It outlives every error that `accept` can have: a gateway that
//! is out of file descriptors serves the connections it has, and accepts again as soon as one is free.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::limits::Limits;
use crate::tls::{Handshake, Tls};

/// Connections that the kernel completes before a worker takes them.
const BACKLOG: i32 = 1024;

/// Descriptors kept back for the ledger, administration, logs and the listeners themselves.
const RESERVED_DESCRIPTORS: usize = 64;

/// How long `accept` rests when the system has nothing left to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What every HTTP/2 client sends first when it knows beforehand that HTTP/2 is spoken (RFC 9113 section 3.4).
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long to wait for the rest of a preface that came in pieces; only a very slow or hostile client sends it so.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);

/// The answer above a cap. Written once, without waiting: whoever is at a cap has no time for the peers above it.
const AT_CAPACITY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: 146\r\n\
cache-control: no-store\r\nretry-after: 1\r\nconnection: close\r\n\r\n\
{\"type\":\"unavailable\",\"title\":\"The gateway cannot take this request now\",\"status\":503,\"detail\":\"Too many connections are open. Try again later.\"}\n";

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has the port, another gateway perhaps.
    #[error("{address} is in use by another program; stop that one or choose another port in `listen`.")]
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
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How many connections are open, over all workers.
#[derive(Debug)]
pub struct Connections {
    max: usize,
    per_client_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl Connections {
    /// Caps from the limits, and from the descriptors this process may open: each exchange may need two. The soft limit
    /// of descriptors is raised towards what the limits ask for; most systems begin with a thousand for the sake of
    /// programs that cannot handle more.
    pub fn new(limits: &Limits) -> Arc<Self> {
        let wanted = limits.connections_max.saturating_mul(2).saturating_add(RESERVED_DESCRIPTORS);
        let affordable = raise_descriptors(wanted).saturating_sub(RESERVED_DESCRIPTORS) / 2;
        if affordable < limits.connections_max {
            tracing::info!(
                connections = affordable,
                "the limit of open files allows fewer connections than connections_max"
            );
        }
        Self::capped(limits.connections_max.min(affordable.max(1)), limits.connections_per_client_max)
    }

    fn capped(max: usize, per_client_max: usize) -> Arc<Self> {
        Arc::new(Self { max, per_client_max, open: Mutex::default() })
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.lock().all
    }

    /// Takes a place for a client's connection; `None` above a cap.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut open = self.lock();
        let by_client = open.by_client.get(&client).copied().unwrap_or(0);
        if open.all >= self.max || by_client >= self.per_client_max {
            return None;
        }
        open.all += 1;
        open.by_client.insert(client, by_client + 1);
        Some(Place { connections: Arc::clone(self), client })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.all = open.all.saturating_sub(1);
        match open.by_client.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.by_client.remove(&self.client);
            }
        }
    }
}

/// Raises the soft limit of open descriptors to `wanted`, as far as the hard one allows, and returns what holds then.
fn raise_descriptors(wanted: usize) -> usize {
    let number = |limit: Option<u64>| limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let before = getrlimit(Resource::Nofile);
    let (soft, hard) = (number(before.current), number(before.maximum));
    let raised = wanted.min(hard);
    if raised <= soft {
        return soft;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised as u64), maximum: before.maximum }) {
        Ok(()) => raised,
        Err(_) => soft,
    }
}

/// A client connection, ready to be served.
#[derive(Debug)]
pub struct Connection {
    /// The bytes.
    pub stream: Stream,
    /// Whether HTTP/2 is spoken on it, else HTTP/1.
    pub is_h2: bool,
    /// The socket's other end; an IPv4 address is one, however it arrived.
    pub peer: SocketAddr,
    /// What the TLS handshake said; `None` on cleartext.
    pub handshake: Option<Handshake>,
    place: Place,
}

impl Connection {
    /// The stream and the place, which must live as long as the stream.
    pub fn into_parts(self) -> (Stream, Place) {
        (self.stream, self.place)
    }
}

/// A connection's bytes, in clear or over TLS.
#[derive(Debug)]
pub enum Stream {
    /// Cleartext.
    Plain(TcpStream),
    /// TLS, the handshake done.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What a loop needs besides its socket.
#[derive(Clone)]
pub struct Settings {
    /// Certificate and key; `None`: cleartext.
    pub tls: Option<Arc<Tls>>,
    /// The caps.
    pub connections: Arc<Connections>,
    /// The timeouts.
    pub limits: Rc<Limits>,
    /// True once the gateway is to drain.
    pub shutdown: watch::Receiver<bool>,
}

/// Accepts until the shutdown, then waits for the connections under way, at most `drain_timeout`.
///
/// `serve` runs once for each connection, on this thread; what it does at the shutdown is its own business (finish the
/// exchange, send GOAWAY). What is left after the timeout is dropped.
pub async fn run<F, S>(listener: TcpListener, settings: Settings, serve: F)
where
    F: Fn(Connection) -> S + Clone + 'static,
    S: Future<Output = ()> + 'static,
{
    let mut shutdown = settings.shutdown.clone();
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            // A sender that is gone has shut down as well.
            _ = shutdown.wait_for(|down| *down) => break,
            Some(ended) = tasks.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(place) = admit(&stream, peer, &settings) {
                        tasks.spawn_local(open(stream, peer, place, settings.clone(), serve.clone()));
                    }
                }
                Err(error) if is_exhaustion(&error) => {
                    tracing::warn!(%error, "cannot accept connections for the moment; those that are open are served");
                    sleep(EXHAUSTED_PAUSE).await;
                }
                // The peer was gone before it was accepted; the next one is not.
                Err(error) => tracing::debug!(%error, "a connection was not accepted"),
            },
        }
    }
    drop(listener);
    let drained = async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    };
    if timeout(settings.limits.drain_timeout, drained).await.is_err() {
        tracing::warn!(connections = tasks.len(), "the drain took too long; what is left is closed");
    }
}

/// A task that panicked took one connection with it, nothing else.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection ended in a defect of the gateway; please report it");
    }
}

/// Whether the system has no descriptors or memory left: asking again at once would only burn the processor.
fn is_exhaustion(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: [i32; 2] = [105, 55];
    matches!(error.raw_os_error(), Some(code) if [ENOMEM, ENFILE, EMFILE].contains(&code) || ENOBUFS.contains(&code))
}

/// A place for the connection, or a short refusal. On TLS there is no way to say it before a handshake: it just closes.
fn admit(stream: &TcpStream, peer: SocketAddr, settings: &Settings) -> Option<Place> {
    let place = settings.connections.take(peer.ip().to_canonical());
    if place.is_none() && settings.tls.is_none() {
        let _ = stream.try_write(AT_CAPACITY);
    }
    place
}

/// From an accepted socket to a served connection.
async fn open<F, S>(stream: TcpStream, peer: SocketAddr, place: Place, settings: Settings, serve: F)
where
    F: Fn(Connection) -> S,
    S: Future<Output = ()>,
{
    // Answers are written whole; waiting for more of them only delays the last one.
    let _ = stream.set_nodelay(true);
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let mut shutdown = settings.shutdown.clone();
    let opened = async {
        match &settings.tls {
            Some(tls) => shake(stream, tls, &settings.limits).await,
            None => sniff(stream, &settings.limits).await,
        }
    };
    // Before its first request a connection is owed nothing: at a shutdown it closes.
    let opened = tokio::select! {
        biased;
        opened = opened => opened,
        _ = shutdown.wait_for(|down| *down) => return,
    };
    match opened {
        Ok((stream, handshake, is_h2)) => serve(Connection { stream, is_h2, peer, handshake, place }).await,
        Err(error) => tracing::debug!(%peer, %error, "a connection ended before its first request"),
    }
}

type Opened = (Stream, Option<Handshake>, bool);

async fn shake(stream: TcpStream, tls: &Tls, limits: &Limits) -> io::Result<Opened> {
    let accept = TlsAcceptor::from(tls.config()).accept(stream);
    let stream = timeout(limits.tls_handshake_timeout, accept).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let handshake = Handshake::of(stream.get_ref().1);
    let is_h2 = handshake.is_h2;
    Ok((Stream::Tls(Box::new(stream)), Some(handshake), is_h2))
}

async fn sniff(stream: TcpStream, limits: &Limits) -> io::Result<Opened> {
    let is_h2 = timeout(limits.first_byte_timeout, begins_with_preface(&stream))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    Ok((Stream::Plain(stream), None, is_h2))
}

/// Looks at the first bytes without taking them: whoever serves the connection reads it from its beginning.
async fn begins_with_preface(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; H2_PREFACE.len()];
    loop {
        stream.ready(Interest::READABLE).await?;
        let length = stream.peek(&mut first).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !H2_PREFACE.starts_with(&first[..length]) {
            return Ok(false);
        }
        if length == H2_PREFACE.len() {
            return Ok(true);
        }
        // The socket stays readable while nothing is taken from it: without a pause this would spin.
        sleep(PREFACE_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::LocalSet;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::tls::tests::Pki;

    struct Up {
        address: SocketAddr,
        connections: Arc<Connections>,
        shutdown: watch::Sender<bool>,
        loop_: tokio::task::JoinHandle<()>,
    }

    fn up<F, S>(tls: Option<Arc<Tls>>, limits: Limits, connections: Arc<Connections>, serve: F) -> Up
    where
        F: Fn(Connection) -> S + Clone + 'static,
        S: Future<Output = ()> + 'static,
    {
        let socket = bind("127.0.0.1:0".parse().expect("an address"), 1).expect("bound").remove(0);
        let address = socket.local_addr().expect("bound");
        let (shutdown, receiver) = watch::channel(false);
        let settings =
            Settings { tls, connections: Arc::clone(&connections), limits: Rc::new(limits), shutdown: receiver };
        let listener = TcpListener::from_std(socket).expect("a listener");
        let loop_ = tokio::task::spawn_local(run(listener, settings, serve));
        Up { address, connections, shutdown, loop_ }
    }

    fn caps() -> Arc<Connections> {
        Connections::capped(10, 10)
    }

    async fn local(test: impl Future<Output = ()>) {
        LocalSet::new().run_until(test).await;
    }

    /// A server that says which protocol was found, and for whom.
    async fn tell(connection: Connection) {
        let text = format!(
            "{} {:?}",
            if connection.is_h2 { "h2" } else { "http/1" },
            connection.handshake.as_ref().and_then(|h| h.server_name.clone())
        );
        let (stream, _place) = connection.into_parts();
        match stream {
            Stream::Plain(mut stream) => {
                // What is left unread would make the end a reset.
                let _ = stream.read(&mut [0; 256]).await.expect("the first bytes");
                stream.write_all(text.as_bytes()).await.expect("written");
                stream.shutdown().await.expect("closed");
            }
            Stream::Tls(mut stream) => {
                stream.write_all(text.as_bytes()).await.expect("written");
                stream.shutdown().await.expect("closed");
            }
        }
    }

    async fn all(mut stream: TcpStream) -> String {
        let mut text = String::new();
        // A reset after the answer is as good an end as any here.
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[test]
    fn the_answer_above_a_cap_has_the_length_it_declares() {
        let text = std::str::from_utf8(AT_CAPACITY).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        let problem: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(problem["status"], 503);
    }

    #[test]
    fn a_taken_port_is_an_error_though_workers_share_theirs() {
        let first = bind("127.0.0.1:0".parse().expect("an address"), 3).expect("bound");
        let address = first[0].local_addr().expect("bound");
        assert!(first.iter().all(|socket| socket.local_addr().expect("bound") == address));
        let taken = bind(address, 3).expect_err("the port is taken");
        assert!(matches!(taken, ListenError::InUse { .. }), "{taken}");
        let foreign = bind("192.0.2.1:0".parse().expect("an address"), 1).expect_err("not of this machine");
        assert!(foreign.to_string().starts_with("cannot listen on 192.0.2.1:0"), "{foreign}");
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let connections = Connections::capped(3, 2);
        let (a, b) = ("10.0.0.1".parse().expect("an address"), "10.0.0.2".parse().expect("an address"));
        let held = [connections.take(a), connections.take(a)];
        assert!(held.iter().all(Option::is_some));
        assert!(connections.take(a).is_none(), "the client's own cap");
        let third = connections.take(b).expect("another client has room");
        assert!(connections.take(b).is_none(), "the cap over all");
        drop(third);
        assert_eq!(connections.open(), 2);
        drop(held);
        assert_eq!(connections.open(), 0);
        assert!(connections.lock().by_client.is_empty(), "nothing is remembered of clients that are gone");
    }

    #[test]
    fn the_limit_of_descriptors_is_raised_and_never_lowered() {
        let before = raise_descriptors(0);
        assert_eq!(raise_descriptors(1), before);
        let raised = raise_descriptors(before.saturating_add(1));
        assert!(raised >= before);
        assert_eq!(raise_descriptors(0), raised);
    }

    #[test]
    fn only_exhaustion_makes_accept_rest() {
        for code in [12, 23, 24, 105] {
            assert!(is_exhaustion(&io::Error::from_raw_os_error(code)), "{code}");
        }
        for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::Interrupted, io::ErrorKind::PermissionDenied] {
            assert!(!is_exhaustion(&io::Error::from(kind)), "{kind:?}");
        }
    }

    #[tokio::test]
    async fn the_first_bytes_say_which_http_is_spoken() {
        local(async {
            let up = up(None, Limits::default(), caps(), tell);
            let cases: [(&[&[u8]], &str); 4] = [
                (&[b"GET / HTTP/1.1\r\n"], "http/1 None"),
                (&[b"PRINT / HTTP/1.1\r\n"], "http/1 None"),
                (&[H2_PREFACE], "h2 None"),
                (&[b"P", b"RI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n"], "h2 None"),
            ];
            for (pieces, expected) in cases {
                let mut client = TcpStream::connect(up.address).await.expect("connected");
                client.set_nodelay(true).expect("set");
                for piece in pieces {
                    client.write_all(piece).await.expect("written");
                    tokio::task::yield_now().await;
                }
                assert_eq!(all(client).await, expected);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn tls_decides_by_alpn_and_tells_the_name() {
        local(async {
            let pki = Pki::new();
            let tls = Arc::new(Tls::load(&pki.files()).expect("loaded"));
            let up = up(Some(tls), Limits::default(), caps(), tell);
            for (protocol, expected) in
                [("h2", "h2 Some(\"gate.example\")"), ("http/1.1", "http/1 Some(\"gate.example\")")]
            {
                let connector = TlsConnector::from(Arc::new(pki.client(&[protocol], false)));
                let tcp = TcpStream::connect(up.address).await.expect("connected");
                let name = ServerName::try_from("gate.example").expect("a name");
                let mut stream = connector.connect(name, tcp).await.expect("shaken");
                let mut text = String::new();
                stream.read_to_string(&mut text).await.expect("read");
                assert_eq!(text, expected);
            }
            // Cleartext on a TLS port ends, and the next connection is served as if nothing had been.
            let mut plain = TcpStream::connect(up.address).await.expect("connected");
            plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
            assert!(!all(plain).await.contains("HTTP"));
        })
        .await;
    }

    #[tokio::test]
    async fn above_a_cap_the_answer_is_503_and_below_it_service_goes_on() {
        local(async {
            let up = up(None, Limits::default(), Connections::capped(1, 1), tell);
            let mut first = TcpStream::connect(up.address).await.expect("connected");
            while up.connections.open() < 1 {
                tokio::task::yield_now().await;
            }
            let second = TcpStream::connect(up.address).await.expect("connected");
            assert!(all(second).await.starts_with("HTTP/1.1 503 "));
            first.write_all(b"GET").await.expect("written");
            assert_eq!(all(first).await, "http/1 None");
            while up.connections.open() > 0 {
                tokio::task::yield_now().await;
            }
            let mut third = TcpStream::connect(up.address).await.expect("connected");
            third.write_all(b"GET").await.expect("written");
            assert_eq!(all(third).await, "http/1 None");
        })
        .await;
    }

    #[tokio::test]
    async fn silence_ends_a_connection() {
        local(async {
            let short = Duration::from_millis(20);
            let limits = Limits { first_byte_timeout: short, tls_handshake_timeout: short, ..Limits::default() };
            let pki = Pki::new();
            for tls in [None, Some(Arc::new(Tls::load(&pki.files()).expect("loaded")))] {
                let up = up(tls, limits.clone(), caps(), tell);
                let silent = TcpStream::connect(up.address).await.expect("connected");
                assert_eq!(all(silent).await, "");
                // Half a preface is silence too.
                let mut half = TcpStream::connect(up.address).await.expect("connected");
                half.write_all(b"PRI * HTTP").await.expect("written");
                assert!(!all(half).await.contains("h2"));
            }
        })
        .await;
    }

    /// A defect that one connection runs into takes that connection only.
    #[tokio::test]
    async fn a_panic_ends_one_connection() {
        local(async {
            let calls = Rc::new(RefCell::new(0));
            let serve = move |connection: Connection| {
                let calls = Rc::clone(&calls);
                async move {
                    *calls.borrow_mut() += 1;
                    assert!(*calls.borrow() != 1, "the first connection hits a defect");
                    tell(connection).await;
                }
            };
            let up = up(None, Limits::default(), caps(), serve);
            for expected in ["", "http/1 None"] {
                let mut client = TcpStream::connect(up.address).await.expect("connected");
                client.write_all(b"GET").await.expect("written");
                assert_eq!(all(client).await, expected);
            }
            assert_eq!(up.connections.open(), 0);
        })
        .await;
    }

    #[tokio::test]
    async fn a_shutdown_waits_for_what_is_under_way_and_accepts_nothing_more() {
        local(async {
            let (release, released) = watch::channel(false);
            let serve = move |connection: Connection| {
                let mut released = released.clone();
                async move {
                    let _ = released.wait_for(|go| *go).await;
                    tell(connection).await;
                }
            };
            let up = up(None, Limits::default(), caps(), serve);
            let mut client = TcpStream::connect(up.address).await.expect("connected");
            client.write_all(b"GET").await.expect("written");
            let silent = TcpStream::connect(up.address).await.expect("connected");
            while up.connections.open() < 2 {
                tokio::task::yield_now().await;
            }
            up.shutdown.send(true).expect("the loop listens");
            assert_eq!(all(silent).await, "", "a connection without a request is closed");
            assert!(TcpStream::connect(up.address).await.is_err(), "the socket is gone");
            assert!(!up.loop_.is_finished());
            release.send(true).expect("the server waits");
            assert_eq!(all(client).await, "http/1 None");
            up.loop_.await.expect("the loop ended");
        })
        .await;
    }

    /// Out of descriptors, the gateway serves the connections it has, waits without burning the processor, and accepts
    /// again once one is free (T30). The limit belongs to a process, so the test below runs in one of its own.
    #[test]
    fn accepting_recovers_from_a_lack_of_descriptors() {
        let test = std::env::current_exe().expect("this test");
        let script = "ulimit -n 64 && exec \"$0\" --ignored --exact listener::tests::with_few_descriptors";
        let output = std::process::Command::new("sh").args(["-c", script]).arg(test).output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[tokio::test]
    #[ignore = "needs a process with few descriptors, which `accepting_recovers_from_a_lack_of_descriptors` makes"]
    async fn with_few_descriptors() {
        local(async {
            let up = up(None, Limits::default(), Connections::capped(1000, 1000), tell);
            let mut early = TcpStream::connect(up.address).await.expect("connected");
            while up.connections.open() < 1 {
                tokio::task::yield_now().await;
            }
            let mut hoard = Vec::new();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                hoard.push(file);
            }
            // One for the client's side; the server's side finds none.
            hoard.pop();
            let mut late = TcpStream::connect(up.address).await.expect("the kernel completes it");
            late.write_all(b"GET").await.expect("written");
            early.write_all(b"GET").await.expect("written");
            assert_eq!(all(early).await, "http/1 None", "what is open is served");
            assert!(!up.loop_.is_finished());
            drop(hoard);
            assert_eq!(all(late).await, "http/1 None", "and what waited is accepted");
        })
        .await;
    }
}
