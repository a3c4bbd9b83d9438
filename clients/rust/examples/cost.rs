//! What deciding and narrowing cost, for `tests/bench/verifier.py`, which counts the instructions: `cost WHAT TIMES`.
//!
//! `gateway` is what the gateway does for a message whose token it knows: find the plan, decide. `facts` is the same by the
//! verifier, `request` begins with a request's fields. `narrow` is a narrowing to a message that is new, `open` a token that is new.

use std::net::IpAddr;
use std::sync::Arc;

use postern_capabilities::message::Message;
use postern_capabilities::narrow::{Narrowable, Narrower};
use postern_capabilities::plans::PlanCache;
use postern_capabilities::revocation::Standing;
use postern_capabilities::verifier::{Request, Verifier};
use postern_capabilities::{KeyRing, Unverified, authorize};
use postern_client::{Caveat, KeyId, Right, SigningKey, mint};

const NOW: u64 = 1_800_000_000;
const BUDGET: u64 = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, times] = &arguments[..] else {
        return Err("usage: cost gateway|facts|request|narrow|open TIMES".into());
    };
    let times: usize = times.parse()?;
    let key = SigningKey::generate();
    let ring = KeyRing::of(KeyId(1), key.public());
    let right = Right { resource: "orders".parse()?, operation: "GET".parse()? };
    let caveats = [Caveat::path(&["/v1/**"])?, Caveat::expires("1h", NOW)?];
    let token = mint(&key, KeyId(1), &[right], &caveats)?;
    let token = token.expose();
    let client = IpAddr::from([127, 0, 0, 1]);
    let standing = Standing::new(ring.clone());
    let capability = Arc::new(Unverified::parse(token)?.verify(&standing, BUDGET)?);
    let verifier = Verifier::new("orders".parse()?, ring);
    let message = || Message { backend: Some("orders"), ..Message::new("orders", "GET", "/v1/42", NOW, client) };
    let bearer = format!("Bearer {token}");
    let fields = [
        ("host", "api.example.com"),
        ("user-agent", "bench/1"),
        ("accept", "*/*"),
        ("authorization", bearer.as_str()),
        ("x-forwarded-for", "10.1.2.3"),
        ("x-forwarded-host", "api.example.com"),
        ("x-forwarded-proto", "https"),
    ];
    let mut plans = PlanCache::new(100, 1 << 20);
    plans.insert(token, Arc::clone(&capability));
    verifier.open_token(token)?;
    let narrower = Narrower::new(BUDGET);
    let narrowable = Narrowable::of(token, &capability)?;
    for _ in 0..times {
        match what.as_str() {
            "gateway" => {
                let known = plans.get(token).ok_or("it was just put there")?;
                let _ = authorize(&known, message(), &standing)?;
            }
            "facts" => {
                let known = verifier.open_token(token)?;
                let _ = verifier.check(&known, message())?;
            }
            "request" => {
                let pairs = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
                let received = verifier.receive(Request::new("GET", "/v1/42", Some(client)), pairs)?;
                verifier.verify(&received, None, NOW)?;
            }
            "narrow" => drop(narrower.narrow(&narrowable, &message(), NOW + 60)?),
            "open" => drop(Unverified::parse(token)?.verify(&standing, BUDGET)?),
            other => return Err(format!("{other} is not known").into()),
        }
    }
    Ok(())
}
