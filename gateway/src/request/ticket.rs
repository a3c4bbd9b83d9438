//! One exchange as metrics and the access log see it.
//!
//! A ticket is opened when a head is complete, filled on the message's way, and closed when the last byte of the answer
//! is gone; where the task that serves the message is dropped before, as at the end of a drain, the ticket closes itself, so
//! that every message that was received leaves its line. It measures the gateway's own share of the time: from the head's last byte to the upstream request's, and from
//! the upstream answer's head to the client's. What lies between is the service's and the network's.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use postern_capabilities::message::Scheme;
use postern_capabilities::token::Capability;

use super::cors::Cross;
use super::forward::UpstreamHead;
use super::keeping::Keeping;
use super::resource::Resource;
use super::rpc::Rpc;
use super::trace::{self, Recording, TRACE_ID_DIGITS};
use super::wording::Wording;
use crate::head::{Glimpse, Head, Version};
use crate::telemetry::{ALLOWED, AccessLine, Ended, Protocol, Spans};
use crate::worker::Worker;

/// The reason under which a message is counted that was under way when the time of a drain was over.
pub const SHUT_DOWN: &str = "shut-down";

/// The reason under which a message is counted whose exchange broke off.
pub const BROKEN_OFF: &str = "broken-off";

/// A longer host name is left out of a span.
const HOST_BYTES_MAX: usize = 63;

/// What is known of one exchange so far.
pub struct Ticket {
    /// Who counts it, as long as it is open.
    counted_by: Option<Rc<Worker>>,
    /// The resource, once the capability proved a right to it: a name that no caller can make up.
    pub resource: Option<Rc<Resource>>,
    /// The capability, once verified.
    pub capability: Option<Arc<Capability>>,
    /// The peer, or what a trusted proxy said.
    pub client: IpAddr,
    /// The upstream that the message went to.
    pub upstream: Option<Rc<str>>,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// What the answer says to a browser, where the resource configures that.
    pub cross: Option<Rc<Cross>>,
    /// Who may keep the service's answer.
    pub keeping: Keeping,
    /// In which form the caller reads a refusal.
    pub wording: Wording,
    /// The protocol of the call, where refusals are said in one.
    pub rpc: Option<Rpc>,
    /// Whether the resource is one of the Model Context Protocol, once the capability proved a right to it.
    pub is_mcp: bool,
    started: Instant,
    own_share: Duration,
    answered: Option<Instant>,
    /// From the head's last byte to the final response's head.
    answered_after: Duration,
    decision: &'static str,
    status: u16,
    protocol: Protocol,
    line: Option<Box<Line>>,
    /// The message's place in a trace, where it is recorded.
    pub(super) recording: Option<Box<Recording>>,
}

/// What an access log line copies out of the head, since the head's bytes are gone when the line is written.
struct Line {
    at: SystemTime,
    host: String,
    operation: String,
    path: Vec<u8>,
    query_bytes: usize,
    trace_id: Option<[u8; TRACE_ID_DIGITS]>,
}

impl Ticket {
    /// Opens a ticket for a head that is complete now. Copies parts of the head only where an access log wants them.
    pub fn open(worker: &Rc<Worker>, peer: IpAddr, head: &Head<'_>) -> Self {
        let line = worker.telemetry.logs().then(|| {
            Box::new(Line {
                at: SystemTime::now(),
                host: head.authority().to_owned(),
                operation: head.method().to_owned(),
                path: head.path().as_bytes().to_vec(),
                query_bytes: head.query().map_or(0, str::len),
                trace_id: trace::incoming(head).and_then(|parent| parent.trace_id().try_into().ok()),
            })
        });
        let protocol = match head.version() {
            Version::Http10 => Protocol::Http10,
            Version::Http11 => Protocol::Http11,
            Version::Http2 => Protocol::Http2,
        };
        let mut ticket = Self::with(worker, peer, protocol, line);
        ticket.recording = Recording::begin(&worker.telemetry, &worker.trace_ids, head);
        if let (Some(line), Some(recording)) = (&mut ticket.line, &ticket.recording) {
            line.trace_id = Some(recording.trace_id_digits());
        }
        ticket
    }

    /// Opens a ticket for a head that could not be read. Its line says what of it could.
    pub fn unreadable(worker: &Rc<Worker>, peer: IpAddr, protocol: Protocol, seen: &Glimpse<'_>) -> Self {
        let line = worker.telemetry.logs().then(|| {
            Box::new(Line {
                at: SystemTime::now(),
                host: seen.authority.to_owned(),
                operation: seen.method.to_owned(),
                path: seen.path.as_bytes().to_vec(),
                query_bytes: seen.query_bytes,
                trace_id: None,
            })
        });
        Self::with(worker, peer, protocol, line)
    }

    fn with(worker: &Rc<Worker>, peer: IpAddr, protocol: Protocol, line: Option<Box<Line>>) -> Self {
        worker.telemetry.request(protocol);
        Self {
            counted_by: Some(Rc::clone(worker)),
            resource: None,
            capability: None,
            client: peer,
            upstream: None,
            bytes_in: 0,
            bytes_out: 0,
            cross: None,
            keeping: Keeping::default(),
            wording: Wording::default(),
            rpc: None,
            is_mcp: false,
            started: Instant::now(),
            own_share: Duration::ZERO,
            answered: None,
            answered_after: Duration::ZERO,
            decision: ALLOWED,
            status: 0,
            protocol,
            line,
            recording: None,
        }
    }

    /// When the head was complete.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How the message came.
    pub(super) fn comes_over(&mut self, scheme: Scheme) {
        if let Some(recording) = &mut self.recording {
            recording.scheme = scheme.as_str();
        }
    }

    /// The trace in which the message goes up.
    pub(super) fn belongs_to(&mut self, head: &UpstreamHead) {
        if let Some(line) = &mut self.line {
            line.trace_id = head.trace_id().and_then(|digits| digits.try_into().ok());
        }
    }

    /// The message was refused, or failed, for the reason of this problem type.
    pub fn refused(&mut self, kind: &'static str) {
        self.decision = kind;
    }

    /// The upstream request's head is on its way: the first half of the gateway's own share ends.
    pub fn forwarded(&mut self, upstream: &Rc<str>) {
        self.own_share = self.started.elapsed();
        self.upstream = Some(Rc::clone(upstream));
        if let Some(recording) = &mut self.recording {
            recording.forwarded.get_or_insert(self.own_share);
        }
    }

    /// The upstream's final response head is complete: the second half begins.
    pub fn answered(&mut self) {
        self.answered = Some(Instant::now());
    }

    /// The final response's head is on its way to the client.
    pub fn responded(&mut self, worker: &Worker, status: u16) {
        let now = Instant::now();
        self.answered_after = now.saturating_duration_since(self.started);
        self.own_share += match self.answered {
            Some(answered) => now.saturating_duration_since(answered),
            None if self.upstream.is_none() => self.answered_after,
            None => Duration::ZERO,
        };
        self.status = status;
        worker.telemetry.responded(status);
        worker.telemetry.own_share(self.own_share);
    }

    /// The exchange is over: counts the decision, writes the access line and hands over the spans.
    pub fn close(mut self, worker: &Worker) {
        self.counted_by = None;
        self.count(worker);
    }

    fn count(&self, worker: &Worker) {
        let resource = self.resource.as_deref().map(|r| r.name.as_str());
        let ended = Ended {
            reason: self.decision,
            status: self.status,
            answered: self.answered_after,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        };
        worker.telemetry.ended(resource, &ended);
        if let Some(recording) = &self.recording {
            worker.telemetry.record(self.spans(recording));
        }
        let Some(line) = &self.line else { return };
        worker.telemetry.log(&AccessLine {
            at: line.at,
            client: self.client,
            protocol: self.protocol,
            host: &line.host,
            operation: &line.operation,
            path: &line.path,
            query_bytes: line.query_bytes,
            resource,
            decision: self.decision,
            capability: self.capability.as_deref().map(Capability::short_id),
            status: self.status,
            upstream: self.upstream.as_deref(),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            took: self.started.elapsed(),
            own_share: self.own_share,
            trace_id: line.trace_id.as_ref().and_then(|digits| std::str::from_utf8(digits).ok()),
        });
    }

    /// What a trace shows of the exchange. Of what a caller chose only what a right was shown for, and no long host name:
    /// it could hide a token.
    fn spans(&self, recording: &Recording) -> Spans {
        let resource = self.resource.as_deref();
        let host = resource.map(|_| &recording.host).filter(|host| host.len() <= HOST_BYTES_MAX);
        Spans {
            trace_id: recording.trace_id,
            parent: recording.parent,
            server: recording.server,
            client_span: recording.client,
            flags: recording.flags,
            at: recording.at,
            forwarded: recording.forwarded,
            took: self.started.elapsed(),
            method: recording.method,
            scheme: recording.scheme,
            protocol: self.protocol,
            resource: resource.map(|resource| resource.name.as_str().into()),
            route: resource.map(|resource| resource.prefix.clone()),
            host: host.cloned(),
            client: self.client,
            decision: self.decision,
            capability: self.capability.as_deref().map(|capability| capability.short_id().into()),
            upstream: self.upstream.as_deref().map(Into::into),
            status: self.status,
            upstream_status: self.answered.map(|_| self.status),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(worker) = self.counted_by.take() {
            self.refused(if worker.http1.is_draining() { SHUT_DOWN } else { BROKEN_OFF });
            self.count(&worker);
        }
    }
}
