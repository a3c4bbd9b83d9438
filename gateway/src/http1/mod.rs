//! HTTP/1.1, by our own strict reader and connection loop.
//!
//! Law 4 is the reason: what was checked is what is forwarded, and a second, lenient parser behind the check is where
//! gateways are broken. The order of reading:
//!
//! * [`crate::head`]: the heads, pure functions over bytes
//! * [`framing`]: where a body ends, pure state machines over bytes

pub mod framing;
