//! Paths as `--path` takes them: one path, or `/**` behind one for it and all below it.

use std::fmt;
use std::str::FromStr;

use crate::path::{EncodedSlash, PathError, canonical_path};

/// A path in canonical form, alone or with everything below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    /// Canonical. For a pattern without the closing `/`, so that `/**` has the empty text here.
    path: Box<str>,
    below: bool,
}

impl PathPattern {
    /// Reads a path as a person writes it. Characters that a path cannot hold (`é`, a space) are escaped; what is escaped
    /// already stays so. The result is canonical, since messages are compared in that form only.
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        let (path, below) = match text.strip_suffix("/**") {
            Some(path) => (path, true),
            None => (text, false),
        };
        if path.contains('*') {
            return Err(PathPatternError::Star);
        }
        if path.contains('?') {
            return Err(PathPatternError::Query);
        }
        if path.is_empty() && below {
            return Ok(Self { path: "".into(), below });
        }
        if below && path.ends_with('/') {
            return Err(PathPatternError::Path(PathError::EmptySegment));
        }
        let escaped = escape(path);
        // A resource may pass escaped slashes; where none does, such a pattern matches nothing.
        let path = canonical_path(escaped.as_bytes(), EncodedSlash::Pass).map_err(PathPatternError::Path)?;
        Ok(Self { path: path.into(), below })
    }

    /// Exactly the path of a URL, in which nothing stands for something else.
    pub fn exact(path: &str) -> Result<Self, PathError> {
        let path = canonical_path(path.as_bytes(), EncodedSlash::Pass)?;
        Ok(Self { path: path.into(), below: false })
    }

    /// The path itself, canonical; for `/**` empty.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether everything below the path is meant too.
    pub fn is_below(&self) -> bool {
        self.below
    }

    /// Whether a canonical path is one of those meant. The check that it becomes says the same.
    pub fn matches(&self, path: &str) -> bool {
        match path.strip_prefix(&*self.path) {
            Some("") => !self.path.is_empty(),
            Some(rest) => self.below && rest.starts_with('/'),
            None => false,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.below { f.write_str("/**") } else { Ok(()) }
    }
}

impl FromStr for PathPattern {
    type Err = PathPatternError;

    fn from_str(text: &str) -> Result<Self, PathPatternError> {
        Self::parse(text)
    }
}

/// Escapes what a path cannot hold and nobody could mean otherwise. `%`, `\` and control characters are left for
/// `canonical_path` to judge.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() && !matches!(character, ' ' | '"' | '<' | '>' | '[' | ']' | '^' | '`' | '{' | '|' | '}')
        {
            escaped.push(character);
            continue;
        }
        let mut bytes = [0; 4];
        for byte in character.encode_utf8(&mut bytes).bytes() {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Why a text is not a path pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    /// `*` anywhere but in a closing `/**`.
    #[error("`*` stands for nothing here: only a closing `/**` means everything below; use --check for more")]
    Star,
    /// A query behind the path.
    #[error("a path ends before `?`; use --query for parameters")]
    Query,
    /// No canonical form.
    #[error(transparent)]
    Path(#[from] PathError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_canonical() {
        for (text, printed) in [
            ("/v1/orders/42", "/v1/orders/42"),
            ("/v1/orders/**", "/v1/orders/**"),
            ("/**", "/**"),
            ("/", "/"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/%41 b", "/A%20b"),
            ("/a%2fb", "/a%2Fb"),
        ] {
            assert_eq!(PathPattern::parse(text).unwrap().to_string(), printed);
        }
        for bad in [
            "", "**", "v1", "/v*", "/v1/*", "/**/x", "/v1//**", "/../x", "/a?b=c", "/a#b", "/a\\b", "/%2e%2e", "/%",
            "//", "/a//b",
        ] {
            assert!(PathPattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pattern_ends_at_a_segment() {
        let below = PathPattern::parse("/v1/orders/**").unwrap();
        assert!(below.matches("/v1/orders") && below.matches("/v1/orders/") && below.matches("/v1/orders/42/x"));
        assert!(!below.matches("/v1/orders2") && !below.matches("/v1") && !below.matches("/"));
        let exact = PathPattern::parse("/v1/orders").unwrap();
        assert!(exact.matches("/v1/orders") && !exact.matches("/v1/orders/"));
        let all = PathPattern::parse("/**").unwrap();
        assert!(all.matches("/") && all.matches("/x"));
    }
}
