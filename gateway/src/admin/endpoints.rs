//! What administration does, endpoint by endpoint. Each is reached with a permit, which it consumes.

use std::rc::Rc;
use std::time::Duration;

use http::{StatusCode, request};
use hyper::body::Incoming;
use postern_capabilities::authorize::Permit;
use postern_capabilities::keys::{KeyId, KeyRing, KeyRingError};
use postern_capabilities::revocation::RevocationId;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::body::{self, KeyRequest, Page, RevokeRequest};
use super::exchange::Answer;
use super::presenter::Presenter;
use super::problem::NotDone;
use super::{Admin, mint, openapi, status};
use crate::ledger::{AppendError, LedgerError, Position};
use crate::limits;
use crate::telemetry::prometheus;

/// Does what the permitted message asks. A body may take its time, so after each one the permit is asked for again; what
/// changes something asks once more right before it does.
pub(super) async fn serve(
    admin: &Rc<Admin>,
    permit: Permit<'_>,
    presenter: &Rc<Presenter>,
    parts: &request::Parts,
    body: Incoming,
) -> Result<Answer, NotDone> {
    let message = permit.message();
    let (method, path, query) = (message.operation, message.path, message.query_string);
    let reads = ["GET", "HEAD"].contains(&method);
    match path {
        "/revocations" if reads => revocations(admin, query),
        "/revocations" if method == "POST" => {
            let asked: RevokeRequest = read(admin, presenter, parts, body).await?;
            revoke(admin, presenter, asked).await
        }
        "/keys" if reads => Ok(keys(&admin.ledger.standing().keys())),
        "/keys" if method == "POST" => {
            let asked: KeyRequest = read(admin, presenter, parts, body).await?;
            change_keys(admin, presenter, asked).await
        }
        "/ledger" if reads => entries(admin, presenter, query).await,
        "/resources" if reads => Ok(resources(admin)),
        "/status" if reads => Ok(Answer::json(StatusCode::OK, &status::document(admin))),
        "/metrics" if reads => Ok(Answer {
            status: StatusCode::OK,
            content_type: prometheus::CONTENT_TYPE,
            body: admin.telemetry.render(),
        }),
        "/openapi.json" if reads => {
            Ok(Answer { status: StatusCode::OK, content_type: "application/json", body: openapi::DOCUMENT.to_owned() })
        }
        "/revocations" | "/keys" => Err(NotDone::Method("GET, HEAD, POST")),
        "/ledger" | "/resources" | "/status" | "/metrics" | "/openapi.json" => Err(NotDone::Method("GET, HEAD")),
        _ if path.starts_with("/keys/") && reads => key(admin, path),
        _ if path.starts_with("/keys/") => Err(NotDone::Method("GET, HEAD")),
        _ => match path.strip_prefix("/capabilities/") {
            Some(name) if !name.contains('/') && method == "POST" => {
                let resource = mint::resource(admin, name)?;
                let asked = read(admin, presenter, parts, body).await?;
                mint::mint(admin, presenter, resource, asked).await
            }
            Some(name) if !name.contains('/') => Err(NotDone::Method("POST")),
            _ => Err(NotDone::NoSuchPath),
        },
    }
}

/// The body, and that its sender is still permitted what the head was.
async fn read<T: DeserializeOwned>(
    admin: &Admin,
    presenter: &Presenter,
    parts: &request::Parts,
    body: Incoming,
) -> Result<T, NotDone> {
    let asked = body::json(parts, body, admin.limits().admin_body_bytes_max).await;
    // Before what is wrong with the body: who is no longer permitted learns nothing else.
    presenter.still_permitted(admin)?;
    asked
}

/// Acknowledged only when durable and in force: `Ledger::revoke` returns no sooner.
async fn revoke(admin: &Admin, presenter: &Presenter, asked: RevokeRequest) -> Result<Answer, NotDone> {
    let wrong = |what: String| NotDone::Invalid("bad-revocation-id", what);
    if asked.ids.is_empty() {
        return Err(wrong("`ids` is empty: name at least one revocation id.".into()));
    }
    if asked.ids.len() > limits::ADMIN_REVOCATIONS_PER_CALL_MAX {
        let most = limits::ADMIN_REVOCATIONS_PER_CALL_MAX;
        return Err(NotDone::TooMuch(format!("One call revokes at most {most} ids; send the rest in further calls.")));
    }
    let ids: Vec<RevocationId> = asked
        .ids
        .iter()
        .enumerate()
        .map(|(index, text)| text.parse().map_err(|error| wrong(format!("ids[{index}]: {error}."))))
        .collect::<Result<_, _>>()?;
    presenter.still_permitted(admin)?;
    let fresh = admin.ledger.revoke(&ids, presenter.by()).await?;
    Ok(Answer::json(StatusCode::OK, &json!({ "revoked": ids.len(), "new": fresh })))
}

/// A page of revocations, oldest first. What one record revoked comes together, so a page can be a little longer.
fn revocations(admin: &Admin, query: &str) -> Result<Answer, NotDone> {
    let page = Page::of_query(query, false)?;
    let state = admin.ledger.state().read();
    let mut listed: Vec<Value> = Vec::new();
    let mut last = Position(page.after);
    for (id, revocation) in state.revoked_after(Position(page.after)) {
        if listed.len() >= page.limit && revocation.position != last {
            break;
        }
        last = revocation.position;
        listed.push(json!({ "id": id, "at": revocation.at, "by": revocation.by, "position": revocation.position }));
    }
    let total = state.revoked().len();
    Ok(Answer::json(StatusCode::OK, &json!({ "revocations": listed, "next": last, "total": total })))
}

fn keys(ring: &KeyRing) -> Answer {
    Answer::json(StatusCode::OK, &json!({ "keys": ring.entries() }))
}

/// One key, and what falls with it: how many live capabilities, by who presented the one that each was minted under.
fn key(admin: &Admin, path: &str) -> Result<Answer, NotDone> {
    let number = path.strip_prefix("/keys/").filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let id = KeyId(number.and_then(|text| text.parse().ok()).ok_or(NotDone::NoSuchPath)?);
    let state = admin.ledger.state().read();
    let entry = state.keys().get(id).ok_or(LedgerError::Keys(KeyRingError::Unknown(id)))?;
    let mints = state.live_mints(id, admin.clock.now());
    let mints: Vec<Value> = mints.into_iter().map(|(by, live)| json!({ "by": by, "live": live })).collect();
    let body = json!({ "id": entry.id, "key": entry.key, "state": entry.state, "mints": mints });
    Ok(Answer::json(StatusCode::OK, &body))
}

/// Changes of keys go on when the caller leaves: a rotation has files and a ledger to change, and must not stop between.
/// Whoever waits for their turn may have been revoked by the change before, so each is permitted when its turn has come.
async fn change_keys(admin: &Rc<Admin>, presenter: &Rc<Presenter>, asked: KeyRequest) -> Result<Answer, NotDone> {
    let (admin, presenter) = (Rc::clone(admin), Rc::clone(presenter));
    let work = tokio::task::spawn_local(async move {
        let _one_at_a_time = admin.changing_keys.lock().await;
        presenter.still_permitted(&admin)?;
        let by = presenter.by();
        match asked {
            KeyRequest::Rotate {} => {
                rotate(&admin, &presenter).await?;
                mint::renew_admin_token(&admin, by).await?;
            }
            KeyRequest::Retire { id } => admin.ledger.retire(KeyId(id), by).await?,
        }
        let ring = admin.ledger.standing().keys();
        if let Err(error) = admin.state.record_key_ring(&ring) {
            // The change is recorded and in force; the copy for offline use is made again at the next start.
            tracing::warn!(%error, "the copy of the key ring in the state folder is out of date");
        }
        Ok(keys(&ring))
    });
    work.await.unwrap_or(Err(NotDone::TooSlow))
}

/// Stage the secret, record the public half, put the secret in place: interrupted anywhere, the next start settles it.
async fn rotate(admin: &Admin, presenter: &Presenter) -> Result<(), NotDone> {
    let key = admin.state.stage_rotation().map_err(NotDone::State)?;
    if let Err(refused) = presenter.still_permitted(admin) {
        // Writing the key took a moment too.
        admin.state.forget_rotation().map_err(NotDone::State)?;
        return Err(refused);
    }
    match admin.ledger.rotate(key.public(), presenter.by()).await {
        Ok(_) => {}
        // It may be recorded: then the staged key is needed, and the next start finds out.
        Err(error @ LedgerError::Append(AppendError::Unknown)) => return Err(error.into()),
        Err(error) => {
            admin.state.forget_rotation().map_err(NotDone::State)?;
            return Err(error.into());
        }
    }
    // From here on the new key mints, whatever becomes of the files: the ledger says so.
    admin.root_key.replace(key);
    admin.state.finish_rotation().map_err(NotDone::State)
}

/// A page of the record. With `wait`, an empty page waits for the next record. Before anything is answered the permit is
/// asked for again: a capability that was revoked meanwhile must not learn what came after (law 6).
async fn entries(admin: &Rc<Admin>, presenter: &Presenter, query: &str) -> Result<Answer, NotDone> {
    let page = Page::of_query(query, true)?;
    let after = Position(page.after);
    let read = || async { admin.ledger.record().read(after, page.limit).await.map_err(LedgerError::from) };
    let mut found = read().await?;
    if found.is_empty() && page.wait_seconds > 0 {
        let mut shutdown = admin.shutdown.is_ending.clone();
        tokio::select! {
            () = admin.ledger.wait_beyond(after) => {}
            () = tokio::time::sleep(Duration::from_secs(page.wait_seconds)) => {}
            _ = shutdown.wait_for(|down| *down) => {}
        }
        found = read().await?;
    }
    presenter.still_permitted(admin)?;
    let next = found.last().map_or(after, |entry| entry.position);
    let end = *admin.ledger.record().tail().borrow();
    Ok(Answer::json(StatusCode::OK, &json!({ "entries": found, "next": next, "end": end })))
}

fn resources(admin: &Admin) -> Answer {
    let generation = admin.generation();
    let listed: Vec<Value> = generation
        .config
        .resources
        .iter()
        .map(|resource| json!({ "name": resource.name, "prefix": resource.prefix, "host": resource.host }))
        .collect();
    Answer::json(StatusCode::OK, &json!({ "resources": listed }))
}
