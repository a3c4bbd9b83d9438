//! HTTP/2 to services, on the `h2` crate.
//!
//! `h2` keeps the protocol (frames, HPACK, flow control, floods); what it decodes of an answer is put through the rules of
//! [`crate::head`] before anybody sees it.
//!
//! * [`connections`]: the connections of one worker to one endpoint, each with room for many streams
//! * [`connection`]: one of them, from its SETTINGS to its end
//! * [`call`]: one exchange, which is one stream
//! * [`ask`](mod@ask): what a health check asks
//! * [`request`]: the permitted head as HTTP/2 says it

mod ask;
mod call;
mod connection;
pub mod connections;
mod request;
#[cfg(test)]
mod tests;

pub(super) use ask::ask;
pub(super) use call::H2Call;
pub use connection::Slot;
pub use connections::Connections;
