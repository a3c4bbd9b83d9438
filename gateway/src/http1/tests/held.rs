//! Messages that are decided by their body: read whole, then sent up as they were read, or answered.

use super::*;

/// A message that is undecided without its body; the way lets it pass if it does not say `no`.
fn post(fields: &str, body: &str) -> String {
    format!("POST /by-body HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}")
}

#[test]
fn a_body_goes_up_as_it_was_read_however_it_came() {
    test(async {
        let world = World::new().await;
        let body = "b".repeat(40_000);
        let halves = (&body[..17], &body[17..]);
        let chunked = format!("11\r\n{}\r\n{:x};x=y\r\n{}\r\n0\r\n\r\n", halves.0, halves.1.len(), halves.1);
        let messages = [
            post(&format!("Content-Length: {}\r\n", body.len()), &body),
            post("Transfer-Encoding: chunked\r\n", &chunked),
        ];
        let mut client = world.client().await;
        for message in messages {
            for stretch in message.as_bytes().chunks(9_000) {
                client.send(stretch).await;
            }
            let mut upstream = world.accept().await;
            let head = upstream.head().await;
            assert!(head.contains("content-length: 40000\r\n") && !head.contains("chunked"), "{head}");
            assert_eq!(upstream.bytes(body.len()).await, body.as_bytes());
            upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
            assert!(client.until("ok").await.starts_with("HTTP/1.1 200"));
        }
        let log = "POST /by-body forwarded 200 in 40000 out 2";
        assert_eq!(world.log(), [log, log]);
    });
}

#[test]
fn nothing_goes_up_before_the_body_is_whole_and_decided() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send(post("Content-Length: 4\r\n", "no")).await;
        client.send("no").await;
        client.send(GET).await;
        assert!(client.until("no").await.starts_with("HTTP/1.1 403"));
        // The refused body is done with, and the next request begins behind it.
        let mut upstream = world.accept().await;
        assert!(upstream.head().await.starts_with("GET /a"));
        upstream.send(OK).await;
        assert!(client.until("ok").await.contains("HTTP/1.1 200"));
        assert_eq!(world.log(), ["POST /by-body refused in 0 out 0", "GET /a forwarded 200 in 0 out 2"]);
    });
}

#[test]
fn a_client_that_waits_for_a_sign_gets_it() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send(post("Content-Length: 3\r\nExpect: 100-continue\r\n", "")).await;
        assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("yes").await;
        let mut upstream = world.accept().await;
        assert!(!upstream.head().await.contains("100-continue"));
        assert_eq!(upstream.bytes(3).await, b"yes");
        upstream.send(OK).await;
        assert!(client.until("ok").await.starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn a_body_that_cannot_be_held_is_refused() {
    test(async {
        let world = World::with(Limits { body_stall_timeout: TICK, ..Limits::default() }, None).await;
        let too_long = "x".repeat(UNDECIDED_BYTES_MAX as usize + 1);
        for (message, status) in [
            (post(&format!("Content-Length: {}\r\n", too_long.len()), ""), "413"),
            (post("Transfer-Encoding: chunked\r\n", &format!("{:x}\r\n", too_long.len())), "413"),
            (post("Transfer-Encoding: chunked\r\n", "1\r\na\r\n0\r\nx: y\r\n\r\n"), "400"),
            (post("Transfer-Encoding: chunked\r\n", "1\r\nab\r\n"), "400"),
            (post("Content-Length: 3\r\n", "ab"), "408"),
        ] {
            let mut client = world.client().await;
            client.send(&message).await;
            let answer = client.rest().await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains("close"),
                "{message}: {answer}"
            );
        }
        let mut client = world.client().await;
        client.send(post("Content-Length: 3\r\n", "ab")).await;
        client.half_close().await;
        assert!(client.rest().await.starts_with("HTTP/1.1 400"));
        assert!(world.log().iter().all(|line| !line.contains("forwarded")), "{:?}", world.log());
    });
}
