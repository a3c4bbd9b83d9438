//! One question over a connection of its own: what a health check asks of a service that speaks HTTP/2.

use std::io;

use http::uri::Scheme;

use super::connection::builder;
use super::request::request;
use crate::limits::Limits;
use crate::upstream::transport::Stream;

/// Sends a request without a body and reports the status of its answer. The connection ends with it.
///
/// # Errors
/// What came in place of an answer.
pub(in crate::upstream) async fn ask(stream: Stream, head: &[u8], scheme: Scheme, limits: &Limits) -> io::Result<u16> {
    let request = request(head, scheme).map_err(io::Error::other)?;
    let mut builder = builder(limits);
    // Nothing is lost by asking before the SETTINGS have come.
    let asked = builder.initial_max_send_streams(1).handshake::<_, bytes::Bytes>(stream);
    let (mut sender, connection) = asked.await.map_err(io::Error::other)?;
    let (answer, _) = sender.send_request(request, true).map_err(io::Error::other)?;
    let ended = |error: Option<h2::Error>| match error {
        Some(error) => io::Error::other(error),
        None => io::ErrorKind::UnexpectedEof.into(),
    };
    tokio::select! {
        biased;
        answer = answer => answer.map(|answer| answer.status().as_u16()).map_err(io::Error::other),
        over = connection => Err(ended(over.err())),
    }
}
