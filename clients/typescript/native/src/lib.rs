//! The addon of the npm package `postern`: the capabilities crate, as Node sees it.
//!
//! Nothing is decided here. Every verdict comes from the same code that the gateway runs, so the two cannot differ; this
//! crate only turns JavaScript's values into Rust's and back. The TypeScript around it (`../src`) adds what is Node's own:
//! middleware, `fetch`, and the fetching of keys.
//!
//! Errors cross the border as JSON in the message, `{"kind", "status", "message"}`, which the TypeScript side turns into its
//! error classes: an addon's error has no room for more than a text.

mod error;
mod holder;
mod verify;
