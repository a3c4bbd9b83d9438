//! Killed at any moment, the embedded engine keeps everything that it acknowledged.
//!
//! The test starts itself as a child that appends without end and prints a line after each acknowledgement; the parent
//! kills it (SIGKILL) after a varying number of lines, opens the record and checks: acknowledged ⊆ stored, pairs whole,
//! the chain sound. SIGKILL keeps the page cache, so this proves atomicity and order, not the sync; what proves that
//! needs a disk that can be cut off, and lives with the crash tests of the whole gateway.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use postern_gateway::ledger::{Embedded, EmbeddedOptions, Expected, Record, verify};
use postern_ledger_contract::{Recorder, revoked, runtime};

const CHILD: &str = "POSTERN_LEDGER_CHILD";
const ROUNDS: u64 = 50;

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if let Some(file) = std::env::var_os(CHILD) {
        append_for_ever(Path::new(&file));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("ledger.db");
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        // 1 to 23 lines, in an order that mixes early and late kills.
        acknowledged = kill_after(&file, 1 + (round * 7) % 23).max(acknowledged);
        let recorder = Recorder::default();
        let record = Embedded::open(&EmbeddedOptions::new(&file), recorder.boxed(), Default::default())
            .expect("it opens after kill -9");
        let observed = recorder.so_far();
        assert!(observed.state.position().0 >= acknowledged, "round {round}: an acknowledged record is gone");
        assert_eq!(observed.state.position().0 % 2, 0, "round {round}: half of an append stands");
        drop(record);
        let report = verify::verify(&file).expect("verified");
        assert!(report.is_sound(), "round {round}: {report}");
    }
    assert!(acknowledged >= ROUNDS);
}

/// Starts the child, waits for this many acknowledgements, kills it, and returns the last position that it printed.
fn kill_after(file: &Path, lines: u64) -> u64 {
    let program = std::env::current_exe().expect("a test knows itself");
    let mut child = Command::new(program)
        .args(["what_was_acknowledged_survives_kill_9", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, file)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the child starts");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut last = 0;
    let mut seen = 0;
    let mut line = String::new();
    while seen < lines && out.read_line(&mut line).expect("the child's output") > 0 {
        if let Some(position) = line.trim().strip_prefix("acknowledged ") {
            last = position.parse().expect("a position");
            seen += 1;
        }
        line.clear();
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(seen, lines, "the child ended by itself");
    // Lines that it still wrote before it died are acknowledgements too; one that was cut is none.
    while out.read_line(&mut line).expect("the rest") > 0 {
        if let Some(position) = line.strip_suffix('\n').and_then(|line| line.strip_prefix("acknowledged ")) {
            last = position.parse().expect("a position");
        }
        line.clear();
    }
    last
}

fn append_for_ever(file: &Path) -> ! {
    let record = Embedded::open(&EmbeddedOptions::new(file), Recorder::default().boxed(), Default::default())
        .expect("the child opens it");
    let mut out = std::io::stdout();
    // The test harness leaves a line open; what follows must begin one.
    writeln!(out).expect("the parent reads");
    runtime().block_on(async {
        for number in 0.. {
            let position = record
                .append(vec![revoked(number), revoked(number + 1_000_000)], Expected::Any)
                .await
                .expect("appended");
            writeln!(out, "acknowledged {position}").expect("the parent reads");
            out.flush().expect("the parent reads");
        }
    });
    unreachable!("there is always a next number");
}
