//! The Postern gateway: strict HTTP in, a capability checked, the checked message out.
//!
//! # A message's life
//!
//! 1. [`listener`] accepts a connection for one [`worker`], finishes its [`tls`] handshake and finds out which HTTP it
//!    speaks; [`http1`] or [`http2`] reads it.
//! 2. [`head`] reads the message's head, strictly. Both versions of HTTP end in this one form.
//! 3. [`request::bearer`] takes the token out of the message.
//! 4. [`request::route`] finds the resource and the path below it.
//! 5. [`request::check`] makes a permit of the message and its capability; [`postern_capabilities::plans`] remembers what
//!    verified before.
//! 6. [`request::forward`] consumes the permit and writes the upstream request, over a connection of the pool of
//!    [`upstream`]s.
//! 7. [`request::respond`] writes the upstream's answer, or a problem from [`request::error`].
//! 8. As long as bodies flow, the message hangs on its [`lease`].
//! 9. [`request::ticket`] tells [`telemetry`] how it went.
//!
//! Around it: [`config`] says what there is, [`limits`] how much of it, [`state`] keeps the secrets, [`ledger`] remembers
//! keys and revocations, [`admin`] changes them, and [`gateway`] starts and drains it all.

pub mod admin;
pub mod budget;
pub mod config;
pub mod current;
pub mod gateway;
pub mod generation;
pub mod head;
pub mod http1;
pub mod http2;
pub mod lease;
pub mod ledger;
pub mod limits;
pub mod listener;
mod plain_text;
pub mod request;
pub mod state;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
pub mod upstream;
pub mod wall_clock;
pub mod worker;
mod worker_thread;

pub use gateway::{Running, StartError, Startup, start};
