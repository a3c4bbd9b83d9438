//! The `[resource.<name>.cors]` table: whose pages may speak to the resource from within a browser.

use std::time::Duration;

use super::errors::Mistakes;
use super::raw::{Entry, Section};
use super::values;

/// Methods that a page may use where the table names none: those that browsers send without asking.
const METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
/// Browsers keep no answer longer than a day.
const MAX_AGE: Duration = Duration::from_secs(86_400);
/// What a table may name at most.
const NAMES_MAX: usize = 64;

/// What browsers are told. It opens nothing that a token does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins as browsers write them; empty: every one.
    pub origins: Vec<String>,
    /// Methods that a page may use.
    pub methods: Vec<String>,
    /// Fields that a page may set besides the harmless ones, lower case.
    pub headers: Vec<String>,
    /// Fields of the response that a page may read besides the harmless ones, lower case.
    pub expose: Vec<String>,
    /// Whether cookies and client certificates may come along.
    pub credentials: bool,
    /// How long a browser may remember what it was told.
    pub max_age: Duration,
}

/// Reads the table. Every mistake is reported.
pub(super) fn read(mut t: Section<'_>, m: &mut Mistakes<'_>) -> Option<Cors> {
    const EXAMPLE: &str = "\"https://app.example.com\"";
    let origins = t.value("origins");
    if origins.is_none() {
        m.missing(&t.name("origins"), format!("nobody is named; write origins = [{EXAMPLE}], or remove the table."));
    }
    let named = origins.as_ref().and_then(|entry| names(entry, EXAMPLE, m, origin));
    let is_empty = named.as_ref().is_some_and(Vec::is_empty);
    let written = named.unwrap_or_default();
    let credentials = t.value("credentials").and_then(|entry| entry.truth(m)).unwrap_or(false);
    let is_any = written.iter().any(|origin| origin == "*");
    if let Some(entry) = &origins {
        match (is_any, written.len()) {
            (true, 2..) => entry.mistake(m, "\"*\" is every origin; write it alone, or name the origins."),
            (true, _) if credentials => {
                entry.mistake(
                    m,
                    "with credentials = true no page may be let in unseen; name the origins instead of \"*\".",
                );
            }
            (false, 0) if is_empty => {
                entry.mistake(m, format!("nobody is named; write [{EXAMPLE}], or remove the table."))
            }
            _ => {}
        }
    }
    let methods = t.value("methods").and_then(|entry| names(&entry, "\"GET\"", m, method));
    let headers = t.value("headers").and_then(|entry| names(&entry, "\"authorization\"", m, field)).unwrap_or_default();
    let expose = t.value("expose").and_then(|entry| names(&entry, "\"etag\"", m, field)).unwrap_or_default();
    let max_age = t.value("max_age").and_then(|entry| max_age(&entry, m)).unwrap_or(Duration::from_secs(600));
    t.finish(m);
    Some(Cors {
        origins: if is_any { Vec::new() } else { written },
        methods: methods.unwrap_or_else(|| METHODS.map(str::to_owned).to_vec()),
        headers,
        expose,
        credentials,
        max_age,
    })
}

/// The members of a list; `None` where one of them is a mistake.
fn names(
    entry: &Entry<'_>,
    example: &str,
    m: &mut Mistakes<'_>,
    parse: impl Fn(&str) -> Result<String, String>,
) -> Option<Vec<String>> {
    let members = entry.members(m, example)?;
    if members.len() > NAMES_MAX {
        entry.mistake(m, format!("more than {NAMES_MAX} are named; name fewer."));
        return None;
    }
    let count = members.len();
    let mut names = Vec::new();
    for member in members {
        let Some(text) = member.text(m, example) else { continue };
        match parse(text) {
            Ok(name) if names.contains(&name) => {
                member.mistake(m, format!("{text:?} stands here twice; write it once."))
            }
            Ok(name) => names.push(name),
            Err(sentence) => member.mistake(m, sentence),
        }
    }
    (names.len() == count).then_some(names)
}

/// An origin in the one form in which browsers write it: scheme, host, and the port where it is not the scheme's own.
fn origin(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "{text:?} is no origin; write scheme, host and port as browsers do, like \"https://app.example.com\" or \"http://localhost:3000\"."
        )
    };
    if text == "*" {
        return Ok(text.to_owned());
    }
    let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    let is_plain = authority.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b));
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "\0",
    };
    let is_written_so = is_scheme && is_plain && !authority.is_empty() && !authority.ends_with(own_port);
    if is_written_so && values::split_host_port(authority).is_some() { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn method(text: &str) -> Result<String, String> {
    let is_method = !text.is_empty() && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    if is_method { Ok(text.to_owned()) } else { Err(format!("{text:?} is no method; write one like \"PUT\".")) }
}

fn field(text: &str) -> Result<String, String> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if text.is_empty() || text.len() > 128 || text == "*" || !text.bytes().all(is_token) {
        return Err(format!("{text:?} is no field name; write one like \"content-type\"."));
    }
    Ok(text.to_ascii_lowercase())
}

fn max_age(entry: &Entry<'_>, m: &mut Mistakes<'_>) -> Option<Duration> {
    match values::duration(entry.text(m, "\"10m\"")?) {
        Ok(time) if time <= MAX_AGE => Some(time),
        Ok(_) => {
            entry.mistake(m, "this time is out of range; write one up to \"24h\".");
            None
        }
        Err(sentence) => {
            entry.mistake(m, sentence);
            None
        }
    }
}
