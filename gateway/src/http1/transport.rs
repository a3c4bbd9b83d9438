//! What a client connection runs over, as far as it matters how it ends.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client connection's bytes.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Has the connection end with a reset when it is dropped, instead of an end that looks like the answer's.
    fn reset_when_dropped(&self);
}

impl Transport for TcpStream {
    fn reset_when_dropped(&self) {
        if let Err(error) = SockRef::from(self).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a connection whose answer broke off cannot be reset");
        }
    }
}

/// No `close_notify` is sent either; but many clients take any end for a good one, and nothing they cannot.
impl Transport for TlsStream<TcpStream> {
    fn reset_when_dropped(&self) {
        self.get_ref().0.reset_when_dropped();
    }
}

#[cfg(test)]
impl Transport for tokio::io::DuplexStream {
    fn reset_when_dropped(&self) {}
}
