//! Statements: what a gateway tells the service behind it about a message's client, in a form that nobody can rewrite.
//!
//! A caveat may ask for the client's address, its certificate, the host or the scheme. A service behind a gateway knows
//! none of them: it sees the gateway's connection, and header fields are anybody's. So a token that is narrowed to one
//! message carries the answers itself, where its caveats ask, in one third-party block of biscuit's own:
//!
//! ```text
//! postern_client("10.1.2.3"); postern_client_cert("ab…"); postern_host("api.example.com"); postern_scheme("https");
//! ```
//!
//! The gateway's statement key signs that block. Its signature covers the signature of the block before it, which is
//! the one that narrows the token, so a statement belongs to that token, that message and that minute by the format
//! (biscuit specification, section "Third-party blocks"). The block stands last, says nothing else, and says each of
//! them once; no other block may hold these names.

use std::net::IpAddr;

use biscuit_auth::datalog::SymbolTable;
use biscuit_auth::format::schema::{self, term};

use crate::keys::PublicKey;
use crate::language::{NotAdmitted, Program, Value};
use crate::message::{Message, Needs, Scheme};
use crate::narrow::Symbols;

pub(crate) const CLIENT: &str = "postern_client";
pub(crate) const CLIENT_CERT: &str = "postern_client_cert";
pub(crate) const HOST: &str = "postern_host";
pub(crate) const SCHEME: &str = "postern_scheme";

/// The version of a block that third parties may sign (biscuit specification, section "Versioning").
const BLOCK_VERSION: u32 = 5;

/// Whether a third-party block may define facts of this name, because only statement keys sign them.
pub(crate) fn is_stated_name(name: &str) -> bool {
    matches!(name, CLIENT | CLIENT_CERT | HOST | SCHEME)
}

/// What a token's last block states, and by which key. Whether that key is a gateway's is for the standing to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub(crate) key: PublicKey,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Hex SHA-256 of the client's certificate; `None` also where the client showed none.
    pub client_cert: Option<Box<str>>,
    /// The host that the client asked for.
    pub host: Option<Box<str>>,
    /// How the client reached the gateway.
    pub scheme: Option<Scheme>,
}

impl Statement {
    /// The statement of a program, if it holds one.
    pub(crate) fn of_program(program: &Program) -> Result<Option<Self>, NotAdmitted> {
        let states = |at: &usize| program.blocks[*at].facts.iter().any(|fact| is_stated_name(&fact.name));
        let Some(at) = (0..program.blocks.len()).find(states) else { return Ok(None) };
        let block = &program.blocks[at];
        let refuse = |reason: &'static str| NotAdmitted::new("a gateway's statement", at, reason);
        let Some(key) = block.external_key.and_then(|key| PublicKey::from_bytes(&key).ok()) else {
            return Err(refuse("only a gateway's statement key says who the client of a message is"));
        };
        if at + 1 != program.blocks.len() {
            return Err(refuse("it stands last: nothing is appended to a message that was stated"));
        }
        if !block.checks.is_empty() || !block.scopes.is_empty() {
            return Err(refuse("its block holds nothing else"));
        }
        let mut stated = Self { key, client: None, client_cert: None, host: None, scheme: None };
        for fact in &block.facts {
            let [Value::Text(text)] = &*fact.values else { return Err(refuse("each of its facts is one text")) };
            let first = match &*fact.name {
                CLIENT => {
                    stated.client.replace(address(text).ok_or_else(|| refuse("the client is no address"))?).is_none()
                }
                CLIENT_CERT => stated.client_cert.replace((&**text).into()).is_none(),
                HOST => stated.host.replace((&**text).into()).is_none(),
                SCHEME => {
                    let scheme = scheme(text).ok_or_else(|| refuse("the scheme is neither http nor https"))?;
                    stated.scheme.replace(scheme).is_none()
                }
                _ => return Err(refuse("its block holds nothing else")),
            };
            if !first {
                return Err(refuse("it says each thing once"));
            }
        }
        Ok(Some(stated))
    }
}

/// An address in the one spelling in which gateways write it.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|address: &IpAddr| address.to_canonical().to_string() == text)
}

fn scheme(text: &str) -> Option<Scheme> {
    [Scheme::Http, Scheme::Https].into_iter().find(|scheme| scheme.as_str() == text)
}

/// The facts of a message that its token's caveats ask for and a service cannot know: none, and there is no statement.
pub(crate) fn asked_of(needs: Needs, message: &Message<'_>) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if needs.client || needs.client_in {
        facts.push((CLIENT, message.client.to_canonical().to_string()));
    }
    if let Some(certificate) = message.client_cert.filter(|_| needs.client_cert) {
        facts.push((CLIENT_CERT, certificate.to_owned()));
    }
    if needs.host {
        facts.push((HOST, message.host.to_owned()));
    }
    if needs.scheme || (needs.client_cert && facts.is_empty()) {
        // A client without a certificate is stated too: by a statement that names none.
        facts.push((SCHEME, message.scheme.as_str().to_owned()));
    }
    facts
}

/// The block that states these facts. A third party knows no symbol of the token, so the block has a table of its own.
pub(crate) fn block(defaults: &SymbolTable, facts: &[(&'static str, String)]) -> schema::Block {
    let mut symbols = Symbols { defaults, earlier: &[], own: Vec::new() };
    let facts = facts.iter().map(|(name, text)| {
        let terms = vec![schema::Term { content: Some(term::Content::String(symbols.number(text))) }];
        schema::Fact { predicate: schema::Predicate { name: symbols.number(name), terms } }
    });
    let facts = facts.collect();
    schema::Block {
        symbols: symbols.own,
        context: None,
        version: Some(BLOCK_VERSION),
        facts,
        rules: Vec::new(),
        checks: Vec::new(),
        scope: Vec::new(),
        public_keys: Vec::new(),
    }
}
