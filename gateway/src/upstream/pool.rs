//! Connections to upstreams, kept between messages. One pool for each worker: nothing here is shared or locked.
//!
//! A connection comes back only from an exchange that ended cleanly in both directions, and is looked at once more
//! before it is used again: whatever an upstream says while nobody asked it belongs to no request, so that connection is
//! closed (bytes after a body are how one client's answer becomes another's).
//!
//! Which address a message goes to is for its resource's [`Group`]; where it has been is in its [`Attempts`].

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use tokio::time::timeout;

use super::balance::Chance;
use super::board::Roster;
use super::call::Failure;
use super::endpoint::Endpoint;
use super::group::{Group, Pick};
use super::h2::Slot;
use super::member::{Member, Place};
use super::transport::Stream;
use crate::current::Current;
use crate::limits::Limits;
use crate::request::switch::Switch;

/// The groups of one worker, and with them all connections that wait for a message.
pub struct Pool {
    limits: Current<Limits>,
    groups: RefCell<Vec<Weak<Group>>>,
    chance: Cell<Chance>,
}

/// A connection to an upstream, and the message's place there.
#[derive(Debug)]
pub struct Upstream {
    place: Place,
    /// What it is made of.
    pub link: Link,
    /// Whether it has served a message before: then it may have been closed unseen.
    pub is_reused: bool,
}

/// What a connection is made of.
#[derive(Debug)]
pub enum Link {
    /// Bytes for this exchange alone. Nothing of an answer has been read yet.
    Http1(Stream),
    /// A slot for one stream on a connection that others share.
    Http2(Slot),
}

/// What a message needs of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any that is there: the message may be sent again where a connection turns out to be dead.
    Repeatable,
    /// One that is alive by the system's word: the message cannot be sent twice.
    Once,
    /// One that can switch to another protocol, shared with nobody: HTTP/1.1, or HTTP/2 where nothing else is spoken.
    Switch,
}

impl Need {
    /// What a message needs that `is_repeatable` or not, and may ask for a switch.
    pub fn of(is_repeatable: bool, switch: Option<&Switch>) -> Self {
        match (switch, is_repeatable) {
            (Some(_), _) => Self::Switch,
            (None, true) => Self::Repeatable,
            (None, false) => Self::Once,
        }
    }
}

/// Where one message has been.
#[derive(Debug, Default)]
pub struct Attempts {
    made: Cell<u32>,
    /// Addresses that failed it: it does not go there again.
    tried: RefCell<Vec<Rc<Member>>>,
    /// An address whose kept connection was dead: another one is better, the same will do.
    avoided: RefCell<Option<Rc<Member>>>,
    is_queued: Cell<bool>,
    /// Whether one of them may have acted on it, and did not live to say so.
    may_have_acted: Cell<bool>,
}

/// No connection for a message. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The system's answer to the attempt.
    #[error("a connection to {address} cannot be made: {error}")]
    Failed {
        /// Which upstream.
        address: Rc<str>,
        /// What the system says.
        error: io::Error,
    },
    /// No answer to the attempt.
    #[error("{address} did not accept a connection in time")]
    Timeout {
        /// Which upstream.
        address: Rc<str>,
    },
    /// No address is known.
    #[error("the address of {names} cannot be found out: {reason}")]
    Unresolved {
        /// The configured names.
        names: String,
        /// What the resolver says.
        reason: String,
    },
    /// Every address fails its health checks.
    #[error("every upstream fails its health checks")]
    Unhealthy,
    /// All addresses are at their bound, and so is the queue.
    #[error("all upstreams have as many messages under way as they may, and as many wait as may")]
    QueueFull,
    /// No place became free in time.
    #[error("all upstreams have as many messages under way as they may, and none ended in time")]
    QueueTimeout,
    /// The gateway has no file descriptor, or the system no memory, for one more connection.
    #[error("the gateway has nothing left to make a connection of: {0}")]
    Shortage(io::Error),
    /// The message has been everywhere.
    #[error("the resource has no upstream that was not tried")]
    NoUpstream,
}

impl Pool {
    /// An empty pool. `seed` is chance, by which addresses are picked.
    pub fn new(limits: Current<Limits>, seed: u64) -> Self {
        Self { limits, groups: RefCell::default(), chance: Cell::new(Chance::new(seed)) }
    }

    /// The group of a resource; the same one for as long as the resource has the same roster. `endpoints` are its upstreams
    /// in the order of its configuration.
    pub fn group(&self, roster: &Arc<Roster>, endpoints: Vec<Rc<Endpoint>>) -> Rc<Group> {
        let mut groups = self.groups.borrow_mut();
        let known = groups.iter().filter_map(Weak::upgrade).find(|group| Arc::ptr_eq(group.roster(), roster));
        known.unwrap_or_else(|| {
            let (seed, chance) = self.chance.get().next();
            self.chance.set(chance);
            let group = Group::new(Arc::clone(roster), endpoints, self.limits.clone(), Chance::new(seed));
            groups.push(Rc::downgrade(&group));
            group
        })
    }

    /// A group of plain HTTP addresses.
    #[cfg(test)]
    pub(crate) fn group_for_tests(&self, addresses: &[&str]) -> Rc<Group> {
        let resource = crate::config::Resource::for_tests(addresses);
        let roster = Arc::new(Roster::new(&resource, None));
        self.group(&roster, roster.endpoints())
    }

    /// Only these groups count from now on: what is kept for others is closed. Messages under way go on.
    pub fn retain(&self, groups: &[Rc<Group>]) {
        self.groups.borrow_mut().retain(|group| {
            let Some(group) = group.upgrade() else { return false };
            let stays = groups.iter().any(|stays| Rc::ptr_eq(stays, &group));
            if !stays {
                group.retire();
            }
            stays
        });
    }

    /// A kept connection for a message's first attempt, if that is all it takes.
    pub fn ready(&self, group: &Group, attempts: &Attempts, need: Need) -> Option<Upstream> {
        let Pick::Place(place) = group.pick(attempts) else { return None };
        let link = place.member().take(need)?;
        attempts.count();
        Some(Upstream { place, link, is_reused: true })
    }

    /// A connection for a message: to an address that works and has room, after a wait if none has. One that cannot be
    /// connected to is passed over; after an attempt that died on a kept connection, only a fresh one will do.
    ///
    /// Dropping the future is leaving the queue.
    ///
    /// # Errors
    /// What the last attempt said, or why there was none.
    pub async fn open(&self, group: &Group, attempts: &Attempts, need: Need) -> Result<Upstream, Unreachable> {
        let opened = self.attempt(group, attempts, need).await;
        if let Err(error) = &opened {
            let resource = group.roster().resource().name.as_str();
            tracing::warn!(resource, %error, "a message got no connection to its service");
        }
        opened
    }

    async fn attempt(&self, group: &Group, attempts: &Attempts, need: Need) -> Result<Upstream, Unreachable> {
        let limits = self.limits.get();
        let mut last = Unreachable::NoUpstream;
        while attempts.made.get() < limits.upstream_attempts_max {
            let place = match group.pick(attempts) {
                Pick::Place(place) => place,
                Pick::Busy => self.wait(group, attempts).await?,
                Pick::Unhealthy => return Err(Unreachable::Unhealthy),
                Pick::Nowhere => {
                    group.resolved().await?;
                    continue;
                }
                Pick::Exhausted => break,
            };
            attempts.count();
            let member = Rc::clone(place.member());
            if !attempts.is_replay()
                && let Some(link) = member.take(need)
            {
                return Ok(Upstream { place, link, is_reused: true });
            }
            match member.connect(need).await {
                Ok(link) => {
                    let is_reused = matches!(&link, Link::Http2(slot) if slot.is_reused());
                    return Ok(Upstream { place, link, is_reused });
                }
                // Nothing that the address could help, nor another one do better.
                Err(shortage @ Unreachable::Shortage(_)) => return Err(shortage),
                Err(unreachable) => {
                    member.failed(&unreachable);
                    attempts.tried.borrow_mut().push(member);
                    last = unreachable;
                }
            }
        }
        Err(last)
    }

    /// Waits in line for a place.
    async fn wait(&self, group: &Group, attempts: &Attempts) -> Result<Place, Unreachable> {
        let limits = self.limits.get();
        let waiter = group.queue().join(limits.upstream_queue_max).map_err(|_| Unreachable::QueueFull)?;
        attempts.is_queued.set(true);
        let waited = timeout(limits.upstream_queue_timeout, waiter).await;
        attempts.is_queued.set(false);
        waited.ok().flatten().ok_or(Unreachable::QueueTimeout)
    }

    /// Keeps a connection whose exchange ended cleanly: the request whole, the answer whole, nothing after it.
    pub fn put(&self, upstream: Upstream) {
        let Upstream { place, link, .. } = upstream;
        // Before the place is free, so that whoever waits for it finds the connection.
        place.member().put(link);
    }

    /// Closes what has waited too long, and looks after the addresses. To be called now and then.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.groups.borrow_mut().retain(|group| group.strong_count() > 0);
        let groups: Vec<_> = self.groups.borrow().iter().filter_map(Weak::upgrade).collect();
        groups.iter().for_each(|group| group.sweep(now));
    }

    /// How many connections wait.
    pub fn idle(&self) -> usize {
        self.groups.borrow().iter().filter_map(Weak::upgrade).map(|group| group.idle()).sum()
    }
}

impl Upstream {
    /// The place and the connection, for whoever keeps both beyond the exchange.
    pub(crate) fn into_parts(self) -> (Place, Link) {
        (self.place, self.link)
    }

    /// The configured upstream that it leads to.
    pub fn endpoint(&self) -> &Rc<Endpoint> {
        self.place.member().endpoint()
    }

    /// The address in logs.
    pub fn label(&self) -> &Rc<str> {
        self.place.member().label()
    }

    /// The bytes of an HTTP/1 connection.
    #[cfg(test)]
    fn stream(&self) -> &Stream {
        match &self.link {
            Link::Http1(stream) => stream,
            Link::Http2(_) => panic!("an HTTP/2 connection is shared"),
        }
    }

    /// It has begun to answer.
    pub fn answered(&self) {
        self.place.member().answered();
    }

    /// It failed the message. A kept connection that closed unseen does not count: that is no failure, only late news.
    pub fn failed(&self, has_closed: bool, reason: &dyn Display) {
        if !(has_closed && self.is_reused) {
            self.place.member().failed(reason);
        }
    }
}

impl Attempts {
    fn count(&self) {
        self.made.set(self.made.get() + 1);
    }

    /// Whether the message waits in line at this moment.
    pub fn is_queued(&self) -> bool {
        self.is_queued.get()
    }

    pub(super) fn has_tried(&self, member: &Rc<Member>) -> bool {
        self.tried.borrow().iter().any(|tried| Rc::ptr_eq(tried, member))
    }

    pub(super) fn avoids(&self, member: &Rc<Member>) -> bool {
        self.avoided.borrow().as_ref().is_some_and(|avoided| Rc::ptr_eq(avoided, member))
    }

    fn is_replay(&self) -> bool {
        self.avoided.borrow().is_some()
    }

    /// The connection died, by `failure`, before anything of an answer came, and the message may be sent again. Whether
    /// there is a point in it: the connection was a kept one, or there is another address. If so, the next attempt will be
    /// over a fresh connection.
    pub fn may_repeat(&self, died: &Upstream, failure: &Failure, group: &Group, limits: &Limits) -> bool {
        let member = died.place.member();
        // A stream that failed says little about what the next one will meet.
        let may_stay = died.is_reused || matches!(died.link, Link::Http2(_));
        let is_worth_it = may_stay || group.has_other(member, self);
        if self.made.get() >= limits.upstream_attempts_max || !is_worth_it {
            return false;
        }
        if !may_stay {
            self.tried.borrow_mut().push(Rc::clone(member));
        }
        *self.avoided.borrow_mut() = Some(Rc::clone(member));
        if !failure.is_before_sending() {
            self.may_have_acted.set(true);
        }
        true
    }

    /// What a failure of the last attempt means for the message. That nothing was sent this time says nothing of the times
    /// before.
    pub fn sum_up(&self, failure: Failure) -> Failure {
        if self.may_have_acted.get() && failure.is_before_sending() { Failure::Closed } else { failure }
    }
}

#[cfg(test)]
mod tests;
