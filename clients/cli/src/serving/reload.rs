//! The configuration, read anew when a signal or a change of its files says so.
//!
//! A configuration that is refused changes nothing; what is wrong with it is said once, all of it. It may be refused for
//! a file that is not there yet, and of files that a broken configuration names nothing is known: so a refused one is
//! looked at again now and then, quietly, until it is good.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_gateway::config::Config;
use postern_gateway::gateway::Running;
use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep_until};

use super::watch::Watch;
use super::{status, systemd};
use crate::output::plain;

/// How often a refused configuration is looked at again.
const AGAIN: Duration = Duration::from_secs(5);

/// What leads to a reload, and what came of the last one.
pub(super) struct Reloading {
    file: PathBuf,
    hangup: Signal,
    watch: Watch,
    /// Whether the file could not even be read when it was refused last: then nobody knows which files it waits for.
    is_unreadable: bool,
    again_at: Instant,
}

impl Reloading {
    pub(super) fn new(file: &Path, hangup: Signal, running: &Running) -> Self {
        let watch = Watch::new(files(file, &running.generation().config));
        Self { file: file.to_owned(), hangup, watch, is_unreadable: false, again_at: Instant::now() }
    }

    /// Waits for a reason to read the configuration anew. May be let go at any time; [`Self::reload`] may not.
    pub(super) async fn due(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => return "SIGHUP",
                () = self.watch.changed() => return "a file has changed",
                () = sleep_until(self.again_at), if self.is_unreadable => {
                    self.again_at = Instant::now() + AGAIN;
                    // A look at a broken file is no reload: it counts nothing and says nothing.
                    if Config::load(&self.file).is_ok() {
                        return "the configuration is complete now";
                    }
                }
            }
        }
    }

    /// Reads it, and says what came of it.
    pub(super) async fn reload(&mut self, running: &Running, why: &str) {
        systemd::reloading();
        let shown = self.file.display();
        match running.reload(&self.file).await {
            Ok(reloaded) => {
                let changes = match reloaded.changes.as_slice() {
                    [] => "nothing".to_owned(),
                    changes => changes.join(", "),
                };
                tracing::info!(generation = reloaded.generation, why, "{shown} is in force; what changed: {changes}");
                self.is_unreadable = false;
                self.watch.follow(files(&self.file, &running.generation().config));
                systemd::ready(&status(running));
            }
            Err(refused) => {
                let reasons: String = refused.reasons.iter().map(|r| format!("\n  {}", plain(r))).collect();
                tracing::error!(why, "{shown} is refused, the configuration before it stays in force:{reasons}");
                self.watch_refused(running);
                systemd::ready(&format!("{}; the newest configuration is refused", status(running)));
            }
        }
    }

    /// Of a refused configuration the files are watched as well, as far as it can be read at all.
    fn watch_refused(&mut self, running: &Running) {
        let mut watched = files(&self.file, &running.generation().config);
        let read = Config::load(&self.file);
        if let Ok(config) = &read {
            watched.extend(config.files().into_iter().map(Path::to_owned));
            watched.sort();
            watched.dedup();
        }
        self.is_unreadable = read.is_err();
        self.again_at = Instant::now() + AGAIN;
        self.watch.follow(watched);
    }
}

fn files(file: &Path, config: &Config) -> Vec<PathBuf> {
    std::iter::once(file).chain(config.files()).map(Path::to_owned).collect()
}
