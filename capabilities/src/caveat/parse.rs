//! From the text behind a flag to a caveat. The words of each error say which flag, what it was given, and what to write.

use super::{Caveat, Cidr, PathPattern, when};
use crate::json_rpc::INTEGER_MAX;
use crate::message::{ARGUMENT_NAME_BYTES_MAX, ArgValue};
use crate::resource::Operation;

/// Why a flag's value is not a caveat.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{flag} {given}: {advice}")]
pub struct CaveatError {
    /// The flag, without its dashes.
    pub flag: &'static str,
    /// What stood behind it, a text in quotes.
    pub given: String,
    /// What to write instead.
    pub advice: String,
}

fn refuse(flag: &'static str, given: &str, advice: impl ToString) -> CaveatError {
    CaveatError { flag, given: format!("{given:?}"), advice: advice.to_string() }
}

impl Caveat {
    /// Every flag that makes a caveat, without its dashes, in the order in which they are documented.
    pub const FLAGS: [&'static str; 15] = [
        "expires",
        "not-before",
        "method",
        "path",
        "query",
        "host",
        "client",
        "client-cert",
        "no-upgrade",
        "max-body",
        "rpc",
        "tool",
        "arg",
        "grpc",
        "check",
    ];

    /// The caveats of one flag, given all its texts, of which there is one at least: a flag that is named restricts.
    /// Flags whose values are alternatives (`--path`, `--method`, …) make one caveat; the others make one for each
    /// value. What programs set a flag to, which may be more than text, is for [`Caveat::of_value`].
    pub fn of_flag<S: AsRef<str>>(flag: &str, values: &[S], now: u64) -> Result<Vec<Self>, CaveatError> {
        let texts: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        let each = |read: &dyn Fn(&str) -> Result<Self, CaveatError>| texts.iter().map(|text| read(text)).collect();
        if let Some(known) = Self::FLAGS.into_iter().find(|known| *known == flag && texts.is_empty()) {
            return Err(refuse(known, "", "a value is needed"));
        }
        match flag {
            "expires" => each(&|text| Self::expires(text, now)),
            "not-before" => each(&|text| Self::not_before(text, now)),
            "method" => Ok(vec![Self::method(&texts)?]),
            "path" => Ok(vec![Self::path(&texts)?]),
            "query" => each(&Self::query),
            "host" => each(&Self::host),
            "client" => Ok(vec![Self::client(&texts)?]),
            "client-cert" => each(&Self::client_cert),
            "no-upgrade" => match texts.as_slice() {
                [""] => Ok(vec![Self::NoUpgrade]),
                [given, ..] => Err(refuse("no-upgrade", given, "this flag stands alone, without a value")),
                [] => Err(refuse("no-upgrade", "", "a value is needed")),
            },
            "max-body" => each(&Self::max_body),
            "rpc" => Ok(vec![Self::rpc(&texts)?]),
            "tool" => Ok(vec![Self::tool(&texts)?]),
            "arg" => each(&Self::arg),
            "grpc" => Ok(vec![Self::grpc(&texts)?]),
            "check" => each(&Self::check),
            other => Err(CaveatError {
                flag: "caveat",
                given: format!("{other:?}"),
                advice: format!("there is no such caveat; there are {}", Self::FLAGS.join(", ")),
            }),
        }
    }

    /// `--expires 10m` or `--expires 2030-01-31T12:00:00Z`.
    pub fn expires(text: &str, now: u64) -> Result<Self, CaveatError> {
        let time = when::read(text, now, when::Round::Down).map_err(|advice| refuse("expires", text, advice))?;
        Ok(Self::Expires(time))
    }

    /// `--not-before 10m` or `--not-before 2030-01-31T12:00:00Z`.
    pub fn not_before(text: &str, now: u64) -> Result<Self, CaveatError> {
        let time = when::read(text, now, when::Round::Up).map_err(|advice| refuse("not-before", text, advice))?;
        Ok(Self::NotBefore(time))
    }

    /// `--method GET,HEAD`, also given several times.
    pub fn method<S: AsRef<str>>(values: &[S]) -> Result<Self, CaveatError> {
        let read = |text: &str| match Operation::parse(text) {
            Ok(operation) if operation.is_any() => {
                Err(refuse("method", text, "leave the flag out to allow every method that the capability allows"))
            }
            Ok(operation) => Ok(operation),
            Err(error) => Err(refuse("method", text, error)),
        };
        Ok(Self::Method(listed("method", values, read)?))
    }

    /// `--path /v1/orders/42`, `--path '/v1/orders/**'`; several are alternatives.
    pub fn path<S: AsRef<str>>(values: &[S]) -> Result<Self, CaveatError> {
        if values.is_empty() {
            return Err(refuse("path", "", "a path is needed"));
        }
        // A comma is an ordinary character of a path, so a value is one path and not a list.
        let read =
            |value: &S| PathPattern::parse(value.as_ref()).map_err(|error| refuse("path", value.as_ref(), error));
        Ok(Self::Path(values.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// `--query page=2`, both sides decoded.
    pub fn query(text: &str) -> Result<Self, CaveatError> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Self::Query { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err(refuse("query", text, "write it as name=value")),
        }
    }

    /// `--host api.example.com`: lower case, no port.
    pub fn host(text: &str) -> Result<Self, CaveatError> {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        let is_v6 = text.starts_with('[') && text.ends_with(']');
        let is_dots = text.ends_with("..") || text == ".";
        if text.is_empty() || is_dots || !text.bytes().all(inside) || (text.contains([':', '[', ']']) && !is_v6) {
            return Err(refuse(
                "host",
                text,
                "write a host name without a port; other than ASCII names in their xn-- form",
            ));
        }
        // A name with a dot at its end is that name.
        Ok(Self::Host(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()))
    }

    /// `--client 10.0.0.0/8`, also several.
    pub fn client<S: AsRef<str>>(values: &[S]) -> Result<Self, CaveatError> {
        let read = |text: &str| text.parse::<Cidr>().map_err(|error| refuse("client", text, error));
        Ok(Self::Client(listed("client", values, read)?))
    }

    /// `--client-cert <SHA-256>`: 64 hexadecimal digits, colons allowed as OpenSSL prints them.
    pub fn client_cert(text: &str) -> Result<Self, CaveatError> {
        let digits = text.replace(':', "").to_ascii_lowercase();
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refuse(
                "client-cert",
                text,
                "write the SHA-256 of the certificate in DER form: 64 hexadecimal digits",
            ));
        }
        Ok(Self::ClientCert(digits))
    }

    /// `--max-body 4096`, `--max-body 1MiB`, `--max-body 10kB`.
    pub fn max_body(text: &str) -> Result<Self, CaveatError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let bytes = match unit {
            "" | "B" => Some(1),
            "kB" | "KB" => Some(1000),
            "MB" => Some(1_000_000),
            "GB" => Some(1_000_000_000),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let size = bytes
            .and_then(|bytes: u64| number.parse::<u64>().ok()?.checked_mul(bytes))
            .filter(|size| i64::try_from(*size).is_ok());
        match size {
            Some(size) => Ok(Self::MaxBody(size)),
            None => Err(refuse("max-body", text, "write a number of bytes, or a size such as 64KiB or 1MiB")),
        }
    }

    /// `--rpc tools/list,ping`, also given several times.
    pub fn rpc<S: AsRef<str>>(values: &[S]) -> Result<Self, CaveatError> {
        Ok(Self::Rpc(listed("rpc", values, |text| Ok(text.to_owned()))?))
    }

    /// `--tool search`, also several.
    pub fn tool<S: AsRef<str>>(values: &[S]) -> Result<Self, CaveatError> {
        Ok(Self::Tool(listed("tool", values, |text| Ok(text.to_owned()))?))
    }

    /// `--arg table=orders`, `--arg id=7`, `--arg dry=true`; text that looks like one of the latter stands in quotes.
    pub fn arg(text: &str) -> Result<Self, CaveatError> {
        let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(refuse("arg", text, "write it as name=value"));
        };
        if name.len() > ARGUMENT_NAME_BYTES_MAX {
            return Err(refuse(
                "arg",
                text,
                "the name is longer than that of any argument that caveats are decided on",
            ));
        }
        let value = match value {
            "true" => ArgValue::Bool(true),
            "false" => ArgValue::Bool(false),
            _ if value.starts_with('"') => match serde_json::from_str(value) {
                Ok(inside) => ArgValue::Text(inside),
                Err(_) => return Err(refuse("arg", text, "a value that begins with a quote must be a JSON string")),
            },
            _ => match value.parse::<i64>() {
                Ok(number) if number.unsigned_abs() > INTEGER_MAX.unsigned_abs() => {
                    return Err(refuse(
                        "arg",
                        text,
                        "programs read whole numbers beyond 2^53 - 1 differently, so no message has such an argument; if it is a text, put it in quotes",
                    ));
                }
                Ok(number) => ArgValue::Integer(number),
                Err(_) => ArgValue::Text(value.to_owned()),
            },
        };
        Ok(Self::Arg { name: name.to_owned(), value })
    }

    /// `--grpc shop.Orders/Get`, `--grpc shop.Orders` for all of its methods; also several.
    pub fn grpc<S: AsRef<str>>(values: &[S]) -> Result<Self, CaveatError> {
        let read = |text: &str| {
            let word = |word: &str| {
                let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
                !word.is_empty() && word.bytes().all(inside)
            };
            let (service, method) = match text.split_once('/') {
                Some((service, method)) => (service, Some(method)),
                None => (text, None),
            };
            if !word(service) || !method.is_none_or(word) {
                return Err(refuse(
                    "grpc",
                    text,
                    "write package.Service/Method, or package.Service for all its methods",
                ));
            }
            Ok((service.to_owned(), method.map(str::to_owned)))
        };
        Ok(Self::Grpc(listed("grpc", values, read)?))
    }

    /// `--check 'check if …'`: one check in biscuit's language.
    pub fn check(text: &str) -> Result<Self, CaveatError> {
        super::checks::read_check(text).map_err(|advice| refuse("check", text, advice))?;
        Ok(Self::Check(text.to_owned()))
    }
}

/// The values of a flag that takes a list: given several times, with commas, or both.
fn listed<S: AsRef<str>, T>(
    flag: &'static str,
    values: &[S],
    read: impl Fn(&str) -> Result<T, CaveatError>,
) -> Result<Vec<T>, CaveatError> {
    if values.is_empty() {
        return Err(refuse(flag, "", "a value is needed"));
    }
    let mut items = Vec::new();
    for value in values {
        for text in value.as_ref().split(',') {
            if text.is_empty() {
                return Err(refuse(flag, value.as_ref(), "there is an empty entry in the list"));
            }
            items.push(read(text)?);
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_with_commas_or_repeated() {
        let methods = |values: &[&str]| Caveat::method(values).map(|caveat| caveat.to_string());
        assert_eq!(methods(&["GET,HEAD", "POST"]).unwrap(), "only GET, HEAD or POST");
        for bad in [&["get"][..], &["GET,"], &[""], &[], &["*"], &["GET, HEAD"]] {
            assert!(methods(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_flag_is_read_by_its_name() {
        let hash = "ab".repeat(32);
        let value = |flag: &str| match flag {
            "expires" | "not-before" => "10m",
            "method" => "GET",
            "path" => "/a/**",
            "query" | "arg" => "a=b",
            "client" => "10.0.0.0/8",
            "client-cert" => hash.as_str(),
            "max-body" => "1MiB",
            "grpc" => "shop.Orders/Get",
            "check" => "check if path(\"/a\")",
            "no-upgrade" => "",
            _ => "x",
        };
        for flag in Caveat::FLAGS {
            let caveats = Caveat::of_flag(flag, &[value(flag)], 0).unwrap();
            assert_eq!(caveats.len(), 1, "{flag}");
            assert!(Caveat::of_flag::<&str>(flag, &[], 0).is_err(), "{flag}");
        }
        assert!(Caveat::of_flag("role", &["admin"], 0).unwrap_err().to_string().contains("there is no such caveat"));
    }

    #[test]
    fn values_are_brought_to_the_form_that_messages_have() {
        assert_eq!(Caveat::host("API.example.COM").unwrap(), Caveat::Host("api.example.com".into()));
        assert!(Caveat::host("api.example.com:8080").is_err());
        assert_eq!(Caveat::max_body("1MiB").unwrap(), Caveat::MaxBody(1_048_576));
        for bad in ["", "MiB", "1mb", "-1", "99999999999GiB", "1.5MiB"] {
            assert!(Caveat::max_body(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Caveat::client_cert(&"AB:".repeat(32)).unwrap(), Caveat::ClientCert("ab".repeat(32)));
        assert!(Caveat::client_cert("ab").is_err());
        let arg = |text: &str| match Caveat::arg(text) {
            Ok(Caveat::Arg { value, .. }) => Some(value),
            _ => None,
        };
        assert_eq!(arg("id=7"), Some(ArgValue::Integer(7)));
        assert_eq!(arg("id=\"7\""), Some(ArgValue::Text("7".into())));
        assert_eq!(arg("dry=true"), Some(ArgValue::Bool(true)));
        assert_eq!(arg("t=a=b"), Some(ArgValue::Text("a=b".into())));
        assert_eq!(arg("t=\"a"), None);
        assert_eq!(arg("t"), None);
        assert_eq!(arg("n=9007199254740991"), Some(ArgValue::Integer(9_007_199_254_740_991)));
        assert_eq!(arg("n=9007199254740992"), None);
        assert_eq!(arg(&format!("{}=1", "n".repeat(ARGUMENT_NAME_BYTES_MAX))), Some(ArgValue::Integer(1)));
        assert_eq!(arg(&format!("{}=1", "n".repeat(ARGUMENT_NAME_BYTES_MAX + 1))), None);
        assert!(Caveat::grpc(&["shop.Orders/Get/x"]).is_err());
    }

    #[test]
    fn errors_say_what_to_write() {
        assert_eq!(Caveat::query("page").unwrap_err().to_string(), "--query \"page\": write it as name=value");
    }
}
