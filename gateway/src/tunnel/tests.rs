//! Tunnels between two ends in memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{LocalSet, spawn_local};

use super::*;

/// What the network takes between the upstream and the tunnel.
const SENDER_BYTES: usize = 64 * 1024;

/// Ends a tunnel from a test.
#[derive(Default)]
struct Sign {
    ending: RefCell<Option<Ending>>,
    waker: RefCell<Option<Waker>>,
    is_waiting: Cell<bool>,
}

impl Sign {
    fn give(&self, ending: Ending) {
        self.ending.replace(Some(ending));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

struct World {
    client: DuplexStream,
    upstream: DuplexStream,
    sign: Rc<Sign>,
    ended: tokio::task::JoinHandle<Ended>,
}

fn tunnel(begun: Begun) -> World {
    let (client, mut ours) = duplex(64);
    let (upstream, theirs) = duplex(SENDER_BYTES);
    let sign = Rc::new(Sign::default());
    let watched = Rc::clone(&sign);
    let ended = spawn_local(async move {
        run(&mut ours, theirs, begun, |cx, pace| {
            watched.is_waiting.set(pace.is_waiting);
            watched.waker.replace(Some(cx.waker().clone()));
            watched.ending.borrow().clone().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    });
    World { client, upstream, sign, ended }
}

fn websocket() -> Begun {
    Begun { is_websocket: true, linger: Duration::from_secs(1), ..Begun::default() }
}

fn fallen() -> Ending {
    Ending::Fallen(Fallen::Revoked { block: 0 })
}

async fn rest(end: &mut DuplexStream) -> Vec<u8> {
    let mut rest = Vec::new();
    end.read_to_end(&mut rest).await.expect("read");
    rest
}

#[tokio::test]
async fn bytes_pass_both_ways_the_first_ones_included_and_ends_are_passed_on() {
    LocalSet::new()
        .run_until(async {
            let begun = Begun { up: b"early ".to_vec(), down: b"hello ".to_vec(), ..Begun::default() };
            let mut world = tunnel(begun);
            world.client.write_all(b"up").await.expect("written");
            world.client.shutdown().await.expect("half-closed");
            assert_eq!(rest(&mut world.upstream).await, b"early up");
            let large = vec![7; 100_000];
            let sending = async {
                world.upstream.write_all(&large).await.expect("written");
                world.upstream.shutdown().await.expect("closed");
            };
            let (_, got) = tokio::join!(sending, rest(&mut world.client));
            assert_eq!((&got[..6], got.len()), (&b"hello "[..], 100_006));
            let ended = world.ended.await.expect("ended");
            assert_eq!((ended.by, ended.bytes_up, ended.bytes_down), (None, 8, 100_006));
        })
        .await;
}

#[tokio::test]
async fn a_receiver_that_does_not_read_holds_its_sender_up() {
    LocalSet::new()
        .run_until(async {
            let mut world = tunnel(Begun::default());
            let sent = timeout(Duration::from_millis(100), world.upstream.write_all(&[1; 200_000])).await;
            assert!(sent.is_err(), "it is not buffered without bound");
            assert!(world.sign.is_waiting.get(), "and somebody is waited for");
            world.sign.give(fallen());
            assert!(world.ended.await.expect("ended").bytes_down <= 64, "what was not taken is not sent");
        })
        .await;
}

/// Sends until nobody takes any more; how much that was.
async fn send(end: &mut DuplexStream) -> usize {
    let (mut sent, mut refused) = (0, 0);
    while refused < 10 {
        match poll_fn(|cx| Poll::Ready(Pin::new(&mut *end).poll_write(cx, &[1; 1024]))).await {
            Poll::Ready(length) => (sent, refused) = (sent + length.expect("written"), 0),
            Poll::Pending => {
                refused += 1;
                tokio::task::yield_now().await;
            }
        }
    }
    sent
}

#[tokio::test]
async fn what_a_tunnel_holds_is_of_the_budget_and_an_idle_one_holds_nothing() {
    for has_room in [true, false] {
        LocalSet::new()
            .run_until(async {
                let budget = Budget::new(100_000);
                let others = if has_room { 0 } else { 100_000 };
                let _others = budget.take(others).expect("free");
                let mut world = tunnel(Begun { budget: Some(Arc::clone(&budget)), ..Begun::default() });
                for _ in 0..3 {
                    let sent = send(&mut world.upstream).await;
                    let held = sent - SENDER_BYTES;
                    let counted = budget.used() - others;
                    match has_room {
                        true => assert!(held > BASE_BYTES && (held - 64..=READ_BYTES).contains(&counted)),
                        false => assert!(held <= BASE_BYTES + 64 && counted == 0, "{held} bytes are held"),
                    }
                    let mut all = vec![0; sent];
                    world.client.read_exact(&mut all).await.expect("all of it, in whatever pieces");
                    tokio::task::yield_now().await;
                    assert_eq!(budget.used(), others, "nothing is held, nothing counts");
                }
            })
            .await;
    }
}

#[tokio::test]
async fn a_window_counts_while_what_came_before_is_not_taken() {
    LocalSet::new()
        .run_until(async {
            let budget = Budget::new(100_000);
            let (kept, window) = (Some(Arc::clone(&budget)), 5_000);
            let begun = Begun { up: vec![1; 10_000], budget: kept, client_window_bytes: window, ..Begun::default() };
            let mut world = tunnel(begun);
            let sent = 10_000 + send(&mut world.client).await;
            assert_eq!(budget.used(), window, "the rest is the base of a connection");
            world.upstream.read_exact(&mut vec![0; sent]).await.expect("all of it");
            tokio::task::yield_now().await;
            assert_eq!(budget.used(), 0);
        })
        .await;
}

#[tokio::test]
async fn law_6_a_websocket_is_told_why_it_ends() {
    LocalSet::new()
        .run_until(async {
            let mut world = tunnel(websocket());
            world.upstream.write_all(b"\x81\x02hi").await.expect("written");
            let mut got = [0; 4];
            world.client.read_exact(&mut got).await.expect("read");
            world.sign.give(fallen());
            assert_eq!(rest(&mut world.client).await, b"\x88\x09\x03\xf0revoked");
            let masked = rest(&mut world.upstream).await;
            assert_eq!((masked[0], masked[1], masked.len()), (0x88, 0x89, 15));
            drop(world.client);
            assert_eq!(world.ended.await.expect("ended").by, Some(fallen()));
        })
        .await;
}

#[tokio::test]
async fn law_6_a_frame_under_way_is_finished_or_cut_and_never_split() {
    for completes in [true, false] {
        LocalSet::new()
            .run_until(async {
                let mut world = tunnel(websocket());
                world.upstream.write_all(b"\x01\x05abc").await.expect("written");
                world.client.write_all(b"\x81\x85mask").await.expect("written");
                let mut got = [0; 5];
                world.client.read_exact(&mut got).await.expect("read");
                world.sign.give(fallen());
                tokio::task::yield_now().await;
                if completes {
                    world.upstream.write_all(b"de\x80\x03not").await.expect("written");
                }
                let told = rest(&mut world.client).await;
                assert_eq!(told, if completes { &b"de\x88\x09\x03\xf0revoked"[..] } else { b"" });
                drop(world.client);
                world.ended.await.expect("ended");
                // The service is in the middle of a frame too: it is not told anything.
                assert_eq!(rest(&mut world.upstream).await, b"\x81\x85mask");
            })
            .await;
    }
}

/// The client's frame is cut, so its service has nothing to wait for: neither its reading nor its writing half stays open
/// for as long as the client takes to go.
#[tokio::test]
async fn law_6_a_service_whose_clients_frame_is_cut_is_let_go_at_once() {
    LocalSet::new()
        .run_until(async {
            let mut world = tunnel(Begun { linger: Duration::from_secs(3600), ..websocket() });
            world.client.write_all(b"\x81\x85mask").await.expect("written");
            world.upstream.read_exact(&mut [0; 6]).await.expect("read");
            world.sign.give(fallen());
            assert_eq!(rest(&mut world.upstream).await, b"");
            assert_eq!(rest(&mut world.client).await, b"\x88\x09\x03\xf0revoked");
            world.upstream.write_all(b"\x81\x02hi").await.expect_err("closed");
            assert!(!world.ended.is_finished(), "the client may still read its last frame");
        })
        .await;
}

#[tokio::test]
async fn after_a_close_of_either_side_nobody_waits_for_a_service_that_does_not_hang_up() {
    LocalSet::new()
        .run_until(async {
            let mut world = tunnel(websocket());
            world.upstream.write_all(b"\x88\x02\x03\xe8").await.expect("written");
            world.client.write_all(b"\x88\x82mask\x6e\x89").await.expect("written");
            assert_eq!(rest(&mut world.client).await, b"\x88\x02\x03\xe8");
            world.client.shutdown().await.expect("closed");
            assert_eq!(rest(&mut world.upstream).await, b"\x88\x82mask\x6e\x89");
            assert_eq!(world.ended.await.expect("ended").by, None);
        })
        .await;
}

#[tokio::test]
async fn what_is_not_understood_is_cut() {
    LocalSet::new()
        .run_until(async {
            let mut world = tunnel(Begun { linger: Duration::from_secs(1), ..Begun::default() });
            world.sign.give(fallen());
            assert_eq!((rest(&mut world.client).await, rest(&mut world.upstream).await), (vec![], vec![]));
        })
        .await;
}
