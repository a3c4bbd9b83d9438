//! A refusal as HTTP says it: RFC 9457's problem, RFC 6750's challenge, and the one table from the reasons that a gateway and a
//! backend share to a status.
//!
//! Both decide by this crate, so a caller meets the same reasons at either. What it then reads is made here: the same `type`, title, advice
//! and word on trying again, whoever refused. Reasons that only one of them can meet (a service that is not reached, keys that
//! cannot be fetched) are mapped by that one, with [`Problem::new`]. The `type` strings are stable: callers may branch on them.
//!
//! Nothing is sent here, and nothing is read: this is text.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::authorize::{FailedCaveat, Refusal};
use crate::json_rpc::{Id, Waiting};
use crate::path::PathError;
use crate::token::{NotVerified, Unreadable};

/// Most bytes of `error_description`: a client's header limits are smaller than what a token can make a reason quote. The
/// body has the reason in full.
const DESCRIPTION_BYTES_MAX: usize = 256;

/// The scheme with its realm: a challenge has a parameter at least (RFC 6750 section 3), and that there is one gateway
/// here is all that this one says.
const BEARER: &str = "Bearer realm=\"postern\"";

/// One refusal as the caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The stable `type`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// A short summary that does not change from one occurrence to the next.
    pub title: &'static str,
    /// The HTTP status code.
    pub status: u16,
    /// What happened this time, and what the caller can do.
    pub detail: Cow<'static, str>,
    /// Whether the same message may be sent again.
    pub retry: Retry,
    /// The failed caveats, printed, where the refusal is a capability's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caveats: Vec<ProblemCaveat>,
    /// What the `WWW-Authenticate` field says, where the status calls for one.
    #[serde(skip)]
    pub challenge: Option<Challenge>,
    /// What `Allow` says, where the status is 405 and it is not what is only read.
    #[serde(skip)]
    pub allow: Option<&'static str>,
    /// Who waits for the answer, where the caller reads JSON-RPC ([`Problem::as_json_rpc`]).
    #[serde(skip)]
    pub call: Option<Waiting>,
}

/// The error of a JSON-RPC 2.0 call (section 5.1).
#[derive(Serialize)]
struct ErrorOfCall<'p> {
    jsonrpc: &'static str,
    id: serde_json::Value,
    error: JsonRpcError<'p>,
}

impl<'p> ErrorOfCall<'p> {
    fn of(id: Option<&Id>, problem: &'p Problem, data: Data<'p>) -> Self {
        let id = match id {
            Some(Id::Text(text)) => text.as_str().into(),
            Some(Id::Integer(number)) => (*number).into(),
            Some(Id::Null) | None => serde_json::Value::Null,
        };
        Self { jsonrpc: "2.0", id, error: JsonRpcError { code: problem.status, message: &problem.detail, data } }
    }
}

/// What the error of a call says to programs.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'p> {
    /// All of it.
    Whole(&'p Problem),
    /// Of all but the first call of a batch: what decides what to do next. All of it for each could be a thousand times
    /// as long as the batch.
    Brief {
        #[serde(rename = "type")]
        kind: &'static str,
        title: &'static str,
        status: u16,
        retry: Retry,
    },
}

impl<'p> Data<'p> {
    fn brief(problem: &'p Problem) -> Self {
        let Problem { kind, title, status, retry, .. } = *problem;
        Self::Brief { kind, title, status, retry }
    }
}

#[derive(Serialize)]
struct JsonRpcError<'p> {
    /// The HTTP status: the numbers that the specification leaves to applications are those outside -32768 to -32000, and
    /// of those inside the Model Context Protocol's programs give a meaning of their own to one after the other.
    code: u16,
    message: &'p str,
    data: Data<'p>,
}

/// Whether the same message may be sent again, for programs: the member `retry` of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// Nothing of it was acted upon: sending it again does nothing twice, and can help.
    Safe,
    /// It may have been acted upon: only a message that may be done twice may be sent again.
    Unknown,
    /// The same message gets the same answer: something about it has to change first.
    No,
}

impl Retry {
    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Unknown => "unknown",
            Self::No => "no",
        }
    }

    /// What a status says where a problem says nothing else.
    pub fn by_status(status: u16) -> Self {
        match status {
            // Too much at the moment; nobody looked at anything of the message.
            425 | 429 | 503 => Self::Safe,
            // The service was asked, or the message was on its way to it.
            408 | 500.. => Self::Unknown,
            _ => Self::No,
        }
    }
}

/// One failed caveat as a problem shows it. The holder can read its own token, so this tells it nothing new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemCaveat {
    /// The block that carries the caveat; 0 is the authority.
    pub block: usize,
    /// Its place in that block.
    pub check: usize,
    /// The caveat as the plan prints it.
    #[serde(rename = "caveat")]
    pub text: Box<str>,
    /// What it allows and what the message asks for instead, where there are words for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<Box<str>>,
}

impl From<&FailedCaveat> for ProblemCaveat {
    fn from(failed: &FailedCaveat) -> Self {
        let FailedCaveat { block, check, text, words, expired_at: _ } = failed.clone();
        Self { block, check, text, words }
    }
}

/// The `error` of a Bearer challenge (RFC 6750 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// No token came: the challenge carries no error.
    Bare,
    /// `invalid_request`
    InvalidRequest,
    /// `invalid_token`
    InvalidToken,
    /// `insufficient_scope`
    InsufficientScope,
}

impl Problem {
    /// The media type of [`Problem::body`], unless the problem answers a JSON-RPC call.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// A problem that says of trying again what its status says. An error's text becomes the sentence that a caller reads.
    pub fn new(status: u16, kind: &'static str, title: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let (detail, retry) = (sentence(detail.into()), Retry::by_status(status));
        Self { kind, title, status, detail, retry, caveats: Vec::new(), challenge: None, allow: None, call: None }
    }

    /// What the caller can do, behind what happened.
    pub fn advice(mut self, advice: &str) -> Self {
        self.detail = format!("{} {advice}", self.detail).into();
        self
    }

    /// Another word on trying again than the status has.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// What `WWW-Authenticate` says.
    pub fn challenge(mut self, challenge: Challenge) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// The same problem as a 405 with what is allowed instead. Nobody is asked for another token.
    pub fn not_allowed(self, allow: &'static str) -> Self {
        Self { status: 405, allow: Some(allow), challenge: None, ..self }
    }

    /// The same problem for a caller that reads JSON-RPC and nothing else, such as a client of the Model Context Protocol: the
    /// body is the error of the call, with the detail as its message and the problem as its `data`, or of each call of a
    /// batch.
    ///
    /// Such a client takes any HTTP error for the end of its session, or for a reason to look for another token. So a call
    /// that is not permitted is answered as a server answers a call that fails ([`Problem::http_status`]), and the challenge
    /// is left to the 401.
    pub fn as_json_rpc(mut self, waiting: Waiting) -> Self {
        self.call = Some(waiting);
        self
    }

    /// The status of the response: 200 where the problem is the error of calls that are not permitted. Where nobody waits for
    /// an answer, the protocol demands a status that says it.
    pub fn http_status(&self) -> u16 {
        let has_waiter = matches!(self.call, Some(Waiting::One(_) | Waiting::Several(_)));
        if has_waiter && self.is_not_permitted() { 200 } else { self.status }
    }

    fn is_not_permitted(&self) -> bool {
        (self.status, self.kind) == (403, "not-permitted")
    }

    /// The media type of [`Problem::body`].
    pub fn media_type(&self) -> &'static str {
        if self.call.is_some() { "application/json" } else { Self::MEDIA_TYPE }
    }

    /// The JSON (RFC 9457 section 3), as one line; or the error of the JSON-RPC call that it answers.
    pub fn body(&self) -> String {
        let of_call = |id| ErrorOfCall::of(id, self, Data::Whole(self));
        let written = match &self.call {
            None => serde_json::to_string(self),
            Some(Waiting::Unknown | Waiting::Nobody) => serde_json::to_string(&of_call(None)),
            Some(Waiting::One(id)) => serde_json::to_string(&of_call(Some(id))),
            Some(Waiting::Several(ids)) => {
                let rest = ids.iter().skip(1).map(|id| ErrorOfCall::of(Some(id), self, Data::brief(self)));
                serde_json::to_string(&ids.iter().take(1).map(|id| of_call(Some(id))).chain(rest).collect::<Vec<_>>())
            }
        };
        let mut text = written.expect("texts and numbers are always expressible in JSON");
        text.push('\n');
        text
    }

    /// The value of `WWW-Authenticate`, where the answer has that field.
    pub fn www_authenticate(&self) -> Option<String> {
        if self.call.is_some() && self.is_not_permitted() {
            return None;
        }
        let error = match self.challenge? {
            Challenge::Bare => return Some(BEARER.to_owned()),
            Challenge::InvalidRequest => "invalid_request",
            Challenge::InvalidToken => "invalid_token",
            Challenge::InsufficientScope => "insufficient_scope",
        };
        Some(format!("{BEARER}, error=\"{error}\", error_description=\"{}\"", quotable(&self.detail)))
    }
}

/// What both can refuse, and what is not an error of this crate's by itself.
impl Problem {
    /// The same bytes for what does not exist and for what the token holds no right to.
    pub fn not_found() -> Self {
        Self::new(
            404,
            "not-found",
            "There is nothing here for this capability",
            "No such resource, or the presented capability holds no right on it at all. Check the path's first \
             segment, and `postern inspect` the token for its rights.",
        )
    }

    /// No token came.
    pub fn missing_capability() -> Self {
        Self::new(
            401,
            "missing-capability",
            "No capability was presented",
            "Send a token in `Authorization: Bearer <token>`. Whoever runs this gateway, or holds a token, can hand you one.",
        )
        .challenge(Challenge::Bare)
    }

    /// More than one token came.
    pub fn two_tokens() -> Self {
        Self::new(
            400,
            "two-tokens",
            "More than one token was presented",
            "Present exactly one capability: in `Authorization: Bearer`, or in `Postern-Capability`, not both and not twice.",
        )
        .challenge(Challenge::InvalidRequest)
    }

    /// The field that should carry a token does not.
    pub fn unreadable_carrier(what: &'static str) -> Self {
        Self::new(401, "invalid-token", UNREADABLE_TOKEN, what)
            .advice("Send it as `Authorization: Bearer <token>`.")
            .challenge(Challenge::InvalidToken)
    }

    /// The path can be read in several ways, or is not written in the one that is forwarded.
    pub fn ambiguous_path(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "bad-path", "The path is ambiguous", what)
            .advice("Send the path in its one form: resolved, with every escape in UTF-8 and none escaped twice.")
    }

    /// A service's application is given another path than the one that was asked for.
    pub fn rerouted() -> Self {
        Self::ambiguous_path(
            "The application would act upon another path or query than the one that was asked for, so neither is taken for the \
             message's.",
        )
        .advice(
            "Send no field that moves an application, such as `SCRIPT_NAME`; whoever runs the service tells the middleware \
             where the application is mounted.",
        )
    }

    /// A caveat reads the body, and `what` is in the way of that.
    pub fn unreadable_body(what: &str) -> Self {
        Self::new(400, "bad-body", UNDECIDABLE_BODY, format!("A caveat of the token reads the body, and {what}."))
            .advice("Send one JSON-RPC 2.0 message, or a batch of them, or present a token whose caveats do not read the body.")
    }

    /// A caveat reads the body, which is longer than is read for that.
    pub fn body_too_large_to_read(bytes_max: u64) -> Self {
        Self::new(
            413,
            "body-too-large",
            "The body is too large",
            format!(
                "A caveat of the token reads the body, and for that it can have at most {bytes_max} bytes. Send a smaller one."
            ),
        )
    }

    /// A body that a caveat reads did not come whole. Nothing was acted upon.
    pub fn body_broken() -> Self {
        Self::new(400, "malformed-request", "The request is not strict HTTP", "the body could not be read to its end")
            .advice("Nothing was done; send it again, whole.")
            .retry(Retry::Safe)
    }

    /// A backend has no keys to verify by. Why, is for its log.
    pub fn keys_unavailable() -> Self {
        Self::new(
            503,
            "unavailable",
            "The service cannot verify now",
            "The gateway's keys cannot be had at the moment. Nothing was done; try again later.",
        )
    }
}

const UNREADABLE_TOKEN: &str = "The token cannot be read";
const UNDECIDABLE_BODY: &str = "The body cannot be decided on";

impl From<&PathError> for Problem {
    fn from(error: &PathError) -> Self {
        Self::ambiguous_path(error.to_string())
    }
}

impl From<&Unreadable> for Problem {
    fn from(error: &Unreadable) -> Self {
        Self::new(401, error.kind(), UNREADABLE_TOKEN, error.to_string())
            .advice("Copy the token anew from where it was handed out; `postern inspect` shows whether one is whole.")
            .challenge(Challenge::InvalidToken)
    }
}

impl From<&NotVerified> for Problem {
    fn from(error: &NotVerified) -> Self {
        Self::new(401, error.kind(), "The token is not accepted", error.to_string())
            .advice("Present a token that this gateway's keys signed; `postern lint` says what in one is not accepted anywhere.")
            .challenge(Challenge::InvalidToken)
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        let of = |status, title| Self::new(status, refusal.kind(), title, refusal.to_string());
        match refusal {
            Refusal::Revoked { .. } | Refusal::KeyRetired => of(401, "The token is no longer accepted")
                .advice("Whoever handed it out can hand out another one.")
                .challenge(Challenge::InvalidToken),
            Refusal::Expired { .. } => of(401, "The token has expired")
                .advice("Ask whoever handed it out for a new one.")
                .challenge(Challenge::InvalidToken),
            Refusal::NoRight => Self::not_found(),
            Refusal::OtherOperation(_) => of(403, "The right that is held is to another operation")
                .advice("Use one of those methods, or ask for a token minted with a right to this one: no attenuation adds a right.")
                .challenge(Challenge::InsufficientScope),
            Refusal::UnreadableQuery(_) => {
                of(400, "The query cannot be decided on").advice("Send a query that can be read in one way only.")
            }
            Refusal::BatchTooLarge { .. } => of(413, "The batch is too large")
                .advice("Nothing was done: send the calls in several messages, or present a token with simpler caveats."),
            Refusal::LengthRequired => {
                of(411, "The body's length must be declared").advice("Send it again with `Content-Length`.")
            }
            Refusal::BodyFactsRequired => of(403, UNDECIDABLE_BODY)
                .advice("Send it with a JSON-RPC body, or present a token whose caveats do not read the body."),
            Refusal::Caveat(failed) => {
                let caveats = failed.iter().map(ProblemCaveat::from).collect();
                let stopped = Self { caveats, ..of(403, "A caveat stops this message") };
                stopped
                    .advice("Send a message that complies, or present a token with fewer caveats: whoever narrowed this one can hand out another.")
                    .challenge(Challenge::InsufficientScope)
            }
            Refusal::Undecidable { .. } => of(403, "A caveat cannot be decided")
                .advice("What cannot be decided is not allowed: present another token, or have whoever wrote the caveat correct it.")
                .challenge(Challenge::InsufficientScope),
        }
    }
}

/// An error's text as the sentence that a caller reads: errors are written to be joined to others, a detail stands alone.
fn sentence(text: Cow<'static, str>) -> Cow<'static, str> {
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) && text.ends_with(['.', '?', '!']) {
        return text;
    }
    let mut sentence = text.into_owned();
    if let Some(first) = sentence.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if !sentence.ends_with(['.', '?', '!']) {
        sentence.push('.');
    }
    sentence.into()
}

/// What RFC 6750 section 3 allows in `error_description`: `%x20-21 / %x23-5B / %x5D-7E`.
fn quotable(text: &str) -> String {
    const ELLIPSIS: &str = "...";
    let allowed = |c| if matches!(c, ' '..='!' | '#'..='[' | ']'..='~') { c } else { '\'' };
    // One more than the most is enough to see that there is more; after this every character is one byte.
    let mut quotable: String = text.chars().map(allowed).take(DESCRIPTION_BYTES_MAX + 1).collect();
    if quotable.len() > DESCRIPTION_BYTES_MAX {
        quotable.truncate(DESCRIPTION_BYTES_MAX - ELLIPSIS.len());
        quotable.push_str(ELLIPSIS);
    }
    quotable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_short_and_quotable() {
        assert_eq!(quotable("a \"b\" \\ é\n"), "a 'b' ' ''");
        let most = "a".repeat(DESCRIPTION_BYTES_MAX);
        assert_eq!(quotable(&most), most);
        let cut = quotable(&"é".repeat(10_000));
        assert!(cut.len() == DESCRIPTION_BYTES_MAX && cut.ends_with("'..."), "{cut}");
    }

    #[test]
    fn a_detail_is_a_sentence() {
        let detail = |text: &'static str| Problem::new(400, "k", "t", text).detail;
        assert_eq!(detail("the token is empty"), "The token is empty.");
        assert_eq!(detail("Is it one?"), "Is it one?");
        assert_eq!(detail("`x` cannot be decided"), "`x` cannot be decided.");
    }

    #[test]
    fn a_problem_is_one_line_of_json_with_the_members_in_their_order() {
        let mut problem = Problem::new(403, "not-permitted", "t", "d").advice("Do.");
        assert_eq!(
            problem.body(),
            "{\"type\":\"not-permitted\",\"title\":\"t\",\"status\":403,\"detail\":\"D. Do.\",\"retry\":\"no\"}\n"
        );
        problem.caveats.push(ProblemCaveat { block: 0, check: 1, text: "check if true".into(), words: None });
        assert!(problem.body().ends_with(",\"caveats\":[{\"block\":0,\"check\":1,\"caveat\":\"check if true\"}]}\n"));
    }

    #[test]
    fn a_call_reads_its_problem_as_its_error() {
        let problem = Problem::new(403, "not-permitted", "t", "d").challenge(Challenge::InsufficientScope);
        let (plain, challenge) = (problem.body(), problem.www_authenticate());
        for (waiting, written, status) in [
            (Waiting::One(Id::Text("a\"b".to_owned())), r#""a\"b""#, 200),
            (Waiting::One(Id::Integer(-7)), "-7", 200),
            (Waiting::One(Id::Null), "null", 200),
            (Waiting::Nobody, "null", 403),
            (Waiting::Unknown, "null", 403),
        ] {
            let of_call = problem.clone().as_json_rpc(waiting);
            assert_eq!(
                of_call.body(),
                format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":{written},\"error\":{{\"code\":403,\"message\":\"D.\",\"data\":{}}}}}\n",
                    plain.trim_end()
                )
            );
            assert_eq!((of_call.media_type(), of_call.http_status()), ("application/json", status));
            assert_eq!((of_call.status, of_call.www_authenticate()), (403, None), "what is logged stays what it is");
        }
        assert!(challenge.is_some());
        let revoked = Problem::new(401, "revoked", "t", "d").challenge(Challenge::InvalidToken);
        let challenge = revoked.www_authenticate();
        let of_call = revoked.as_json_rpc(Waiting::One(Id::Integer(7)));
        assert_eq!((of_call.http_status(), of_call.www_authenticate()), (401, challenge), "RFC 9110 section 15.5.2");
        assert_eq!(problem.media_type(), Problem::MEDIA_TYPE);
    }

    #[test]
    fn each_call_of_a_batch_reads_its_error() {
        let mut problem = Problem::new(403, "not-permitted", "t", "d");
        problem.caveats.push(ProblemCaveat { block: 0, check: 1, text: "check if true".into(), words: None });
        let whole = problem.body();
        let of_batch = problem.as_json_rpc(Waiting::Several(vec![Id::Integer(1), Id::Text("2".to_owned())]));
        assert_eq!(of_batch.http_status(), 200);
        assert_eq!(
            of_batch.body(),
            format!(
                "[{{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{{\"code\":403,\"message\":\"D.\",\"data\":{}}}}},\
                 {{\"jsonrpc\":\"2.0\",\"id\":\"2\",\"error\":{{\"code\":403,\"message\":\"D.\",\"data\":\
                 {{\"type\":\"not-permitted\",\"title\":\"t\",\"status\":403,\"retry\":\"no\"}}}}}}]\n",
                whole.trim_end()
            )
        );
    }

    #[test]
    fn what_is_only_posted_to_says_so() {
        let problem = Problem::new(403, "not-permitted", "t", "d").challenge(Challenge::InsufficientScope);
        let posted = problem.not_allowed("POST");
        assert_eq!((posted.http_status(), posted.allow, posted.www_authenticate()), (405, Some("POST"), None));
    }

    #[test]
    fn trying_again_is_what_the_status_says_unless_more_is_known() {
        let of = |status| Problem::new(status, "k", "t", "d").retry;
        assert_eq!([of(403), of(503), of(504), of(408)], [Retry::No, Retry::Safe, Retry::Unknown, Retry::Unknown]);
        assert_eq!(Problem::new(502, "k", "t", "d").retry(Retry::Safe).retry, Retry::Safe);
    }
}
