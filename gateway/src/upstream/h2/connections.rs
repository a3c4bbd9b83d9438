//! The HTTP/2 connections of one worker to one endpoint.
//!
//! Messages share a connection for as long as it has room for another stream; then there is one more. While one is being
//! made the others wait for it: a crowd that arrives at once makes one connection, not one each. Tunnels share none.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;

use tokio::sync::Notify;

use super::connection::{Live, Slot, establish};
use crate::limits::Limits;
use crate::upstream::transport::{Dialled, Stream};

/// The connections, and whether one is being made.
#[derive(Debug, Default)]
pub struct Connections {
    live: RefCell<Vec<Rc<Live>>>,
    is_connecting: Cell<bool>,
    /// The endpoint chose HTTP/1.1 the last time: then each message needs a connection of its own, and none waits.
    speaks_http1: Cell<bool>,
    news: Notify,
}

const GOAWAY_AT_ONCE: &str = "it said GOAWAY before it took a message";

/// What came of connecting.
#[derive(Debug)]
pub enum Connected {
    /// A connection for one HTTP/1 message at a time.
    Http1(Stream),
    /// A slot on a connection.
    Http2(Slot),
}

impl Connections {
    /// A slot on a connection that is there.
    pub fn slot(&self) -> Option<Slot> {
        let mut live = self.live.borrow_mut();
        let slot = live.iter().find_map(Live::slot);
        // Taking a slot is how the end of a connection is noticed; its task keeps what it needs.
        live.retain(|live| live.is_open());
        slot
    }

    /// A slot on a connection that is there, is just being made, or is made with `dial`.
    ///
    /// # Errors
    /// What `dial` says, or what came back in place of HTTP/2.
    pub async fn connect(
        self: &Rc<Self>,
        limits: &Rc<Limits>,
        dial: impl Future<Output = io::Result<Dialled>>,
    ) -> io::Result<Connected> {
        let _connecting = loop {
            let news = self.news.notified();
            if let Some(slot) = self.slot() {
                return Ok(Connected::Http2(slot));
            }
            if self.speaks_http1.get() {
                break None;
            }
            if !self.is_connecting.replace(true) {
                break Some(Connecting(self));
            }
            news.await;
        };
        self.begin(limits, dial, |live| self.live.borrow_mut().push(live)).await
    }

    /// A slot on a connection that nobody else gets one on, made with `dial`: for a tunnel. Its other end may not read for
    /// hours, with as much of the connection's window as it likes to keep, and how a service ends it is nobody else's matter.
    ///
    /// # Errors
    /// What `dial` says, or what came back in place of HTTP/2.
    pub async fn connect_alone(
        self: &Rc<Self>,
        limits: &Rc<Limits>,
        dial: impl Future<Output = io::Result<Dialled>>,
    ) -> io::Result<Connected> {
        self.begin(limits, dial, |live| live.retire()).await
    }

    /// Makes a connection; `keep` gets one of HTTP/2 after its first slot was taken.
    async fn begin(
        self: &Rc<Self>,
        limits: &Rc<Limits>,
        dial: impl Future<Output = io::Result<Dialled>>,
        keep: impl FnOnce(Rc<Live>),
    ) -> io::Result<Connected> {
        let dialled = dial.await?;
        self.speaks_http1.set(!dialled.is_h2());
        if !dialled.is_h2() {
            return Ok(Connected::Http1(dialled.stream));
        }
        let live = establish(dialled.stream, limits, self).await?;
        let slot = live.slot().ok_or_else(|| io::Error::other(GOAWAY_AT_ONCE))?;
        keep(live);
        Ok(Connected::Http2(slot))
    }

    /// Whether the endpoint chose HTTP/1.1 the last time that it was given the choice.
    pub fn speaks_http1(&self) -> bool {
        self.speaks_http1.get()
    }

    /// Takes no more streams; the connections end with those that are under way.
    pub fn retire(&self) {
        self.live.borrow_mut().drain(..).for_each(|live| live.retire());
    }

    /// How many connections take streams.
    pub fn count(&self) -> usize {
        self.live.borrow().len()
    }

    /// A connection is over.
    pub(super) fn forget(&self, over: &Rc<Live>) {
        self.live.borrow_mut().retain(|live| !Rc::ptr_eq(live, over));
    }
}

/// The one attempt to connect that others wait for, however it ends.
struct Connecting<'c>(&'c Connections);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.is_connecting.set(false);
        self.0.news.notify_waiters();
    }
}
