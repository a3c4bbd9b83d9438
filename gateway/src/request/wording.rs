//! In which form a caller reads refusals: as a problem, or as the error of a JSON-RPC call.
//!
//! Clients of the Model Context Protocol post calls and accept `application/json` or `text/event-stream`. Of an answer of
//! another type they tell their agent that the server returned an error, and no more; of a JSON-RPC error they tell it the
//! words, whatever the status. So who posts JSON and accepts only such answers gets the problem as an error of that kind.
//! Whoever takes a problem, or does not say what it takes, gets the problem itself.

use postern_capabilities::json_rpc::{self, Id, mirrors};
use postern_capabilities::problem::Problem;

use crate::head::{Head, Known};

/// The form of the refusals of one message.
#[derive(Debug, Default, PartialEq)]
pub enum Wording {
    /// RFC 9457.
    #[default]
    Problem,
    /// The error of a call, with the call's id where it is known.
    JsonRpc(Option<Id>),
}

impl Wording {
    /// The form for a message with this head, and with this body where that was read.
    pub fn of(head: &Head<'_>, body: Option<&[u8]>) -> Self {
        let posts_json = head.method() == "POST"
            && head.count(Known::ContentType) == 1
            && head.value(Known::ContentType).is_some_and(mirrors::is_json);
        if posts_json && Accepted::of(head).only_calls(body.is_some()) {
            Self::JsonRpc(body.and_then(json_rpc::id_of))
        } else {
            Self::Problem
        }
    }

    /// A problem in this form.
    pub fn of_problem(&self, problem: Problem) -> Problem {
        match self {
            Self::Problem => problem,
            Self::JsonRpc(id) => problem.as_json_rpc(id.clone()),
        }
    }
}

/// What a caller says that it reads, of what there is here (RFC 9110 section 12.5.1).
#[derive(Default)]
struct Accepted {
    json: bool,
    events: bool,
    problem: bool,
    anything: bool,
}

impl Accepted {
    fn of(head: &Head<'_>) -> Self {
        let mut accepted = Self::default();
        let fields = head.fields().filter(|field| field.known == Known::Accept);
        for range in fields.flat_map(|field| field.value.split(|byte| *byte == b',')) {
            let kind = range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let is = |wanted: &[u8]| kind.eq_ignore_ascii_case(wanted);
            accepted.json |= is(b"application/json");
            accepted.events |= is(b"text/event-stream");
            accepted.problem |= is(b"application/problem+json");
            accepted.anything |= is(b"*/*") || is(b"application/*");
        }
        accepted
    }

    /// Whether it reads the answers to calls, and no problems. A stream of events beside JSON is what the clients of the Model
    /// Context Protocol have to name; without it the body has to have been read as a call.
    fn only_calls(&self, was_read: bool) -> bool {
        self.json && !self.problem && (self.events || was_read && !self.anything)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Spans;
    use crate::limits::Limits;

    const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":"a","method":"tools/call"}"#;

    fn wording(method: &str, fields: &str, body: Option<&[u8]>) -> Wording {
        let bytes = format!("{method} / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        let mut spans = Spans::new();
        let head = Head::read(bytes.as_bytes(), &mut spans, &Limits::default()).expect("strict").expect("whole");
        Wording::of(&head, body)
    }

    #[test]
    fn who_reads_only_answers_to_calls_gets_the_error_of_one() {
        let of = |accept: &str, body| wording("POST", &format!("content-type: application/json\r\n{accept}"), body);
        let known = || Wording::JsonRpc(Some(Id::Text("a".to_owned())));
        for accept in [
            "accept: application/json, text/event-stream\r\n",
            "accept: text/event-stream;q=0.5 , Application/JSON\r\n",
            "accept: application/json\r\naccept: text/event-stream, */*\r\n",
        ] {
            assert_eq!(of(accept, None), Wording::JsonRpc(None), "{accept}");
            assert_eq!(of(accept, Some(CALL)), known(), "{accept}");
        }
        assert_eq!(of("accept: application/json\r\n", Some(CALL)), known());
        for accept in [
            "",
            "accept: */*\r\n",
            "accept: application/problem+json\r\n",
            "accept: application/json, */*\r\n",
            "accept: application/json, text/event-stream, application/problem+json\r\n",
            "accept: text/event-stream\r\n",
            "accept: text/html\r\n",
        ] {
            assert_eq!(of(accept, Some(CALL)), Wording::Problem, "{accept}");
        }
        assert_eq!(of("accept: application/json\r\n", None), Wording::Problem, "any interface posts and reads JSON");
    }

    #[test]
    fn what_is_no_call_has_its_problem() {
        let accept = "accept: application/json, text/event-stream\r\n";
        let json = format!("content-type: application/json\r\n{accept}");
        for method in ["GET", "DELETE", "HEAD", "PUT"] {
            assert_eq!(wording(method, &json, None), Wording::Problem, "{method}");
        }
        assert_eq!(wording("POST", accept, None), Wording::Problem);
        assert_eq!(wording("POST", &format!("content-type: text/plain\r\n{accept}"), None), Wording::Problem);
        let twice = format!("content-type: application/json\r\n{json}");
        assert_eq!(wording("POST", &twice, None), Wording::Problem);
    }
}
