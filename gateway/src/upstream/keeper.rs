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
use super::endpoint::Endpoint;
use super::health::{CheckPolicy, Checks};
use super::probe::Probe;
use super::resolve::{self, Lookup, keep_resolved};
use crate::config::HealthCheck;

/// Starts the thread. It ends when `shutdown` says so.
///
/// # Errors
/// The system has no thread for it.
pub fn start(board: Arc<Board>, shutdown: watch::Receiver<bool>) -> io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
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
    let probe = |upstream| Rc::new(Probe::new(resource, &health, Endpoint::new(upstream)));
    let probes: Vec<Rc<Probe>> = resource.upstream.iter().map(probe).collect();
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
        let result = probe.check(&seat, &board.limits()).await;
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
