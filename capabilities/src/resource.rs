//! The names of things: a resource, an operation on it, and a right to do one to the other.
//!
//! Names end up in Datalog facts, URLs, file names, database rows and message subjects, so there is one narrow
//! grammar for all of them, checked once: who holds a `ResourceName` need not escape it anywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The resource behind the administration listener. Reserved: rights on it do not mix with others.
pub const ADMINISTRATION: &str = "postern";

/// The resource whose capabilities are receipts for accepted messages. Reserved: rights on it do not mix with others.
pub const RECEIPTS: &str = "messages";

/// A label of DNS has this length too, so a resource can become a host name.
const RESOURCE_NAME_BYTES_MAX: usize = 63;

/// The longest registered method has 17 letters (`UPDATEREDIRECTREF`, `VERSION-CONTROL` 15); the limit leaves room for private ones.
const OPERATION_BYTES_MAX: usize = 32;

/// The name of a resource: `[a-z][a-z0-9-]{0,62}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceName(Box<str>);

impl ResourceName {
    /// Reads a name, refusing whatever does not fit the grammar.
    pub fn parse(text: &str) -> Result<Self, ResourceNameError> {
        let bytes = text.as_bytes();
        let Some(first) = bytes.first() else {
            return Err(ResourceNameError::Empty);
        };
        if bytes.len() > RESOURCE_NAME_BYTES_MAX {
            return Err(ResourceNameError::TooLong { length: bytes.len() });
        }
        if !first.is_ascii_lowercase() {
            return Err(ResourceNameError::FirstCharacter(text.to_owned()));
        }
        let inside = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        if !bytes.iter().all(inside) {
            return Err(ResourceNameError::Character(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is one of the gateway's own resources, whose rights never mix with others.
    pub fn is_reserved(&self) -> bool {
        matches!(&*self.0, ADMINISTRATION | RECEIPTS)
    }
}

/// Why a text is not the name of a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceNameError {
    /// Nothing was given.
    #[error("a resource needs a name: a lower-case letter, then letters, digits and `-`")]
    Empty,
    /// More than 63 characters.
    #[error("the resource name has {length} characters; at most {RESOURCE_NAME_BYTES_MAX} are possible")]
    TooLong {
        /// How long it is.
        length: usize,
    },
    /// The first character is no lower-case letter.
    #[error("the resource name {0:?} must begin with a lower-case letter")]
    FirstCharacter(String),
    /// A later character is none of `a-z`, `0-9`, `-`.
    #[error("the resource name {0:?} may hold only lower-case letters, digits and `-`")]
    Character(String),
}

/// What a message does to a resource: an HTTP method in upper case. Inside a [`Right`] also `*`, meaning all of them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Operation(Box<str>);

impl Operation {
    /// Reads an HTTP method (a token of RFC 9110 without lower-case letters) or `*`.
    ///
    /// `*` alone is the wildcard; inside a longer name it is refused, although RFC 9110 would allow it,
    /// because `GET*` would look like a pattern and be none.
    pub fn parse(text: &str) -> Result<Self, OperationError> {
        if text == "*" {
            return Ok(Self::any());
        }
        if text.is_empty() {
            return Err(OperationError::Empty);
        }
        if text.len() > OPERATION_BYTES_MAX {
            return Err(OperationError::TooLong { length: text.len() });
        }
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(OperationError::LowerCase { given: text.to_owned(), wanted: text.to_ascii_uppercase() });
        }
        let inside = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"!#$%&'+-.^_`|~".contains(&byte);
        if !text.bytes().all(inside) {
            return Err(OperationError::Character(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// `*`: every operation. Only a right may say this, a message never.
    pub fn any() -> Self {
        Self("*".into())
    }

    /// Whether this is the wildcard.
    pub fn is_any(&self) -> bool {
        &*self.0 == "*"
    }

    /// The operation as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// Nothing was given.
    #[error("an operation needs a name: an HTTP method such as GET, or `*` for all")]
    Empty,
    /// Longer than any method in use.
    #[error("the operation has {length} characters; at most {OPERATION_BYTES_MAX} are possible")]
    TooLong {
        /// How long it is.
        length: usize,
    },
    /// Methods are case-sensitive; a lower-case one is nearly always a mistake.
    #[error("operations are HTTP methods in upper case: write {wanted:?} instead of {given:?}")]
    LowerCase {
        /// What was written.
        given: String,
        /// What was probably meant.
        wanted: String,
    },
    /// A character that no HTTP method has.
    #[error("the operation {0:?} holds a character that no HTTP method has")]
    Character(String),
}

/// A right to do one operation (or, with `*`, every operation) to one resource: `right("orders", "GET")`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Right {
    /// What the right is on.
    pub resource: ResourceName,
    /// What may be done to it.
    pub operation: Operation,
}

impl Right {
    /// Whether the right covers this operation on this resource. `*` means every operation but `TRACE` and `TRACK`:
    /// they send the request back as it arrived, with what proxies added on its way, so only a right that names one of
    /// them holds it.
    pub fn covers(&self, resource: &str, operation: &str) -> bool {
        self.resource.as_str() == resource
            && (self.operation.as_str() == operation || self.operation.is_any() && !echoes_request(operation))
    }
}

/// Whether a method answers with the request itself (RFC 9110 section 9.3.8, and IIS' older name for it).
fn echoes_request(operation: &str) -> bool {
    matches!(operation, "TRACE" | "TRACK")
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "right(\"{}\", \"{}\")", self.resource, self.operation)
    }
}

/// The traits that both kinds of name share: they read from and print as their text.
macro_rules! named_text {
    ($name:ident, $error:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, $error> {
                Self::parse(text)
            }
        }
        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }
    };
}

named_text!(ResourceName, ResourceNameError);
named_text!(Operation, OperationError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_grammar_are_refused() {
        let longest = "a".repeat(63);
        for good in ["a", "orders", "order-events2", longest.as_str()] {
            assert_eq!(ResourceName::parse(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(64);
        let hostile = [
            "",
            "A",
            "1a",
            "-a",
            "a.>",
            "*",
            "a b",
            "a\r\nPUB x 1\r\n",
            "$JS.API",
            "../x",
            "\0",
            "\"; DROP",
            "a_b",
            "é",
            too_long.as_str(),
        ];
        for bad in hostile {
            assert!(ResourceName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn operations_are_methods_in_upper_case() {
        for good in ["GET", "PATCH", "M-SEARCH", "*", "VERSION-CONTROL"] {
            assert_eq!(Operation::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "get", "GEt", "GET ", "GET*", "G\0T", "GÉT", "G\"T", "A,B"] {
            assert!(Operation::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            Operation::parse("get").unwrap_err().to_string(),
            "operations are HTTP methods in upper case: write \"GET\" instead of \"get\""
        );
    }

    #[test]
    fn a_right_covers_its_own_resource_only() {
        let right = Right { resource: ResourceName::parse("orders").unwrap(), operation: Operation::any() };
        assert!(right.covers("orders", "DELETE"));
        assert!(!right.covers("orders2", "DELETE"));
        assert!(!right.covers("orders", "TRACE") && !right.covers("orders", "TRACK"), "they are named, or not held");
        let trace = Right { operation: Operation::parse("TRACE").unwrap(), ..right.clone() };
        assert!(trace.covers("orders", "TRACE") && !trace.covers("orders", "TRACK"));
        let read = Right { operation: Operation::parse("GET").unwrap(), ..right };
        assert!(read.covers("orders", "GET") && !read.covers("orders", "HEAD") && !read.covers("orders", "*"));
        assert_eq!(read.to_string(), "right(\"orders\", \"GET\")");
    }

    #[test]
    fn names_are_checked_when_deserialised() {
        assert!(serde_json::from_str::<ResourceName>("\"Orders\"").is_err());
        let name: ResourceName = serde_json::from_str("\"orders\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"orders\"");
    }
}
