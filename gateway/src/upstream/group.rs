//! The addresses of one resource as one worker knows them, and which of them takes the next message.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::timeout;

use super::balance::{Chance, choose};
use super::board::{Roster, Seat};
use super::endpoint::Endpoint;
use super::member::{Member, Place};
use super::pool::{Attempts, Unreachable};
use super::queue::Queue;
use crate::current::Current;
use crate::limits::Limits;

/// The addresses of one resource, in one worker.
#[derive(Debug)]
pub struct Group {
    limits: Current<Limits>,
    roster: Arc<Roster>,
    /// The configured upstreams, in their order.
    endpoints: Vec<Rc<Endpoint>>,
    seats: RefCell<watch::Receiver<Arc<[Arc<Seat>]>>>,
    members: RefCell<Vec<Rc<Member>>>,
    queue: Rc<Queue<Place>>,
    /// How many wait, for the board.
    waiting: Arc<AtomicU32>,
    chance: Cell<Chance>,
}

/// What there is for a message.
#[derive(Debug)]
pub(super) enum Pick {
    /// A place.
    Place(Place),
    /// Addresses that are all at their bound.
    Busy,
    /// Addresses that must not be used, by their health checks.
    Unhealthy,
    /// No address: its name was not looked up yet, or cannot be.
    Nowhere,
    /// Only addresses that this message has tried.
    Exhausted,
}

impl Group {
    pub(super) fn new(
        roster: Arc<Roster>,
        endpoints: Vec<Rc<Endpoint>>,
        limits: Current<Limits>,
        chance: Chance,
    ) -> Rc<Self> {
        let group = Self {
            seats: roster.watch().into(),
            members: RefCell::default(),
            queue: Queue::new(),
            waiting: roster.queue(),
            limits,
            roster,
            endpoints,
            chance: Cell::new(chance),
        };
        group.seat();
        Rc::new(group)
    }

    /// What the workers share of this group.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// How many connections wait for a message.
    pub fn idle(&self) -> usize {
        self.members.borrow().iter().map(|member| member.idle()).sum()
    }

    /// Its addresses.
    pub fn members(&self) -> Vec<Rc<Member>> {
        self.members.borrow().clone()
    }

    /// Who waits for a place.
    pub(super) fn queue(&self) -> &Rc<Queue<Place>> {
        &self.queue
    }

    /// A place for a message: at the less loaded of two random addresses that work, other than those it was at before.
    ///
    /// Where none works, the one that is due to be tried soonest is used all the same: a service that is half down is
    /// asked, not given up. What health checks forbid is never used.
    pub(super) fn pick(&self, attempts: &Attempts) -> Pick {
        let members = self.members.borrow();
        let is_free = |member: &Rc<Member>| member.is_usable() && member.has_room();
        if let [only] = &**members
            && is_free(only)
            && !attempts.has_tried(only)
        {
            return Pick::Place(only.place());
        }
        let untried = || members.iter().filter(|member| !attempts.has_tried(member));
        let loads = members.iter().map(|member| {
            let is_candidate = is_free(member) && !attempts.has_tried(member) && !attempts.avoids(member);
            is_candidate.then(|| member.in_flight())
        });
        let (random, chance) = self.chance.get().next();
        self.chance.set(chance);
        let chosen = choose(loads, random).map(|at| &members[at]);
        if let Some(member) = chosen.or_else(|| untried().find(|member| is_free(member))) {
            return Pick::Place(member.place());
        }
        if untried().any(|member| member.is_usable()) {
            return Pick::Busy;
        }
        let allowed = || untried().filter(|member| !member.fails_checks());
        let least_bad = allowed().filter(|member| member.has_room()).min_by_key(|member| member.ejected_until());
        match least_bad {
            Some(member) => Pick::Place(member.place()),
            None if allowed().next().is_some() => Pick::Busy,
            None if members.is_empty() => Pick::Nowhere,
            None if members.iter().all(|member| member.fails_checks()) => Pick::Unhealthy,
            None => Pick::Exhausted,
        }
    }

    /// Whether a message that was not answered at one address could go to another one that works.
    pub(super) fn has_other(&self, than: &Rc<Member>, attempts: &Attempts) -> bool {
        let is_other = |member: &Rc<Member>| !Rc::ptr_eq(member, than) && !attempts.has_tried(member);
        self.members.borrow().iter().any(|member| is_other(member) && member.is_usable())
    }

    /// Waits until there is an address at all.
    pub(super) async fn resolved(&self) -> Result<(), Unreachable> {
        self.roster.want_addresses();
        let mut seats = self.roster.watch();
        let is_some = seats.wait_for(|seats| !seats.is_empty());
        if timeout(self.limits.get().upstream_connect_timeout, is_some).await.is_err() {
            let names = self.endpoints.iter().map(|endpoint| &**endpoint.name()).collect::<Vec<_>>().join(", ");
            let reason = self.roster.why_unresolved().unwrap_or_else(|| "the resolver does not answer".to_owned());
            return Err(Unreachable::Unresolved { names, reason });
        }
        self.refresh();
        Ok(())
    }

    /// Takes note of other addresses, if there are.
    fn refresh(&self) {
        if self.seats.borrow().has_changed().unwrap_or(false) {
            self.seat();
        }
    }

    /// A member for each seat; those that stay are kept.
    fn seat(&self) {
        let seats = Arc::clone(&self.seats.borrow_mut().borrow_and_update());
        let mut members = self.members.borrow_mut();
        let member = |seat: &Arc<Seat>| {
            let had = members.iter().find(|member| Arc::ptr_eq(member.seat(), seat));
            had.map(Rc::clone).or_else(|| {
                let endpoint = self.endpoints.get(seat.upstream())?;
                let (seat, roster) = (Arc::clone(seat), Arc::clone(&self.roster));
                Some(Member::new(Rc::clone(endpoint), seat, roster, Rc::clone(&self.queue), self.limits.clone()))
            })
        };
        let new: Vec<Rc<Member>> = seats.iter().filter_map(member).collect();
        let old = std::mem::replace(&mut *members, new);
        for gone in old.iter().filter(|old| !members.iter().any(|member| Rc::ptr_eq(member, old))) {
            gone.is_gone();
        }
    }

    /// What is done now and then: other addresses, old connections, tries, news for the board, and places that became free
    /// without a message having left one.
    pub(super) fn sweep(&self, now: Instant) {
        self.refresh();
        for member in self.members() {
            if member.sweep(now) {
                tokio::task::spawn_local(member.probe());
            }
        }
        while self.queue.has_waiters() {
            let Pick::Place(place) = self.pick(&Attempts::default()) else { break };
            drop(self.queue.hand(place));
        }
        self.waiting.store(u32::try_from(self.queue.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// A group of plain HTTP addresses, on nobody's board.
    #[cfg(test)]
    pub(crate) fn for_tests(address: &str) -> Rc<Self> {
        Self::of_tests(&[address], Limits::default())
    }

    #[cfg(test)]
    pub(crate) fn of_tests(addresses: &[&str], limits: Limits) -> Rc<Self> {
        let resource = crate::config::Resource::for_tests(addresses);
        let roster = Arc::new(Roster::new(&resource, None));
        let endpoints = roster.endpoints();
        Self::new(roster, endpoints, Current::new(limits), Chance::new(7))
    }

    /// No more messages come: the configuration has no such resource any more, or another one by its name.
    pub(super) fn retire(&self) {
        self.members().iter().for_each(|member| member.retire());
    }
}
