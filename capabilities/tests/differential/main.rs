//! The plan against the library, over tokens and messages made at random.
//!
//! Where no binding errs the plan says exactly what biscuit's authorizer says: whether a right is held, and which checks fail. Where
//! one errs the plan refuses, and names the check; the library's outcome depends on chance there. A third, naive
//! evaluator says which of the two it is.
//!
//! `POSTERN_CASES` says how many cases are run (a case is a token with a message), `POSTERN_SEED` from where. A failure
//! prints the seed of its token, and with it as `POSTERN_SEED` the case comes first.

// The lint's own leave for tests does not reach the helpers of a test crate.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod generate;
mod library;
mod model;
mod mutate;

use biscuit_auth::Biscuit;
use postern_capabilities::language::{self, Plan, Verdict};
use postern_capabilities::message::{QUERY_FACT_BYTES_MAX, TEXT_BYTES_MAX, query_facts};
use rand::SeedableRng;
use rand::rngs::StdRng;

use library::{Judgement, Keys};
use model::{Ambient, Errs, Token};

/// Messages for each token: building and verifying a token costs more than deciding.
const MESSAGES: u64 = 8;

const CASES_DEFAULT: u64 = 2_000;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |number| number.parse().expect("a number"))
}

/// How often each outcome came up, so that the test can tell that it tests something.
#[derive(Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    undecidable: u64,
    rights: u64,
}

#[test]
fn the_plan_agrees_with_the_library() {
    let cases = number("POSTERN_CASES", CASES_DEFAULT);
    let first = number("POSTERN_SEED", 0);
    let keys = Keys::new();
    let mut tally = Tally::default();
    for seed in first..first + cases.div_ceil(MESSAGES) {
        token_agrees(seed, &keys, &mut tally);
    }
    println!("{tally:?}");
    let enough = cases / 20;
    assert!(
        cases < CASES_DEFAULT
            || [tally.passed, tally.failed, tally.undecidable, tally.rights].iter().all(|count| *count > enough),
        "some outcome hardly ever comes up: {tally:?}"
    );
}

/// Deciding notes its steps, and in a build with debug assertions it compares them to the price. Here every text is as long as
/// it may be and all are equal, so that nothing ends early.
#[test]
#[cfg_attr(not(debug_assertions), ignore = "nothing is compared without debug assertions")]
fn no_message_takes_more_steps_than_the_price() {
    let text: &str = "a".repeat(TEXT_BYTES_MAX).leak();
    let message = generate::maximal(text, &text[..QUERY_FACT_BYTES_MAX]);
    let (first, cases) = (number("POSTERN_SEED", 0), number("POSTERN_CASES", CASES_DEFAULT));
    let keys = Keys::new();
    for seed in first..first + cases.div_ceil(MESSAGES) {
        let model = generate::token(&mut StdRng::seed_from_u64(seed));
        let plan = Plan::compile(language::admit(&keys.token(&model)).unwrap());
        if plan.price() < PRICE_WORTH_RUNNING {
            plan.evaluate(&message.message(), &message.query());
        }
    }
}

/// Above it a case takes too long for a test, and would be refused anyway.
const PRICE_WORTH_RUNNING: u64 = 10_000_000;

#[test]
fn what_is_admitted_means_the_same_however_it_was_written() {
    let (first, cases) = (number("POSTERN_SEED", 0), number("POSTERN_CASES", CASES_DEFAULT));
    let keys = Keys::new();
    let mut tally = mutate::Tally::default();
    for seed in first..first + cases.div_ceil(MESSAGES) {
        mutate::token_agrees(seed, &keys, &mut tally);
    }
    println!("{tally:?}");
    assert!(cases < CASES_DEFAULT || tally.decided > cases / 20 && tally.refused > cases / 20, "{tally:?}");
}

fn token_agrees(seed: u64, keys: &Keys, tally: &mut Tally) {
    let mut rng = StdRng::seed_from_u64(seed);
    let model = generate::token(&mut rng);
    let bytes = keys.token(&model);
    let library = Biscuit::from(&bytes, keys.root.public()).unwrap();
    let program = language::admit(&bytes).unwrap_or_else(|reason| panic!("seed {seed}: {reason}\n{model:#?}"));
    let plan = Plan::compile(program);
    for _ in 0..MESSAGES {
        let owned = generate::message(&mut rng);
        let message = owned.message();
        let query = query_facts(message.query_string).unwrap();
        let verdict = plan.evaluate(&message, &query);
        let ambients = owned.ambients();
        let context = || format!("seed {seed}\n{}\n{owned:?}\nverdict: {verdict:?}", describe(&plan));

        let expected = expected(&model, &ambients);
        match (&expected, &verdict) {
            (Expected::Undecidable(block, check), Verdict::Undecidable(at)) => {
                assert_eq!((*block, *check), (at.block, at.index), "{}", context());
                tally.undecidable += 1;
            }
            (Expected::Failed(failed), Verdict::Failed(checks)) => {
                let checks: Vec<_> = checks.iter().map(|check| (check.block, check.index)).collect();
                assert_eq!(*failed, checks, "{}", context());
                tally.failed += 1;
            }
            (Expected::Failed(failed), Verdict::Passed) if failed.is_empty() => tally.passed += 1,
            _ => panic!("expected {expected:?}: {}", context()),
        }

        let right = plan.rights().iter().any(|right| owned.holds(right.resource.as_str(), right.operation.as_str()));
        tally.rights += u64::from(right);
        if let Expected::Failed(failed) = expected
            && !errs_anywhere(&model, &ambients)
        {
            let mut by_library = Vec::new();
            for ambient in &ambients {
                match library::judge(&library, ambient) {
                    Judgement::Decided { right: held, failed } => {
                        assert_eq!(held, right, "rights: {}", context());
                        by_library.extend(failed);
                    }
                    Judgement::Aborted => panic!("the library aborts: {}", context()),
                }
            }
            by_library.sort_unstable();
            by_library.dedup();
            assert_eq!(failed, by_library, "library: {}", context());
        }
    }
}

/// What the naive evaluator says.
#[derive(Debug)]
enum Expected {
    Failed(Vec<(usize, usize)>),
    Undecidable(usize, usize),
}

/// Checks in their order, each for one item after the other as long as they pass.
fn expected(model: &Token, ambients: &[Ambient]) -> Expected {
    let mut failed = Vec::new();
    for (block, index, check) in checks(model) {
        let mut outcomes = ambients.iter().map(|ambient| model.check(block, check, ambient));
        match outcomes.find(|outcome| *outcome != Ok(true)) {
            None => {}
            Some(Err(Errs)) => return Expected::Undecidable(block, index),
            Some(_) => failed.push((block, index)),
        }
    }
    Expected::Failed(failed)
}

/// Whether the library, which decides each item by itself, may meet an error that the plan never comes to.
fn errs_anywhere(model: &Token, ambients: &[Ambient]) -> bool {
    ambients.iter().any(|ambient| checks(model).any(|(block, _, check)| model.check(block, check, ambient).is_err()))
}

fn checks(model: &Token) -> impl Iterator<Item = (usize, usize, &model::Check)> {
    let blocks = model.blocks.iter().enumerate();
    blocks.flat_map(|(block, of)| of.checks.iter().enumerate().map(move |(index, check)| (block, index, check)))
}

fn describe(plan: &Plan) -> String {
    let mut text = String::new();
    for (index, block) in plan.blocks().enumerate() {
        text +=
            &format!("block {index}, third party {:?}, {}\n", block.external_key().map(|key| key[0]), block.scopes());
        block.facts().for_each(|fact| text += &format!("  {fact};\n"));
        block.checks().for_each(|check| text += &format!("  {};\n", check.text()));
    }
    text
}
