//! Blocks that no builder writes: the bytes of one that a builder wrote, changed at random and signed again.
//!
//! Most of them are refused. What is admitted has to mean to the plan what it means to the library, however it came to be;
//! so a field that one of the two skips, or reads otherwise, comes to light here.

use biscuit_auth::format::schema;
use biscuit_auth::{Biscuit, KeyPair};
use postern_capabilities::language::{self, Plan, Verdict};
use postern_capabilities::message::query_facts;
use prost::Message as _;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::generate;
use crate::library::{self, Judgement, Keys};
use crate::model::Token;

/// Changed blocks for each token.
const MUTANTS: usize = 24;

/// How many changed blocks were refused, and how many admitted and decided.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) refused: u64,
    pub(crate) decided: u64,
}

pub(crate) fn token_agrees(seed: u64, keys: &Keys, tally: &mut Tally) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut model = generate::token(&mut rng);
    // What is changed is a first-party block with checks, behind whatever else the token has.
    let mut last = std::mem::take(&mut model.blocks[0]);
    model.blocks[0] = crate::model::Block { facts: last.facts.clone(), ..Default::default() };
    last.facts.clear();
    let whole = Token { blocks: model.blocks.iter().cloned().chain([last]).collect() };
    let payload = schema::Biscuit::decode(&keys.token(&whole)[..]).unwrap().blocks.pop().unwrap().block;
    let before = Biscuit::from(keys.token(&model), keys.root.public()).unwrap();
    let owned = generate::message(&mut rng);
    for _ in 0..MUTANTS {
        let mut mutant = payload.clone();
        for _ in 0..rng.gen_range(1..3) {
            change(&mut mutant, &mut rng);
        }
        let signed = before.container().append_serialized(&KeyPair::new(), mutant.clone(), None).unwrap();
        let bytes = signed.to_vec().unwrap();
        let Ok(program) = language::admit(&bytes) else {
            tally.refused += 1;
            continue;
        };
        let plan = Plan::compile(program);
        // The library has to be told which blocks of addresses the client is in, and the generator knows of its own alone.
        let named = |text: String| text.split("client_in(\"").skip(1).all(generate::knows_addresses);
        if !plan.checks().all(|check| named(check.text())) {
            continue;
        }
        let context = || format!("seed {seed}\n{mutant:?}\n{}{owned:?}", crate::describe(&plan));
        let library = Biscuit::from(&bytes, keys.root.public());
        let library = library.unwrap_or_else(|error| panic!("the library refuses it, {error}: {}", context()));
        let message = owned.message();
        let verdict = plan.evaluate(&message, &query_facts(message.query_string).unwrap());
        let failed: Vec<_> = match &verdict {
            Verdict::Passed => Vec::new(),
            Verdict::Failed(failed) => failed.iter().map(|check| (check.block, check.index)).collect(),
            Verdict::Undecidable(_) | Verdict::BeyondMaxima(_) => continue,
        };
        tally.decided += 1;
        let mut by_library = Vec::new();
        for ambient in owned.ambients() {
            match library::judge(&library, &ambient) {
                Judgement::Decided { failed, .. } => by_library.extend(failed),
                // An item behind one that fails may err; the plan does not come to it.
                Judgement::Aborted if owned.ambients().len() > 1 && !failed.is_empty() => {
                    by_library.clone_from(&failed);
                    break;
                }
                Judgement::Aborted => panic!("the library aborts: {verdict:?}: {}", context()),
            }
        }
        by_library.sort_unstable();
        by_library.dedup();
        assert_eq!(failed, by_library, "{}", context());
    }
}

fn change(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.gen_range(0..bytes.len());
    match rng.gen_range(0..8) {
        0 => bytes[at] ^= 1 << rng.gen_range(0..8),
        1 => bytes[at] = rng.gen_range(0..40),
        2 => bytes[at] = bytes[at].wrapping_add(1),
        3 => bytes[at] = bytes[at].wrapping_sub(1),
        4 => bytes.insert(at, rng.gen_range(0..64)),
        5 => {
            bytes.remove(at);
        }
        6 => {
            let other = rng.gen_range(0..bytes.len());
            bytes.swap(at, other);
        }
        _ => {
            let end = (at + rng.gen_range(1..12)).min(bytes.len());
            bytes.extend_from_within(at..end);
        }
    }
}
