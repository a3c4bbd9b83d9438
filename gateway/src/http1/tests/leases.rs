//! What a capability that falls does to a message under way: all of it ends, in both directions.

use std::sync::Arc;

use tokio::io::DuplexStream;

use super::*;
use crate::lease::terms::tests::{Scene, message};
use crate::lease::{Leases, Terms};

/// Bytes that the client's side takes before somebody reads them.
const CLIENT_ROOM: usize = 1024;

/// A message that hangs on a capability, over a connection of little room: the client's end, and what ends it.
struct Leased {
    client: DuplexStream,
    revoke: Box<dyn Fn()>,
}

fn leased(world: &World) -> Leased {
    let scene = Scene::new();
    let capability = scene.capability(&[]);
    let leases = Leases::new(Arc::clone(&scene.standing));
    world.way.lease.replace(Some(leases.hold(Terms::of(&capability, &message()))));
    let (client, served) = tokio::io::duplex(CLIENT_ROOM);
    spawn_local(serve(served, world.way.clone(), Rc::clone(&world.shared), Leaving::never()));
    let revoke = Box::new(move || {
        scene.standing.revoke(&capability.revocation_ids()[..1]);
        leases.settle();
    });
    Leased { client, revoke }
}

/// Sends this again and again for as long as somebody takes it.
fn flood(mut client: DuplexStream, stretch: &'static str) {
    spawn_local(async move { while client.write_all(stretch.as_bytes()).await.is_ok() {} });
}

/// The story: a service answered an upload before it was whole, the client read no more than the beginning of the answer, and the
/// body went on for minutes after the revocation was acknowledged.
#[test]
fn law_6_an_upload_after_an_early_answer_ends_with_its_capability() {
    for (framing, stretch) in [
        ("Content-Length: 1000000000", "0123456789abcdef"),
        ("Transfer-Encoding: chunked", "10\r\n0123456789abcdef\r\n"),
    ] {
        test(async move {
            let world = World::new().await;
            let Leased { mut client, revoke } = leased(&world);
            client
                .write_all(format!("POST /a HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n").as_bytes())
                .await
                .expect("sent");
            let mut upstream = world.accept().await;
            upstream.head().await;
            // The whole answer is in the gateway, and the client takes no more of it than there is room for.
            let answer = "x".repeat(8 * CLIENT_ROOM);
            upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())).await;
            flood(client, stretch);
            // It flows: far more than any buffer on the way holds.
            for _ in 0..64 {
                upstream.bytes(16 * 1024).await;
            }
            revoke();
            // What is in the sockets' buffers was sent before; then comes the end, and the flood goes on all the while.
            let rest = upstream.rest().await;
            assert!(rest.len() < 16 << 20, "{framing}: {} bytes", rest.len());
            assert!(world.log().is_empty() || world.log()[0].contains("200"), "{:?}", world.log());
        });
    }
}

/// Before any answer, and in the middle of one.
#[test]
fn law_6_an_upload_ends_with_its_capability_wherever_the_answer_is() {
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"] {
        test(async move {
            let world = World::new().await;
            let Leased { mut client, revoke } = leased(&world);
            client.write_all(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n").await.expect("sent");
            let mut upstream = world.accept().await;
            upstream.head().await;
            upstream.send(answer).await;
            flood(client, "0123456789abcdef");
            for _ in 0..64 {
                upstream.bytes(16 * 1024).await;
            }
            revoke();
            assert!(upstream.rest().await.len() < 16 << 20);
        });
    }
}
