//! The caps on open connections, over all workers: in all, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::Limits;

/// Descriptors kept back for the ledger, administration, logs and the listeners themselves.
const RESERVED_DESCRIPTORS: usize = 64;

/// How many connections are open, over all workers.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    max: usize,
    per_client_max: usize,
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl Connections {
    /// Caps from the limits, and from the descriptors this process may open: each exchange may need two. The soft limit
    /// of descriptors is raised towards what the limits ask for; most systems begin with a thousand for the sake of
    /// programs that cannot handle more.
    pub fn new(limits: &Limits) -> Arc<Self> {
        let connections = Self::capped(0, 0);
        connections.follow(limits);
        connections
    }

    /// Sets the caps anew. Connections above a lower one stay.
    pub fn follow(&self, limits: &Limits) {
        let wanted = limits.connections_max.saturating_mul(2).saturating_add(RESERVED_DESCRIPTORS);
        let affordable = raise_descriptors(wanted).saturating_sub(RESERVED_DESCRIPTORS) / 2;
        if affordable < limits.connections_max {
            tracing::info!(
                connections = affordable,
                "the limit of open files allows fewer connections than connections_max: raise it (ulimit -n, LimitNOFILE) or lower connections_max"
            );
        }
        let max = limits.connections_max.min(affordable.max(1));
        let mut open = self.lock();
        open.max = max;
        // However few can be afforded, no one address takes them all.
        open.per_client_max = limits.connections_per_client_max.min(max - max / 4);
    }

    pub(super) fn capped(max: usize, per_client_max: usize) -> Arc<Self> {
        Arc::new(Self { open: Mutex::new(Open { max, per_client_max, ..Open::default() }) })
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.lock().all
    }

    /// Takes a place for a client's connection; `None` above a cap.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut open = self.lock();
        let by_client = open.by_client.get(&client).copied().unwrap_or(0);
        if open.all >= open.max || by_client >= open.per_client_max {
            return None;
        }
        open.all += 1;
        open.by_client.insert(client, by_client + 1);
        Some(Place { connections: Arc::clone(self), client })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.all = open.all.saturating_sub(1);
        match open.by_client.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.by_client.remove(&self.client);
            }
        }
    }
}

/// Raises the soft limit of open descriptors to `wanted`, as far as the hard one allows, and returns what holds then.
fn raise_descriptors(wanted: usize) -> usize {
    let number = |limit: Option<u64>| limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let before = getrlimit(Resource::Nofile);
    let (soft, hard) = (number(before.current), number(before.maximum));
    let raised = wanted.min(hard);
    if raised <= soft {
        return soft;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised as u64), maximum: before.maximum }) {
        Ok(()) => raised,
        Err(_) => soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let connections = Connections::capped(3, 2);
        let (a, b) = ("10.0.0.1".parse().expect("an address"), "10.0.0.2".parse().expect("an address"));
        let held = [connections.take(a), connections.take(a)];
        assert!(held.iter().all(Option::is_some));
        assert!(connections.take(a).is_none(), "the client's own cap");
        let third = connections.take(b).expect("another client has room");
        assert!(connections.take(b).is_none(), "the cap over all");
        drop(third);
        assert_eq!(connections.open(), 2);
        drop(held);
        assert_eq!(connections.open(), 0);
        assert!(connections.lock().by_client.is_empty(), "nothing is remembered of clients that are gone");
    }

    #[test]
    fn the_limit_of_descriptors_is_raised_and_never_lowered() {
        let before = raise_descriptors(0);
        assert_eq!(raise_descriptors(1), before);
        let raised = raise_descriptors(before.saturating_add(1));
        assert!(raised >= before);
        assert_eq!(raise_descriptors(0), raised);
    }
}
