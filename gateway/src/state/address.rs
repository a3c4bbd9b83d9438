//! `admin.address`: where a running gateway's administration is, for the commands beside it.
//!
//! The commands show a capability to whoever it names, so it is read as strictly as a secret: this account's own file, no
//! link, and nobody else may read or write it.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::files::{Existing, read_secret_file, write_secret_file};
use super::{ADDRESS, StateDir, StateError};

/// What is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminAddress {
    /// The port, as a URL.
    pub url: String,
    /// The socket, where it does not lie in the state folder.
    pub socket: Option<PathBuf>,
    /// The group that the configuration admits to the folder.
    pub state_group: Option<u32>,
}

impl StateDir {
    /// Notes where administration is.
    pub fn note_address(&self, address: &AdminAddress) -> Result<(), StateError> {
        let mut text = format!("{}\n", address.url);
        if let Some(socket) = &address.socket {
            text.push_str(&format!("socket {}\n", socket.display()));
        }
        if let Some(group) = address.state_group {
            text.push_str(&format!("state_group {group}\n"));
        }
        write_secret_file(&self.dir.join(ADDRESS), &text, Existing::Replace)
    }

    /// What is noted, if anything is.
    pub fn noted_address(&self) -> Result<Option<AdminAddress>, StateError> {
        match read_secret_file(&self.dir.join(ADDRESS)) {
            Ok(text) => Ok(parse(&text)),
            Err(StateError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forgets what is noted.
    pub fn forget_address(&self) -> Result<(), StateError> {
        let path = self.dir.join(ADDRESS);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StateError::io("remove", &path, error)),
            _ => Ok(()),
        }
    }
}

fn parse(text: &str) -> Option<AdminAddress> {
    let mut lines = text.lines();
    let url = lines.next()?.trim().to_owned();
    let mut address = AdminAddress { url, socket: None, state_group: None };
    for line in lines {
        match line.split_once(' ') {
            Some(("socket", path)) => address.socket = Some(PathBuf::from(path)),
            Some(("state_group", group)) => address.state_group = group.parse().ok(),
            // A later version may note more.
            _ => {}
        }
    }
    (!address.url.is_empty()).then_some(address)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_noted_is_read_again_and_only_from_a_file_of_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::create(folder.path().join("state")).unwrap();
        assert_eq!(state.noted_address().unwrap(), None);
        let address = AdminAddress { url: "http://127.0.0.1:7401".into(), socket: None, state_group: None };
        state.note_address(&address).unwrap();
        assert_eq!(fs::read_to_string(state.path().join(ADDRESS)).unwrap(), "http://127.0.0.1:7401\n");
        assert_eq!(state.noted_address().unwrap(), Some(address.clone()));
        let address = AdminAddress { socket: Some("/run/x/admin.sock".into()), state_group: Some(7), ..address };
        state.note_address(&address).unwrap();
        assert_eq!(state.noted_address().unwrap(), Some(address));

        // Whoever could write it would be shown the capability.
        let path = state.path().join(ADDRESS);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(state.noted_address(), Err(StateError::Open { .. })));
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert!(matches!(state.noted_address(), Err(StateError::Link { .. })));
        state.forget_address().unwrap();
        assert_eq!(state.noted_address().unwrap(), None);
    }
}
