//! The SQLite file: its tables, how it is opened, and what is said when it cannot be.
//!
//! `application_id` and `user_version` tell an own file from any other and an old schema from a newer one; a newer one
//! is refused. Durability is WAL with `synchronous=FULL`: NORMAL loses acknowledged rows at a power loss.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::super::record::{Chain, Damage, Position};

/// `PSTN`, so that `file` and this code know the file for what it is.
const APPLICATION_ID: i32 = 0x5053_544e;
/// The newest schema that this build knows.
pub(in crate::ledger) const SCHEMA_VERSION: i32 = 2;
/// How long a write waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(2) };

const SCHEMA: &str = "
CREATE TABLE record (
    position INTEGER PRIMARY KEY,
    version  INTEGER NOT NULL,
    body     BLOB NOT NULL,
    chain    BLOB NOT NULL
) STRICT;
-- Exactly one row: where the record ends. Written with every append, so that a cut-off end is noticed.
CREATE TABLE head (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    ledger_id BLOB NOT NULL,
    position  INTEGER NOT NULL,
    chain     BLOB NOT NULL
) STRICT;
-- At most one row: the state that stands for all records up to its position, which are deleted.
CREATE TABLE snapshot (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL,
    chain    BLOB NOT NULL,
    body     BLOB NOT NULL,
    checksum BLOB NOT NULL
) STRICT;
-- At most one row: a digest of the live state, for verify to compare with a rebuilt one.
CREATE TABLE state (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL,
    digest   BLOB NOT NULL
) STRICT;
-- At most one row: the newest time, in seconds since the epoch, at which the system's clock had run true for a while.
CREATE TABLE clock (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    floor INTEGER NOT NULL
) STRICT;
";

/// From schema 1: the clock's floor is new, and the digest of a state that kept less of mints no longer fits it.
const FROM_1: &str = "
BEGIN IMMEDIATE;
CREATE TABLE clock (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    floor INTEGER NOT NULL
) STRICT;
DELETE FROM state;
PRAGMA user_version = 2;
COMMIT;
";

/// Why the ledger cannot be opened. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another gateway has it.
    #[error(
        "the ledger {} is in use by another gateway{holder}; stop that one, or give this one a state folder of its own (--state)", .file.display()
    )]
    InUse {
        /// The database file.
        file: PathBuf,
        /// ` (process 123)`, if known.
        holder: String,
    },
    /// Another program holds a lock on the database.
    #[error(
        "the ledger {} is locked by another program; end whatever else has the file open (a database shell, a backup)", .file.display()
    )]
    Locked {
        /// The database file.
        file: PathBuf,
    },
    /// A folder or file that cannot be read or written.
    #[error(
        "{} cannot be {doing}: {source}; the gateway needs to read and write the state folder and the files in it", .file.display()
    )]
    Unusable {
        /// The file or folder.
        file: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite could not work with the file.
    #[error(
        "the ledger {} cannot be used: {reason}; check that the disk has room and that the file and its folder are writable", .file.display()
    )]
    Failed {
        /// The database file.
        file: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// Not a ledger at all.
    #[error("{} is not a ledger of this gateway ({reason}); give the gateway another state folder (--state)", .file.display())]
    NotALedger {
        /// The file.
        file: PathBuf,
        /// What it seems to be.
        reason: String,
    },
    /// There, but nothing is in it.
    #[error(
        "the ledger {} is empty, which no ledger is that a gateway has made: every revocation in it is lost. Restore it from a backup (`postern ledger backup` makes one); if forgetting every revocation is really meant, remove it and the keys.json beside it", .file.display()
    )]
    Empty {
        /// The database file.
        file: PathBuf,
    },
    /// Only its write-ahead log is left.
    #[error(
        "the ledger {} is gone, and {}-wal, which holds its last records, is still there: restore the ledger from a backup; if forgetting every revocation is really meant, remove that file and the keys.json beside it", .file.display(), .file.display()
    )]
    OnlyWal {
        /// The database file.
        file: PathBuf,
    },
    /// It does not hold the record that is marked beside it.
    #[error(
        "the ledger {} is an older one than this folder had: {} says that a revocation or a key was recorded as number {marked}, \
         which is not in it, so that what was revoked since then would be accepted again. Put the newest ledger back; if \
         forgetting that is really meant, remove {}", .file.display(), .mark.display(), .mark.display()
    )]
    Older {
        /// The database file.
        file: PathBuf,
        /// The mark beside it.
        mark: PathBuf,
        /// The record that is missing.
        marked: Position,
    },
    /// The mark beside the ledger cannot be read.
    #[error(
        "{} is damaged, by which an older ledger would be noticed; if you are sure that {} is the newest ledger, remove \
         it, and it is made anew", .mark.display(), .file.display()
    )]
    NoMark {
        /// The mark.
        mark: PathBuf,
        /// The database file.
        file: PathBuf,
    },
    /// Only the mark beside it is left.
    #[error(
        "the ledger {} is gone, and {} says that revocations or keys were recorded in it: restore the ledger from a backup; \
         if forgetting every revocation is really meant, remove that file and the keys.json beside it", .file.display(), .mark.display()
    )]
    OnlyMark {
        /// The database file.
        file: PathBuf,
        /// The mark beside it.
        mark: PathBuf,
    },
    /// Written by a newer gateway.
    #[error(
        "the ledger {} has schema {found} and this build knows up to {SCHEMA_VERSION}; run the newer gateway that wrote it", .file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its schema.
        found: i32,
    },
    /// What is stored is not what was written.
    #[error(
        "the ledger {} is damaged: {damage}. Nothing is served, since a revocation could be lost; `postern ledger verify` says more, then restore the file from a backup", .file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// How.
        damage: Damage,
    },
}

impl OpenError {
    /// SQLite's errors in the words above.
    pub(in crate::ledger) fn of_sqlite(file: &Path, error: &rusqlite::Error) -> Self {
        let file = file.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { file },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { file, damage: Damage::File(error.to_string()) },
            Some(ErrorCode::NotADatabase) => Self::NotALedger { file, reason: "it is not a SQLite file".into() },
            _ => Self::Failed { file, reason: error.to_string() },
        }
    }
}

/// Held while a gateway has the ledger open; the system lets go of it even after `kill -9`.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock beside the database, or says who has it.
    pub(super) fn take(database: &Path) -> Result<Self, OpenError> {
        let path = database.with_extension("lock");
        let unusable = |source| OpenError::Unusable { file: path.clone(), doing: "opened for writing", source };
        let file = without_links(private().truncate(false)).open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {
                // For whoever meets the lock; a failure to write it down changes nothing about holding it.
                let _ = file.set_len(0).and_then(|()| {
                    use std::io::Write;
                    (&file).write_all(std::process::id().to_string().as_bytes())
                });
                Ok(Self { _file: file })
            }
            Err(fs::TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).ok().filter(|text| !text.trim().is_empty());
                let holder = holder.map_or(String::new(), |process| format!(" (process {})", process.trim()));
                Err(OpenError::InUse { file: database.to_owned(), holder })
            }
            Err(fs::TryLockError::Error(source)) => Err(unusable(source)),
        }
    }
}

/// Opens the database for the one writer, who holds the lock, making it where it is not there yet.
pub(super) fn open_for_writing(file: &Path) -> Result<Connection, OpenError> {
    let unusable = |doing: &'static str| {
        move |source: std::io::Error| OpenError::Unusable { file: file.to_owned(), doing, source }
    };
    // The name itself, not what it may point to: a link to a volume that is not mounted is no reason to start afresh.
    match fs::symlink_metadata(file) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => create(file)?,
        Err(error) => return Err(unusable("looked at")(error)),
    }
    // Said in the system's words, which SQLite would not repeat. Without following a link, as SQLite is told below.
    without_links(OpenOptions::new().read(true).write(true)).open(file).map_err(unusable("opened for writing"))?;
    let of_sqlite = |error: rusqlite::Error| OpenError::of_sqlite(file, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let place = real(file).map_err(unusable("found"))?;
    let connection = Connection::open_with_flags(place, flags).map_err(of_sqlite)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(of_sqlite)?;
    check_identity(file, &connection)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(of_sqlite)?;
    if !mode.eq_ignore_ascii_case("wal") {
        let reason = format!("its file system cannot do write-ahead logging (SQLite chose {mode})");
        return Err(OpenError::Failed { file: file.to_owned(), reason });
    }
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")
        .map_err(of_sqlite)?;
    // Another program's lock is found now, not by the first revocation.
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT").map_err(of_sqlite)?;
    if version(&connection).map_err(of_sqlite)? < SCHEMA_VERSION {
        connection.execute_batch(FROM_1).map_err(of_sqlite)?;
        tracing::info!("the ledger's file was brought to schema {SCHEMA_VERSION}; earlier gateways refuse it now");
    }
    Ok(connection)
}

/// Opens an existing database for reading; works beside a running gateway.
pub(in crate::ledger) fn open_for_reading(file: &Path) -> Result<Connection, OpenError> {
    let unusable = |source| OpenError::Unusable { file: file.to_owned(), doing: "read", source };
    without_links(OpenOptions::new().read(true)).open(file).map_err(unusable)?;
    let of_sqlite = |error: rusqlite::Error| OpenError::of_sqlite(file, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let place = real(file).map_err(unusable)?;
    let connection = Connection::open_with_flags(place, flags).map_err(of_sqlite)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(of_sqlite)?;
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;").map_err(of_sqlite)?;
    check_identity(file, &connection)?;
    Ok(connection)
}

/// The schema in which the file is.
pub(in crate::ledger) fn version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Does not open what is a link.
fn without_links(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
}

/// The file in its folder as the system knows it: SQLite, told to follow no link, takes none on the way there either.
fn real(file: &Path) -> std::io::Result<PathBuf> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(folder.canonicalize()?.join(file.file_name().unwrap_or_default()))
}

/// Refuses a file that is somebody else's, one that a newer gateway wrote, and one that has lost what was in it: a ledger
/// comes into its place with its tables, so that a file without any is what a careless copy or a full disk has left.
fn check_identity(file: &Path, connection: &Connection) -> Result<(), OpenError> {
    let of_sqlite = |error: rusqlite::Error| OpenError::of_sqlite(file, &error);
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let application = pragma("application_id").map_err(of_sqlite)?;
    let found = version(connection).map_err(of_sqlite)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(of_sqlite)?;
    if tables == 0 && (application == 0 || application == APPLICATION_ID) {
        return Err(OpenError::Empty { file: file.to_owned() });
    }
    if application != APPLICATION_ID {
        return Err(OpenError::NotALedger { file: file.to_owned(), reason: "it is another program's database".into() });
    }
    if !(1..=SCHEMA_VERSION).contains(&found) {
        return Err(OpenError::Newer { file: file.to_owned(), found });
    }
    Ok(())
}

/// Makes a ledger without records. It is made beside its place and then moved into it, so that a crash leaves no ledger or
/// a whole one, and one that is there but empty is always a loss.
fn create(file: &Path) -> Result<(), OpenError> {
    let unusable = |doing: &'static str| {
        move |source: std::io::Error| OpenError::Unusable { file: file.to_owned(), doing, source }
    };
    let mut wal = file.as_os_str().to_owned();
    wal.push("-wal");
    if fs::symlink_metadata(&wal).is_ok() {
        return Err(OpenError::OnlyWal { file: file.to_owned() });
    }
    let beside = file.with_extension("new");
    for left_over in [beside.clone(), file.with_extension("new-journal")] {
        match fs::remove_file(&left_over) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(unusable("made")(error)),
            _ => {}
        }
    }
    // Made here and not by SQLite, so that it is private from its first moment; WAL and index take over its mode.
    private().create_new(true).open(&beside).map_err(unusable("made"))?;
    let filled = || -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&beside, flags)?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON;")?;
        fill(&connection)?;
        connection.close().map_err(|(_, error)| error)
    };
    filled().map_err(|error| OpenError::of_sqlite(file, &error))?;
    fs::rename(&beside, file).map_err(unusable("made"))?;
    // The folder's entry for the new file must be as durable as what is in it.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unusable("made durable in its folder"))
}

/// The tables, and a head that says that nothing is recorded.
fn fill(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    let ledger_id: [u8; 16] = rand::random();
    transaction.execute(
        "INSERT INTO head (one, ledger_id, position, chain) VALUES (1, ?1, 0, ?2)",
        params![ledger_id, Chain::start(&ledger_id).0],
    )?;
    transaction.commit()
}

/// The clock's floor, if one was kept.
pub(super) fn floor(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let floor = connection.query_row("SELECT floor FROM clock WHERE one = 1", [], |row| row.get::<_, i64>(0));
    Ok(floor.optional()?.map(i64::cast_unsigned))
}

/// Keeps the clock's floor, inside the caller's transaction.
pub(super) fn keep_floor(connection: &Connection, floor: u64) -> rusqlite::Result<()> {
    let upsert = "INSERT INTO clock (one, floor) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET floor = ?1";
    connection.execute(upsert, [floor.cast_signed()]).map(drop)
}

/// Where the record ends, and where its chain began.
pub(in crate::ledger) struct Head {
    pub(in crate::ledger) start: Chain,
    pub(in crate::ledger) position: Position,
    pub(in crate::ledger) chain: Chain,
}

/// Reads the head. Its absence is damage: it is made with the tables.
pub(in crate::ledger) fn head(connection: &Connection) -> rusqlite::Result<Option<Head>> {
    let read = |row: &rusqlite::Row<'_>| {
        let ledger_id: Vec<u8> = row.get(0)?;
        Ok(Head {
            start: Chain::start(&ledger_id),
            position: Position(row.get::<_, i64>(1)?.cast_unsigned()),
            chain: Chain(row.get(2)?),
        })
    };
    connection.query_row("SELECT ledger_id, position, chain FROM head WHERE one = 1", [], read).optional()
}
