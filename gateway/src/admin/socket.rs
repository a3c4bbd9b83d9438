//! The administration's socket on this machine, for the commands beside the gateway.
//!
//! It is the same handler and takes the same capability as the port: being on this machine gives no right. What it gives
//! is a place that nobody from elsewhere can take. It lies in the state folder, for its owner alone, and is made anew at
//! each start under the folder's lock. A path of a socket has to be short, so where the folder's is long it lies in the
//! runtime folder, and `admin.address` says where.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::state::StateDir;

/// The longest path that every system takes for a socket, with some room.
const PATH_BYTES_MAX: usize = 100;

/// A socket that is bound, and where.
pub(super) struct Socket {
    pub(super) path: PathBuf,
    pub(super) listener: UnixListener,
}

/// Binds it. The caller holds the folder's lock, so that what lies in its place is nobody's any more.
pub(super) fn bind(state: &StateDir, runtime_folder: Option<&Path>) -> io::Result<Socket> {
    let path = place(state, runtime_folder)?;
    match fs::symlink_metadata(&path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(&path)?,
        Ok(_) => return Err(io::Error::other(format!("{} is there and is no socket; remove it", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&path)?;
    // Who connects before this is asked for its uid all the same.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(Socket { path, listener })
}

fn place(state: &StateDir, runtime_folder: Option<&Path>) -> io::Result<PathBuf> {
    let own = std::path::absolute(state.socket_path())?;
    if own.as_os_str().len() <= PATH_BYTES_MAX {
        return Ok(own);
    }
    let name = hex::encode(&Sha256::digest(own.as_os_str().as_bytes())[..8]);
    let temporary = std::env::temp_dir();
    let folder = runtime_folder.unwrap_or(&temporary).join(format!("postern-{name}"));
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!("{} is not a folder of this account alone", folder.display())));
    }
    Ok(folder.join("admin.sock"))
}

/// Whether a peer may speak here: the gateway's own account, or root.
pub(super) fn is_own(stream: &tokio::net::UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| [0, rustix::process::geteuid().as_raw()].contains(&peer.uid()))
}
