//! A verifier as other languages tell it: options in words, of which each language's library takes the same and says the same.
//!
//! Rust has types for them ([`Believed`], [`AuthorizationUse`], [`EncodedSlash`]); everybody else has strings and lists. The
//! words are those of the gateway's configuration where it has the option too.

use super::{AuthorizationUse, Believed, LEEWAY_SECONDS_MAX, Verifier};
use crate::caveat::CidrError;
use crate::keys::{KeyError, KeyRing};
use crate::path::{EncodedSlash, PathError};
use crate::resource::{ResourceName, ResourceNameError};

/// What a verifier may be told besides its keys. What is absent is the verifier's own default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// [`Verifier::with_leeway`]
    pub leeway_seconds: Option<i64>,
    /// [`Verifier::with_budget`]
    pub budget: Option<i64>,
    /// [`Verifier::with_mount`]; empty: the gateway takes the prefix off.
    pub mount: Option<&'a str>,
    /// [`Verifier::with_believed`]: `statement`, `connection`, `loopback`, `anyone`, or networks.
    pub believed: Option<&'a [String]>,
    /// [`Verifier::set_statement_keys`], each as `ed25519/<hex>`: for who fetches no key document.
    pub statement_keys: Option<&'a [String]>,
    /// [`Verifier::with_authorization`]: `capability` or `pass`.
    pub authorization: Option<&'a str>,
    /// [`Verifier::with_encoded_slash`]: `refuse` or `pass`.
    pub encoded_slash: Option<&'a str>,
}

/// Why there is no verifier of these options. The text names the option and what it takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No resource has such a name.
    #[error(transparent)]
    Resource(#[from] ResourceNameError),
    /// No path begins with this.
    #[error("the option `mount` is a prefix such as \"/orders\": {0}")]
    Mount(PathError),
    /// Neither a word nor a network.
    #[error(
        "the option `believed` is \"statement\", \"connection\", \"loopback\", \"anyone\", or networks such as \"10.0.0.0/8\"; of {given:?}: {error}"
    )]
    Believed {
        /// What is none.
        given: String,
        /// Why.
        error: CidrError,
    },
    /// No public key.
    #[error("the option `statement_keys` is a list of public keys; of {given:?}: {error}")]
    StatementKey {
        /// What is none.
        given: String,
        /// Why.
        error: KeyError,
    },
    /// A number that is below none, or above the most there can be.
    #[error("the option `{option}` is a number of {takes}, and not {given}")]
    Number {
        /// Which option.
        option: &'static str,
        /// What it counts, and how many there can be.
        takes: &'static str,
        /// The number.
        given: i64,
    },
    /// Another word than there are.
    #[error("the option `{option}` is {takes}, as in the gateway's configuration, and not {given:?}")]
    Word {
        /// Which option.
        option: &'static str,
        /// Its words.
        takes: &'static str,
        /// The word.
        given: String,
    },
}

impl OptionError {
    /// A stable word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Resource(_) => "invalid-resource",
            Self::Mount(_) => "bad-path",
            Self::StatementKey { .. } => "invalid-key",
            Self::Believed { .. } | Self::Number { .. } | Self::Word { .. } => "invalid-option",
        }
    }
}

impl Options<'_> {
    /// A verifier for the service that the gateway knows as `resource`. Until it is given keys it accepts nothing.
    ///
    /// # Errors
    /// The first option that says nothing.
    pub fn verifier(&self, resource: &str) -> Result<Verifier, OptionError> {
        let mut verifier = Verifier::new(ResourceName::parse(resource)?, KeyRing::new())
            .with_authorization(self.authorization()?)
            .with_encoded_slash(self.encoded_slash()?);
        if let Some(seconds) = self.leeway_seconds {
            let takes = "seconds, at most 300";
            verifier = verifier.with_leeway(number("leeway_seconds", takes, seconds, LEEWAY_SECONDS_MAX)?);
        }
        if let Some(steps) = self.budget {
            verifier = verifier.with_budget(number("budget", "evaluation steps", steps, u64::MAX)?);
        }
        if let Some(texts) = self.believed {
            verifier = verifier.with_believed(believed(texts)?);
        }
        if let Some(texts) = self.statement_keys {
            let key =
                |text: &String| text.parse().map_err(|error| OptionError::StatementKey { given: text.clone(), error });
            verifier.set_statement_keys(texts.iter().map(key).collect::<Result<_, _>>()?);
        }
        match self.mount {
            None | Some("") => Ok(verifier),
            Some(prefix) => verifier.with_mount(prefix).map_err(OptionError::Mount),
        }
    }

    fn authorization(&self) -> Result<AuthorizationUse, OptionError> {
        match self.authorization {
            None | Some("capability") => Ok(AuthorizationUse::Capability),
            Some("pass") => Ok(AuthorizationUse::Service),
            Some(given) => Err(unknown("authorization", "\"capability\" or \"pass\"", given)),
        }
    }

    fn encoded_slash(&self) -> Result<EncodedSlash, OptionError> {
        match self.encoded_slash {
            None | Some("refuse") => Ok(EncodedSlash::Refuse),
            Some("pass") => Ok(EncodedSlash::Pass),
            Some(given) => Err(unknown("encoded_slash", "\"refuse\" or \"pass\"", given)),
        }
    }
}

fn believed(texts: &[String]) -> Result<Believed, OptionError> {
    match texts {
        [one] if one == "statement" => Ok(Believed::Statement),
        [one] if one == "connection" => Ok(Believed::Connection),
        [one] if one == "loopback" => Ok(Believed::Loopback),
        [one] if one == "anyone" => Ok(Believed::Anyone),
        networks => {
            let network =
                |text: &String| text.parse().map_err(|error| OptionError::Believed { given: text.clone(), error });
            networks.iter().map(network).collect::<Result<_, _>>().map(Believed::From)
        }
    }
}

fn unknown(option: &'static str, takes: &'static str, given: &str) -> OptionError {
    OptionError::Word { option, takes, given: given.to_owned() }
}

fn number(option: &'static str, takes: &'static str, given: i64, most: u64) -> Result<u64, OptionError> {
    let read = u64::try_from(given).ok().filter(|read| *read <= most);
    read.ok_or(OptionError::Number { option, takes, given })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: Options<'_>) -> String {
        options.verifier("orders").map(drop).unwrap_err().to_string()
    }

    #[test]
    fn words_are_the_gateways() {
        let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let verifier = Options::default().verifier("orders").unwrap();
        assert_eq!((&verifier.believed, verifier.authorization), (&Believed::Statement, AuthorizationUse::Capability));
        let networks = texts(&["10.0.0.0/8", "fd00::/8"]);
        let told = Options {
            believed: Some(&networks),
            authorization: Some("pass"),
            encoded_slash: Some("pass"),
            mount: Some("/orders/"),
            statement_keys: None,
            leeway_seconds: Some(30),
            budget: Some(7),
        };
        let verifier = told.verifier("orders").unwrap();
        assert!(matches!(&verifier.believed, Believed::From(networks) if networks.len() == 2));
        assert_eq!((verifier.authorization, verifier.slash), (AuthorizationUse::Service, EncodedSlash::Pass));
        assert_eq!((&*verifier.mount, verifier.leeway_seconds, verifier.budget), ("/orders", 30, 7));
        let anyone = texts(&["anyone"]);
        let verifier = Options { believed: Some(&anyone), ..Options::default() }.verifier("orders").unwrap();
        assert_eq!(verifier.believed, Believed::Anyone);
    }

    #[test]
    fn what_an_option_is_not_is_said_with_its_name() {
        let both = ["loopback".to_owned(), "10.0.0.0/8".to_owned()];
        for (options, names) in [
            (Options { authorization: Some("refuse"), ..Options::default() }, "`authorization`"),
            (Options { encoded_slash: Some("Pass"), ..Options::default() }, "`encoded_slash`"),
            (Options { mount: Some("orders"), ..Options::default() }, "`mount`"),
            (Options { believed: Some(&both), ..Options::default() }, "`believed`"),
            (Options { leeway_seconds: Some(-1), ..Options::default() }, "`leeway_seconds`"),
            (Options { leeway_seconds: Some(301), ..Options::default() }, "at most 300, and not 301"),
            (Options { budget: Some(-1), ..Options::default() }, "`budget`"),
        ] {
            let text = refused(options);
            assert!(text.contains(names), "{text}");
        }
        assert_eq!(Options::default().verifier("Orders!").map(drop).unwrap_err().kind(), "invalid-resource");
    }
}
