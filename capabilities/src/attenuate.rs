//! Attenuating and sealing: what any holder can do, offline and without a key.
//!
//! Attenuating appends a block of checks, and checks only take away. Sealing ends that: a sealed token is what it is for
//! whoever gets it. Both work on the text alone and believe nothing of it, so a token from anywhere must not be able
//! to stop the process: it is read by our own bounded reader before the biscuit library sees it.

use biscuit_auth::UnverifiedBiscuit;
use biscuit_auth::builder::{Algorithm, BlockBuilder};
use rand::{CryptoRng, RngCore};

use crate::caveat::{Caveat, PathPattern, checks_of};
use crate::text::TokenText;
use crate::token::{BLOCKS_MAX, NotVerified, PRICE_BUDGET_DEFAULT, Unreadable, Unverified};

/// The token, narrowed by these caveats. The result allows what the token allowed and the caveats do not prohibit.
pub fn attenuate(token: &str, caveats: &[Caveat]) -> Result<TokenText, AttenuateError> {
    attenuate_with_rng(token, caveats, &mut rand::rngs::OsRng)
}

/// [`attenuate`] with randomness of the caller's choice, for test vectors that must come out the same every time.
pub fn attenuate_with_rng(
    token: &str,
    caveats: &[Caveat],
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<TokenText, AttenuateError> {
    if caveats.is_empty() {
        return Err(AttenuateError::NoCaveat);
    }
    let unverified = readable(token)?;
    if unverified.block_count() >= BLOCKS_MAX {
        return Err(AttenuateError::TooManyBlocks);
    }
    let mut block = BlockBuilder::new();
    for check in checks_of(caveats).map_err(AttenuateError::Caveat)? {
        block = block.check(check).map_err(|_| AttenuateError::Failed)?;
    }
    let next = biscuit_auth::KeyPair::new_with_rng(Algorithm::Ed25519, rng);
    let narrowed = decoded(&unverified)?.append_with_keypair(&next, block).map_err(|_| AttenuateError::Failed)?;
    let text = TokenText::of_base64(narrowed.to_base64().map_err(|_| AttenuateError::Failed)?);
    Unverified::parse(text.expose()).map_err(AttenuateError::TooLarge)?.check_admitted(PRICE_BUDGET_DEFAULT)?;
    Ok(text)
}

/// The token, narrowed to one request as its sender is about to make it: this method, this path below the resource, exactly
/// this query string, until `until` (whole seconds since 1970). What then leaks on its way is worth next to nothing.
pub fn attenuate_to_request(
    token: &str,
    method: &str,
    path: &str,
    query_string: &str,
    until: u64,
) -> Result<TokenText, AttenuateError> {
    let unfit = |reason: &dyn std::fmt::Display| AttenuateError::Caveat(reason.to_string());
    let caveats = [
        Caveat::method(&[method]).map_err(|error| unfit(&error))?,
        Caveat::Path(vec![PathPattern::exact(path).map_err(|error| unfit(&error))?]),
        Caveat::QueryString(query_string.to_owned()),
        Caveat::Expires(until),
    ];
    attenuate(token, &caveats)
}

/// The token, closed: nobody can narrow it any further. What it allows stays the same, and so do its revocation ids.
pub fn seal(token: &str) -> Result<TokenText, AttenuateError> {
    let unverified = readable(token)?;
    let sealed = decoded(&unverified)?.seal().map_err(|_| AttenuateError::Failed)?;
    Ok(TokenText::of_base64(sealed.to_base64().map_err(|_| AttenuateError::Failed)?))
}

/// A token as a holder has it, within bounds and with no key that would make its ids unsafe.
fn readable(token: &str) -> Result<Unverified, AttenuateError> {
    let unverified = Unverified::parse(token).map_err(AttenuateError::Unreadable)?;
    if unverified.is_sealed() {
        return Err(AttenuateError::Sealed);
    }
    unverified.check_admitted(PRICE_BUDGET_DEFAULT)?;
    Ok(unverified)
}

/// The token as the library has it. It has passed our own reader, so this fails only on what both would refuse.
fn decoded(unverified: &Unverified) -> Result<UnverifiedBiscuit, AttenuateError> {
    UnverifiedBiscuit::from(unverified.bytes()).map_err(|_| AttenuateError::Failed)
}

/// Why a token cannot be narrowed or sealed.
#[derive(Debug, thiserror::Error)]
pub enum AttenuateError {
    /// Nothing to narrow by.
    #[error("name at least one caveat, otherwise the token stays what it is")]
    NoCaveat,
    /// Sealed tokens stay what they are.
    #[error("the token is sealed: it cannot be narrowed or sealed again; ask whoever gave it to you for an open one")]
    Sealed,
    /// The chain is as long as it may be.
    #[error("the token has {BLOCKS_MAX} blocks already, which is the most that is accepted")]
    TooManyBlocks,
    /// The text is no token.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A gateway would refuse the token, or what it would become.
    #[error("no gateway would accept the token: {0}")]
    NotAdmitted(#[from] NotVerified),
    /// A caveat has no check.
    #[error("a caveat cannot be written as a check: {0}")]
    Caveat(String),
    /// The result would be longer than a gateway reads.
    #[error("the narrowed token would not be accepted: {0}")]
    TooLarge(#[source] Unreadable),
    /// The biscuit library failed.
    #[error("the token is damaged: no block can be appended to it")]
    Failed,
}

impl AttenuateError {
    /// A stable word for programs: the problem type where a gateway has one for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sealed => "sealed-token",
            Self::Unreadable(error) | Self::TooLarge(error) => error.kind(),
            Self::NotAdmitted(error) => error.kind(),
            Self::NoCaveat | Self::TooManyBlocks | Self::Caveat(_) | Self::Failed => "not-attenuated",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::keys::{KeyId, KeyRing, SigningKey};
    use crate::message::Message;
    use crate::mint::mint;
    use crate::resource::{Operation, ResourceName, Right};
    use crate::revocation::Standing;
    use crate::token::Capability;

    const NOW: u64 = 1_800_000_000;

    fn root() -> SigningKey {
        SigningKey::parse_text(&format!("ed25519-private/{}", "01".repeat(32))).ok().unwrap()
    }

    fn standing() -> Standing {
        Standing::new(KeyRing::of(KeyId(1), root().public()))
    }

    fn right(resource: &str, operation: &str) -> Right {
        Right { resource: ResourceName::parse(resource).unwrap(), operation: Operation::parse(operation).unwrap() }
    }

    fn minted(caveats: &[Caveat]) -> String {
        let rights = [right("orders", "GET"), right("orders", "POST"), right("invoices", "*")];
        mint(&root(), KeyId(1), &rights, caveats).ok().unwrap().expose().to_owned()
    }

    fn verified(token: &str, standing: &Standing) -> Capability {
        Unverified::parse(token).unwrap().verify(standing, PRICE_BUDGET_DEFAULT).unwrap()
    }

    /// Caveats and messages are drawn from the same few values, so that both verdicts are frequent.
    fn caveat() -> impl Strategy<Value = Caveat> {
        let flag = prop_oneof![
            Just(("expires", "10m")),
            Just(("expires", "0s")),
            Just(("not-before", "0s")),
            Just(("not-before", "5m")),
            Just(("method", "GET")),
            Just(("method", "GET,POST")),
            Just(("path", "/a")),
            Just(("path", "/a/**")),
            Just(("path", "/**")),
            Just(("query", "page=2")),
            Just(("host", "example.com")),
            Just(("client", "10.0.0.0/8")),
            Just(("client", "::/0,0.0.0.0/0")),
            Just(("no-upgrade", "")),
            Just(("max-body", "10")),
            Just(("check", "check if path($p), $p.length() > 2 || $p === \"/\"")),
            Just(("check", "check all query($k, $v), $k !== \"admin\"")),
            Just(("check", "check if resource(\"orders\") or body_size($n), 10 / $n > 1")),
            Just(("check", "check if right($r, \"*\"), resource($r)")),
        ];
        flag.prop_map(|(flag, value)| Caveat::of_flag(flag, &[value], NOW).unwrap().remove(0))
    }

    #[derive(Debug, Clone)]
    struct Asked {
        resource: &'static str,
        operation: &'static str,
        path: &'static str,
        query: &'static str,
        host: &'static str,
        client: IpAddr,
        upgrade: Option<&'static str>,
        body_size: Option<u64>,
        time: u64,
    }

    fn asked() -> impl Strategy<Value = Asked> {
        (
            proptest::sample::select(vec!["orders", "invoices", "stock"]),
            proptest::sample::select(vec!["GET", "POST", "DELETE"]),
            proptest::sample::select(vec!["/", "/a", "/a/b", "/ab"]),
            proptest::sample::select(vec!["", "page=2", "page=3&page=2", "admin=1", "a;b"]),
            proptest::sample::select(vec!["example.com", ""]),
            proptest::sample::select(vec!["10.0.0.1", "::1"]),
            proptest::sample::select(vec![None, Some("websocket")]),
            proptest::sample::select(vec![None, Some(0), Some(5), Some(11)]),
            proptest::sample::select(vec![0, NOW, NOW + 300, NOW + 601]),
        )
            .prop_map(|(resource, operation, path, query, host, client, upgrade, body_size, time)| {
                let client = client.parse().unwrap();
                Asked { resource, operation, path, query, host, client, upgrade, body_size, time }
            })
    }

    fn allows(capability: &Capability, asked: &Asked, standing: &Standing) -> bool {
        let mut message = Message::new(asked.resource, asked.operation, asked.path, asked.time, asked.client);
        message.query_string = asked.query;
        message.host = asked.host;
        message.upgrade = asked.upgrade;
        message.body_size = asked.body_size;
        crate::authorize(capability, message, standing).is_ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn attenuation_never_widens(
            own in proptest::collection::vec(caveat(), 0..3),
            added in proptest::collection::vec(caveat(), 1..4),
            questions in proptest::collection::vec(asked(), 20),
        ) {
            let standing = standing();
            let parent = minted(&own);
            let child = attenuate(&parent, &added).unwrap();
            let (parent, child) = (verified(&parent, &standing), verified(child.expose(), &standing));
            for question in questions {
                prop_assert!(
                    !allows(&child, &question, &standing) || allows(&parent, &question, &standing),
                    "{own:?} then {added:?} on {question:?}"
                );
            }
        }

        #[test]
        fn sealing_changes_no_decision(own in proptest::collection::vec(caveat(), 0..3), questions in proptest::collection::vec(asked(), 10)) {
            let standing = standing();
            let open = minted(&own);
            let sealed = seal(&open).unwrap();
            let (open, sealed) = (verified(&open, &standing), verified(sealed.expose(), &standing));
            prop_assert_eq!(open.revocation_ids(), sealed.revocation_ids());
            for question in questions {
                prop_assert_eq!(allows(&open, &question, &standing), allows(&sealed, &question, &standing));
            }
        }

        #[test]
        fn no_text_stops_the_process(noise in proptest::collection::vec(any::<u8>(), 0..40), at in any::<proptest::sample::Index>()) {
            use base64::Engine;
            let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
            let mut bytes = engine.decode(minted(&[])).unwrap();
            let at = at.index(bytes.len());
            for (place, byte) in bytes[at..].iter_mut().zip(&noise) {
                *place = *byte;
            }
            let text = engine.encode(&bytes);
            let _ = attenuate(&text, &[Caveat::NoUpgrade]);
            let _ = seal(&text);
            let _ = crate::inspect(&text, Some(&standing()));
            let _ = crate::lint(&text, NOW);
        }
    }

    #[test]
    fn a_sealed_token_cannot_be_narrowed() {
        let sealed = seal(&minted(&[])).unwrap();
        assert!(matches!(attenuate(sealed.expose(), &[Caveat::NoUpgrade]), Err(AttenuateError::Sealed)));
        assert!(matches!(seal(sealed.expose()), Err(AttenuateError::Sealed)));
    }

    #[test]
    fn nothing_is_narrowed_by_nothing() {
        assert!(matches!(attenuate(&minted(&[]), &[]), Err(AttenuateError::NoCaveat)));
    }

    #[test]
    fn a_chain_ends_at_its_longest() {
        let mut token = minted(&[]);
        for _ in 1..BLOCKS_MAX {
            token = attenuate(&token, &[Caveat::NoUpgrade]).unwrap().expose().to_owned();
        }
        assert!(matches!(attenuate(&token, &[Caveat::NoUpgrade]), Err(AttenuateError::TooManyBlocks)));
    }

    #[test]
    fn caveats_that_no_gateway_admits_are_refused_here_already() {
        let caveat = Caveat::Check("check if path($p), $p.matches(\"a+\")".to_owned());
        assert!(matches!(attenuate(&minted(&[]), &[caveat]), Err(AttenuateError::NotAdmitted(_))));
    }

    #[test]
    fn a_token_for_one_request_is_good_for_no_other() {
        let key = SigningKey::generate();
        let standing = Standing::new(KeyRing::of(KeyId(1), key.public()));
        let right = Right { resource: ResourceName::parse("orders").unwrap(), operation: Operation::any() };
        let token = mint(&key, KeyId(1), &[right], &[]).unwrap_or_else(|error| panic!("{error}"));
        let one = attenuate_to_request(token.expose(), "GET", "/a*/%7eb", "page=2", 100).unwrap();
        let capability = Unverified::parse(one.expose()).unwrap().verify(&standing, PRICE_BUDGET_DEFAULT).unwrap();
        let asked = |operation, path, query_string, time| {
            let client = std::net::IpAddr::from([127, 0, 0, 1]);
            let message = Message { query_string, ..Message::new("orders", operation, path, time, client) };
            crate::authorize::authorize(&capability, message, &standing).is_ok()
        };
        assert!(asked("GET", "/a*/~b", "page=2", 100));
        assert!(!asked("POST", "/a*/~b", "page=2", 100) && !asked("GET", "/a/~b", "page=2", 100));
        assert!(!asked("GET", "/a*/~b", "page=2&x", 100) && !asked("GET", "/a*/~b", "", 100));
        assert!(!asked("GET", "/a*/~b", "page=2", 101));
        assert!(matches!(attenuate_to_request(token.expose(), "GET", "/../a", "", 1), Err(AttenuateError::Caveat(_))));
    }
}
