//! What a vector file holds. `capabilities/vectors/README.md` says the same in words, for readers in other languages.

use std::net::IpAddr;

use postern_capabilities::keys::{KeyId, KeyRing, KeyState, PublicKey};
use postern_capabilities::message::{ArgValue, BodyItem, Message, Scheme};
use postern_capabilities::revocation::{RevocationId, Standing};
use serde::{Deserialize, Serialize};

/// One file: cases that belong together.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) format: String,
    pub(crate) about: String,
    pub(crate) cases: Vec<Case>,
}

pub(crate) const FORMAT: &str = "postern-capability-vectors/1";

/// One token, what a gateway knows, and what follows.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) why: String,
    pub(crate) keys: Vec<Key>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) revoked: Vec<RevocationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leeway: Option<u64>,
    pub(crate) token: String,
    pub(crate) outcome: Outcome,
}

#[derive(Serialize, Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    pub(crate) id: KeyId,
    pub(crate) key: PublicKey,
    pub(crate) state: KeyState,
}

/// Either the token is refused whatever the message, or it says this and decides so.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Outcome {
    Refused {
        problem: String,
        reason: String,
    },
    Capability {
        rights: Vec<(String, String)>,
        revocation_ids: Vec<RevocationId>,
        sealed: bool,
        price: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<u64>,
        decisions: Vec<Decision>,
    },
}

/// One message and its fate.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decision {
    pub(crate) message: MessageText,
    pub(crate) verdict: Verdict,
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Verdict {
    Allow,
    Refuse { problem: String, reason: String },
}

/// A message as JSON. What is absent has the value that `MessageText::default` gives it.
#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageText {
    pub(crate) resource: String,
    pub(crate) operation: String,
    pub(crate) path: String,
    pub(crate) time: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) query_string: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) host: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) https: bool,
    pub(crate) client: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_cert: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upgrade: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grpc: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) items: Vec<Item>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backend: Option<String>,
}

/// One JSON-RPC item of a body.
#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    pub(crate) rpc: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tool: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) args: Vec<(String, serde_json::Value)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unstated: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Default for MessageText {
    fn default() -> Self {
        Self {
            resource: "orders".into(),
            operation: "GET".into(),
            path: "/v1/orders/42".into(),
            time: super::cases::NOW,
            query_string: String::new(),
            host: "api.example.com".into(),
            https: true,
            client: "10.1.2.3".parse().unwrap(),
            client_cert: None,
            upgrade: None,
            body_size: Some(0),
            grpc: None,
            items: Vec::new(),
            backend: None,
        }
    }
}

impl MessageText {
    /// Lends the message to the crate under test.
    pub(crate) fn with<T>(&self, decide: impl FnOnce(Message<'_>) -> T) -> T {
        let items: Vec<BodyItem> = self.items.iter().map(Item::to_item).collect();
        let mut message = Message::new(&self.resource, &self.operation, &self.path, self.time, self.client);
        message.query_string = &self.query_string;
        message.host = &self.host;
        message.scheme = if self.https { Scheme::Https } else { Scheme::Http };
        message.client_cert = self.client_cert.as_deref();
        message.upgrade = self.upgrade.as_deref();
        message.body_size = self.body_size;
        message.grpc = self.grpc.as_ref().map(|(service, method)| (service.as_str(), method.as_str()));
        message.items = &items;
        message.backend = self.backend.as_deref();
        decide(message)
    }
}

impl Item {
    fn to_item(&self) -> BodyItem {
        let value = |value: &serde_json::Value| match value {
            serde_json::Value::Bool(truth) => ArgValue::Bool(*truth),
            serde_json::Value::Number(number) => {
                ArgValue::Integer(number.as_i64().expect("vectors have integers only"))
            }
            serde_json::Value::String(text) => ArgValue::Text(text.clone()),
            other => panic!("no argument of a vector is {other}"),
        };
        let args = self.args.iter().map(|(name, arg)| (name.clone(), value(arg))).collect();
        BodyItem { rpc: self.rpc.clone(), tool: self.tool.clone(), args, unstated: self.unstated.clone() }
    }
}

/// The keys that a case describes.
pub(crate) fn ring(case: &Case) -> KeyRing {
    let mut ring = KeyRing::new();
    for key in &case.keys {
        ring.add(key.id, key.key, key.state).expect("the keys of a vector fit into a ring");
    }
    ring
}

/// The standing that a case describes.
pub(crate) fn standing(case: &Case) -> Standing {
    let standing = Standing::new(ring(case));
    standing.revoke(&case.revoked);
    standing
}
