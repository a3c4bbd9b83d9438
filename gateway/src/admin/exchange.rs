//! One administration message from head to answer, by the steps that data messages take.
//!
//! strict head → canonical path → (health, without a token) → bearer → verify → authorize for `postern` → endpoint. The
//! endpoint gets the permit by value: nothing is done without one.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use http::header::{CONNECTION, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{Request, Response, StatusCode, request};
use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use postern_capabilities::path::{EncodedSlash, canonical_path, written_query};
use postern_capabilities::resource::ADMINISTRATION;
use postern_capabilities::token::{Capability, Unverified};

use super::connections::Place;
use super::presenter::Presenter;
use super::problem::NotDone;
use super::{Admin, endpoints};
use crate::head::{Framing, Head, HeadError, Parts, Scheme, Spans};
use crate::ledger::Condition;
use crate::limits;
use crate::request::bearer;
use crate::request::error::Refused;
use crate::telemetry::{ALLOWED, AccessLine, Protocol};
use crate::wall_clock::http_date;

/// An answer that is not a problem.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Answer {
    /// JSON.
    pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        Self { status, content_type: "application/json", body: format!("{body}\n") }
    }
}

/// What the log line says that only the middle of an exchange knows.
#[derive(Default)]
struct Seen {
    path: String,
    host: String,
    query_bytes: usize,
    capability: Option<String>,
    asks_for_health: bool,
}

/// Answers one message, and counts and logs the decision in this one place.
pub(super) async fn answer(
    admin: &Rc<Admin>,
    place: &Place,
    client: IpAddr,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let _under_way = place.asks();
    let started = Instant::now();
    let at = SystemTime::now();
    let (parts, body) = request.into_parts();
    let mut seen = Seen { path: parts.uri.path().to_owned(), ..Seen::default() };
    let outcome =
        tokio::time::timeout(limits::ADMIN_EXCHANGE_TIMEOUT, exchange(admin, place, client, &parts, body, &mut seen));
    let outcome = outcome.await.unwrap_or(Err(NotDone::TooSlow));
    let head_only = parts.method == http::Method::HEAD;
    let reason = outcome.as_ref().map_or_else(|not_done| not_done.problem().kind, |_| ALLOWED);
    let mut response = match outcome {
        Ok(answer) => respond(answer, head_only),
        Err(not_done) => not_done.response(head_only),
    };
    if let Ok(date) = http::HeaderValue::try_from(http_date(at)) {
        response.headers_mut().insert(http::header::DATE, date);
    }
    if seen.asks_for_health && reason == ALLOWED {
        // Nothing was decided, and a probe every second says nothing that the log should keep.
        return response;
    }
    admin.worker.decided(Some(ADMINISTRATION), reason);
    if admin.worker.logs() {
        let took = started.elapsed();
        admin.worker.log(&AccessLine {
            at,
            client,
            protocol: if parts.version == http::Version::HTTP_10 { Protocol::Http10 } else { Protocol::Http11 },
            host: &seen.host,
            operation: parts.method.as_str(),
            path: seen.path.as_bytes(),
            query_bytes: seen.query_bytes,
            resource: Some(ADMINISTRATION),
            decision: reason,
            capability: seen.capability.as_deref(),
            status: response.status().as_u16(),
            upstream: None,
            bytes_in: 0,
            bytes_out: response.body().size_hint().exact().unwrap_or(0),
            took,
            own_share: took,
            trace_id: None,
        });
    }
    response
}

fn respond(answer: Answer, head_only: bool) -> Response<Full<Bytes>> {
    let length = answer.body.len();
    let mut response = Response::new(Full::new(if head_only { Bytes::new() } else { Bytes::from(answer.body) }));
    *response.status_mut() = answer.status;
    let fields = response.headers_mut();
    fields.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(answer.content_type));
    fields.insert(http::header::CONTENT_LENGTH, length.into());
    // Answers name capabilities, or are one.
    fields.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    fields.insert(http::header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}

/// The steps, in order.
async fn exchange(
    admin: &Rc<Admin>,
    place: &Place,
    client: IpAddr,
    parts: &request::Parts,
    body: Incoming,
    seen: &mut Seen,
) -> Result<Answer, NotDone> {
    let (mut buffer, mut spans) = (Vec::new(), Spans::default());
    let head = strict_head(admin, parts, &body, &mut buffer, &mut spans)?;
    seen.host = head.host().to_owned();
    seen.query_bytes = head.query().map_or(0, str::len);
    let path = canonical_path(head.path().as_bytes(), EncodedSlash::Refuse).map_err(Refused::Path)?;
    seen.path = path.as_ref().to_owned();
    if let Some(answer) = health(admin, head.method(), &path) {
        seen.asks_for_health = true;
        return answer;
    }
    let capability = presented(admin, &head)?;
    if capability.holds_any_on(ADMINISTRATION) && capability.standing(admin.ledger.standing()).is_ok() {
        place.shows();
    }
    seen.capability = Some(capability.short_id().to_owned());
    let presenter = Rc::new(Presenter {
        capability,
        operation: head.method().to_owned(),
        path: path.into_owned(),
        query: head.query().map(written_query).unwrap_or_default().into_owned(),
        host: head.host().to_ascii_lowercase(),
        client,
        body_size: match head.framing() {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        },
    });
    let permit = presenter.permit(admin)?;
    endpoints::serve(admin, permit, &presenter, parts, body).await
}

/// The message's head by the same strict rules as on the data listener. hyper has read it leniently and handles the
/// connection; what it consumed itself is left out, and everything else must be exact.
fn strict_head<'b>(
    admin: &Admin,
    parts: &request::Parts,
    body: &Incoming,
    buffer: &'b mut Vec<u8>,
    spans: &'b mut Spans,
) -> Result<Head<'b>, NotDone> {
    let bad = |error: HeadError| NotDone::Refused(Refused::Head(error));
    let mut hosts = parts.headers.get_all(HOST).iter();
    let named = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = hosts.next().map(|host| host.as_bytes());
    let host = host.or(named.filter(|_| parts.version == http::Version::HTTP_10)).unwrap_or_default();
    if hosts.next().is_some() || named.is_some_and(|named| !named.eq_ignore_ascii_case(host)) {
        return Err(NotDone::Refused(Refused::Framing(
            "The request names its host more than once, and not everywhere alike.".into(),
        )));
    }
    let consumed: [HeaderName; 4] = [HOST, CONNECTION, TRANSFER_ENCODING, UPGRADE];
    let of_connection = ["keep-alive", "proxy-connection", "expect", "te", "http2-settings"];
    let fields = parts
        .headers
        .iter()
        .filter(|(name, _)| !consumed.contains(name) && !of_connection.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let parts = Parts {
        method: parts.method.as_str().as_bytes(),
        target: target.as_bytes(),
        authority: host,
        needs_host: parts.version != http::Version::HTTP_10,
        scheme: Scheme::Http,
        fields,
        protocol: None,
        ended: body.is_end_stream(),
    };
    Head::assemble(parts, buffer, spans, &admin.limits()).map_err(bad)
}

/// The capability that the message carries, verified.
fn presented(admin: &Admin, head: &Head<'_>) -> Result<Capability, NotDone> {
    let carriers = bearer::take(head)?;
    let token = match (carriers.capability, carriers.authorization) {
        (Some(_), Some(_)) => return Err(Refused::TwoTokens.into()),
        (Some(token), None) => token,
        (None, Some(bearer)) => bearer.token()?,
        (None, None) => return Err(Refused::MissingCapability.into()),
    };
    let standing = admin.ledger.standing();
    // The form comes first: what is no token is not worth a digest.
    let unverified = Unverified::parse(token.expose()).map_err(Refused::Unreadable)?;
    // Read before anything is verified: a change in between then leads to another look, never to a missed one.
    let version = standing.keys_version();
    let known = admin.refusals.borrow_mut().get(token.expose(), version);
    if let Some(error) = known {
        return Err(Refused::NotVerified(error).into());
    }
    let verified = unverified.verify_knowing(standing, admin.limits().price_budget, &admin.prefixes);
    Ok(verified.map_err(|error| {
        admin.refusals.borrow_mut().insert(token.expose(), &error, version);
        Refused::NotVerified(error)
    })?)
}

/// The two paths that need no token: they say only whether the process lives and takes writes.
fn health(admin: &Admin, method: &str, path: &str) -> Option<Result<Answer, NotDone>> {
    if !["/health/live", "/health/ready"].contains(&path) {
        return None;
    }
    if !["GET", "HEAD"].contains(&method) {
        return Some(Err(NotDone::Method("GET, HEAD")));
    }
    let well = |word: &str| Ok(Answer::json(StatusCode::OK, &serde_json::json!({ "status": word })));
    Some(match (path, admin.ledger.condition()) {
        ("/health/live", _) => well("live"),
        (_, Condition::Writable) if *admin.shutdown.is_draining.borrow() => {
            Err(NotDone::NotReady("The gateway is shutting down.".into()))
        }
        (_, Condition::Writable) => well("ready"),
        (_, Condition::Waiting(why)) => Err(NotDone::NotReady(format!("The ledger cannot write: {why}."))),
        (_, Condition::ReadOnly(why)) => Err(NotDone::NotReady(format!("The ledger is read-only: {why}."))),
    })
}
