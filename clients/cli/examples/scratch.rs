//! Scratch: the parts of the command line that the black-box tests of the data plane need.
use postern_capabilities::{attenuate, caveat::Caveat, keys::KeyId, mint, resource::*};
use postern_gateway::{config::Config, gateway, state::StateDir};
use std::path::PathBuf;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let state = PathBuf::from(std::env::var("POSTERN_STATE").unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut rest = args[1..].iter();
    let (mut names, mut ops, mut flags): (Vec<String>, Vec<String>, Vec<(String, Vec<String>)>) =
        (vec![], vec!["*".into()], vec![]);
    if ["mint", "attenuate"].contains(&args[0].as_str()) {
        while let Some(a) = rest.next() {
            if a == "--allow" {
                ops = rest.next().unwrap().split(',').map(Into::into).collect();
            } else if a == "-" {
            } else if let Some(f) = a.strip_prefix("--") {
                let v = if f == "no-upgrade" { String::new() } else { rest.next().unwrap().clone() };
                match flags.iter_mut().find(|(n, _)| n == f) {
                    Some((_, vs)) => vs.push(v),
                    None => flags.push((f.into(), vec![v])),
                }
            } else {
                names.push(a.clone());
            }
        }
    }
    let caveats = || flags.iter().flat_map(|(f, v)| Caveat::of_flag(f, v, now).unwrap()).collect::<Vec<_>>();
    match args[0].as_str() {
        "init" => {
            let dir = StateDir::create(state).unwrap();
            let key = dir.root_key_or_create().unwrap().0;
            let right = Right { resource: ResourceName::parse("postern").unwrap(), operation: Operation::any() };
            let t = mint::mint(&key, KeyId(0), &[right], &[]).unwrap();
            dir.write_token("admin", t.expose()).unwrap();
        }
        "mint" => {
            let dir = StateDir::open(state).unwrap();
            let key = dir.root_key().unwrap();
            let rights: Vec<Right> = names
                .iter()
                .flat_map(|n| {
                    ops.iter().map(move |o| Right {
                        resource: ResourceName::parse(n).unwrap(),
                        operation: if o == "*" { Operation::any() } else { Operation::parse(o).unwrap() },
                    })
                })
                .collect();
            let id = dir.key_id(&key.public()).ok().flatten().unwrap_or(KeyId(0));
            println!("{}", mint::mint(&key, id, &rights, &caveats()).unwrap().expose());
        }
        "attenuate" => {
            let token = std::io::read_to_string(std::io::stdin()).unwrap();
            println!("{}", attenuate::attenuate(token.trim(), &caveats()).unwrap().expose());
        }
        "serve" => {
            tracing_subscriber::fmt()
                .with_writer(std::io::stderr)
                .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                .init();
            let config = Config::load(&PathBuf::from(&args[2])).unwrap();
            let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            rt.block_on(async {
                let running = gateway::start(config, StateDir::open(state).unwrap()).await.unwrap();
                let _ = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap().recv().await;
                running.drain().await
            });
        }
        other => {
            eprintln!("{other} is not here");
            std::process::exit(2)
        }
    }
}
