//! What the embedded engine owes beyond the contract: its file, its locks, its failures.

use std::sync::PoisonError;

use postern_capabilities::keys::KeyRing;
use postern_capabilities::revocation::{RevocationId, Standing};

use super::super::event::{By, Event};
use super::super::projection::{Projection, Projector};
use super::super::record::Damage;
use super::super::verify::verify;
use super::*;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions { now: || 1_000, ..EmbeddedOptions::new(self.0.path().join("ledger.db")) }
    }

    fn open(&self) -> Result<(Embedded, Projection), OpenError> {
        open(&self.options())
    }

    /// A closed ledger with this many revocations.
    fn with_records(count: u64) -> Self {
        let place = Self::new();
        let (ledger, _) = place.open().unwrap();
        append(&ledger, 1..=count).unwrap();
        place
    }

    fn sql(&self, statement: &str) {
        rusqlite::Connection::open(self.options().file).unwrap().execute_batch(statement).unwrap();
    }

    fn damage(&self) -> Damage {
        match self.open().err().unwrap() {
            OpenError::Damaged { damage, file } => {
                assert_eq!(file, self.options().file);
                damage
            }
            other => panic!("{other}"),
        }
    }
}

fn open(options: &EmbeddedOptions) -> Result<(Embedded, Projection), OpenError> {
    let projector = Projector::new(Arc::new(Standing::new(KeyRing::new())), Arc::default());
    let live = projector.live();
    let ledger = Embedded::open(options, Box::new(projector), Arc::default())?;
    let state = live.read().clone();
    Ok((ledger, state))
}

fn happening(number: u64) -> Happening {
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let id = RevocationId::from_bytes(&bytes).unwrap();
    Happening { at: number, by: By::gateway(), event: Event::Revoked { id } }
}

fn append(ledger: &Embedded, numbers: impl Iterator<Item = u64>) -> Result<Position, AppendError> {
    block_on(ledger.append(numbers.map(happening).collect(), Expected::Any))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn the_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let (ledger, _) = place.open().unwrap();
    append(&ledger, 1..=1).unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(place.0.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.file_name());
        seen += 1;
    }
    assert_eq!(seen, 5, "database, write-ahead log, its index, lock, mark");
}

#[test]
fn a_flipped_byte_is_found_at_start_and_by_verify() {
    let place = Place::with_records(10);
    assert!(verify(&place.options().file).unwrap().is_sound());
    let mut bytes = std::fs::read(place.options().file).unwrap();
    let needle = happening(7).to_body();
    let at = bytes.windows(needle.len()).position(|part| part == needle).unwrap();
    bytes[at + 6] ^= 1;
    std::fs::write(place.options().file, bytes).unwrap();
    assert_eq!(place.damage(), Damage::Checksum(Position(7)));
    let report = verify(&place.options().file).unwrap();
    assert_eq!(report.good_until, Position(6));
    assert!(report.to_string().contains("record 7 is damaged"), "{report}");
}

#[test]
fn missing_moved_and_cut_off_records_are_found() {
    let place = Place::with_records(10);
    place.sql("DELETE FROM record WHERE position = 4");
    let missing = Damage::Missing { missing: Position(4), after: Position(3), found: Position(5) };
    assert_eq!(place.damage(), missing);

    let place = Place::with_records(10);
    place.sql("DELETE FROM record WHERE position = 10");
    assert_eq!(place.damage(), Damage::CutOff { found: Position(9), head: Position(10) });

    let place = Place::with_records(10);
    place.sql("UPDATE record SET position = 99 WHERE position = 3; UPDATE record SET position = 3 WHERE position = 4; UPDATE record SET position = 4 WHERE position = 99");
    assert_eq!(place.damage(), Damage::Checksum(Position(3)));

    let place = Place::with_records(10);
    place.sql("DELETE FROM head");
    assert!(matches!(place.damage(), Damage::File(_)));
    assert!(!verify(&place.options().file).unwrap().is_sound());
}

#[test]
fn a_stored_state_that_the_record_does_not_yield_is_found() {
    let place = Place::with_records(3);
    place.sql("UPDATE state SET digest = zeroblob(32)");
    let report = verify(&place.options().file).unwrap();
    assert_eq!(report.damage.len(), 1);
    assert!(report.damage[0].contains("state stored at record 3"), "{report}");
}

#[test]
fn a_newer_schema_another_database_and_rubbish_are_refused() {
    let place = Place::with_records(1);
    place.sql("PRAGMA user_version = 3");
    assert!(matches!(place.open().err().unwrap(), OpenError::Newer { found: 3, .. }));
    assert!(matches!(verify(&place.options().file).unwrap_err(), OpenError::Newer { .. }));

    let place = Place::new();
    place.sql("CREATE TABLE somebody (else_ TEXT)");
    assert!(matches!(place.open().err().unwrap(), OpenError::NotALedger { .. }));

    let place = Place::new();
    std::fs::write(place.options().file, "not a database, and longer than a header of SQLite: ".repeat(9)).unwrap();
    assert!(matches!(place.open().err().unwrap(), OpenError::NotALedger { .. }));
}

#[test]
fn a_newer_event_is_refused_and_not_skipped() {
    let place = Place::with_records(2);
    let connection = rusqlite::Connection::open(place.options().file).unwrap();
    let head = schema::head(&connection).unwrap().unwrap();
    let body = br#"{"at":1,"by":"x","event":"message-accepted"}"#;
    let chain = head.chain.follow(Position(3), 2, body);
    connection
        .execute("INSERT INTO record VALUES (3, 2, ?1, ?2)", rusqlite::params![body, chain.0])
        .and_then(|_| connection.execute("UPDATE head SET position = 3, chain = ?1", [chain.0]))
        .unwrap();
    assert!(matches!(place.damage(), Damage::Event { position: Position(3), .. }));
}

#[test]
fn one_gateway_at_a_time() {
    let place = Place::new();
    let (ledger, _) = place.open().unwrap();
    let sentence = place.open().err().unwrap().to_string();
    assert!(sentence.contains("in use by another gateway (process "), "{sentence}");
    assert!(sentence.contains("ledger.db") && sentence.contains("--state"), "{sentence}");
    drop(ledger);
    place.open().unwrap();
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let place = Place::new();
    let file = place.0.path().join("nowhere").join("ledger.db");
    let error = open(&EmbeddedOptions::new(&file)).err().unwrap();
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert!(matches!(verify(&file).unwrap_err(), OpenError::Unusable { .. }));
}

#[test]
fn a_ledger_that_is_empty_is_refused_and_never_filled() {
    let place = Place::new();
    let file = place.options().file;
    let refused = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        for error in [place.open().err().unwrap(), verify(&file).unwrap_err()] {
            assert!(matches!(error, OpenError::Empty { .. }), "{error}");
            assert!(error.to_string().contains("backup") && error.to_string().contains("keys.json"), "{error}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "it stays as it was found");
    };
    refused(b"");
    // What a copy without the write-ahead log may leave: a first page and no tables.
    let shell = place.0.path().join("shell.db");
    let other = rusqlite::Connection::open(&shell).unwrap();
    other.execute_batch("PRAGMA journal_mode = DELETE; CREATE TABLE a (b); DROP TABLE a; VACUUM").unwrap();
    drop(other);
    let shell = std::fs::read(shell).unwrap();
    assert_eq!(shell.len(), 4096);
    refused(&shell);
}

#[test]
fn only_a_ledger_that_was_never_there_is_made() {
    let place = Place::new();
    let file = place.options().file;
    // Left by a start that was ended while it made the file.
    std::fs::write(file.with_extension("new"), "half").unwrap();
    std::fs::write(file.with_extension("new-journal"), "half").unwrap();
    drop(place.open().unwrap());
    assert!(!file.with_extension("new").exists());

    std::fs::remove_file(&file).unwrap();
    std::fs::write(place.0.path().join("ledger.db-wal"), "x").unwrap();
    let error = place.open().err().unwrap();
    assert!(matches!(error, OpenError::OnlyWal { .. }), "{error}");
    std::fs::remove_file(place.0.path().join("ledger.db-wal")).unwrap();

    // A link that leads nowhere is a volume that is not mounted.
    std::os::unix::fs::symlink(place.0.path().join("volume").join("ledger.db"), &file).unwrap();
    let error = place.open().err().unwrap();
    assert!(matches!(error, OpenError::Unusable { .. }), "{error}");
}

#[test]
fn another_programs_lock_refuses_and_passes() {
    let place = Place::new();
    let (ledger, _) = place.open().unwrap();
    let other = rusqlite::Connection::open(place.options().file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = append(&ledger, 1..=1).unwrap_err();
    assert!(matches!(&refused, AppendError::Unavailable(reason) if reason.contains("another program")), "{refused}");
    assert_eq!(ledger.condition(), Condition::Writable, "a lock passes");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(append(&ledger, 1..=1), Ok(Position(1)));
    drop(ledger);
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(matches!(place.open().err().unwrap(), OpenError::Locked { .. }));
}

#[test]
fn old_records_are_folded_and_their_revocations_stay() {
    let place = Place::with_records(3_000);
    let (_, live) = place.open().unwrap();
    let options =
        EmbeddedOptions { now: || 100_000, retention: Duration::from_secs(100_000 - 2_501), ..place.options() };
    let (ledger, folded) = open(&options).unwrap();
    assert_eq!(folded, live, "folding changes no state");
    let first = block_on(ledger.read(Position::START, 1)).unwrap();
    assert_eq!(first[0].position, Position(2_501));
    assert_eq!(append(&ledger, 9_000..=9_000), Ok(Position(3_001)));
    drop(ledger);
    let report = verify(&options.file).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.folded_until, report.good_until, report.revoked), (Position(2_500), Position(3_001), 3_001));
    // Twice folds on top of a snapshot.
    let (_, again) = open(&EmbeddedOptions { retention: Duration::ZERO, ..options }).unwrap();
    assert_eq!(again.revoked().len(), 3_001);
    place.sql(r#"UPDATE snapshot SET body = CAST(replace(CAST(body AS TEXT), '"mints":[]', '"mints": []') AS BLOB)"#);
    assert!(matches!(place.damage(), Damage::Snapshot(_)));
}

/// The writer by itself, so that a test can reach its connection.
fn writer(place: &Place) -> (Writer, Arc<Mutex<Condition>>) {
    let condition = Arc::new(Mutex::new(Condition::Writable));
    let projector = Projector::new(Arc::new(Standing::new(KeyRing::new())), Arc::default());
    let (writer, ..) =
        Writer::open(&place.options(), Box::new(projector), Arc::default(), Arc::clone(&condition)).unwrap();
    (writer, condition)
}

fn write(writer: &mut Writer, numbers: impl Iterator<Item = u64>) -> Result<Position, AppendError> {
    let (answer, answered) = oneshot::channel();
    let events = numbers.map(happening).map(|happening| (happening.to_body(), happening)).collect();
    writer.write(vec![Append { events, expected: Expected::Any, floor: None, answer }]);
    answered.blocking_recv().unwrap()
}

fn is(condition: &Mutex<Condition>) -> Condition {
    condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[test]
fn a_full_disk_refuses_says_so_and_recovers_by_itself() {
    let place = Place::new();
    let (mut writer, condition) = writer(&place);
    assert_eq!(write(&mut writer, 1..=1), Ok(Position(1)));
    writer.connection().pragma_update(None, "max_page_count", 1).unwrap();
    let refused = write(&mut writer, 2..=900).unwrap_err();
    assert!(matches!(&refused, AppendError::Unavailable(reason) if reason.contains("disk is full")), "{refused}");
    assert!(matches!(is(&condition), Condition::Waiting(_)));
    writer.probe();
    assert!(matches!(is(&condition), Condition::Waiting(_)), "there is no room yet");
    writer.connection().pragma_update(None, "max_page_count", 100_000).unwrap();
    writer.probe();
    assert_eq!(is(&condition), Condition::Writable);
    assert_eq!(write(&mut writer, 2..=900), Ok(Position(900)));
    drop(writer);
    assert!(verify(&place.options().file).unwrap().is_sound());
}

#[test]
fn any_other_failed_write_ends_writing_until_a_restart() {
    let place = Place::new();
    let (mut writer, condition) = writer(&place);
    assert_eq!(write(&mut writer, 1..=1), Ok(Position(1)));
    writer.connection().execute_batch("ALTER TABLE record RENAME TO away").unwrap();
    assert!(matches!(write(&mut writer, 2..=2), Err(AppendError::ReadOnly(_))));
    writer.connection().execute_batch("ALTER TABLE away RENAME TO record").unwrap();
    assert!(matches!(write(&mut writer, 2..=2), Err(AppendError::ReadOnly(_))), "no retry as if nothing had happened");
    assert!(matches!(is(&condition), Condition::ReadOnly(_)));
    drop(writer);
    let (ledger, state) = place.open().unwrap();
    assert_eq!(state.position(), Position(1));
    assert_eq!(append(&ledger, 2..=2), Ok(Position(2)));
}

#[test]
fn a_full_queue_refuses_at_once() {
    let place = Place::new();
    let (ledger, _) = open(&EmbeddedOptions { queue_max: 1, ..place.options() }).unwrap();
    // Another program's lock keeps the writer busy with what it has taken, however much that is; the queue fills behind it.
    let other = rusqlite::Connection::open(place.options().file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting: Vec<_> = (0..256).map(|number| ledger.append(vec![happening(number)], Expected::Any)).collect();
    other.execute_batch("ROLLBACK").unwrap();
    let outcomes: Vec<_> = waiting.into_iter().map(block_on).collect();
    assert!(outcomes.contains(&Err(AppendError::QueueFull { queue_max: 1 })), "{outcomes:?}");
}

/// A ledger that the first version wrote and closed: two keys, a rotation, mints under the capabilities of both.
#[test]
fn a_ledger_of_the_first_schema_is_taken_over_and_loses_nothing() {
    use postern_capabilities::keys::KeyId;

    let place = Place::new();
    let file = place.options().file;
    std::fs::write(&file, include_bytes!("stored/schema-1.db")).unwrap();
    let report = verify(&file).unwrap();
    assert!(report.is_sound() && report.revoked == 1, "before it is taken over: {report}");

    let (ledger, state) = place.open().unwrap();
    assert_eq!((state.position(), state.revoked().len(), state.minted_count()), (Position(10), 1, 5));
    // Of the four that were handed out one is revoked; one was minted under the renewed administration capability.
    let count = |key| state.live_mints(KeyId(key), 0).values().sum::<usize>();
    assert_eq!([count(0), count(1)], [2, 1]);
    let retired = Happening { at: 7, by: By::gateway(), event: Event::KeyRetired { id: KeyId(0) } };
    block_on(ledger.append(vec![retired], Expected::Any)).unwrap();
    drop(ledger);
    let (ledger, state) = place.open().unwrap();
    assert_eq!((state.position(), state.revoked().len()), (Position(11), 3));
    drop(ledger);
    let report = verify(&file).unwrap();
    assert!(report.is_sound() && report.good_until == Position(11), "{report}");
}

/// The story: an older copy of the ledger was put back, as sound as the newest, and what had been revoked since passed.
#[test]
fn an_older_ledger_put_back_is_refused_and_a_mint_needs_no_mark() {
    let place = Place::with_records(3);
    let file = place.options().file;
    let mark = file.with_extension("mark");
    let older = std::fs::read(&file).unwrap();
    let marked = std::fs::read(&mark).unwrap();
    let (ledger, _) = place.open().unwrap();
    let minted = Event::Minted {
        resource: "orders".parse().unwrap(),
        id: RevocationId::from_bytes(&[9; 64]).unwrap(),
        under: vec![],
        key: None,
        until: None,
    };
    block_on(ledger.append(vec![Happening { at: 1, by: By::gateway(), event: minted }], Expected::Any)).unwrap();
    assert_eq!(std::fs::read(&mark).unwrap(), marked, "a mint marks nothing");
    append(&ledger, 4..=4).unwrap();
    assert_ne!(std::fs::read(&mark).unwrap(), marked, "marked when the revocation is acknowledged");
    drop(ledger);
    let newest = std::fs::read(&file).unwrap();

    std::fs::write(&file, &older).unwrap();
    let error = place.open().err().unwrap();
    assert!(matches!(error, OpenError::Older { marked: Position(5), .. }), "{error}");
    assert!(error.to_string().contains("ledger.mark"), "{error}");
    assert!(matches!(super::super::glance::glance(&file), Err(OpenError::Older { .. })));
    assert!(verify(&file).unwrap().to_string().contains("an older one"));
    // Another history of the same length is none of this one either.
    let other = Place::with_records(5);
    std::fs::copy(other.options().file, &file).unwrap();
    assert!(matches!(place.open(), Err(OpenError::Older { .. })));

    std::fs::write(&file, newest).unwrap();
    drop(place.open().unwrap());
    // Whoever means it removes the mark.
    std::fs::write(&file, older).unwrap();
    std::fs::remove_file(&mark).unwrap();
    drop(place.open().unwrap());
    assert!(mark.exists());
    // A ledger that is gone is not begun anew.
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(place.open(), Err(OpenError::OnlyMark { .. })));
}

#[test]
fn a_mark_that_cannot_be_written_ends_acknowledgements() {
    let place = Place::new();
    let (ledger, _) = place.open().unwrap();
    append(&ledger, 1..=1).unwrap();
    drop(ledger);
    let (mut writer, _) = writer(&place);
    writer.forbid_marking(&place.options().file);
    let outcome = write(&mut writer, 2..=2);
    assert!(matches!(&outcome, Err(AppendError::ReadOnly(why)) if why.contains("mark")), "{outcome:?}");
}

#[test]
fn the_clocks_floor_is_kept_and_can_be_given_up() {
    let place = Place::new();
    let (ledger, _) = place.open().unwrap();
    assert_eq!(ledger.floor(), None);
    assert_eq!(block_on(ledger.keep_floor(5_000, vec![])), Ok(Position::START), "no record for it");
    drop(ledger);
    let (ledger, _) = place.open().unwrap();
    assert_eq!(ledger.floor(), Some(5_000));
    let accepted = Happening { at: 40, by: By::gateway(), event: Event::ClockAccepted { floor: 5_000 } };
    assert_eq!(block_on(ledger.keep_floor(40, vec![accepted])), Ok(Position(1)));
    drop(ledger);
    assert_eq!(place.open().unwrap().0.floor(), Some(40));
    assert!(verify(&place.options().file).unwrap().is_sound());
}
