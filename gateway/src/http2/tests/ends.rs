//! How streams end, told by the frames: which resets come, what they say, and what an upstream may take for an end.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::harness::{Gate, listen, local, ok};
use super::hostile::{DATA, END_STREAM, HEADERS, RST_STREAM, SETTINGS, frame};
use super::rest::{next, open, post};
use crate::limits::Limits;

const NO_ERROR: [u8; 4] = [0; 4];
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const INTERNAL_ERROR: [u8; 4] = [0, 0, 0, 2];
const INITIAL_WINDOW_SIZE: u8 = 4;

/// A request that its client takes back is half a request, whatever the reset says: a service must not take it for whole.
#[tokio::test]
async fn a_reset_upload_never_looks_complete() {
    local(async {
        for code in [NO_ERROR, CANCEL, INTERNAL_ERROR] {
            let (listener, upstream) = listen().await;
            let gate = Gate::before(&upstream);
            let mut wire = post(&gate, &gate.token).await;
            wire.write_all(&frame(DATA, 0, 1, b"half")).await.expect("written");
            let (mut service, _) = listener.accept().await.expect("accepted");
            let mut seen = Vec::new();
            let mut bytes = [0; 4096];
            while !seen.ends_with(b"half\r\n") {
                let length = service.read(&mut bytes).await.expect("the first half");
                seen.extend_from_slice(&bytes[..length]);
            }
            wire.write_all(&frame(RST_STREAM, 0, 1, &code)).await.expect("written");
            seen.clear();
            service.read_to_end(&mut seen).await.expect("an end");
            assert!(seen.is_empty(), "{code:?}: {seen:?}");
        }
    })
    .await;
}

/// The next HEADERS, DATA or RST_STREAM frames on stream 1 up to the end, as their kinds; the last one's payload.
async fn frames(wire: &mut tokio::io::DuplexStream) -> (Vec<u8>, Vec<u8>) {
    let mut kinds = Vec::new();
    loop {
        let (kind, flags, payload) = next(wire, 1, &[HEADERS, DATA, RST_STREAM]).await;
        kinds.push(kind);
        if kind == RST_STREAM || flags & END_STREAM != 0 {
            return (kinds, payload);
        }
    }
}

#[tokio::test]
async fn an_answers_last_data_ends_the_stream() {
    local(async {
        let (listener, upstream) = listen().await;
        let gate = Gate::before(&upstream);
        for (answer, kinds) in [
            (ok("all"), vec![HEADERS, DATA]),
            (ok(""), vec![HEADERS]),
            (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), vec![HEADERS]),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), vec![HEADERS, DATA]),
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
                    .to_vec(),
                vec![HEADERS; 3],
            ),
        ] {
            let mut wire = open(&gate, &gate.token, "GET", END_STREAM, &[]).await;
            let (mut service, _) = listener.accept().await.expect("accepted");
            assert!(service.read(&mut [0; 4096]).await.expect("a head") > 0);
            service.write_all(&answer).await.expect("written");
            assert_eq!(frames(&mut wire).await.0, kinds, "{}", String::from_utf8_lossy(&answer));
        }
    })
    .await;
}

#[tokio::test]
async fn a_service_that_breaks_off_is_an_error_and_a_revocation_is_a_cancellation() {
    local(async {
        for revoked in [false, true] {
            let (listener, upstream) = listen().await;
            let gate = Gate::before(&upstream);
            let mut wire = open(&gate, &gate.token, "GET", END_STREAM, &[]).await;
            let (mut service, _) = listener.accept().await.expect("accepted");
            assert!(service.read(&mut [0; 4096]).await.expect("a head") > 0);
            service.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.expect("written");
            next(&mut wire, 1, &[DATA]).await;
            if revoked {
                gate.revoke();
            } else {
                drop(service);
            }
            let (kinds, reason) = frames(&mut wire).await;
            assert_eq!((kinds, reason), (vec![RST_STREAM], if revoked { CANCEL } else { INTERNAL_ERROR }.to_vec()));
        }
    })
    .await;
}

/// A client that never opens its window holds neither the service's connection nor the stream for long.
#[tokio::test]
async fn a_window_that_never_opens_ends_the_stream() {
    local(async {
        let limits = Limits { body_stall_timeout: Duration::from_millis(30), ..Limits::default() };
        let (listener, upstream) = listen().await;
        let gate = Gate::with(&upstream, limits, |_| {});
        let no_window = frame(SETTINGS, 0, 0, &[0, INITIAL_WINDOW_SIZE, 0, 0, 0, 0]);
        let mut wire = open(&gate, &gate.token, "GET", END_STREAM, &no_window).await;
        let (mut service, _) = listener.accept().await.expect("accepted");
        assert!(service.read(&mut [0; 4096]).await.expect("a head") > 0);
        service.write_all(&ok("unread")).await.expect("written");
        assert_eq!(frames(&mut wire).await, (vec![HEADERS, RST_STREAM], CANCEL.to_vec()));
        // A refusal's own few bytes wait no longer either.
        let mut wire = open(&gate, "nonsense", "GET", END_STREAM, &no_window).await;
        assert_eq!(frames(&mut wire).await, (vec![HEADERS, RST_STREAM], INTERNAL_ERROR.to_vec()));
    })
    .await;
}

/// A byte now and then is progress, and would hold a place at the service for as long as its sender likes.
#[tokio::test]
async fn a_body_that_trickles_ends() {
    local(async {
        let limits =
            Limits { body_rate_min: Some(1 << 20), body_rate_window: Duration::from_millis(1), ..Limits::default() };
        for (resource_says, ends) in [(None, true), (Some(None), false)] {
            let (listener, upstream) = listen().await;
            let gate = Gate::with(&upstream, limits.clone(), |resource| resource.body_rate_min = resource_says);
            let mut wire = open(&gate, &gate.token, "POST", 0, &[]).await;
            let (mut service, _) = listener.accept().await.expect("accepted");
            assert!(service.read(&mut [0; 4096]).await.expect("a head") > 0);
            let mut ticks = tokio::time::interval(Duration::from_millis(2));
            for _ in 0..3 {
                ticks.tick().await;
                wire.write_all(&frame(DATA, 0, 1, b"x")).await.expect("written");
            }
            if ends {
                service.read_to_end(&mut Vec::new()).await.expect("an end");
                assert_eq!(frames(&mut wire).await.0[0], HEADERS, "408, and not just a reset");
            } else {
                wire.write_all(&frame(DATA, END_STREAM, 1, b"")).await.expect("written");
                let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
                while !seen.ends_with(b"0\r\n\r\n") {
                    let length = service.read(&mut bytes).await.expect("the whole body");
                    assert!(length > 0);
                    seen.extend_from_slice(&bytes[..length]);
                }
            }
        }
    })
    .await;
}
