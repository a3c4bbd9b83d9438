//! Who asks, and for what: all that is needed to decide on an administration message, and to decide on it again.
//!
//! A permit says what held at its moment. Between the head and the deed lie waits (for the body, for a turn to change
//! keys, for the next record), and a capability that is revoked or expires in one of them must not act after it (law 6).
//! So whoever has waited asks once more, always right before the deed.

use std::net::IpAddr;

use postern_capabilities::authorize::{Permit, Refusal, authorize};
use postern_capabilities::message::Message;
use postern_capabilities::resource::ADMINISTRATION;
use postern_capabilities::token::Capability;

use super::Admin;
use super::problem::NotDone;
use crate::ledger::By;
use crate::request::error::Refused;

/// The verified capability and the facts of the message that it came with. Owned, so that a deed that outlives the
/// connection can take it along.
pub(super) struct Presenter {
    pub(super) capability: Capability,
    pub(super) operation: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) host: String,
    pub(super) client: IpAddr,
    pub(super) body_size: Option<u64>,
}

impl Presenter {
    /// Whether the message is permitted now: by this second, and by the keys and revocations in force.
    pub(super) fn permit(&self, admin: &Admin) -> Result<Permit<'_>, NotDone> {
        let message = Message {
            query_string: &self.query,
            host: &self.host,
            body_size: self.body_size,
            ..Message::new(ADMINISTRATION, &self.operation, &self.path, admin.clock.now(), self.client)
        };
        authorize(&self.capability, message, admin.ledger.standing()).map_err(refused)
    }

    /// The same question after a wait, where the answer is all that is wanted.
    pub(super) fn still_permitted(&self, admin: &Admin) -> Result<(), NotDone> {
        self.permit(admin).map(drop)
    }

    /// As the record names it.
    pub(super) fn by(&self) -> By {
        By::presenter(self.capability.short_id())
    }
}

/// No right at all reads like a path that is not there, as everywhere.
fn refused(refusal: Refusal) -> NotDone {
    NotDone::Refused(match refusal {
        Refusal::NoRight => Refused::NotFound,
        refusal => Refused::Refusal(refusal),
    })
}
