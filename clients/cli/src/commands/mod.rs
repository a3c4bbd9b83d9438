//! One file a command, or a group that belongs together. Each reads its arguments, does one thing and says how it ended.

pub(crate) mod attenuate;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod lint;
pub(crate) mod log;
pub(crate) mod mint;
pub(crate) mod overview;
pub(crate) mod proxy;
pub(crate) mod revoke;
pub(crate) mod serve;
pub(crate) mod status;

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use postern_gateway::gateway::open_ledger;
use postern_gateway::ledger::Ledger;
use postern_gateway::limits::Limits;
use postern_gateway::state::StateDir;

use crate::stop::Stop;

/// Whole seconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whoever named no configuration file, or another thing, learns what to do.
fn expect_config_file(path: &Path) -> Result<(), Stop> {
    match (path.is_file(), path.is_dir()) {
        (true, _) => Ok(()),
        (_, true) => Err(Stop::failed(format!("{} is a folder; name the configuration file in it", path.display()))),
        _ => Err(Stop::failed(format!(
            "there is no configuration file {}; name it with --config, or start with `postern config default > postern.toml`",
            path.display()
        ))),
    }
}

/// Runs what needs sockets or the ledger, on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::failed(format!("cannot start: {error}; the limit on open files may be too low")))?;
    let result = runtime.block_on(work);
    // What is still waited for in the background, a drain that was cut short, must not keep the process.
    runtime.shutdown_background();
    result
}

/// The ledger itself, for what is done while no gateway runs. It fails while one does, which is what keeps the two apart.
pub(crate) async fn own_ledger(state: &StateDir) -> Result<Ledger, Stop> {
    open_ledger(state, &Limits::default(), Arc::default()).await.map_err(Stop::failed)
}
