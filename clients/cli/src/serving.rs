//! What `serve`, `proxy` and `demo` share: starting the gateway, staying up until a signal, and draining.
//!
//! * [`reload`]: the configuration, read anew when a signal or a change of its files says so
//! * [`systemd`]: what a service manager is told

mod reload;
mod systemd;
mod watch;

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use postern_gateway::config::Config;
use postern_gateway::gateway::{self, Running, Startup};
use postern_gateway::limits::LOG_FLUSH_TIMEOUT;
use postern_gateway::state::StateDir;
use postern_gateway::telemetry::Diagnostics;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use self::reload::Reloading;
use self::systemd::Watchdog;
use crate::admin;
use crate::output;
use crate::stop::Stop;

/// Which events are shown: `POSTERN_LOG`, in the syntax of `RUST_LOG`.
const LOG_VARIABLE: &str = "POSTERN_LOG";

/// Within this time a signal that comes again is the same one.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Starts the gateway, and notes where its administration is.
pub(crate) async fn start(config: Config, state: StateDir, startup: Startup) -> Result<Running, Stop> {
    admin::forget_address(&state);
    let runtime_folder = ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"].into_iter().find_map(std::env::var_os);
    let startup = Startup { runtime_folder: runtime_folder.map(Into::into), ..startup };
    let running = gateway::start(config, state.clone(), startup).await.map_err(Stop::failed)?;
    admin::note_address(&state, &running);
    Ok(running)
}

/// The signals that a gateway answers. Until this is made each of them ends the process as it would any other; so it is
/// made before a gateway is ready, because whoever sees it ready may send one.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// SIGUSR1: the access log's file was rotated.
    rotated: Signal,
    /// SIGHUP: the configuration is to be read anew.
    hangup: Option<Signal>,
}

impl Signals {
    /// Catches those that end and those that rotate.
    pub(crate) fn catch() -> Result<Self, Stop> {
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
            rotated: caught(SignalKind::user_defined1())?,
            hangup: None,
        })
    }

    /// Catches SIGHUP as well, for a gateway that has a file to read anew.
    pub(crate) fn catch_with_hangup() -> Result<Self, Stop> {
        Ok(Self { hangup: Some(caught(SignalKind::hangup())?), ..Self::catch()? })
    }
}

fn caught(kind: SignalKind) -> Result<Signal, Stop> {
    signal(kind).map_err(|error| Stop::failed(format!("cannot wait for signals: {error}")))
}

/// Stays until SIGINT or SIGTERM, then drains. A second signal ends the process at once. SIGUSR1 opens the access log's
/// file anew, for log rotation.
///
/// Where a configuration `file` is given, SIGHUP and every change of it, or of a file that it names, put it in force anew.
pub(crate) async fn until_signal(running: Running, file: Option<&Path>, signals: Signals) -> Result<(), Stop> {
    let Signals { mut interrupt, mut terminate, mut rotated, hangup } = signals;
    let mut reloading = file.zip(hangup).map(|(file, hangup)| Reloading::new(file, hangup, &running));
    let mut watchdog = Watchdog::asked_for();
    systemd::ready(&status(&running));
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = rotated.recv() => running.reopen_access_log(),
            why = due(&mut reloading) => {
                // Not in the branch's own future: a reload that has begun is not cancelled by whatever else happens.
                if let Some(reloading) = &mut reloading {
                    reloading.reload(&running, why).await;
                }
            }
            () = next_beat(&mut watchdog, &running) => {}
        }
    }
    output::note("Draining: no new connections, what is under way may finish. A second signal ends it at once.");
    systemd::stopping();
    let second = async {
        // Some wrappers send one signal to the process and to its group; that is one signal, not two.
        tokio::time::sleep(SAME_SIGNAL).await;
        // Takes what came meanwhile, if anything did.
        let repeated = async { tokio::join!(interrupt.recv(), terminate.recv()) };
        let _ = tokio::time::timeout(Duration::ZERO, repeated).await;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    // While it drains a gateway is as alive as before.
    let beats = async {
        match &mut watchdog {
            Some(watchdog) => watchdog.keep_beating().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = running.drain() => Ok(()),
        () = second => Err(Stop::failed("ended before everything under way was finished")),
        () = beats => Ok(()),
    }
}

/// Waits for a reason to read the configuration anew. Without a file there is none.
async fn due(reloading: &mut Option<Reloading>) -> &'static str {
    match reloading {
        Some(reloading) => reloading.due().await,
        None => std::future::pending().await,
    }
}

/// Waits for the watchdog's next beat. Without one there is none.
async fn next_beat(watchdog: &mut Option<Watchdog>, running: &Running) {
    match watchdog {
        Some(watchdog) => watchdog.beat(running).await,
        None => std::future::pending().await,
    }
}

/// What a service manager shows of a gateway that is up.
fn status(running: &Running) -> String {
    let generation = running.generation();
    let addresses: Vec<_> = running.data_addresses().iter().map(ToString::to_string).collect();
    format!(
        "configuration {}: {} resources on {}",
        generation.number,
        generation.config.resources.len(),
        addresses.join(", ")
    )
}

/// Sends what the gateway has to say to standard error: for people on a terminal, as JSON lines otherwise. No thread waits
/// for whoever reads it; what is still queued when the returned value is dropped gets a bounded time.
pub(crate) fn log_to_stderr(default: &str) -> Result<Diagnostics, Stop> {
    let filter = std::env::var(LOG_VARIABLE).ok().and_then(|text| EnvFilter::try_new(text).ok());
    let mut filter = filter.unwrap_or_else(|| EnvFilter::new(default));
    // At their lowest levels these libraries print header fields, tokens among them. Whatever the variable asks for, they
    // may not.
    for ceiling in ["hyper=warn", "hyper_util=warn", "h2=warn", "rustls=warn", "tokio_rustls=warn", "tungstenite=warn"]
    {
        if let Ok(directive) = ceiling.parse() {
            filter = filter.add_directive(directive);
        }
    }
    let diagnostics = Diagnostics::start(std::io::stderr(), LOG_FLUSH_TIMEOUT)
        .map_err(|error| Stop::failed(format!("cannot start: {error}; the limit on threads may be too low")))?;
    let sink = diagnostics.sink();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || sink.clone());
    // A subscriber that is there already, as in tests, stays.
    let _ = if std::io::stderr().is_terminal() {
        subscriber.with_ansi(std::env::var_os("NO_COLOR").is_none()).with_target(false).compact().try_init()
    } else {
        subscriber.json().try_init()
    };
    Ok(diagnostics)
}
