//! A message whose every fact is written down, in the form of the test vectors: for tools that ask "would it pass?", and for
//! the bindings, which so need no words of their own for a message.
//!
//! `capabilities/vectors/README.md` is the documentation of this form. Nothing is skipped: an unknown member is an error.

use std::net::IpAddr;

use serde::Deserialize;

use super::{Verifier, VerifyError};
use crate::message::{ArgValue, BodyItem, Message, Scheme};

/// The facts of one message. What is absent has the meaning that the vectors give to its absence.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    resource: String,
    operation: String,
    path: String,
    time: u64,
    client: IpAddr,
    #[serde(default)]
    query_string: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    https: bool,
    client_cert: Option<String>,
    upgrade: Option<String>,
    body_size: Option<u64>,
    grpc: Option<(String, String)>,
    #[serde(default)]
    items: Vec<Item>,
    backend: Option<String>,
}

/// One item of a JSON-RPC body.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    rpc: String,
    tool: Option<String>,
    #[serde(default)]
    args: Vec<(String, Scalar)>,
    unstated: Option<String>,
}

/// An argument. Fractions, lists and null are no facts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Integer(i64),
    Text(String),
}

impl Facts {
    /// Reads the JSON object.
    ///
    /// # Errors
    /// In serde's words: which member is missing, unknown or of another type.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// Lends the message to whoever decides it.
    fn with<T>(self, decide: impl FnOnce(Message<'_>) -> T) -> T {
        let items: Vec<BodyItem> = self.items.into_iter().map(Item::into_item).collect();
        decide(Message {
            query_string: &self.query_string,
            host: &self.host,
            scheme: if self.https { Scheme::Https } else { Scheme::Http },
            client_cert: self.client_cert.as_deref(),
            upgrade: self.upgrade.as_deref(),
            body_size: self.body_size,
            grpc: self.grpc.as_ref().map(|(service, method)| (service.as_str(), method.as_str())),
            items: &items,
            backend: self.backend.as_deref(),
            ..Message::new(&self.resource, &self.operation, &self.path, self.time, self.client)
        })
    }
}

impl Item {
    fn into_item(self) -> BodyItem {
        let value = |scalar| match scalar {
            Scalar::Bool(truth) => ArgValue::Bool(truth),
            Scalar::Integer(number) => ArgValue::Integer(number),
            Scalar::Text(text) => ArgValue::Text(text),
        };
        let args = self.args.into_iter().map(|(name, scalar)| (name, value(scalar))).collect();
        BodyItem { rpc: self.rpc, tool: self.tool, args, unstated: self.unstated }
    }
}

impl Verifier {
    /// Verifies a token and decides a message whose every fact the caller states, the time and the backend included.
    ///
    /// # Errors
    /// Whatever [`Verifier::open_token`] and [`Verifier::check`] say.
    pub fn check_facts(
        &self,
        token: &str,
        facts: Facts,
    ) -> Result<std::sync::Arc<crate::token::Capability>, VerifyError> {
        let capability = self.open_token(token)?;
        facts.with(|message| self.check(&capability, message).map(drop))?;
        Ok(capability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_an_error() {
        let known = r#"{"resource":"orders","operation":"GET","path":"/","time":1,"client":"10.0.0.1""#;
        assert!(Facts::parse(&format!("{known}}}")).is_ok());
        for wrong in [r#","role":"admin"}"#, r#","items":[{"rpc":"x","args":[["a",1.5]]}]}"#, r#","time":2}"#] {
            assert!(Facts::parse(&format!("{known}{wrong}")).is_err(), "{wrong}");
        }
        assert!(Facts::parse(r#"{"resource":"orders"}"#).is_err());
    }

    #[test]
    fn an_argument_keeps_its_type() {
        let item = r#"{"rpc":"tools/call","tool":"t","args":[["a",true],["b",7],["c","7"]],"unstated":"d"}"#;
        let item = serde_json::from_str::<Item>(item).expect("an item").into_item();
        let values: Vec<_> = item.args.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [ArgValue::Bool(true), ArgValue::Integer(7), ArgValue::Text("7".into())]);
        assert_eq!(item.unstated.as_deref(), Some("d"));
    }
}
