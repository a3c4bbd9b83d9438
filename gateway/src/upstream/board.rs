//! What is known of the services' addresses: shared by the workers, the keeper and whoever watches.
//!
//! One [`Board`] a gateway, on it one [`Roster`] for each resource, on that one [`Seat`] for each address. The keeper writes
//! what it learns of the outside (which addresses a name has, whether a health check passes); workers read that, with one
//! atomic load a message, and write down now and then what they do with an address ([`Sighting`]). Nobody waits for anybody
//! here on a message's way: the locks are held for copies, once a second and by those who look at a [`Board::snapshot`].

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use tokio::sync::watch;

use super::endpoint::Endpoint;
use super::tls::ClientTls;
use crate::config::{Resource, Upstream};
use crate::limits::Limits;

/// What is known of every resource's addresses.
#[derive(Debug, Default)]
pub struct Board {
    rosters: watch::Sender<Arc<[Arc<Roster>]>>,
    limits: Mutex<Arc<Limits>>,
}

/// The addresses of one resource. It belongs to one configuration of that resource; another configuration is another roster.
#[derive(Debug)]
pub struct Roster {
    resource: Resource,
    /// What TLS to its upstreams is made with.
    tls: Option<Arc<ClientTls>>,
    seats: watch::Sender<Arc<[Arc<Seat>]>>,
    /// For each configured upstream what is known of its addresses.
    known: Mutex<Vec<Known>>,
    queues: Mutex<Vec<Weak<AtomicU32>>>,
    /// Counts how often somebody wanted the names looked up before their time.
    wanted: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    seats: Vec<Arc<Seat>>,
    /// Why the last look-up failed, and when that began.
    failure: Option<(String, SystemTime)>,
}

/// One address of a resource.
#[derive(Debug)]
pub struct Seat {
    label: Arc<str>,
    upstream: usize,
    address: Option<SocketAddr>,
    fails_checks: AtomicBool,
    checked: Mutex<Checked>,
    sightings: Mutex<Vec<Weak<Mutex<Sighting>>>>,
}

/// What the health checks say.
#[derive(Clone, Debug)]
struct Checked {
    since: SystemTime,
    reason: Option<String>,
}

/// What one worker has to tell of an address.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Messages that are under way there.
    pub in_flight: u32,
    /// Failures in a row.
    pub failures: u32,
    /// Why this worker keeps from it, if it does.
    pub ejected: Option<String>,
    /// Since when it does, or does not.
    pub since: SystemTime,
}

/// How an address stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It takes messages.
    Healthy,
    /// Some worker, or each, keeps from it for a while, because messages failed there.
    Ejected,
    /// Its health checks fail: nobody uses it.
    Unhealthy,
    /// Its name has no address yet.
    Unresolved,
}

impl Condition {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Ejected => "ejected",
            Self::Unhealthy => "unhealthy",
            Self::Unresolved => "unresolved",
        }
    }
}

/// A resource's addresses at one moment.
#[derive(Clone, Debug)]
pub struct ResourceReport {
    /// The resource's name.
    pub resource: String,
    /// Messages that wait for a place at one of them, in all workers.
    pub waiting: u64,
    /// Each address; a name without one stands for itself.
    pub addresses: Vec<AddressReport>,
}

/// One address at one moment. Counts are those of the last second.
#[derive(Clone, Debug)]
pub struct AddressReport {
    /// The upstream as configured: `http://orders.internal:3000`.
    pub upstream: String,
    /// The address that it has: `10.1.2.3:3000`, a socket's path, or the name where there is no address.
    pub address: String,
    /// How it stands.
    pub condition: Condition,
    /// Why, in words, where it does not simply take messages.
    pub reason: Option<String>,
    /// Since when.
    pub since: SystemTime,
    /// Messages under way there, in all workers.
    pub in_flight: u64,
    /// The most failures in a row that a worker has seen.
    pub failures: u32,
}

impl Board {
    /// A board with nothing on it.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// These rosters count from now on, and these limits.
    pub fn set(&self, rosters: &[Arc<Roster>], limits: &Limits) {
        *lock(&self.limits) = Arc::new(limits.clone());
        self.rosters.send_replace(rosters.into());
    }

    /// Every bound, as it is at this moment.
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&lock(&self.limits))
    }

    /// The rosters that count, now and later.
    pub fn watch(&self) -> watch::Receiver<Arc<[Arc<Roster>]>> {
        self.rosters.subscribe()
    }

    /// Everything as it is now.
    pub fn snapshot(&self) -> Vec<ResourceReport> {
        let rosters = Arc::clone(&self.rosters.borrow());
        rosters.iter().map(|roster| roster.report()).collect()
    }
}

impl Roster {
    /// A roster for each resource of a configuration, in their order. A resource whose way did not change keeps the one that
    /// it had `before`, and an address that is still named what is known of it. `tls` is what TLS to each resource's upstreams is
    /// made with, in the same order.
    pub fn of_all(resources: &[Resource], tls: &[Option<Arc<ClientTls>>], before: &[Arc<Self>]) -> Vec<Arc<Self>> {
        let roster = |(index, resource): (usize, &Resource)| {
            let tls = tls.get(index).and_then(Option::as_ref);
            let before = before.iter().find(|roster| roster.resource.name == resource.name);
            match before {
                Some(before) if leads_alike(&before.resource, resource) && is_like(before.tls.as_ref(), tls) => {
                    Arc::clone(before)
                }
                before => Arc::new(Self { tls: tls.cloned(), ..Self::new(resource, before.map(|before| &**before)) }),
            }
        };
        resources.iter().enumerate().map(roster).collect()
    }

    /// Literal addresses and Unix sockets are known at once, names when they have been looked up.
    pub fn new(resource: &Resource, before: Option<&Self>) -> Self {
        let kept = before.map_or_else(Vec::new, |before| before.seats.borrow().to_vec());
        let kept_at = |upstream: &Upstream, address: Option<SocketAddr>| {
            let before = before?;
            kept.iter().find(|seat| before.resource.upstream[seat.upstream] == *upstream && seat.address == address)
        };
        let known = resource.upstream.iter().enumerate().map(|(index, upstream)| {
            let addresses: Vec<Option<SocketAddr>> = match (upstream.socket_addr(), has_name(upstream)) {
                (Some(literal), _) => vec![Some(literal)],
                (None, false) => vec![None],
                (None, true) => {
                    let of_name = kept
                        .iter()
                        .filter(|seat| before.is_some_and(|b| b.resource.upstream[seat.upstream] == *upstream));
                    of_name.map(|seat| seat.address).collect()
                }
            };
            // Where nobody checks any more, nobody could ever say that it is well again.
            let checked = |address| kept_at(upstream, address).filter(|_| resource.health.is_some());
            let seat = |address| Seat::new(upstream, index, address, checked(address).map(|seat| &**seat));
            Known { seats: addresses.into_iter().map(|address| Arc::new(seat(address))).collect(), failure: None }
        });
        let known: Vec<Known> = known.collect();
        let seats = watch::Sender::new(flat(&known));
        Self {
            resource: resource.clone(),
            tls: None,
            seats,
            known: known.into(),
            queues: Mutex::default(),
            wanted: watch::Sender::new(0),
        }
    }

    /// The configuration that it belongs to.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Its upstreams in the order of the configuration, for one thread.
    pub fn endpoints(&self) -> Vec<Rc<Endpoint>> {
        self.resource.upstream.iter().map(|upstream| Endpoint::new(upstream, self.tls.as_ref())).collect()
    }

    /// The addresses, now and later.
    pub fn watch(&self) -> watch::Receiver<Arc<[Arc<Seat>]>> {
        self.seats.subscribe()
    }

    /// The configured upstreams that are names, by their index.
    pub fn names(&self) -> impl Iterator<Item = (usize, &Upstream)> {
        self.resource.upstream.iter().enumerate().filter(|(_, upstream)| has_name(upstream))
    }

    /// A name has these addresses now. Those that it had before keep their seats.
    pub fn resolved(&self, upstream: usize, addresses: &[SocketAddr]) {
        let mut known = lock(&self.known);
        let Some(entry) = known.get_mut(upstream) else { return };
        entry.failure = None;
        let of_name = &self.resource.upstream[upstream];
        let seat = |address: &SocketAddr| {
            let had = entry.seats.iter().find(|seat| seat.address == Some(*address));
            had.map_or_else(|| Arc::new(Seat::new(of_name, upstream, Some(*address), None)), Arc::clone)
        };
        let seats: Vec<_> = addresses.iter().map(seat).collect();
        let is_same =
            seats.len() == entry.seats.len() && seats.iter().zip(&entry.seats).all(|(a, b)| Arc::ptr_eq(a, b));
        entry.seats = seats;
        if !is_same {
            self.seats.send_replace(flat(&known));
        }
    }

    /// A name could not be looked up; the addresses that it had are used on.
    pub fn unresolved(&self, upstream: usize, reason: String) {
        let mut known = lock(&self.known);
        let Some(entry) = known.get_mut(upstream) else { return };
        let since = entry.failure.take().map_or_else(SystemTime::now, |(_, since)| since);
        entry.failure = Some((reason, since));
    }

    /// Why no address is known, in words for the log.
    pub fn why_unresolved(&self) -> Option<String> {
        lock(&self.known).iter().find_map(|entry| entry.failure.as_ref().map(|(reason, _)| reason.clone()))
    }

    /// An address failed: its name may have others by now.
    pub fn want_addresses(&self) {
        self.wanted.send_modify(|wanted| *wanted = wanted.wrapping_add(1));
    }

    /// Changes when somebody wants the names looked up before their time.
    pub fn addresses_wanted(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }

    /// Where a worker writes how many of its messages wait.
    pub fn queue(&self) -> Arc<AtomicU32> {
        let queue = Arc::new(AtomicU32::new(0));
        let mut queues = lock(&self.queues);
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        queue
    }

    /// Everything as it is now.
    pub fn report(&self) -> ResourceReport {
        let waiting = |queue: &Weak<AtomicU32>| queue.upgrade().map_or(0, |queue| queue.load(Ordering::Relaxed).into());
        let waiting = lock(&self.queues).iter().map(waiting).sum();
        let known = lock(&self.known);
        let mut addresses = Vec::new();
        for (entry, upstream) in known.iter().zip(&self.resource.upstream) {
            let failure = entry.failure.as_ref().map(|(reason, _)| reason);
            addresses.extend(entry.seats.iter().map(|seat| seat.report(upstream, failure)));
            if entry.seats.is_empty() {
                addresses.push(AddressReport {
                    upstream: upstream.to_string(),
                    address: upstream.address(),
                    condition: Condition::Unresolved,
                    reason: Some(failure.cloned().unwrap_or_else(|| "it has not been looked up yet".to_owned())),
                    since: entry.failure.as_ref().map_or_else(SystemTime::now, |(_, since)| *since),
                    in_flight: 0,
                    failures: 0,
                });
            }
        }
        ResourceReport { resource: self.resource.name.as_str().to_owned(), waiting, addresses }
    }
}

impl Seat {
    fn new(upstream: &Upstream, index: usize, address: Option<SocketAddr>, before: Option<&Self>) -> Self {
        Self {
            label: match address {
                Some(address) => Endpoint::label(upstream.scheme, &address.to_string()).into(),
                None => Endpoint::label(upstream.scheme, &upstream.address()).into(),
            },
            upstream: index,
            address,
            fails_checks: AtomicBool::new(before.is_some_and(Self::fails_checks)),
            checked: Mutex::new(before.map_or_else(
                || Checked { since: SystemTime::now(), reason: None },
                |before| lock(&before.checked).clone(),
            )),
            sightings: Mutex::default(),
        }
    }

    /// Its name in logs: the address, behind its scheme unless that is plain HTTP.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// The configured upstream that it belongs to, by its index.
    pub fn upstream(&self) -> usize {
        self.upstream
    }

    /// The address; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whether its health checks say that it must not be used.
    pub fn fails_checks(&self) -> bool {
        self.fails_checks.load(Ordering::Relaxed)
    }

    /// What the health checks say now; a reason where the last one failed.
    pub fn checked(&self, is_healthy: bool, reason: Option<String>) {
        let mut checked = lock(&self.checked);
        if self.fails_checks.swap(!is_healthy, Ordering::Relaxed) == is_healthy {
            checked.since = SystemTime::now();
        }
        checked.reason = reason;
    }

    /// Where a worker writes what it sees of the address.
    pub fn sighting(&self) -> Arc<Mutex<Sighting>> {
        let sighting = Sighting { in_flight: 0, failures: 0, ejected: None, since: SystemTime::now() };
        let sighting = Arc::new(Mutex::new(sighting));
        let mut sightings = lock(&self.sightings);
        // Those whose worker has let go of this seat are gone.
        sightings.retain(|sighting| sighting.strong_count() > 0);
        sightings.push(Arc::downgrade(&sighting));
        sighting
    }

    fn report(&self, upstream: &Upstream, lookup_failure: Option<&String>) -> AddressReport {
        let sightings: Vec<Sighting> =
            lock(&self.sightings).iter().filter_map(Weak::upgrade).map(|sighting| lock(&sighting).clone()).collect();
        let checked = lock(&self.checked).clone();
        let ejecting: Vec<&Sighting> = sightings.iter().filter(|sighting| sighting.ejected.is_some()).collect();
        let (condition, reason, since) = match ejecting.iter().min_by_key(|sighting| sighting.since) {
            _ if self.fails_checks() => (Condition::Unhealthy, checked.reason, checked.since),
            Some(first) => {
                let workers = format!("{} of {} workers keep from it", ejecting.len(), sightings.len());
                let reason = first.ejected.as_ref().map(|reason| format!("{workers}: {reason}"));
                (Condition::Ejected, reason, first.since)
            }
            None => {
                let lookup = lookup_failure.map(|why| format!("used on, though its name cannot be looked up: {why}"));
                (Condition::Healthy, checked.reason.or(lookup), checked.since)
            }
        };
        AddressReport {
            upstream: upstream.to_string(),
            address: self.address.map_or_else(|| upstream.address(), |address| address.to_string()),
            condition,
            reason,
            since,
            in_flight: sightings.iter().map(|sighting| u64::from(sighting.in_flight)).sum(),
            failures: sightings.iter().map(|sighting| sighting.failures).max().unwrap_or(0),
        }
    }
}

/// Whether two configurations of a resource lead to the service in the same way. What says which messages go there, and in
/// which form, is no part of it; everything else is, so that a setting that comes later is never overlooked.
fn leads_alike(one: &Resource, other: &Resource) -> bool {
    let other = Resource {
        prefix: one.prefix.clone(),
        keep_prefix: one.keep_prefix,
        host: one.host.clone(),
        forward_token: one.forward_token,
        authorization: one.authorization,
        encoded_slash: one.encoded_slash,
        anonymous: one.anonymous.clone(),
        max_body: one.max_body,
        body_rate_min: one.body_rate_min,
        response_timeout: one.response_timeout,
        allow_headers: one.allow_headers.clone(),
        strip_headers: one.strip_headers.clone(),
        shared_cache: one.shared_cache,
        filter_tools: one.filter_tools,
        mcp: one.mcp,
        upgrades: one.upgrades.clone(),
        nested: one.nested,
        ..other.clone()
    };
    *one == other
}

/// Whether TLS is made with the same settings, their files' contents included.
fn is_like(one: Option<&Arc<ClientTls>>, other: Option<&Arc<ClientTls>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_like(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn has_name(upstream: &Upstream) -> bool {
    upstream.socket_addr().is_none() && upstream.host_and_port().is_some()
}

fn flat(known: &[Known]) -> Arc<[Arc<Seat>]> {
    known.iter().flat_map(|entry| entry.seats.iter().map(Arc::clone)).collect()
}

/// What is behind these locks is whole at every moment, so it is also after a panic elsewhere.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use postern_capabilities::resource::ResourceName;

    use super::*;

    fn resource(name: &str, upstreams: &[&str]) -> Resource {
        Resource { name: ResourceName::parse(name).expect("valid"), ..Resource::for_tests(upstreams) }
    }

    fn labels(roster: &Roster) -> Vec<String> {
        roster.seats.borrow().iter().map(|seat| seat.label().to_string()).collect()
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("valid")).collect()
    }

    #[test]
    fn literals_are_known_at_once_and_names_when_looked_up() {
        let roster = Roster::new(&resource("r", &["http://10.0.0.1:80", "http://name:3000", "unix:/run/a.sock"]), None);
        assert_eq!(labels(&roster), ["10.0.0.1:80", "unix:/run/a.sock"]);
        assert_eq!(roster.names().map(|(index, _)| index).collect::<Vec<_>>(), [1]);
        assert_eq!(roster.report().addresses[1].condition, Condition::Unresolved);
        roster.resolved(1, &addresses(&["10.0.0.2:3000", "[::2]:3000"]));
        assert_eq!(labels(&roster), ["10.0.0.1:80", "10.0.0.2:3000", "[::2]:3000", "unix:/run/a.sock"]);
        let before = Arc::clone(&roster.seats.borrow());
        roster.resolved(1, &addresses(&["[::2]:3000", "10.0.0.3:3000"]));
        assert!(Arc::ptr_eq(&before[2], &roster.seats.borrow()[1]), "an address that stays keeps its seat");
        let mut watch = roster.watch();
        watch.mark_unchanged();
        roster.resolved(1, &addresses(&["[::2]:3000", "10.0.0.3:3000"]));
        assert!(!watch.has_changed().expect("open"), "the same again is no news");
        roster.unresolved(1, "no such name".into());
        assert_eq!(roster.seats.borrow().len(), 4, "the old addresses stay");
        let report = roster.report();
        assert_eq!(report.addresses[1].condition, Condition::Healthy);
        assert!(report.addresses[1].reason.as_deref().is_some_and(|reason| reason.ends_with("no such name")));
    }

    #[test]
    fn another_configuration_keeps_what_did_not_change() {
        let checked = |resource: Resource| {
            let check = "[resource.x]\nupstream = \"http://x\"\nhealth.path = \"/\"\n";
            let config = crate::config::Config::parse(check, std::path::Path::new("/")).expect("valid");
            Resource { health: config.resources[0].health.clone(), ..resource }
        };
        let (a, b) = (resource("a", &["http://10.0.0.1"]), checked(resource("b", &["http://10.0.0.2", "http://n"])));
        let first = Roster::of_all(&[a.clone(), b], &[], &[]);
        first[1].resolved(1, &addresses(&["10.0.0.9:80"]));
        for seat in first[1].seats.borrow().iter() {
            seat.checked(false, Some("503".into()));
        }
        let b = checked(resource("b", &["http://10.0.0.3", "http://n", "http://10.0.0.2"]));
        let second = Roster::of_all(&[b, Resource { prefix: "/else".into(), ..a }], &[], &first);
        let board = Board::new();
        board.set(&second, &Limits::default());
        assert!(Arc::ptr_eq(&first[0], &second[1]));
        let failing: Vec<bool> = second[0].seats.borrow().iter().map(|seat| seat.fails_checks()).collect();
        assert_eq!(failing, [false, true, true], "a new address is new, the others are known");
        let shown: Vec<_> = board.snapshot().iter().map(|report| report.resource.clone()).collect();
        assert_eq!(shown, ["b", "a"]);
    }

    #[test]
    fn a_report_sums_what_the_workers_see() {
        let roster = Roster::new(&resource("r", &["http://10.0.0.1"]), None);
        let seat = Arc::clone(&roster.seats.borrow()[0]);
        let (one, two, gone) = (seat.sighting(), seat.sighting(), seat.sighting());
        lock(&one).in_flight = 3;
        lock(&two).in_flight = 4;
        lock(&gone).in_flight = 5;
        drop(gone);
        let queue = roster.queue();
        queue.store(2, Ordering::Relaxed);
        let report = roster.report();
        assert_eq!((report.waiting, report.addresses[0].in_flight), (2, 7));
        assert_eq!((report.addresses[0].condition, &report.addresses[0].reason), (Condition::Healthy, &None));
        *lock(&two) = Sighting { failures: 3, ejected: Some("refused".into()), ..lock(&one).clone() };
        let report = &roster.report().addresses[0];
        assert_eq!((report.condition, report.failures), (Condition::Ejected, 3));
        assert_eq!(report.reason.as_deref(), Some("1 of 2 workers keep from it: refused"));
        seat.checked(false, Some("its health check got 503".into()));
        let report = &roster.report().addresses[0];
        assert_eq!(
            (report.condition, report.reason.as_deref()),
            (Condition::Unhealthy, Some("its health check got 503"))
        );
    }
}
