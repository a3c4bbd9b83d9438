//! A token as text: what a person copies, a file holds and a header carries. It is the secret itself.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::token::Unreadable;

/// Longest text that is looked at, before anything of it is decoded.
pub const TOKEN_TEXT_BYTES_MAX: usize = 8192;

/// What biscuit's specification lets stand before the text.
const PREFIX: &str = "biscuit:";

/// Padding may be there or not; stray bits at the end may not, since they would give one token several texts.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A token's text. Wiped when dropped, and never printed, copied or serialised by accident: [`TokenText::expose`] is
/// the one way to it.
///
/// ```compile_fail
/// let token = postern_capabilities::TokenText::from(String::new());
/// println!("{token:?}");
/// ```
pub struct TokenText(Zeroizing<String>);

impl TokenText {
    /// The text. Who has it, has the capability.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The library writes padding, which is of no use and is the one character that URLs and shells stumble over.
    pub(crate) fn of_base64(mut text: String) -> Self {
        text.truncate(text.trim_end_matches('=').len());
        Self(Zeroizing::new(text))
    }
}

impl From<String> for TokenText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

/// A token's bytes as text.
pub(crate) fn encode(bytes: &[u8]) -> TokenText {
    TokenText(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// The bytes of a token, from base64url with or without padding, with or without `biscuit:` in front.
pub(crate) fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(PREFIX).unwrap_or(text);
    if text.is_empty() {
        return Err(Unreadable::Empty);
    }
    if text.len() > TOKEN_TEXT_BYTES_MAX {
        return Err(Unreadable::TooLong { length: text.len() });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3 + 3));
    match BASE64.decode_vec(text, &mut bytes) {
        Ok(()) => Ok(bytes),
        // Whole groups of four, then the remains of one: the text was cut within a group.
        Err(base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidLastSymbol(..)) => {
            Err(Unreadable::Truncated)
        }
        Err(_) => Err(Unreadable::NotBase64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_spelling_is_read() {
        for text in ["aGk", "aGk=", "biscuit:aGk", " aGk=\n", "biscuit:aGk="] {
            assert_eq!(decode(text).ok().unwrap().as_slice(), b"hi", "{text:?}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        let refused = |text: &str| decode(text).err().unwrap();
        assert_eq!(refused(""), Unreadable::Empty);
        assert_eq!(refused("biscuit:"), Unreadable::Empty);
        assert_eq!(refused("aGkx\0"), Unreadable::NotBase64);
        for text in ["a+k=", "a/k", "aG k", "biscuit: aGk", "Bearer aGk", "aGk==", "=", "aG=k", "é"] {
            assert_eq!(refused(text), Unreadable::NotBase64, "{text:?}");
        }
        assert_eq!(refused("aGkxa"), Unreadable::Truncated);
        assert_eq!(refused("aGl"), Unreadable::Truncated, "stray bits at the end");
        assert_eq!(refused(&"a".repeat(8193)), Unreadable::TooLong { length: 8193 });
    }

    #[test]
    fn a_token_text_carries_no_padding() {
        assert_eq!(TokenText::of_base64("aGk=".to_owned()).expose(), "aGk");
    }
}
