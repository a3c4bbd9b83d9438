//! A message described on the command line, for `postern check`.

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use postern_capabilities::caveat::Caveat;
use postern_capabilities::json_rpc::{self, BodyError};
use postern_capabilities::message::{BodyItem, Message, Scheme};
use postern_capabilities::path::{EncodedSlash, canonical_path, written_query};
use postern_capabilities::resource::{Operation, ResourceName};
use postern_capabilities::token::Capability;

use crate::stop::Stop;

/// A larger body is not read for a decision by any gateway.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// The message in question.
#[derive(Args)]
#[command(next_help_heading = "The message")]
pub(crate) struct MessageArgs {
    /// The resource that it is for
    #[arg(long, value_name = "RESOURCE")]
    resource: String,
    /// Its method [default: GET, or POST for a call: with --body, --rpc, --tool or --grpc]
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Its path below the resource: where orders is mounted at /orders, a request to /orders/v1/42 has the path /v1/42
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// A query parameter; several are possible
    #[arg(long, value_name = "NAME=VALUE")]
    query: Vec<String>,
    /// The query as it stands in the URL
    #[arg(long, value_name = "TEXT", conflicts_with = "query")]
    query_string: Option<String>,
    /// The host that it is sent to
    #[arg(long, value_name = "HOST", default_value = "")]
    host: String,
    /// Whether it comes over TLS
    #[arg(long, value_enum, default_value = "http")]
    scheme: SchemeArg,
    /// Where it comes from
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    client: IpAddr,
    /// SHA-256 of the client's certificate
    #[arg(long, value_name = "SHA256")]
    client_cert: Option<String>,
    /// When: 2030-01-31T12:00:00Z, or 10m from now [default: now]
    #[arg(long, value_name = "WHEN")]
    time: Option<String>,
    /// The protocol that it would switch to: websocket
    #[arg(long, value_name = "PROTOCOL")]
    upgrade: Option<String>,
    /// The length of its body in bytes, or `undeclared` where the head does not say it
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = body_size)]
    body_size: BodySize,
    /// What the resource does about %2F in paths: `pass` where its configuration says encoded_slash = "pass"
    #[arg(long, value_enum, default_value = "refuse")]
    encoded_slash: SlashArg,
    /// Its JSON-RPC body: a file, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["body_size", "rpc", "tool", "arg"])]
    body: Option<PathBuf>,
    /// The method of its JSON-RPC body
    #[arg(long, value_name = "METHOD")]
    rpc: Option<String>,
    /// The tool that its MCP body calls
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// An argument of that call
    #[arg(long, value_name = "NAME=VALUE")]
    arg: Vec<String>,
    /// The gRPC method that it calls
    #[arg(long, value_name = "SERVICE/METHOD")]
    grpc: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum SchemeArg {
    Http,
    Https,
}

#[derive(Clone, Copy, ValueEnum)]
enum SlashArg {
    Refuse,
    Pass,
}

/// The length of a body, as far as the head declares it.
#[derive(Clone, Copy)]
enum BodySize {
    Bytes(u64),
    Undeclared,
}

fn body_size(text: &str) -> Result<BodySize, &'static str> {
    match text {
        "undeclared" => Ok(BodySize::Undeclared),
        _ => text.parse().map(BodySize::Bytes).map_err(|_| "write a number of bytes, or undeclared"),
    }
}

/// The message with its texts, to borrow a [`Message`] from.
pub(crate) struct OwnedMessage {
    resource: String,
    operation: String,
    path: String,
    query_string: String,
    host: String,
    scheme: Scheme,
    client: IpAddr,
    client_cert: Option<String>,
    time: u64,
    upgrade: Option<String>,
    body_size: Option<u64>,
    items: Vec<BodyItem>,
    /// The body itself, where there is one to read.
    body: Option<Vec<u8>>,
    grpc: Option<(String, String)>,
}

impl MessageArgs {
    /// Whether its body comes from standard input.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.body.as_deref() == Some(Path::new("-"))
    }

    /// The message, if a gateway would take it as one.
    pub(crate) fn read(&self, now: u64) -> Result<OwnedMessage, Stop> {
        let usage = |flag: &str, error: &dyn std::fmt::Display| Stop::usage(format!("--{flag}: {error}"));
        let resource = ResourceName::parse(&self.resource).map_err(|error| usage("resource", &error))?;
        let is_call = self.body.is_some() || self.rpc.is_some() || self.tool.is_some() || self.grpc.is_some();
        let method = self.method.as_deref().unwrap_or(if is_call { "POST" } else { "GET" });
        let operation = Operation::parse(method).map_err(|error| usage("method", &error))?;
        if operation.is_any() {
            return Err(Stop::usage("--method: a message has one method, such as GET"));
        }
        if self.path.contains('?') {
            return Err(Stop::usage(
                "--path: a path ends before `?`; what is behind it goes to --query or --query-string",
            ));
        }
        let slash = match self.encoded_slash {
            SlashArg::Refuse => EncodedSlash::Refuse,
            SlashArg::Pass => EncodedSlash::Pass,
        };
        let path = canonical_path(self.path.as_bytes(), slash).map_err(|error| {
            let instead = match canonical_path(self.path.as_bytes(), EncodedSlash::Pass) {
                Ok(_) => "; where the resource passes %2F, say --encoded-slash pass",
                Err(_) => "",
            };
            Stop::usage(format!("--path {:?}: a gateway answers 400 to that path: {error}{instead}", self.path))
        })?;
        let time = match &self.time {
            None => now,
            Some(text) => match Caveat::not_before(text, now).map_err(|error| usage("time", &error.advice))? {
                Caveat::NotBefore(time) => time,
                _ => now,
            },
        };
        let body = self.body.as_deref().map(body).transpose()?;
        let items = self.items()?;
        Ok(OwnedMessage {
            resource: resource.to_string(),
            operation: operation.to_string(),
            path: path.into_owned(),
            query_string: match &self.query_string {
                // As a gateway forwards it.
                Some(text) => written_query(text.trim_start_matches('?')).into_owned(),
                None => encoded(&self.query)?,
            },
            host: self.host.strip_suffix('.').unwrap_or(&self.host).to_ascii_lowercase(),
            scheme: match self.scheme {
                SchemeArg::Http => Scheme::Http,
                SchemeArg::Https => Scheme::Https,
            },
            client: self.client,
            client_cert: self.client_cert.as_ref().map(|hash| hash.replace(':', "").to_ascii_lowercase()),
            time,
            upgrade: self.upgrade.as_ref().map(|protocol| protocol.to_ascii_lowercase()),
            body_size: match (&body, self.body_size) {
                (Some(body), _) => Some(body.len() as u64),
                (None, BodySize::Undeclared) => None,
                // A call has a body, whatever its length.
                (None, BodySize::Bytes(bytes)) if !items.is_empty() => Some(bytes.max(1)),
                (None, BodySize::Bytes(bytes)) => Some(bytes),
            },
            items,
            body,
            grpc: self.grpc.as_deref().map(grpc).transpose()?,
        })
    }

    fn items(&self) -> Result<Vec<BodyItem>, Stop> {
        let rpc = match (&self.rpc, &self.tool) {
            (Some(rpc), _) => rpc.clone(),
            (None, Some(_)) => "tools/call".to_owned(),
            (None, None) if self.arg.is_empty() => return Ok(Vec::new()),
            (None, None) => return Err(Stop::usage("--arg needs the call that it belongs to: add --rpc or --tool")),
        };
        let mut args = Vec::new();
        for text in &self.arg {
            if let Caveat::Arg { name, value } = Caveat::arg(text).map_err(Stop::usage)? {
                args.push((name, value));
            }
        }
        Ok(vec![BodyItem { rpc, tool: self.tool.clone(), args, unstated: None }])
    }
}

impl OwnedMessage {
    /// Reads the body as the gateway does: where the token's caveats read it, and no further than they do.
    pub(crate) fn read_body(&mut self, capability: &Capability) -> Result<(), BodyError> {
        if let Some(body) = self.body.as_deref().filter(|body| !body.is_empty() && capability.needs().body) {
            self.items = json_rpc::read(body, &capability.argument_names())?.items;
        }
        Ok(())
    }

    /// The message itself.
    pub(crate) fn message(&self) -> Message<'_> {
        Message {
            query_string: &self.query_string,
            host: &self.host,
            scheme: self.scheme,
            client_cert: self.client_cert.as_deref(),
            upgrade: self.upgrade.as_deref(),
            body_size: self.body_size,
            grpc: self.grpc.as_ref().map(|(service, method)| (service.as_str(), method.as_str())),
            items: &self.items,
            ..Message::new(&self.resource, &self.operation, &self.path, self.time, self.client)
        }
    }
}

/// The bytes of a body.
fn body(path: &Path) -> Result<Vec<u8>, Stop> {
    let (read, name) = match path.to_str() {
        Some("-") => (bounded(std::io::stdin().lock()), "standard input".to_owned()),
        _ => (std::fs::File::open(path).and_then(bounded), path.display().to_string()),
    };
    let bytes = read.map_err(|error| Stop::failed(format!("--body: cannot read {name}: {error}")))?;
    if bytes.len() as u64 > BODY_BYTES_MAX {
        return Err(Stop::failed(format!("--body: {name} holds more than {BODY_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn bounded(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `name=value` pairs as a query string.
fn encoded(pairs: &[String]) -> Result<String, Stop> {
    let mut query = String::new();
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Stop::usage(format!("--query {pair:?}: write it as name=value")));
        };
        if !query.is_empty() {
            query.push('&');
        }
        escape(name, &mut query);
        query.push('=');
        escape(value, &mut query);
    }
    Ok(query)
}

fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => into.push(char::from(byte)),
            _ => into.push_str(&format!("%{byte:02X}")),
        }
    }
}

fn grpc(text: &str) -> Result<(String, String), Stop> {
    match text.trim_start_matches('/').rsplit_once('/') {
        Some((service, method)) if !service.is_empty() && !method.is_empty() => {
            Ok((service.to_owned(), method.to_owned()))
        }
        _ => Err(Stop::usage(format!("--grpc {text:?}: write it as package.Service/Method"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_pairs_mean_what_was_typed() {
        let query = encoded(&["a b=c&d".to_owned(), "é==1".to_owned()]).unwrap();
        assert_eq!(query, "a%20b=c%26d&%C3%A9=%3D1");
        let facts = postern_capabilities::message::query_facts(&query).unwrap();
        assert_eq!(facts[0], ("a b".into(), "c&d".into()));
        assert!(encoded(&["page".to_owned()]).is_err());
    }
}
