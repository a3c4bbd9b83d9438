//! What ends which leases, whom it wakes, and whom it does not hold up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use postern_capabilities::keys::KeyRing;

use super::super::terms::tests::{NOW, Scene, message};
use super::*;

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Held {
    lease: Lease,
    wakes: Arc<Wakes>,
}

impl Held {
    fn poll(&self) -> Option<Fallen> {
        match self.lease.poll_fallen(&mut Context::from_waker(&Arc::clone(&self.wakes).into())) {
            Poll::Ready(fallen) => Some(fallen),
            Poll::Pending => None,
        }
    }

    fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::Relaxed)
    }
}

struct World {
    scene: Scene,
    leases: Rc<Leases>,
}

impl World {
    fn new() -> Self {
        let scene = Scene::new();
        Self { leases: Leases::new(Arc::clone(&scene.standing)), scene }
    }

    /// A lease of a capability of its own, waited for.
    fn hold(&self, checks: &[&str]) -> (Held, RevocationId) {
        let capability = self.scene.capability(checks);
        let held = Held { lease: self.leases.hold(Terms::of(&capability, &message())), wakes: Arc::default() };
        assert_eq!(held.poll(), None);
        (held, capability.revocation_ids()[0])
    }

    /// A tick, and all that is to be done for it.
    fn tick(&self, now: u64) {
        self.leases.tick(now);
        while self.leases.slice() {}
    }

    fn grow_up(&self) {
        (0..3).for_each(|_| self.tick(NOW));
    }

    fn is_empty(&self) -> bool {
        let entries = self.leases.entries.borrow();
        self.leases.count() == 0
            && entries.young.is_empty()
            && entries.by_id.is_empty()
            && entries.due.is_empty()
            && entries.cases.is_empty()
    }
}

/// Law 6.
#[test]
fn a_revocation_ends_its_leases_and_wakes_no_other_whether_young_or_grown() {
    for grown in [false, true] {
        let world = World::new();
        let held: Vec<_> = (0..5).map(|_| world.hold(&[])).collect();
        if grown {
            world.grow_up();
            assert!(world.leases.entries.borrow().young.is_empty());
        }
        world.scene.standing.revoke(&[held[1].1, held[3].1]);
        world.leases.settle();
        let wakes: Vec<_> = held.iter().map(|(held, _)| held.wakes()).collect();
        assert_eq!(wakes, [0, 1, 0, 1, 0]);
        let fallen: Vec<_> = held.iter().map(|(held, _)| held.poll().is_some()).collect();
        assert_eq!(fallen, [false, true, false, true, false]);
        drop(held);
        assert!(world.is_empty());
    }
}

#[test]
fn a_revocation_is_felt_before_the_registry_has_looked() {
    let world = World::new();
    let (held, id) = world.hold(&[]);
    world.grow_up();
    world.scene.standing.revoke(&[id]);
    assert_eq!(held.poll(), Some(Fallen::Revoked { block: 0 }));
    assert_eq!(held.lease.fallen(), Some(Fallen::Revoked { block: 0 }));
}

#[test]
fn a_retired_key_ends_every_lease_under_it() {
    let world = World::new();
    let held: Vec<_> = (0..3).map(|_| world.hold(&[]).0).collect();
    world.grow_up();
    world.scene.standing.set_keys(world.scene.standing.keys());
    world.leases.settle();
    assert!(held.iter().all(|held| held.wakes() == 0 && held.poll().is_none()), "new keys alone end nothing");
    world.scene.standing.set_keys(KeyRing::new());
    world.leases.settle();
    assert!(held.iter().all(|held| held.wakes() == 1 && held.poll() == Some(Fallen::KeyRetired)));
}

#[test]
fn time_ends_a_lease_at_its_second() {
    let world = World::new();
    let (expiring, _) = world.hold(&["check if time($t), $t <= 2026-01-01T00:00:10Z"]);
    let (stopped, _) = world.hold(&["check if time($t), $t < 2026-01-01T00:00:10Z"]);
    let (staying, _) = world.hold(&["check if time($t), $t != 2026-01-01T00:00:05Z"]);
    world.grow_up();
    // Nobody looked at the one second that it does not hold in.
    world.tick(NOW + 9);
    assert_eq!([&expiring, &stopped, &staying].map(|held| held.poll().is_some()), [false; 3]);
    world.tick(NOW + 10);
    assert_eq!([&expiring, &stopped, &staying].map(Held::wakes), [0, 1, 0]);
    assert_eq!(stopped.poll().map(|fallen| fallen.kind()), Some("not-permitted"));
    world.tick(NOW + 11);
    assert_eq!(expiring.poll(), Some(Fallen::Expired { at: NOW + 10 }));
    assert_eq!((staying.poll(), staying.wakes()), (None, 0));
    drop((expiring, stopped, staying));
    assert!(world.is_empty());
}

/// The story: 3,000 idle event streams under a token with 60 dates were all decided again at each date, in one go, and a
/// revocation that was acknowledged meanwhile waited for it.
#[test]
fn law_5_dates_of_idle_streams_hold_up_nobody() {
    const STREAMS: usize = 3_000;
    let world = World::new();
    const DATES: u64 = 40;
    let dates: String = (1..DATES).map(|second| format!("$t != 2026-01-01T00:00:{second:02}Z, ")).collect();
    let check = format!("check if time($t), {dates}$t < 2027-01-01T00:00:00Z");
    let capability = world.scene.capability(&[&check]);
    let paths: Vec<_> = (0..STREAMS).map(|stream| format!("/a/{stream}")).collect();
    let _idle: Vec<_> = paths
        .iter()
        .map(|path| {
            let message = postern_capabilities::Message { path, ..message() };
            world.leases.hold(Terms::of(&capability, &message))
        })
        .collect();
    let (unrelated, id) = world.hold(&[]);
    world.grow_up();
    for second in 1..=DATES {
        world.leases.tick(NOW + second);
    }
    assert_eq!(world.leases.entries.borrow().queue.len(), STREAMS, "each is due once, however many dates have come");
    assert!(world.leases.slice());
    let left = world.leases.entries.borrow().queue.len();
    let most = usize::try_from(SLICE_STEPS / capability.price()).expect("small") + 1;
    assert!((STREAMS - most..STREAMS).contains(&left), "{left} are left after one slice");
    world.scene.standing.revoke(&[id]);
    assert!(world.leases.slice());
    assert_eq!((unrelated.wakes(), unrelated.poll()), (1, Some(Fallen::Revoked { block: 0 })), "at the next slice");
    while world.leases.slice() {}
    assert_eq!(world.leases.entries.borrow().due.len(), STREAMS, "the last date is still to come");
}

#[test]
fn streams_of_one_message_are_decided_once() {
    let world = World::new();
    let capability = world.scene.capability(&["check if time($t), $t < 2026-01-01T00:00:10Z"]);
    let held: Vec<_> = (0..3_000).map(|_| world.leases.hold(Terms::of(&capability, &message()))).collect();
    world.grow_up();
    assert_eq!(world.leases.entries.borrow().cases.len(), 1);
    world.leases.tick(NOW + 10);
    let slices = 1 + std::iter::from_fn(|| world.leases.slice().then_some(())).count();
    let looks = (3_000 * LOOK_STEPS + capability.price()).div_ceil(SLICE_STEPS);
    assert!(slices as u64 <= looks + 1, "{slices} slices, {looks} for looking alone");
    assert!(held.iter().all(|lease| lease.fallen().map(|fallen| fallen.kind()) == Some("not-permitted")));
    drop(held);
    assert!(world.is_empty());
}

#[test]
fn what_moves_before_its_slice_is_decided_then() {
    let world = World::new();
    let (held, _) = world.hold(&["check if time($t), $t < 2026-01-01T00:00:10Z"]);
    world.grow_up();
    world.leases.tick(NOW + 10);
    assert_eq!(held.poll().map(|fallen| fallen.kind()), Some("not-permitted"));
    while world.leases.slice() {}
    drop(held);
    assert!(world.is_empty());
}

#[test]
fn what_became_due_while_young_is_decided_when_grown() {
    let world = World::new();
    let (held, _) = world.hold(&["check if time($t), $t <= 2026-01-01T00:00:00Z"]);
    (0..3).for_each(|_| world.tick(NOW + 30));
    assert_eq!(held.poll(), Some(Fallen::Expired { at: NOW }));
}

#[test]
fn leases_come_and_go_in_any_order() {
    let world = World::new();
    let mut held: Vec<Option<(Held, RevocationId)>> = Vec::new();
    for round in 0..40_usize {
        held.push(Some(world.hold(&["check if time($t), $t <= 2027-01-01T00:00:00Z"])));
        if round % 3 == 0 {
            world.tick(NOW);
        }
        let at = round * 7 % held.len();
        held[at] = None;
    }
    let left: Vec<_> = held.into_iter().flatten().collect();
    assert_eq!(world.leases.count(), left.len());
    for (held, id) in &left {
        world.scene.standing.revoke(&[*id]);
        world.leases.settle();
        assert_eq!(held.wakes(), 1);
    }
    drop(left);
    assert!(world.is_empty());
}

#[tokio::test]
async fn the_registry_is_told_of_changes_by_other_threads() {
    let world = World::new();
    let (held, id) = world.hold(&[]);
    let standing = Arc::clone(&world.scene.standing);
    let local = tokio::task::LocalSet::new();
    local.spawn_local(Rc::clone(&world.leases).run());
    let fell = local.run_until(async {
        let revoking = std::thread::spawn(move || standing.revoke(&[id]));
        let fell = held.lease.fell().await;
        revoking.join().expect("revoked");
        fell
    });
    let fell = tokio::time::timeout(std::time::Duration::from_secs(10), fell).await.expect("told");
    assert_eq!(fell, Fallen::Revoked { block: 0 });
}
