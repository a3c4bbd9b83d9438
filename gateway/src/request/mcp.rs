//! What is done otherwise for callers of the Model Context Protocol, besides how their refusals read ([`super::wording`]).
//!
//! A refused call is the answer to that call, so its id has to be known: at a resource that says `mcp = true` the body is read
//! for it although no caveat asks, also where the call passes, since its capability may fall while the tool runs. The stream that
//! clients of the protocol ask for with GET, and the DELETE by which they end a session, are optional; a client that gets
//! a 405 does without, and one that gets a 403 takes its session for lost.

use postern_capabilities::authorize::{OfCalls, Refusal};
use postern_capabilities::token::Capability;

use super::body;
use super::error::Refused;
use super::resource::Resource;
use crate::head::{Framing, Head};

/// Whether the body of a message that passes is read, for who waits for its answer. Only one whose length is declared, and
/// fits: no message is refused for this.
pub(super) fn reads_passing(resource: &Resource, head: &Head<'_>, bytes_max: Option<u64>) -> bool {
    let fits = |length| bytes_max.is_none_or(|max| length <= max);
    resource.mcp
        && head.method() == "POST"
        && matches!(head.framing(), Framing::Length(length) if length > 0 && fits(length))
        && body::check_head(head).is_ok()
}

/// Whether the body of a message that is refused for this is read, for who waits for its answer.
pub(super) fn reads_refused(
    refused: &Refused,
    resource: &Resource,
    capability: &Capability,
    head: &Head<'_>,
    bytes_max: Option<u64>,
) -> bool {
    let fits = match head.framing() {
        Framing::None => false,
        Framing::Length(length) => length > 0 && bytes_max.is_none_or(|max| length <= max),
        Framing::Chunked => true,
    };
    fits && head.method() == "POST"
        && resource.mcp
        && capability.holds_any_on(resource.name.as_str())
        && refused.problem().kind == "not-permitted"
        && body::check_head(head).is_ok()
}

/// A refused GET or DELETE as one that is not offered, where nothing is in its way but that the token only calls.
pub(super) fn not_offered(refused: Refused, resource: &Resource, capability: &Capability, method: &str) -> Refused {
    if !matches!(method, "GET" | "DELETE") {
        return refused;
    }
    match refused {
        Refused::Refusal(refusal) if refusal.of_calls() == OfCalls::All => Refused::OnlyPosts(Some(Box::new(refusal))),
        Refused::Refusal(Refusal::OtherOperation(_)) if resource.mcp && only_posts(capability, resource) => {
            Refused::OnlyPosts(None)
        }
        refused => refused,
    }
}

/// Whether a capability holds POST on a resource, and nothing else.
fn only_posts(capability: &Capability, resource: &Resource) -> bool {
    let mut rights = capability.rights().iter().filter(|right| right.resource == resource.name).peekable();
    rights.peek().is_some() && rights.all(|right| right.operation.as_str() == "POST")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postern_capabilities::caveat::Caveat;
    use postern_capabilities::keys::{KeyId, KeyRing, SigningKey};
    use postern_capabilities::message::Message;
    use postern_capabilities::mint;
    use postern_capabilities::resource::{Operation, Right};
    use postern_capabilities::revocation::Standing;
    use postern_capabilities::token::Unverified;

    use super::*;
    use crate::head::Spans;
    use crate::limits::Limits;
    use crate::request::check;

    struct Scene {
        standing: Standing,
        capability: Arc<Capability>,
        resource: Resource,
    }

    fn scene(operations: &[&str], flags: &[(&str, &str)], mcp: bool) -> Scene {
        let key = SigningKey::generate();
        let standing = Standing::new(KeyRing::of(KeyId(1), key.public()));
        let right = |operation: &&str| Right {
            resource: "tools".parse().expect("a name"),
            operation: Operation::parse(operation).expect("an operation"),
        };
        let rights: Vec<_> = operations.iter().map(right).collect();
        let caveats: Vec<Caveat> =
            flags.iter().flat_map(|(flag, value)| Caveat::of_flag(flag, &[*value], 0).expect("a caveat")).collect();
        let token = mint(&key, KeyId(1), &rights, &caveats).expect("minted");
        let capability =
            Unverified::parse(token.expose()).expect("a token").verify(&standing, 10_000).expect("verified");
        let resource = Resource { mcp, ..Resource::for_tests("tools", None, "/tools") };
        Scene { standing, capability: Arc::new(capability), resource }
    }

    impl Scene {
        fn refused(&self, method: &str, path: &str) -> Refused {
            let message =
                Message { body_size: Some(9), ..Message::new("tools", method, path, 0, [127, 0, 0, 1].into()) };
            check::check(&self.capability, &self.standing, &self.resource, message, None).err().expect("refused")
        }

        fn seen(&self, method: &str, path: &str) -> (u16, Option<&'static str>) {
            let refused = not_offered(self.refused(method, path), &self.resource, &self.capability, method);
            let problem = refused.problem();
            (problem.status, problem.allow)
        }
    }

    #[test]
    fn what_fails_only_since_the_token_calls_is_not_offered() {
        let tool = [("tool", "search"), ("path", "/mcp")];
        for mcp in [false, true] {
            let scene = scene(&["*"], &tool, mcp);
            for method in ["GET", "DELETE"] {
                assert_eq!(scene.seen(method, "/mcp"), (405, Some("POST")), "{method}");
                assert_eq!(scene.seen(method, "/other"), (403, None), "{method}: another caveat stops it, too");
            }
            assert_eq!(scene.seen("PUT", "/mcp"), (403, None));
        }
        assert_eq!(scene(&["POST"], &[], true).seen("GET", "/mcp"), (405, Some("POST")));
        assert_ne!(scene(&["POST"], &[], false).seen("GET", "/mcp").0, 405, "elsewhere as ever");
        assert_ne!(scene(&["POST", "PUT"], &[], true).seen("GET", "/mcp").0, 405, "it does not only post");
    }

    #[test]
    fn bodies_are_read_for_their_ids_where_they_are_calls() {
        let reads = |scene: &Scene, head: &str, refused: Option<Refused>| {
            let bytes = format!("POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n");
            let mut spans = Spans::new();
            let head = Head::read(bytes.as_bytes(), &mut spans, &Limits::default()).expect("strict").expect("whole");
            match refused {
                Some(refused) => reads_refused(&refused, &scene.resource, &scene.capability, &head, Some(10)),
                None => reads_passing(&scene.resource, &head, Some(10)),
            }
        };
        const CALL: &str = "content-type: application/json\r\ncontent-length: 9\r\n";
        const LONG: &str = "content-type: application/json\r\ncontent-length: 11\r\n";
        const CHUNKED: &str = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
        let (mcp, other) = (scene(&["*"], &[("path", "/mcp")], true), scene(&["*"], &[("path", "/mcp")], false));
        assert!(reads(&mcp, CALL, None) && !reads(&mcp, LONG, None) && !reads(&mcp, CHUNKED, None));
        assert!(!reads(&mcp, "content-length: 9\r\n", None) && !reads(&other, CALL, None));
        let stopped = |scene: &Scene| Some(scene.refused("POST", "/b"));
        assert!(reads(&mcp, CALL, stopped(&mcp)) && reads(&mcp, CHUNKED, stopped(&mcp)));
        assert!(!reads(&mcp, LONG, stopped(&mcp)) && !reads(&mcp, "content-length: 9\r\n", stopped(&mcp)));
        assert!(!reads(&other, CALL, stopped(&other)));
        let tool = scene(&["*"], &[("path", "/mcp"), ("tool", "a")], false);
        assert!(!reads(&tool, CALL, stopped(&tool)), "what a caveat stops anyway is not waited for");
        assert!(!reads(&mcp, CALL, Some(Refused::Refusal(Refusal::KeyRetired))), "for that nothing is read");
    }
}
