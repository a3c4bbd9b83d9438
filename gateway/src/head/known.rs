//! What the gateway knows about a field by its name.
//!
//! A field is classified once, when it is read, and everybody after that decides by [`Known`] instead of comparing names
//! again: a second list of spellings is where a header slips through. Since CGI and its heirs fold `-`, `_` and other
//! punctuation into one, names are compared with all of it taken for `-`; what is known but spelled so is an
//! [`Known::Imitation`] and never means anything.

use super::field::any_byte;

/// What the gateway knows about a field by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Known {
    /// Nothing: end-to-end, passed on as it is.
    Other,
    /// One of the names below spelled with other punctuation than `-`: never read, never passed on.
    Imitation,
    /// Nothing, but spelled with other punctuation than `-`: some backends read it as another name.
    Punctuated,
    /// Named by `Connection`, so it ends here.
    Nominated,
    /// `Host`.
    Host,
    /// `Connection`.
    Connection,
    /// `Content-Length`.
    ContentLength,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `TE`.
    Te,
    /// `Trailer`.
    Trailer,
    /// `Upgrade`, and `HTTP2-Settings`.
    Upgrade,
    /// `Expect`.
    Expect,
    /// `Keep-Alive`.
    KeepAlive,
    /// `Proxy`, `Proxy-*`.
    Proxy,
    /// `Authorization`.
    Authorization,
    /// `Postern-Capability`.
    PosternCapability,
    /// Any other `Postern-*`.
    Postern,
    /// `Forwarded`.
    Forwarded,
    /// `X-Forwarded-*`: what earlier hops say, which is written anew.
    XForwarded,
    /// What only a server in front of the service may state: who the client is, by address, name or certificate, and how
    /// it came.
    Claim,
    /// `Via`.
    Via,
    /// `traceparent`.
    Traceparent,
    /// `tracestate`.
    Tracestate,
    /// `Sec-WebSocket-Protocol`.
    SecWebSocketProtocol,
    /// `X-HTTP-Method*`, `X-Method-Override`: would change the operation behind the check.
    MethodOverride,
    /// `X-Original-*`, `Script-Name`, WebDAV's `Destination`: would bring in a path that nobody checked.
    TargetOverride,
    /// `Content-Type`.
    ContentType,
    /// `Content-Encoding`.
    ContentEncoding,
    /// `Origin`.
    Origin,
    /// `Prefer`.
    Prefer,
    /// `Accept`.
    Accept,
    /// `Date`.
    Date,
    /// `Server`.
    Server,
    /// `WWW-Authenticate`.
    WwwAuthenticate,
    /// `Authentication-Info`.
    AuthenticationInfo,
}

impl Known {
    /// Fields that concern one connection and are never passed on (RFC 9110 section 7.6.1), the imitations included.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Imitation
                | Self::Nominated
                | Self::Connection
                | Self::TransferEncoding
                | Self::Te
                | Self::Trailer
                | Self::Upgrade
                | Self::KeepAlive
                | Self::Proxy
        )
    }

    /// What `Connection` may never name: framing, routing, the capability, and what the gateway itself sets or removes.
    pub(super) fn is_protected(self) -> bool {
        matches!(
            self,
            Self::Imitation
                | Self::Host
                | Self::Connection
                | Self::ContentLength
                | Self::TransferEncoding
                | Self::Authorization
                | Self::PosternCapability
                | Self::Postern
                | Self::Forwarded
                | Self::XForwarded
                | Self::Claim
                | Self::Via
                | Self::Traceparent
                | Self::SecWebSocketProtocol
        )
    }

    pub(super) fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

/// Token characters in their compared form (lower case, punctuation as `-`); 0 for bytes that no token has. CGI and some
/// of its heirs turn every character that is no letter and no digit into `_`, so `X.Original.URL` is `X-Original-URL` to
/// them.
pub(crate) static NORMAL: [u8; 256] = {
    let mut table = [0u8; 256];
    let tokens = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
    let mut i = 0;
    while i < tokens.len() {
        let normal = if tokens[i].is_ascii_alphanumeric() { tokens[i] } else { b'-' };
        table[tokens[i] as usize] = normal;
        table[tokens[i].to_ascii_uppercase() as usize] = normal;
        i += 1;
    }
    table
};

/// Whether `byte` is one of RFC 9110's `tchar`.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    NORMAL[usize::from(byte)] != 0
}

/// Whether `name` is `lower` (lower case, with `-`) in any spelling.
fn is(name: &[u8], lower: &str) -> bool {
    name.len() == lower.len() && begins(name, lower)
}

fn begins(name: &[u8], lower: &str) -> bool {
    name.len() >= lower.len()
        && name.iter().zip(lower.as_bytes()).all(|(byte, want)| NORMAL[usize::from(*byte)] == *want)
}

/// What the gateway knows about `name`, in any spelling.
pub fn classify(name: &[u8]) -> Known {
    let known = by_normal_name(name);
    match (known, any_byte(name, |byte| !byte.is_ascii_alphanumeric() & (byte != b'-'))) {
        (known, false) => known,
        (Known::Other, true) => Known::Punctuated,
        (_, true) => Known::Imitation,
    }
}

/// Names by which a backend learns from the server in front of it who the client is and how it came, by their first
/// letters; one that ends in `-` stands for all that begin so. Some backends believe them from whoever connects, and all of
/// them once the gateway is that: so nobody behind it sees one, unless its resource allows it by name.
static CLAIMS: [(u8, &[&str]); 11] = [
    (b'a', &["akamai-client-ip"]),
    (
        b'c',
        &[
            "client-ip",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "cf-connecting-o2o",
            "cf-pseudo-ipv4",
            // What a TLS terminator says of the client's certificate (RFC 9440): the gateway is one, and says it by a fact.
            "client-cert",
            "client-cert-chain",
            "cf-access-authenticated-user-email",
        ],
    ),
    (b'f', &["fastly-client-ip", "fly-client-ip", "forwarded-for", "front-end-https"]),
    // Begun as CGI begins its variables: whoever does not prefix such a name again reads it as that other field.
    (b'h', &["http-"]),
    // What access managers in front write: WebSEAL, mod_auth_openidc, Shibboleth, SiteMinder.
    (b'i', &["iv-user", "iv-user-l", "iv-groups", "iv-creds"]),
    (b'o', &["oidc-claim-"]),
    // CGI's own, and what proxies that sign people in (Authelia, for one) make of it.
    (b'r', &["remote-user", "remote-name", "remote-email", "remote-groups", "remote-addr", "remote-host"]),
    // Ingress controllers' and Apache's names for the client's certificate.
    (b's', &["ssl-client-", "shib-", "sm-user"]),
    (b't', &["true-client-ip", "tailscale-user-"]),
    // WebLogic believes an address, a certificate and the scheme by these.
    (b'w', &["wl-proxy-"]),
    (
        b'x',
        &[
            // Addresses.
            "x-real-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "x-forward-for",
            "x-proxyuser-ip",
            "x-originating-ip",
            "x-azure-clientip",
            "x-azure-socketip",
            "x-envoy-external-address",
            "x-envoy-internal",
            "x-sucuri-clientip",
            "x-nf-client-connection-ip",
            "x-appengine-",
            // Names: of Kubernetes' and other authenticating proxies, and of the clouds'. `X-Remote-*` are addresses, too.
            "x-remote-",
            "x-auth-request-",
            "x-webauth-",
            "x-authenticated-",
            "x-authentik-",
            "x-consumer-",
            "x-credential-",
            "x-anonymous-consumer",
            "x-vouch-",
            "x-pomerium-claim-",
            "x-ms-token-",
            "x-amzn-oidc-",
            "x-ms-client-principal",
            "x-ms-client-principal-",
            "x-goog-authenticated-user-",
            // Certificates.
            "x-ssl-",
            "x-client-cert",
            "x-client-cert-",
            "x-client-certificate",
            "x-client-certificate-",
            "x-tls-client-",
            "x-client-verify",
            "x-client-dn",
            "x-arr-clientcert",
            "x-arr-ssl",
            // How it came, and that it was looked at already.
            "x-host",
            "x-scheme",
            "x-url-scheme",
            "x-middleware-subrequest",
        ],
    ),
];

/// Names that make some backend act on another path or host than the one that was checked, in the same form.
static TARGETS: [(u8, &[&str]); 4] = [
    (b'd', &["destination"]),
    (b'p', &["path-info", "path-translated"]),
    // WSGI servers take the first from whoever connects over loopback, and cut it off the path that was checked.
    (b's', &["script-name"]),
    (
        b'x',
        &[
            "x-original-",
            "x-rewrite-",
            "x-override-url",
            "x-envoy-original-",
            "x-replaced-path",
            "x-script-name",
            "x-path-info",
            "x-ingress-path",
            "x-waws-unencoded-url",
            "x-http-host-override",
            // Which file is sent in place of an answer.
            "x-sendfile-type",
            "x-accel-mapping",
        ],
    ),
];

/// Whether `name`, in any spelling, is what `listed` names: lower case, with `-`; with `*` at its end all that begin so.
pub(crate) fn is_named_by(listed: &str, name: &[u8]) -> bool {
    listed.strip_suffix('*').map_or_else(|| is(name, listed), |beginning| begins(name, beginning))
}

fn is_listed(table: &[(u8, &[&str])], name: &[u8], first: u8) -> bool {
    let fits = |listed: &&str| if listed.ends_with('-') { begins(name, listed) } else { is(name, listed) };
    table.iter().find(|(initial, _)| *initial == first).is_some_and(|(_, listed)| listed.iter().any(fits))
}

/// Names that mean something in a head alone, in the same form (RFC 9110 section 6.5.1): controls and conditions of a
/// request, credentials, control data of a response, and what describes the content. In trailers they come after the
/// decision that they would have changed, and a service that merges trailers into the head would act on them all the same.
static HEADS_ALONE: [(u8, &[&str]); 11] = [
    (b'a', &["accept-", "access-control-", "age", "allow", "alt-svc"]),
    (
        b'c',
        &[
            "cache-control",
            "clear-site-data",
            "content-disposition",
            "content-language",
            "content-location",
            "content-range",
            "content-security-policy",
            "cookie",
            "cookie2",
        ],
    ),
    (b'e', &["expires"]),
    (b'i', &["if-"]),
    (b'l', &["location"]),
    (b'm', &["max-forwards"]),
    (b'p', &["pragma"]),
    (b'r', &["range", "refresh", "retry-after"]),
    (b's', &["set-cookie", "set-cookie2", "strict-transport-security", "sec-"]),
    (b'v', &["vary"]),
    (b'w', &["warning", "www-authenticate"]),
];

/// Whether a field of this kind and name may stand in trailers.
pub(crate) fn may_trail(known: Known, name: &[u8]) -> bool {
    match (known, name.first()) {
        (Known::Other | Known::Punctuated | Known::Server | Known::AuthenticationInfo, Some(first)) => {
            !is_listed(&HEADS_ALONE, name, NORMAL[usize::from(*first)])
        }
        _ => false,
    }
}

pub(super) fn by_normal_name(name: &[u8]) -> Known {
    let Some(first) = name.first() else { return Known::Other };
    match NORMAL[usize::from(*first)] {
        b'a' if is(name, "authorization") => Known::Authorization,
        b'a' if is(name, "accept") => Known::Accept,
        b'a' if is(name, "authentication-info") => Known::AuthenticationInfo,
        b'c' if is(name, "connection") => Known::Connection,
        b'c' if is(name, "content-type") => Known::ContentType,
        b'c' if is(name, "content-length") => Known::ContentLength,
        b'c' if is(name, "content-encoding") => Known::ContentEncoding,
        b'd' if is(name, "date") => Known::Date,
        b'e' if is(name, "expect") => Known::Expect,
        b'f' if is(name, "forwarded") => Known::Forwarded,
        b'h' if is(name, "host") => Known::Host,
        b'h' if is(name, "http2-settings") => Known::Upgrade,
        b'k' if is(name, "keep-alive") => Known::KeepAlive,
        b'o' if is(name, "origin") => Known::Origin,
        b'p' if is(name, "postern-capability") => Known::PosternCapability,
        b'p' if begins(name, "postern-") || is(name, "postern") => Known::Postern,
        b'p' if begins(name, "proxy-") || is(name, "proxy") => Known::Proxy,
        b'p' if is(name, "prefer") => Known::Prefer,
        b's' if is(name, "sec-websocket-protocol") => Known::SecWebSocketProtocol,
        b's' if is(name, "server") => Known::Server,
        b't' if is(name, "te") => Known::Te,
        b't' if is(name, "trailer") => Known::Trailer,
        b't' if is(name, "transfer-encoding") => Known::TransferEncoding,
        b't' if is(name, "traceparent") => Known::Traceparent,
        b't' if is(name, "tracestate") => Known::Tracestate,
        b'u' if is(name, "upgrade") => Known::Upgrade,
        b'v' if is(name, "via") => Known::Via,
        b'w' if is(name, "www-authenticate") => Known::WwwAuthenticate,
        b'x' if begins(name, "x-forwarded-") || is(name, "x-forwarded") => Known::XForwarded,
        b'x' if begins(name, "x-http-method") || is(name, "x-http-verb") || is(name, "x-method-override") => {
            Known::MethodOverride
        }
        first if is_listed(&TARGETS, name, first) => Known::TargetOverride,
        first if is_listed(&CLAIMS, name, first) => Known::Claim,
        _ => Known::Other,
    }
}
