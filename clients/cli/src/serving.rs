//! What `serve`, `proxy` and `demo` share: starting the gateway, staying up until a signal, and draining.

use std::io::IsTerminal;
use std::time::Duration;

use postern_gateway::config::Config;
use postern_gateway::gateway::{self, Running};
use postern_gateway::state::StateDir;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::admin;
use crate::output;
use crate::stop::Stop;

/// Which events are shown: `POSTERN_LOG`, in the syntax of `RUST_LOG`.
const LOG_VARIABLE: &str = "POSTERN_LOG";

/// Within this time a signal that comes again is the same one.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Starts the gateway, and notes where its administration is.
pub(crate) async fn start(config: Config, state: StateDir) -> Result<Running, Stop> {
    let running = gateway::start(config, state.clone()).await.map_err(Stop::failed)?;
    admin::note_address(&state, running.admin_address());
    Ok(running)
}

/// Stays until SIGINT or SIGTERM, then drains. A second signal ends the process at once. SIGUSR1 opens the access log's
/// file anew, for log rotation.
pub(crate) async fn until_signal(running: Running, state: &StateDir) -> Result<(), Stop> {
    let cannot = |error| Stop::failed(format!("cannot wait for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut rotated = signal(SignalKind::user_defined1()).map_err(cannot)?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = rotated.recv() => running.reopen_access_log(),
        }
    }
    output::note("Draining: no new connections, what is under way may finish. A second signal ends it at once.");
    admin::forget_address(state);
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
    tokio::select! {
        () = running.drain() => Ok(()),
        () = second => Err(Stop::failed("ended before everything under way was finished")),
    }
}

/// Answers SIGHUP, by which other servers read their configuration anew and of which an unprepared process dies.
pub(crate) fn answer_hangups() -> Result<(), Stop> {
    let hangup = signal(SignalKind::hangup());
    let mut hangup = hangup.map_err(|error| Stop::failed(format!("cannot wait for signals: {error}")))?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            output::note(
                "This version does not read its configuration anew; the old one stays in force until a restart.",
            );
        }
    });
    Ok(())
}

/// Sends what the gateway has to say to standard error: for people on a terminal, as JSON lines otherwise.
pub(crate) fn log_to_stderr(default: &str) {
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
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A subscriber that is there already, as in tests, stays.
    let _ = if std::io::stderr().is_terminal() {
        subscriber.with_ansi(std::env::var_os("NO_COLOR").is_none()).with_target(false).compact().try_init()
    } else {
        subscriber.json().try_init()
    };
}
