//! The key document: how a gateway publishes the keys whose tokens it accepts, and how everybody else reads it.
//!
//! It is biscuit's own `biscuit-web-keys` document, a JSON array of
//! `{"algorithm": "ed25519", "key_bytes": "<hex>", "key_id": 1}` with an optional `issuer` and an optional `expires_at`
//! (RFC 3339). Other members are passed over: they can say nothing that would let a token pass.
//!
//! One entry more names the gateway's statement key (`"purpose": "statement"`), which signs no tokens: a reader of
//! `purpose` never takes it for a root key, and who does not read it would believe tokens that nobody can make, since
//! that key signs third-party blocks alone. An entry of any other purpose is passed over.
//!
//! A key of another algorithm is never used ([`keys`](crate::keys) says why). It does not spoil the document
//! either: a document can serve other readers too, and leaving a key out can only refuse more.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::keys::{KEYS_LIVE_MAX, KeyEntry, KeyError, KeyId, KeyRing, KeyState, PublicKey};

/// Where a gateway serves it.
pub const KEY_DOCUMENT_PATH: &str = "/.well-known/biscuit-web-keys";

/// Most bytes of a document that is read.
pub const KEY_DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// Most keys that a document lists, those of other algorithms included.
pub const KEY_DOCUMENT_ENTRIES_MAX: usize = 64;

/// Most statement keys of a document: the present one, and those of gateways that are being replaced.
const STATEMENT_KEYS_MAX: usize = KEYS_LIVE_MAX;

/// The purpose of a key that states.
const STATEMENT: &str = "statement";

/// Numbers of statement keys begin here, far above those of root keys: readers that do not know purposes want a number.
const STATEMENT_NUMBERS: u32 = 1 << 31;

/// Most retired keys that [`KeyDocument::succeed`] remembers.
const RETIRED_MAX: usize = 32;

/// A key document that was read. It holds at least one key that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDocument {
    keys: Vec<WebKey>,
    statement_keys: Vec<PublicKey>,
    unusable: Vec<u32>,
}

/// One key of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebKey {
    /// Its number.
    pub id: KeyId,
    /// The key.
    pub key: PublicKey,
    /// Who publishes it, if the document says so. It decides nothing.
    pub issuer: Option<String>,
    /// The last second in which it is good, if the document names one.
    pub expires_at: Option<u64>,
}

/// An entry as it is written.
#[derive(Serialize, Deserialize)]
struct Entry {
    algorithm: String,
    key_bytes: String,
    key_id: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl KeyDocument {
    /// Reads a document.
    ///
    /// # Errors
    /// What is wrong with it, and at which of its entries, counted from 0.
    pub fn parse(document: &[u8]) -> Result<Self, KeyDocumentError> {
        if document.len() > KEY_DOCUMENT_BYTES_MAX {
            return Err(KeyDocumentError::TooLong { length: document.len() });
        }
        let entries: Vec<serde_json::Value> =
            serde_json::from_slice(document).map_err(|error| KeyDocumentError::NotAList(error.to_string()))?;
        if entries.len() > KEY_DOCUMENT_ENTRIES_MAX {
            return Err(KeyDocumentError::TooManyEntries { count: entries.len() });
        }
        let (mut keys, mut statement_keys, mut unusable): (Vec<WebKey>, _, _) = (Vec::new(), Vec::new(), Vec::new());
        for (at, entry) in entries.into_iter().enumerate() {
            let wrong = |reason: String| KeyDocumentError::Entry { at, reason };
            let entry: Entry = serde_json::from_value(entry).map_err(|error| wrong(error.to_string()))?;
            let states = entry.purpose.as_deref() == Some(STATEMENT);
            if entry.algorithm != "ed25519" || (entry.purpose.is_some() && !states) {
                unusable.push(entry.key_id);
                continue;
            }
            let key = key_of(&entry.key_bytes).map_err(|error| wrong(error.to_string()))?;
            if states {
                statement_keys.push(key);
                continue;
            }
            let expires_at = entry.expires_at.as_deref().map(seconds).transpose().map_err(wrong)?;
            let id = KeyId(entry.key_id);
            if let Some(earlier) = keys.iter().find(|earlier| earlier.id == id || earlier.key == key) {
                return Err(wrong(format!("its number or its key is that of an earlier entry, number {}", earlier.id)));
            }
            keys.push(WebKey { id, key, issuer: entry.issuer, expires_at });
        }
        match keys.is_empty() {
            true => Err(KeyDocumentError::NoUsableKey { others: unusable.len() }),
            false if statement_keys.len() > STATEMENT_KEYS_MAX => {
                Err(KeyDocumentError::TooManyKeys { count: statement_keys.len() })
            }
            false => Ok(Self { keys, statement_keys, unusable }),
        }
    }

    /// Its usable keys.
    pub fn keys(&self) -> &[WebKey] {
        &self.keys
    }

    /// The keys by which the gateway states who a message's client is.
    pub fn statement_keys(&self) -> &[PublicKey] {
        &self.statement_keys
    }

    /// The numbers of keys of other algorithms or purposes, none of which is used.
    pub fn unusable(&self) -> &[u32] {
        &self.unusable
    }

    /// The ring of those keys that are good at this moment, all of them live.
    ///
    /// # Errors
    /// More keys are good than a ring holds.
    pub fn ring(&self, now: u64) -> Result<KeyRing, KeyDocumentError> {
        self.succeed(&KeyRing::new(), now)
    }

    /// The ring that follows `earlier` when this document replaces the one before: what it no longer lists is retired,
    /// so that a token under such a key is answered `revoked` and not as if the key had never been.
    ///
    /// # Errors
    /// More keys are good than a ring holds.
    pub fn succeed(&self, earlier: &KeyRing, now: u64) -> Result<KeyRing, KeyDocumentError> {
        let good = || self.keys.iter().filter(|key| key.expires_at.is_none_or(|at| now <= at));
        let mut ring = KeyRing::new();
        for key in good() {
            let too_many = |_| KeyDocumentError::TooManyKeys { count: good().count() };
            ring.add(key.id, key.key, KeyState::Live).map_err(too_many)?;
        }
        let gone = earlier.entries().iter().filter(|entry| ring.get(entry.id).is_none() && !ring.is_live(&entry.key));
        // Keys that were live until now stand first, so it is the longest retired that are forgotten.
        let gone: Vec<KeyEntry> = gone.take(RETIRED_MAX).copied().collect();
        for entry in gone {
            // Neither its number nor its key is in the ring, and retired keys are not counted: it cannot fail.
            let _ = ring.add(entry.id, entry.key, KeyState::Retired);
        }
        Ok(ring)
    }
}

/// The document of a ring's live keys and of a gateway's statement keys.
pub fn key_document(keys: &KeyRing, statement_keys: &[PublicKey]) -> String {
    let entry = |key: &PublicKey, key_id: u32, purpose: Option<&str>| Entry {
        algorithm: "ed25519".to_owned(),
        key_bytes: hex::encode(key.as_bytes()),
        key_id,
        purpose: purpose.map(str::to_owned),
        issuer: None,
        expires_at: None,
    };
    let root_keys = keys.live().map(|root| entry(&root.key, root.id.0, None));
    let numbered = (STATEMENT_NUMBERS..).zip(statement_keys);
    let entries: Vec<Entry> = root_keys.chain(numbered.map(|(id, key)| entry(key, id, Some(STATEMENT)))).collect();
    serde_json::to_string(&entries).expect("texts and numbers are always expressible in JSON")
}

fn key_of(digits: &str) -> Result<PublicKey, KeyError> {
    let bytes = hex::decode(digits).map_err(|_| KeyError::Digits)?;
    PublicKey::from_bytes(&bytes)
}

fn seconds(text: &str) -> Result<u64, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        format!("its expires_at {text:?} is no time as RFC 3339 writes it, such as 2030-01-01T00:00:00Z")
    })?;
    // Before 1970 is long over, whenever now is.
    Ok(u64::try_from(time.unix_timestamp()).unwrap_or(0))
}

/// Why a document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyDocumentError {
    /// More than is read.
    #[error("the key document has {length} bytes; at most {KEY_DOCUMENT_BYTES_MAX} are read")]
    TooLong {
        /// How many there are.
        length: usize,
    },
    /// No JSON, or no array.
    #[error("the key document is no JSON array: {0}")]
    NotAList(String),
    /// More entries than are read.
    #[error("the key document lists {count} keys; at most {KEY_DOCUMENT_ENTRIES_MAX} are read")]
    TooManyEntries {
        /// How many there are.
        count: usize,
    },
    /// One entry is malformed.
    #[error("entry {at} of the key document cannot be used: {reason}")]
    Entry {
        /// Which one, from 0.
        at: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// It holds no Ed25519 key.
    #[error("the key document lists no Ed25519 key, and {others} of other algorithms; only Ed25519 keys are used")]
    NoUsableKey {
        /// How many other keys there are.
        others: usize,
    },
    /// More keys than can be live at once.
    #[error("the key document lists {count} keys that are good now; at most {KEYS_LIVE_MAX} can be")]
    TooManyKeys {
        /// How many there are.
        count: usize,
    },
}

impl KeyDocumentError {
    /// A stable word for programs.
    pub fn kind(&self) -> &'static str {
        "bad-key-document"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    fn key(number: u8) -> PublicKey {
        SigningKey::parse_text(&format!("ed25519-private/{}", format!("{number:02x}").repeat(32)))
            .ok()
            .unwrap()
            .public()
    }

    fn entry(number: u8) -> String {
        let digits = key(number).to_string().replace("ed25519/", "");
        format!(r#"{{"algorithm":"ed25519","key_bytes":"{digits}","key_id":{number}}}"#)
    }

    fn read(text: &str) -> Result<KeyDocument, KeyDocumentError> {
        KeyDocument::parse(text.as_bytes())
    }

    #[test]
    fn what_is_written_is_read() {
        let mut ring = KeyRing::of(KeyId(1), key(1));
        ring.rotate(KeyId(2), key(2)).unwrap();
        let document = read(&key_document(&ring, &[])).unwrap();
        let ids: Vec<_> = document.keys().iter().map(|key| (key.id, key.key)).collect();
        assert_eq!(ids, [(KeyId(1), key(1)), (KeyId(2), key(2))]);
        ring.retire(KeyId(1)).unwrap();
        assert_eq!(read(&key_document(&ring, &[])).unwrap().keys().len(), 1);
    }

    #[test]
    fn a_key_of_another_algorithm_is_never_used() {
        let digits = format!("02{}", "11".repeat(32));
        let other = format!(r#"{{"algorithm":"secp256r1","key_bytes":"{digits}","key_id":7}}"#);
        let document = read(&format!("[{other},{}]", entry(1))).unwrap();
        assert_eq!((document.unusable(), document.keys().len()), (&[7][..], 1));
        assert_eq!(document.ring(0).unwrap().get(KeyId(7)), None);
        assert_eq!(read(&format!("[{other}]")), Err(KeyDocumentError::NoUsableKey { others: 1 }));
        // Under a wrong name it is a key that is none.
        let disguised = format!(r#"[{{"algorithm":"ed25519","key_bytes":"{digits}","key_id":7}}]"#);
        assert!(matches!(read(&disguised), Err(KeyDocumentError::Entry { at: 0, .. })));
    }

    #[test]
    fn a_statement_key_is_no_root_key_and_other_purposes_are_passed_over() {
        let ring = KeyRing::of(KeyId(1), key(1));
        let document = read(&key_document(&ring, &[key(2)])).unwrap();
        assert_eq!((document.keys().len(), document.statement_keys()), (1, &[key(2)][..]));
        assert!(!document.ring(0).unwrap().is_live(&key(2)));
        let other = entry(3).replace('}', r#","purpose":"something"}"#);
        let document = read(&format!("[{},{other}]", entry(1))).unwrap();
        assert_eq!((document.keys().len(), document.unusable()), (1, &[3][..]));
        // A document of statement keys alone lets no token pass, so it is none.
        let alone = entry(2).replace('}', r#","purpose":"statement"}"#);
        assert!(matches!(read(&format!("[{alone}]")), Err(KeyDocumentError::NoUsableKey { .. })));
    }

    #[test]
    fn a_malformed_document_names_the_entry() {
        let at = |text: &str| match read(&format!("[{},{text}]", entry(1))) {
            Err(KeyDocumentError::Entry { at, reason }) => (at, reason),
            other => panic!("{text}: {other:?}"),
        };
        for wrong in [
            "{}",
            "7",
            r#"{"algorithm":"ed25519","key_bytes":"zz","key_id":2}"#,
            r#"{"algorithm":"ed25519","key_bytes":"00","key_id":2}"#,
            r#"{"algorithm":"ed25519","key_bytes":"0200000000000000000000000000000000000000000000000000000000000000","key_id":2}"#,
            r#"{"algorithm":"ed25519","key_bytes":"00","key_id":-1}"#,
            &entry(1),
            &entry(2).replace('}', r#","expires_at":"tomorrow"}"#),
        ] {
            let (at, reason) = at(wrong);
            assert!(at == 1 && !reason.is_empty(), "{wrong}");
        }
        for wrong in ["", "{}", "null", "[", "[1", "\u{ff}"] {
            assert!(matches!(read(wrong), Err(KeyDocumentError::NotAList(_))), "{wrong}");
        }
        assert!(matches!(read("[]"), Err(KeyDocumentError::NoUsableKey { others: 0 })));
        assert!(matches!(read(&"[".repeat(KEY_DOCUMENT_BYTES_MAX + 1)), Err(KeyDocumentError::TooLong { .. })));
        let many = vec!["0"; KEY_DOCUMENT_ENTRIES_MAX + 1].join(",");
        assert!(matches!(read(&format!("[{many}]")), Err(KeyDocumentError::TooManyEntries { .. })));
        let five: Vec<String> = (1..=5).map(entry).collect();
        let five = read(&format!("[{}]", five.join(","))).unwrap();
        assert_eq!(five.ring(0), Err(KeyDocumentError::TooManyKeys { count: 5 }));
    }

    #[test]
    fn a_key_is_good_until_its_end() {
        let expiring = entry(2).replace('}', r#","issuer":"x","expires_at":"1970-01-01T00:01:40Z","more":[]}"#);
        let document = read(&format!("[{},{expiring}]", entry(1))).unwrap();
        assert_eq!(document.ring(100).unwrap().live().count(), 2);
        assert_eq!(document.ring(101).unwrap().live().count(), 1);
    }

    #[test]
    fn what_a_later_document_leaves_out_is_retired() {
        let first = read(&format!("[{},{}]", entry(1), entry(2))).unwrap().ring(0).unwrap();
        let next = read(&format!("[{},{}]", entry(2), entry(3))).unwrap().succeed(&first, 0).unwrap();
        assert_eq!(next.get(KeyId(1)).map(|entry| entry.state), Some(KeyState::Retired));
        assert!(next.is_live(&key(2)) && next.is_live(&key(3)) && !next.is_live(&key(1)));
        // A gateway that was set up anew uses a number again: what it says now is what holds.
        let anew = entry(9).replace(r#""key_id":9"#, r#""key_id":2"#);
        let anew = read(&format!("[{anew}]")).unwrap().succeed(&next, 0).unwrap();
        assert!(anew.is_live(&key(9)) && !anew.is_live(&key(2)));
    }
}
