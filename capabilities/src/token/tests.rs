//! What a token survives on its way to a capability, and what it is priced at.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::*;
use crate::attenuate::attenuate;
use crate::caveat::Caveat;
use crate::keys::{KeyRing, SigningKey};
use crate::message::Message;
use crate::mint::mint;
use crate::resource::{Operation, ResourceName};

const NOW: u64 = 1_800_000_000;

fn right() -> Right {
    Right { resource: ResourceName::parse("orders").unwrap(), operation: Operation::parse("GET").unwrap() }
}

/// A key, the standing that knows it, and a token of two blocks.
fn scene() -> (SigningKey, Standing, String) {
    let key = SigningKey::generate();
    let standing = Standing::new(KeyRing::of(KeyId(1), key.public()));
    let token = mint(&key, KeyId(1), &[right()], &[Caveat::expires("1h", NOW).unwrap()]).ok().unwrap();
    let token = attenuate(token.expose(), &[Caveat::path(&["/a/**"]).unwrap()]).unwrap();
    (key, standing, token.expose().to_owned())
}

fn verified(token: &str, standing: &Standing) -> Result<Capability, NotVerified> {
    Unverified::parse(token).unwrap().verify(standing, PRICE_BUDGET_DEFAULT)
}

fn asked() -> Message<'static> {
    Message::new("orders", "GET", "/a/b", NOW, std::net::IpAddr::from([127, 0, 0, 1]))
}

/// Flips that change nothing but the hint of which key to try are refused too, since no other key is known; so is
/// every other bit of every byte, the secret at the end included.
#[test]
fn every_flipped_bit_of_a_token_is_refused() {
    let (_, standing, token) = scene();
    let bytes = BASE64.decode(&token).unwrap();
    for at in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        let accepted = Unverified::parse(&BASE64.encode(&bytes))
            .is_ok_and(|unverified| unverified.verify(&standing, PRICE_BUDGET_DEFAULT).is_ok());
        assert!(!accepted, "bit {at}");
    }
}

#[test]
fn every_truncation_is_refused_as_such() {
    let (_, _, token) = scene();
    for end in 8..token.len() {
        assert_eq!(Unverified::parse(&token[..end]).err(), Some(Unreadable::Truncated), "cut at {end}");
    }
}

#[test]
fn a_revocation_ends_what_was_derived_and_nothing_else() {
    let (_, standing, token) = scene();
    let parent = verified(&token, &standing).unwrap();
    let child = attenuate(&token, &[Caveat::NoUpgrade]).unwrap();
    let child = verified(child.expose(), &standing).unwrap();
    assert!(parent.standing(&standing).is_ok() && child.standing(&standing).is_ok());
    standing.revoke(&child.revocation_ids()[2..]);
    assert!(parent.standing(&standing).is_ok());
    assert_eq!(child.standing(&standing), Err(Refusal::Revoked { block: 2 }));
    standing.revoke(&parent.revocation_ids()[..1]);
    assert_eq!(parent.standing(&standing), Err(Refusal::Revoked { block: 0 }));
    assert_eq!(child.standing(&standing), Err(Refusal::Revoked { block: 0 }));
    assert!(crate::authorize(&parent, asked(), &standing).is_err());
}

#[test]
fn retiring_a_key_works_on_capabilities_that_are_known_already() {
    let (_, standing, token) = scene();
    let capability = verified(&token, &standing).unwrap();
    assert!(crate::authorize(&capability, asked(), &standing).is_ok());
    let mut ring = standing.keys();
    ring.rotate(KeyId(2), SigningKey::generate().public()).unwrap();
    standing.set_keys(ring.clone());
    assert!(crate::authorize(&capability, asked(), &standing).is_ok(), "the earlier key is still live");
    ring.retire(KeyId(1)).unwrap();
    standing.set_keys(ring);
    assert_eq!(crate::authorize(&capability, asked(), &standing).err(), Some(Refusal::KeyRetired));
    assert_eq!(verified(&token, &standing).err(), Some(NotVerified::RetiredKey(KeyId(1))));
}

#[test]
fn a_capability_does_not_take_one_standing_for_another() {
    let (_, standing, token) = scene();
    let capability = verified(&token, &standing).unwrap();
    assert!(capability.standing(&standing).is_ok());
    let other = Standing::new(KeyRing::of(KeyId(1), SigningKey::generate().public()));
    assert_eq!(capability.standing(&other), Err(Refusal::KeyRetired));
}

#[test]
fn what_a_capability_says_of_itself() {
    let (key, standing, token) = scene();
    let capability = verified(&token, &standing).unwrap();
    assert_eq!((capability.rights(), *capability.root_key()), (&[right()][..], key.public()));
    assert!(capability.holds("orders", "GET") && !capability.holds("orders", "HEAD"));
    assert!(capability.holds_any_on("orders") && !capability.holds_any_on("invoices"));
    assert_eq!((capability.expires_at(), capability.date_constants()), (Some(NOW + 3600), &[NOW + 3600][..]));
    assert_eq!((capability.expired_at(NOW + 3600), capability.expired_at(NOW + 3601)), (None, Some(NOW + 3600)));
    assert_eq!(format!("{capability:?}"), format!("Capability({})", capability.revocation_ids()[1].short()));
    assert!(!capability.is_sealed() && capability.price() > 0);
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&capability);
}

/// The story: each of 60 dates had every open stream decided again, at a price that was looked at once.
#[test]
fn law_5_dates_multiply_the_price_and_expiries_count_as_one() {
    let key = SigningKey::generate();
    let standing = Standing::new(KeyRing::of(KeyId(1), key.public()));
    let verdict = |checks: &[String]| {
        let of_flag = |check: &String| Caveat::of_flag("check", &[check.as_str()], NOW).unwrap();
        let caveats: Vec<_> = checks.iter().flat_map(of_flag).collect();
        // Unchecked by the minter, as another's tool would: admitted or not when it is presented.
        let mut token = mint(&key, KeyId(1), &[right()], &[]).ok().unwrap();
        let block = |token: &str| attenuate(token, &caveats);
        if !caveats.is_empty() {
            token = match block(token.expose()) {
                Ok(token) => token,
                Err(error) => return Err(error.to_string()),
            };
        }
        let capability = verified(token.expose(), &standing).map_err(|error| error.to_string())?;
        Ok((capability.price(), capability.dates_counted()))
    };
    let contains = r#".contains("a") || $p"#.repeat(9);
    let dear = format!(r#"check if path($p), $p{contains}.contains("a")"#);
    let (price, dates) = verdict(std::slice::from_ref(&dear)).unwrap();
    assert_eq!(dates, 0);
    let expiries: Vec<_> =
        (10..70).map(|n| format!("check if time($t), $t <= 2030-01-01T00:00:{:02}Z", n - 10)).collect();
    let (with_expiries, dates) = verdict(&[std::slice::from_ref(&dear), &expiries[..]].concat()).unwrap();
    assert!(dates == 1 && with_expiries > price, "expiries are one date");
    let turning: Vec<_> = (0..60).map(|n| format!("check if time($t), $t < 2030-01-01T00:{n:02}:00Z")).collect();
    assert!(verdict(&turning[..8]).is_ok_and(|(_, dates)| dates == 8));
    let refused = verdict(&[&[dear], &turning[..]].concat()).unwrap_err();
    assert!(refused.contains("each of its 60 dates counts as a decision"), "{refused}");
}

#[test]
fn reserved_resources_stand_alone() {
    let key = SigningKey::generate();
    let reserved = Right { resource: ResourceName::parse("postern").unwrap(), operation: Operation::any() };
    assert!(mint(&key, KeyId(1), &[right(), reserved.clone()], &[]).is_err());
    assert!(mint(&key, KeyId(1), &[reserved], &[]).is_ok());
    assert!(mint(&key, KeyId(1), &[], &[]).is_err());
}
