//! A resource as a worker knows it: the checked configuration, ready to route and forward.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use postern_capabilities::resource::ResourceName;
use postern_capabilities::token::Capability;

use super::cors::Policy;
use crate::config::{AuthorizationUse, ForwardToken};
use crate::upstream::group::Group;

/// One named thing behind the gateway.
pub struct Resource {
    /// Its name: what `right(resource, operation)` designates.
    pub name: ResourceName,
    /// Its place in the configuration, and in the metrics.
    pub index: usize,
    /// Only messages for this host, if one is named (lower case, no port).
    pub host: Option<Box<str>>,
    /// Where it is mounted.
    pub prefix: Box<str>,
    /// Whether the prefix stays in the forwarded path.
    pub keep_prefix: bool,
    /// What the upstream gets in place of the token.
    pub forward_token: ForwardToken,
    /// Whether the service uses `Authorization` itself.
    pub authorization: AuthorizationUse,
    /// Whether `%2F` is an ordinary character of its segment.
    pub passes_encoded_slash: bool,
    /// What `Host` says to the upstream; the message's own where this is `None`.
    pub upstream_host: Option<Box<str>>,
    /// What `Host` says where neither of these does: the name by which the service is reached.
    pub service_host: Box<str>,
    /// What a message without a token is treated as presenting.
    pub anonymous: Option<Arc<Capability>>,
    /// The largest body in bytes.
    pub max_body: Option<u64>,
    /// Bytes a second of a body, where it is not as the limits say; `Some(None)`: any rate.
    pub body_rate_min: Option<Option<u64>>,
    /// Fields that are otherwise removed and that this resource asked for, lower case.
    pub allow_headers: Vec<Box<str>>,
    /// Fields that are removed because this resource asked for it, lower case with `-`; `*` at the end stands for any.
    pub strip_headers: Vec<Box<str>>,
    /// Whether the service's word counts that an answer which a token got is for all.
    pub shared_cache: bool,
    /// Whether lists of tools are filtered.
    pub filter_tools: bool,
    /// Whether its callers are clients of the Model Context Protocol.
    pub mcp: bool,
    /// Protocols that a message may switch to, lower case.
    pub upgrades: Vec<Box<str>>,
    /// Where it is forwarded to.
    pub upstreams: Rc<Group>,
    /// What browsers are told about pages of other origins; `None`: nothing.
    pub cors: Option<Policy>,
    /// From the last request byte sent to the response's head, where it is not as the limits say.
    pub response_timeout: Option<Duration>,
}

#[cfg(test)]
impl Resource {
    /// A resource with nothing special about it.
    pub fn for_tests(name: &str, host: Option<&str>, prefix: &str) -> Self {
        Self {
            name: ResourceName::parse(name).expect("a test's resource name is valid"),
            index: 0,
            host: host.map(Into::into),
            prefix: prefix.into(),
            keep_prefix: false,
            forward_token: ForwardToken::None,
            authorization: AuthorizationUse::Capability,
            passes_encoded_slash: false,
            upstream_host: None,
            service_host: "127.0.0.1:1".into(),
            anonymous: None,
            max_body: None,
            body_rate_min: None,
            cors: None,
            allow_headers: Vec::new(),
            strip_headers: Vec::new(),
            shared_cache: false,
            filter_tools: false,
            mcp: false,
            upgrades: vec!["websocket".into()],
            upstreams: Group::for_tests("127.0.0.1:1"),
            response_timeout: None,
        }
    }
}
