//! HTTP/1.1, by our own strict reader and connection loop.
//!
//! Law 4 is the reason: what was checked is what is forwarded, and a second, lenient parser behind the check is where
//! gateways are broken. The order of reading:
//!
//! * [`crate::head`]: the heads, pure functions over bytes
//! * [`framing`]: where a body ends, pure state machines over bytes
//! * [`connection`]: a client connection, one request after another
//! * [`way`]: what the loop asks of the message's way, and [`gateway`], which is it
//! * [`exchange`]: one request up (`upward`) and its response down; `held`: where its body decides, the whole of it first
//! * [`switched`]: what becomes of a connection that is HTTP no longer
//! * [`upstream`]: the upstream's side of an exchange
//! * [`transport`]: what a client connection runs over; [`deadline`], [`buffer`]: coarse deadlines, bounded bytes

mod buffer;
pub mod connection;
pub mod deadline;
mod exchange;
pub mod framing;
mod gateway;
mod held;
pub(crate) mod switched;
mod transport;
pub mod upstream;
mod upward;
pub mod way;

pub use connection::Shared;
pub use gateway::serve;

#[cfg(test)]
mod tests;
