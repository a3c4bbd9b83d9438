//! The Postern gateway: strict HTTP in, a capability checked, the checked message out.

pub mod config;
pub mod limits;
pub mod listener;
pub mod tls;
pub mod telemetry;
pub mod state;
