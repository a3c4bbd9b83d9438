//! The fourth step: message and capability become a permit, or a reason.
//!
//! The order of refusals is part of the contract: what the token is worth in itself comes first (401), then whether it
//! holds a right here at all (404, with the same bytes for a resource that does not exist), then what this resource asks
//! of the message (400, 411, 413), and last what a caveat says (403). Nobody learns of a resource without a right to it.

use std::sync::Arc;

use postern_capabilities::authorize::{Permit, Refusal, authorize};
use postern_capabilities::message::Message;
use postern_capabilities::revocation::Standing;
use postern_capabilities::token::{Capability, Unverified};

use super::bearer::Secret;
use super::error::Refused;
use super::resource::Resource;
use crate::worker::Worker;

/// Reads and verifies a presented token, or remembers that exactly these bytes verified before.
///
/// # Errors
/// [`Refused::Unreadable`] and [`Refused::NotVerified`]: the 401 family.
pub fn verify(worker: &Worker, token: Secret<'_>) -> Result<Arc<Capability>, Refused> {
    if let Some(known) = worker.plans.borrow_mut().get(token.expose()) {
        worker.telemetry.plan_cache(true);
        return Ok(known);
    }
    worker.telemetry.plan_cache(false);
    let unverified = Unverified::parse(token.expose()).map_err(Refused::Unreadable)?;
    let capability = unverified.verify(&worker.standing, worker.limits.price_budget).map_err(Refused::NotVerified)?;
    let capability = Arc::new(capability);
    let forgotten = worker.plans.borrow_mut().insert(token.expose(), Arc::clone(&capability));
    (0..forgotten).for_each(|_| worker.telemetry.plan_evicted());
    Ok(capability)
}

/// What a capability is worth where no resource is found: the same answer as where it holds no right.
pub fn nowhere(capability: &Capability, standing: &Standing, now: u64) -> Refused {
    if let Err(refusal) = capability.standing(standing) {
        return Refused::Refusal(refusal);
    }
    match capability.expired_at(now) {
        Some(at) => Refused::Refusal(Refusal::Expired { at }),
        None => Refused::NotFound,
    }
}

/// Decides.
///
/// # Errors
/// Every reason why this message is not forwarded, in the contract's order.
pub fn check<'m>(
    capability: &Capability,
    standing: &Standing,
    resource: &Resource,
    message: Message<'m>,
    body_max: Option<u64>,
) -> Result<Permit<'m>, Refused> {
    if let (Some(max), Some(size)) = (body_max, message.body_size)
        && size > max
        && capability.standing(standing).is_ok()
        && capability.expired_at(message.time).is_none()
        && capability.holds(resource.name.as_str(), message.operation)
    {
        return Err(Refused::BodyTooLarge { max });
    }
    authorize(capability, message, standing).map_err(|refusal| match refusal {
        Refusal::NoRight => Refused::NotFound,
        refusal => Refused::Refusal(refusal),
    })
}
