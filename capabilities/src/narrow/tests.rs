//! A narrowed token is what it says: this message, at this backend, until then, and nothing that its parent would not allow.

use std::net::IpAddr;

use biscuit_auth::builder::BlockBuilder;
use biscuit_auth::{Biscuit, UnverifiedBiscuit};
use proptest::prelude::*;

use super::*;
use crate::attenuate::{attenuate, seal};
use crate::authorize::authorize;
use crate::caveat::Caveat;
use crate::keys::{KeyId, KeyRing, SigningKey};
use crate::mint::mint;
use crate::resource::{Operation, Right};
use crate::revocation::Standing;
use crate::token::{PRICE_BUDGET_DEFAULT, Unverified};

const NOW: u64 = 1_800_000_000;

fn root() -> SigningKey {
    SigningKey::parse_text(&format!("ed25519-private/{}", "01".repeat(32))).ok().unwrap()
}

fn standing() -> Standing {
    Standing::new(KeyRing::of(KeyId(1), root().public()))
}

fn caveats(flags: &[(&str, &str)]) -> Vec<Caveat> {
    flags.iter().flat_map(|(flag, value)| Caveat::of_flag(flag, &[*value], NOW).unwrap()).collect()
}

fn minted(resource: &str, flags: &[(&str, &str)]) -> String {
    let right = Right { resource: resource.parse().unwrap(), operation: Operation::any() };
    mint(&root(), KeyId(1), &[right], &caveats(flags)).ok().unwrap().expose().to_owned()
}

fn verified(token: &str) -> Capability {
    Unverified::parse(token).unwrap().verify(&standing(), PRICE_BUDGET_DEFAULT).unwrap()
}

fn asked<'m>(resource: &'m str, path: &'m str, query_string: &'m str) -> Message<'m> {
    let client = IpAddr::from([127, 0, 0, 1]);
    Message { query_string, body_size: Some(0), ..Message::new(resource, "GET", path, NOW, client) }
}

fn narrowed(token: &str, message: &Message<'_>) -> Result<String, NotNarrowable> {
    let narrowable = Narrowable::of(token, &verified(token))?;
    let narrower = Narrower::new(PRICE_BUDGET_DEFAULT);
    narrower.narrow(&narrowable, message, message.time + 60).map(|text| text.expose().to_owned())
}

fn kind(token: &str, message: Message<'_>) -> Option<&'static str> {
    authorize(&verified(token), message, &standing()).err().map(|refusal| refusal.kind())
}

#[test]
fn a_narrowed_token_is_good_for_its_message_at_its_backend_alone() {
    let parent = minted("orders", &[("expires", "1h")]);
    let message = asked("orders", "/v1/orders/42", "page=2");
    let token = narrowed(&parent, &message).unwrap();
    let at = |message| Message { backend: Some("orders"), ..message };
    assert_eq!(kind(&token, at(message.clone())), None);
    assert_eq!(kind(&token, message.clone()), Some("not-permitted"), "a gateway states no backend");
    assert_eq!(kind(&token, Message { backend: Some("invoices"), ..message.clone() }), Some("not-permitted"));
    for other in [
        asked("orders", "/v1/orders/43", "page=2"),
        asked("orders", "/v1/orders/42", "page=3"),
        asked("orders", "/v1/orders/42", ""),
        Message { operation: "HEAD", ..message.clone() },
    ] {
        assert_eq!(kind(&token, at(other.clone())), Some("not-permitted"), "{other:?}");
    }
    assert_eq!(kind(&token, at(asked("invoices", "/v1/orders/42", "page=2"))), Some("not-found"));
    assert_eq!(kind(&token, at(Message { time: NOW + 60, ..message.clone() })), None);
    assert_eq!(kind(&token, at(Message { time: NOW + 61, ..message.clone() })), Some("expired"));
    // Nobody can go on from it.
    assert!(verified(&token).is_sealed());
    assert!(matches!(narrowed(&token, &message), Err(NotNarrowable::Sealed)));
    assert!(attenuate(&token, &caveats(&[("no-upgrade", "")])).is_err());
}

#[test]
fn what_ends_the_callers_token_ends_what_it_was_narrowed_to() {
    let parent = attenuate(&minted("orders", &[]), &caveats(&[("no-upgrade", "")])).unwrap();
    let message = asked("orders", "/", "");
    let token = narrowed(parent.expose(), &message).unwrap();
    let (parent, child) = (verified(parent.expose()), verified(&token));
    assert_eq!(child.revocation_ids()[..2], *parent.revocation_ids());
    let standing = standing();
    standing.revoke(&parent.revocation_ids()[1..]);
    assert!(authorize(&child, Message { backend: Some("orders"), ..message }, &standing).is_err());
}

#[test]
fn texts_that_the_token_or_every_token_knows_are_numbered_as_such() {
    // Names among biscuit's shared symbols, and ones that the token has used before.
    for (resource, path, query) in
        [("service", "time", "query"), ("a", "backend", "orders"), ("a", "a", "a"), ("a", "", "")]
    {
        let path = format!("/{path}");
        let parent =
            minted(resource, &[("check", "check if path($backend), $backend !== \"orders\" or query_string(\"/a\")")]);
        let Ok(parent) = attenuate(&parent, &caveats(&[("path", &path)])) else { panic!("{path}") };
        let message = asked(resource, &path, query);
        let token = narrowed(parent.expose(), &message).unwrap();
        let at = Message { backend: Some(resource), ..message.clone() };
        assert_eq!(kind(&token, at.clone()), kind(parent.expose(), message), "{resource} {path}");
        assert_eq!(kind(&token, Message { query_string: "x", ..at }), Some("not-permitted"));
    }
}

#[test]
fn third_party_blocks_survive_and_the_library_agrees() {
    let party = KeyPair::new();
    let check = format!("check if paid(\"orders\") trusting {}", party.public().print());
    let parent = minted("orders", &[("check", &check)]);
    let key = root().pair().public();
    let parent = Biscuit::from_base64(&parent, key).unwrap();
    let request = parent.third_party_request().unwrap();
    let block = BlockBuilder::new().code("paid(\"orders\"); query_string(\"x\")").unwrap();
    // A fact of a reserved name is not admitted; without it the same.
    assert!(
        Unverified::parse(
            &parent
                .append_third_party(party.public(), request.create_block(&party.private(), block).unwrap())
                .unwrap()
                .to_base64()
                .unwrap()
        )
        .unwrap()
        .verify(&standing(), PRICE_BUDGET_DEFAULT)
        .is_err()
    );
    let block = BlockBuilder::new().code("paid(\"orders\"); seen(\"/v1\")").unwrap();
    let request = parent.third_party_request().unwrap();
    let parent = parent
        .append_third_party(party.public(), request.create_block(&party.private(), block).unwrap())
        .unwrap()
        .to_base64()
        .unwrap();
    for spelled in [parent.clone(), format!("biscuit:{}", parent.trim_end_matches('='))] {
        let message = asked("orders", "/v1", "");
        let token = narrowed(&spelled, &message).unwrap();
        assert_eq!(kind(&token, Message { backend: Some("orders"), ..message.clone() }), None);
        assert_eq!(kind(&token, message), Some("not-permitted"));
        // The library reads and verifies the whole of it, seal included, and prints what was meant.
        let read = Biscuit::from_base64(&token, key).unwrap();
        assert_eq!(read.block_count(), 3);
        assert_eq!(
            read.print_block_source(2).unwrap(),
            "check if time($time), $time <= 2027-01-15T08:01:00Z;\n\
             check if resource(\"orders\"), operation(\"GET\"), path(\"/v1\"), query_string(\"\"), backend(\"orders\");\n"
        );
        assert!(UnverifiedBiscuit::from_base64(&token).unwrap().seal().is_err());
    }
}

#[test]
fn what_cannot_be_narrowed_says_why() {
    let message = asked("orders", "/v1", "");
    let sealed = seal(&minted("orders", &[])).unwrap();
    assert_eq!(narrowed(sealed.expose(), &message).map_err(|error| error.kind()), Err("sealed-token"));

    let mut long = minted("orders", &[]);
    for _ in 1..BLOCKS_MAX {
        long = attenuate(&long, &caveats(&[("no-upgrade", "")])).unwrap().expose().to_owned();
    }
    assert!(matches!(narrowed(&long, &message), Err(NotNarrowable::TooManyBlocks)));

    let path = format!("/{}", "a".repeat(7_000));
    let message = asked("orders", &path, "");
    assert!(matches!(narrowed(&minted("orders", &[]), &message), Err(NotNarrowable::TooLong { .. })));
}

#[test]
fn price_and_content_of_the_result_are_known_beforehand() {
    let parent = minted("orders", &[("check", "check if path($p), $p.length() > 0")]);
    let capability = verified(&parent);
    let narrowable = Narrowable::of(&parent, &capability).unwrap();
    for query in ["", "a=b", &"q".repeat(500)] {
        let message = asked("orders", "/v1", query);
        let token = Narrower::new(PRICE_BUDGET_DEFAULT).narrow(&narrowable, &message, NOW + 60).unwrap();
        let price = verified(token.expose()).price();
        // Exactly at the budget it is made, and one below it is not.
        assert!(Narrower::new(price).narrow(&narrowable, &message, NOW + 60).is_ok(), "{query}");
        let refused = Narrower::new(price - 1).narrow(&narrowable, &message, NOW + 60).err();
        assert_eq!(refused, Some(NotNarrowable::OverBudget { price, budget: price - 1 }));
        let said = verified(token.expose()).plan().content_bytes() - capability.plan().content_bytes();
        assert!(said <= CONTENT_BYTES + 2 * "orders".len() + "GET/v1".len() + query.len(), "{said}");
        assert!(said + 60 > CONTENT_BYTES + query.len(), "the estimate is not far off: {said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// On its own message the narrowed token decides as its parent does; on every other it refuses.
    #[test]
    fn narrowing_never_widens(
        own in proptest::sample::subsequence(vec![("expires", "10m"), ("path", "/a/**"), ("query", "page=2"), ("method", "GET"), ("no-upgrade", "")], 0..4),
        path in proptest::sample::select(vec!["/", "/a", "/a/b", "/ab"]),
        query in proptest::sample::select(vec!["", "page=2", "page=3", "a;b"]),
        other_path in proptest::sample::select(vec!["/", "/a", "/a/b"]),
        time in proptest::sample::select(vec![NOW, NOW + 60, NOW + 61]),
    ) {
        let parent = minted("orders", &own);
        let message = asked("orders", path, query);
        let token = narrowed(&parent, &message).unwrap();
        let asked = Message { time, ..asked("orders", other_path, query) };
        let allowed = kind(&token, Message { backend: Some("orders"), ..asked.clone() }).is_none();
        let meant = other_path == path && time <= NOW + 60 && kind(&parent, asked).is_none();
        prop_assert_eq!(allowed, meant);
    }
}
