//! The fuzz targets, driven for a bounded number of messages with the other tests: `POSTERN_CASES` of them, ten times over.
//! `tests/fuzz` runs the same targets for as long as wanted.

use std::time::{Duration, Instant};

use postern_capabilities::json_rpc;
use postern_capabilities::language::ArgumentNames;

#[expect(
    unreachable_pub,
    clippy::panic,
    reason = "the targets are a crate of their own as well, and finding is panicking"
)]
#[path = "../../tests/fuzz/src/lib.rs"]
mod postern_fuzz;

#[test]
fn no_spoiled_message_finds_a_flaw_in_the_readers() {
    let cases = std::env::var("POSTERN_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000u64);
    for seed in 0..10 {
        let mut run = postern_fuzz::driver::Run::new(seed);
        (0..cases).for_each(|_| run.step());
        assert_eq!(run.messages, cases);
    }
}

/// The name of an argument was once copied for every value below it: a body of one long name and many values took time
/// that grew with the square of its length, on a worker that serves others.
#[test]
fn the_cost_of_a_body_grows_with_its_length() {
    let half = 1 << 19;
    let name = "n".repeat(half);
    for element in ["1", "[1]", "{\"a\":1}"] {
        let elements = vec![element; half / (element.len() + 1)].join(",");
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"a","arguments":{{"{name}":[{elements}]}}}}}}"#
        );
        let started = Instant::now();
        let read = json_rpc::read(body.as_bytes(), &ArgumentNames::any()).expect("JSON-RPC");
        assert!(read.items[0].unstated.is_some(), "the name is too long for a fact");
        // Some hundredths of a second, where nothing is optimised; many seconds is what it was.
        assert!(started.elapsed() < Duration::from_secs(5), "{element}: {:?}", started.elapsed());
    }
}
