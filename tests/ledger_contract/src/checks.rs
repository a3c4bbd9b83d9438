//! The checks. Each panics with what it found, as tests do.

use postern_gateway::ledger::record::{AppendError, Condition};
use postern_gateway::ledger::{Entry, Expected, Position, Record};

use crate::{Engine, Recorder, revoked};

async fn all(record: &dyn Record) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().map_or(Position::START, |entry| entry.position);
        let page = record.read(after, 7).await.expect("a sound record can be read");
        if page.is_empty() {
            return entries;
        }
        entries.extend(page);
    }
}

pub(crate) async fn positions_count_from_one_without_gaps(engine: &impl Engine) {
    let record = engine.open(Recorder::default().boxed());
    assert_eq!(*record.tail().borrow(), Position::START);
    assert_eq!(record.condition(), Condition::Writable);
    for number in 1..=20 {
        let position = record.append(vec![revoked(number)], Expected::Any).await.expect("appended");
        assert_eq!(position, Position(number));
    }
    let entries = all(record.as_ref()).await;
    assert_eq!(entries.len(), 20);
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!(entry.position, Position(index as u64 + 1));
        assert_eq!(entry.happening, revoked(index as u64 + 1));
    }
}

pub(crate) async fn an_append_stands_together(engine: &impl Engine) {
    let record = engine.open(Recorder::default().boxed());
    let happenings: Vec<_> = (1..=5).map(revoked).collect();
    assert_eq!(record.append(happenings.clone(), Expected::Any).await, Ok(Position(5)));
    let stored: Vec<_> = all(record.as_ref()).await.into_iter().map(|entry| entry.happening).collect();
    assert_eq!(stored, happenings);
    assert_eq!(record.append(Vec::new(), Expected::Any).await, Ok(Position(5)), "an empty append tells the end");
}

pub(crate) async fn another_expected_position_changes_nothing(engine: &impl Engine) {
    let record = engine.open(Recorder::default().boxed());
    record.append(vec![revoked(1)], Expected::At(Position::START)).await.expect("the record is empty");
    let (expected, actual) = (Position::START, Position(1));
    let conflict = record.append(vec![revoked(2)], Expected::At(expected)).await;
    assert_eq!(conflict, Err(AppendError::Conflict { expected, actual }));
    assert_eq!(all(record.as_ref()).await.len(), 1);
    // Two at once that expect the same place: exactly one stands, whatever the engine groups together.
    let one = record.append(vec![revoked(3)], Expected::At(Position(1)));
    let two = record.append(vec![revoked(4)], Expected::At(Position(1)));
    let outcomes = [one.await, two.await];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert_eq!(all(record.as_ref()).await.len(), 2);
}

pub(crate) async fn whoever_is_acknowledged_has_been_observed(engine: &impl Engine) {
    let recorder = Recorder::default();
    let record = engine.open(recorder.boxed());
    for number in 1..=50 {
        let position = record.append(vec![revoked(number)], Expected::Any).await.expect("appended");
        let observed = recorder.so_far();
        assert_eq!(observed.state.position(), position, "acknowledged before it was in force");
        assert!(*record.tail().borrow() >= position);
    }
}

pub(crate) async fn opening_again_replays_everything_once_in_order(engine: &impl Engine) {
    let mut before = Recorder::default().so_far();
    for round in 0..3 {
        let recorder = Recorder::default();
        let record = engine.open(recorder.boxed());
        let replayed = recorder.so_far();
        assert_eq!(replayed.state, before.state, "what was rebuilt is what was live, round {round}");
        assert_eq!(replayed.entries, before.entries);
        for number in 0..10 {
            record.append(vec![revoked(round * 100 + number)], Expected::Any).await.expect("appended");
        }
        before = recorder.so_far();
        drop(record);
    }
}

pub(crate) async fn reading_pages_through(engine: &impl Engine) {
    let record = engine.open(Recorder::default().boxed());
    record.append((1..=10).map(revoked).collect(), Expected::Any).await.expect("appended");
    let places = async |after: u64, entries_max: usize| {
        let page = record.read(Position(after), entries_max).await.expect("read");
        page.iter().map(|entry| entry.position.0).collect::<Vec<_>>()
    };
    assert_eq!(places(0, 3).await, [1, 2, 3]);
    assert_eq!(places(3, 3).await, [4, 5, 6]);
    assert_eq!(places(9, 3).await, [10]);
    assert_eq!(places(10, 3).await, [0; 0]);
    assert_eq!(places(99, 3).await, [0; 0], "beyond the end is nothing yet");
    assert_eq!(places(u64::MAX, 3).await, [0; 0]);
    assert_eq!(places(2, 0).await, [0; 0]);
}

pub(crate) async fn the_tail_wakes_a_follower(engine: &impl Engine) {
    let record = engine.open(Recorder::default().boxed());
    let mut tail = record.tail();
    let follow = async {
        let mut seen = Vec::new();
        while seen.len() < 6 {
            let after = seen.last().copied().unwrap_or(Position::START);
            tail.wait_for(|end| *end > after).await.expect("the engine lives");
            let page = record.read(after, 2).await.expect("read");
            assert!(!page.is_empty(), "the tail said that there is more");
            seen.extend(page.iter().map(|entry| entry.position));
        }
        seen
    };
    let append = async {
        for number in 1..=3 {
            record.append(vec![revoked(number), revoked(number + 10)], Expected::Any).await.expect("appended");
        }
    };
    let (seen, ()) = tokio::join!(follow, append);
    assert_eq!(seen, (1..=6).map(Position).collect::<Vec<_>>());
}

pub(crate) async fn concurrent_appends_are_ordered_and_none_is_lost(engine: &impl Engine) {
    let recorder = Recorder::default();
    let record = engine.open(recorder.boxed());
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let record = std::sync::Arc::clone(&record);
            tokio::spawn(
                async move { record.append(vec![revoked(number), revoked(number + 1_000)], Expected::Any).await },
            )
        })
        .collect();
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await.expect("no panic").expect("appended"));
    }
    let mut sorted = ends.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), ends.len(), "every append has a place of its own");
    let entries = all(record.as_ref()).await;
    assert_eq!(entries.len(), 400);
    assert_eq!(entries, recorder.so_far().entries);
    for pair in entries.chunks(2) {
        let at = |entry: &Entry| entry.happening.at;
        assert_eq!(at(&pair[0]) + 1_000, at(&pair[1]), "two events of one append stand side by side");
    }
}

pub(crate) async fn an_abandoned_append_is_whole_or_absent(engine: &impl Engine) {
    let record = engine.open(Recorder::default().boxed());
    for number in 0..20 {
        drop(record.append(vec![revoked(number), revoked(number + 1_000)], Expected::Any));
    }
    record.append(vec![revoked(5_000), revoked(6_000)], Expected::Any).await.expect("appended");
    let entries = all(record.as_ref()).await;
    assert_eq!(entries.len() % 2, 0);
    for pair in entries.chunks(2) {
        assert_eq!(pair[0].happening.at + 1_000, pair[1].happening.at);
    }
}
