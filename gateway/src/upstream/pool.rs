//! Connections to upstreams, kept between messages. One pool for each worker: nothing here is shared or locked.
//!
//! A connection comes back only from an exchange that ended cleanly in both directions, and is looked at once more
//! before it is used again: whatever an upstream says while nobody asked it belongs to no request, so that connection is
//! closed (bytes after a body are how one client's answer becomes another's).

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Instant;

use hashbrown::HashMap;
use tokio::time::timeout;

use super::endpoint::Endpoint;
use super::transport::{self, Stream};
use crate::current::Current;
use crate::limits::Limits;

/// The connections of one worker that wait for a message.
pub struct Pool {
    limits: Current<Limits>,
    idle: RefCell<HashMap<Rc<str>, Vec<Idle>, foldhash::fast::RandomState>>,
    turn: Cell<usize>,
}

struct Idle {
    stream: Stream,
    since: Instant,
}

/// A connection to an upstream.
#[derive(Debug)]
pub struct Upstream {
    /// Where it leads.
    pub endpoint: Rc<Endpoint>,
    /// The bytes. Nothing of an answer has been read yet.
    pub stream: Stream,
    /// Whether it has served a message before: then it may have been closed unseen.
    pub is_reused: bool,
}

/// No upstream can be connected to. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The system's answer to the attempt.
    #[error("a connection to {address} cannot be made: {error}")]
    Failed {
        /// Which upstream.
        address: Rc<str>,
        /// What the system says.
        error: io::Error,
    },
    /// No answer to the attempt.
    #[error("{address} did not accept a connection in time")]
    Timeout {
        /// Which upstream.
        address: Rc<str>,
    },
    /// The resource names none.
    #[error("the resource has no upstream")]
    NoUpstream,
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: Current<Limits>) -> Self {
        Self { limits, idle: RefCell::default(), turn: Cell::new(0) }
    }

    /// A connection to one of a resource's upstreams: they take turns, and one that cannot be reached is passed over.
    ///
    /// # Errors
    /// None of them can be reached; what the last one said.
    pub async fn open(&self, upstreams: &[Rc<Endpoint>]) -> Result<Upstream, Unreachable> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let mut unreachable = Unreachable::NoUpstream;
        for step in 0..upstreams.len() {
            let endpoint = &upstreams[turn.wrapping_add(step) % upstreams.len()];
            if let Some(kept) = self.take(endpoint) {
                return Ok(kept);
            }
            match self.connect(endpoint).await {
                Ok(fresh) => return Ok(fresh),
                Err(error) => unreachable = error,
            }
        }
        Err(unreachable)
    }

    /// A kept connection that is still open and silent.
    pub fn take(&self, endpoint: &Rc<Endpoint>) -> Option<Upstream> {
        let limits = self.limits.get();
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(endpoint.name())?;
        // The one used last is the one most likely to be open; older ones age out.
        while let Some(Idle { mut stream, since }) = kept.pop() {
            if since.elapsed() < limits.upstream_idle_timeout && stream.is_silent() {
                return Some(Upstream { endpoint: Rc::clone(endpoint), stream, is_reused: true });
            }
        }
        None
    }

    /// A new connection.
    ///
    /// # Errors
    /// It cannot be made, or not in time.
    pub async fn connect(&self, endpoint: &Rc<Endpoint>) -> Result<Upstream, Unreachable> {
        let connecting = async { transport::connect(endpoint, &transport::resolve(endpoint).await?).await };
        match timeout(self.limits.get().upstream_connect_timeout, connecting).await {
            Err(_) => Err(Unreachable::Timeout { address: Rc::clone(endpoint.name()) }),
            Ok(Err(error)) => Err(Unreachable::Failed { address: Rc::clone(endpoint.name()), error }),
            Ok(Ok(stream)) => Ok(Upstream { endpoint: Rc::clone(endpoint), stream, is_reused: false }),
        }
    }

    /// Keeps a connection whose exchange ended cleanly: the request whole, the answer whole, nothing after it.
    pub fn put(&self, upstream: Upstream) {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(Rc::clone(upstream.endpoint.name())).or_default();
        if kept.len() < self.limits.get().upstream_idle_connections_max {
            kept.push(Idle { stream: upstream.stream, since: Instant::now() });
        }
    }

    /// Closes what has waited too long. To be called now and then.
    pub fn sweep(&self) {
        let max = self.limits.get().upstream_idle_timeout;
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain(|idle| idle.since.elapsed() < max);
            !kept.is_empty()
        });
    }

    /// Closes what leads to upstreams that no resource names any more.
    pub fn retain(&self, named: impl Fn(&str) -> bool) {
        self.idle.borrow_mut().retain(|address, _| named(address));
    }

    /// How many connections wait.
    pub fn idle(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn service() -> (TcpListener, Rc<Endpoint>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = Endpoint::for_tests(&listener.local_addr().expect("bound").to_string());
        (listener, address)
    }

    fn pool(limits: Limits) -> Pool {
        Pool::new(Current::new(limits))
    }

    #[tokio::test]
    async fn a_clean_connection_is_used_again() {
        let (listener, address) = service().await;
        let pool = pool(Limits::default());
        let first = pool.open(&[Rc::clone(&address)]).await.expect("connected");
        let _peer = listener.accept().await.expect("accepted");
        let port = first.stream.local_port();
        assert!(!first.is_reused);
        pool.put(first);
        let again = pool.open(&[address]).await.expect("kept");
        assert!(again.is_reused);
        assert_eq!(again.stream.local_port(), port);
        assert_eq!(pool.idle(), 0);
    }

    /// Bytes that nobody asked for are somebody else's answer.
    #[tokio::test]
    async fn a_connection_that_spoke_or_closed_meanwhile_is_not_used() {
        let (listener, address) = service().await;
        let pool = pool(Limits::default());
        for speaks in [true, false] {
            let upstream = pool.connect(&address).await.expect("connected");
            let (mut peer, _) = listener.accept().await.expect("accepted");
            if speaks {
                peer.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
            } else {
                drop(peer);
            }
            upstream.stream.readable().await.expect("the news arrived");
            pool.put(upstream);
            assert!(pool.take(&address).is_none());
        }
    }

    #[tokio::test]
    async fn the_pool_is_bounded_in_number_and_time() {
        let (listener, address) = service().await;
        let bounded = pool(Limits { upstream_idle_connections_max: 1, ..Limits::default() });
        let aged = pool(Limits { upstream_idle_timeout: Duration::ZERO, ..Limits::default() });
        for pool in [&bounded, &aged] {
            let mut peers = Vec::new();
            let mut open = Vec::new();
            for _ in 0..3 {
                open.push(pool.connect(&address).await.expect("connected"));
                peers.push(listener.accept().await.expect("accepted"));
            }
            open.into_iter().for_each(|upstream| pool.put(upstream));
        }
        assert_eq!(bounded.idle(), 1);
        assert!(aged.take(&address).is_none());
        aged.sweep();
        assert_eq!(aged.idle(), 0);
    }

    #[tokio::test]
    async fn upstreams_take_turns_and_one_that_is_down_is_passed_over() {
        let (_one, first) = service().await;
        let (_two, second) = service().await;
        let (gone, down) = service().await;
        drop(gone);
        let pool = pool(Limits::default());
        let upstreams = [Rc::clone(&first), Rc::clone(&second), Rc::clone(&down)];
        let mut served = Vec::new();
        for _ in 0..3 {
            served.push(Rc::clone(pool.open(&upstreams).await.expect("one is up").endpoint.name()));
        }
        assert!(served.contains(first.name()) && served.contains(second.name()) && !served.contains(down.name()));
        let error = pool.open(&[Rc::clone(&down)]).await.expect_err("nobody is there");
        assert!(error.to_string().starts_with(&format!("a connection to {} cannot be made: ", down.name())), "{error}");
    }
}
