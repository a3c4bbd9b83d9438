//! The fourth step: message and capability become a permit, or a reason.
//!
//! The order of refusals is part of the contract: what the token is worth in itself comes first (401), then whether it
//! holds any right here (404, with the same bytes for a resource that does not exist), then what this resource asks of
//! the message (400, 411, 413), and last whether a right is to this operation and what caveats say (403). Nobody learns
//! of a resource without a right to it; who holds one is told which operations it is for.

use std::sync::Arc;

use postern_capabilities::authorize::{Permit, Refusal, authorize};
use postern_capabilities::message::Message;
use postern_capabilities::revocation::Standing;
use postern_capabilities::token::{Capability, Unverified};

use super::bearer::Secret;
use super::error::Refused;
use super::resource::Resource;
use crate::worker::Worker;

/// Reads and verifies a presented token, or remembers that exactly these bytes verified before, or that they did not, or
/// that they say what is never accepted.
///
/// # Errors
/// [`Refused::Unreadable`] and [`Refused::NotVerified`]: the 401 family.
pub fn verify(worker: &Worker, token: Secret<'_>) -> Result<Arc<Capability>, Refused> {
    if let Some(known) = worker.plans.borrow_mut().get(token.expose()) {
        worker.telemetry.plan_cache(true);
        return Ok(known);
    }
    worker.telemetry.plan_cache(false);
    // The form comes first: what is no token is not worth a digest.
    let unverified = Unverified::parse(token.expose()).map_err(Refused::Unreadable)?;
    // Read before anything is verified: a change in between then leads to another look, never to a missed one.
    let version = worker.standing.keys_version();
    let known = worker.refusals.borrow_mut().get(token.expose(), version);
    if let Some(error) = known {
        return Err(Refused::NotVerified(error));
    }
    let verified = unverified.verify_knowing(&worker.standing, worker.limits().price_budget, &worker.prefixes);
    let capability = verified.map_err(|error| {
        worker.refusals.borrow_mut().insert(token.expose(), &error, version);
        Refused::NotVerified(error)
    })?;
    let capability = Arc::new(capability);
    let forgotten = worker.plans.borrow_mut().insert(token.expose(), Arc::clone(&capability));
    (0..forgotten).for_each(|_| worker.telemetry.plan_evicted());
    Ok(capability)
}

/// What a capability is worth where no resource is found: the same answer as where it holds no right at all.
pub fn nowhere(capability: &Capability, standing: &Standing, now: u64) -> Refused {
    if let Err(refusal) = capability.standing(standing) {
        return Refused::Refusal(refusal);
    }
    match capability.expired_at(now) {
        Some(at) => Refused::Refusal(Refusal::Expired { at }),
        None => Refused::NotFound,
    }
}

/// Whether this message is decided with what its body says. What is refused whatever the body says is not, an operation
/// that is not held among it: no body is read for that, so nothing that it says (400, 413) could go before.
pub fn reads_body(capability: &Capability, standing: &Standing, message: &Message<'_>) -> bool {
    capability.needs().body
        && message.can_call()
        && capability.standing(standing).is_ok()
        && capability.expired_at(message.time).is_none()
        && capability.holds(message.resource, message.operation)
}

/// A refusal as whoever presented nothing reads it: what the anonymous capability does not cover needs a token, and
/// nothing is said of what that capability holds. What any capability would meet as well stays what it is.
pub fn of_anonymous(refused: Refused, is_anonymous: bool) -> Refused {
    match refused {
        Refused::NotFound
        | Refused::Refusal(
            Refusal::Revoked { .. }
            | Refusal::KeyRetired
            | Refusal::Expired { .. }
            | Refusal::NoRight
            | Refusal::OtherOperation(_)
            | Refusal::Caveat(_)
            | Refusal::Undecidable { .. },
        ) if is_anonymous => Refused::MissingCapability,
        refused => refused,
    }
}

/// Whether the caller may be told what this resource asks of messages: its capability is good now, and holds a right
/// there.
pub fn may_learn_of(capability: &Capability, standing: &Standing, resource: &Resource, now: u64) -> bool {
    capability.holds_any_on(resource.name.as_str())
        && capability.expired_at(now).is_none()
        && capability.standing(standing).is_ok()
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
        && may_learn_of(capability, standing, resource, message.time)
    {
        return Err(Refused::BodyTooLarge { max });
    }
    authorize(capability, message, standing).map_err(|refusal| match refusal {
        Refusal::NoRight => Refused::NotFound,
        refusal => Refused::Refusal(refusal),
    })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use postern_capabilities::caveat::Caveat;
    use postern_capabilities::keys::{KeyId, KeyRing, SigningKey};
    use postern_capabilities::mint;
    use postern_capabilities::token::NotVerified;

    use super::*;
    use crate::config::TrustedProxies;
    use crate::limits::Limits;
    use crate::request::route::Routes;
    use crate::telemetry::Telemetry;

    #[test]
    fn a_refusal_is_remembered_until_the_standing_changes() {
        let key = SigningKey::generate();
        let standing = Arc::new(Standing::new(KeyRing::of(KeyId(1), key.public())));
        let caveats = Caveat::of_flag("path", &["/a"], 0).expect("a caveat");
        let resource = "orders".parse().expect("a name");
        let right = postern_capabilities::Right { resource, operation: postern_capabilities::Operation::any() };
        let token = mint(&key, KeyId(1), &[right], &caveats).expect("minted");
        let token = Secret::for_tests(token.expose());
        let worker = Worker::new(
            Routes::new(Vec::new()),
            Rc::new(Limits { price_budget: 0, ..Limits::default() }),
            Arc::clone(&standing),
            TrustedProxies::default(),
            Telemetry::without_log().worker(),
        );
        let refused = || match verify(&worker, token) {
            Err(Refused::NotVerified(error)) => error,
            other => panic!("{other:?}"),
        };
        let first = refused();
        assert!(matches!(first, NotVerified::OverBudget { .. }), "{first}");
        assert_eq!((worker.refusals.borrow().len(), worker.plans.borrow().len()), (1, 0));
        assert_eq!(refused(), first);
        // Whatever was remembered of it, the keys of this moment decide first.
        let other = SigningKey::generate();
        standing.set_keys(KeyRing::of(KeyId(2), other.public()));
        assert_eq!(refused(), NotVerified::UnknownKey(KeyId(1)));
        standing.set_keys(KeyRing::of(KeyId(1), key.public()));
        assert_eq!(refused(), first);
        assert_eq!(worker.refusals.borrow().len(), 1, "one entry, whatever happened in between");
    }
}
