//! Heads of answers for HTTP/2 clients: the upstream's, a refusal's, and the gateway's own.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue, VARY, VIA};
use http::{HeaderMap, Response, StatusCode};
use postern_capabilities::problem::Problem;

use crate::head::{Field, ResponseHead};
use crate::request::forward::hygiene::{passes_down, passing_value, trails_down};
use crate::request::keeping::VARIES_BY;
use crate::request::respond::{problem_fields, via};
use crate::request::rpc::Rpc;
use crate::request::{grpc, own};
use crate::wall_clock::http_date;

/// How the caller reads refusals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// As problems with an HTTP status.
    Http,
    /// The same, without a body.
    HttpHead,
    /// As a gRPC status in a response with nothing but a head.
    Grpc,
    /// In another protocol of calls.
    Rpc(Box<Rpc>),
}

/// The upstream's head with the fields that may pass. Framing is HTTP/2's own; a declared length stays as information.
pub(super) fn from_upstream(head: &ResponseHead<'_>) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    copy(headers, head.fields().filter(passes_down));
    headers.append(VIA, HeaderValue::from_static(via(head)));
    if head.is_informational() {
        return response;
    }
    if let Some(length) = head.declared_length() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    // RFC 9110 section 6.6.1: who passes on an answer without a date says when it came.
    if !headers.contains_key(DATE)
        && let Ok(now) = HeaderValue::from_str(&http_date(SystemTime::now()))
    {
        headers.insert(DATE, now);
    }
    response
}

/// Trailers that may pass to a client.
pub(super) fn trailers<'f>(fields: impl Iterator<Item = Field<'f>>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    copy(&mut trailers, fields.filter(trails_down));
    trailers
}

fn copy<'f>(headers: &mut HeaderMap, fields: impl Iterator<Item = Field<'f>>) {
    for field in fields {
        // The strict reader let nothing through that these two refuse; what they refuse all the same is not passed on.
        let Some(value) = passing_value(&field) else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(&value)) {
            headers.append(name, value);
        }
    }
}

/// A refusal in the form that the caller reads.
pub(super) fn refusal(problem: &Problem, caller: &Caller) -> Response<Bytes> {
    if *caller == Caller::Grpc {
        // All head ("Trailers-Only" in the gRPC protocol): its clients read no problem documents.
        let mut response = Response::new(Bytes::new());
        *response.headers_mut() = grpc_status(problem);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response.headers_mut().insert(VARY, HeaderValue::from_static(VARIES_BY));
        return response;
    }
    let (status, fields, body) = match caller {
        Caller::Rpc(rpc) => {
            let answer = rpc.answer(problem);
            (answer.status, answer.fields, Bytes::from(answer.body))
        }
        _ => (problem.http_status(), problem_fields(problem), Bytes::from(problem.body())),
    };
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(if *caller == Caller::HttpHead { Bytes::new() } else { body });
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response.headers_mut().insert(VARY, HeaderValue::from_static(VARIES_BY));
    response
}

/// One of the gateway's own documents.
pub(super) fn own(answer: own::Answer, caller: &Caller) -> Response<Bytes> {
    let (status, fields, length) = (answer.status, answer.fields(), answer.length());
    let mut response = Response::new(if *caller == Caller::HttpHead { Bytes::new() } else { answer.body.into() });
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// How a gRPC call ended: all of its answer, or the trailers of one that does not go on.
pub(super) fn grpc_status(problem: &Problem) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(3);
    fields.insert("grpc-status", HeaderValue::from_static(grpc::status(problem)));
    // A status is one of seventeen; the stable kind says which of many reasons.
    let message = grpc::message(&format!("{}: {}", problem.kind, problem.detail));
    if let Ok(message) = HeaderValue::from_str(&message) {
        fields.insert("grpc-message", message);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::error::Refused;

    #[test]
    fn a_refusal_speaks_the_callers_language() {
        let http = refusal(&Refused::MissingCapability.problem(), &Caller::Http);
        assert_eq!(http.status(), 401);
        assert_eq!(http.headers()["www-authenticate"], "Bearer realm=\"postern\"");
        assert_eq!(http.headers()[CONTENT_TYPE], "application/problem+json");
        let head = refusal(&Refused::NotFound.problem(), &Caller::HttpHead);
        assert_eq!(head.status(), 404);
        assert!(head.body().is_empty());
        assert_ne!(head.headers()[CONTENT_LENGTH], "0");
        for (refused, code) in [
            (Refused::MissingCapability, "16"),
            (Refused::NotFound, "5"),
            (Refused::UpstreamTimeout, "14"),
            (Refused::DeadlineExceeded, "4"),
        ] {
            let grpc = refusal(&refused.problem(), &Caller::Grpc);
            assert_eq!(grpc.status(), 200);
            assert_eq!(grpc.headers()["grpc-status"], code);
            let message = grpc.headers()["grpc-message"].to_str().expect("text");
            assert!(message.starts_with(refused.problem().kind), "{message}");
        }
    }
}
