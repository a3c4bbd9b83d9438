//! What the upstream gets in place of the caller's token.
//!
//! Nothing, unless the resource says otherwise. `"original"` hands the token on as it came. `"narrowed"` hands on one that is good
//! for this message alone, at this backend alone, and for a minute: whoever gets hold of it there can present it
//! nowhere else, and not here either.
//!
//! Two things are remembered, each worker for itself: what was read of a token, and what it was narrowed to.
//! The second only for the same message again: the same token, operation, path and query string to the same resource, and
//! the same client where the token's caveats ask who it is. That is all that a narrowed token says, so the same one says it; and no verdict is remembered by it, since every message has been
//! decided before it comes here. It is handed out again as long as half of its time is left.

use std::fmt::Write as _;
use std::rc::Rc;

use postern_capabilities::keys::SigningKey;
use postern_capabilities::message::Message;
use postern_capabilities::narrow::{Narrowable, Narrower};
use postern_capabilities::plans::TokenCache;
use postern_capabilities::text::TokenText;
use postern_capabilities::token::Capability;
use zeroize::Zeroizing;

use crate::config::{AuthorizationUse, ForwardToken};
use crate::limits::Limits;
use crate::request::error::Refused;
use crate::request::resource::Resource;
use crate::request::{Presented, bearer::Secret};
use crate::worker::Worker;

/// How long a narrowed token is good, in seconds: for a queue in the backend and a clock that is a little off.
pub const NARROWED_SECONDS: u64 = 60;
/// How much of that has to be left for it to be handed out once more.
const LEFT_SECONDS_MIN: u64 = NARROWED_SECONDS / 2;

/// The token that goes up. Has no way to be printed.
pub enum Carried<'h> {
    /// The caller's own.
    Presented(Secret<'h>),
    /// One that was made for this message.
    Narrowed(Rc<TokenText>),
}

impl Carried<'_> {
    /// Appends the field that carries it: where the service has an `Authorization` of its own, another one.
    pub(super) fn write(&self, out: &mut Vec<u8>, authorization: AuthorizationUse) {
        out.extend_from_slice(match authorization {
            AuthorizationUse::Pass => b"postern-capability: ".as_slice(),
            AuthorizationUse::Capability => b"authorization: Bearer ",
        });
        out.extend_from_slice(match self {
            Self::Presented(token) => token.expose().as_bytes(),
            Self::Narrowed(token) => token.expose().as_bytes(),
        });
        out.extend_from_slice(b"\r\n");
    }
}

/// Chooses the token that goes up with a message that was permitted. Where none was presented, none does.
///
/// # Errors
/// [`Refused::NotNarrowable`]: the resource's service is to get a narrowed one, and this one cannot be narrowed.
pub fn choose<'h>(
    worker: &Worker,
    resource: &Resource,
    presented: Option<Presented<'h>>,
    capability: &Capability,
    message: &Message<'_>,
) -> Result<Option<Carried<'h>>, Refused> {
    let Some(Presented { token, .. }) = presented else { return Ok(None) };
    match resource.forward_token {
        ForwardToken::None => Ok(None),
        ForwardToken::Original => Ok(Some(Carried::Presented(token))),
        ForwardToken::Narrowed => {
            let mut narrowing = worker.narrowing.borrow_mut();
            let narrowing = narrowing
                .get_or_insert_with(|| Box::new(Narrowing::new(&worker.limits(), worker.statement_key.as_deref())));
            narrowing.narrow(token, capability, message).map(|token| Some(Carried::Narrowed(token)))
        }
    }
}

/// What narrows tokens in one worker, and what it remembers.
pub struct Narrowing {
    narrower: Narrower,
    read: TokenCache<Rc<Narrowable>>,
    made: TokenCache<Made>,
    /// Room for the text that names a message of a token.
    same: Zeroizing<String>,
}

#[derive(Clone)]
struct Made {
    token: Rc<TokenText>,
    until: u64,
}

impl Narrowing {
    /// With a key of its own, and nothing remembered.
    pub fn new(limits: &Limits, statement_key: Option<&SigningKey>) -> Self {
        let (entries, bytes) = (limits.narrowing_cache_entries_max, limits.narrowing_cache_bytes_max);
        Self {
            narrower: statement_key.into_iter().fold(Narrower::new(limits.price_budget), Narrower::stating),
            read: TokenCache::new(entries, bytes),
            made: TokenCache::new(entries, bytes),
            same: Zeroizing::default(),
        }
    }

    fn narrow(
        &mut self,
        token: Secret<'_>,
        capability: &Capability,
        message: &Message<'_>,
    ) -> Result<Rc<TokenText>, Refused> {
        self.same.clear();
        // None of these holds a line's end, so no two messages have one name.
        for part in [token.expose(), message.resource, message.operation, message.path, message.query_string] {
            self.same.push_str(part);
            self.same.push('\n');
        }
        if capability.needs().asks_who() {
            let (client, scheme) = (message.client.to_canonical(), message.scheme.as_str());
            let certificate = message.client_cert.unwrap_or_default();
            let _ = write!(self.same, "{client}\n{certificate}\n{}\n{scheme}", message.host);
        }
        if let Some(Made { token, until }) = self.made.get(&self.same)
            && until.saturating_sub(message.time) >= LEFT_SECONDS_MIN
            && until <= message.time.saturating_add(NARROWED_SECONDS)
        {
            return Ok(token);
        }
        let narrowable = match self.read.get(token.expose()) {
            Some(known) => known,
            None => {
                let narrowable = Rc::new(Narrowable::of(token.expose(), capability).map_err(Refused::NotNarrowable)?);
                self.read.insert(token.expose(), Rc::clone(&narrowable));
                narrowable
            }
        };
        let until = message.time.saturating_add(NARROWED_SECONDS);
        let narrowed = self.narrower.narrow(&narrowable, message, until).map_err(Refused::NotNarrowable)?;
        let token = Rc::new(narrowed);
        self.made.insert(&self.same, Made { token: Rc::clone(&token), until });
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use postern_capabilities::keys::{KeyId, KeyRing};
    use postern_capabilities::revocation::Standing;
    use postern_capabilities::token::Unverified;
    use postern_capabilities::{Operation, Right, mint, narrow::NotNarrowable, seal};

    use super::*;

    struct Scene {
        token: String,
        capability: Capability,
    }

    fn scene() -> Scene {
        let key = SigningKey::generate();
        let right = Right { resource: "orders".parse().expect("a name"), operation: Operation::any() };
        let token = mint(&key, KeyId(1), &[right], &[]).expect("minted").expose().to_owned();
        let standing = Standing::new(KeyRing::of(KeyId(1), key.public()));
        let capability = Unverified::parse(&token).expect("read").verify(&standing, 10_000).expect("verified");
        Scene { token, capability }
    }

    fn message<'m>(path: &'m str, query_string: &'m str, time: u64) -> Message<'m> {
        Message { query_string, ..Message::new("orders", "GET", path, time, IpAddr::from([127, 0, 0, 1])) }
    }

    #[test]
    fn the_same_message_gets_the_same_token_while_half_of_its_time_is_left() {
        let Scene { token, capability } = scene();
        let mut narrowing = Narrowing::new(&Limits::default(), None);
        let mut at = |time| {
            narrowing.narrow(Secret::for_tests(&token), &capability, &message("/a", "", time)).expect("narrowed")
        };
        let first = at(1000);
        assert!(Rc::ptr_eq(&first, &at(1030)));
        let second = at(1031);
        assert!(!Rc::ptr_eq(&first, &second));
        assert!(Rc::ptr_eq(&second, &at(1031)));
        assert!(!Rc::ptr_eq(&second, &at(900)), "a clock that was set back gets no token from the future");
    }

    #[test]
    fn another_message_never_gets_the_same_token() {
        let (first, other) = (scene(), scene());
        let mut narrowing = Narrowing::new(&Limits::default(), None);
        let mut narrowed = |scene: &Scene, message: Message<'_>| {
            narrowing.narrow(Secret::for_tests(&scene.token), &scene.capability, &message).expect("narrowed")
        };
        let a = narrowed(&first, message("/a", "", 1000));
        for (scene, message) in [
            (&first, message("/b", "", 1000)),
            (&first, message("/a", "x", 1000)),
            (&first, Message { operation: "HEAD", ..message("/a", "", 1000) }),
            (&first, Message { resource: "other", ..message("/a", "", 1000) }),
            (&other, message("/a", "", 1000)),
        ] {
            assert_ne!(narrowed(scene, message).expose(), a.expose());
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let Scene { token, capability } = scene();
        let limits = Limits { narrowing_cache_entries_max: 4, ..Limits::default() };
        let mut narrowing = Narrowing::new(&limits, None);
        for n in 0..20 {
            let path = format!("/{n}");
            narrowing.narrow(Secret::for_tests(&token), &capability, &message(&path, "", 1000)).expect("narrowed");
        }
        assert_eq!((narrowing.read.len(), narrowing.made.len()), (1, 4));
    }

    #[test]
    fn a_sealed_token_is_refused() {
        let key = SigningKey::generate();
        let right = Right { resource: "orders".parse().expect("a name"), operation: Operation::any() };
        let sealed = mint(&key, KeyId(1), &[right], &[]).expect("minted");
        let sealed = seal(sealed.expose()).expect("sealed");
        let standing = Standing::new(KeyRing::of(KeyId(1), key.public()));
        let capability = Unverified::parse(sealed.expose()).expect("read").verify(&standing, 10_000).expect("verified");
        let mut narrowing = Narrowing::new(&Limits::default(), None);
        let refused = narrowing.narrow(Secret::for_tests(sealed.expose()), &capability, &message("/a", "", 0));
        assert!(matches!(refused, Err(Refused::NotNarrowable(NotNarrowable::Sealed))));
    }
}
