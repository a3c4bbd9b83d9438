//! Call a service with a capability: `cargo run --example call --features http-client -- TOKEN URL [MOUNT]`. With a mount, such as
//! `/orders`, the token that is sent is narrowed to this request.

use std::io::Write as _;

use postern_client::{Client, SendError};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (token, url, mount) = match &arguments[..] {
        [token, url] => (token, url, None),
        [token, url, mount] => (token, url, Some(mount)),
        _ => return Err("usage: call TOKEN URL [MOUNT]".into()),
    };
    let client = Client::new(token);
    let client = match mount {
        Some(mount) => client.narrowing(mount),
        None => client,
    };
    let mut out = std::io::stdout();
    match client.get(url).await {
        Ok(answer) => writeln!(out, "{}\n{}", answer.status(), String::from_utf8_lossy(answer.body()))?,
        Err(SendError::Problem { problem, .. }) => writeln!(out, "refused, {}: {problem}", problem.kind)?,
        Err(error) => writeln!(out, "{error}; sending it again: {:?}", error.retry())?,
    }
    Ok(())
}
