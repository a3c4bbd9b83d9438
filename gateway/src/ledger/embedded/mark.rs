//! The mark beside the ledger: the newest record of a revocation or a key, so that an older ledger put back is noticed.
//!
//! An older copy of the ledger is as sound as the newest, and has forgotten revocations. The mark names the newest record
//! that must not be forgotten; it is durable before that record is acknowledged, and is written for no other record. A
//! ledger that does not hold the marked record is refused. Whoever puts the whole older folder back puts the older mark
//! back with it, which cannot be seen from within the folder.
//!
//! The file has two slots, written in turn and in place: a power loss tears one of them at most, and neither a full disk
//! nor a folder's entry stands between a revocation and its acknowledgement.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use super::super::event::Event;
use super::super::record::{Chain, Damage, Position};
use super::replay::{self, ReplayError};
use super::schema::OpenError;

const SLOT_BYTES: usize = 512;
const SLOTS: usize = 2;
const BEGIN: &str = "postern ledger mark 1";

/// A record by its place and its checksum, which covers all before it and the ledger's own id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Marked {
    pub(in crate::ledger) position: Position,
    pub(in crate::ledger) chain: Chain,
}

/// Whether forgetting this event would give authority back.
pub(super) fn is_marked(event: &Event) -> bool {
    match event {
        Event::KeyAdded { .. } | Event::KeyMinting { .. } | Event::KeyRetired { .. } | Event::Revoked { .. } => true,
        Event::Minted { .. } | Event::ClockAccepted { .. } => false,
    }
}

/// The mark, open for the one writer.
pub(super) struct Mark {
    file: File,
    next: usize,
}

impl Mark {
    /// Opens the mark beside this database, making it with `newest` where there is none.
    pub(super) fn open(database: &Path, newest: Marked) -> Result<Self, OpenError> {
        let path = path(database);
        if slots(database)?.is_none() {
            create(&path, newest).map_err(|source| unusable(&path, "made", source))?;
        }
        let file = options().write(true).open(&path).map_err(|source| unusable(&path, "opened for writing", source))?;
        let newest = newest_slot(&file).map_err(|source| unusable(&path, "read", source))?;
        Ok(Self { file, next: newest.map_or(0, |(slot, _)| (slot + 1) % SLOTS) })
    }

    #[cfg(test)]
    pub(super) fn unwritable(database: &Path) -> Self {
        Self { file: options().open(path(database)).expect("the mark is there"), next: 0 }
    }

    /// Marks a record. Durable when this returns.
    pub(super) fn write(&mut self, marked: Marked) -> io::Result<()> {
        self.file.write_all_at(&slot(marked), (self.next * SLOT_BYTES) as u64)?;
        self.file.sync_data()?;
        self.next = (self.next + 1) % SLOTS;
        Ok(())
    }
}

/// What is marked beside this database; `None` where there is no mark, as beside a ledger of an earlier version.
pub(in crate::ledger) fn slots(database: &Path) -> Result<Option<Marked>, OpenError> {
    let path = path(database);
    let file = match options().open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unusable(&path, "read", source)),
    };
    match newest_slot(&file).map_err(|source| unusable(&path, "read", source))? {
        Some((_, marked)) => Ok(Some(marked)),
        None => Err(OpenError::NoMark { mark: path, file: database.to_owned() }),
    }
}

/// Whether the ledger in this connection holds the marked record. The mark has to be read before the moment that the
/// connection sees begins: a record is there before it is marked.
pub(in crate::ledger) fn holds(connection: &Connection, marked: Marked) -> Result<bool, ReplayError> {
    let head = replay::head(connection)?;
    if marked.position == Position::START {
        return Ok(true);
    }
    if marked.position > head.position {
        return Ok(false);
    }
    if let Some(chain) = replay::chain_at(connection, marked.position)? {
        return Ok(chain == marked.chain);
    }
    // It is folded. A snapshot that ends with it has its checksum; of one that goes on behind it nothing more can be asked.
    let folded = replay::snapshot_place(connection)?;
    Ok(folded.is_some_and(|(position, chain)| position > marked.position || chain == marked.chain))
}

/// Refuses a ledger that does not hold what is marked beside it.
pub(in crate::ledger) fn expect(file: &Path, connection: &Connection, marked: Option<Marked>) -> Result<(), OpenError> {
    let Some(marked) = marked else { return Ok(()) };
    match holds(connection, marked) {
        Ok(true) => Ok(()),
        Ok(false) => Err(OpenError::Older { file: file.to_owned(), mark: path(file), marked: marked.position }),
        Err(ReplayError::Damaged(damage)) => Err(OpenError::Damaged { file: file.to_owned(), damage }),
        Err(ReplayError::Sqlite(error)) => Err(OpenError::of_sqlite(file, &error)),
    }
}

/// The same as a finding of a verification.
pub(in crate::ledger) fn damage(
    connection: &Connection,
    marked: Option<Marked>,
) -> Result<Option<Damage>, ReplayError> {
    let Some(marked) = marked else { return Ok(None) };
    Ok((!holds(connection, marked)?).then_some(Damage::Older(marked.position)))
}

/// Where the mark of this database lies.
pub(in crate::ledger) fn path(database: &Path) -> PathBuf {
    database.with_extension("mark")
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Without NONBLOCK a pipe under this name would keep the process waiting.
    options.read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    options
}

fn unusable(path: &Path, doing: &'static str, source: io::Error) -> OpenError {
    OpenError::Unusable { file: path.to_owned(), doing, source }
}

/// Whole or not at all, and durable.
fn create(path: &Path, marked: Marked) -> io::Result<()> {
    let beside = path.with_extension("mark-new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all_at(&[slot(marked), slot(marked)].concat(), 0)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn slot(marked: Marked) -> Vec<u8> {
    let said = format!("{BEGIN} {} {}", marked.position, hex::encode(marked.chain.0));
    let mut slot = format!("{said} {}\n", hex::encode(Sha256::digest(&said))).into_bytes();
    slot.resize(SLOT_BYTES, b' ');
    slot
}

fn newest_slot(file: &File) -> io::Result<Option<(usize, Marked)>> {
    let mut newest: Option<(usize, Marked)> = None;
    for index in 0..SLOTS {
        let mut bytes = [0; SLOT_BYTES];
        match file.read_exact_at(&mut bytes, (index * SLOT_BYTES) as u64) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            other => other?,
        }
        if let Some(marked) = read_slot(&bytes)
            && newest.is_none_or(|(_, before)| before.position < marked.position)
        {
            newest = Some((index, marked));
        }
    }
    Ok(newest)
}

fn read_slot(bytes: &[u8]) -> Option<Marked> {
    let line = std::str::from_utf8(bytes).ok()?.split('\n').next()?;
    let (said, checksum) = line.rsplit_once(' ')?;
    if hex::encode(Sha256::digest(said)) != checksum {
        return None;
    }
    let (position, chain) = said.strip_prefix(BEGIN)?.strip_prefix(' ')?.split_once(' ')?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(chain, &mut bytes).ok()?;
    Some(Marked { position: Position(position.parse().ok()?), chain: Chain(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(position: u64) -> Marked {
        Marked { position: Position(position), chain: Chain([position as u8; 32]) }
    }

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("ledger.db");
        assert_eq!(slots(&database).unwrap(), None);
        let mut mark = Mark::open(&database, marked(3)).unwrap();
        mark.write(marked(4)).unwrap();
        mark.write(marked(5)).unwrap();
        assert_eq!(slots(&database).unwrap(), Some(marked(5)));
        // Opened again it goes on in the other slot.
        let mut mark = Mark::open(&database, marked(0)).unwrap();
        mark.write(marked(6)).unwrap();
        let bytes = fs::read(path(&database)).unwrap();
        let newest = bytes.windows(3).position(|part| part == b" 6 ").unwrap();
        for cut in [newest, newest + 20] {
            let mut torn = bytes.clone();
            torn[cut] ^= 1;
            fs::write(path(&database), &torn).unwrap();
            assert_eq!(slots(&database).unwrap(), Some(marked(5)));
        }
        fs::write(path(&database), b"").unwrap();
        let error = slots(&database).unwrap_err().to_string();
        assert!(error.contains("ledger.mark"), "{error}");
    }
}
