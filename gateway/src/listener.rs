//! Where client connections come in: sockets, caps, handshakes, and which HTTP is spoken.
//!
//! Each worker has its own sockets on each address (`SO_REUSEPORT`): the kernel spreads connections and workers share
//! nothing but two counts. A loop here accepts, refuses above the caps, finishes the TLS handshake or looks at the first
//! bytes, and hands a [`Connection`] to whoever serves it. It outlives every error that `accept` can have: a gateway that
//! is out of file descriptors serves the connections it has, and accepts again as soon as one is free.
//!
//! * this file: from an accepted socket to a served connection
//! * [`proxy`]: who the client is, where a proxy in front says it
//! * [`socket`]: binding; [`places`]: the caps; [`leaving`]: how connections are told to end

mod leaving;
mod places;
mod proxy;
mod socket;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::leaving::{Dismissal, Leaving};
pub use self::places::{Connections, Place};
use self::proxy::Introduced;
pub use self::socket::{ListenError, Listener, bind};
use crate::budget::Budget;
use crate::current::Current;
use crate::limits::{Limits, is_exhaustion};
use crate::request::client::UNKNOWN;
use crate::tls::{Handshake, Tls};
use crate::worker::View;

/// How long `accept` rests when the system has nothing left to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What every HTTP/2 client sends first when it knows beforehand that HTTP/2 is spoken (RFC 9113 section 3.4).
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long to wait for the rest of a preface that came in pieces; only a very slow or hostile client sends it so.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);

/// The answer above a cap. Written once, without waiting: whoever is at a cap has no time for the peers above it.
const AT_CAPACITY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: 226\r\n\
cache-control: no-store\r\nretry-after: 1\r\nconnection: close\r\n\r\n\
{\"type\":\"unavailable\",\"title\":\"The gateway cannot take this request now\",\"status\":503,\"detail\":\"So much is under way that no more can begin. Nothing was forwarded: send it again after the time in Retry-After.\",\"retry\":\"safe\"}\n";

/// The answer to cleartext on a TLS port. Nothing but this sentence is served without a handshake.
const SPEAKS_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 36\r\n\
cache-control: no-store\r\nconnection: close\r\n\r\nthis port speaks TLS; use https://.\n";

/// A client connection, ready to be served.
#[derive(Debug)]
pub struct Connection {
    /// The bytes.
    pub stream: Stream,
    /// Whether HTTP/2 is spoken on it, else HTTP/1.
    pub is_h2: bool,
    /// The socket's other end, or whom a PROXY protocol header names; an IPv4 address is one, however it arrived.
    pub peer: SocketAddr,
    /// Whether such a header says that this is the client.
    pub is_introduced: bool,
    /// What the TLS handshake said; `None` on cleartext.
    pub handshake: Option<Handshake>,
    /// When it is to end.
    pub leaving: Leaving,
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

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotServed {
    /// A cap on connections.
    Cap,
    /// The memory that all connections may take together is used up.
    Memory,
    /// The system has no descriptors left; the connection waits and may be served later.
    Descriptors,
}

/// What a loop needs besides its socket.
#[derive(Clone)]
pub struct Settings {
    /// Certificate, key and timeouts: taken anew for each connection.
    pub view: Current<View>,
    /// The caps.
    pub connections: Arc<Connections>,
    /// When to stop accepting.
    pub leaving: Leaving,
    /// True once the gateway is to drain.
    pub shutdown: watch::Receiver<bool>,
    /// The memory that all connections may take together.
    pub budget: Arc<Budget>,
    /// Told of each connection that was not served.
    pub refused: Rc<dyn Fn(NotServed)>,
}

/// Accepts until it is time to leave, then waits for the connections under way: without a bound where only this address
/// is given up, at most `drain_timeout` once the gateway drains.
///
/// `serve` runs once for each connection, on this thread; what it does when it is to leave is its own business (finish the
/// exchange, send GOAWAY). What is left after the timeout is dropped.
pub async fn run<F, S>(listener: TcpListener, settings: Settings, serve: F)
where
    F: Fn(Connection) -> S + Clone + 'static,
    S: Future<Output = ()> + 'static,
{
    let mut leaving = settings.leaving.told();
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            // A sender that is gone has shut down as well.
            _ = leaving.wait_for(|due| *due) => break,
            Some(ended) = tasks.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(place) = admit(&stream, peer, &settings) {
                        tasks.spawn_local(open(stream, peer, place, settings.clone(), serve.clone()));
                    }
                }
                Err(error) if is_exhaustion(&error) => {
                    (settings.refused)(NotServed::Descriptors);
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
    let mut shutdown = settings.shutdown.clone();
    let too_long = async {
        let _ = shutdown.wait_for(|down| *down).await;
        sleep(settings.view.get().limits.drain_timeout).await;
    };
    let was_drained = tokio::select! {
        biased;
        () = drained => true,
        () = too_long => false,
    };
    if !was_drained {
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

/// A place for the connection, or a short refusal. On TLS there is no way to say it before a handshake: it just closes.
fn admit(stream: &TcpStream, peer: SocketAddr, settings: &Settings) -> Option<Place> {
    let place = if settings.budget.is_used_up() {
        Err(NotServed::Memory)
    } else {
        settings.connections.take(peer.ip().to_canonical()).ok_or(NotServed::Cap)
    };
    if let Err(why) = place {
        (settings.refused)(why);
        if settings.view.get().tls.is_none() {
            let _ = stream.try_write(AT_CAPACITY);
        }
    }
    place.ok()
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
    let socket = peer;
    let mut leaving = settings.leaving.told();
    let view = settings.view.get();
    let opened = async {
        let (stream, (peer, is_introduced), place) = introduce(stream, peer, place, &view, &settings).await?;
        let (stream, handshake, is_h2) = match &view.tls {
            Some(tls) => shake(stream, tls, &view.limits).await,
            None => sniff(stream, &view.limits).await,
        }?;
        io::Result::Ok((stream, handshake, is_h2, (peer, is_introduced), place))
    };
    // Before its first request a connection is owed nothing: at a shutdown it closes.
    let opened = tokio::select! {
        biased;
        opened = opened => opened,
        _ = leaving.wait_for(|due| *due) => return,
    };
    drop(view);
    match opened {
        Ok((stream, handshake, is_h2, (peer, is_introduced), place)) => {
            let leaving = settings.leaving.clone();
            serve(Connection { stream, is_h2, peer, is_introduced, handshake, leaving, place }).await;
        }
        Err(error) => tracing::debug!(%socket, %error, "a connection ended before its first request"),
    }
}

/// Who the client is: the peer, or whom it names where it is a proxy that has to say it, and whether it said so. Then the client's
/// own cap counts.
async fn introduce(
    mut stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    view: &View,
    settings: &Settings,
) -> io::Result<(TcpStream, (SocketAddr, bool), Place)> {
    if !view.proxy_protocol || !view.trusted_proxies.contains(peer.ip()) {
        return Ok((stream, (peer, false), place));
    }
    let said = timeout(view.limits.first_byte_timeout, proxy::take(&mut stream)).await;
    let client = match said.map_err(|_| io::ErrorKind::TimedOut)?? {
        Introduced::Client(client) => SocketAddr::new(client.ip().to_canonical(), client.port()),
        Introduced::Itself => return Ok((stream, (peer, true), place)),
        Introduced::Nobody => return Ok((stream, (SocketAddr::new(UNKNOWN, 0), true), place)),
    };
    drop(place);
    match admit(&stream, client, settings) {
        Some(place) => Ok((stream, (client, true), place)),
        None => Err(io::Error::other("there is no room for the client's connection")),
    }
}

type Opened = (Stream, Option<Handshake>, bool);

async fn shake(stream: TcpStream, tls: &Tls, limits: &Limits) -> io::Result<Opened> {
    let shaken = timeout(limits.tls_handshake_timeout, async {
        if begins_with_letter(&stream).await? {
            return Ok(Err(stream));
        }
        TlsAcceptor::from(tls.config()).accept(stream).await.map(Ok)
    });
    let stream = match shaken.await.map_err(|_| io::ErrorKind::TimedOut)?? {
        Ok(stream) => stream,
        Err(cleartext) => {
            say_tls(cleartext, limits).await;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "cleartext on a TLS port"));
        }
    };
    let handshake = Handshake::of(stream.get_ref().1);
    let is_h2 = handshake.is_h2;
    Ok((Stream::Tls(Box::new(stream)), Some(handshake), is_h2))
}

/// Whether cleartext HTTP comes where a handshake is due: a method begins with a letter, a TLS record with 0x16.
async fn begins_with_letter(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? > 0 && first[0].is_ascii_alphabetic())
}

/// Says what the port is for. What the client still sends is dropped first: closing on unread bytes would reset the
/// connection and take the answer away from it.
async fn say_tls(mut stream: TcpStream, limits: &Limits) {
    let said = async {
        stream.write_all(SPEAKS_TLS).await?;
        stream.shutdown().await?;
        let mut left = limits.discard_bytes_max;
        let mut dropped = [0; 1024];
        while left > 0 {
            match stream.read(&mut dropped).await? {
                0 => break,
                length => left = left.saturating_sub(length as u64),
            }
        }
        io::Result::Ok(())
    };
    // Whether the client is still there to read it makes no difference: the connection ends here.
    let _ = timeout(limits.linger_timeout, said).await;
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
mod tests;
