//! What clients do: pipeline, smuggle, half-close, stall, vanish.

use std::time::Duration;

use super::*;

#[test]
fn pipelined_requests_are_answered_in_order_on_one_upstream_connection() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let mut upstream = world.accept().await;
        for (path, body) in [("GET /1", ""), ("POST /2", "abc"), ("GET /3", "")] {
            assert!(upstream.head().await.starts_with(path));
            assert_eq!(upstream.bytes(body.len()).await, body.as_bytes());
            upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len())).await;
        }
        for path in ["GET /1", "POST /2", "GET /3"] {
            assert!(client.until(path).await.starts_with("HTTP/1.1 200"));
        }
        assert_eq!(
            world.log(),
            ["GET /1 forwarded 200 in 0 out 6", "POST /2 forwarded 200 in 3 out 7", "GET /3 forwarded 200 in 0 out 6"]
        );
    });
}

/// HOSTILE T6, CVE-2025-4366: the body of a refused request must not become a request.
#[test]
fn the_body_of_a_refused_request_is_never_a_request() {
    test(async {
        let world = World::new().await;
        let smuggled = "GET /__smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
        let mut client = world.client().await;
        client
            .send(format!("POST /refused HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len()))
            .await;
        client.send("GET /after HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(client.until("no").await.starts_with("HTTP/1.1 403"));
        let mut upstream = world.accept().await;
        assert!(upstream.head().await.starts_with("GET /after"));
        upstream.send(OK).await;
        assert!(client.until("ok").await.starts_with("HTTP/1.1 200"));

        let mut client = world.client().await;
        client
            .send(format!("POST /refused HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"))
            .await;
        client.half_close().await;
        let answer = client.rest().await;
        assert!(answer.contains("connection: close") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
        assert_eq!(world.log().len(), 3);
    });
}

/// HOSTILE T2: an ambiguous head ends the connection, and nothing of it goes up.
#[test]
fn an_ambiguous_head_ends_the_connection() {
    test(async {
        let world = World::new().await;
        for framing in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: xchunked",
            "Content-Length: 1\r\nContent-Length: 2",
            "Transfer-Encoding : chunked",
            "Content-Length: 0\nX: y",
        ] {
            let mut client = world.client().await;
            client.send(format!("POST /a HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n0\r\n\r\nGET /__smuggled HTTP/1.1\r\nHost: h\r\n\r\n")).await;
            client.half_close().await;
            let answer = client.rest().await;
            assert!(
                answer.starts_with("HTTP/1.1 400") && answer.matches("HTTP/1.1").count() == 1,
                "{framing}: {answer}"
            );
        }
        assert!(world.log().iter().all(|entry| entry == "? fault 400 in 0 out 0"));
    });
}

/// A chunked body that breaks on its way: the upstream never gets an end for it, and the rest is never a request.
#[test]
fn a_broken_body_is_never_completed() {
    test(async {
        let world = World::new().await;
        for broken in ["5\r\nhelloX\r\n", "FFFFFFFFFFFFFFFFF\r\n", "5\nhello\r\n", "0\r\nContent-Length: 3\r\n\r\n"] {
            let mut client = world.client().await;
            client.send(format!("POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n{broken}GET /__smuggled HTTP/1.1\r\nHost: h\r\n\r\n")).await;
            client.half_close().await;
            let mut upstream = world.accept().await;
            let received = upstream.rest().await;
            assert!(!received.contains("0\r\n\r\n") && !received.contains("smuggled"), "{received}");
            let answer = client.rest().await;
            assert!(answer.starts_with("HTTP/1.1 400") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
        }
    });
}

#[test]
fn a_body_over_the_bound_is_refused_before_and_while_it_comes() {
    test(async {
        let world = World::with(Limits::default(), Some(10)).await;
        let mut client = world.client().await;
        client.send("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhello world").await;
        assert!(client.until("!").await.starts_with("HTTP/1.1 413"));
        client.send("POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n").await;
        let answer = client.until("!").await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("connection: close"), "{answer}");
    });
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send(GET).await;
        client.half_close().await;
        let mut upstream = world.accept().await;
        upstream.head().await;
        upstream.send(OK).await;
        assert!(client.rest().await.ends_with("\r\n\r\nok"));
    });
}

#[test]
fn a_client_that_vanishes_ends_the_upstream_exchange() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send(GET).await;
        let mut upstream = world.accept().await;
        upstream.head().await;
        client.io.set_zero_linger().expect("a reset");
        drop(client);
        assert_eq!(upstream.rest().await, "");
        assert_eq!(world.log(), ["GET /a forwarded broken in 0 out 0"]);
    });
}

#[test]
fn an_expectation_and_its_answer_travel_end_to_end() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send("PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
        let mut upstream = world.accept().await;
        assert!(upstream.head().await.contains("Expect: 100-continue"));
        upstream.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 100"));
        assert!(client.head().await.starts_with("HTTP/1.1 103"));
        client.send("hello").await;
        assert_eq!(upstream.bytes(5).await, b"hello");
        upstream.send(OK).await;
        assert!(!client.until("ok").await.contains("connection: close"));
        // Refused without its body: nobody can tell whether the body still comes.
        client.send("PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
        upstream.head().await;
        upstream.send("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n").await;
        assert!(client.head().await.contains("connection: close"));
    });
}

#[test]
fn chunks_and_trailers_go_up_with_new_framing() {
    test(async {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send("POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0000A;x=\"y\"\r\n0123456789\r\n0\r\nSum: 1\r\nX_Forwarded_For: evil\r\nAuthorization: evil\r\n\r\n").await;
        let mut upstream = world.accept().await;
        assert!(upstream.head().await.contains("transfer-encoding: chunked"));
        assert_eq!(upstream.until("0\r\nSum: 1\r\n\r\n").await, "a\r\n0123456789\r\n0\r\nSum: 1\r\n\r\n");
        upstream.send(OK).await;
        client.until("ok").await;
    });
}

#[test]
fn large_bodies_go_both_ways_through_bounded_buffers() {
    test(async {
        const LENGTH: usize = 10 << 20;
        let world = World::new().await;
        let body: Vec<u8> = (0..LENGTH).map(|i| (i / 7) as u8).collect();
        for chunked in [false, true] {
            let mut client = world.client().await;
            let framing =
                if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {LENGTH}") };
            client.send(format!("POST /a HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n")).await;
            let mut upstream = world.accept().await;
            upstream.head().await;
            upstream.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")).await;
            // The service echoes while it reads: both directions are under way at once.
            let (mut up_read, mut up_write) = upstream.io.into_split();
            let echo = spawn_local(async move { tokio::io::copy(&mut up_read, &mut up_write).await.expect("echoed") });
            let (mut read, mut write) = client.io.into_split();
            let mut wire = body.clone();
            if chunked {
                wire = [format!("{LENGTH:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
            }
            let sender = spawn_local(async move { write.write_all(&wire).await.map(|()| write).expect("sent") });
            let (mut received, mut head_end) = (Vec::new(), None);
            let mut decoder = super::super::framing::Decoder::response(if chunked {
                crate::head::ResponseFraming::Chunked
            } else {
                crate::head::ResponseFraming::Length(LENGTH as u64)
            });
            let (mut spans, limits, mut got) = (crate::head::Spans::new(), Limits::default(), Vec::new());
            'body: loop {
                assert!(read.read_buf(&mut received).await.expect("readable") > 0, "ended early at {}", got.len());
                if head_end.is_none() {
                    head_end = memchr::memmem::find(&received, b"\r\n\r\n");
                    let Some(end) = head_end else { continue };
                    received.drain(..end + 4);
                }
                loop {
                    match decoder.next(&received, &mut spans, &limits).expect("well framed") {
                        super::super::framing::Piece::Data { from, to } => {
                            got.extend_from_slice(&received[from..to]);
                            received.drain(..to);
                        }
                        super::super::framing::Piece::More { consumed } => {
                            received.drain(..consumed);
                            break;
                        }
                        super::super::framing::Piece::End { .. } => break 'body,
                    }
                }
            }
            assert!(got == body, "the body changed on its way");
            drop(sender.await);
            echo.abort();
        }
    });
}

/// A world on the paused clock whose client is a pipe: time passes only while nobody has anything to do.
async fn paused(limits: Limits, sent: &str) -> (String, Vec<String>) {
    let world = World::with(limits, None).await;
    let (mut client, server) = tokio::io::duplex(1024);
    let served = spawn_local(serve(server, world.way.clone(), Rc::clone(&world.shared), Leaving::never()));
    client.write_all(sent.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an end");
    drop(client);
    served.await.expect("served");
    (answer, world.log())
}

#[tokio::test(start_paused = true)]
async fn slow_clients_are_ended_by_the_deadline_of_their_phase() {
    local(async {
        let (answer, log) = paused(Limits::default(), "").await;
        assert_eq!((answer.as_str(), log.len()), ("", 0));
        let (answer, _) = paused(Limits::default(), "GET /a HTTP/1.1\r\nHos").await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        let (answer, log) = paused(Limits::default(), "GET /refused HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(answer.ends_with("no"), "kept open until the idle timeout: {answer}");
        assert_eq!(log.len(), 1);
        let (answer, _) =
            paused(Limits::default(), "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabc").await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        let (answer, _) = paused(Limits::default(), GET).await;
        assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_is_not_given_more_time_for_each_byte() {
    local(async {
        let world = World::new().await;
        let (mut client, server) = tokio::io::duplex(1024);
        spawn_local(serve(server, world.way.clone(), Rc::clone(&world.shared), Leaving::never()));
        let begun = tokio::time::Instant::now();
        while client.write_all(b"G").await.is_ok() && begun.elapsed() < Duration::from_secs(60) {
            tokio::time::advance(Duration::from_millis(500)).await;
            tokio::task::yield_now().await;
            if !world.log().is_empty() {
                break;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    })
    .await;
}

#[test]
fn a_drain_finishes_exchanges_and_ends_idle_connections() {
    test(async {
        let world = World::new().await;
        let (mut idle, mut busy) = (world.client().await, world.client().await);
        idle.send("GET /refused HTTP/1.1\r\nHost: h\r\n\r\n").await;
        idle.until("no").await;
        busy.send(GET).await;
        let mut upstream = world.accept().await;
        upstream.head().await;
        world.shutdown.send_replace(true);
        assert_eq!(idle.rest().await, "");
        upstream.send(OK).await;
        let answer = busy.rest().await;
        assert!(answer.contains("connection: close") && answer.ends_with("ok"), "{answer}");
    });
}

/// A byte now and then is progress, and would hold a place at the service for as long as its sender likes.
#[test]
fn a_body_that_trickles_ends_whether_its_message_is_decided_by_it_or_not() {
    test(async {
        let limits = Limits { body_rate_min: Some(1 << 20), body_rate_window: TICK, ..Limits::default() };
        let world = World::with(limits, None).await;
        for path in ["/a", "/by-body"] {
            let mut client = world.client().await;
            client.send(format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n")).await;
            // Never still for long: what ends it is that it is slow.
            let mut ticks = tokio::time::interval(TICK / 5);
            while client.io.try_read_buf(&mut client.read).is_err() && client.io.write_all(b"x").await.is_ok() {
                ticks.tick().await;
            }
            assert!(client.rest().await.starts_with("HTTP/1.1 408"), "{path}");
        }
    });
}

/// What a client sends behind the last answer of its connection is dropped within a bound, and then not read at all.
#[test]
fn what_is_sent_behind_a_last_answer_is_read_within_a_bound() {
    test(async {
        let limits = Limits { discard_bytes_max: 1 << 20, ..Limits::default() };
        let world = World::with(limits, None).await;
        let mut client = world.client().await;
        client.send("POST /refused HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 403"));
        let mut sent = 0;
        let data = vec![b'x'; 1 << 20];
        // Until the connection ends, or nothing more is taken: what the system keeps for both ends is far below this.
        let sending = async {
            while let Ok(length @ 1..) = client.io.write(&data).await {
                sent += length;
                assert!(sent < 64 << 20, "{sent} bytes were read behind an answer");
            }
        };
        let _ = tokio::time::timeout(TICK * 10, sending).await;
        assert!(sent > 0);
    });
}
