//! The state folder: what a gateway keeps between two starts, and the only place where its secrets lie.
//!
//! | file | what | who may read it |
//! |---|---|---|
//! | `root.key` | the secret key that mints, `ed25519-private/<hex>` | the owner |
//! | `root.pub` | its public half, `ed25519/<hex>`, biscuit's own text form | everybody who gets at the folder |
//! | `keys.json` | every public key that was ever used here, with its number and state; a copy of what the ledger says | as above |
//! | `gateway.key` | 32 random bytes that all gateways of one record share: what they state is signed by a key of it | the owner |
//! | `admin.token` | a capability for administration | the owner |
//! | `<resource>.token` | a capability for that resource, written by `postern proxy` | the owner |
//! | `ledger.db` | the ledger; beside it its lock, its write-ahead log and `ledger.mark` | the owner |
//! | `admin.address`, `admin.sock` | where administration is, and its socket | the owner |
//!
//! The folder is believed only if it is safe: it and every file above belong to this account or to root, no file is a link,
//! and nobody else may write to any. A group that the configuration names (`state_group`) may read and write what is no
//! secret. Nobody else can then exchange a file between a look at it and its use. What is in an older copy of the whole
//! folder is as safe, and cannot be told from the newest.
//!
//! Files appear whole or not at all: they are written beside their place, synced and then moved into it, and a root
//! key is never written over except by a rotation.
//!
//! **Rotation** has two files and a ledger to change, and may be interrupted between any two steps: the new secret is
//! first staged as `root.key.next`, then the ledger says that it mints, then it takes the place of `root.key`. The next
//! start compares the staged key with the ledger and finishes or forgets the rotation ([`StateDir::settle_rotation`]).
//! The secret half of the old key is destroyed by that last step. Checking needs only its public half, which the ledger
//! keeps, and a secret that no longer mints can only be stolen.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use postern_capabilities::keys::{KeyEntry, KeyId, KeyRing, PublicKey, SigningKey};
use zeroize::Zeroizing;

mod address;
mod files;
mod gateway_key;

pub use address::AdminAddress;
pub use files::{Existing, StateError, read_secret_file, write_secret_file};
use files::{Kind, expect_safe, is_own, read_public_file, sync_folder, write_public_file};
pub use gateway_key::GatewayKey;

/// Where the state folder is unless somebody says otherwise.
pub const STATE_DIR_DEFAULT: &str = ".postern";
/// The name of the token file for administration, without its ending.
pub const ADMIN_TOKEN: &str = "admin";

const GATEWAY_KEY: &str = "gateway.key";
const ROOT_KEY: &str = "root.key";
const ROOT_KEY_NEXT: &str = "root.key.next";
const ROOT_PUB: &str = "root.pub";
const KEYS: &str = "keys.json";
const LEDGER: &str = "ledger.db";
const ADDRESS: &str = "admin.address";
const SOCKET: &str = "admin.sock";

/// Every file here that is believed, and who may do what with it. Tokens besides the administration's are looked at when
/// they are read.
const BELIEVED: [(&str, Kind); 12] = [
    (GATEWAY_KEY, Kind::Secret),
    (ROOT_KEY, Kind::Secret),
    (ROOT_KEY_NEXT, Kind::Secret),
    (ROOT_PUB, Kind::Public),
    (KEYS, Kind::Public),
    ("admin.token", Kind::Secret),
    (ADDRESS, Kind::Secret),
    (LEDGER, Kind::Private),
    ("ledger.db-wal", Kind::Private),
    ("ledger.db-shm", Kind::Private),
    ("ledger.lock", Kind::Private),
    ("ledger.mark", Kind::Private),
];

/// A state folder that exists and that nobody else can write to.
#[derive(Debug, Clone)]
pub struct StateDir {
    dir: PathBuf,
    /// The group that may read and write what is no secret.
    group: Option<u32>,
}

impl StateDir {
    /// The folder, which must be there already, and its owner's alone to write to.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StateError> {
        Self::open_for(dir, None)
    }

    /// The folder, which must be there already. Besides its owner this group may write to it, if one is named.
    pub fn open_for(dir: impl Into<PathBuf>, group: Option<u32>) -> Result<Self, StateError> {
        let dir = dir.into();
        // A link that this account or root has made is as good as the folder, as systemd makes one; one of anybody else
        // could be turned elsewhere.
        match fs::symlink_metadata(&dir) {
            Ok(found) if found.is_symlink() && !is_own(&found) => return Err(StateError::Link { path: dir }),
            _ => {}
        }
        let found = match fs::metadata(&dir) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StateError::NoFolder { path: dir });
            }
            Err(error) => return Err(StateError::io("look at", &dir, error)),
        };
        if !found.is_dir() {
            return Err(StateError::NotAFolder { path: dir });
        }
        if !is_own(&found) {
            return Err(StateError::Foreign { path: dir, owner: found.uid() });
        }
        // Who can write to the folder can put another root key into it.
        let is_admitted = group == Some(found.gid());
        let (mode, others) = (found.mode() & 0o7777, if is_admitted { 0o002 } else { 0o022 });
        if mode & others != 0 {
            let group = found.gid();
            return Err(match mode & 0o002 {
                0 => StateError::FolderOfGroup { path: dir, mode, group },
                _ => StateError::FolderOpen { path: dir, mode },
            });
        }
        Ok(Self { dir, group })
    }

    /// Fails where a file that is believed could have been put here or changed by somebody else.
    pub fn expect_safe(&self) -> Result<(), StateError> {
        for (name, kind) in BELIEVED {
            let path = self.dir.join(name);
            match fs::symlink_metadata(&path) {
                Ok(found) => expect_safe(&path, &found, kind, self.group)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StateError::io("look at", &path, error)),
            }
            // SQLite names its log by the path that it was given, so by another name it would miss its last records.
            if let (LEDGER, Ok(found)) = (name, fs::symlink_metadata(&path))
                && found.nlink() > 1
            {
                return Err(StateError::Linked { path });
            }
        }
        Ok(())
    }

    /// The folder, made (for its owner alone) if it is not there.
    pub fn create(dir: impl Into<PathBuf>) -> Result<Self, StateError> {
        let dir = dir.into();
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir) {
            Ok(()) => Self::open(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::open(dir),
            Err(error) => Err(StateError::io("make the state folder", &dir, error)),
        }
    }

    /// Where the administration's socket lies, unless its path is too long.
    pub fn socket_path(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// The group that may read and write what is no secret here.
    pub fn group(&self) -> Option<u32> {
        self.group
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Where the embedded ledger lies.
    pub fn ledger_path(&self) -> PathBuf {
        self.dir.join(LEDGER)
    }

    /// Fails where a gateway has run with this folder and the ledger is not there any more: without it every revocation
    /// would be forgotten. The copy of the keys is written only after the ledger has them.
    pub fn expect_ledger(&self) -> Result<(), StateError> {
        // The keys are looked at first: whoever starts the first gateway meanwhile writes the ledger before them.
        if self.has(KEYS) && !self.has(LEDGER) {
            return Err(self.ledger_lost());
        }
        Ok(())
    }

    /// The same for a ledger that is there and names no key that mints, as a copy without its write-ahead log may.
    pub fn expect_ledger_unused(&self) -> Result<(), StateError> {
        if self.has(KEYS) { Err(self.ledger_lost()) } else { Ok(()) }
    }

    fn ledger_lost(&self) -> StateError {
        StateError::LedgerLost { keys: self.dir.join(KEYS), ledger: self.ledger_path() }
    }

    /// Whether there is something of this name, readable or not.
    fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.dir.join(name)).is_ok()
    }

    /// Where the capability of this name lies, `admin` being the one for administration.
    pub fn token_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.token"))
    }

    /// Whether there is a root key, readable or not.
    pub fn has_root_key(&self) -> bool {
        self.has(ROOT_KEY)
    }

    /// The secret key that mints, if nobody else can have read it.
    pub fn root_key(&self) -> Result<SigningKey, StateError> {
        self.secret_key(ROOT_KEY)
    }

    /// Makes a root key where there is none. A key that is there already stays, and is an error; so is a folder that was
    /// in use with another key, which must not be buried under a new one.
    pub fn create_root_key(&self) -> Result<SigningKey, StateError> {
        let witness = [LEDGER, KEYS].into_iter().find(|name| self.has(name));
        if let Some(witness) = witness.filter(|_| !self.has_root_key()) {
            return Err(StateError::RootKeyLost { path: self.dir.join(ROOT_KEY), witness: self.dir.join(witness) });
        }
        let key = SigningKey::generate();
        let text = line(&key.to_secret_text());
        write_secret_file(&self.dir.join(ROOT_KEY), &text, Existing::Refuse)?;
        self.write_root_pub(&key.public())?;
        Ok(key)
    }

    /// The root key, made if there is none; the flag says whether it is new.
    pub fn root_key_or_create(&self) -> Result<(SigningKey, bool), StateError> {
        if self.has_root_key() {
            return Ok((self.root_key()?, false));
        }
        match self.create_root_key() {
            Ok(key) => Ok((key, true)),
            // Somebody else was faster; theirs is as good.
            Err(StateError::Exists { .. }) => Ok((self.root_key()?, false)),
            Err(error) => Err(error),
        }
    }

    /// The secret that the gateways of one record share, made if there is none.
    pub fn gateway_key_or_create(&self) -> Result<GatewayKey, StateError> {
        GatewayKey::read_or_create(&self.dir.join(GATEWAY_KEY))
    }

    /// The public key that belongs to the root key, from `root.pub`, without touching the secret.
    pub fn root_public(&self) -> Result<PublicKey, StateError> {
        let path = self.dir.join(ROOT_PUB);
        let text = read_public_file(&path, self.group)?;
        text.parse().map_err(|reason| StateError::NotAKey { path, reason })
    }

    /// The keys as the ledger last gave them, for what is done without opening it. Before the first start of a gateway,
    /// that is the root key alone, as number 0: the number that the ledger will give it.
    pub fn key_ring(&self) -> Result<KeyRing, StateError> {
        let path = self.dir.join(KEYS);
        let text = match read_public_file(&path, self.group) {
            Ok(text) => text,
            Err(StateError::Missing { .. }) => return Ok(KeyRing::of(KeyId(0), self.root_public()?)),
            Err(error) => return Err(error),
        };
        let entries: Vec<KeyEntry> = serde_json::from_str(&text)
            .map_err(|error| StateError::NotAKeyRing { path: path.clone(), reason: error.to_string() })?;
        let mut ring = KeyRing::new();
        for entry in entries {
            ring.add(entry.id, entry.key, entry.state)
                .map_err(|error| StateError::NotAKeyRing { path: path.clone(), reason: error.to_string() })?;
        }
        Ok(ring)
    }

    /// Notes what the ledger says about the keys. Called after every change of them, and at every start.
    pub fn record_key_ring(&self, ring: &KeyRing) -> Result<(), StateError> {
        let text = serde_json::to_string_pretty(ring.entries())
            .expect("numbers, keys and states are always expressible in JSON");
        write_public_file(&self.dir.join(KEYS), &line(&text))
    }

    /// The number under which tokens name this key: `None` if the key is retired or was never used here.
    pub fn key_id(&self, key: &PublicKey) -> Result<Option<KeyId>, StateError> {
        let ring = self.key_ring()?;
        Ok(ring.live().find(|entry| entry.key == *key).map(|entry| entry.id))
    }

    /// First step of a rotation: a new secret key, staged. One that was staged before and never came into use is replaced.
    pub fn stage_rotation(&self) -> Result<SigningKey, StateError> {
        let key = SigningKey::generate();
        let text = line(&key.to_secret_text());
        write_secret_file(&self.dir.join(ROOT_KEY_NEXT), &text, Existing::Replace)?;
        Ok(key)
    }

    /// Last step of a rotation, after the ledger has recorded it: the staged key takes the place of the old one, whose
    /// secret is gone after that.
    pub fn finish_rotation(&self) -> Result<(), StateError> {
        let staged = self.dir.join(ROOT_KEY_NEXT);
        let public = self.secret_key(ROOT_KEY_NEXT)?.public();
        let place = self.dir.join(ROOT_KEY);
        fs::rename(&staged, &place).map_err(|error| StateError::io("replace", &place, error))?;
        sync_folder(&self.dir)?;
        self.write_root_pub(&public)
    }

    /// Finishes a rotation that an earlier run had to leave half done, given the key that mints by the ledger's word;
    /// or forgets it, if the ledger never heard of it. Then the files must agree with the ledger, or it is an error.
    pub fn settle_rotation(&self, minting: &PublicKey) -> Result<(), StateError> {
        if self.has(ROOT_KEY_NEXT) {
            if self.secret_key(ROOT_KEY_NEXT)?.public() == *minting {
                self.finish_rotation()?;
            } else {
                self.forget_rotation()?;
            }
        }
        let root = self.root_key()?.public();
        if root != *minting {
            let path = self.dir.join(ROOT_KEY);
            return Err(StateError::OtherKey { path, found: root, minting: *minting });
        }
        // A run that was ended between the two renames leaves the old public key behind.
        match self.root_public() {
            Ok(public) if public == root => Ok(()),
            _ => self.write_root_pub(&root),
        }
    }

    /// Removes a staged key that will not be used.
    pub fn forget_rotation(&self) -> Result<(), StateError> {
        let path = self.dir.join(ROOT_KEY_NEXT);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StateError::io("remove", &path, error)),
            _ => sync_folder(&self.dir),
        }
    }

    /// The text of a capability that lies here.
    pub fn token(&self, name: &str) -> Result<Zeroizing<String>, StateError> {
        let text = read_secret_file(&self.token_path(name))?;
        Ok(Zeroizing::new(text.trim().to_owned()))
    }

    /// Keeps a capability here, in place of one of the same name, and says where.
    pub fn write_token(&self, name: &str, token: &str) -> Result<PathBuf, StateError> {
        let path = self.token_path(name);
        write_secret_file(&path, &line(token), Existing::Replace)?;
        Ok(path)
    }

    fn secret_key(&self, name: &str) -> Result<SigningKey, StateError> {
        let path = self.dir.join(name);
        let text = read_secret_file(&path)?;
        SigningKey::parse_text(&text).map_err(|reason| StateError::NotAKey { path, reason })
    }

    fn write_root_pub(&self, key: &PublicKey) -> Result<(), StateError> {
        write_public_file(&self.dir.join(ROOT_PUB), &line(&key.to_string()))
    }
}

fn line(text: &str) -> Zeroizing<String> {
    let mut whole = Zeroizing::new(String::with_capacity(text.len() + 1));
    whole.push_str(text);
    whole.push('\n');
    whole
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn state() -> (tempfile::TempDir, StateDir) {
        let parent = tempfile::tempdir().unwrap();
        let state = StateDir::create(parent.path().join("state")).unwrap();
        (parent, state)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone_and_nothing_is_left_over() {
        let (_parent, state) = state();
        let (key, new) = state.root_key_or_create().unwrap();
        assert!(new);
        state.write_token(ADMIN_TOKEN, "abc").unwrap();
        assert_eq!(mode(state.path()), 0o700);
        assert_eq!(mode(&state.path().join(ROOT_KEY)), 0o600);
        assert_eq!(mode(&state.token_path(ADMIN_TOKEN)), 0o600);
        assert_eq!(state.root_public().unwrap(), key.public());
        assert_eq!(state.token(ADMIN_TOKEN).unwrap().as_str(), "abc");
        let mut names: Vec<_> = fs::read_dir(state.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["admin.token", "root.key", "root.pub"]);
    }

    #[test]
    fn a_root_key_is_never_written_over() {
        let (_parent, state) = state();
        let first = state.create_root_key().unwrap().public();
        assert!(matches!(state.create_root_key(), Err(StateError::Exists { .. })));
        assert_eq!(state.root_key().unwrap().public(), first);
        assert!(!state.root_key_or_create().unwrap().1);
    }

    #[test]
    fn a_root_key_that_others_could_read_is_refused() {
        let (_parent, state) = state();
        state.create_root_key().unwrap();
        let path = state.path().join(ROOT_KEY);
        for open in [0o644, 0o640, 0o604, 0o660] {
            chmod(&path, open);
            let error = state.root_key().err().unwrap();
            assert!(matches!(error, StateError::Open { .. }), "{error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        chmod(&path, 0o600);
        state.root_key().unwrap();
    }

    #[test]
    fn a_root_key_that_is_missing_a_link_a_folder_or_nonsense_is_refused_in_words() {
        let (_parent, state) = state();
        let path = state.path().join(ROOT_KEY);
        assert!(matches!(state.root_key().err().unwrap(), StateError::Missing { .. }));

        let elsewhere = state.path().join("elsewhere");
        fs::write(&elsewhere, "x").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(matches!(state.root_key().err().unwrap(), StateError::Link { .. }));
        assert!(matches!(state.create_root_key().err().unwrap(), StateError::Exists { .. }));
        fs::remove_file(&path).unwrap();

        fs::create_dir(&path).unwrap();
        assert!(matches!(state.root_key().err().unwrap(), StateError::NotAFile { .. }));
        fs::remove_dir(&path).unwrap();

        for nonsense in ["", "ed25519-private/12", "\u{0}\u{1}", "secret-canary"] {
            write_secret_file(&path, nonsense, Existing::Replace).unwrap();
            let error = state.root_key().err().unwrap();
            assert!(matches!(error, StateError::NotAKey { .. }), "{error}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        write_secret_file(&path, &"x".repeat(100_000), Existing::Replace).unwrap();
        assert!(matches!(state.root_key().err().unwrap(), StateError::TooLong { .. }));
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let (_parent, state) = state();
        chmod(state.path(), 0o777);
        assert!(matches!(StateDir::open(state.path()), Err(StateError::FolderOpen { .. })));
        chmod(state.path(), 0o755);
        StateDir::open(state.path()).unwrap();
        assert!(matches!(StateDir::open(state.path().join("none")), Err(StateError::NoFolder { .. })));
    }

    /// The story: `ledger.db` of mode 0666, a link in its place, another account's: each was served with.
    #[test]
    fn every_file_that_is_believed_is_looked_at() {
        let (parent, state) = state();
        state.create_root_key().unwrap();
        state.write_token(ADMIN_TOKEN, "abc").unwrap();
        state.record_key_ring(&state.key_ring().unwrap()).unwrap();
        for name in [LEDGER, "ledger.db-wal", "ledger.db-shm", "ledger.lock", "ledger.mark", ADDRESS] {
            write_secret_file(&state.path().join(name), "x", Existing::Replace).unwrap();
        }
        state.expect_safe().unwrap();
        let away = parent.path().join("away");
        for (name, kind) in BELIEVED.into_iter().filter(|(name, _)| ![ROOT_KEY_NEXT, GATEWAY_KEY].contains(name)) {
            let path = state.path().join(name);
            let before = mode(&path);
            chmod(&path, 0o666);
            let sentence = state.expect_safe().unwrap_err().to_string();
            assert!(sentence.contains(name) && sentence.contains("chmod"), "{sentence}");
            chmod(&path, 0o644);
            assert_eq!(state.expect_safe().is_ok(), kind == Kind::Public, "{name}");
            chmod(&path, before);
            fs::rename(&path, &away).unwrap();
            std::os::unix::fs::symlink(&away, &path).unwrap();
            assert!(matches!(state.expect_safe(), Err(StateError::Link { .. })), "{name}");
            fs::remove_file(&path).unwrap();
            fs::rename(&away, &path).unwrap();
            // Only root can give a file away.
            if std::os::unix::fs::chown(&path, Some(12_345), None).is_ok() {
                assert!(matches!(state.expect_safe(), Err(StateError::Foreign { owner: 12_345, .. })), "{name}");
                std::os::unix::fs::chown(&path, Some(rustix::process::geteuid().as_raw()), None).unwrap();
            }
            state.expect_safe().unwrap();
        }
        fs::hard_link(state.ledger_path(), &away).unwrap();
        assert!(matches!(state.expect_safe(), Err(StateError::Linked { .. })));
    }

    #[test]
    fn a_group_that_is_named_may_write_what_is_no_secret_and_no_other_may() {
        let (_parent, state) = state();
        state.create_root_key().unwrap();
        write_secret_file(&state.ledger_path(), "x", Existing::Replace).unwrap();
        chmod(state.path(), 0o770);
        chmod(&state.ledger_path(), 0o660);
        let group = fs::metadata(state.path()).unwrap().gid();
        let error = StateDir::open(state.path()).unwrap_err();
        assert!(matches!(&error, StateError::FolderOfGroup { .. }), "{error}");
        assert!(error.to_string().contains("state_group"), "{error}");
        assert!(StateDir::open_for(state.path(), Some(group + 1)).is_err());
        let admitted = StateDir::open_for(state.path(), Some(group)).unwrap();
        admitted.expect_safe().unwrap();
        chmod(&state.path().join(ROOT_KEY), 0o640);
        assert!(matches!(admitted.expect_safe(), Err(StateError::Open { .. })), "no secret");
        chmod(&state.path().join(ROOT_KEY), 0o600);
        chmod(&state.ledger_path(), 0o662);
        assert!(matches!(admitted.expect_safe(), Err(StateError::Writable { .. })), "nobody else");
        chmod(state.path(), 0o772);
        assert!(matches!(StateDir::open_for(state.path(), Some(group)), Err(StateError::FolderOpen { .. })));
    }

    #[test]
    fn a_folder_that_was_in_use_gets_no_new_root_key_and_misses_its_ledger() {
        let (_parent, state) = state();
        state.create_root_key().unwrap();
        state.expect_ledger().unwrap();
        state.expect_ledger_unused().unwrap();
        state.record_key_ring(&state.key_ring().unwrap()).unwrap();
        let sentence = state.expect_ledger().unwrap_err().to_string();
        assert!(sentence.contains("ledger.db") && sentence.contains("keys.json"), "{sentence}");
        fs::write(state.ledger_path(), "x").unwrap();
        state.expect_ledger().unwrap();
        assert!(matches!(state.expect_ledger_unused(), Err(StateError::LedgerLost { .. })));

        fs::remove_file(state.path().join(ROOT_KEY)).unwrap();
        fs::remove_file(state.path().join(ROOT_PUB)).unwrap();
        for witness in [LEDGER, KEYS] {
            let sentence = state.root_key_or_create().err().unwrap().to_string();
            assert!(sentence.contains("root.key") && sentence.contains(witness), "{sentence}");
            assert!(!state.has_root_key() && !state.has(ROOT_PUB));
            fs::remove_file(state.path().join(witness)).unwrap();
        }
        state.root_key_or_create().unwrap();
    }

    #[test]
    fn an_interrupted_rotation_is_finished_or_forgotten() {
        let (_parent, state) = state();
        let old = state.create_root_key().unwrap().public();

        // The ledger never heard of it.
        state.stage_rotation().unwrap();
        state.settle_rotation(&old).unwrap();
        assert_eq!(state.root_key().unwrap().public(), old);
        assert!(!state.path().join(ROOT_KEY_NEXT).exists());

        // The ledger has it, the files do not yet.
        let new = state.stage_rotation().unwrap().public();
        state.settle_rotation(&new).unwrap();
        assert_eq!((state.root_key().unwrap().public(), state.root_public().unwrap()), (new, new));

        // A root key that the ledger does not know mints nothing that would be accepted: say so at once.
        assert!(matches!(state.settle_rotation(&old), Err(StateError::OtherKey { .. })));
    }

    #[test]
    fn the_number_of_a_key_comes_from_the_ring() {
        let (_parent, state) = state();
        let first = state.create_root_key().unwrap().public();
        assert_eq!(state.key_id(&first).unwrap(), Some(KeyId(0)));
        let second = SigningKey::generate().public();
        let mut ring = state.key_ring().unwrap();
        ring.rotate(KeyId(1), second).unwrap();
        ring.retire(KeyId(0)).unwrap();
        state.record_key_ring(&ring).unwrap();
        assert_eq!(state.key_ring().unwrap(), ring);
        assert_eq!((state.key_id(&first).unwrap(), state.key_id(&second).unwrap()), (None, Some(KeyId(1))));
        fs::write(state.path().join(KEYS), "[{]").unwrap();
        assert!(matches!(state.key_ring(), Err(StateError::NotAKeyRing { .. })));
    }
}
