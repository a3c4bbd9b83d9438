//! `postern` without arguments: what this is, and where to begin.

use crate::output::{self, Paint};
use crate::stop::{Exit, Stop};

pub(crate) fn run() -> Result<Exit, Stop> {
    let paint = Paint::for_stdout();
    let command = |name: &str, about: &str| format!("  {}  {about}", paint.bold(&format!("{name:<38}")));
    let lines = [
        format!("{}: a small gate in a wall, open to whoever holds the key.", paint.bold("postern")),
        String::new(),
        "It stands before a service. A request passes if it carries a capability for what it does, and".to_owned(),
        "whoever holds a capability can narrow it and hand it on, without asking anybody.".to_owned(),
        String::new(),
        "Begin here:".to_owned(),
        command("postern demo", "see it work, without touching anything"),
        command("postern proxy http://127.0.0.1:3000", "put it before a service that you run"),
        command("postern --help", "every command, with examples"),
    ];
    output::line(&lines.join("\n"))?;
    Ok(Exit::Done)
}
