//! A request as a backend received it: the token, and the facts that caveats are decided on.
//!
//! Everything is borrowed from the request: what is checked is what the service then acts upon. A request that no gateway sends,
//! with a path that is not in the one form or with a forwarding header twice, is refused and not repaired.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{AuthorizationUse, Believed, Verifier, VerifyError};
use crate::json_rpc::{self, Body, mirrors};
use crate::message::{Scheme, grpc_call};
use crate::path::{canonical_path, written_path, written_query};
use crate::resource::Operation;
use crate::token::Capability;

/// Which HTTP it came over: they differ in how a request without a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1: without `Content-Length` and `Transfer-Encoding` there is no body.
    Http1,
    /// HTTP/2 or later: without `Content-Length` there may be one of any length.
    Http2,
}

/// What a request is, besides its fields.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// The method.
    pub method: &'r str,
    /// Path and query as they stood in the request line, nothing decoded.
    pub target: &'r str,
    /// Which HTTP it came over.
    pub version: HttpVersion,
    /// How it reached this service.
    pub scheme: Scheme,
    /// The other end of the connection, where it is known. A Unix socket has none.
    pub peer: Option<IpAddr>,
}

impl<'r> Request<'r> {
    /// A request over HTTP/1.1 without TLS; the rest are public fields.
    pub fn new(method: &'r str, target: &'r str, peer: Option<IpAddr>) -> Self {
        Self { method, target, version: HttpVersion::Http1, scheme: Scheme::Http, peer }
    }

    /// With the connection as servers of other languages describe it: the peer's address as text, and `http` or `https`.
    pub fn with_connection(mut self, peer: Option<&str>, scheme: &str, version: HttpVersion) -> Self {
        // A Unix socket's other end has no address, and some servers call it by a name.
        self.peer = peer.and_then(|peer| peer.parse().ok());
        self.scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
        self.version = version;
        self
    }
}

/// A request's token and facts. Has no way to be printed, since it holds the token.
pub struct Received<'r> {
    operation: &'r str,
    path: Cow<'r, str>,
    query_string: Cow<'r, str>,
    host: Cow<'r, str>,
    scheme: Scheme,
    client: Option<IpAddr>,
    client_cert: Option<&'r str>,
    upgrade: Option<&'r str>,
    body_size: Option<u64>,
    grpc: Option<(&'r str, &'r str)>,
    content_type: Option<&'r [u8]>,
    has_content_coding: bool,
    mirrors: Vec<(&'r [u8], &'r [u8])>,
    prefix: Option<&'r str>,
    token: Option<&'r str>,
}

/// The fields that matter, each at most once.
#[derive(Default)]
struct Fields<'r> {
    authorization: Option<&'r [u8]>,
    capability: Option<&'r [u8]>,
    host: Option<&'r [u8]>,
    content_length: Option<&'r [u8]>,
    transfer_encoding: Option<&'r [u8]>,
    upgrade: Option<&'r [u8]>,
    forwarded_for: Option<&'r [u8]>,
    forwarded_host: Option<&'r [u8]>,
    forwarded_proto: Option<&'r [u8]>,
    forwarded_prefix: Option<&'r [u8]>,
    forwarded_cert: Option<&'r [u8]>,
    content_type: Option<&'r [u8]>,
    content_encoding: Option<&'r [u8]>,
    /// What may repeat a part of the body, as often as it came.
    mirrors: Vec<(&'r [u8], &'r [u8])>,
}

impl<'r> Fields<'r> {
    fn read(fields: impl IntoIterator<Item = (&'r [u8], &'r [u8])>) -> Result<Self, VerifyError> {
        let mut found = Self::default();
        for (name, value) in fields {
            let Some((place, twice)) = found.place(name) else {
                if mirrors::is_mirror(name) {
                    found.mirrors.push((name, value.trim_ascii()));
                }
                continue;
            };
            if place.replace(value.trim_ascii()).is_some() {
                return Err(twice.map_or(VerifyError::TwoTokens, VerifyError::Malformed));
            }
        }
        Ok(found)
    }

    /// Where a field goes, and what is wrong with it where it comes twice: `None` where that is a second token. By length first:
    /// most fields are none of these. Servers mostly hand names on in lower case.
    fn place(&mut self, name: &[u8]) -> Option<(&mut Option<&'r [u8]>, Option<&'static str>)> {
        let is = |wanted: &[u8]| name == wanted || name.eq_ignore_ascii_case(wanted);
        Some(match name.len() {
            4 if is(b"host") => (&mut self.host, Some("it has two fields Host")),
            7 if is(b"upgrade") => (&mut self.upgrade, Some("it has two fields Upgrade")),
            12 if is(b"content-type") => (&mut self.content_type, Some("it has two fields Content-Type")),
            13 if is(b"authorization") => (&mut self.authorization, None),
            14 if is(b"content-length") => (&mut self.content_length, Some("it has two fields Content-Length")),
            15 if is(b"x-forwarded-for") => (&mut self.forwarded_for, Some("it has two fields X-Forwarded-For")),
            16 if is(b"content-encoding") => (&mut self.content_encoding, Some("it has two fields Content-Encoding")),
            16 if is(b"x-forwarded-host") => (&mut self.forwarded_host, Some("it has two fields X-Forwarded-Host")),
            17 if is(b"x-forwarded-proto") => (&mut self.forwarded_proto, Some("it has two fields X-Forwarded-Proto")),
            17 if is(b"transfer-encoding") => {
                (&mut self.transfer_encoding, Some("it has two fields Transfer-Encoding"))
            }
            18 if is(b"x-forwarded-prefix") => {
                (&mut self.forwarded_prefix, Some("it has two fields X-Forwarded-Prefix"))
            }
            18 if is(b"postern-capability") => (&mut self.capability, None),
            23 if is(b"x-forwarded-client-cert") => {
                (&mut self.forwarded_cert, Some("it has two fields X-Forwarded-Client-Cert"))
            }
            _ => return None,
        })
    }
}

impl<'r> Received<'r> {
    pub(super) fn read(
        verifier: &Verifier,
        request: Request<'r>,
        fields: impl IntoIterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Result<Self, VerifyError> {
        let fields = Fields::read(fields)?;
        let (whole_path, query_string) = request.target.split_once('?').unwrap_or((request.target, ""));
        let path = below(verifier, whole_path)?;
        let token = token(verifier.authorization, &fields)?;
        if request.method == "*" || Operation::parse(request.method).is_err() {
            return Err(VerifyError::Operation);
        }
        let believed = verifier.believed.believes(request.peer);
        // Links are no decision: a gateway beside the service may say where they lead.
        let for_links =
            believed || verifier.believed == Believed::Statement && Believed::Loopback.believes(request.peer);
        let when_believed = |field: Option<&'r [u8]>| field.filter(|_| believed);
        let host = text(when_believed(fields.forwarded_host).or(fields.host).unwrap_or_default())?;
        let client = match when_believed(fields.forwarded_for) {
            Some(chain) => Some(last_hop(chain)?),
            None => request.peer,
        };
        let scheme = match when_believed(fields.forwarded_proto) {
            None => request.scheme,
            Some(b"http") => Scheme::Http,
            Some(b"https") => Scheme::Https,
            Some(_) => return Err(VerifyError::Malformed("its X-Forwarded-Proto is neither http nor https")),
        };
        Ok(Self {
            operation: request.method,
            path,
            query_string: written_query(query_string),
            host: host_of(host),
            scheme,
            client,
            client_cert: when_believed(fields.forwarded_cert).map(certificate).transpose()?,
            upgrade: fields.upgrade.map(protocol).transpose()?,
            body_size: body_size(request.version, &fields)?,
            grpc: fields.content_type.and_then(|media_type| grpc_call(request.method, media_type, whole_path)),
            content_type: fields.content_type,
            has_content_coding: fields.content_encoding.is_some(),
            mirrors: fields.mirrors,
            prefix: fields.forwarded_prefix.filter(|_| for_links).map(text).transpose()?,
            token,
        })
    }

    /// The method.
    pub fn operation(&self) -> &'r str {
        self.operation
    }

    /// The path below the resource, as caveats see it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query as a gateway forwards it, empty if there is none.
    pub fn query_string(&self) -> &str {
        &self.query_string
    }

    /// The host that the client asked for, in lower case and without a port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// How the client reached the gateway.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The client, as far as it is known.
    pub fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// Hex SHA-256 of the client's certificate, where the gateway says that it verified one.
    pub fn client_cert(&self) -> Option<&'r str> {
        self.client_cert
    }

    /// The protocol that the request would switch to.
    pub fn upgrade(&self) -> Option<&'r str> {
        self.upgrade
    }

    /// The declared length of the body.
    pub fn body_size(&self) -> Option<u64> {
        self.body_size
    }

    /// Service and method of a gRPC request.
    pub fn grpc(&self) -> Option<(&'r str, &'r str)> {
        self.grpc
    }

    /// What the body says: its calls, read as strictly as the gateway does, and compared with the headers that repeat them.
    pub(super) fn calls(&self, body: &[u8], capability: &Capability) -> Result<Body, VerifyError> {
        let refused = |what| Err(VerifyError::Body(Cow::Borrowed(what)));
        if self.has_content_coding {
            return refused("it has a content coding; send it without `Content-Encoding`");
        }
        if !self.content_type.is_some_and(mirrors::is_json) {
            return refused("it is not declared as JSON; send it as `Content-Type: application/json`");
        }
        let read = json_rpc::read(body, &capability.argument_names()).map_err(|error| unreadable(&error))?;
        mirrors::compare(&self.mirrors, &read, body).map_err(|error| unreadable(&error))?;
        Ok(read)
    }

    /// What the gateway took off the path before it forwarded the request: for links, it decides nothing.
    pub fn prefix(&self) -> Option<&'r str> {
        self.prefix
    }

    /// The token's text. Who has it, has the capability.
    pub(super) fn token(&self) -> Option<&'r str> {
        self.token
    }
}

fn unreadable(reason: &dyn Display) -> VerifyError {
    VerifyError::Body(reason.to_string().into())
}

/// The path below the resource. Whatever is not in canonical form did not come from a gateway as it stands; but for what clients
/// leave raw and a gateway writes as `%XX`, in which some servers undo it.
fn below<'r>(verifier: &Verifier, path: &'r str) -> Result<Cow<'r, str>, VerifyError> {
    let path = written_path(path);
    if !matches!(canonical_path(path.as_bytes(), verifier.slash).map_err(VerifyError::Path)?, Cow::Borrowed(_)) {
        return Err(VerifyError::NotCanonical);
    }
    let below = match path.strip_prefix(&*verifier.mount) {
        Some("") => return Ok(Cow::Borrowed("/")),
        Some(rest) if rest.starts_with('/') => path.len() - rest.len(),
        _ => return Err(VerifyError::NotBelowMount),
    };
    Ok(match path {
        Cow::Borrowed(path) => Cow::Borrowed(&path[below..]),
        Cow::Owned(path) => Cow::Owned(path[below..].to_owned()),
    })
}

/// The one token that a request carries.
fn token<'r>(authorization: AuthorizationUse, fields: &Fields<'r>) -> Result<Option<&'r str>, VerifyError> {
    let bearer = match authorization {
        AuthorizationUse::Capability => fields.authorization.map(bearer).transpose()?.flatten(),
        AuthorizationUse::Service => None,
    };
    match (fields.capability, bearer) {
        (Some(_), Some(_)) => Err(VerifyError::TwoTokens),
        (Some(value), None) => one_token(value).map(Some),
        (None, bearer) => Ok(bearer),
    }
}

/// The token of `Bearer <token>`; `None` for another scheme.
fn bearer(value: &[u8]) -> Result<Option<&str>, VerifyError> {
    let Some((scheme, rest)) = value.split_at_checked(6) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(None);
    }
    match rest {
        [] => Err(VerifyError::UnreadableCarrier(
            "`Authorization: Bearer` carries no token: write the token after one space",
        )),
        [b' ', ..] => {
            let start = rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len());
            one_token(&rest[start..]).map(Some)
        }
        // Another scheme that begins like ours.
        _ => Ok(None),
    }
}

fn one_token(value: &[u8]) -> Result<&str, VerifyError> {
    // All bytes are looked at, without a way out in between: then many are looked at at once.
    let is_one = value.iter().fold(true, |is_one, byte| is_one & byte.is_ascii_graphic() & (*byte != b','));
    match std::str::from_utf8(value) {
        Ok("") => Err(VerifyError::UnreadableCarrier("the field carries no token")),
        Ok(text) if is_one => Ok(text),
        _ => Err(VerifyError::UnreadableCarrier(
            "the field carries more than one token, or bytes that no token has: write exactly one token",
        )),
    }
}

fn text(value: &[u8]) -> Result<&str, VerifyError> {
    match std::str::from_utf8(value) {
        Ok(text) if text.is_ascii() => Ok(text),
        _ => Err(VerifyError::Malformed("its host or a forwarding header holds bytes that no host or path has")),
    }
}

/// The host of an authority, in lower case, without its port, and without the dot with which a name may end.
fn host_of(authority: &str) -> Cow<'_, str> {
    let host = match authority.rsplit_once(':') {
        Some((host, _)) if !authority.ends_with(']') => host,
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

/// The last address of a chain is the client that the gateway decided on.
fn last_hop(chain: &[u8]) -> Result<IpAddr, VerifyError> {
    let hop = chain.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    let hop = std::str::from_utf8(hop).unwrap_or_default();
    if hop == "unknown" {
        // As the gateway has it: an address of no network but that of all.
        return Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    }
    let address = hop.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.ok_or(VerifyError::Malformed("the last entry of its X-Forwarded-For is no address"))
}

/// `Hash=<64 hexadecimal digits>`, the form in which proxies speak of a certificate.
fn certificate(value: &[u8]) -> Result<&str, VerifyError> {
    let value = text(value)?;
    let digits = value.strip_prefix("Hash=").unwrap_or(value);
    match digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        true => Ok(digits),
        false => Err(VerifyError::Malformed("its X-Forwarded-Client-Cert is no hash of a certificate")),
    }
}

fn protocol(value: &[u8]) -> Result<&str, VerifyError> {
    match value.eq_ignore_ascii_case(b"websocket") {
        true => Ok("websocket"),
        false => text(value),
    }
}

fn body_size(version: HttpVersion, fields: &Fields<'_>) -> Result<Option<u64>, VerifyError> {
    match (fields.content_length, fields.transfer_encoding, version) {
        (Some(_), Some(_), _) => Err(VerifyError::Malformed("it has a Content-Length and a Transfer-Encoding")),
        (Some(digits), None, _) => {
            let length = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let length = length.and_then(|text| text.parse().ok());
            length.map(Some).ok_or(VerifyError::Malformed("its Content-Length is no number"))
        }
        (None, None, HttpVersion::Http1) => Ok(Some(0)),
        (None, ..) => Ok(None),
    }
}
