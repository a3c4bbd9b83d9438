//! The thread that keeps the [`Board`]: looks names up, and asks addresses whether they are well.
//!
//! One a gateway, so that what a service is asked does not grow with the number of workers. It follows the board: a resource
//! that comes with another configuration is looked after from then on, one that goes is left alone.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval};

use super::board::{Board, Roster, Seat};
use super::health::{CheckPolicy, Checks};
use super::probe::Probe;
use super::resolve::{self, Lookup, keep_resolved};
use crate::config::HealthCheck;
use crate::limits::UPSTREAM_LOOKUPS_MAX;

/// Starts the thread. It ends when `shutdown` says so.
///
/// # Errors
/// The system has no thread for it.
pub fn start(board: Arc<Board>, shutdown: watch::Receiver<bool>) -> io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(UPSTREAM_LOOKUPS_MAX).build()?;
    std::thread::Builder::new().name("upstreams".to_owned()).spawn(move || {
        LocalSet::new().block_on(&runtime, keep(&board, shutdown, resolve::system()));
        // A look-up that the system does not finish must not keep the gateway from ending.
        runtime.shutdown_background();
    })
}

/// Looks after all rosters of the board until the shutdown.
async fn keep(board: &Arc<Board>, mut shutdown: watch::Receiver<bool>, lookup: Rc<Lookup>) {
    let mut rosters = board.watch();
    let mut tended: Vec<(Arc<Roster>, JoinSet<()>)> = Vec::new();
    loop {
        let present = Arc::clone(&rosters.borrow_and_update());
        // What tends a roster ends with its entry.
        tended.retain(|(roster, _)| present.iter().any(|present| Arc::ptr_eq(present, roster)));
        for roster in present.iter() {
            if !tended.iter().any(|(tended, _)| Arc::ptr_eq(tended, roster)) {
                tended.push((Arc::clone(roster), tend(roster, board, &lookup)));
            }
        }
        tokio::select! {
            changed = rosters.changed() => if changed.is_err() { return },
            _ = shutdown.wait_for(|down| *down) => return,
        }
    }
}

fn tend(roster: &Arc<Roster>, board: &Arc<Board>, lookup: &Rc<Lookup>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (upstream, _) in roster.names() {
        tasks.spawn_local(keep_resolved(Arc::clone(roster), upstream, Arc::clone(board), Rc::clone(lookup)));
    }
    if let Some(health) = &roster.resource().health {
        tasks.spawn_local(check_all(Arc::clone(roster), health.clone(), Arc::clone(board)));
    }
    tasks
}

/// Checks every address of a roster, those that come later too.
async fn check_all(roster: Arc<Roster>, health: HealthCheck, board: Arc<Board>) {
    let resource = roster.resource();
    let probe = |endpoint| Rc::new(Probe::new(resource, &health, endpoint));
    let probes: Vec<Rc<Probe>> = roster.endpoints().into_iter().map(probe).collect();
    let mut seats = roster.watch();
    let mut checked: Vec<(Arc<Seat>, JoinSet<()>)> = Vec::new();
    loop {
        let present = Arc::clone(&seats.borrow_and_update());
        checked.retain(|(seat, _)| present.iter().any(|present| Arc::ptr_eq(present, seat)));
        for seat in present.iter() {
            if checked.iter().any(|(checked, _)| Arc::ptr_eq(checked, seat)) {
                continue;
            }
            let Some(probe) = probes.get(seat.upstream()) else { continue };
            let mut task = JoinSet::new();
            let (roster, seat, probe) = (Arc::clone(&roster), Arc::clone(seat), Rc::clone(probe));
            let entry = Arc::clone(&seat);
            task.spawn_local(check(roster, seat, health.clone(), probe, Arc::clone(&board)));
            checked.push((entry, task));
        }
        if seats.changed().await.is_err() {
            return;
        }
    }
}

/// Checks one address again and again.
async fn check(roster: Arc<Roster>, seat: Arc<Seat>, health: HealthCheck, probe: Rc<Probe>, board: Arc<Board>) {
    let policy = CheckPolicy { healthy_after: health.healthy_after, unhealthy_after: health.unhealthy_after };
    let mut checks = Checks::new(policy, !seat.fails_checks());
    let mut ticks = interval(health.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let resource = roster.resource().name.as_str();
    loop {
        ticks.tick().await;
        let Some(result) = probe.check(&seat, &board.limits()).await else {
            tracing::warn!(
                resource,
                upstream = &**seat.label(),
                "no descriptor is left for a health check; what was found out before holds"
            );
            continue;
        };
        let has_changed = checks.observe(result.is_ok());
        let reason = result.err();
        match (has_changed, checks.is_healthy()) {
            (true, true) => {
                tracing::info!(resource, upstream = &**seat.label(), "the upstream passes its health checks again")
            }
            (true, false) => {
                tracing::warn!(
                    resource,
                    upstream = &**seat.label(),
                    reason,
                    "the upstream fails its health checks and is not used"
                );
            }
            (false, _) => {}
        }
        seat.checked(checks.is_healthy(), reason);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::config::Resource;
    use crate::limits::Limits;

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let waited = timeout(Duration::from_secs(20), async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
    }

    /// Checks begin and end with what the board shows, for addresses that a look-up brings too; a service is asked once an
    /// interval, however many would like to know.
    #[tokio::test]
    async fn the_keeper_follows_the_board() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let is_well = Rc::new(std::cell::Cell::new(false));
        let local = LocalSet::new();
        let answers = Rc::clone(&is_well);
        local.spawn_local(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("accepted");
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let status = if answers.get() { 204 } else { 503 };
                let _ = stream.write_all(format!("HTTP/1.1 {status} X\r\n\r\n").as_bytes()).await;
            }
        });
        let health = HealthCheck {
            path: "/".into(),
            interval: Duration::from_millis(5),
            timeout: Duration::from_secs(10),
            healthy_after: 2,
            unhealthy_after: 2,
            status: vec![200..=299],
        };
        let plain = Resource::for_tests(&["http://orders.internal"]);
        let checked = Resource { health: Some(health), ..plain.clone() };
        let board = Board::new();
        let (shutdown, is_down) = watch::channel(false);
        let lookup: Rc<Lookup> = Rc::new(move |_, _| Box::pin(async move { Ok(vec![address]) }));
        let (kept, kept_board) = (is_down, Arc::clone(&board));
        let keeper = local.spawn_local(async move { keep(&kept_board, kept, lookup).await });
        local
            .run_until(async {
                let first = Roster::of_all(&[checked], &[], &[]);
                board.set(&first, &Limits::default());
                let seats = || Arc::clone(&first[0].watch().borrow());
                until("an address and a verdict", || seats().first().is_some_and(|seat| seat.fails_checks())).await;
                let report = &board.snapshot()[0].addresses[0];
                assert_eq!(report.reason.as_deref(), Some("it answered its health check with 503"));
                is_well.set(true);
                until("it is well again", || !seats()[0].fails_checks()).await;
                is_well.set(false);
                until("it is not", || seats()[0].fails_checks()).await;
                // Without checks nobody says anything against it, and nobody asks.
                let second = Roster::of_all(&[plain], &[], &first);
                board.set(&second, &Limits::default());
                assert!(!second[0].watch().borrow()[0].fails_checks());
                shutdown.send_replace(true);
                keeper.await.expect("ended");
            })
            .await;
    }
}
