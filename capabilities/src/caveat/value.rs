//! What stands behind a flag where programs write caveats: in JSON, in Python, and whatever comes.
//!
//! There is one place that reads it, so that no language makes a restriction out of nothing in its own way. A flag that
//! is named and says nothing (an empty list, an object, `null`, `None`) is a mistake and never the absence of the
//! restriction: the token would be wider than its maker believes. Who wants no restriction leaves the flag out.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Caveat, CaveatError};

/// A value as a program gives it for one flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlagValue {
    /// A boolean, which is what a flag without a value takes.
    Truth(bool),
    /// A whole number from 0, which is what sizes may be written as.
    Number(u64),
    /// A text, as on the command line.
    Text(String),
    /// Several values.
    List(Vec<FlagValue>),
    /// What no flag takes, in words: `null`, `an object`.
    Other(Cow<'static, str>),
}

impl Caveat {
    /// The caveats of one flag that a program set to this value. `Ok` and empty is a flag without a value that was set
    /// to false.
    ///
    /// # Errors
    /// There is no such flag, or the value is none that it takes.
    pub fn of_value(flag: &str, value: &FlagValue, now: u64) -> Result<Vec<Self>, CaveatError> {
        let Some(known) = Self::FLAGS.into_iter().find(|known| *known == flag) else {
            // For its error.
            return Self::of_flag(flag, &[""], now);
        };
        let wrong =
            |advice: &str| Err(CaveatError { flag: known, given: value.to_string(), advice: advice.to_owned() });
        match (known, value) {
            ("no-upgrade", FlagValue::Truth(true)) => Ok(vec![Self::NoUpgrade]),
            ("no-upgrade", FlagValue::Truth(false)) => Ok(Vec::new()),
            ("no-upgrade", _) => wrong("write true or false, the boolean and not a text or a number"),
            ("max-body", FlagValue::Number(bytes)) => Self::of_flag(known, &[bytes.to_string()], now),
            (_, FlagValue::Text(text)) => Self::of_flag(known, &[text], now),
            (_, FlagValue::List(values)) if values.is_empty() => {
                wrong("an empty list restricts nothing: name at least one value, or leave the caveat out")
            }
            (_, FlagValue::List(values)) => {
                let texts =
                    values.iter().map(|value| if let FlagValue::Text(text) = value { Some(text) } else { None });
                match texts.collect::<Option<Vec<_>>>() {
                    Some(texts) => Self::of_flag(known, &texts, now),
                    None => wrong("a list holds texts alone"),
                }
            }
            ("max-body", _) => wrong("write a number of bytes, or a size such as 64KiB or 1MiB"),
            _ => wrong("write a text or a list of texts, or leave the caveat out"),
        }
    }
}

/// As an error repeats it.
impl fmt::Display for FlagValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(values) => {
                f.write_str("[")?;
                for (at, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if at > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl<'de> Deserialize<'de> for FlagValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfJson;

        impl<'de> Visitor<'de> for OfJson {
            type Value = FlagValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the value of a caveat")
            }

            fn visit_bool<E>(self, truth: bool) -> Result<FlagValue, E> {
                Ok(FlagValue::Truth(truth))
            }

            fn visit_u64<E>(self, number: u64) -> Result<FlagValue, E> {
                Ok(FlagValue::Number(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<FlagValue, E> {
                Ok(u64::try_from(number)
                    .map_or_else(|_| FlagValue::Other(number.to_string().into()), FlagValue::Number))
            }

            fn visit_f64<E>(self, number: f64) -> Result<FlagValue, E> {
                Ok(FlagValue::Other(number.to_string().into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<FlagValue, E> {
                Ok(FlagValue::Text(text.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<FlagValue, E> {
                Ok(FlagValue::Other("null".into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<FlagValue, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = items.next_element()? {
                    values.push(value);
                }
                Ok(FlagValue::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<FlagValue, A::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(FlagValue::Other("an object".into()))
            }
        }

        deserializer.deserialize_any(OfJson)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flag: &str, json: &str) -> Result<Vec<Caveat>, String> {
        let value: FlagValue = serde_json::from_str(json).unwrap();
        Caveat::of_value(flag, &value, 0).map_err(|error| error.to_string())
    }

    /// A flag that is named and says nothing was once the absence of the restriction.
    #[test]
    fn nothing_is_no_value_of_any_flag() {
        for flag in Caveat::FLAGS {
            for nothing in ["[]", "{}", "null", "1.5", "-1", "[[]]", "[null]", "[1]", "{\"a\":\"b\"}", "\"\"", "[\"\"]"]
            {
                let error = read(flag, nothing).expect_err(&format!("{flag}: {nothing}"));
                assert!(error.starts_with(&format!("--{flag} ")), "{error}");
            }
        }
        let error = read("path", "[]").unwrap_err();
        assert_eq!(
            error,
            "--path []: an empty list restricts nothing: name at least one value, or leave the caveat out"
        );
        assert!(read("path", "null").unwrap_err().starts_with("--path null: "));
        assert!(read("role", "\"x\"").unwrap_err().contains("there is no such caveat"));
        assert!(read("role", "null").unwrap_err().contains("there is no such caveat"));
    }

    #[test]
    fn booleans_are_booleans_and_numbers_are_sizes() {
        assert_eq!(read("no-upgrade", "true"), Ok(vec![Caveat::NoUpgrade]));
        assert_eq!(read("no-upgrade", "false"), Ok(Vec::new()));
        for given in ["0", "1", "\"true\"", "\"false\"", "[true]"] {
            assert!(read("no-upgrade", given).is_err(), "{given}");
        }
        assert_eq!(read("max-body", "5"), Ok(vec![Caveat::MaxBody(5)]));
        assert_eq!(read("max-body", "\"1KiB\""), Ok(vec![Caveat::MaxBody(1024)]));
        for flag in Caveat::FLAGS.into_iter().filter(|flag| *flag != "no-upgrade") {
            assert!(read(flag, "true").is_err() && read(flag, "false").is_err(), "{flag}");
            assert_eq!(read(flag, "7").is_ok(), flag == "max-body", "{flag}");
        }
    }

    #[test]
    fn texts_are_read_as_on_the_command_line() {
        assert_eq!(read("path", "[\"/a\",\"/b\"]").unwrap().len(), 1);
        assert_eq!(read("query", "[\"a=b\",\"c=d\"]").unwrap().len(), 2);
        assert_eq!(read("method", "\"GET,HEAD\"").unwrap()[0].to_string(), "only GET or HEAD");
    }
}
