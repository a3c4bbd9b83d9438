//! What browsers are told about pages of other origins (the Fetch standard's CORS protocol).
//!
//! A browser asks before it sends a page's token anywhere, and asks without a token. Where a resource configures `cors`
//! and the page's origin is one of those named, that question is answered here and goes no further. Everything else is
//! an ordinary message: without a token it is refused like any other, for resources that exist and for those that do not.
//! Nothing here lets anybody in. It says to browsers which pages may use what a token permits, and read what comes back,
//! refusals included.

use std::rc::Rc;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Cors;
use crate::head::{Field, Head, Known};

/// What begins the name of every field of this protocol.
const PREFIX: &[u8] = b"access-control-";

/// A resource's `cors` table, with the fields' values as they are sent.
#[derive(Debug)]
pub struct Policy {
    origins: Vec<String>,
    methods: String,
    headers: String,
    expose: String,
    credentials: bool,
    max_age: String,
}

/// What one answer says to the browser: fields, in place of whatever the service says of the kind.
#[derive(Debug, Default)]
pub struct Cross(Vec<(&'static str, String)>);

impl Policy {
    /// The policy that a table describes.
    pub fn new(cors: &Cors) -> Self {
        // Without it a page could not tell one refusal from another.
        let mut expose = vec!["www-authenticate"];
        expose.extend(cors.expose.iter().map(String::as_str).filter(|name| *name != "www-authenticate"));
        Self {
            origins: cors.origins.clone(),
            methods: cors.methods.join(", "),
            headers: cors.headers.join(", "),
            expose: expose.join(", "),
            credentials: cors.credentials,
            max_age: cors.max_age.as_secs().to_string(),
        }
    }

    /// The origin to name in answers to a page of this one; `None`: it is not named in the table.
    fn grants<'a>(&self, origin: &'a str) -> Option<&'a str> {
        match self.origins.as_slice() {
            [] => Some("*"),
            named => named.iter().any(|name| name == origin).then_some(origin),
        }
    }

    /// What an answer to this message says to the browser. That it depends on the page, every answer says.
    pub fn cross(&self, head: &Head<'_>) -> Rc<Cross> {
        let mut fields = Vec::new();
        if let Some(granted) = origin(head).and_then(|origin| self.grants(origin)) {
            self.grant(granted, &mut fields);
            fields.push(("access-control-expose-headers", self.expose.clone()));
        }
        Rc::new(Cross(fields))
    }

    /// What is said to a browser that asks before it sends; `None`: it does not ask, or its page is not named.
    pub fn preflight(&self, head: &Head<'_>) -> Option<Rc<Cross>> {
        if head.method() != "OPTIONS" || !asks_for_method(head) {
            return None;
        }
        let granted = self.grants(origin(head)?)?;
        let mut fields = Vec::new();
        let vary =
            "Authorization, Postern-Capability, Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        fields.push(("vary", vary.to_owned()));
        self.grant(granted, &mut fields);
        fields.push(("access-control-allow-methods", self.methods.clone()));
        if !self.headers.is_empty() {
            fields.push(("access-control-allow-headers", self.headers.clone()));
        }
        fields.push(("access-control-max-age", self.max_age.clone()));
        Some(Rc::new(Cross(fields)))
    }

    fn grant(&self, granted: &str, fields: &mut Vec<(&'static str, String)>) {
        fields.push(("access-control-allow-origin", granted.to_owned()));
        if self.credentials {
            fields.push(("access-control-allow-credentials", "true".to_owned()));
        }
    }
}

impl Cross {
    /// The fields.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Whether a field of the service's answer stays: on this the gateway speaks for the resource, alone.
    pub fn passes(field: &Field<'_>) -> bool {
        !field.name.get(..PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX))
    }

    /// Puts the fields into an HTTP/2 answer's head, and the service's own out of it.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let theirs: Vec<HeaderName> =
            headers.keys().filter(|name| name.as_str().as_bytes().starts_with(PREFIX)).cloned().collect();
        for name in theirs {
            headers.remove(name);
        }
        for (name, value) in self.fields() {
            // An origin that was compared with the table's is what a header may hold; `*` too.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
    }
}

/// The page's origin. Two of them are none.
fn origin<'h>(head: &Head<'h>) -> Option<&'h str> {
    let mut origins = head.fields().filter(|field| field.known == Known::Origin);
    let origin = origins.next()?;
    if origins.next().is_some() { None } else { std::str::from_utf8(origin.value).ok() }
}

fn asks_for_method(head: &Head<'_>) -> bool {
    head.fields().any(|field| field.name.eq_ignore_ascii_case(b"access-control-request-method"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::head::Spans;
    use crate::limits::Limits;

    fn policy(origins: &[&str], credentials: bool) -> Policy {
        Policy::new(&Cors {
            origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            methods: vec!["GET".into(), "PUT".into()],
            headers: vec!["authorization".into()],
            expose: vec!["etag".into()],
            credentials,
            max_age: Duration::from_secs(600),
        })
    }

    fn with<R>(line: &str, fields: &str, test: impl FnOnce(&Head<'_>) -> R) -> R {
        let bytes = format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let mut spans = Spans::new();
        let head = Head::read(bytes.as_bytes(), &mut spans, &Limits::default());
        test(&head.expect("strict").expect("complete"))
    }

    fn said(cross: &Cross) -> Vec<String> {
        cross.fields().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    const ASK: &str = "Origin: https://app.example\r\nAccess-Control-Request-Method: PUT\r\n";

    #[test]
    fn only_a_named_page_that_asks_is_answered() {
        let policy = policy(&["https://app.example"], false);
        let answer = with("OPTIONS /x", ASK, |head| policy.preflight(head)).expect("answered");
        assert_eq!(
            said(&answer),
            [
                "vary: Authorization, Postern-Capability, Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
                "access-control-allow-origin: https://app.example",
                "access-control-allow-methods: GET, PUT",
                "access-control-allow-headers: authorization",
                "access-control-max-age: 600",
            ]
        );
        for (line, fields) in [
            ("GET /x", ASK),
            ("OPTIONS /x", "Origin: https://app.example\r\n"),
            ("OPTIONS /x", "Access-Control-Request-Method: PUT\r\n"),
            ("OPTIONS /x", "Origin: https://app.example.evil\r\nAccess-Control-Request-Method: PUT\r\n"),
            ("OPTIONS /x", "Origin: https://APP.example\r\nAccess-Control-Request-Method: PUT\r\n"),
            ("OPTIONS /x", "Origin: null\r\nAccess-Control-Request-Method: PUT\r\n"),
            (
                "OPTIONS /x",
                "Origin: https://app.example\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: PUT\r\n",
            ),
        ] {
            assert!(with(line, fields, |head| policy.preflight(head)).is_none(), "{line} {fields}");
        }
    }

    #[test]
    fn an_answer_says_what_its_page_may_read() {
        let named = policy(&["https://app.example", "https://b.example"], true);
        let cross = with("GET /x", "Origin: https://b.example\r\n", |head| named.cross(head));
        assert_eq!(
            said(&cross),
            [
                "access-control-allow-origin: https://b.example",
                "access-control-allow-credentials: true",
                "access-control-expose-headers: www-authenticate, etag",
            ]
        );
        assert_eq!(said(&with("GET /x", "Origin: https://c.example\r\n", |head| named.cross(head))), [""; 0]);
        assert_eq!(said(&with("GET /x", "", |head| named.cross(head))), [""; 0]);
        let any = with("GET /x", "Origin: https://c.example\r\n", |head| policy(&[], false).cross(head));
        assert_eq!(said(&any)[0], "access-control-allow-origin: *");
    }

    #[test]
    fn what_the_service_says_of_the_kind_is_replaced() {
        let policy = policy(&["https://app.example"], false);
        let cross = with("GET /x", "Origin: https://app.example\r\n", |head| policy.cross(head));
        let mut headers = HeaderMap::new();
        headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        headers.insert("access-control-allow-private-network", HeaderValue::from_static("true"));
        headers.insert("vary", HeaderValue::from_static("Accept"));
        cross.apply(&mut headers);
        assert_eq!(headers["access-control-allow-origin"], "https://app.example");
        assert!(!headers.contains_key("access-control-allow-private-network"));
        assert_eq!(headers["vary"], "Accept");
        let field = Field { name: b"Access-Control-Allow-Origin", value: b"*", known: Known::Other };
        assert!(!Cross::passes(&field) && Cross::passes(&Field { name: b"Access", ..field }));
    }
}
