//! Is this message authorised? `cargo run --example verify -- root.pub TOKEN METHOD TARGET`

use std::io::Write as _;

use postern_client::Verifier;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [key, token, method, target] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("usage: verify root.pub TOKEN METHOD TARGET (below the resource `orders`)".into());
    };
    let verifier = Verifier::of("orders")?.key_file(key)?;
    let request =
        http::Request::builder().method(method.as_str()).uri(target).header("authorization", format!("Bearer {token}"));
    let (head, ()) = request.body(())?.into_parts();
    let capability = verifier.verify(&head)?;
    writeln!(std::io::stdout(), "allowed by the capability {}", capability.short_id())?;
    Ok(())
}
