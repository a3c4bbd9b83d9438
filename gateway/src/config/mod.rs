//! The configuration: raw TOML in, a checked [`Config`] out, or every mistake at once.
//!
//! `raw` reads tables and knows lines; `values` reads addresses, times and sizes, `upstream` where services are; `resource`, `health` and `limits` read
//! their tables, `proxies` who stands in front; this file reads the rest. The defaults stand in `gateway/postern.default.toml`, which a test compares
//! with the code. A bad configuration is refused whole; keys that a later version will serve are refused by name.

mod cors;
mod errors;
mod headers;
mod health;
mod limits;
mod proxies;
mod raw;
mod resource;
mod telemetry;
#[cfg(test)]
mod tests;
mod upstream;
mod values;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use cors::Cors;
pub use errors::{ConfigErrors, Mistake};
pub use health::HealthCheck;
pub use proxies::{TrustedField, TrustedFields, TrustedProxies};
pub use resource::{AuthorizationUse, ForwardToken, Resource};
pub use telemetry::{Collector, Telemetry};
pub use upstream::{Upstream, UpstreamPlace, UpstreamScheme, UpstreamTls};
pub use values::AddressBlock;

use crate::limits::Limits;
use errors::Mistakes;
use raw::{Entry, Section};

/// A documented file with every key at its default, for `postern config` and for people.
pub const DEFAULT_FILE: &str = include_str!("../../postern.default.toml");

/// Bytes of a configuration file: far more than any real one, far less than a mistaken path to a disk image.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Everything that `postern.toml` says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses of the data listener. Never empty.
    pub listen: Vec<SocketAddr>,
    /// Worker threads; `None`: one for each core.
    pub workers: Option<usize>,
    /// Who is believed on where a message comes from.
    pub trusted_proxies: TrustedProxies,
    /// By which fields they say it.
    pub trusted_fields: TrustedFields,
    /// Whether their connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Certificate and key; `None`: cleartext.
    pub tls: Option<TlsFiles>,
    /// The administration listener.
    pub admin: Admin,
    /// Where the record is kept.
    pub ledger: Ledger,
    /// Where access log lines go.
    pub access_log: AccessLog,
    /// Where traces go; `None`: nowhere, and none are made.
    pub telemetry: Option<Telemetry>,
    /// The state folder, if the file names one; the command line and `POSTERN_STATE` come first.
    pub state_dir: Option<PathBuf>,
    /// The group that may read and write what is no secret in the state folder; `None`: nobody but its owner.
    pub state_group: Option<u32>,
    /// The resources, in the order of the file.
    pub resources: Vec<Resource>,
    /// Every limit.
    pub limits: Limits,
}

/// Files of the TLS listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, leaf first, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Authorities of client certificates; `None`: clients are not asked for one.
    pub client_ca: Option<PathBuf>,
}

/// The administration listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Its address.
    pub listen: SocketAddr,
}

/// The engine of the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ledger {
    /// SQLite in the state folder.
    #[default]
    Embedded,
}

/// Where access log lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard error, with everything else that is not a result.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
    /// The end of a file.
    File(PathBuf),
}

impl Config {
    /// What holds where the file says nothing. It has no resources yet.
    pub fn defaults() -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            listen: vec![loopback(7400)],
            workers: None,
            trusted_proxies: TrustedProxies::default(),
            trusted_fields: TrustedFields::default(),
            proxy_protocol: false,
            tls: None,
            admin: Admin { listen: loopback(7401) },
            ledger: Ledger::Embedded,
            access_log: AccessLog::Stderr,
            telemetry: None,
            state_dir: None,
            state_group: None,
            resources: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Reads a file; names in it are relative to its folder.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let wrong =
            |sentence: String| ConfigErrors { mistakes: vec![Mistake { line: None, key: String::new(), sentence }] };
        let shown = path.display();
        let metadata = std::fs::metadata(path).map_err(|error| {
            wrong(format!("the configuration {shown} cannot be read: {error}. Name the file with --config."))
        })?;
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            return Err(wrong(format!("{shown} is not a configuration file; name a TOML file with --config.")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| {
            wrong(format!("the configuration {shown} cannot be read: {error}. It must be a readable UTF-8 file."))
        })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new(".")))
    }

    /// The files that this configuration names and whose contents are a part of it: when one changes, the configuration
    /// has changed.
    pub fn files(&self) -> Vec<&Path> {
        let tls = self.tls.iter().flat_map(|tls| [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()]);
        let telemetry = self.telemetry.iter();
        let telemetry =
            telemetry.flat_map(|telemetry| telemetry.tls.files().into_iter().chain([telemetry.headers.as_ref()]));
        let of_resources = self.resources.iter();
        let of_resources = of_resources
            .flat_map(|resource| resource.upstream_tls.files().into_iter().chain([resource.anonymous.as_ref()]));
        tls.chain(telemetry).chain(of_resources).flatten().map(PathBuf::as_path).collect()
    }

    /// Reads the text of a file; relative file names in it start at `dir`.
    pub fn parse(text: &str, dir: &Path) -> Result<Self, ConfigErrors> {
        let document = raw::document(text)?;
        let mut mistakes = Mistakes::in_text(text);
        let m = &mut mistakes;
        let mut root = Section::root(document.get_ref());
        let mut config = Self::defaults();

        if let Some(entry) = root.value("listen") {
            config.listen = listen(&entry, m);
        }
        config.workers = root.value("workers").and_then(|entry| workers(&entry, m));
        if let Some(entry) = root.value("trusted_proxies") {
            config.trusted_proxies = proxies::read(&entry, m);
        }
        if let Some(entry) = root.value("trusted_fields") {
            config.trusted_fields = proxies::fields(&entry, m);
        }
        if let Some(entry) = root.value("proxy_protocol") {
            config.proxy_protocol = entry.truth(m).unwrap_or(false);
            if config.proxy_protocol && config.trusted_proxies.0.is_empty() {
                entry.mistake(m, "nobody's header would be believed; name the peers that send one in trusted_proxies.");
            }
        }
        config.state_dir = root.value("state_dir").and_then(|entry| Some(dir.join(path(&entry, "\".postern\"", m)?)));
        config.state_group = root.value("state_group").and_then(|entry| group(&entry, m));
        config.tls = root.section("tls", m).and_then(|section| tls(section, dir, m));
        if let Some(section) = root.section("admin", m) {
            config.admin = admin(section, config.admin, m);
        }
        if let Some(section) = root.section("ledger", m) {
            ledger(section, m);
        }
        if let Some(section) = root.section("log", m) {
            config.access_log = log(section, dir, m);
        }
        config.telemetry = root.section("telemetry", m).and_then(|section| telemetry::read(section, dir, m));
        if let Some(section) = root.section("limits", m) {
            config.limits = limits::read(section, m);
        }
        match root.section("resource", m) {
            Some(section) => config.resources = resource::read_all(&section, dir, &config.listen, m),
            None => m.missing(
                "resource",
                "there is nothing to stand in front of; write [resource.orders] and below it upstream = [\"http://127.0.0.1:3000\"].",
            ),
        }
        if let Some(address) = config.listen.iter().find(|address| meets(**address, config.admin.listen)) {
            m.missing(
                "admin.listen",
                format!("{} is taken by `listen` ({address}); choose another port.", config.admin.listen),
            );
        }
        root.finish(m);
        mistakes.or(config)
    }
}

/// Whether two listeners cannot both have their address. Port 0 is a new port each time.
fn meets(one: SocketAddr, other: SocketAddr) -> bool {
    let same_address = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_address
}

fn listen(entry: &Entry<'_>, m: &mut Mistakes<'_>) -> Vec<SocketAddr> {
    const EXAMPLE: &str = "\"0.0.0.0:7400\"";
    let Some(members) = entry.members(m, EXAMPLE) else { return Vec::new() };
    if members.is_empty() {
        entry.mistake(m, format!("there is no address to listen on; write [{EXAMPLE}]."));
    }
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for member in members {
        let Some(address) = socket_address(&member, EXAMPLE, m) else { continue };
        if address.port() != 0 && addresses.contains(&address) {
            member.mistake(m, format!("{address} stands here twice; write it once."));
        }
        addresses.push(address);
    }
    addresses
}

fn socket_address(entry: &Entry<'_>, example: &str, m: &mut Mistakes<'_>) -> Option<SocketAddr> {
    let text = entry.text(m, example)?;
    let address = text.parse().ok();
    if address.is_none() {
        entry.mistake(
            m,
            format!("{text:?} is no address to listen on; write an IP address and a port, like {example}."),
        );
    }
    address
}

fn workers(entry: &Entry<'_>, m: &mut Mistakes<'_>) -> Option<usize> {
    const SENTENCE: &str = "write the number of worker threads, 1 to 1024, or leave the key out: one for each core.";
    let number = if entry.is_number() { entry.number(m)? } else { 0 };
    if !(1..=1024).contains(&number) {
        entry.mistake(m, SENTENCE);
        return None;
    }
    usize::try_from(number).ok()
}

fn group(entry: &Entry<'_>, m: &mut Mistakes<'_>) -> Option<u32> {
    const SENTENCE: &str =
        "write the number of the group that may read and write what is no secret in the state folder.";
    let number = if entry.is_number() { entry.number(m)? } else { 0 };
    match u32::try_from(number).ok().filter(|number| *number > 0) {
        Some(number) => Some(number),
        None => {
            entry.mistake(m, SENTENCE);
            None
        }
    }
}

fn tls(mut section: Section<'_>, dir: &Path, m: &mut Mistakes<'_>) -> Option<TlsFiles> {
    let mut required = |key: &'static str, example: &str, m: &mut Mistakes<'_>| match section.value(key) {
        Some(entry) => file(&entry, example, dir, m),
        None => {
            m.missing(&section.name(key), format!("TLS needs it; write {key} = {example}, or remove [tls]."));
            None
        }
    };
    let cert = required("cert", "\"tls.pem\"", m);
    let key = required("key", "\"tls.key\"", m);
    let client_ca = section.value("client_ca").map(|entry| file(&entry, "\"clients.pem\"", dir, m));
    section.finish(m);
    // An authority that was named but not found is a mistake already; it must never come out as "do not ask".
    let client_ca = match client_ca {
        Some(found) => Some(found?),
        None => None,
    };
    Some(TlsFiles { cert: cert?, key: key?, client_ca })
}

fn admin(mut section: Section<'_>, default: Admin, m: &mut Mistakes<'_>) -> Admin {
    let listen = section.value("listen").and_then(|entry| socket_address(&entry, "\"127.0.0.1:7401\"", m));
    section.finish(m);
    listen.map_or(default, |listen| Admin { listen })
}

fn ledger(mut section: Section<'_>, m: &mut Mistakes<'_>) {
    if let Some(entry) = section.value("engine") {
        match entry.text(m, "\"embedded\"") {
            None | Some("embedded") => {}
            Some("nats") => {
                entry.mistake(m, "the engine \"nats\" is not available in this version; write \"embedded\".");
            }
            Some(other) => entry.mistake(m, format!("the engine {other:?} is unknown; write \"embedded\".")),
        }
    }
    section.finish(m);
}

fn log(mut section: Section<'_>, dir: &Path, m: &mut Mistakes<'_>) -> AccessLog {
    let access = section.value("access").and_then(|entry| path(&entry, "\"stderr\"", m));
    section.finish(m);
    match access {
        None | Some("stderr") => AccessLog::Stderr,
        Some("stdout") => AccessLog::Stdout,
        Some("off") => AccessLog::Off,
        Some(file) => AccessLog::File(dir.join(file)),
    }
}

/// A text that names a file or folder.
fn path<'t>(entry: &Entry<'t>, example: &str, m: &mut Mistakes<'_>) -> Option<&'t str> {
    let text = entry.text(m, example)?;
    if text.is_empty() || text.contains('\0') {
        entry.mistake(m, format!("this names no file; write one like {example}."));
        return None;
    }
    Some(text)
}

/// A file that must be there.
fn file(entry: &Entry<'_>, example: &str, dir: &Path, m: &mut Mistakes<'_>) -> Option<PathBuf> {
    let file = dir.join(path(entry, example, m)?);
    match std::fs::metadata(&file) {
        Ok(metadata) if metadata.is_file() => Some(file),
        Ok(_) => {
            entry.mistake(m, format!("{} is not a file; name one.", file.display()));
            None
        }
        Err(error) => {
            let shown = file.display();
            entry.mistake(m, format!("the file {shown} cannot be read: {error}. Name one that is there (relative to the configuration's folder)."));
            None
        }
    }
}
