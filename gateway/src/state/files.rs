//! Reading and writing the files of the state folder: secrets that only their owner can have read, and files that
//! appear whole or not at all.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use postern_capabilities::keys::{KeyError, PublicKey};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// More than any key or token has; a ring of keys with thousands of rotations stays below.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// How often a free name for the file beside its place is looked for.
const NAMES_TRIED_MAX: u32 = 16;

/// What to do where a file is already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and writing is an error.
    Refuse,
    /// It is replaced in one step.
    Replace,
}

/// Who may do what with a file of the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody but its owner may read or write it.
    Secret,
    /// Its owner may read and write it, and so may the group that the configuration names.
    Private,
    /// Everybody may read it; it is written like a private one.
    Public,
}

/// Whether something belongs to this account or to root.
pub(super) fn is_own(found: &Metadata) -> bool {
    [0, rustix::process::geteuid().as_raw()].contains(&found.uid())
}

/// Fails where somebody else could have put this file here, or changed it, or read it if it is a secret.
pub(super) fn expect_safe(path: &Path, found: &Metadata, kind: Kind, group: Option<u32>) -> Result<(), StateError> {
    if found.is_symlink() {
        return Err(StateError::Link { path: path.to_owned() });
    }
    if !found.is_file() {
        return Err(StateError::NotAFile { path: path.to_owned() });
    }
    let mode = found.mode() & 0o7777;
    let is_admitted = group == Some(found.gid());
    let (forbidden, keep) = match (kind, is_admitted) {
        (Kind::Secret, _) => (0o077, "600"),
        (Kind::Private, false) => (0o077, "600"),
        (Kind::Private, true) => (0o007, "660"),
        (Kind::Public, false) => (0o022, "644"),
        (Kind::Public, true) => (0o002, "664"),
    };
    if mode & forbidden != 0 {
        return Err(match kind {
            Kind::Secret => StateError::Open { path: path.to_owned(), mode },
            Kind::Private | Kind::Public => StateError::Writable { path: path.to_owned(), mode, keep },
        });
    }
    if !is_own(found) {
        return Err(StateError::Foreign { path: path.to_owned(), owner: found.uid() });
    }
    Ok(())
}

/// Reads a secret that nobody but its owner can have read: a regular file, not a link, of this process's own owner,
/// with no permission for anybody else.
pub fn read_secret_file(path: &Path) -> Result<Zeroizing<String>, StateError> {
    text_of(&read_secret_bytes(path)?, path)
}

/// [`read_secret_file`] for a secret that is no text.
pub(super) fn read_secret_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, StateError> {
    read_checked(path, Kind::Secret, None)
}

/// Reads a file that is no secret, and that nobody but its owner, and the group that is named, can have written.
pub(super) fn read_public_file(path: &Path, group: Option<u32>) -> Result<Zeroizing<String>, StateError> {
    text_of(&read_checked(path, Kind::Public, group)?, path)
}

fn read_checked(path: &Path, kind: Kind, group: Option<u32>) -> Result<Zeroizing<Vec<u8>>, StateError> {
    // What is checked is the open file, not the name, which could point elsewhere a moment later. Without
    // NONBLOCK a pipe under this name would keep the process waiting.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StateError::Missing { path: path.to_owned() });
        }
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(StateError::Link { path: path.to_owned() });
        }
        Err(error) => return Err(StateError::io("open", path, error)),
    };
    let found = file.metadata().map_err(|error| StateError::io("look at", path, error))?;
    expect_safe(path, &found, kind, group)?;
    read_bytes(file, found.len(), path)
}

fn read_bytes(file: File, bytes_expected: u64, path: &Path) -> Result<Zeroizing<Vec<u8>>, StateError> {
    if bytes_expected > FILE_BYTES_MAX {
        return Err(StateError::TooLong { path: path.to_owned() });
    }
    // With room for all of it from the start no copies of a secret are left behind by a growing buffer.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| StateError::io("read", path, error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(StateError::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

fn text_of(bytes: &[u8], path: &Path) -> Result<Zeroizing<String>, StateError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(StateError::NotText { path: path.to_owned() }),
    }
}

/// Writes a secret for its owner alone (mode 0600), whole or not at all.
pub fn write_secret_file(path: &Path, text: &str, existing: Existing) -> Result<(), StateError> {
    write_secret_bytes(path, text.as_bytes(), existing)
}

/// [`write_secret_file`] for a secret that is no text.
pub(super) fn write_secret_bytes(path: &Path, bytes: &[u8], existing: Existing) -> Result<(), StateError> {
    write_whole(path, bytes, 0o600, existing)
}

/// Writes a file that is no secret, whole or not at all.
pub(super) fn write_public_file(path: &Path, text: &str) -> Result<(), StateError> {
    write_whole(path, text.as_bytes(), 0o644, Existing::Replace)
}

fn write_whole(path: &Path, bytes: &[u8], mode: u32, existing: Existing) -> Result<(), StateError> {
    if path.file_name().is_none() {
        return Err(StateError::NotAFile { path: path.to_owned() });
    }
    let (beside, mut file) = create_beside(path, mode)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let moved = written.map_err(|error| StateError::io("write", path, error)).and_then(|()| match existing {
        Existing::Replace => fs::rename(&beside, path).map_err(|error| StateError::io("write", path, error)),
        // A link, unlike a rename, fails where a file is already: also for one that appeared just now.
        Existing::Refuse => fs::hard_link(&beside, path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StateError::Exists { path: path.to_owned() },
            _ => StateError::io("write", path, error),
        }),
    });
    if moved.is_err() || existing == Existing::Refuse {
        // It may be gone already; a left-over would be readable by its owner alone.
        let _ = fs::remove_file(&beside);
    }
    moved?;
    sync_folder(folder_of(path))
}

fn create_beside(path: &Path, mode: u32) -> Result<(PathBuf, File), StateError> {
    for _ in 0..NAMES_TRIED_MAX {
        let name = format!(".new-{:016x}", rand::random::<u64>());
        let beside = folder_of(path).join(name);
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside) {
            Ok(file) => return Ok((beside, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StateError::io("write", path, error)),
        }
    }
    Err(StateError::io("write", path, io::ErrorKind::AlreadyExists.into()))
}

/// Makes renames and removals in a folder durable.
pub(super) fn sync_folder(dir: &Path) -> Result<(), StateError> {
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(|error| StateError::io("sync", dir, error))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// What is wrong with the state folder, and what to do about it. Never repeats what a file holds.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder is not there.
    #[error("there is no state folder at {}; make it with `postern init --state {}`, or name another with --state", .path.display(), .path.display())]
    NoFolder {
        /// Where.
        path: PathBuf,
    },
    /// Something else is in its place.
    #[error("{} is not a folder; name a folder with --state", .path.display())]
    NotAFolder {
        /// Where.
        path: PathBuf,
    },
    /// Others can write to the folder.
    #[error(
        "others can write to the state folder {} (mode {mode:o}) and could exchange its keys; run: chmod 700 {}",
        .path.display(), .path.display()
    )]
    FolderOpen {
        /// Where.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A group can write to the folder.
    #[error(
        "group {group} can write to the state folder {} (mode {mode:o}) and could exchange its keys; run: chmod 700 {}; or, if \
         the group is meant to, name it in the gateway's configuration: state_group = {group}",
        .path.display(), .path.display()
    )]
    FolderOfGroup {
        /// Where.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// The group.
        group: u32,
    },
    /// Others can change the file, or read what only its owner should.
    #[error(
        "others can get at {} (mode {mode:o}), which is believed; if nobody has changed it, run: chmod {keep} {}",
        .path.display(), .path.display()
    )]
    Writable {
        /// Where.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What they should be.
        keep: &'static str,
    },
    /// The ledger has a second name.
    #[error(
        "{} has another name as well (a hard link), under which its last records would be missed; remove the other name, or \
         copy the ledger with `postern ledger backup`",
        .path.display()
    )]
    Linked {
        /// Where.
        path: PathBuf,
    },
    /// The file is not there.
    #[error("there is no file {}; `postern init` makes what is missing from a state folder", .path.display())]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// The file is there and must stay.
    #[error("{} is there already and is not written over; remove it first if you mean to", .path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// A symbolic link.
    #[error("{} is a symbolic link, which somebody else could turn elsewhere; put the file itself there", .path.display())]
    Link {
        /// Where.
        path: PathBuf,
    },
    /// A folder, a pipe, a device.
    #[error("{} is not an ordinary file", .path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
    /// Others can read the secret.
    #[error(
        "others can read the secret in {} (mode {mode:o}); if nobody has, run: chmod 600 {}; otherwise replace it",
        .path.display(), .path.display()
    )]
    Open {
        /// Where.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file belongs to somebody else.
    #[error("{} belongs to another account (uid {owner}), which could read and exchange it; make it your own", .path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Far longer than what belongs there.
    #[error("{} is longer than {FILE_BYTES_MAX} bytes, which is no key and no token", .path.display())]
    TooLong {
        /// Where.
        path: PathBuf,
    },
    /// Not UTF-8.
    #[error("{} is not text", .path.display())]
    NotText {
        /// Where.
        path: PathBuf,
    },
    /// Not a key.
    #[error("{} does not hold a key: {reason}; restore it from a copy, or move it away and run `postern init`", .path.display())]
    NotAKey {
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: KeyError,
    },
    /// Not the secret that gateways share.
    #[error(
        "{} holds {length} bytes, and the secret that gateways share has 32; restore it from a copy. Without a copy move it \
         away: the gateway makes a new one when it starts, and services take its statements within a minute",
        .path.display()
    )]
    NotAGatewayKey {
        /// Where.
        path: PathBuf,
        /// How many bytes there are.
        length: usize,
    },
    /// The copy of the key ring is damaged.
    #[error("{} is not a list of keys ({reason}); remove it, the gateway writes it anew when it starts", .path.display())]
    NotAKeyRing {
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The root key is not the one that mints by the ledger's word.
    #[error(
        "the key in {} ({found}) is not the one that the ledger beside it says mints ({minting}); restore that key, or use a state folder of its own",
        .path.display()
    )]
    OtherKey {
        /// Where.
        path: PathBuf,
        /// What lies there.
        found: PublicKey,
        /// What should.
        minting: PublicKey,
    },
    /// The folder was in use, and its ledger is gone, or has lost its records.
    #[error(
        "{} says that a gateway has run with this state folder, but there is no ledger {} with its records, so every revocation would be forgotten; restore the ledger from a backup, or, if forgetting every revocation is really meant, remove {} and what is left of the ledger",
        .keys.display(), .ledger.display(), .keys.display()
    )]
    LedgerLost {
        /// The file that says so.
        keys: PathBuf,
        /// Where the ledger should be.
        ledger: PathBuf,
    },
    /// The folder was in use, and its root key is gone.
    #[error(
        "there is no root key {}, but {} says that this state folder was in use; nothing was changed. Restore the root key from a backup, or name a fresh state folder with --state: a new key here would not be the one that the ledger knows",
        .path.display(), .witness.display()
    )]
    RootKeyLost {
        /// Where the key should be.
        path: PathBuf,
        /// The file that says so.
        witness: PathBuf,
    },
    /// The operating system said no.
    #[error("cannot {what} {}: {error}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl StateError {
    pub(super) fn io(what: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), error }
    }
}
