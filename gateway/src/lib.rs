//! The Postern gateway: strict HTTP in, a capability checked, the checked message out.

pub mod admin;
pub mod config;
pub mod head;
pub mod http1;
pub mod http2;
pub mod ledger;
pub mod limits;
pub mod listener;
pub mod plans;
pub mod pool;
pub mod request;
pub mod state;
pub mod telemetry;
pub mod tls;
pub mod worker;
