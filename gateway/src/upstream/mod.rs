//! The way to the services.
//!
//! * [`endpoint`]: one address of a service, as configured
//! * [`transport`]: a connection to it, whatever it is made of; [`tls`]: whom it trusts
//! * [`pool`]: the connections of one worker, kept between messages
//! * [`call`]: one exchange over one of them, in HTTP/1.1 or [`h2`]; [`switched`]: what it is when HTTP has ended there
//! * [`balance`], [`health`], [`queue`]: which address takes a message, which takes none, and who waits for a place
//! * [`member`], [`group`]: an address, and all of a resource, as one worker knows them
//! * [`keeper`], [`resolve`], [`probe`]: the thread that looks names up and asks addresses whether they are well
//! * [`board`]: what is known of all addresses, for workers and for whoever watches

pub mod balance;
pub mod board;
pub mod call;
pub mod endpoint;
mod filtered;
pub mod group;
pub mod h2;
pub mod health;
pub mod keeper;
pub mod member;
pub mod pool;
mod probe;
pub mod queue;
mod resolve;
pub mod switched;
pub mod tls;
pub mod transport;

pub use board::{AddressReport, Board, Condition, ResourceReport};
