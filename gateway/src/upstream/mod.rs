//! The way to the services.
//!
//! * [`endpoint`]: one address of a service, as configured
//! * [`transport`]: a connection to it, whatever it is made of
//! * [`pool`]: the connections of one worker, kept between messages

pub mod endpoint;
pub mod pool;
pub mod transport;
