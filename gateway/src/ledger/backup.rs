//! A copy of the ledger as of one moment, while a gateway may be writing it.
//!
//! A plain copy of the database file misses what is still in the write-ahead log beside it. SQLite writes the copy itself,
//! from one read transaction, and [`super::verify`] then says whether it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::embedded::{OpenError, schema};
use super::verify::{Report, verify};

/// Why there is no copy. None is left behind then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The ledger cannot be read, or the copy not be verified.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// Something is there already.
    #[error("{} is there already and is not written over; name another file", .copy.display())]
    Exists {
        /// Where the copy was to be.
        copy: PathBuf,
    },
    /// The copy cannot be written.
    #[error("the backup {} cannot be written: {reason}; name a file in a folder that is there and has room", .copy.display())]
    Unwritable {
        /// Where the copy was to be.
        copy: PathBuf,
        /// What the system or SQLite said.
        reason: String,
    },
}

/// Copies the ledger to `copy`, for its owner alone, makes it durable and verifies it.
///
/// # Errors
/// There is no copy. A copy of a ledger that is damaged is one that the report calls damaged.
pub fn backup(file: &Path, copy: &Path) -> Result<Report, BackupError> {
    let unwritable =
        |reason: &dyn std::fmt::Display| BackupError::Unwritable { copy: copy.to_owned(), reason: reason.to_string() };
    let connection = schema::open_for_reading(file)?;
    // SQLite takes a name as text; as an absolute path it cannot be mistaken for anything but a path.
    let absolute = std::path::absolute(copy).map_err(|error| unwritable(&error))?;
    let name = absolute.to_str().ok_or_else(|| unwritable(&"its name is not UTF-8"))?;
    // Made here, empty, so that nothing is written over and the copy is private from its first moment.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&absolute);
    made.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => BackupError::Exists { copy: copy.to_owned() },
        _ => unwritable(&error),
    })?;
    let written = connection
        .execute("VACUUM INTO ?1", [name])
        .map_err(|error| unwritable(&error))
        .and_then(|_| make_durable(&absolute).map_err(|error| unwritable(&error)));
    if let Err(error) = written {
        // Half a copy must not be taken for one; if it cannot be removed either, verifying it will tell.
        let _ = fs::remove_file(&absolute);
        return Err(error);
    }
    Ok(verify(copy)?)
}

fn make_durable(copy: &Path) -> io::Result<()> {
    File::open(copy)?.sync_all()?;
    copy.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use postern_capabilities::revocation::RevocationId;

    use super::super::{By, EmbeddedOptions, FILE_NAME, Ledger};
    use super::*;

    #[tokio::test]
    async fn a_copy_taken_beside_a_writer_holds_all_that_was_acknowledged_and_can_be_restored() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE_NAME);
        let ledger = Ledger::open(&EmbeddedOptions::new(&file), Arc::default()).unwrap();
        let id = RevocationId::from_bytes(&[7; 64]).unwrap();
        ledger.revoke(&[id], By::gateway()).await.unwrap();

        let copy = folder.path().join("copy.db");
        let report = backup(&file, &copy).unwrap();
        assert!(report.is_sound(), "{report}");
        assert_eq!((report.file.as_path(), report.revoked), (copy.as_path(), 1));
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        let error = backup(&file, &copy).unwrap_err();
        assert!(matches!(error, BackupError::Exists { .. }), "{error}");
        let error = backup(&file, &folder.path().join("none").join("copy.db")).unwrap_err();
        assert!(matches!(error, BackupError::Unwritable { .. }), "{error}");
        let error = backup(&folder.path().join("none.db"), &folder.path().join("b")).unwrap_err();
        assert!(matches!(error, BackupError::Ledger(_)) && !folder.path().join("b").exists(), "{error}");

        drop(ledger);
        let restored = Ledger::open(&EmbeddedOptions::new(&copy), Arc::default()).unwrap();
        assert!(restored.state().read().revocation(&id).is_some());
        restored.revoke(&[RevocationId::from_bytes(&[8; 64]).unwrap()], By::gateway()).await.unwrap();
        drop(restored);
        assert_eq!(verify(&copy).unwrap().revoked, 2);
    }
}
