//! Minting through administration: one resource a call, recorded before it is handed out.
//!
//! Law 2 says that no answer hands out more than was presented. What was presented is an administration capability, so
//! what is minted through it must not outlive it:
//!
//! * **In time.** If the presented capability ends at some moment, the minted one ends there too, or earlier if the
//!   caller asks. Not only a plain expiry counts: wherever a check of the presented capability names a date that is still
//!   to come, what it decides may change there, so the minted capability ends before that date.
//! * **In standing.** The record keeps under which revocation ids and which root key it was minted. Revoking any of the ids
//!   revokes it, and so does retiring that key, whichever key signed it.
//!
//! The other caveats of the presented capability (a path, a network, a host) say how administration may be called, and
//! were checked for this call; they say nothing about the resource, so they are not copied.

use std::rc::Rc;

use http::StatusCode;
use postern_capabilities::caveat::Caveat;
use postern_capabilities::explain::inspect;
use postern_capabilities::mint::mint as sign;
use postern_capabilities::resource::{ADMINISTRATION, Operation, ResourceName, Right};
use postern_capabilities::text::TokenText;
use postern_capabilities::token::{Capability, Unverified};
use serde_json::json;

use super::Admin;
use super::body::{MintRequest, without_echo};
use super::exchange::Answer;
use super::presenter::Presenter;
use super::problem::NotDone;
use crate::ledger::{By, NewMint};
use crate::request::error::Refused;
use crate::state::ADMIN_TOKEN;

/// The resource that a path names, if capabilities for it are minted here.
pub(super) fn resource(admin: &Admin, name: &str) -> Result<ResourceName, NotDone> {
    let name = ResourceName::parse(name).map_err(|error| {
        let what = without_echo(format!("The path names no resource: {error}."), "The path names no resource.");
        NotDone::Invalid("bad-resource", what)
    })?;
    if name.is_reserved() {
        return Err(NotDone::ReservedResource(name.as_str().to_owned()));
    }
    if !admin.generation().config.resources.iter().any(|resource| resource.name == name) {
        return Err(NotDone::UnknownResource(name.as_str().to_owned()));
    }
    Ok(name)
}

/// Mints, records, answers; in this order. The presented capability is looked at again before it mints and before what
/// it minted is handed out: revoked, expired or with its key retired, it has nothing to hand out.
pub(super) async fn mint(
    admin: &Admin,
    presenter: &Presenter,
    resource: ResourceName,
    asked: MintRequest,
) -> Result<Answer, NotDone> {
    let presented = &presenter.capability;
    let now = admin.clock.now();
    let rights = rights(&resource, asked.operations)?;
    let mut caveats = Vec::new();
    for (flag, value) in asked.caveats.0 {
        let read = Caveat::of_value(&flag, &value, now);
        caveats.extend(read.map_err(|error| {
            let instead = format!("The value of the caveat `{}` is none: {}.", error.flag, error.advice);
            let what = without_echo(format!("{error}."), &without_echo(instead, "One of the caveats is none."));
            NotDone::Invalid("bad-caveat", what)
        })?);
    }
    let asked_end =
        caveats.iter().filter_map(|caveat| if let Caveat::Expires(at) = caveat { Some(*at) } else { None }).min();
    let end = match (ends_with(presented, now), asked_end) {
        (Some(end), Some(asked)) if asked <= end => Some(asked),
        (Some(end), _) => {
            caveats.push(Caveat::Expires(end));
            Some(end)
        }
        (None, asked) => asked,
    };
    presenter.still_permitted(admin)?;
    let token = signed(admin, &rights, &caveats)?;
    let ids = Unverified::parse(token.expose()).map(|token| token.revocation_ids().to_vec());
    let id = *ids.map_err(Refused::Unreadable)?.first().ok_or(NotDone::TooSlow)?;
    let (under, key) = (presented.revocation_ids(), presented.root_key());
    let mint = NewMint { resource: resource.clone(), id, under, key, until: end };
    admin.ledger.minted(mint, presenter.by()).await?;
    presenter.still_permitted(admin)?;
    if admin.ledger.standing().is_revoked(&id) {
        // It was revoked itself while it was being recorded.
        return Err(NotDone::Refused(Refused::Refusal(postern_capabilities::authorize::Refusal::Revoked { block: 0 })));
    }
    let body = json!({ "token": token.expose(), "revocation_id": id, "resource": resource, "expires": end });
    Ok(Answer::json(StatusCode::CREATED, &body))
}

/// After a rotation: the administration capability in the state folder is minted anew under the new key, so that retiring
/// the old key does not lock the operator out.
///
/// Only one that is there, in good standing, and full administration without a caveat is replaced: what was removed,
/// revoked or narrowed stays so. The new one is recorded as minted under the old one and is revoked with it, but it
/// descends from the new key: retiring the old key ends the old one alone.
pub(super) async fn renew_admin_token(admin: &Rc<Admin>, by: By) -> Result<(), NotDone> {
    let standing = admin.ledger.standing();
    let Ok(text) = admin.state.token(ADMIN_TOKEN) else { return Ok(()) };
    let without_caveat = inspect(&text, None).is_ok_and(|said| said.blocks.iter().all(|block| block.checks.is_empty()));
    let verified =
        Unverified::parse(&text).ok().and_then(|token| token.verify(standing, admin.limits().price_budget).ok());
    let Some(old) = verified.filter(|old| without_caveat && old.standing(standing).is_ok()) else { return Ok(()) };
    let rights = old.rights().to_vec();
    if rights.iter().any(|right| right.resource.as_str() != ADMINISTRATION || !right.operation.is_any()) {
        return Ok(());
    }
    let token = signed(admin, &rights, &[])?;
    let new = Unverified::parse(token.expose()).map_err(Refused::Unreadable)?;
    if let (Some(id), Some(right)) = (new.revocation_ids().first(), rights.into_iter().next()) {
        let key = admin.root_key.borrow().public();
        let under = old.revocation_ids();
        let mint = NewMint { resource: right.resource, id: *id, under, key: &key, until: None };
        admin.ledger.minted(mint, by).await?;
        admin.state.write_token(ADMIN_TOKEN, token.expose()).map_err(NotDone::State)?;
    }
    Ok(())
}

fn rights(resource: &ResourceName, operations: Option<Vec<String>>) -> Result<Vec<Right>, NotDone> {
    let wrong = |what: String| {
        NotDone::Invalid("bad-operation", without_echo(what, "`operations` must be HTTP methods in upper case."))
    };
    let operations = operations.unwrap_or_else(|| vec!["*".into()]);
    if operations.is_empty() {
        return Err(wrong("`operations` is empty: leave it out for all, or name at least one.".into()));
    }
    operations
        .iter()
        .map(|text| Operation::parse(text).map_err(|error| wrong(format!("operations: {error}."))))
        .map(|operation| Ok(Right { resource: resource.clone(), operation: operation? }))
        .collect()
}

/// Signs with the key that mints by the ledger's word.
fn signed(admin: &Admin, rights: &[Right], caveats: &[Caveat]) -> Result<TokenText, NotDone> {
    let key = admin.root_key.borrow();
    let ring = admin.ledger.standing().keys();
    // Between a rotation's record and its last step the key in hand is the one before, which is still live.
    let entry = ring.live().find(|entry| entry.key == key.public());
    let id = entry.map(|entry| entry.id).ok_or_else(|| {
        NotDone::NotReady("The key in hand is not live by the ledger's word; restart the gateway.".into())
    })?;
    sign(&key, id, rights, caveats).map_err(NotDone::Mint)
}

/// The last second at which the presented capability can be relied on to decide as it does now.
fn ends_with(presented: &Capability, now: u64) -> Option<u64> {
    let change = presented.date_constants().iter().copied().filter(|date| *date >= now).min();
    match (presented.expires_at(), change) {
        // A plain expiry holds through its own second.
        (Some(end), Some(change)) if end <= change => Some(end),
        // At another date the decision may change already, so the second before is the last one that is sure.
        (_, Some(change)) => Some(change.saturating_sub(1)),
        (end, None) => end,
    }
}
