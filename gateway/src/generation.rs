//! A configuration in force, with all that was made of it: one generation, replaced whole by the next.
//!
//! A generation is built completely before anything of it counts: the files that the configuration names read and
//! verified ([`Contents`]), new addresses bound. If any of that fails, nothing has changed and every reason is reported.
//! What the next generation has in common with this one it takes over: sockets whose address stays are not touched, nor is
//! what was made of files that say what they said before.

use std::path::Path;
use std::sync::Arc;

use postern_capabilities::revocation::Standing;
use postern_capabilities::token::{Capability, Unverified};
use tokio::sync::Semaphore;

use crate::config::{self, Config, Mistake};
use crate::limits::Limits;
use crate::listener::Listener;
use crate::state::read_secret_file;
use crate::telemetry::{Destination, DestinationError};
use crate::tls::{Tls, TlsError};
use crate::upstream::board::Roster;
use crate::upstream::tls::{ClientTls, ClientTlsError};

/// Why a generation could not be built. Each is a sentence: what, where, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.mistake())]
pub enum NotBuilt {
    /// Certificate or key.
    Tls(#[from] TlsError),
    /// An address cannot be listened on.
    Listen(#[from] crate::listener::ListenError),
    /// Where traces go.
    Telemetry(#[from] DestinationError),
    /// TLS to a resource's upstreams.
    UpstreamTls {
        /// The resource.
        resource: String,
        /// What is wrong, and what to do.
        error: ClientTlsError,
    },
    /// A resource's anonymous capability.
    Anonymous {
        /// The resource.
        resource: String,
        /// What is wrong, and what to do.
        sentence: String,
    },
}

impl NotBuilt {
    /// The same as a mistake of the configuration file: what is wrong with a file counts against the key that names it.
    pub fn mistake(&self) -> Mistake {
        let (key, sentence) = match self {
            Self::Tls(error) => ("tls".to_owned(), error.to_string()),
            Self::Listen(error) => ("listen".to_owned(), error.to_string()),
            Self::Telemetry(error) => ("telemetry".to_owned(), error.to_string()),
            Self::UpstreamTls { resource, error } => (format!("resource.{resource}"), error.to_string()),
            Self::Anonymous { resource, sentence } => (format!("resource.{resource}.anonymous"), sentence.clone()),
        };
        Mistake { line: None, key, sentence }
    }
}

/// What the files that a configuration names were found to hold. Reading them changes nothing, so that a configuration can
/// be checked beside the gateway that runs.
pub struct Contents {
    anonymous: Vec<Option<Arc<Capability>>>,
    tls: Option<Arc<Tls>>,
    upstream_tls: Vec<Option<Arc<ClientTls>>>,
    collector: Option<Arc<Destination>>,
}

impl Contents {
    /// Reads and verifies all of them.
    ///
    /// # Errors
    /// Every reason why one cannot be used.
    pub fn read(config: &Config, standing: &Standing) -> Result<Self, Vec<NotBuilt>> {
        Self::of(config, Some(standing))
    }

    /// What is wrong with the files that a configuration names, found as a start finds it. Where keys and revocations are
    /// not known, anonymous tokens are read and not verified.
    pub fn mistakes(config: &Config, standing: Option<&Standing>) -> Vec<Mistake> {
        Self::of(config, standing).err().unwrap_or_default().iter().map(NotBuilt::mistake).collect()
    }

    fn of(config: &Config, standing: Option<&Standing>) -> Result<Self, Vec<NotBuilt>> {
        let mut reasons = Vec::new();
        let r = &mut reasons;
        let tls = config.tls.as_ref().and_then(|files| take(Tls::load(files), r)).map(Arc::new);
        let collector =
            config.telemetry.as_ref().and_then(|settings| take(Destination::new(settings), r)).map(Arc::new);
        let (mut anonymous, mut upstream_tls) = (Vec::new(), Vec::new());
        for resource in &config.resources {
            upstream_tls.push(take(client_tls(resource), r).flatten());
            anonymous.push(take(present_as(resource, standing, &config.limits), r).flatten());
        }
        if reasons.is_empty() { Ok(Self { anonymous, tls, upstream_tls, collector }) } else { Err(reasons) }
    }
}

/// A configuration and what was made of it.
pub struct Generation {
    /// Counted from 1.
    pub number: u64,
    /// The configuration.
    pub config: Config,
    /// What messages without a token present, for each resource of the configuration.
    pub anonymous: Vec<Option<Arc<Capability>>>,
    /// Certificate and key; `None`: cleartext.
    pub tls: Option<Arc<Tls>>,
    /// Where traces go; `None`: nowhere.
    pub collector: Option<Arc<Destination>>,
    /// What is known of the addresses of each resource of the configuration.
    pub rosters: Vec<Arc<Roster>>,
    /// The addresses that are listened on.
    pub listeners: Vec<Arc<Listener>>,
    /// One permit for each worker that has put it in force.
    in_force: Semaphore,
}

impl Generation {
    /// Builds the generation after `before`, or the first one.
    ///
    /// # Errors
    /// Every reason why it cannot be put in force. Nothing has changed then.
    pub fn build(
        config: Config,
        before: Option<&Self>,
        standing: &Standing,
        workers: usize,
    ) -> Result<Self, Vec<NotBuilt>> {
        let (contents, mut reasons) = match Contents::read(&config, standing) {
            Ok(contents) => (Some(contents), Vec::new()),
            Err(reasons) => (None, reasons),
        };
        let listeners = listen(&config, before, workers, &mut reasons);
        let Some(contents) = contents.filter(|_| reasons.is_empty()) else { return Err(reasons) };
        let Contents { anonymous, tls, upstream_tls, collector } = contents;
        let tls = kept(tls, before.and_then(|before| before.tls.as_ref()), Tls::is_like);
        let collector = kept(collector, before.and_then(|before| before.collector.as_ref()), Destination::is_like);
        let number = before.map_or(1, |before| before.number + 1);
        let rosters = Roster::of_all(&config.resources, &upstream_tls, before.map_or(&[], |before| &before.rosters));
        let in_force = Semaphore::new(0);
        Ok(Self { number, config, anonymous, tls, collector, rosters, listeners, in_force })
    }

    /// Says that one more worker has put it in force.
    pub fn is_followed(&self) {
        self.in_force.add_permits(1);
    }

    /// Waits until so many workers have.
    pub async fn followed_by(&self, workers: usize) {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        drop(self.in_force.acquire_many(workers).await);
    }

    /// What is different from the generation before, in words.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let is_kept =
            |one: &Arc<Listener>, others: &[Arc<Listener>]| others.iter().any(|other| Arc::ptr_eq(one, other));
        for listener in self.listeners.iter().filter(|one| !is_kept(one, &before.listeners)) {
            changes.push(format!("listens on {}", listener.address));
        }
        for listener in before.listeners.iter().filter(|one| !is_kept(one, &self.listeners)) {
            changes.push(format!("listens on {} no more", listener.address));
        }
        match (&before.tls, &self.tls) {
            (Some(old), Some(new)) if !Arc::ptr_eq(old, new) => changes.push("another certificate".to_owned()),
            (None, Some(_)) => changes.push("TLS".to_owned()),
            (Some(_), None) => changes.push("TLS no more".to_owned()),
            _ => {}
        }
        match (&before.collector, &self.collector) {
            (Some(old), Some(new)) if !Arc::ptr_eq(old, new) => changes.push("telemetry".to_owned()),
            (None, Some(_)) => changes.push("telemetry is new".to_owned()),
            (Some(_), None) => changes.push("telemetry is gone".to_owned()),
            _ => {}
        }
        let resource = |of: &Self, name: &str| of.config.resources.iter().position(|r| r.name.as_str() == name);
        for (index, new) in self.config.resources.iter().enumerate() {
            match resource(before, new.name.as_str()) {
                None => changes.push(format!("resource.{} is new", new.name)),
                Some(at) if before.config.resources[at] != *new => changes.push(format!("resource.{}", new.name)),
                Some(at) if before.short_id(at) != self.short_id(index) => {
                    changes.push(format!("resource.{}: another anonymous token", new.name));
                }
                Some(_) => {}
            }
        }
        for old in before.config.resources.iter().filter(|old| resource(self, old.name.as_str()).is_none()) {
            changes.push(format!("resource.{} is gone", old.name));
        }
        if self.config.trusted_proxies != before.config.trusted_proxies {
            changes.push("trusted_proxies".to_owned());
        }
        if self.config.trusted_fields != before.config.trusted_fields {
            changes.push("trusted_fields".to_owned());
        }
        if self.config.proxy_protocol != before.config.proxy_protocol {
            changes.push("proxy_protocol".to_owned());
        }
        if self.config.limits != before.config.limits {
            changes.push("limits".to_owned());
        }
        changes
    }

    fn short_id(&self, resource: usize) -> Option<&str> {
        Some(self.anonymous.get(resource)?.as_ref()?.short_id())
    }
}

/// The value, or its reason put to the others.
fn take<T, E: Into<NotBuilt>>(result: Result<T, E>, reasons: &mut Vec<NotBuilt>) -> Option<T> {
    result.map_err(|error| reasons.push(error.into())).ok()
}

/// What was there before, where the new one says the same.
fn kept<T>(new: Option<Arc<T>>, old: Option<&Arc<T>>, is_like: impl Fn(&T, &T) -> bool) -> Option<Arc<T>> {
    match (new, old) {
        (Some(new), Some(old)) if is_like(&new, old) => Some(Arc::clone(old)),
        (new, _) => new,
    }
}

/// What a resource's TLS connections are made with.
fn client_tls(resource: &config::Resource) -> Result<Option<Arc<ClientTls>>, NotBuilt> {
    ClientTls::load(&resource.upstream, &resource.upstream_tls)
        .map_err(|error| NotBuilt::UpstreamTls { resource: resource.name.as_str().into(), error })
}

/// The listeners of a configuration: those of the generation before where their address stays, and new ones.
fn listen(
    config: &Config,
    before: Option<&Generation>,
    workers: usize,
    reasons: &mut Vec<NotBuilt>,
) -> Vec<Arc<Listener>> {
    let mut kept: Vec<Arc<Listener>> = before.map(|before| before.listeners.clone()).unwrap_or_default();
    let mut listeners = Vec::new();
    for address in &config.listen {
        // Several may stand there with port 0, each a socket of its own.
        match kept.iter().position(|listener| listener.configured == *address) {
            Some(index) => listeners.push(kept.swap_remove(index)),
            None => listeners.extend(take(Listener::bind(*address, workers), reasons)),
        }
    }
    listeners
}

/// The capability that messages without a token present at a resource. It may hold rights to that resource only. None is
/// made where keys and revocations are not known.
fn present_as(
    resource: &config::Resource,
    standing: Option<&Standing>,
    limits: &Limits,
) -> Result<Option<Arc<Capability>>, NotBuilt> {
    let Some(path) = &resource.anonymous else { return Ok(None) };
    let wrong = |sentence: String| NotBuilt::Anonymous { resource: resource.name.as_str().into(), sentence };
    let text = read_secret_file(path).map_err(|error| wrong(error.to_string()))?;
    let at =
        |what: &dyn std::fmt::Display, path: &Path| format!("the token in {} is not usable: {what}", path.display());
    let token = Unverified::parse(text.trim()).map_err(|error| wrong(at(&error, path)))?;
    let Some(standing) = standing else { return Ok(None) };
    let capability = token.verify(standing, limits.price_budget).map_err(|error| wrong(at(&error, path)))?;
    if capability.rights().iter().any(|right| right.resource != resource.name) || capability.rights().is_empty() {
        return Err(wrong(format!(
            "the token in {} must hold rights to {:?} and to nothing else; mint one with `postern mint {} --allow GET`.",
            path.display(),
            resource.name.as_str(),
            resource.name.as_str(),
        )));
    }
    Ok(Some(Arc::new(capability)))
}
