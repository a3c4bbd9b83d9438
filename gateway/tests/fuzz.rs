//! The fuzz targets, driven for a bounded number of messages with the other tests: `POSTERN_CASES` of them, ten times over.
//! `tests/fuzz` runs the same targets for as long as wanted.

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
