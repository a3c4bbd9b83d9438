//! Heads of answers for HTTP/2 clients: the upstream's, a refusal's, and the gateway's own.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue, VIA};
use http::{HeaderMap, Response, StatusCode};

use crate::head::{Field, ResponseHead};
use crate::request::error::Refused;
use crate::request::forward::hygiene::passes_down;
use crate::request::own;
use crate::request::respond::{problem_body, problem_fields};

/// How the caller reads refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// As problems with an HTTP status.
    Http,
    /// The same, without a body.
    HttpHead,
    /// As a gRPC status in a response with nothing but a head.
    Grpc,
}

/// The upstream's head with the fields that may pass. Framing is HTTP/2's own; a declared length stays as information.
pub(super) fn from_upstream(head: &ResponseHead<'_>) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    copy(headers, head.fields());
    headers.append(VIA, HeaderValue::from_static("1.1 postern"));
    if head.is_informational() {
        return response;
    }
    if let Some(length) = head.declared_length() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    // RFC 9110 section 6.6.1: who passes on an answer without a date says when it came.
    if !headers.contains_key(DATE)
        && let Ok(now) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now()))
    {
        headers.insert(DATE, now);
    }
    response
}

/// Fields that may pass to a client: of a head, or of trailers.
pub(super) fn copy<'f>(headers: &mut HeaderMap, fields: impl Iterator<Item = Field<'f>>) {
    for field in fields.filter(passes_down) {
        // The strict reader let nothing through that these two refuse; what they refuse all the same is not passed on.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value)) {
            headers.append(name, value);
        }
    }
}

/// A refusal in the form that the caller reads.
pub(super) fn refusal(refused: &Refused, caller: Caller) -> Response<Bytes> {
    let problem = refused.problem();
    if caller == Caller::Grpc {
        return grpc(problem.status, &problem.detail);
    }
    let body = Bytes::from(problem_body(&problem));
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(if caller == Caller::HttpHead { Bytes::new() } else { body });
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in problem_fields(&problem) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// One of the gateway's own documents.
pub(super) fn own(answer: own::Answer, caller: Caller) -> Response<Bytes> {
    let length = HeaderValue::from(answer.body.len());
    let mut response = Response::new(if caller == Caller::HttpHead { Bytes::new() } else { answer.body.into() });
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// A gRPC response that is all head ("Trailers-Only" in the gRPC protocol): its clients read no problem documents.
fn grpc(status: u16, detail: &str) -> Response<Bytes> {
    // The gRPC protocol's own codes; 401, 403 and 404 are what the design promises, the others its nearest relatives.
    let code = match status {
        401 => "16",
        403 => "7",
        404 => "5",
        400 | 411 | 414 | 421 => "3",
        413 | 431 => "8",
        408 | 504 => "4",
        502 | 503 => "14",
        405 => "12",
        _ => "2",
    };
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(code));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(detail)) {
        headers.insert("grpc-message", message);
    }
    response
}

/// `grpc-message` is percent-encoded UTF-8: visible ASCII but `%` stays.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_speaks_the_callers_language() {
        let http = refusal(&Refused::MissingCapability, Caller::Http);
        assert_eq!(http.status(), 401);
        assert_eq!(http.headers()["www-authenticate"], "Bearer");
        assert_eq!(http.headers()[CONTENT_TYPE], "application/problem+json");
        let head = refusal(&Refused::NotFound, Caller::HttpHead);
        assert_eq!(head.status(), 404);
        assert!(head.body().is_empty());
        assert_ne!(head.headers()[CONTENT_LENGTH], "0");
        for (refused, code) in [(Refused::MissingCapability, "16"), (Refused::NotFound, "5")] {
            let grpc = refusal(&refused, Caller::Grpc);
            assert_eq!(grpc.status(), 200);
            assert_eq!(grpc.headers()["grpc-status"], code);
        }
    }

    #[test]
    fn a_message_for_grpc_is_one_line_of_ascii() {
        assert_eq!(percent_encoded("50 % é\r\n"), "50 %25 %C3%A9%0D%0A");
    }
}
