//! `postern proxy`: the gateway before services that run already, without any configuration.

use std::net::SocketAddr;
use std::path::Path;

use clap::Args;
use postern_capabilities::keys::SigningKey;
use postern_capabilities::mint::mint;
use postern_capabilities::resource::{Operation, ResourceName, Right};
use postern_gateway::config::{AccessLog, Admin, Config, Resource, Upstream};
use postern_gateway::gateway::Startup;
use postern_gateway::state::StateDir;

use super::{block_on, init};
use crate::cli::StateArg;
use crate::output::{self, Paint};
use crate::serving::{self, Signals};
use crate::stop::{Exit, Stop};

/// The resource that a URL without a name becomes.
const UNNAMED: &str = "service";

/// `postern proxy`
#[derive(Args)]
#[command(after_help = "\
Examples:
  one service, mounted at /:
    postern proxy http://127.0.0.1:3000
  two, mounted at /shop and /mail:
    postern proxy shop=http://127.0.0.1:3000 mail=http://127.0.0.1:3001
  on other addresses:
    postern proxy http://127.0.0.1:3000 --listen 0.0.0.0:8080 --admin 127.0.0.1:8081

Keys and ledger are made in the state folder if they are not there. For each service a capability
for everything is written to <state>/<name>.token, for you alone; narrow it before you hand it on:
  postern attenuate --token-file .postern/service.token --method GET --expires 10m")]
pub(crate) struct ProxyArgs {
    /// The services: URL, or name=URL for several
    #[arg(value_name = "[NAME=]URL", required = true)]
    services: Vec<String>,

    /// Where messages are taken
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7400", value_parser = address)]
    listen: SocketAddr,

    /// Where administration is
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7401", value_parser = address)]
    admin: SocketAddr,

    /// Write a line for each message to standard error
    #[arg(long)]
    access_log: bool,
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an IP address and a port, like 127.0.0.1:7400, 0.0.0.0:8080 or [::]:8080")
}

pub(crate) fn run(args: ProxyArgs, state: &StateArg) -> Result<Exit, Stop> {
    let resources = resources(&args.services)?;
    if args.listen.port() != 0 && args.listen == args.admin {
        return Err(Stop::usage("--listen and --admin name the same address; give them different ports"));
    }
    let folder = StateDir::create(state.path()).map_err(Stop::failed)?;
    let (key, _) = init::prepare(&folder)?;
    let access_log = if args.access_log { AccessLog::Stderr } else { AccessLog::Off };
    let names: Vec<(ResourceName, String)> = resources.iter().map(|r| (r.name.clone(), r.prefix.clone())).collect();
    let config = Config {
        listen: vec![args.listen],
        admin: Admin { listen: args.admin },
        access_log,
        resources,
        ..Config::defaults()
    };
    let diagnostics = serving::log_to_stderr("warn")?;
    let startup = Startup { diagnostics_dropped: Some(diagnostics.dropped()), ..Startup::default() };
    block_on(async {
        let signals = Signals::catch()?;
        let running = serving::start(config, folder.clone(), startup).await?;
        let address = running.data_addresses().first().copied().unwrap_or(args.listen);
        // Written only now: a gateway that does not start leaves nothing behind that looks as if it had.
        for (name, _) in &names {
            write_token(&folder, &key, name)?;
        }
        greet(&folder, address, running.admin_address(), &names)?;
        serving::until_signal(running, None, signals).await
    })?;
    Ok(Exit::Done)
}

/// The services, each a resource.
fn resources(services: &[String]) -> Result<Vec<Resource>, Stop> {
    let mut resources: Vec<Resource> = Vec::new();
    for service in services {
        let (name, url) = match service.split_once('=') {
            // A `=` inside a URL stands behind its scheme.
            Some((name, url)) if !name.contains(':') => (Some(name), url),
            _ => (None, service.as_str()),
        };
        if name.is_none() && services.len() > 1 {
            return Err(Stop::usage(format!(
                "{service:?}: with several services each needs a name, as in shop={service}"
            )));
        }
        let upstream = Upstream::parse(url).map_err(|sentence| Stop::usage(sentence.trim_end_matches('.')))?;
        let name = ResourceName::parse(name.unwrap_or(UNNAMED))
            .map_err(|error| Stop::usage(format!("the name in {service:?}: {error}")))?;
        if name.is_reserved() || name.as_str() == postern_gateway::state::ADMIN_TOKEN {
            return Err(Stop::usage(format!("{service:?}: the name {name} is the gateway's own; choose another")));
        }
        if resources.iter().any(|resource| resource.name == name) {
            return Err(Stop::usage(format!("the name {name} stands for two services; give each its own")));
        }
        let mut resource = Resource::plain(name, upstream);
        if !service.contains('=') {
            resource.prefix = "/".to_owned();
        }
        resources.push(resource);
    }
    Ok(resources)
}

/// A capability for all of a resource, in the state folder. One that is there and under a live key is left alone, since others
/// may have been derived from it.
fn write_token(folder: &StateDir, key: &SigningKey, name: &ResourceName) -> Result<(), Stop> {
    if folder.token_path(name.as_str()).exists() && is_good(folder, name) {
        return Ok(());
    }
    let right = Right { resource: name.clone(), operation: Operation::any() };
    let token = mint(key, super::mint::key_id(folder, key)?, &[right], &[]).map_err(Stop::failed)?;
    folder.write_token(name.as_str(), token.expose()).map_err(Stop::failed)?;
    Ok(())
}

fn is_good(folder: &StateDir, name: &ResourceName) -> bool {
    use postern_capabilities::revocation::Standing;
    use postern_capabilities::token::{PRICE_BUDGET_DEFAULT, Unverified};
    let (Ok(text), Ok(ring)) = (folder.token(name.as_str()), folder.key_ring()) else { return false };
    Unverified::parse(&text).is_ok_and(|token| {
        token.verify(&Standing::new(ring), PRICE_BUDGET_DEFAULT).is_ok_and(|token| token.holds(name.as_str(), "GET"))
    })
}

fn greet(folder: &StateDir, data: SocketAddr, admin: SocketAddr, names: &[(ResourceName, String)]) -> Result<(), Stop> {
    let paint = Paint::for_stdout();
    output::line(&format!(
        "The gateway listens on {}, administration is at http://{admin}.",
        paint.bold(&format!("http://{data}"))
    ))?;
    output::line("Without a capability nothing passes. With the one that was written for you:")?;
    for (name, prefix) in names {
        let url = format!("http://{data}{}/", prefix.trim_end_matches('/'));
        output::line(&format!("  {}", curl(&folder.token_path(name.as_str()), &url)))?;
    }
    output::line("Ctrl-C ends it.")
}

/// A command that reads the token from its file, so that none stands in a terminal's history.
pub(crate) fn curl(token: &Path, url: &str) -> String {
    format!("curl -H \"Authorization: Bearer $(cat {})\" {url}", quoted(&token.display().to_string()))
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
    if is_plain { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(services: &[&str]) -> Result<Vec<Resource>, Stop> {
        resources(&services.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_url_alone_is_the_service_at_the_root() {
        let found = read(&["http://127.0.0.1:3000"]).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].prefix.as_str()), ("service", "/"));
    }

    #[test]
    fn named_services_have_places_of_their_own() {
        let found = read(&["shop=http://127.0.0.1:3000", "mail=http://127.0.0.1:3001"]).unwrap();
        let places: Vec<_> = found.iter().map(|r| (r.name.as_str(), r.prefix.as_str())).collect();
        assert_eq!(places, [("shop", "/shop"), ("mail", "/mail")]);
    }

    #[test]
    fn mistakes_are_usage_errors_in_words() {
        for wrong in [
            &["127.0.0.1:3000"][..],
            &["http://a:1", "http://b:1"],
            &["a=http://a:1", "a=http://b:1"],
            &["postern=http://a:1"],
            &["admin=http://a:1"],
            &["Shop=http://a:1"],
            &["shop=ftp://a"],
        ] {
            let stop = read(wrong).err().unwrap_or_else(|| panic!("{wrong:?} was taken"));
            assert_eq!(stop.exit, Exit::Usage, "{wrong:?}");
            assert!(stop.sentence.len() > 20, "{wrong:?}: {}", stop.sentence);
        }
    }

    #[test]
    fn a_path_with_spaces_survives_the_shell() {
        assert_eq!(quoted("/a/b.token"), "/a/b.token");
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }
}
