//! `postern demo`: a sample service, the gateway before it, two capabilities, and real exchanges through all of it.
//!
//! It works in a folder of its own that is removed afterwards, and on ports of its own where the usual ones are taken.

mod service;
mod show;

use std::net::{SocketAddr, TcpListener};

use clap::Args;
use postern_capabilities::caveat::Caveat;
use postern_capabilities::keys::SigningKey;
use postern_capabilities::mint::mint;
use postern_capabilities::resource::{Operation, ResourceName, Right};
use postern_capabilities::text::TokenText;
use postern_client::Transport;
use postern_gateway::config::{AccessLog, Admin, Config, Resource, Upstream};
use postern_gateway::gateway::Running;
use postern_gateway::gateway::Startup;
use postern_gateway::state::{ADMIN_TOKEN, StateDir};

use self::service::SampleService;
use self::show::Show;
use super::proxy::curl;
use super::{block_on, init, now};
use crate::admin::{AdminClient, Options};
use crate::output::{self, Paint};
use crate::serving::{self, Signals};
use crate::stop::{Exit, Stop};

/// The resource that the sample service is.
const RESOURCE: &str = "orders";
/// The usual ports, taken if they are free.
const PORTS: [u16; 2] = [7400, 7401];

/// `postern demo`
#[derive(Args)]
#[command(after_help = "\
Examples:
  the show, and then time to try for yourself; Ctrl-C ends it:
    postern demo
  the show alone; exit code 0 if every step went as it should:
    postern demo --exit

It listens on 127.0.0.1 only and leaves nothing behind.")]
pub(crate) struct DemoArgs {
    /// End after the show
    #[arg(long)]
    exit: bool,
}

pub(crate) fn run(args: &DemoArgs) -> Result<Exit, Stop> {
    let folder = tempfile::Builder::new()
        .prefix("postern-demo-")
        .tempdir()
        .map_err(|error| Stop::failed(format!("cannot make a folder for temporary files: {error}")))?;
    let state = StateDir::open(folder.path()).map_err(Stop::failed)?;
    let _diagnostics = serving::log_to_stderr("error")?;
    block_on(demonstrate(args, &state))?;
    Ok(Exit::Done)
}

async fn demonstrate(args: &DemoArgs, state: &StateDir) -> Result<(), Stop> {
    let (key, _) = init::prepare(state)?;
    let service = SampleService::start().await?;
    let [data, admin] = free_ports();
    let running = serving::start(config(&service, data, admin)?, state.clone(), Startup::default()).await?;
    let data = running.data_addresses().first().copied().unwrap_or(data);
    let reading =
        [Caveat::method(&["GET"]).map_err(Stop::failed)?, Caveat::expires("1h", now()).map_err(Stop::failed)?];
    let full = minted(state, &key, &[])?;
    let reader = minted(state, &key, &reading)?;
    introduce(&service, data, &running)?;
    let admin_token = state.token(ADMIN_TOKEN).map_err(Stop::failed)?;
    let admin = format!("http://{}", running.admin_address());
    let show = Show {
        gateway: format!("http://{data}"),
        transport: Transport::default(),
        admin: AdminClient::new(&admin, admin_token, None, Options { url: "--admin", authorities: "--admin-ca" })?,
        full: &full,
        reader: &reader,
        now: now(),
    };
    let shown = show.run().await;
    if let Err(stop) = shown {
        running.drain().await;
        return Err(stop);
    }
    if args.exit {
        output::line("\nEverything went as it should.")?;
        running.drain().await;
        return Ok(());
    }
    invite(state, data, running.admin_address(), &full, &reader)?;
    // Not before: whoever wants to see no more of the show can end it at once.
    serving::until_signal(running, None, Signals::catch()?).await
}

fn config(service: &SampleService, data: SocketAddr, admin: SocketAddr) -> Result<Config, Stop> {
    let name = ResourceName::parse(RESOURCE).map_err(Stop::failed)?;
    let upstream = Upstream::parse(&format!("http://{}", service.address)).map_err(Stop::failed)?;
    Ok(Config {
        listen: vec![data],
        workers: Some(1),
        admin: Admin { listen: admin },
        access_log: AccessLog::Off,
        resources: vec![Resource::plain(name, upstream)],
        ..Config::defaults()
    })
}

/// The usual ports if nobody has them, otherwise whichever the system gives.
fn free_ports() -> [SocketAddr; 2] {
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    // Held at once, so that both are free together; given back when this returns.
    let held: Vec<_> = PORTS.iter().map(|port| TcpListener::bind(address(*port))).collect();
    if held.iter().all(Result::is_ok) { PORTS.map(address) } else { [address(0); 2] }
}

fn minted(state: &StateDir, key: &SigningKey, caveats: &[Caveat]) -> Result<TokenText, Stop> {
    let resource = ResourceName::parse(RESOURCE).map_err(Stop::failed)?;
    let right = Right { resource, operation: Operation::any() };
    mint(key, super::mint::key_id(state, key)?, &[right], caveats).map_err(Stop::failed)
}

fn introduce(service: &SampleService, data: SocketAddr, running: &Running) -> Result<(), Stop> {
    let paint = Paint::for_stdout();
    output::line(&format!("A sample service with a few orders runs on {}.", service.address))?;
    output::line(&format!("The gateway stands before it on {}.", paint.bold(&format!("http://{data}/orders/"))))?;
    output::line(&format!("Its administration is on http://{}.", running.admin_address()))?;
    output::line("Two capabilities were minted with its root key: one for everything on `orders`, one for reading.")
}

/// The files and lines to go on with.
fn invite(
    state: &StateDir,
    data: SocketAddr,
    admin: SocketAddr,
    full: &TokenText,
    reader: &TokenText,
) -> Result<(), Stop> {
    let full = state.write_token("full", full.expose()).map_err(Stop::failed)?;
    let reader = state.write_token("reader", reader.expose()).map_err(Stop::failed)?;
    let narrowed = state.path().join("narrowed.token");
    let shown = |path: &std::path::Path| path.display().to_string();
    let url = format!("http://{data}/orders");
    let lines = [
        format!("curl -i {url}/1"),
        curl(&full, &format!("{url}/")),
        curl(&reader, &format!("{url}/1")),
        format!("{} -X DELETE", curl(&reader, &format!("{url}/1"))),
        format!("postern inspect --token-file {} --state {}", shown(&reader), shown(state.path())),
        format!("postern attenuate --token-file {} --path /1 --expires 5m --out {}", shown(&reader), shown(&narrowed)),
        curl(&narrowed, &format!("{url}/1")),
        format!("postern revoke --token-file {} --state {}", shown(&narrowed), shown(state.path())),
        format!("postern log --state {}", shown(state.path())),
        format!(
            "curl -H \"Authorization: Bearer $(cat {})\" http://{admin}/resources",
            shown(&state.token_path(ADMIN_TOKEN))
        ),
    ];
    let paint = Paint::for_stdout();
    output::line(&format!(
        "\n{}",
        paint.bold("Everything went as it should, and stays up. Try it from another terminal:")
    ))?;
    for line in lines {
        output::line(&format!("  {line}"))?;
    }
    output::line("Ctrl-C ends it, and removes its files.")
}
