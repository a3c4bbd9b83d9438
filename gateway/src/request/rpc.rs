//! Refusals for callers of gRPC-Web and Connect, over either version of HTTP: neither reads a problem document, and what it
//! is not told in its own protocol it shows as an unknown error.
//!
//! gRPC itself is HTTP/2's alone and says its status in the head ([`super::grpc`]). gRPC-Web says it in a frame at the end
//! of the body, where a page reads it without being told that it may. Connect's unary calls keep HTTP's status and have an
//! error as their body; its streams are 200 and end with a frame that holds the same error.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_capabilities::problem::Problem;
use serde::Serialize;

use super::grpc;
use super::respond::problem_fields;
use crate::head::{Head, Known};

/// The protocol of a call, with the content type that its answers have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rpc {
    /// gRPC-Web; whether in its text form.
    Web {
        /// What the call says, and the answer repeats.
        content_type: Box<str>,
        /// Whether bodies are in Base64.
        is_text: bool,
    },
    /// A unary call of Connect.
    ConnectUnary,
    /// A stream of Connect.
    ConnectStream {
        /// What the call says, and the answer repeats.
        content_type: Box<str>,
    },
}

/// A refusal in a form of its own: status, fields and body.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The fields, but for the body's length.
    pub fields: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Rpc {
    /// The protocol of a call with this head.
    pub fn of(head: &Head<'_>) -> Option<Self> {
        if head.method() == "POST" && head.count(Known::ContentType) == 1 {
            let says_connect = || {
                let mut fields = head.fields();
                fields.any(|field| field.name.eq_ignore_ascii_case(b"connect-protocol-version"))
            };
            Self::of_post(head.value(Known::ContentType)?, says_connect)
        } else {
            Self::of_get(head.method(), head.query())
        }
    }

    /// The protocol of a POST with this content type.
    pub fn of_post(content_type: &[u8], says_connect: impl FnOnce() -> bool) -> Option<Self> {
        let begins = |prefix: &[u8]| {
            let length = prefix.len();
            content_type.get(..length).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
                && matches!(content_type.get(length), None | Some(b'+' | b';' | b' '))
        };
        // What is repeated is visible ASCII, whatever came.
        let text = || {
            let is_plain = content_type.iter().all(|byte| matches!(byte, b' '..=b'~'));
            std::str::from_utf8(content_type).ok().filter(|_| is_plain).map(Into::into)
        };
        if begins(b"application/grpc-web") {
            Some(Self::Web { content_type: text()?, is_text: false })
        } else if begins(b"application/grpc-web-text") {
            Some(Self::Web { content_type: text()?, is_text: true })
        } else if begins(b"application/connect") {
            Some(Self::ConnectStream { content_type: text()? })
        } else if (begins(b"application/json") || begins(b"application/proto")) && says_connect() {
            Some(Self::ConnectUnary)
        } else {
            None
        }
    }

    /// The protocol of a GET with this query: Connect's calls without side effects say it there.
    pub fn of_get(method: &str, query: Option<&str>) -> Option<Self> {
        let says_connect = |query: &str| query.split('&').any(|pair| pair == "connect=v1");
        (method == "GET" && query.is_some_and(says_connect)).then_some(Self::ConnectUnary)
    }

    /// A problem as this protocol says it.
    pub fn answer(&self, problem: &Problem) -> Answer {
        let mut fields = problem_fields(problem);
        let code = grpc::status(problem);
        let message = format!("{}: {}", problem.kind, problem.detail);
        let mut say = |content_type: &str| {
            fields.retain(|(name, _)| *name != "content-type");
            fields.insert(0, ("content-type", content_type.to_owned()));
        };
        let (status, body) = match self {
            Self::Web { content_type, is_text } => {
                say(content_type);
                let trailers = format!("grpc-status: {code}\r\ngrpc-message: {}\r\n", grpc::message(&message));
                let end = frame(TRAILERS, trailers.as_bytes());
                (200, if *is_text { STANDARD.encode(end).into_bytes() } else { end })
            }
            Self::ConnectUnary => {
                say("application/json");
                (problem.status, json(&ConnectError { code: connect_code(code), message: &message }))
            }
            Self::ConnectStream { content_type } => {
                say(content_type);
                let error = ConnectError { code: connect_code(code), message: &message };
                (200, frame(END_STREAM, &json(&EndOfStream { error })))
            }
        };
        if status == 200 {
            fields.retain(|(name, _)| *name != "www-authenticate");
        }
        Answer { status, fields, body }
    }
}

/// gRPC-Web's frame of trailers.
const TRAILERS: u8 = 0x80;
/// Connect's last frame of a stream.
const END_STREAM: u8 = 0x02;

fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[flags], &length[..], payload].concat()
}

#[derive(Serialize)]
struct ConnectError<'a> {
    code: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct EndOfStream<'a> {
    error: ConnectError<'a>,
}

fn json(error: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(error).unwrap_or_default()
}

/// Connect's name for a gRPC status.
fn connect_code(status: &str) -> &'static str {
    match status {
        "3" => "invalid_argument",
        "4" => "deadline_exceeded",
        "5" => "not_found",
        "7" => "permission_denied",
        "8" => "resource_exhausted",
        "12" => "unimplemented",
        "14" => "unavailable",
        "16" => "unauthenticated",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::error::Refused;

    #[test]
    fn a_call_is_known_by_its_content_type_its_field_or_its_query() {
        let of = |content_type: &str| Rpc::of_post(content_type.as_bytes(), || false);
        assert!(matches!(of("application/grpc-web+proto"), Some(Rpc::Web { is_text: false, .. })));
        assert!(matches!(of("application/grpc-web-text"), Some(Rpc::Web { is_text: true, .. })));
        assert!(matches!(of("application/connect+json"), Some(Rpc::ConnectStream { .. })));
        for other in ["application/grpc", "application/json", "application/connections", "application/grpc-webs"] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(Rpc::of_post(b"application/json; charset=utf-8", || true), Some(Rpc::ConnectUnary));
        assert_eq!(Rpc::of_get("GET", Some("encoding=json&connect=v1")), Some(Rpc::ConnectUnary));
        assert_eq!(Rpc::of_get("GET", Some("connect=v10")), None);
    }

    #[test]
    fn a_refusal_is_said_in_the_calls_own_protocol() {
        let problem = Refused::NotFound.problem();
        let web = Rpc::of_post(b"application/grpc-web+proto", || false).expect("known").answer(&problem);
        assert_eq!((web.status, web.body[0]), (200, 0x80));
        assert_eq!(web.body.len() - 5, u32::from_be_bytes([0, 0, web.body[3], web.body[4]]) as usize);
        assert!(web.body[5..].starts_with(b"grpc-status: 5\r\ngrpc-message: not-found"), "{:?}", web.body);
        assert_eq!(web.fields[0], ("content-type", "application/grpc-web+proto".to_owned()));
        let unary = Rpc::ConnectUnary.answer(&Refused::MissingCapability.problem());
        assert_eq!(unary.status, 401);
        assert!(unary.body.starts_with(b"{\"code\":\"unauthenticated\",\"message\":\"missing-capability: "));
        assert!(unary.fields.iter().any(|(name, _)| *name == "www-authenticate"));
        let stream = Rpc::of_post(b"application/connect+json", || false).expect("known").answer(&problem);
        assert_eq!((stream.status, stream.body[0]), (200, 2));
        assert!(stream.body[5..].starts_with(b"{\"error\":{\"code\":\"not_found\""), "{:?}", stream.body);
    }
}
