//! One address of a resource as one worker knows it: the connections that it keeps, the messages that it has there, and
//! what became of those before.
//!
//! A message holds a [`Place`] for as long as it lasts, streams and WebSockets included; dropping it is what makes room.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use tokio::time::timeout;

use super::board::{Roster, Seat, Sighting, lock};
use super::endpoint::Endpoint;
use super::h2::connections::{Connected, Connections};
use super::health::{Ejection, EjectionPolicy};
use super::pool::{Link, Need, Unreachable};
use super::queue::Queue;
use super::tls::{self, Agreed, Offer};
use super::transport::{self, Stream};
use crate::config::UpstreamScheme;
use crate::current::Current;
use crate::limits::{Limits, is_exhaustion};

/// One address of a resource, in one worker.
#[derive(Debug)]
pub struct Member {
    endpoint: Rc<Endpoint>,
    label: Rc<str>,
    limits: Current<Limits>,
    roster: Arc<Roster>,
    seat: Arc<Seat>,
    sighting: Arc<Mutex<Sighting>>,
    /// Who waits for a place at any member of the group.
    queue: Rc<Queue<Place>>,
    in_flight: Cell<u32>,
    idle: RefCell<Vec<Idle>>,
    /// The connections that messages share, where the address speaks HTTP/2.
    shared: Rc<Connections>,
    ejection: RefCell<Ejection>,
    /// Whether `ejection` has nothing to forgive: then an answer has nothing to tell it.
    is_spotless: Cell<bool>,
    is_in_use: Cell<bool>,
    /// The name does not have this address any more: whoever waits goes elsewhere.
    is_gone: Cell<bool>,
    /// Nothing is kept for later messages: there will be none.
    is_retired: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    since: Instant,
}

/// A message's place at an address.
#[derive(Debug)]
pub struct Place {
    member: Rc<Member>,
}

impl Member {
    pub(super) fn new(
        endpoint: Rc<Endpoint>,
        seat: Arc<Seat>,
        roster: Arc<Roster>,
        queue: Rc<Queue<Place>>,
        limits: Current<Limits>,
    ) -> Rc<Self> {
        let policy = policy(&limits.get());
        Rc::new(Self {
            endpoint,
            label: Rc::from(&**seat.label()),
            limits,
            roster,
            sighting: seat.sighting(),
            seat,
            queue,
            in_flight: Cell::new(0),
            idle: RefCell::default(),
            shared: Rc::default(),
            ejection: Ejection::new(policy).into(),
            is_spotless: Cell::new(true),
            is_in_use: Cell::new(true),
            is_gone: Cell::new(false),
            is_retired: Cell::new(false),
        })
    }

    /// The configured upstream that it belongs to.
    pub fn endpoint(&self) -> &Rc<Endpoint> {
        &self.endpoint
    }

    /// Its name in logs.
    pub fn label(&self) -> &Rc<str> {
        &self.label
    }

    pub(super) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// Messages under way there.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Whether its health checks forbid it, to everybody.
    pub fn fails_checks(&self) -> bool {
        self.seat.fails_checks()
    }

    /// Whether messages should go there.
    pub fn is_usable(&self) -> bool {
        self.is_in_use.get() && !self.fails_checks()
    }

    /// When this worker will try it again, if it keeps from it.
    pub(super) fn ejected_until(&self) -> Option<Instant> {
        self.ejection.borrow().until()
    }

    /// Whether one more message may go there.
    pub fn has_room(&self) -> bool {
        self.in_flight.get() < self.limits.get().upstream_connections_max
    }

    /// A place there. The bound is the caller's to look at.
    pub(super) fn place(self: &Rc<Self>) -> Place {
        self.in_flight.set(self.in_flight.get() + 1);
        Place { member: Rc::clone(self) }
    }

    /// A kept connection that is still open and silent; by the system's word where the message cannot be sent twice.
    pub(super) fn take(&self, need: Need) -> Option<Link> {
        if self.endpoint.may_speak_h2()
            && need != Need::Switch
            && let Some(slot) = self.shared.slot()
        {
            return Some(Link::Http2(slot));
        }
        let max = self.limits.get().upstream_idle_timeout;
        let mut idle = self.idle.borrow_mut();
        // The one used last is the one most likely to be open; older ones age out.
        while let Some(Idle { mut stream, since }) = idle.pop() {
            let is_fresh = since.elapsed() < max;
            if is_fresh && stream.is_silent() && (need == Need::Repeatable || stream.is_alive()) {
                return Some(Link::Http1(stream));
            }
        }
        None
    }

    /// A new connection, or a slot on one that another message is just making.
    pub(super) async fn connect(&self, need: Need) -> Result<Link, Unreachable> {
        let address = || Rc::clone(&self.label);
        // Connections that wait count too: one of them makes room for a new one.
        if self.idle.borrow().len() + self.in_flight.get() as usize
            > self.limits.get().upstream_connections_max as usize
        {
            self.idle.borrow_mut().pop();
        }
        let addresses = self.seat.address();
        let limits = self.limits.get();
        let dial = |offer| transport::connect(&self.endpoint, addresses.as_slice(), offer);
        let connecting = async {
            match (self.endpoint.scheme(), need) {
                (UpstreamScheme::Http | UpstreamScheme::Unix, _) => {
                    Ok(Connected::Http1(dial(Offer::Any).await?.stream))
                }
                (UpstreamScheme::Https, Need::Switch) => match dial(Offer::Http1).await {
                    Ok(dialled) if dialled.agreed == Agreed::Http1 || self.shared.speaks_http1() => {
                        Ok(Connected::Http1(dialled.stream))
                    }
                    Err(error) if !tls::has_no_common_protocol(&error) => Err(error),
                    // It speaks HTTP/2 alone, or does not say: then its choice among both does. What it speaks is not
                    // remembered for longer than that: it may speak more the next time.
                    Ok(_) | Err(_) => self.shared.connect_alone(&limits, dial(Offer::Any)).await,
                },
                (UpstreamScheme::H2c, Need::Switch) => self.shared.connect_alone(&limits, dial(Offer::Any)).await,
                (UpstreamScheme::Https | UpstreamScheme::H2c, _) => {
                    self.shared.connect(&limits, dial(Offer::Any)).await
                }
            }
        };
        match timeout(limits.upstream_connect_timeout, connecting).await {
            Err(_) => Err(Unreachable::Timeout { address: address() }),
            Ok(Err(error)) if is_exhaustion(&error) => Err(Unreachable::Shortage(error)),
            Ok(Err(error)) => Err(Unreachable::Failed { address: address(), error }),
            Ok(Ok(Connected::Http1(stream))) => Ok(Link::Http1(stream)),
            Ok(Ok(Connected::Http2(slot))) => Ok(Link::Http2(slot)),
        }
    }

    /// Keeps a connection for the next message; one that is shared keeps itself.
    pub(super) fn put(&self, link: Link) {
        let Link::Http1(stream) = link else { return };
        // One that was made apart, for a switch that was declined, would take messages away from HTTP/2.
        if self.endpoint.may_speak_h2() && !self.shared.speaks_http1() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.limits.get().upstream_idle_connections_max && !self.is_retired.get() {
            idle.push(Idle { stream, since: Instant::now() });
        }
    }

    /// How many connections wait.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// It answered a message.
    pub fn answered(&self) {
        if !self.is_spotless.get() {
            self.ejection.borrow_mut().answered(Instant::now());
            self.note(None);
        }
    }

    /// A connection or a message failed there.
    pub fn failed(&self, reason: &dyn Display) {
        self.ejection.borrow_mut().failed(Instant::now());
        self.note(Some(reason));
        if !self.is_in_use.get() {
            // A name may lead elsewhere by now.
            self.roster.want_addresses();
        }
    }

    /// Closes what has waited too long, and tells the board what is going on here. Whether a connection should be tried
    /// now, because this worker has kept from the address for long enough.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let limits = self.limits.get();
        let max = limits.upstream_idle_timeout;
        self.idle.borrow_mut().retain(|idle| now.saturating_duration_since(idle.since) < max);
        let mut ejection = self.ejection.borrow_mut();
        ejection.follow(policy(&limits));
        let mut sighting = lock(&self.sighting);
        sighting.in_flight = self.in_flight.get();
        sighting.failures = ejection.failures();
        ejection.is_due(now)
    }

    /// Tries a connection, before any message is sent that way again.
    pub(super) async fn probe(self: Rc<Self>) {
        let connected = self.connect(Need::Repeatable).await;
        if let Err(Unreachable::Shortage(_)) = connected {
            return self.ejection.borrow_mut().postponed(Instant::now());
        }
        self.ejection.borrow_mut().probed(connected.is_ok(), Instant::now());
        match connected {
            Ok(link) => {
                self.put(link);
                self.note(None);
            }
            Err(unreachable) => self.note(Some(&unreachable)),
        }
    }

    /// The name does not have this address any more. Messages under way there go on.
    pub(super) fn is_gone(&self) {
        self.is_gone.set(true);
        self.retire();
    }

    /// No more messages come here, but those that are under way, or wait.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
        self.idle.borrow_mut().clear();
        self.shared.retire();
    }

    /// Says what changed to everybody who goes by it.
    fn note(&self, failure: Option<&dyn Display>) {
        let ejection = self.ejection.borrow();
        let was_in_use = self.is_in_use.replace(ejection.is_in_use());
        self.is_spotless.set(ejection.failures() == 0 && ejection.is_in_use());
        let mut sighting = lock(&self.sighting);
        sighting.failures = ejection.failures();
        if was_in_use != ejection.is_in_use() {
            sighting.since = SystemTime::now();
        }
        let resource = self.roster.resource().name.as_str();
        match (ejection.is_in_use(), failure) {
            (true, _) => {
                sighting.ejected = None;
                if !was_in_use {
                    tracing::info!(resource, upstream = &*self.label, "the upstream takes messages again");
                }
            }
            (false, Some(reason)) => {
                sighting.ejected = Some(reason.to_string());
                if was_in_use {
                    let failures = ejection.failures();
                    tracing::warn!(resource, upstream = &*self.label, failures, %reason, "the upstream is left alone for a while");
                }
            }
            (false, None) => {}
        }
    }
}

fn policy(limits: &Limits) -> EjectionPolicy {
    EjectionPolicy {
        failures_max: limits.upstream_failures_max,
        time: limits.upstream_ejection_time,
        time_max: limits.upstream_ejection_time_max,
    }
}

impl Place {
    /// Where.
    pub fn member(&self) -> &Rc<Member> {
        &self.member
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let member = &self.member;
        member.in_flight.set(member.in_flight.get() - 1);
        if member.queue.has_waiters() && member.is_usable() && !member.is_gone.get() {
            // What nobody takes comes back and is dropped, behind a queue without waiters.
            drop(member.queue.hand(member.place()));
        }
    }
}
