//! A connection to a service, whatever it is made of.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::client::TlsStream;

use super::endpoint::Endpoint;
use super::tls::{Agreed, Offer};
use crate::config::UpstreamScheme;
use crate::limits::keep_alive;

/// The bytes to and from a service.
#[derive(Debug)]
pub enum Stream {
    /// TCP in clear text.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TCP in TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that was made.
#[derive(Debug)]
pub struct Dialled {
    /// The bytes.
    pub stream: Stream,
    /// What is spoken there.
    pub agreed: Agreed,
}

impl Dialled {
    /// Whether HTTP/2 is spoken there; else HTTP/1.1 is.
    pub fn is_h2(&self) -> bool {
        self.agreed == Agreed::Http2
    }
}

/// The addresses of an endpoint at this moment; none for a Unix socket, which needs none.
///
/// # Errors
/// What the resolver says.
pub async fn resolve(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    match (endpoint.literal(), endpoint.host_and_port()) {
        (Some(literal), _) => Ok(vec![literal]),
        (None, Some(host_and_port)) => Ok(lookup_host(host_and_port).await?.collect()),
        (None, None) => Ok(Vec::new()),
    }
}

/// Connects to an endpoint at the first of `addresses` that accepts; a Unix socket is its own address. `offer` is for
/// endpoints that have a choice.
///
/// # Errors
/// What the system says about the last attempt.
pub async fn connect(endpoint: &Endpoint, addresses: &[SocketAddr], offer: Offer) -> io::Result<Dialled> {
    if let Some(path) = endpoint.socket_path() {
        return Ok(Dialled { stream: Stream::Unix(UnixStream::connect(path).await?), agreed: Agreed::Http1 });
    }
    let stream = connect_tcp(addresses).await?;
    if endpoint.scheme() == UpstreamScheme::Https {
        let (Some(tls), Some((host, _))) = (endpoint.tls(), endpoint.host_and_port()) else {
            return Err(io::Error::other("the endpoint was made without its TLS settings"));
        };
        let (stream, agreed) = tls.connect(host, stream, offer).await?;
        return Ok(Dialled { stream: Stream::Tls(Box::new(stream)), agreed });
    }
    let agreed = if endpoint.scheme() == UpstreamScheme::H2c { Agreed::Http2 } else { Agreed::Http1 };
    Ok(Dialled { stream: Stream::Tcp(stream), agreed })
}

async fn connect_tcp(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Requests are written whole; waiting for more of them only delays them.
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_tcp_keepalive(&keep_alive())?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Stream {
    /// Whether a kept connection is open and its other end has said nothing, as far as is known. Costs no system call
    /// while that is so: the runtime knows that the socket is not readable.
    pub fn is_silent(&mut self) -> bool {
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut [0; 1]),
            Self::Unix(stream) => stream.try_read(&mut [0; 1]),
            // What is waiting may be a record of TLS itself, a session ticket say, which this takes in.
            Self::Tls(stream) => {
                let mut byte = [0; 1];
                let polled = Pin::new(&mut **stream)
                    .poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte));
                return polled.is_pending();
            }
        };
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether a kept connection is open and its other end has said nothing, by the system's word: for requests that
    /// cannot be sent twice.
    pub fn is_alive(&self) -> bool {
        let mut byte = [const { MaybeUninit::uninit() }; 1];
        let peeked = match self {
            Self::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Self::Unix(stream) => SockRef::from(stream).peek(&mut byte),
            Self::Tls(stream) => SockRef::from(stream.get_ref().0).peek(&mut byte),
        };
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Waits until there is something to read, or an end.
    #[cfg(test)]
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
            Self::Tls(stream) => stream.get_ref().0.readable().await,
        }
    }

    /// The port of this side of a TCP connection.
    #[cfg(test)]
    pub(crate) fn local_port(&self) -> Option<u16> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok().map(|address| address.port()),
            Self::Unix(_) | Self::Tls(_) => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;
    use crate::config::Upstream;

    #[tokio::test]
    async fn a_unix_socket_is_a_connection_like_any_other() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("app.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let endpoint = Endpoint::new(&Upstream::parse(&format!("unix:{}", path.display())).expect("valid"), None);
        assert_eq!(**endpoint.name(), *format!("unix:{}", path.display()));
        let addresses = resolve(&endpoint).await.expect("nothing to resolve");
        let mut stream = connect(&endpoint, &addresses, Offer::Any).await.expect("connected").stream;
        let (mut peer, _) = listener.accept().await.expect("accepted");
        assert!(stream.is_silent() && stream.is_alive());
        stream.write_all(b"ping").await.expect("written");
        let mut bytes = [0; 4];
        peer.read_exact(&mut bytes).await.expect("read");
        peer.write_all(b"!").await.expect("written");
        stream.readable().await.expect("it spoke");
        assert!(!stream.is_alive() && !stream.is_silent());
    }
}
