//! Hand on less than you have: `cargo run --example attenuate -- TOKEN PATH` prints a token for reading that path, for ten
//! minutes.

use std::io::Write as _;

use postern_client::{Caveat, attenuate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [token, path] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("usage: attenuate TOKEN PATH".into());
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let caveats = [Caveat::path(&[path])?, Caveat::Method(vec!["GET".parse()?]), Caveat::expires("10m", now)?];
    writeln!(std::io::stdout(), "{}", attenuate(token, &caveats)?.expose())?;
    Ok(())
}
