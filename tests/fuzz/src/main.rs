//! Runs the bounded driver: `postern-fuzz --seconds 60 --seed 1`.

use std::time::{Duration, Instant};

use postern_fuzz::TARGETS;
use postern_fuzz::driver::Run;

fn main() {
    let argument = |name: &str, default: u64| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
        arguments.next().map_or(default, |value| value.parse().expect("a whole number"))
    };
    let end = Instant::now() + Duration::from_secs(argument("--seconds", 10));
    let mut run = Run::new(argument("--seed", 1));
    while Instant::now() < end {
        (0..200).for_each(|_| run.step());
    }
    println!("{} messages, {} targets, no finding", run.messages, TARGETS.len());
}
