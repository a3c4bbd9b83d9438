//! Real sockets, a real TLS client, and a process with few descriptors.

use std::cell::RefCell;

use rustls::pki_types::ServerName;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

use super::*;
use crate::request::route::Routes;
use crate::tls::tests::Pki;

struct Up {
    address: SocketAddr,
    connections: Arc<Connections>,
    shutdown: watch::Sender<bool>,
    dismissal: Dismissal,
    loop_: tokio::task::JoinHandle<()>,
}

fn up<F, S>(tls: Option<Arc<Tls>>, limits: Limits, connections: Arc<Connections>, serve: F) -> Up
where
    F: Fn(Connection) -> S + Clone + 'static,
    S: Future<Output = ()> + 'static,
{
    let socket = bind("127.0.0.1:0".parse().expect("an address"), 1).expect("bound").remove(0);
    let address = socket.local_addr().expect("bound");
    let (shutdown, receiver) = watch::channel(false);
    let (dismissal, leaving) = Leaving::new();
    let view = View {
        routes: Routes::new(Vec::new()),
        limits: limits.into(),
        trusted_proxies: Default::default(),
        trusted_fields: Default::default(),
        proxy_protocol: false,
        tls,
    };
    let settings = Settings {
        view: Current::new(view),
        connections: Arc::clone(&connections),
        leaving,
        shutdown: receiver,
        budget: Budget::new(usize::MAX),
        refused: Rc::new(|_| ()),
    };
    let listener = TcpListener::from_std(socket).expect("a listener");
    let loop_ = tokio::task::spawn_local(run(listener, settings, serve));
    Up { address, connections, shutdown, dismissal, loop_ }
}

fn caps() -> Arc<Connections> {
    Connections::capped(10, 10)
}

async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

/// A server that says which protocol was found, and for whom.
async fn tell(connection: Connection) {
    let text = format!(
        "{} {:?}",
        if connection.is_h2 { "h2" } else { "http/1" },
        connection.handshake.as_ref().and_then(|h| h.server_name.clone())
    );
    let (stream, _place) = connection.into_parts();
    match stream {
        Stream::Plain(mut stream) => {
            // What is left unread would make the end a reset.
            let _ = stream.read(&mut [0; 256]).await.expect("the first bytes");
            stream.write_all(text.as_bytes()).await.expect("written");
            stream.shutdown().await.expect("closed");
        }
        Stream::Tls(mut stream) => {
            stream.write_all(text.as_bytes()).await.expect("written");
            stream.shutdown().await.expect("closed");
        }
    }
}

async fn all(mut stream: TcpStream) -> String {
    let mut text = String::new();
    // A reset after the answer is as good an end as any here.
    let _ = stream.read_to_string(&mut text).await;
    text
}

#[test]
fn the_answer_above_a_cap_has_the_length_it_declares() {
    let text = std::str::from_utf8(AT_CAPACITY).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    let problem: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(problem["status"], 503);
}

/// Somebody who wrote `http://` reads what is wrong, with HTTP/2's preface as well; what is neither gets TLS's own alert.
#[tokio::test]
async fn cleartext_on_a_tls_port_is_told_so() {
    local(async {
        let tls = Arc::new(Tls::load(&Pki::new().files()).expect("loaded"));
        let up = up(Some(tls), Limits::default(), caps(), tell);
        for first in [&b"GET / HTTP/1.1\r\nhost: gate.example\r\n\r\n"[..], H2_PREFACE] {
            let mut client = TcpStream::connect(up.address).await.expect("connected");
            client.write_all(first).await.expect("written");
            let text = all(client).await;
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
            assert_eq!(body, "this port speaks TLS; use https://.\n");
        }
        let mut client = TcpStream::connect(up.address).await.expect("connected");
        client.write_all(b"\x80\x2e\x01\x00\x02").await.expect("written");
        let mut alert = [0];
        client.read_exact(&mut alert).await.expect("an alert");
        assert_eq!(alert, [21]);
    })
    .await;
}

#[test]
fn a_taken_port_is_an_error_though_workers_share_theirs() {
    let first = bind("127.0.0.1:0".parse().expect("an address"), 3).expect("bound");
    let address = first[0].local_addr().expect("bound");
    assert!(first.iter().all(|socket| socket.local_addr().expect("bound") == address));
    let taken = bind(address, 3).expect_err("the port is taken");
    assert!(matches!(taken, ListenError::InUse { .. }), "{taken}");
    let foreign = bind("192.0.2.1:0".parse().expect("an address"), 1).expect_err("not of this machine");
    assert!(foreign.to_string().starts_with("cannot listen on 192.0.2.1:0"), "{foreign}");
}

#[test]
fn only_exhaustion_makes_accept_rest() {
    for code in [12, 23, 24, 105] {
        assert!(is_exhaustion(&io::Error::from_raw_os_error(code)), "{code}");
    }
    for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::Interrupted, io::ErrorKind::PermissionDenied] {
        assert!(!is_exhaustion(&io::Error::from(kind)), "{kind:?}");
    }
}

#[tokio::test]
async fn the_first_bytes_say_which_http_is_spoken() {
    local(async {
        let up = up(None, Limits::default(), caps(), tell);
        let cases: [(&[&[u8]], &str); 4] = [
            (&[b"GET / HTTP/1.1\r\n"], "http/1 None"),
            (&[b"PRINT / HTTP/1.1\r\n"], "http/1 None"),
            (&[H2_PREFACE], "h2 None"),
            (&[b"P", b"RI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n"], "h2 None"),
        ];
        for (pieces, expected) in cases {
            let mut client = TcpStream::connect(up.address).await.expect("connected");
            client.set_nodelay(true).expect("set");
            for piece in pieces {
                client.write_all(piece).await.expect("written");
                tokio::task::yield_now().await;
            }
            assert_eq!(all(client).await, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn tls_decides_by_alpn_and_tells_the_name() {
    local(async {
        let pki = Pki::new();
        let tls = Arc::new(Tls::load(&pki.files()).expect("loaded"));
        let up = up(Some(tls), Limits::default(), caps(), tell);
        for (protocol, expected) in [("h2", "h2 Some(\"gate.example\")"), ("http/1.1", "http/1 Some(\"gate.example\")")]
        {
            let connector = TlsConnector::from(Arc::new(pki.client(&[protocol], false)));
            let tcp = TcpStream::connect(up.address).await.expect("connected");
            let name = ServerName::try_from("gate.example").expect("a name");
            let mut stream = connector.connect(name, tcp).await.expect("shaken");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("read");
            assert_eq!(text, expected);
        }
        // Cleartext on a TLS port ends, and the next connection is served as if nothing had been.
        let mut plain = TcpStream::connect(up.address).await.expect("connected");
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
        assert!(all(plain).await.starts_with("HTTP/1.1 400 "));
    })
    .await;
}

#[tokio::test]
async fn above_a_cap_the_answer_is_503_and_below_it_service_goes_on() {
    local(async {
        let up = up(None, Limits::default(), Connections::capped(1, 1), tell);
        let mut first = TcpStream::connect(up.address).await.expect("connected");
        while up.connections.open() < 1 {
            tokio::task::yield_now().await;
        }
        let second = TcpStream::connect(up.address).await.expect("connected");
        assert!(all(second).await.starts_with("HTTP/1.1 503 "));
        first.write_all(b"GET").await.expect("written");
        assert_eq!(all(first).await, "http/1 None");
        while up.connections.open() > 0 {
            tokio::task::yield_now().await;
        }
        let mut third = TcpStream::connect(up.address).await.expect("connected");
        third.write_all(b"GET").await.expect("written");
        assert_eq!(all(third).await, "http/1 None");
    })
    .await;
}

#[tokio::test]
async fn silence_ends_a_connection() {
    local(async {
        let short = Duration::from_millis(20);
        let limits = Limits { first_byte_timeout: short, tls_handshake_timeout: short, ..Limits::default() };
        let pki = Pki::new();
        for tls in [None, Some(Arc::new(Tls::load(&pki.files()).expect("loaded")))] {
            let up = up(tls, limits.clone(), caps(), tell);
            let silent = TcpStream::connect(up.address).await.expect("connected");
            assert_eq!(all(silent).await, "");
            // Half a preface is silence too.
            let mut half = TcpStream::connect(up.address).await.expect("connected");
            half.write_all(b"PRI * HTTP").await.expect("written");
            assert!(!all(half).await.contains("h2"));
        }
    })
    .await;
}

/// A defect that one connection runs into takes that connection only.
#[tokio::test]
async fn a_panic_ends_one_connection() {
    local(async {
        let calls = Rc::new(RefCell::new(0));
        let serve = move |connection: Connection| {
            let calls = Rc::clone(&calls);
            async move {
                *calls.borrow_mut() += 1;
                assert!(*calls.borrow() != 1, "the first connection hits a defect");
                tell(connection).await;
            }
        };
        let up = up(None, Limits::default(), caps(), serve);
        for expected in ["", "http/1 None"] {
            let mut client = TcpStream::connect(up.address).await.expect("connected");
            client.write_all(b"GET").await.expect("written");
            assert_eq!(all(client).await, expected);
        }
        assert_eq!(up.connections.open(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_waits_for_what_is_under_way_and_accepts_nothing_more() {
    local(async {
        let (release, released) = watch::channel(false);
        let serve = move |connection: Connection| {
            let mut released = released.clone();
            async move {
                let _ = released.wait_for(|go| *go).await;
                tell(connection).await;
            }
        };
        let up = up(None, Limits::default(), caps(), serve);
        let mut client = TcpStream::connect(up.address).await.expect("connected");
        client.write_all(b"GET").await.expect("written");
        let silent = TcpStream::connect(up.address).await.expect("connected");
        while up.connections.open() < 2 {
            tokio::task::yield_now().await;
        }
        up.dismissal.give();
        up.shutdown.send(true).expect("the loop listens");
        assert_eq!(all(silent).await, "", "a connection without a request is closed");
        assert!(TcpStream::connect(up.address).await.is_err(), "the socket is gone");
        assert!(!up.loop_.is_finished());
        release.send(true).expect("the server waits");
        assert_eq!(all(client).await, "http/1 None");
        up.loop_.await.expect("the loop ended");
    })
    .await;
}

/// Out of descriptors, the gateway serves the connections it has, waits without burning the processor, and accepts
/// again once one is free (T30). The limit belongs to a process, so the test below runs in one of its own.
#[test]
fn accepting_recovers_from_a_lack_of_descriptors() {
    let test = std::env::current_exe().expect("this test");
    let script = "ulimit -n 64 && exec \"$0\" --ignored --exact listener::tests::with_few_descriptors";
    let output = std::process::Command::new("sh").args(["-c", script]).arg(test).output().expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "needs a process with few descriptors, which `accepting_recovers_from_a_lack_of_descriptors` makes"]
async fn with_few_descriptors() {
    local(async {
        let up = up(None, Limits::default(), Connections::capped(1000, 1000), tell);
        let mut early = TcpStream::connect(up.address).await.expect("connected");
        while up.connections.open() < 1 {
            tokio::task::yield_now().await;
        }
        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        // One for the client's side; the server's side finds none.
        hoard.pop();
        let mut late = TcpStream::connect(up.address).await.expect("the kernel completes it");
        late.write_all(b"GET").await.expect("written");
        early.write_all(b"GET").await.expect("written");
        assert_eq!(all(early).await, "http/1 None", "what is open is served");
        assert!(!up.loop_.is_finished());
        drop(hoard);
        assert_eq!(all(late).await, "http/1 None", "and what waited is accepted");
    })
    .await;
}
