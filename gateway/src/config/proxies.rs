//! `trusted_proxies` and `trusted_fields`: who in front of the gateway is believed on where a message comes from, and by what.

use std::net::IpAddr;

use super::errors::Mistakes;
use super::raw::Entry;
use super::values::AddressBlock;

/// The proxies in front whose word about the client counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(pub Vec<AddressBlock>);

impl TrustedProxies {
    /// Whether a peer is one of them.
    pub fn contains(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|block| block.contains(peer))
    }
}

/// A field by which they say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedField {
    /// `Forwarded` (RFC 7239): address, scheme and host.
    Forwarded,
    /// `X-Forwarded-For`: the address.
    XForwardedFor,
    /// `X-Forwarded-Proto`: the scheme.
    XForwardedProto,
    /// `X-Forwarded-Host`: the host.
    XForwardedHost,
    /// `X-Forwarded-Port`: the port.
    XForwardedPort,
    /// `X-Forwarded-Prefix`: what was taken off the path.
    XForwardedPrefix,
}

/// Each with its name in the configuration.
const NAMES: [(&str, TrustedField); 6] = [
    ("forwarded", TrustedField::Forwarded),
    ("x-forwarded-for", TrustedField::XForwardedFor),
    ("x-forwarded-proto", TrustedField::XForwardedProto),
    ("x-forwarded-host", TrustedField::XForwardedHost),
    ("x-forwarded-port", TrustedField::XForwardedPort),
    ("x-forwarded-prefix", TrustedField::XForwardedPrefix),
];

/// The fields that are believed; never two that both say the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedFields(Vec<TrustedField>);

impl Default for TrustedFields {
    fn default() -> Self {
        Self(vec![TrustedField::XForwardedFor, TrustedField::XForwardedProto])
    }
}

impl TrustedFields {
    /// Whether a field is one of them.
    pub fn has(&self, field: TrustedField) -> bool {
        self.0.contains(&field)
    }

    /// Just these.
    #[cfg(test)]
    pub fn of(fields: &[TrustedField]) -> Self {
        Self(fields.to_vec())
    }
}

/// Reads `trusted_proxies`.
pub(super) fn read(entry: &Entry<'_>, m: &mut Mistakes<'_>) -> TrustedProxies {
    const EXAMPLE: &str = "\"10.0.0.0/8\"";
    let mut blocks = Vec::new();
    for member in entry.members(m, EXAMPLE).unwrap_or_default() {
        let Some(text) = member.text(m, EXAMPLE) else { continue };
        match AddressBlock::parse(text) {
            Ok(block) => blocks.push(block),
            Err(sentence) => member.mistake(m, sentence),
        }
    }
    TrustedProxies(blocks)
}

/// Reads `trusted_fields`.
pub(super) fn fields(entry: &Entry<'_>, m: &mut Mistakes<'_>) -> TrustedFields {
    const EXAMPLE: &str = "\"x-forwarded-for\"";
    let mut fields = TrustedFields(Vec::new());
    for member in entry.members(m, EXAMPLE).unwrap_or_default() {
        let Some(text) = member.text(m, EXAMPLE) else { continue };
        let lower = text.to_ascii_lowercase();
        match NAMES.iter().find(|(name, _)| *name == lower) {
            Some((_, field)) if fields.has(*field) => {
                member.mistake(m, format!("{text:?} stands here twice; write it once."));
            }
            Some((_, field)) => fields.0.push(*field),
            None => {
                let names = NAMES.map(|(name, _)| format!("{name:?}")).join(", ");
                member
                    .mistake(m, format!("{text:?} says nothing about a client here; the fields that do are {names}."));
            }
        }
    }
    if fields.has(TrustedField::Forwarded) && fields.has(TrustedField::XForwardedFor) {
        entry.mistake(
            m,
            "\"forwarded\" and \"x-forwarded-for\" both say the address; name the one that the proxies in front set themselves: \
             they pass the other on as their clients made it up.",
        );
    }
    fields
}
