//! Exchanges over HTTP/2 with a service on a real socket, written with the same library's server side.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, server};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use crate::budget::Budget;
use crate::current::Current;
use crate::head::known::classify;
use crate::head::{Field, Framing, HeadError, ResponseFraming, Version};
use crate::http1::framing::FramingError;
use crate::limits::Limits;
use crate::upstream::call::{Body, Call, Failure};
use crate::upstream::group::Group;
use crate::upstream::pool::{Attempts, Need, Pool, Unreachable, Upstream};

const GET: &[u8] = b"GET /a?b HTTP/1.1\r\nhost: service.example\r\nte: trailers\r\nconnection: TE\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

type Serving = server::Connection<TcpStream, Bytes>;
type Stream = (Request<RecvStream>, SendResponse<Bytes>);

/// A pool, an endpoint, and the listener behind it.
struct World {
    pool: Pool,
    group: Rc<Group>,
    listener: TcpListener,
    limits: Rc<Limits>,
}

impl World {
    async fn with(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let limits = Rc::new(limits);
        let pool = Pool::new(Current::new(Rc::clone(&limits)), 7);
        let group = pool.group_for_tests(&[&format!("h2c://{}", listener.local_addr().expect("bound"))]);
        Self { pool, group, listener, limits }
    }

    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.expect("accepted").0
    }

    async fn open(&self) -> Result<Upstream, Unreachable> {
        self.pool.open(&self.group, &Attempts::default(), Need::Repeatable).await
    }

    async fn serve(&self, builder: &server::Builder) -> Serving {
        builder.handshake(self.accept().await).await.expect("shaken")
    }

    /// A first exchange, and the service's side of the connection.
    async fn call(&self, head: &[u8], framing: Framing) -> (Call, Serving) {
        let builder = server::Builder::new();
        let (upstream, serving) = tokio::join!(self.open(), self.serve(&builder));
        let mut call = Call::new(Rc::clone(&self.limits), &Budget::new(usize::MAX));
        call.begin(upstream.expect("connected"), head, framing, false);
        (call, serving)
    }

    /// One more exchange.
    async fn another(&self, head: &[u8]) -> Call {
        let mut call = Call::new(Rc::clone(&self.limits), &Budget::new(usize::MAX));
        let upstream = self.open().await.expect("connected");
        call.begin(upstream, head, Framing::None, false);
        call
    }
}

/// The next stream of a connection, which is driven from then on.
async fn accept(mut serving: Serving) -> Stream {
    let stream = serving.accept().await.expect("a stream").expect("a request");
    spawn_local(async move { while let Some(Ok(_)) = serving.accept().await {} });
    stream
}

async fn response(call: &mut Call) -> Result<u16, Failure> {
    poll_fn(|cx| call.poll_response(cx)).await?;
    Ok(call.response().expect("a head").status())
}

async fn body(call: &mut Call) -> Result<(Vec<u8>, bool), Failure> {
    let mut bytes = Vec::new();
    loop {
        match poll_fn(|cx| call.poll_body(cx)).await? {
            Body::Data => bytes.extend_from_slice(call.data()),
            Body::End { trailers } => return Ok((bytes, trailers)),
        }
    }
}

async fn send(call: &mut Call) {
    poll_fn(|cx| call.poll_send(cx, &mut false)).await.expect("sent");
}

fn status(code: u16) -> Response<()> {
    Response::builder().status(code).body(()).expect("a response")
}

async fn local<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(test).await
}

#[tokio::test]
async fn a_message_goes_up_and_its_answer_down_with_trailers() {
    local(async {
        let world = World::new().await;
        let (mut call, serving) = world.call(POST, Framing::Chunked).await;
        let (request, mut respond) = accept(serving).await;
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("POST", "http://a/"));
        assert!(request.headers().is_empty(), "{:?}", request.headers());
        call.write_body(b"up").expect("written");
        let sum = Field { name: b"x-sum", value: b"2", known: classify(b"x-sum") };
        call.finish_body([sum].into_iter()).expect("ended");
        send(&mut call).await;
        assert!(call.has_sent_request());
        let mut up = request.into_body();
        assert_eq!(up.data().await.expect("data").expect("intact"), "up");
        assert_eq!(up.trailers().await.expect("intact").expect("trailers")["x-sum"], "2");

        respond.send_informational(status(103)).expect("sent");
        assert_eq!(response(&mut call).await, Ok(103));
        let mut down = respond.send_response(status(200), false).expect("sent");
        assert_eq!(response(&mut call).await, Ok(200));
        let head = call.response().expect("a head");
        assert_eq!(
            (head.version(), head.framing(), head.reason()),
            (Version::Http2, ResponseFraming::Chunked, &b"OK"[..])
        );
        down.send_data(Bytes::from_static(b"down"), false).expect("sent");
        down.send_trailers(HeaderMap::from_iter([("x-end".parse().expect("name"), "1".parse().expect("value"))]))
            .expect("sent");
        assert_eq!(body(&mut call).await, Ok((b"down".to_vec(), true)));
        let trailers = call.trailers();
        assert_eq!(trailers.iter().map(|field| field.name).collect::<Vec<_>>(), [b"x-end"]);
        assert!(call.end().is_none(), "the connection is shared and comes back by itself");
    })
    .await;
}

#[tokio::test]
async fn messages_share_a_connection_and_more_than_it_holds_open_another() {
    local(async {
        let world = World::with(Limits { upstream_h2_streams_max: 2, ..Limits::default() }).await;
        let (_first, serving) = world.call(GET, Framing::None).await;
        let _accepted = accept(serving).await;
        let _second = world.another(GET).await;
        let builder = server::Builder::new();
        let third = async { world.another(GET).await };
        let (third, serving) = tokio::join!(third, world.serve(&builder));
        let (request, _respond) = accept(serving).await;
        assert_eq!(request.headers()["te"], "trailers");
        drop(third);
    })
    .await;
}

/// A crowd that finds no connection makes one.
#[tokio::test]
async fn a_crowd_makes_one_connection() {
    local(async {
        let world = World::new().await;
        let builder = server::Builder::new();
        let (_a, _b, _c, serving) =
            tokio::join!(world.another(GET), world.another(GET), world.another(GET), world.serve(&builder));
        drop(accept(serving).await);
        let more = tokio::time::timeout(Duration::from_millis(50), world.listener.accept()).await;
        assert!(more.is_err(), "there was a second connection");
    })
    .await;
}

#[tokio::test]
async fn what_was_not_processed_may_go_up_again_whatever_its_method() {
    local(async {
        let world = World::new().await;
        let (mut call, serving) = world.call(GET, Framing::None).await;
        let (_request, mut respond) = accept(serving).await;
        respond.send_reset(Reason::REFUSED_STREAM);
        let failure = response(&mut call).await.expect_err("refused");
        assert_eq!(failure, Failure::Unprocessed);
        assert!(call.replayable(&failure, false).is_some());

        let (mut call, serving) = {
            let world = World::new().await;
            world.call(POST, Framing::Chunked).await
        };
        let (_request, mut respond) = accept(serving).await;
        call.write_body(b"gone").expect("written");
        send(&mut call).await;
        respond.send_reset(Reason::REFUSED_STREAM);
        let failure = response(&mut call).await.expect_err("refused");
        assert!(call.replayable(&failure, true).is_none(), "a body that is gone cannot be sent again");
    })
    .await;
}

#[tokio::test]
async fn a_reset_is_told_from_an_end() {
    local(async {
        let world = World::new().await;
        let (mut call, serving) = world.call(GET, Framing::None).await;
        let (_request, mut respond) = accept(serving).await;
        let mut down = respond.send_response(status(200), false).expect("sent");
        down.send_data(Bytes::from_static(b"half"), false).expect("sent");
        assert_eq!(response(&mut call).await, Ok(200));
        assert!(matches!(poll_fn(|cx| call.poll_body(cx)).await, Ok(Body::Data)));
        down.send_reset(Reason::NO_ERROR);
        assert_eq!(body(&mut call).await, Err(Failure::Body(FramingError::Truncated)));

        let mut call = world.another(GET).await;
        drop(call.end());
        let mut call = {
            let (call, serving) = World::new().await.call(GET, Framing::None).await;
            let (_request, mut respond) = accept(serving).await;
            respond.send_reset(Reason::INTERNAL_ERROR);
            call
        };
        assert_eq!(response(&mut call).await, Err(Failure::Reset(Reason::INTERNAL_ERROR)));
    })
    .await;
}

/// RFC 9113 section 8.1: a server that has answered in full may ask for no more of the request, with NO_ERROR.
#[tokio::test]
async fn an_early_answer_with_a_reset_is_an_answer() {
    local(async {
        let world = World::new().await;
        let (mut call, serving) = world.call(POST, Framing::Chunked).await;
        let (request, mut respond) = accept(serving).await;
        call.write_body(b"begun").expect("written");
        send(&mut call).await;
        let mut down = respond.send_response(status(413), false).expect("sent");
        down.send_data(Bytes::from_static(b"enough"), true).expect("sent");
        // The library says NO_ERROR for a body that nobody reads.
        drop((request, respond, down));
        assert_eq!(response(&mut call).await, Ok(413));
        assert_eq!(body(&mut call).await, Ok((b"enough".to_vec(), false)));
    })
    .await;
}

#[tokio::test]
async fn a_message_that_is_given_up_is_cancelled() {
    local(async {
        let world = World::new().await;
        let (mut call, serving) = world.call(GET, Framing::None).await;
        let (_request, mut respond) = accept(serving).await;
        assert!(call.end().is_none());
        assert_eq!(poll_fn(|cx| respond.poll_reset(cx)).await.expect("a reset"), Reason::CANCEL);
    })
    .await;
}

#[tokio::test]
async fn informational_answers_are_bounded_and_lengths_are_kept() {
    local(async {
        let world = World::with(Limits { informational_max: 2, ..Limits::default() }).await;
        let (mut call, serving) = world.call(GET, Framing::None).await;
        let (_request, mut respond) = accept(serving).await;
        for _ in 0..3 {
            respond.send_informational(status(103)).expect("sent");
        }
        assert_eq!((response(&mut call).await, response(&mut call).await), (Ok(103), Ok(103)));
        assert_eq!(response(&mut call).await, Err(Failure::Informational { max: 2 }));

        let (mut call, serving) = World::new().await.call(GET, Framing::None).await;
        let (_request, mut respond) = accept(serving).await;
        let declared = Response::builder().header("content-length", "2").header("content-length", "2");
        respond.send_response(declared.body(()).expect("a response"), false).expect("sent");
        assert_eq!(response(&mut call).await, Err(Failure::Head(HeadError::ContentLengthTwice)));

        let (mut call, serving) = World::new().await.call(GET, Framing::None).await;
        let (_request, mut respond) = accept(serving).await;
        let declared = Response::builder().header("content-length", "9").body(()).expect("a response");
        let mut down = respond.send_response(declared, false).expect("sent");
        assert_eq!(response(&mut call).await, Ok(200));
        down.send_data(Bytes::from_static(b"short"), true).expect("sent");
        assert!(body(&mut call).await.is_err(), "a body shorter than it was declared");
    })
    .await;
}

/// What waits for the service's windows is bounded, and goes up as they open.
#[tokio::test]
async fn a_body_goes_up_as_the_service_takes_it() {
    local(async {
        let world = World::new().await;
        let (mut call, serving) = world.call(POST, Framing::Chunked).await;
        let (request, _respond) = accept(serving).await;
        let mut written = 0;
        let is_stuck = |call: &mut Call| {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            call.poll_send(&mut cx, &mut false).is_pending()
        };
        while call.has_room() && !is_stuck(&mut call) {
            call.write_body(&[7; 8 * 1024]).expect("written");
            written += 8 * 1024;
            tokio::task::yield_now().await;
        }
        assert!(written <= 65_535 + world.limits.copy_buffer_bytes + 8 * 1024, "{written}");
        call.finish_body(std::iter::empty()).expect("ended");
        let mut up = request.into_body();
        let received = async {
            let mut received = 0;
            while let Some(data) = up.data().await {
                let length = data.expect("intact").len();
                up.flow_control().release_capacity(length).expect("released");
                received += length;
            }
            received
        };
        let (received, ()) = tokio::join!(received, send(&mut call));
        assert_eq!(received, written);
    })
    .await;
}

#[tokio::test]
async fn what_does_not_speak_http2_is_no_connection() {
    use tokio::io::AsyncWriteExt as _;
    local(async {
        let world =
            World::with(Limits { upstream_connect_timeout: Duration::from_millis(200), ..Limits::default() }).await;
        let http1 = async {
            let mut stream = world.accept().await;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("written");
            stream
        };
        let (opened, _stream) = tokio::join!(world.open(), http1);
        let error = opened.expect_err("not HTTP/2").to_string();
        assert!(error.contains("what came back is not HTTP/2"), "{error}");
        let (opened, _stream) = tokio::join!(world.open(), world.accept());
        let error = opened.expect_err("no SETTINGS").to_string();
        assert!(error.contains("did not accept a connection in time"), "{error}");
    })
    .await;
}

/// A dead peer costs one message its time, not every message that comes after.
#[tokio::test]
async fn a_connection_that_fell_silent_takes_no_more_messages() {
    local(async {
        let world = World::with(Limits { h2_ping_timeout: Duration::ZERO, ..Limits::default() }).await;
        let (call, mut serving) = world.call(GET, Framing::None).await;
        let _stream = serving.accept().await.expect("a stream");
        // The service's own acknowledgements are on their way; what counts is silence after the message was sent.
        let mut second = world.another(GET).await;
        assert!(second.end().is_none());
        drop(call);
        let builder = server::Builder::new();
        let (_third, serving) = tokio::join!(world.another(GET), world.serve(&builder));
        drop(serving);
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_says_goodbye() {
    local(async {
        let world = World::with(Limits { upstream_idle_timeout: Duration::from_millis(20), ..Limits::default() }).await;
        let (mut call, mut serving) = world.call(GET, Framing::None).await;
        let (_request, mut respond) = serving.accept().await.expect("a stream").expect("a request");
        respond.send_response(status(204), true).expect("sent");
        let (answered, ended) = tokio::join!(
            async {
                let answered = response(&mut call).await;
                drop(call);
                answered
            },
            serving.accept()
        );
        assert_eq!(answered, Ok(204));
        assert!(ended.is_none_or(|stream| stream.is_err()), "the connection ended");
    })
    .await;
}

#[tokio::test]
async fn what_an_answer_may_hold_is_counted_while_it_waits_for_its_client() {
    for counted in [65_535, 1 << 20] {
        local(async {
            let windows = Limits { h2_stream_window_bytes: counted, ..Limits::default() };
            let (world, budget, builder) = (World::with(windows).await, Budget::new(1 << 20), server::Builder::new());
            let (upstream, serving) = tokio::join!(world.open(), world.serve(&builder));
            let mut call = Call::new(Rc::clone(&world.limits), &budget);
            call.begin(upstream.expect("connected"), GET, Framing::None, false);
            let (_, mut respond) = accept(serving).await;
            let mut sending = respond.send_response(status(200), false).expect("begun");
            assert_eq!((response(&mut call).await, budget.used()), (Ok(200), 0));
            for _ in 0..2 {
                sending.send_data(Bytes::from_static(b"some"), false).expect("sent");
                assert_eq!(poll_fn(|cx| call.poll_body(cx)).await, Ok(Body::Data));
                assert_eq!(budget.used(), counted as usize, "a piece is out, and the service may send more");
                let waiting = poll_fn(|cx| std::task::Poll::Ready(call.poll_body(cx).is_pending())).await;
                assert_eq!((waiting, budget.used()), (true, 0), "it is the service that is waited for");
            }
            sending.send_data(Bytes::from_static(b"last"), true).expect("sent");
            assert_eq!(poll_fn(|cx| call.poll_body(cx)).await, Ok(Body::Data));
            drop(call);
            assert_eq!(budget.used(), 0, "an exchange that is gone holds nothing");
        })
        .await;
    }
}
