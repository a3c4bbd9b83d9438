//! A service that verifies for itself, behind a gateway with `forward_token = "narrowed"`:
//! `cargo run --example axum --features axum,http-client -- orders http://127.0.0.1:7400 127.0.0.1:3000`
//!
//! It takes its keys from the gateway and follows their rotations. Every handler is given the capability by which
//! its message is authorised; what is not authorised never reaches one.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use postern_client::{Capability, CapabilityLayer, Refresh, Verifier};
use tokio::net::TcpListener;

async fn order(capability: Capability) -> String {
    let client = capability.client().map_or("unknown".to_owned(), |client| client.to_string());
    format!("{} for {client}, by {}\n", capability.path(), capability.minted_id())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [resource, gateway, listen] = &arguments[..] else {
        return Err("usage: axum RESOURCE GATEWAY-URL LISTEN-ADDRESS".into());
    };
    // A retired key is refused here at most a second after it was retired; half a minute is the default.
    let refresh = Refresh { fresh: Duration::from_secs(1), interval_min: Duration::from_secs(1), ..Refresh::default() };
    let verifier = Verifier::of(resource)?.refresh(refresh).gateway(gateway).await?;
    let service = Router::new().fallback(get(order).post(order)).layer(CapabilityLayer::new(verifier));
    let listener = TcpListener::bind(listen).await?;
    writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
    axum::serve(listener, service.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
