//! What a Postern token means.
//!
//! This crate decides, and does nothing else: no I/O, no async, no clock. Time is an argument.

pub mod keys;
pub mod language;
pub mod message;
pub mod path;
pub mod resource;
pub mod revocation;
