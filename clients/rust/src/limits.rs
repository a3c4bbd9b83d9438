//! Every bound of this crate, in one place. What is here and not an argument somewhere is not meant to be changed.

use std::time::Duration;

/// Bytes of a body that are read where a caveat asks what it says, unless a layer is told otherwise.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of an answer that [`Client`](crate::Client) reads, unless it is told otherwise.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How long a connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, from the connection to its last byte, unless a client is told otherwise.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long fetching a key document may take.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept that nobody uses.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How many such connections are kept to one address.
pub const IDLE_CONNECTIONS_MAX: usize = 16;
/// How long a token is good that was narrowed for one request.
pub const NARROWED_SECONDS: u64 = 60;
