//! What upstreams do: answer early, answer nonsense, go stale, break off.

use super::*;

/// HOSTILE T31: whatever a backend says, no byte of it reaches the next client, and its connection is never used again.
#[test]
fn a_bad_upstream_is_answered_502_and_its_connection_never_used_again() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let flood = "HTTP/1.1 103 Hint\r\n\r\n".repeat(40);
    let scripts: Vec<&str> = vec![
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nevil",
        "HTTP/1.1 200 OK\nContent-Length: 4\n\nevil",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nevil",
        "HTTP/1.1 204 No\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switch\r\nUpgrade: evil\r\nConnection: upgrade\r\n\r\nevil",
        "HTTP/1.1 2000 OK\r\n\r\nevil",
        "HTTP/3.0 200 OK\r\n\r\nevil",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "",
        &long,
        &flood,
    ];
    for script in scripts {
        test(async move {
            let world = World::new().await;
            let mut client = world.client().await;
            client.send(GET).await;
            let mut upstream = world.accept().await;
            upstream.head().await;
            // The gateway may have had enough before all of it is sent.
            let _ = upstream.io.write_all(script.as_bytes()).await;
            let _ = upstream.io.shutdown().await;
            let name = &script[..script.len().min(80)];
            let answer = client.until("F\r\ncontent-length: 1\r\n\r\n!").await;
            assert!(answer.contains("HTTP/1.1 502") && !answer.contains("evil"), "{name:?}: {answer}");
            assert_eq!(world.way.pool.idle(), 0, "{name:?}");
            client.send(GET).await;
            let mut upstream = world.accept().await;
            upstream.head().await;
            upstream.send(OK).await;
            assert_eq!(client.until("ok").await, "HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\nok", "{name:?}");
        });
    }
}

/// Bytes behind a complete response: the response stands, what follows it is nobody's.
#[test]
fn surplus_bytes_never_reach_anybody() {
    for script in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nevil",
        "HTTP/1.1 204 ok\r\n\r\nevil",
        "HTTP/1.1 304 ok\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        test(async move {
            let world = World::new().await;
            let mut client = world.client().await;
            client.send(GET).await;
            let mut upstream = world.accept().await;
            upstream.head().await;
            upstream.send(script).await;
            let answer = if script.contains("200 OK") { client.until("ok").await } else { client.head().await };
            assert!(!answer.contains("evil"), "{answer}");
            client.send("GET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
            let mut fresh = world.accept().await;
            assert!(fresh.head().await.starts_with("GET /b"));
            fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine").await;
            let answer = client.rest().await;
            assert!(answer.ends_with("mine") && !answer.contains("evil"), "{answer}");
        });
    }
}

#[test]
fn a_response_that_breaks_off_never_looks_whole() {
    for (script, sent) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", "part"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\npart", "part"),
    ] {
        test(async move {
            let world = World::new().await;
            let mut client = world.client().await;
            client.send(GET).await;
            let mut upstream = world.accept().await;
            upstream.head().await;
            upstream.send(script).await;
            client.until(sent).await;
            drop(upstream);
            let rest = client.rest().await;
            assert!(!rest.contains("0\r\n\r\n") && !rest.contains("HTTP/1.1"), "{rest}");
            assert!(world.log()[0].contains("broken"), "{:?}", world.log());
        });
    }
}

/// A kept connection that died unseen: repeated once where repeating is safe, never for a POST (HOSTILE T32).
#[test]
fn a_stale_connection_is_replayed_once_and_never_for_a_post() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send(GET).await;
        let mut stale = world.accept().await;
        stale.head().await;
        stale.send(OK).await;
        client.until("ok").await;

        client.send("GET /again HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(stale.head().await.starts_with("GET /again"));
        drop(stale);
        let mut fresh = world.accept().await;
        assert!(fresh.head().await.starts_with("GET /again"));
        fresh.send(OK).await;
        client.until("ok").await;

        client.send("POST /once HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await;
        assert!(fresh.head().await.starts_with("POST /once"));
        drop(fresh);
        assert!(client.until("!").await.starts_with("HTTP/1.1 502"));

        // A fresh connection that dies is not stale: one attempt, one answer.
        client.send(GET).await;
        let mut fresh = world.accept().await;
        fresh.head().await;
        drop(fresh);
        assert!(client.until("!").await.starts_with("HTTP/1.1 502"));
        assert!(futures_none(world.upstream.accept()).await);
    });
}

/// Whether a future has nothing to say when everybody else has had a turn.
async fn futures_none<T>(future: impl Future<Output = T>) -> bool {
    let mut future = std::pin::pin!(future);
    for _ in 0..100 {
        tokio::task::yield_now().await;
        let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        if poll {
            return false;
        }
    }
    true
}

/// A POST goes up once, so the connection that it takes is looked at with care.
#[test]
fn a_post_is_not_sent_on_a_connection_that_the_upstream_has_closed() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send(GET).await;
        let mut stale = world.accept().await;
        stale.head().await;
        stale.send(OK).await;
        client.until("ok").await;
        drop(stale);
        client.send("POST /once HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc").await;
        let mut fresh = world.accept().await;
        fresh.until("abc").await;
        fresh.send(OK).await;
        assert!(client.until("ok").await.starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn an_upstream_that_is_down_is_answered_502() {
    test(async {
        let mut world = World::new().await;
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        world.upstream = elsewhere;
        let mut client = world.client().await;
        client.send(GET).await;
        assert!(client.until("!").await.starts_with("HTTP/1.1 502"));
        client.send("HEAD /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
        assert!(client.rest().await.ends_with("\r\n\r\n"), "an answer to HEAD has no body");
    });
}

/// The answer may come while the body still goes up; the rest of the body is not sent, and is never a request.
#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nbegin").await;
        let mut upstream = world.accept().await;
        upstream.until("begin").await;
        upstream.send("HTTP/1.1 413 Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig").await;
        drop(upstream);
        let answer = client.until("big").await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("connection: close"), "{answer}");
        let _ = client.io.write_all(&vec![b'x'; 999_995]).await;
        let _ = client.io.shutdown().await;
        assert_eq!(client.rest().await, "");
        assert_eq!(world.way.pool.idle(), 0);

        // A short rest is read away and the connection kept.
        let mut client = world.client().await;
        client.send("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nbegin").await;
        let mut upstream = world.accept().await;
        upstream.until("begin").await;
        upstream.send("HTTP/1.1 413 Large\r\nContent-Length: 3\r\n\r\nbig").await;
        assert!(!client.until("big").await.contains("connection: close"));
        client.send(format!("{}{GET}", "x".repeat(95))).await;
        let mut upstream = world.accept().await;
        assert!(upstream.head().await.starts_with("GET /a"));
        upstream.send(OK).await;
        client.until("ok").await;
    });
}

#[test]
fn responses_without_a_body_keep_their_length_and_the_connection() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let mut upstream = world.accept().await;
        for (answer, next, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n", GET, "content-length: 70\r\n\r\n"),
            ("HTTP/1.1 304 Not\r\nContent-Length: 70\r\n\r\n", GET, "content-length: 70\r\n\r\n"),
            ("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", GET, "HTTP/1.1 204 X\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", GET, "content-length: 0\r\n\r\n"),
        ] {
            upstream.head().await;
            upstream.send(answer).await;
            let head = client.head().await;
            assert!(head.ends_with(expected), "{head}");
            client.send(next).await;
        }
    });
}

#[test]
fn a_body_until_close_is_chunked_for_a_new_client_and_closed_for_an_old_one() {
    for (version, body) in [("1.1", "3\r\nall\r\n0\r\n\r\n"), ("1.0", "all")] {
        test(async move {
            let world = World::new().await;
            let mut client = world.client().await;
            client.send(format!("GET /a HTTP/{version}\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")).await;
            let mut upstream = world.accept().await;
            upstream.head().await;
            upstream.send("HTTP/1.1 200 OK\r\n\r\n").await;
            client.head().await;
            upstream.send("all").await;
            drop(upstream);
            if version == "1.1" {
                assert_eq!(client.until("0\r\n\r\n").await, body);
            } else {
                assert_eq!(client.rest().await, body);
            }
        });
    }
}

#[test]
fn an_old_client_gets_a_chunked_answer_without_chunks_and_no_1xx() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send("GET /a HTTP/1.0\r\nHost: h\r\n\r\n").await;
        let mut upstream = world.accept().await;
        upstream.head().await;
        upstream.send("HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nal\r\n1\r\nl\r\n0\r\nSum: 1\r\n\r\n").await;
        let answer = client.rest().await;
        assert_eq!(answer, "HTTP/1.1 200 X\r\nconnection: close\r\n\r\nall");
    });
}

#[test]
fn trailers_come_down_without_what_is_not_theirs_to_say() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send(GET).await;
        let mut upstream = world.accept().await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\nPostern_Receipt: evil\r\n\r\n").await;
        assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(client.until("\r\n\r\n").await, "2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n");
    });
}
