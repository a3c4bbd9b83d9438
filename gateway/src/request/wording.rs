//! In which form a caller reads refusals: as a problem, or as the error of a JSON-RPC call.
//!
//! Clients of the Model Context Protocol post calls and accept `application/json` or `text/event-stream`. Of an HTTP error
//! some tell their agent that the server returned an error, and no more; some end their session, and some go and look for
//! another token. What all of them understand is the error of a call. So who calls gets its refusals in that form: who posts
//! JSON to a resource that says `mcp = true`, who is stopped by a caveat that speaks of calls, and who posts JSON and accepts
//! nothing but answers to calls. Whoever else takes a problem, or does not say what it takes, gets the problem itself.

use postern_capabilities::json_rpc::{Id, Waiting, mirrors};
use postern_capabilities::problem::Problem;

use super::error::Refused;
use crate::head::{Head, Known};
use crate::lease::Fallen;

/// The form of the refusals of one message.
#[derive(Debug, Default, PartialEq)]
pub enum Wording {
    /// RFC 9457.
    #[default]
    Problem,
    /// The error of a call, for those who wait for its answer.
    JsonRpc(Waiting),
}

impl Wording {
    /// The form for a message with this head, and with this body where that was read. `is_call`: it is known to be a call if it is
    /// JSON, whatever the caller accepts.
    pub fn of(head: &Head<'_>, body: Option<&[u8]>, is_call: bool) -> Self {
        let posts_json = head.method() == "POST"
            && head.count(Known::ContentType) == 1
            && head.value(Known::ContentType).is_some_and(mirrors::is_json);
        if posts_json && (is_call || Accepted::of(head).only_calls(body.is_some())) {
            Self::JsonRpc(body.map(Waiting::of).unwrap_or_default())
        } else {
            Self::Problem
        }
    }

    /// A problem in this form.
    pub fn of_problem(&self, problem: Problem) -> Problem {
        match self {
            Self::Problem => problem,
            Self::JsonRpc(waiting) => problem.as_json_rpc(waiting.clone()),
        }
    }

    /// The event by which a stream of events ends whose capability fell: for who waits for the answer to a call the error of
    /// that call, since clients of the Model Context Protocol read no other events than messages.
    pub fn last_event(&self, fallen: &Fallen) -> String {
        let ids = match self {
            Self::JsonRpc(Waiting::One(id)) => std::slice::from_ref(id),
            Self::JsonRpc(Waiting::Several(ids)) => ids,
            Self::JsonRpc(Waiting::Unknown | Waiting::Nobody) | Self::Problem => return fallen.last_event(),
        };
        let problem = Refused::Refusal(fallen.refusal()).problem();
        let event = |id: &Id| {
            // One line, and a line end of its own.
            let error = problem.clone().as_json_rpc(Waiting::One(id.clone())).body();
            format!("event: message\ndata: {error}\n")
        };
        ids.iter().map(event).collect()
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
        of_call(method, fields, body, false)
    }

    fn of_call(method: &str, fields: &str, body: Option<&[u8]>, is_call: bool) -> Wording {
        let bytes = format!("{method} / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        let mut spans = Spans::new();
        let head = Head::read(bytes.as_bytes(), &mut spans, &Limits::default()).expect("strict").expect("whole");
        Wording::of(&head, body, is_call)
    }

    #[test]
    fn who_reads_only_answers_to_calls_gets_the_error_of_one() {
        let of = |accept: &str, body| wording("POST", &format!("content-type: application/json\r\n{accept}"), body);
        let known = || Wording::JsonRpc(Waiting::One(Id::Text("a".to_owned())));
        for accept in [
            "accept: application/json, text/event-stream\r\n",
            "accept: text/event-stream;q=0.5 , Application/JSON\r\n",
            "accept: application/json\r\naccept: text/event-stream, */*\r\n",
        ] {
            assert_eq!(of(accept, None), Wording::JsonRpc(Waiting::Unknown), "{accept}");
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

    #[test]
    fn who_is_known_to_call_gets_the_error_of_a_call_whatever_it_accepts() {
        for accept in ["", "accept: */*\r\n", "accept: application/problem+json\r\n"] {
            let fields = format!("content-type: application/json\r\n{accept}");
            let one = Wording::JsonRpc(Waiting::One(Id::Text("a".to_owned())));
            assert_eq!(of_call("POST", &fields, Some(CALL), true), one, "{accept}");
            assert_eq!(of_call("POST", &fields, None, true), Wording::JsonRpc(Waiting::Unknown), "{accept}");
            assert_eq!(of_call("POST", accept, Some(CALL), true), Wording::Problem, "no JSON, no call");
            assert_eq!(of_call("GET", &fields, None, true), Wording::Problem);
        }
    }

    #[test]
    fn a_stream_ends_with_what_its_reader_waits_for() {
        let last = |waiting| Wording::JsonRpc(waiting).last_event(&Fallen::KeyRetired);
        let one = last(Waiting::One(Id::Integer(7)));
        let data =
            one.strip_prefix("event: message\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).expect("an event");
        let error: serde_json::Value = serde_json::from_str(data).expect("one line of JSON");
        assert_eq!((&error["id"], &error["error"]["code"]), (&7.into(), &401.into()));
        assert_eq!(error["error"]["data"]["type"], "revoked");
        let several = last(Waiting::Several(vec![Id::Integer(1), Id::Null]));
        assert_eq!(several.matches("event: message\n").count(), 2);
        for waiting in [Waiting::Nobody, Waiting::Unknown] {
            assert_eq!(last(waiting), Fallen::KeyRetired.last_event());
        }
        assert_eq!(Wording::Problem.last_event(&Fallen::KeyRetired), Fallen::KeyRetired.last_event());
    }
}
