//! What a client still sends after its answer, as raw frames: its stream ends without a reset where it ends soon.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::harness::{Gate, Service, listen, local, ok};
use super::hostile::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, SETTINGS, frame, header_block};
use crate::limits::Limits;

const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// The next frame of these kinds on a stream.
pub(super) async fn next(wire: &mut DuplexStream, stream: u8, kinds: &[u8]) -> (u8, u8, Vec<u8>) {
    loop {
        let mut head = [0; 9];
        wire.read_exact(&mut head).await.expect("a frame");
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        wire.read_exact(&mut payload).await.expect("a whole frame");
        if head[8] == stream && kinds.contains(&head[3]) {
            return (head[3], head[4], payload);
        }
    }
}

/// Opens stream 1 with a message whose body is to follow.
pub(super) async fn post(gate: &Gate, token: &str) -> DuplexStream {
    open(gate, token, "POST", 0, &[]).await
}

/// Opens stream 1, after some other frames.
pub(super) async fn open(gate: &Gate, token: &str, method: &str, flags: u8, before: &[u8]) -> DuplexStream {
    let (mut wire, _served) = gate.wire();
    let authorization = format!("Bearer {token}");
    let fields = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "gate.example"),
        (":path", "/orders"),
        ("authorization", &authorization),
    ];
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(before);
    bytes.extend(frame(HEADERS, END_HEADERS | flags, 1, &header_block(&fields)));
    wire.write_all(&bytes).await.expect("written");
    wire
}

async fn answered(wire: &mut DuplexStream) {
    loop {
        let (kind, flags, _) = next(wire, 1, &[HEADERS, DATA, RST_STREAM]).await;
        assert_ne!(kind, RST_STREAM, "the answer comes before any reset");
        if flags & END_STREAM != 0 {
            return;
        }
    }
}

/// Ends the body, and asks for a sign of life behind which no reset can hide.
async fn ends_in_peace(wire: &mut DuplexStream) {
    wire.write_all(&frame(DATA, END_STREAM, 1, b"hello")).await.expect("written");
    for _ in 0..3 {
        wire.write_all(&frame(PING, 0, 0, &[7; 8])).await.expect("written");
        loop {
            let mut head = [0; 9];
            wire.read_exact(&mut head).await.expect("a frame");
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            wire.read_exact(&mut payload).await.expect("a whole frame");
            assert_ne!(head[3], RST_STREAM);
            if head[3] == PING {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_waits_for_the_body_to_end() {
    local(async {
        let (service, upstream) = Service::start(|_| ok("")).await;
        let gate = Gate::before(&upstream);
        let mut wire = post(&gate, "nonsense").await;
        answered(&mut wire).await;
        ends_in_peace(&mut wire).await;
        assert!(service.seen.borrow().is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_early_answer_waits_for_the_body_to_end_and_keeps_the_window_open() {
    local(async {
        let (listener, upstream) = listen().await;
        let gate = Gate::before(&upstream);
        let mut wire = post(&gate, &gate.token).await;
        let (mut service, _) = listener.accept().await.expect("accepted");
        assert!(service.read(&mut [0; 4096]).await.expect("a head") > 0);
        service.write_all(&ok("early")).await.expect("written");
        answered(&mut wire).await;
        for _ in 0..3 {
            wire.write_all(&frame(DATA, 0, 1, &[b'x'; 16_000])).await.expect("written");
        }
        let (kind, ..) = next(&mut wire, 1, &[WINDOW_UPDATE, RST_STREAM]).await;
        assert_eq!(kind, WINDOW_UPDATE);
        ends_in_peace(&mut wire).await;
    })
    .await;
}

#[tokio::test]
async fn more_than_may_be_dropped_or_later_than_that_is_reset() {
    local(async {
        let (_service, upstream) = Service::start(|_| ok("")).await;
        let few_bytes = Limits { discard_bytes_max: 4, ..Limits::default() };
        let short = Limits { linger_timeout: Duration::from_millis(20), ..Limits::default() };
        for (limits, sent) in [(few_bytes, &b"hello"[..]), (short, b"")] {
            let gate = Gate::with(&upstream, limits, |_| {});
            let mut wire = post(&gate, "nonsense").await;
            answered(&mut wire).await;
            wire.write_all(&frame(DATA, 0, 1, sent)).await.expect("written");
            let (_, _, reason) = next(&mut wire, 1, &[RST_STREAM]).await;
            assert_eq!(reason, [0; 4], "NO_ERROR");
        }
    })
    .await;
}
