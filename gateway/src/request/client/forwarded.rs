//! `Forwarded` (RFC 7239), read as strictly as its grammar has it.
//!
//! A field that is not exactly that is refused whole: what one reader takes for the end of a client's element another may take for
//! the inside of a quoted string, and the proxy's own element with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::head::known::is_token_byte;

/// Elements of all fields of a message: far more hops than any message takes.
const ELEMENTS_MAX: usize = 64;

/// What one hop says of the connection on which it was asked. What it does not say is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'h> {
    /// Whom it was asked by: an address, or a name that it made up.
    pub(super) node: Option<Node>,
    /// The `Host` of the request as it came to the hop.
    pub(super) host: Option<&'h [u8]>,
    /// The scheme.
    pub(super) proto: Option<&'h [u8]>,
}

/// A node, RFC 7239 section 6, without its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// An address.
    Address(IpAddr),
    /// `unknown`, or an identifier of the hop's own.
    Unnamed,
}

/// Appends the elements of one field. An empty one is an element that says nothing, since a hop that writes one names nobody.
///
/// # Errors
/// What is not as the grammar has it.
pub(super) fn read<'h>(value: &'h [u8], elements: &mut Vec<Element<'h>>) -> Result<(), &'static str> {
    let mut rest = value;
    loop {
        if elements.len() == ELEMENTS_MAX {
            return Err("it has more than 64 elements");
        }
        let (element, behind) = element(rest.trim_ascii_start())?;
        elements.push(element);
        match behind.trim_ascii_start() {
            [] => return Ok(()),
            [b',', next @ ..] => rest = next,
            _ => return Err("an element ends with something that is neither `;` nor `,`"),
        }
    }
}

/// One element and what stands behind it.
fn element(mut rest: &[u8]) -> Result<(Element<'_>, &[u8]), &'static str> {
    let (mut element, mut has_by) = (Element::default(), false);
    loop {
        let name_len = rest.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(name_len);
        match (name, behind) {
            ([], _) => {}
            (_, [b'=', behind @ ..]) => {
                let (value, behind) = value(behind)?;
                let is_twice = if name.eq_ignore_ascii_case(b"for") {
                    element.node.replace(node(value)?).is_some()
                } else if name.eq_ignore_ascii_case(b"host") {
                    element.host.replace(value).is_some()
                } else if name.eq_ignore_ascii_case(b"proto") {
                    element.proto.replace(value).is_some()
                } else if name.eq_ignore_ascii_case(b"by") {
                    node(value)?;
                    std::mem::replace(&mut has_by, true)
                } else {
                    false
                };
                if is_twice {
                    return Err("an element has a parameter twice");
                }
                rest = behind;
            }
            _ => return Err("a parameter has no `=` behind its name"),
        }
        match rest {
            [b';', next @ ..] => rest = next,
            _ => return Ok((element, rest)),
        }
    }
}

/// A token or a quoted string, and what stands behind it. None of the values that have a meaning needs a `\`, and the readers that
/// forget about it are many.
fn value(rest: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let [b'"', inside @ ..] = rest else {
        let length = rest.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(rest.len());
        return if length == 0 { Err("a parameter has no value") } else { Ok(rest.split_at(length)) };
    };
    match inside.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        Some(end) if inside[end] == b'"' => Ok((&inside[..end], &inside[end + 1..])),
        Some(_) => Err("a quoted value has a `\\` in it"),
        None => Err("a quoted value does not end"),
    }
}

fn node(text: &[u8]) -> Result<Node, &'static str> {
    const WRONG: &str = "a node is no address, no `unknown` and no identifier that begins with `_`";
    let text = std::str::from_utf8(text).map_err(|_| WRONG)?;
    let (node, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, behind) = rest.split_once(']').ok_or(WRONG)?;
            let port = if behind.is_empty() { None } else { Some(behind.strip_prefix(':').ok_or(WRONG)?) };
            (Node::Address(IpAddr::V6(address.parse::<Ipv6Addr>().map_err(|_| WRONG)?)), port)
        }
        None => {
            let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
            let is_unnamed = name.eq_ignore_ascii_case("unknown") || is_identifier(name);
            let address = || name.parse::<Ipv4Addr>().map(|address| Node::Address(IpAddr::V4(address)));
            (if is_unnamed { Node::Unnamed } else { address().map_err(|_| WRONG)? }, port)
        }
    };
    if port.is_none_or(is_port) { Ok(node) } else { Err(WRONG) }
}

/// A name that a hop made up, of a node or of a port.
fn is_identifier(text: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.strip_prefix('_').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_inside))
}

fn is_port(text: &str) -> bool {
    let is_number = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number || is_identifier(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(value: &str) -> Result<Vec<Element<'_>>, &'static str> {
        let mut elements = Vec::new();
        read(value.as_bytes(), &mut elements).map(|()| elements)
    }

    fn nodes(value: &str) -> Vec<Option<String>> {
        let text = |node| match node {
            Node::Address(address) => address.to_string(),
            Node::Unnamed => "-".to_owned(),
        };
        elements(value).unwrap_or_else(|why| panic!("{value}: {why}")).into_iter().map(|e| e.node.map(text)).collect()
    }

    #[test]
    fn the_examples_of_rfc_7239_are_read() {
        let some = |texts: &[&str]| texts.iter().map(|text| Some((*text).to_owned())).collect::<Vec<_>>();
        assert_eq!(nodes("for=\"_gazonk\""), some(&["-"]));
        assert_eq!(nodes("For=\"[2001:db8:cafe::17]:4711\""), some(&["2001:db8:cafe::17"]));
        assert_eq!(nodes("for=192.0.2.60;proto=http;by=203.0.113.43"), some(&["192.0.2.60"]));
        assert_eq!(nodes("for=192.0.2.43, for=198.51.100.17"), some(&["192.0.2.43", "198.51.100.17"]));
        assert_eq!(nodes("for=_hidden, for=_SEVKISEK"), some(&["-", "-"]));
        assert_eq!(nodes("for=unknown;by=\"_x.y-z:_p\""), some(&["-"]));
        assert_eq!(
            nodes("for=\"192.0.2.43:47011\" , for=\"[2001:db8:cafe::17]\""),
            some(&["192.0.2.43", "2001:db8:cafe::17"])
        );
        let read = elements("proto=HTTPS;host=\"a.example:8443\";ext=\"x y\"").expect("read");
        assert_eq!(read[0], Element { node: None, host: Some(b"a.example:8443"), proto: Some(b"HTTPS") });
    }

    /// An element that is empty stays one: skipping it would make its neighbour's word that of the hop that wrote it.
    #[test]
    fn an_empty_element_names_nobody() {
        assert_eq!(nodes(""), [None]);
        assert_eq!(nodes("for=192.0.2.1,"), [Some("192.0.2.1".to_owned()), None]);
        assert_eq!(nodes(", ;for=192.0.2.1;"), [None, Some("192.0.2.1".to_owned())]);
    }

    #[test]
    fn what_is_not_as_the_grammar_has_it_is_refused() {
        for value in [
            "for",
            "for=",
            "=192.0.2.1",
            "for=\"192.0.2.1",
            "for=192.0.2.1 ; proto=http",
            "for=192.0.2.1; proto=http",
            "for = 192.0.2.1",
            "for=192.0.2.1 for=192.0.2.2",
            "for=\"192.0.2.1\"x",
            "for=\"192.0.2.\\1\"",
            "for=192.0.2.1;For=192.0.2.2",
            "for=192.0.2.1;proto=http;proto=https",
            "for=192.0.2.1:80",
            "for=[2001:db8::1]",
            "for=\"2001:db8::1\"",
            "for=\"[192.0.2.1]\"",
            "for=\"[2001:db8::1]x\"",
            "for=\"[2001:db8::1%1]\"",
            "for=\"192.0.2.1:\"",
            "for=\"192.0.2.1:123456\"",
            "for=192.0.2",
            "for=0x7f.0.0.1",
            "for=somebody",
            "for=_",
            "for=\"\"",
            "by=somebody",
        ] {
            assert!(elements(value).is_err(), "{value}");
        }
        assert!(elements(&",".repeat(ELEMENTS_MAX - 1)).is_ok());
        assert!(elements(&",".repeat(ELEMENTS_MAX)).is_err());
    }

    proptest::proptest! {
        /// Whatever comes is read or refused, and what is read is read alike behind another hop's element.
        #[test]
        fn what_a_client_writes_does_not_change_what_its_proxy_says(theirs in "[a-z0-9=;,\"\\\\ \\[\\]:._]{0,40}") {
            let both = format!("{theirs}, for=192.0.2.1;proto=https");
            if let Ok(read) = elements(&both) {
                let last = read.last().expect("an element");
                proptest::prop_assert_eq!(last.node, Some(Node::Address("192.0.2.1".parse().expect("an address"))));
                proptest::prop_assert_eq!(last.proto, Some(&b"https"[..]));
            }
        }
    }
}
