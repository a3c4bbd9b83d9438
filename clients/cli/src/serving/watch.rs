//! Notices that a file has changed, whichever way it was replaced.
//!
//! Once a second each file is asked for its identity, size and time, through every symbolic link on its way. That is a
//! few system calls, and finds what editors, certificate tools and Kubernetes do (a rename over the file, a link that is
//! turned round) on every file system, network and overlay mounts included. Notifications of the kernel would have to be
//! asked for in every folder along every chain of links, are lost when a queue runs over, and never come from some mounts.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often is looked.
const PERIOD: Duration = Duration::from_secs(1);

/// Some files, and how they looked when they were last read.
pub(super) struct Watch {
    files: Vec<PathBuf>,
    read: Look,
    seen: Option<Look>,
    looks: Interval,
}

/// How files look: identity, size and times of each; `None` where it cannot be asked.
type Look = Vec<Option<Stamp>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    mode: u32,
}

impl Watch {
    /// Watches these files from now on.
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        let mut looks = interval(PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { read: look(&files), files, seen: None, looks }
    }

    /// Waits until something has changed and looks the same at two looks: what is being written is not read half. From
    /// then on that is how the files looked when they were read.
    pub(super) async fn changed(&mut self) {
        loop {
            self.looks.tick().await;
            let files = self.files.clone();
            // A file system that hangs must not keep signals from being answered.
            let Ok(now) = tokio::task::spawn_blocking(move || look(&files)).await else { continue };
            if now == self.read {
                self.seen = None;
            } else if self.seen.as_ref() == Some(&now) {
                self.seen = None;
                self.read = now;
                return;
            } else {
                self.seen = Some(now);
            }
        }
    }

    /// Watches these files from now on. What is known of those that were watched already is kept, so that a change since
    /// then is still found.
    pub(super) fn follow(&mut self, files: Vec<PathBuf>) {
        let known = |file: &PathBuf| Some(self.read[self.files.iter().position(|known| known == file)?]);
        self.read = files.iter().map(|file| known(file).unwrap_or_else(|| stamp(file))).collect();
        self.files = files;
        self.seen = None;
    }
}

fn look(files: &[PathBuf]) -> Look {
    files.iter().map(stamp).collect()
}

fn stamp(file: &PathBuf) -> Option<Stamp> {
    let metadata = fs::metadata(file).ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        mode: metadata.mode(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_way_of_replacing_a_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["one", "two"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("file"), "same").unwrap();
        }
        symlink("one", at("data")).unwrap();
        let file = at("data").join("file");
        let mut last = stamp(&file);
        let mut differs = |what: &str| {
            let now = stamp(&file);
            assert_ne!(now, last, "{what}");
            last = now;
        };
        // As Kubernetes does it: another folder behind the same name.
        symlink("two", at("new")).unwrap();
        fs::rename(at("new"), at("data")).unwrap();
        differs("a link that was turned round");
        fs::write(at("two").join("next"), "same").unwrap();
        fs::rename(at("two").join("next"), at("two").join("file")).unwrap();
        differs("a rename over the file, with the same size");
        fs::write(at("two").join("file"), "longer").unwrap();
        differs("written in place");
        fs::remove_file(at("two").join("file")).unwrap();
        differs("gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_once_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "a").unwrap();
        let mut watch = Watch::new(vec![file.clone()]);
        fs::write(&file, "ab").unwrap();
        watch.changed().await;
        let again = tokio::time::timeout(PERIOD * 5, watch.changed()).await;
        assert!(again.is_err(), "one change is one change");
        let other = folder.path().join("other");
        fs::write(&file, "abc").unwrap();
        watch.follow(vec![file, other.clone()]);
        watch.changed().await;
        fs::write(&other, "new").unwrap();
        watch.changed().await;
    }
}
