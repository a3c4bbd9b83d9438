//! The addresses behind a name: looked up by the system's resolver, and again now and then.
//!
//! A look-up that fails changes nothing but what the board says: the addresses that were known are used on. Literal
//! addresses never come here.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::board::{Board, Roster};

/// The least time between two look-ups of one name, whatever happens.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// How a look-up is done: by the system, except in tests.
pub(super) type Lookup = dyn Fn(String, u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>>>>;

/// The system's resolver, on a thread that may block.
pub(super) fn system() -> Rc<Lookup> {
    Rc::new(|host, port| Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }))
}

/// Keeps the addresses of one of a roster's names up to date, for ever.
pub(super) async fn keep_resolved(roster: Arc<Roster>, upstream: usize, board: Arc<Board>, lookup: Rc<Lookup>) {
    let Some((host, port)) = roster.resource().upstream.get(upstream).and_then(|upstream| upstream.host_and_port())
    else {
        return;
    };
    let mut wanted = roster.addresses_wanted();
    let mut failures = 0;
    loop {
        let limits = board.limits();
        let found = timeout(limits.upstream_resolve_timeout, lookup(host.to_owned(), port)).await;
        let found = found.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")));
        match addresses(found, limits.upstream_addresses_max) {
            Ok(addresses) => {
                failures = 0;
                roster.resolved(upstream, &addresses);
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    let resource = roster.resource().name.as_str();
                    tracing::warn!(resource, host, %error, "the address of an upstream cannot be found out");
                }
                roster.unresolved(upstream, error.to_string());
            }
        }
        wanted.mark_unchanged();
        sleep(PAUSE_MIN).await;
        let rest = pause(limits.upstream_resolve_interval, failures).saturating_sub(PAUSE_MIN);
        // Either is a reason to look again.
        let _ = timeout(rest, wanted.changed()).await;
    }
}

/// How long after the last look-up comes the next one: sooner where it failed, later each time.
fn pause(interval: Duration, failures: u32) -> Duration {
    match failures {
        0 => interval,
        failures => PAUSE_MIN.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX)).min(interval),
    }
}

/// What was found, each once and in an order that does not change from one answer to the next.
fn addresses(found: io::Result<Vec<SocketAddr>>, max: usize) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = found?;
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(max);
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use tokio::task::LocalSet;
    use tokio::time::Instant;

    use super::*;
    use crate::config::Resource;
    use crate::upstream::Condition;

    fn parsed(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("valid")).collect()
    }

    #[test]
    fn answers_are_put_in_order_and_bounded() {
        let found = || Ok(parsed(&["10.0.0.3:80", "10.0.0.1:80", "[::1]:80", "10.0.0.3:80"]));
        assert_eq!(addresses(found(), 9).expect("found"), parsed(&["10.0.0.1:80", "10.0.0.3:80", "[::1]:80"]));
        assert_eq!(addresses(found(), 1).expect("found"), parsed(&["10.0.0.1:80"]));
        assert!(addresses(Ok(Vec::new()), 9).is_err());
        let interval = Duration::from_secs(30);
        let pauses: Vec<u64> = (0..8).map(|failures| pause(interval, failures).as_secs()).collect();
        assert_eq!(pauses, [30, 1, 2, 4, 8, 16, 30, 30]);
    }

    /// A name that moves, fails for a while, and comes back; the look-up is the system's part that is stood in for.
    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_again_and_keeps_its_addresses_while_it_cannot_be() {
        let failing = || Err(io::Error::other("no such name"));
        let answers = RefCell::new(VecDeque::from([
            failing(),
            Ok(parsed(&["10.0.0.1:80"])),
            failing(),
            failing(),
            Ok(parsed(&["10.0.0.1:80", "10.0.0.2:80"])),
            Ok(parsed(&["10.0.0.2:80"])),
        ]));
        let asked = Rc::new(RefCell::new(Vec::new()));
        let begun = Instant::now();
        let seen = Rc::clone(&asked);
        let lookup: Rc<Lookup> = Rc::new(move |host, port| {
            assert_eq!((host.as_str(), port), ("orders.internal", 80));
            seen.borrow_mut().push(begun.elapsed().as_secs());
            let answer = answers.borrow_mut().pop_front();
            Box::pin(async move { answer.unwrap_or_else(|| Err(io::Error::other("asked too often"))) })
        });
        let roster = Arc::new(Roster::new(&Resource::for_tests(&["http://orders.internal"]), None));
        let conditions = || {
            let report = roster.report();
            report.addresses.iter().map(|a| (a.address.clone(), a.condition)).collect::<Vec<_>>()
        };
        let local = LocalSet::new();
        local.spawn_local(keep_resolved(Arc::clone(&roster), 0, Board::new(), lookup));
        let healthy = |address: &str| (address.to_owned(), Condition::Healthy);
        local
            .run_until(async {
                sleep(Duration::from_millis(500)).await;
                assert_eq!(conditions(), [("orders.internal:80".to_owned(), Condition::Unresolved)]);
                assert_eq!(roster.why_unresolved().as_deref(), Some("no such name"));
                sleep(Duration::from_secs(1)).await;
                assert_eq!(conditions(), [healthy("10.0.0.1:80")]);
                // From here somebody wants to know before the time is over.
                sleep(Duration::from_secs(5)).await;
                roster.want_addresses();
                sleep(Duration::from_millis(500)).await;
                assert_eq!(conditions(), [healthy("10.0.0.1:80")], "kept although the look-up failed");
                sleep(Duration::from_secs(4)).await;
                assert_eq!(conditions(), [healthy("10.0.0.1:80"), healthy("10.0.0.2:80")]);
                sleep(Duration::from_secs(30)).await;
                assert_eq!(conditions(), [healthy("10.0.0.2:80")]);
            })
            .await;
        assert_eq!(*asked.borrow(), [0, 1, 6, 7, 9, 39]);
    }
}
