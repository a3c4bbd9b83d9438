//! A message's way through the gateway, one file a step.
//!
//! `bearer` takes the token out, `route` finds the resource and the path below it, `check` makes a permit of message and
//! capability (with what `body` reads, where a caveat asks for that), `forward` consumes the permit and writes the upstream request, `respond` writes the answer. [`receive`]
//! calls them in this order, for HTTP/1 and HTTP/2 alike; `error` turns each failure into a problem in one place,
//! `wording` says in which form its caller reads that, and `mcp` what callers of the Model Context Protocol get otherwise.

pub mod bearer;
pub mod body;
pub mod body_rate;
pub mod check;
pub mod client;
pub(crate) mod connection_auth;
pub mod cors;
pub mod error;
mod events;
pub mod forward;
pub mod grpc;
pub mod keeping;
mod mcp;
pub mod noticed;
pub mod own;
pub mod resource;
pub mod respond;
pub mod route;
pub mod rpc;
pub mod switch;
pub mod ticket;
pub mod tools;
mod trace;
pub mod wording;

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use postern_capabilities::authorize::{OfCalls, Refusal};
use postern_capabilities::json_rpc;
use postern_capabilities::message::{Message, Scheme, grpc_call};
use postern_capabilities::path::{EncodedSlash, PathError, canonical_path, written_query};
use postern_capabilities::token::Capability;

use self::bearer::{Bearer, Carriers, Secret};
use self::body_rate::BodyRate;
use self::client::Origin;
use self::error::Refused;
use self::forward::{Inputs, UpstreamHead};
use self::keeping::Keeping;
use self::own::Answer;
use self::resource::Resource;
use self::switch::Switch;
use self::ticket::Ticket;
use self::tools::ToolFilter;
use self::trace::Tracing;
use self::wording::Wording;
use crate::config::AuthorizationUse;
use crate::head::{Framing, Head, Known};
use crate::lease::{Lease, Terms};
use crate::worker::Worker;

/// Who is at the other end of a client connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address of the socket's other end, or the one that a PROXY protocol header says.
    pub address: IpAddr,
    /// Whether such a header says that this is the client; else a trusted proxy at that address speaks for somebody else.
    pub is_introduced: bool,
    /// `https` where the connection is TLS.
    pub scheme: Scheme,
    /// The name that the TLS handshake asked for.
    pub server_name: Option<Rc<str>>,
    /// Hex SHA-256 of the client's certificate, where one was presented and verified.
    pub client_cert: Option<Rc<str>>,
}

/// A message that may go up: what the connection loops need besides the head that [`receive`] wrote.
pub struct Admitted {
    /// Where it goes.
    pub resource: Rc<Resource>,
    /// How its body is framed, in both directions of the gateway.
    pub framing: Framing,
    /// The most bytes its body may have.
    pub body_max: Option<u64>,
    /// How slowly it may come.
    pub body_rate: BodyRate,
    /// Whether its credentials authenticate the connection that it goes up on.
    pub authenticates_connection: bool,
    /// What is taken out of its answer.
    pub filter: Option<Rc<ToolFilter>>,
    /// Whether it may be sent again when a connection died before any answer (RFC 9110 section 9.2.2).
    pub repeatable: bool,
    /// What it would switch to, if it would.
    pub switch: Option<Box<Switch>>,
    /// What it hangs on from now on, before it waits for anything.
    pub lease: Lease,
}

/// What becomes of a message that is not refused.
pub enum Received {
    /// It goes up.
    Forward(Admitted),
    /// Nothing stands in its way but what its body says: it is to be received again with the whole body.
    Undecided {
        /// The most bytes that the body may have.
        max: u64,
        /// How slowly it may come.
        rate: BodyRate,
        /// What it hangs on until then.
        lease: Lease,
    },
    /// The gateway answers it itself: one of its own paths.
    Answer(Answer),
}

/// Takes a message through bearer, route, check and forward.
///
/// On success `out` holds the upstream request head and the permit is spent. `body` is the whole body of a message that came
/// here before and was undecided; without it a message is decided by its head alone, as nearly all are.
///
/// # Errors
/// The reason why the message is not forwarded.
pub fn receive(
    worker: &Worker,
    peer: &Peer,
    head: &Head<'_>,
    body: Option<&[u8]>,
    ticket: &mut Ticket,
    out: &mut UpstreamHead,
) -> Result<Received, Refused> {
    let received = decide(worker, peer, head, body, ticket, out);
    // Of a message that just passes nobody asks how its refusal would read.
    if body.is_some() || !matches!(received, Ok(Received::Forward(_))) {
        // Of a body that was not read no caveat has failed yet.
        let of_calls = |refused: &Refused| body.is_some() && refused.of_calls() != OfCalls::None;
        let is_call = ticket.is_mcp || received.as_ref().err().is_some_and(of_calls);
        ticket.wording = Wording::of(head, body, is_call);
    }
    received
}

fn decide(
    worker: &Worker,
    peer: &Peer,
    head: &Head<'_>,
    body: Option<&[u8]>,
    ticket: &mut Ticket,
    out: &mut UpstreamHead,
) -> Result<Received, Refused> {
    ticket.comes_over(peer.scheme);
    if worker.budget.is_strained() {
        return Err(worker.shed());
    }
    let view = worker.view();
    let routes = &view.routes;
    let host = lower_case(head.host());
    let trusted = view.trusted_proxies.contains(peer.address);
    // A front that is trusted sets up TLS in its own name, and its client's messages name the host that they are for.
    if !trusted && peer.server_name.as_deref().is_some_and(|name| name != host) {
        return Err(Refused::Misdirected);
    }
    let slash = if routes.passes_encoded_slash() { EncodedSlash::Pass } else { EncodedSlash::Refuse };
    let full_path = canonical_path(head.path().as_bytes(), slash).map_err(|error| refused_path(worker, error))?;
    if let Some(answer) = own::answer(&worker.standing, head, &full_path) {
        return answer.map(Received::Answer);
    }
    let origin = Origin::of(head, peer, &view.trusted_proxies, &view.trusted_fields)?;
    ticket.client = origin.client;
    let found = routes.find(&host, &full_path);
    if let Some(policy) = found.as_ref().and_then(|found| found.resource.cors.as_ref()) {
        if let Some(answer) = policy.preflight(head) {
            ticket.cross = Some(answer);
            return Ok(Received::Answer(Answer::empty()));
        }
        ticket.cross = Some(policy.cross(head));
    }
    let carriers = bearer::take(head)?;
    let now = worker.now();
    let query_string = head.query().map(written_query).unwrap_or_default();

    let Presentation { capability, presented, is_second } =
        present(worker, found.as_ref().map(|f| &**f.resource), &carriers)?;
    ticket.capability = Some(Arc::clone(&capability));
    let shares = found.as_ref().is_some_and(|found| found.resource.shared_cache);
    ticket.keeping = Keeping::of(presented.is_some(), shares);
    let Some(found) = found else { return Err(check::nowhere(&capability, &worker.standing, now)) };
    let resource = found.resource;

    if capability.holds_any_on(resource.name.as_str()) {
        ticket.resource = Some(Rc::clone(resource));
    }
    ticket.is_mcp = resource.mcp && capability.holds_any_on(resource.name.as_str());
    let content_type = head.value(Known::ContentType).filter(|_| head.count(Known::ContentType) == 1);
    let seen_path = if resource.keep_prefix { &*full_path } else { found.path };
    let grpc = content_type.and_then(|content_type| grpc_call(head.method(), content_type, seen_path));
    let body_max = smaller(resource.max_body, view.limits.body_bytes_max);
    let asked_host = origin.host().map(lower_case);
    let message = Message {
        query_string: &query_string,
        host: asked_host.as_deref().unwrap_or(&host),
        scheme: origin.scheme.unwrap_or(peer.scheme),
        client_cert: peer.client_cert.as_deref(),
        upgrade: head.upgrade(),
        body_size: match head.framing() {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        },
        grpc,
        ..Message::new(resource.name.as_str(), head.method(), found.path, now, origin.client)
    };
    let said: json_rpc::Body;
    let mut is_said = None;
    if check::may_learn_of(&capability, &worker.standing, resource, now) {
        check_spelling(worker, head, resource, is_second, slash)?;
    }
    let read_max = smaller(body_max, Some(view.limits.rpc_body_bytes_max as u64));
    // What was undecided by its head is decided once more, with its body, and not by its head again before that.
    let reads = body.filter(|_| check::reads_body(&capability, &worker.standing, &message));
    let mut unreadable = None;
    let message = match reads.map(|bytes| body::read(head, bytes, &capability)) {
        Some(Ok(read)) => {
            said = read;
            is_said = Some(&said);
            Message { items: &said.items, ..message }
        }
        // Where it was read for its ids alone, its head decides.
        Some(Err(error)) => {
            unreadable = Some(error);
            message
        }
        None => message,
    };
    let decided = check::check(&capability, &worker.standing, resource, message, body_max)
        .map_err(|refused| check::of_anonymous(refused, presented.is_none()))
        .map_err(|refused| mcp::not_offered(refused, resource, &capability, head.method()));
    let permit = match decided {
        Err(Refused::Refusal(Refusal::BodyFactsRequired)) if body.is_none() => None,
        Err(refused) if body.is_none() && mcp::reads_refused(&refused, resource, &capability, head, read_max) => None,
        Ok(_) if body.is_none() && mcp::reads_passing(resource, head, read_max) => None,
        Err(refused @ Refused::Refusal(Refusal::BodyFactsRequired)) => return Err(unreadable.unwrap_or(refused)),
        decided => Some(decided?),
    };
    let body_rate = BodyRate::of(head, resource, &view.limits);
    let Some(permit) = permit else {
        body::check_head(head)?;
        let lease = worker.leases.hold(Terms::undecided(&capability, now));
        return Ok(Received::Undecided { max: read_max.unwrap_or_default(), rate: body_rate, lease });
    };
    let framing = body.map_or(head.framing(), |bytes| Framing::Length(bytes.len() as u64));
    let switch = Switch::asked(head, resource)?.map(Box::new);
    let carried = forward::token::choose(worker, resource, presented, &capability, permit.message())?;
    let carried = carried.as_ref();
    let terms = Terms::of(&capability, permit.message());
    let tracing = Tracing::of(&worker.telemetry, ticket.recording.as_deref());
    let bytes_max = view.limits.rpc_answer_bytes_max;
    let filters = resource.filter_tools.then(|| ToolFilter::of(&capability, permit.message(), is_said, bytes_max));
    let filter = filters.flatten().map(Rc::new);
    let inputs = Inputs {
        head,
        resource,
        presented,
        carried,
        full_path: &full_path,
        origin: &origin,
        noticed: &worker.noticed,
        tracing,
        framing,
        was_read: body.is_some(),
        is_filtered: filter.is_some(),
        switch: switch.as_deref(),
    };
    forward::compose(out, permit, &inputs, &worker.trace_ids);
    ticket.belongs_to(out);
    Ok(Received::Forward(Admitted {
        resource: Rc::clone(resource),
        framing,
        body_max,
        body_rate,
        authenticates_connection: resource.authorization == AuthorizationUse::Pass
            && connection_auth::is_begun_by(head),
        switch,
        lease: worker.leases.hold(terms),
        filter,
        repeatable: matches!(head.method(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"),
    }))
}

/// A path that is refused leaves a trace, since a key may let it through.
fn refused_path(worker: &Worker, error: PathError) -> Refused {
    worker.noticed.refused(error);
    Refused::Path(error)
}

/// What this resource asks of a message's writing. It says that the resource is there, so a right to it is shown
/// before.
fn check_spelling(
    worker: &Worker,
    head: &Head<'_>,
    resource: &Resource,
    is_second: bool,
    slash: EncodedSlash,
) -> Result<(), Refused> {
    if is_second {
        return Err(Refused::TwoTokens);
    }
    if !resource.passes_encoded_slash && slash == EncodedSlash::Pass {
        canonical_path(head.path().as_bytes(), EncodedSlash::Refuse).map_err(|error| refused_path(worker, error))?;
    }
    Ok(())
}

/// A token that was presented, and where.
#[derive(Clone, Copy)]
pub struct Presented<'h> {
    /// Its text.
    pub token: Secret<'h>,
    /// Whether `Authorization` carried it: then that field is not the service's own, wherever it goes.
    pub in_authorization: bool,
}

/// What a message presents.
struct Presentation<'h> {
    capability: Arc<Capability>,
    /// The token that it was read from; none where the capability is the resource's anonymous one.
    presented: Option<Presented<'h>>,
    /// Whether another token of ours came beside it.
    is_second: bool,
}

/// The capability that a message presents: its token's, or the resource's anonymous one where it presents none.
///
/// Where the service has an `Authorization` of its own, what stands there behind `Bearer` is the service's unless one
/// of our keys signed it: it decides nothing, and nobody here calls it malformed. Ours is judged as everywhere, since
/// to fall back on the anonymous capability would hide a revocation. Where nobody is let in without a token and none
/// came in `Postern-Capability`, the answer is the same as for a path that does not exist.
fn present<'h>(
    worker: &Worker,
    resource: Option<&Resource>,
    carriers: &Carriers<'h>,
) -> Result<Presentation<'h>, Refused> {
    let passing = resource.filter(|resource| resource.authorization == AuthorizationUse::Pass);
    let anonymous = resource.and_then(|r| r.anonymous.as_ref());
    let is_services = passing.is_some() && (anonymous.is_some() || carriers.capability.is_some());
    let bearer = carriers.authorization.filter(|bearer| !is_services || is_ours(worker, *bearer));
    if let Some(token) = carriers.capability {
        let verified = check::verify(worker, token);
        if let Some(Err(unreadable)) = carriers.authorization.map(Bearer::token) {
            // That it is the service's shows that such a service is there: told to those alone who may know.
            let holds = |resource: &Resource| {
                verified.as_ref().is_ok_and(|capability| capability.holds_any_on(resource.name.as_str()))
            };
            if !passing.is_some_and(|resource| resource.anonymous.is_some() || holds(resource)) {
                return Err(unreadable);
            }
        }
        let presented = Some(Presented { token, in_authorization: false });
        return verified.map(|capability| Presentation { capability, presented, is_second: bearer.is_some() });
    }
    match (bearer, anonymous) {
        (Some(bearer), _) => {
            let token = bearer.token()?;
            let presented = Some(Presented { token, in_authorization: true });
            check::verify(worker, token).map(|capability| Presentation { capability, presented, is_second: false })
        }
        (None, Some(anonymous)) => {
            Ok(Presentation { capability: Arc::clone(anonymous), presented: None, is_second: false })
        }
        (None, None) => Err(Refused::MissingCapability),
    }
}

/// Whether one of our keys signed what stands there, or what it was cut from.
fn is_ours(worker: &Worker, bearer: Bearer<'_>) -> bool {
    let is_known = bearer.token().is_ok_and(|token| worker.plans.borrow_mut().get(token.expose()).is_some());
    is_known || worker.standing.issued(bearer.text())
}

/// The host in lower case: what routes and `host(…)` compare (RFC 9110 section 4.2.3).
fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

fn smaller(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
