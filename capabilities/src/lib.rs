//! What a Postern token means. This crate decides, and does nothing else: no I/O, no async, no clock. Time is an
//! argument, and so is everything that can change.
//!
//! # The laws
//!
//! 1. Authority comes from the token alone. No list of users, roles, addresses or policies decides anything.
//! 2. Only minting makes authority; attenuating only takes away. Nothing that a holder appends can widen anything.
//! 3. What is not understood is refused, with a reason. Nothing is skipped.
//! 4. What is forwarded is what was permitted, in exactly the form that was checked: [`authorize`](authorize::authorize)
//!    takes the message by value, and the only way to get it back is out of the permit.
//! 5. Evaluation is deterministic and priced. No clock and no load takes part in a decision.
//! 6. Revoking a capability ends everything that was derived from it, at once.
//! 7. A token is never logged, echoed or put into an error: no type that holds one can be printed.
//!
//! Tests that prove one of them carry its words in their name.
//!
//! # The words
//!
//! | word | meaning |
//! |---|---|
//! | resource | a named thing behind the gateway ([`ResourceName`]) |
//! | operation | what a message does to it: an HTTP method ([`Operation`]) |
//! | right | `right(resource, operation)` in the authority block ([`Right`]) |
//! | caveat | a check in any block, which a message must satisfy ([`Caveat`]) |
//! | message | one request as the gateway understands it ([`Message`]) |
//! | unverified | a token that was read and bounded, and of which nothing is believed ([`Unverified`]) |
//! | capability | a verified and compiled token ([`Capability`]) |
//! | permit | the proof that one message was allowed ([`Permit`]) |
//! | standing | what is revoked and which keys are live, at this moment ([`Standing`]) |
//! | mint, attenuate, seal, revoke | make authority; narrow it; forbid narrowing; end it |
//!
//! # A token's life
//!
//! 1. [`mint`]: rights and caveats become a signed authority block. Caveats as people write them are in [`caveat`].
//! 2. [`attenuate`]: any holder appends a block of checks, offline; or seals the token.
//!    A gateway does both for one message at a time with [`narrow`], and says with a [`statement`] who the client is.
//! 3. [`text`]: the text is bounded, then decoded; `outer` reads the chain of signed blocks.
//! 4. [`token`]: the [`chain`] is verified under a live key ([`keys`]), then every block is admitted
//!    (`language::block`), priced (`language::price`) and compiled (`language::plan`). An `Unverified` has become a `Capability`.
//! 5. [`authorize`]: a [`message`] (its path in the one form of [`path`], its body read by [`json_rpc`]) is decided: standing ([`revocation`]), the
//!    right, then every check (`language::evaluate`). The answer is a permit or a refusal in words.
//! 6. [`explain`]: what a token says, and what in it can never work, for people; [`problem`]: what a refusal is in HTTP.
//!
//! [`verifier`] goes this way for a backend: from the parts of a request as the gateway sent it to a verdict. The
//! client libraries of every language call it, so that none of them can decide otherwise; [`web_keys`] reads
//! the document by which a gateway publishes its keys, and [`plans`] remembers what verified before.

pub mod attenuate;
pub mod authorize;
pub mod caveat;
pub mod chain;
pub mod explain;
mod issued;
pub mod json_rpc;
pub mod keys;
pub mod language;
pub mod message;
pub mod mint;
pub mod narrow;
mod outer;
pub mod path;
pub mod plans;
pub mod problem;
mod remembered;
pub mod resource;
pub mod revocation;
pub mod statement;
pub mod text;
pub mod token;
pub mod verifier;
pub mod web_keys;

pub use attenuate::{attenuate, seal};
pub use authorize::{Permit, Refusal, authorize};
pub use caveat::Caveat;
pub use explain::{inspect, lint};
pub use keys::{KeyId, KeyRing, KeyState, PublicKey, SigningKey};
pub use message::Message;
pub use mint::mint;
pub use narrow::{Narrowable, Narrower, NotNarrowable};
pub use path::{EncodedSlash, canonical_path, written_path, written_query};
pub use problem::Problem;
pub use resource::{Operation, ResourceName, Right};
pub use revocation::{RevocationId, Standing};
pub use text::TokenText;
pub use token::{Capability, NotVerified, Unreadable, Unverified};
pub use verifier::{Verifier, VerifyError};
pub use web_keys::KeyDocument;
