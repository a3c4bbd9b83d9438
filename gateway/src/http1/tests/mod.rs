//! The connection loop between real sockets: scripted clients, scripted upstreams, and a way of a few lines.

mod clients;
mod gate;
mod held;
mod leases;
mod upstreams;

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};

use super::connection::{Shared, serve};
use super::deadline::TICK;
use super::way::{After, Delimiter, Fault, Order, Passage, Way};
use crate::budget::Budget;
use crate::current::Current;
use crate::head::{Field, Framing, Glimpse, Head, Known, ResponseHead};
use crate::lease::{Fallen, Lease};
use crate::limits::Limits;
use crate::listener::Leaving;
use crate::request::body_rate::BodyRate;
use crate::request::switch::Switch;
use crate::telemetry::{Telemetry, WorkerTelemetry};
use crate::upstream::group::Group;
use crate::upstream::pool::Pool;

/// A way that lets everything pass except `/refused`, and `/by-body` if its body says `no`.
#[derive(Clone)]
struct TestWay {
    upstreams: Rc<Group>,
    pool: Rc<Pool>,
    telemetry: Rc<WorkerTelemetry>,
    body_max: Option<u64>,
    body_rate: BodyRate,
    /// What the next message hangs on.
    lease: Rc<RefCell<Option<Lease>>>,
    log: Rc<RefCell<Vec<String>>>,
}

fn passes(field: &Field<'_>) -> bool {
    !field.known.is_hop_by_hop() && !matches!(field.known, Known::ContentLength)
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
}

impl Way for TestWay {
    type Ticket = String;
    type Route = Rc<Group>;
    type Permitted = Vec<u8>;

    fn permitted(head: &Vec<u8>) -> &[u8] {
        head
    }

    fn shrink(_: &mut Vec<u8>) {}

    fn upstreams(route: &Self::Route) -> &Rc<Group> {
        route
    }

    fn response_timeout(_: &Self::Route) -> Option<std::time::Duration> {
        None
    }

    fn trails_up(field: &Field<'_>, _: &Self::Route) -> bool {
        field.known == Known::Other
    }

    fn trails_down(field: &Field<'_>) -> bool {
        field.known == Known::Other
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn telemetry(&self) -> &WorkerTelemetry {
        &self.telemetry
    }

    fn open(&self, head: &Head<'_>) -> String {
        format!("{} {}", head.method(), head.path())
    }

    fn open_unread(&self, _: &Glimpse<'_>) -> String {
        "?".into()
    }

    fn receive(
        &self,
        head: &Head<'_>,
        body: Option<&[u8]>,
        ticket: &mut String,
        permitted: &mut Vec<u8>,
        after: After,
        out: &mut Vec<u8>,
    ) -> Passage<Self::Route> {
        if head.path() == "/refused" {
            ticket.push_str(" refused");
            out.extend_from_slice(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n");
            out.extend_from_slice(if after == After::Close { b"connection: close\r\n\r\nno" } else { b"\r\nno" });
            return Passage::Answered(after);
        }
        if head.path() == "/by-body" {
            match body {
                None => {
                    let max = UNDECIDED_BYTES_MAX;
                    return Passage::Undecided { max, rate: self.body_rate, lease: None };
                }
                Some(body) if body.starts_with(b"no") => {
                    ticket.push_str(" refused");
                    out.extend_from_slice(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
                    return Passage::Answered(after);
                }
                Some(_) => {}
            }
        }
        let framing = body.map_or(head.framing(), |body| Framing::Length(body.len() as u64));
        permitted.clear();
        permitted.extend_from_slice(format!("{} {} HTTP/1.1\r\n", head.method(), head.path()).as_bytes());
        let fields = head.fields().filter(passes).filter(|field| body.is_none() || field.known != Known::Expect);
        fields.for_each(|field| line(permitted, field.name, field.value));
        match framing {
            Framing::None => {}
            Framing::Length(length) => line(permitted, b"content-length", length.to_string().as_bytes()),
            Framing::Chunked => line(permitted, b"transfer-encoding", b"chunked"),
        }
        permitted.extend_from_slice(b"\r\n");
        Passage::Forward(Order {
            route: Rc::clone(&self.upstreams),
            framing,
            body_max: self.body_max,
            body_rate: self.body_rate,
            authenticates_connection: false,
            filter: None,
            is_repeatable: head.method() != "POST",
            switch: None,
            lease: self.lease.take(),
        })
    }

    fn forwarded(&self, ticket: &mut String, _: &Rc<str>) {
        ticket.push_str(" forwarded");
    }

    fn inform(&self, head: &ResponseHead<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("HTTP/1.1 {} Info\r\n\r\n", head.status()).as_bytes());
    }

    fn respond(
        &self,
        ticket: &mut String,
        head: &ResponseHead<'_>,
        framing: (Delimiter, After),
        _: bool,
        out: &mut Vec<u8>,
    ) {
        ticket.push_str(&format!(" {}", head.status()));
        out.extend_from_slice(format!("HTTP/1.1 {} X\r\n", head.status()).as_bytes());
        head.fields().filter(passes).for_each(|field| line(out, field.name, field.value));
        match framing.0 {
            Delimiter::Absent | Delimiter::Close => {}
            Delimiter::Length(length) => line(out, b"content-length", length.to_string().as_bytes()),
            Delimiter::Chunked => line(out, b"transfer-encoding", b"chunked"),
        }
        if framing.1 == After::Close {
            line(out, b"connection", b"close");
        }
        out.extend_from_slice(b"\r\n");
    }

    fn switch(&self, ticket: &mut String, head: &ResponseHead<'_>, _: &Switch, out: &mut Vec<u8>) {
        self.respond(ticket, head, (Delimiter::Absent, After::KeepAlive), false, out);
    }

    fn fail(&self, ticket: &mut String, fault: &Fault, after: After, to_head: bool, out: &mut Vec<u8>) {
        let status = match fault {
            Fault::Head(error) => error.status(),
            Fault::Body(super::framing::FramingError::BodyTooLarge { .. }) => 413,
            Fault::TooLargeToHold { .. } => 413,
            Fault::Body(_) | Fault::HeldTrailers => 400,
            Fault::TooSlow => 408,
            Fault::Overload | Fault::Upstream(crate::upstream::call::Failure::Overload) => 503,
            Fault::Fallen(_) => 401,
            Fault::Upstream(crate::upstream::call::Failure::Timeout) => 504,
            Fault::Upstream(_) => 502,
        };
        ticket.push_str(&format!(" fault {status}"));
        out.extend_from_slice(format!("HTTP/1.1 {status} F\r\ncontent-length: 1\r\n").as_bytes());
        out.extend_from_slice(if after == After::Close { b"connection: close\r\n\r\n" } else { b"\r\n" });
        out.extend_from_slice(if to_head { b"" } else { b"!" });
    }

    fn broken(&self, ticket: &mut String, _: Option<&Fallen>) {
        ticket.push_str(" broken");
    }

    fn close(&self, ticket: String, bytes_in: u64, bytes_out: u64) {
        self.log.borrow_mut().push(format!("{ticket} in {bytes_in} out {bytes_out}"));
    }
}

/// A gateway's worker with one upstream.
struct World {
    address: SocketAddr,
    upstream: TcpListener,
    way: TestWay,
    shared: Rc<Shared>,
    shutdown: watch::Sender<bool>,
}

impl World {
    async fn with(limits: Limits, body_max: Option<u64>) -> Self {
        let limits = Current::new(limits);
        let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = upstream.local_addr().expect("bound").to_string();
        let telemetry = Rc::new(Telemetry::without_log().worker());
        let pool = Rc::new(Pool::new(limits.clone(), 7));
        let body_rate = BodyRate::new(limits.get().body_rate_min, limits.get().body_rate_window);
        let upstreams = pool.group_for_tests(&[&address]);
        let (lease, log) = Default::default();
        let way = TestWay { upstreams, pool, telemetry, body_max, body_rate, lease, log };
        let budget = Budget::new(limits.get().buffered_bytes_max);
        let shared = Shared::new(limits, budget);
        let (shutdown, watch) = watch::channel(false);
        spawn_local(Rc::clone(&shared).run(watch, || {}, || {}));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (served, shared_by_all) = (way.clone(), Rc::clone(&shared));
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn_local(serve(stream, served.clone(), Rc::clone(&shared_by_all), Leaving::never()));
            }
        });
        Self { address, upstream, way, shared, shutdown }
    }

    async fn new() -> Self {
        Self::with(Limits::default(), None).await
    }

    async fn client(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).await.expect("connected"))
    }

    /// The next connection that the gateway makes.
    async fn accept(&self) -> Wire {
        Wire::new(self.upstream.accept().await.expect("accepted").0)
    }

    fn log(&self) -> Vec<String> {
        self.way.log.borrow().clone()
    }
}

/// One end of a connection that reads what it expects.
struct Wire {
    io: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    fn new(io: TcpStream) -> Self {
        Self { io, read: Vec::new() }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.expect("sent");
    }

    async fn half_close(&mut self) {
        self.io.shutdown().await.expect("half-closed");
    }

    /// Whatever comes up to and with `end`.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = memchr::memmem::find(&self.read, end.as_bytes()) {
                let rest = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).expect("text");
            }
            let length = self.io.read_buf(&mut self.read).await.expect("readable");
            assert!(length > 0, "ended before {end:?}: {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.io.read_buf(&mut self.read).await.expect("readable") > 0, "ended too early");
        }
        let rest = self.read.split_off(length);
        std::mem::replace(&mut self.read, rest)
    }

    /// Everything up to the end of the connection, however it ends.
    async fn rest(&mut self) -> String {
        while matches!(self.io.read_buf(&mut self.read).await, Ok(1..)) {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }
}

/// The most bytes of a body on which the test's way decides.
const UNDECIDED_BYTES_MAX: u64 = 64 * 1024;

async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

/// Runs a test that hangs when it fails into a failure instead. On the real clock: generous, and never waited for.
fn test(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let done = tokio::time::timeout(std::time::Duration::from_secs(20), local(body)).await;
        assert!(done.is_ok(), "the exchange hangs");
    });
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
