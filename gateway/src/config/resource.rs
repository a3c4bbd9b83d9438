//! One `[resource.<name>]` table, and what two of them must not have in common.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_capabilities::path::{EncodedSlash, canonical_path};
use postern_capabilities::resource::ResourceName;

use super::cors::{self, Cors};
use super::errors::Mistakes;
use super::headers::{allow_headers, strip_headers};
use super::health::{self, HealthCheck};
use super::limits;
use super::raw::{Entry, Section};
use super::upstream::{self, Upstream, UpstreamScheme, UpstreamTls};
use super::values;

/// The gateway's own paths on the data listener; no resource may be mounted on or below them.
const OWN_PATHS: [&str; 2] = ["/.well-known/postern", "/.well-known/biscuit-web-keys"];

/// What the service behind a resource gets in place of the caller's token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardToken {
    /// Nothing: the token ends at the gateway.
    #[default]
    None,
    /// The token, narrowed to this one message and to this one service, for services that verify for themselves.
    Narrowed,
    /// The token as presented, for services that are holders themselves.
    Original,
}

/// Whom the `Authorization` field belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthorizationUse {
    /// It carries the capability, and does not reach the service.
    #[default]
    Capability,
    /// The service uses it; the capability comes in `Postern-Capability`.
    Pass,
}

/// One resource, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// What `right(resource, operation)` designates.
    pub name: ResourceName,
    /// Where it is forwarded to; several are balanced. Never empty.
    pub upstream: Vec<Upstream>,
    /// TLS to it.
    pub upstream_tls: UpstreamTls,
    /// Where it is mounted: canonical, begins with `/`, ends without one unless it is `/` alone.
    pub prefix: String,
    /// Whether the prefix stays in the forwarded path.
    pub keep_prefix: bool,
    /// Only messages for this host (lower case, no port; a literal IPv6 address in brackets).
    pub host: Option<String>,
    /// What the service gets in place of the token.
    pub forward_token: ForwardToken,
    /// Whom `Authorization` belongs to.
    pub authorization: AuthorizationUse,
    /// Whether `%2F` is an ordinary character of a segment.
    pub encoded_slash: EncodedSlash,
    /// What `Host` says to the service; the message's own where this is `None`.
    pub upstream_host: Option<String>,
    /// File of the token that a message without one is treated as presenting.
    pub anonymous: Option<PathBuf>,
    /// Bytes of a request body; `None`: as `[limits]` says.
    pub max_body: Option<u64>,
    /// Bytes a second that a request's body comes with at least, `Some(None)`: any rate; `None`: as `[limits]` says.
    pub body_rate_min: Option<Option<u64>>,
    /// From the last request byte sent to the service's response head; `None`: as `[limits]` says.
    pub response_timeout: Option<Duration>,
    /// Health checks of its addresses.
    pub health: Option<HealthCheck>,
    /// Whose pages may speak to it from within a browser; `None`: nobody's.
    pub cors: Option<Cors>,
    /// Fields that are otherwise removed, lower case.
    pub allow_headers: Vec<String>,
    /// Fields that are removed as well, lower case with `-`; one that ends in `*` stands for all that begin so.
    pub strip_headers: Vec<String>,
    /// Whether shared caches may keep what a token got where the service says `public` or `s-maxage`.
    pub shared_cache: bool,
    /// Whether tools that a capability cannot call are taken out of the lists that a Model Context Protocol server answers with.
    pub filter_tools: bool,
    /// Whether its callers are clients of the Model Context Protocol, whatever their messages look like.
    pub mcp: bool,
    /// Protocols that a message may switch to, lower case.
    pub upgrades: Vec<String>,
    /// Whether it may lie below another resource with the same upstream.
    pub nested: bool,
}

impl Resource {
    /// A resource with nothing special about it: mounted at `/<name>`.
    pub fn plain(name: ResourceName, upstream: Upstream) -> Self {
        Self {
            prefix: format!("/{name}"),
            name,
            upstream: vec![upstream],
            upstream_tls: UpstreamTls::default(),
            keep_prefix: false,
            host: None,
            forward_token: ForwardToken::None,
            authorization: AuthorizationUse::Capability,
            encoded_slash: EncodedSlash::Refuse,
            upstream_host: None,
            anonymous: None,
            max_body: None,
            body_rate_min: None,
            response_timeout: None,
            health: None,
            cors: None,
            allow_headers: Vec::new(),
            strip_headers: Vec::new(),
            shared_cache: false,
            filter_tools: false,
            mcp: false,
            upgrades: vec!["websocket".into()],
            nested: false,
        }
    }
}

#[cfg(test)]
impl Resource {
    /// A resource at plain HTTP addresses, or at whole URLs.
    pub(crate) fn for_tests(upstreams: &[&str]) -> Self {
        let parse = |text: &&str| {
            let url = if text.contains("://") || text.starts_with("unix:") {
                (*text).to_owned()
            } else {
                format!("http://{text}")
            };
            Upstream::parse(&url).expect("a test's upstream is valid")
        };
        let name = ResourceName::parse("orders").expect("valid");
        let mut resource = Self::plain(name, parse(&upstreams[0]));
        resource.upstream = upstreams.iter().map(parse).collect();
        resource
    }
}

/// Reads every `[resource.<name>]`, and compares them.
pub(super) fn read_all(
    section: &Section<'_>,
    dir: &Path,
    listen: &[SocketAddr],
    mistakes: &mut Mistakes<'_>,
) -> Vec<Resource> {
    let mut resources = Vec::new();
    let mut places = Vec::new();
    for (name, span, entry) in section.entries() {
        let parsed = ResourceName::parse(&name);
        match &parsed {
            Err(error) => mistakes.at(span.start, &entry.key, format!("{error}.")),
            Ok(name) if name.is_reserved() => mistakes.at(
                span.start,
                &entry.key,
                format!("the name {name:?} is the gateway's own; choose another.", name = name.as_str()),
            ),
            Ok(_) => {}
        }
        let Some(table) = entry.section(mistakes) else { continue };
        // A table under a wrong name is read as well, so that its own mistakes show at once.
        let resource = read(table, parsed.clone().ok(), dir, listen, mistakes);
        if let Some(resource) = resource {
            places.push((span, entry.key));
            resources.push(resource);
        }
    }
    compare(&resources, &places, mistakes);
    resources
}

/// Reads one table. `None` if it has no usable name or upstream; every mistake is reported all the same.
fn read(
    mut t: Section<'_>,
    name: Option<ResourceName>,
    dir: &Path,
    listen: &[SocketAddr],
    mistakes: &mut Mistakes<'_>,
) -> Option<Resource> {
    refuse_unavailable(&mut t, mistakes);
    let upstream = upstreams(&mut t, listen, mistakes);
    let upstream_tls = upstream_tls(&mut t, upstream.as_deref(), dir, mistakes);
    let prefix = t.value("prefix").and_then(|entry| prefix(&entry, mistakes));
    let keep_prefix = truth(&mut t, "keep_prefix", mistakes);
    let shared_cache = truth(&mut t, "shared_cache", mistakes);
    let filter_tools = truth(&mut t, "filter_tools", mistakes);
    // Only such clients ask for lists of tools.
    let mcp = truth(&mut t, "mcp", mistakes) || filter_tools;
    let nested = truth(&mut t, "nested", mistakes);
    let host = t.value("host").and_then(|e| checked(&e, "\"api.example.com\"", mistakes, values::host));
    let forward_token = match choice(&mut t, "forward_token", &["none", "original", "narrowed"], mistakes) {
        Some((_, "original")) => ForwardToken::Original,
        Some((_, "narrowed")) => ForwardToken::Narrowed,
        _ => ForwardToken::None,
    };
    let authorization = match choice(&mut t, "authorization", &["capability", "pass"], mistakes) {
        Some((_, "pass")) => AuthorizationUse::Pass,
        _ => AuthorizationUse::Capability,
    };
    let encoded_slash = match choice(&mut t, "encoded_slash", &["refuse", "pass"], mistakes) {
        Some((_, "pass")) => EncodedSlash::Pass,
        _ => EncodedSlash::Refuse,
    };
    let upstream_host = t.value("upstream_host").and_then(|e| checked(&e, "\"internal.example\"", mistakes, authority));
    let anonymous = t.value("anonymous").and_then(|e| super::file(&e, "\"anonymous.token\"", dir, mistakes));
    let max_body = t.value("max_body").and_then(|e| limits::bytes(&e, mistakes));
    let body_rate_min = t.value("body_rate_min").and_then(|e| limits::rate_or_never(&e, mistakes));
    let response_timeout = t.value("response_timeout").and_then(|e| limits::time(&e, mistakes));
    let cors = t.section("cors", mistakes).and_then(|section| cors::read(section, mistakes));
    let health = t.section("health", mistakes).and_then(|section| health::read(section, mistakes));
    let allow_headers = allow_headers(&mut t, mistakes);
    let strip_headers = strip_headers(&mut t, &allow_headers, mistakes);
    let upgrades = upgrades(&mut t, mistakes);
    t.finish(mistakes);
    let name = name?;
    Some(Resource {
        prefix: prefix.unwrap_or_else(|| format!("/{name}")),
        name,
        upstream: upstream?,
        upstream_tls: upstream_tls.unwrap_or_default(),
        keep_prefix,
        host,
        forward_token,
        authorization,
        encoded_slash,
        upstream_host,
        anonymous,
        max_body,
        body_rate_min,
        response_timeout,
        health,
        cors,
        allow_headers,
        strip_headers,
        shared_cache,
        filter_tools,
        mcp,
        upgrades,
        nested,
    })
}

/// Keys of the contract that this version does not serve: refused by name, never skipped.
fn refuse_unavailable(t: &mut Section<'_>, mistakes: &mut Mistakes<'_>) {
    if let Some(entry) = t.value("topic")
        && entry.truth(mistakes) != Some(false)
    {
        entry.mistake(mistakes, "topics are not available in this version; name an `upstream` instead.");
    }
}

fn upstreams(t: &mut Section<'_>, listen: &[SocketAddr], mistakes: &mut Mistakes<'_>) -> Option<Vec<Upstream>> {
    const EXAMPLE: &str = "\"http://127.0.0.1:3000\"";
    let Some(entry) = t.value("upstream") else {
        let key = t.name("upstream");
        mistakes.missing(&key, format!("the resource leads nowhere; write upstream = [{EXAMPLE}]."));
        return None;
    };
    let mut upstreams: Vec<Upstream> = Vec::new();
    let members = entry.members(mistakes, EXAMPLE)?;
    let is_empty = members.is_empty();
    for member in members {
        let Some(upstream) = checked(&member, EXAMPLE, mistakes, Upstream::parse) else { continue };
        if upstreams.contains(&upstream) {
            member.mistake(mistakes, format!("{upstream} stands here twice; write it once."));
        }
        if let Some(own) = listen.iter().find(|own| upstream.leads_to(**own)) {
            let sentence = format!(
                "this is the gateway itself, which listens on {own}; write the address of the service behind it."
            );
            member.mistake(mistakes, sentence);
        }
        upstreams.push(upstream);
    }
    if is_empty {
        entry.mistake(mistakes, format!("the list is empty; write at least one address, [{EXAMPLE}]."));
    }
    (!upstreams.is_empty()).then_some(upstreams)
}

/// TLS to the upstreams, where any of them is `https://`.
fn upstream_tls(
    t: &mut Section<'_>,
    upstreams: Option<&[Upstream]>,
    dir: &Path,
    mistakes: &mut Mistakes<'_>,
) -> Option<UpstreamTls> {
    let entry = t.value("upstream_tls")?;
    let tls = upstream::tls(entry.section(mistakes)?, dir, mistakes);
    if upstreams.is_some_and(|all| all.iter().all(|upstream| upstream.scheme != UpstreamScheme::Https)) {
        entry.mistake(
            mistakes,
            "no upstream of the resource is spoken to over TLS; write \"https://…\" there, or remove this table.",
        );
    }
    tls
}

/// A mount point: a canonical path without a slash at its end.
fn prefix(entry: &Entry<'_>, mistakes: &mut Mistakes<'_>) -> Option<String> {
    let text = entry.text(mistakes, "\"/orders\"")?;
    let sentence = match canonical_path(text.as_bytes(), EncodedSlash::Refuse) {
        Err(error) => format!("{text:?} is no prefix: {error}. Write one like \"/orders\"."),
        Ok(canonical) if canonical != text => format!("{text:?} is not in canonical form; write {canonical:?}."),
        Ok(_) if text.len() > 1 && text.ends_with('/') => {
            format!("a prefix ends without a slash; write {:?}.", text.trim_end_matches('/'))
        }
        Ok(_) if OWN_PATHS.iter().any(|own| is_below(text, own)) => {
            format!("{text:?} is one of the gateway's own paths; choose another prefix.")
        }
        Ok(_) => return Some(text.to_owned()),
    };
    entry.mistake(mistakes, sentence);
    None
}

/// Protocols by their names in `Upgrade`. Another version of HTTP is none of them: it would be a tunnel past every check.
fn upgrades(t: &mut Section<'_>, mistakes: &mut Mistakes<'_>) -> Vec<String> {
    let Some(entry) = t.value("upgrades") else { return vec!["websocket".into()] };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/+".contains(&byte);
    let name = |text: &str| match text.to_ascii_lowercase() {
        lower if lower == "h2c" || lower.starts_with("http") => {
            Err(format!("{text:?} would carry messages that nobody checks; it cannot be switched to."))
        }
        lower if !lower.is_empty() && lower.bytes().all(is_name) => Ok(lower),
        _ => Err(format!("{text:?} is not the name of a protocol; write one like \"websocket\".")),
    };
    let members = entry.members(mistakes, "\"websocket\"").unwrap_or_default();
    members.iter().filter_map(|member| checked(member, "\"websocket\"", mistakes, name)).collect()
}

fn authority(text: &str) -> Result<String, String> {
    match values::split_host_port(text) {
        Some(_) => Ok(text.to_ascii_lowercase()),
        None => {
            Err(format!("{text:?} is not a host; write one like \"internal.example\" or \"internal.example:8080\"."))
        }
    }
}

fn truth(t: &mut Section<'_>, key: &'static str, mistakes: &mut Mistakes<'_>) -> bool {
    t.value(key).and_then(|entry| entry.truth(mistakes)).unwrap_or(false)
}

/// A text that must be one of a few words; the first is the default.
fn choice<'t>(
    t: &mut Section<'t>,
    key: &'static str,
    words: &[&'static str],
    mistakes: &mut Mistakes<'_>,
) -> Option<(Entry<'t>, &'static str)> {
    let entry = t.value(key)?;
    let text = entry.text(mistakes, &format!("{:?}", words[0]))?;
    let word = words.iter().find(|word| **word == text);
    if word.is_none() {
        let words = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
        entry.mistake(mistakes, format!("{text:?} is not known; write {words}."));
    }
    Some((entry, word?))
}

pub(super) fn checked<T>(
    entry: &Entry<'_>,
    example: &str,
    mistakes: &mut Mistakes<'_>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let text = entry.text(mistakes, example)?;
    parse(text).map_err(|sentence| entry.mistake(mistakes, sentence)).ok()
}

/// Whether a path is another one or lies below it.
fn is_below(path: &str, above: &str) -> bool {
    let above = above.trim_end_matches('/');
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Two resources with one place; and a resource below another one of the same service, whose holders could then reach
/// through the outer resource what the inner one was meant to guard.
fn compare(resources: &[Resource], places: &[(Range<usize>, String)], mistakes: &mut Mistakes<'_>) {
    for (index, (one, (span, key))) in resources.iter().zip(places).enumerate() {
        for other in &resources[..index] {
            if one.host == other.host && one.prefix == other.prefix {
                let sentence = format!(
                    "resource.{} has the same host and prefix {:?}; give one of them another prefix or host.",
                    other.name, one.prefix
                );
                mistakes.at(span.start, key, sentence);
            }
        }
        let shares_service = |other: &&Resource| {
            let meets = one.host == other.host || one.host.is_none() || other.host.is_none();
            let differs = one.prefix != other.prefix && is_below(&one.prefix, &other.prefix);
            meets
                && differs
                && one.upstream.iter().any(|one| other.upstream.iter().any(|other| one.place == other.place))
        };
        if let Some(outer) = resources.iter().find(shares_service)
            && !one.nested
        {
            let sentence = format!(
                "its prefix {:?} lies below that of resource.{}, which has the same upstream; if both are meant, write nested = true here.",
                one.prefix, outer.name
            );
            mistakes.at(span.start, key, sentence);
        }
    }
}
