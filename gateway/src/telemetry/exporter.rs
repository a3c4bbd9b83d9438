//! The thread that sends spans: OTLP over HTTP, binary protobuf (opentelemetry.io, "OTLP/HTTP").
//!
//! It takes what the workers left every second, or when one of them has a batch together. A collector that cannot be
//! reached, or asks for patience (429, 502, 503, 504), gets the same batch again later; what it refuses for good is
//! dropped. What waits here is bounded like what waits at a worker, and what is dropped is counted. The collector is
//! complained of once in a while, not once a second. Where a reload names another collector, what waits goes to that one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::destination::{Destination, Driver};
use super::otlp;
use super::traces::{Shared, Spans};
use crate::config::Collector;
use crate::limits::{
    TRACE_ANSWER_BYTES_MAX, TRACE_BATCH_MESSAGES_MAX, TRACE_COMPLAINT_INTERVAL, TRACE_EXPORT_TIMEOUT,
    TRACE_FLUSH_TIMEOUT, TRACE_GATHER,
};

/// What came of sending one batch.
enum Sent {
    /// The collector has it, but for so many spans.
    Taken { rejected: u64 },
    /// It may take it later.
    Later(String),
    /// It never will.
    Never(String),
}

/// What the thread is told while it runs.
pub(super) struct Orders {
    /// Where spans go from now on.
    pub(super) destination: watch::Receiver<Arc<Destination>>,
    /// True once it is to send what is left, and end.
    pub(super) stopped: watch::Receiver<bool>,
}

/// The thread's whole life.
pub(super) fn run(shared: &Shared, orders: Orders) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(Exporter::new(shared, orders).run()),
        Err(error) => tracing::error!(%error, "traces have no runtime and are not sent"),
    }
}

struct Exporter<'e> {
    shared: &'e Shared,
    orders: Orders,
    /// What was ordered last.
    destination: Arc<Destination>,
    /// What was taken from the workers and is not sent.
    waiting: Vec<Spans>,
    complained: Option<Instant>,
    dropped_said: u64,
}

impl<'e> Exporter<'e> {
    fn new(shared: &'e Shared, mut orders: Orders) -> Self {
        let destination = Arc::clone(&orders.destination.borrow_and_update());
        Self { shared, orders, destination, waiting: Vec::new(), complained: None, dropped_said: shared.dropped.read() }
    }

    async fn run(mut self) {
        let mut stopped = self.orders.stopped.clone();
        loop {
            let is_last = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => true,
                Ok(()) = self.orders.destination.changed() => {
                    self.destination = Arc::clone(&self.orders.destination.borrow_and_update());
                    // What was said of the other one says nothing of this one.
                    self.complained = None;
                    false
                }
                () = self.shared.wake.notified() => false,
                () = sleep(TRACE_GATHER) => false,
            };
            self.collect();
            if is_last {
                // The others are waiting for this thread to end.
                let _ = timeout(TRACE_FLUSH_TIMEOUT, self.send_all()).await;
                self.drop_from(0);
                self.shared.failing.store(false, Ordering::Relaxed);
                return;
            }
            self.send_all().await;
        }
    }

    fn collect(&mut self) {
        self.waiting.extend(self.shared.take());
        let (mut spans, spans_max) = (0, self.shared.spans_max());
        let fits = self.waiting.iter().take_while(|message| {
            spans += message.count();
            spans <= spans_max
        });
        self.drop_from(fits.count());
    }

    fn drop_from(&mut self, first: usize) {
        let dropped: usize = self.waiting.drain(first..).map(|message| message.count()).sum();
        self.shared.dropped.add(dropped as u64);
    }

    /// Sends what waits, batch by batch over one connection, until the collector has it, does not want it now, or is no
    /// longer the one that is meant.
    async fn send_all(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut driver = Driver::new();
        let mut connection = None;
        while !self.waiting.is_empty() && !self.orders.destination.has_changed().unwrap_or(false) {
            let batch = self.waiting.len().min(TRACE_BATCH_MESSAGES_MAX);
            let body = otlp::request(&self.destination.settings.service_name, &self.waiting[..batch]);
            let sent = tokio::select! {
                sent = timeout(TRACE_EXPORT_TIMEOUT, self.send(&mut connection, &mut driver, body)) => {
                    sent.unwrap_or_else(|_| Sent::Later(format!("no answer within {TRACE_EXPORT_TIMEOUT:?}")))
                }
                () = self.patience() => Sent::Later("the gateway is shutting down".to_owned()),
            };
            match sent {
                Sent::Taken { rejected } => {
                    let spans: usize = self.waiting.drain(..batch).map(|message| message.count()).sum();
                    let rejected = rejected.min(spans as u64);
                    self.shared.exported.add(spans as u64 - rejected);
                    self.shared.dropped.add(rejected);
                    self.works();
                }
                Sent::Later(why) => return self.complain(&why),
                Sent::Never(why) => {
                    let rest = self.waiting.split_off(batch);
                    self.drop_from(0);
                    self.waiting = rest;
                    self.complain(&why);
                }
            }
        }
    }

    /// How long an attempt that is under way may take once the gateway shuts down.
    async fn patience(&self) {
        let mut stopped = self.orders.stopped.clone();
        // An error means that whoever could stop this is gone, which stops it as well.
        let _ = stopped.wait_for(|stop| *stop).await;
        sleep(TRACE_FLUSH_TIMEOUT).await;
    }

    async fn send(
        &self,
        connection: &mut Option<SendRequest<Full<Bytes>>>,
        driver: &mut Driver,
        body: Vec<u8>,
    ) -> Sent {
        let mut sender = match connection.take().filter(|kept| !kept.is_closed()) {
            Some(kept) => kept,
            None => match self.destination.connect(driver).await {
                Ok(fresh) => fresh,
                Err(error) => return Sent::Later(error),
            },
        };
        let Collector { path, authority, .. } = &self.destination.settings.otlp;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        let (Ok(uri), Ok(host)) = (path.parse(), HeaderValue::from_str(authority)) else {
            return Sent::Never("its address cannot be written into a request".to_owned());
        };
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.extend(self.destination.headers.clone());
        headers.insert(HOST, host);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("postern/", env!("CARGO_PKG_VERSION"))));
        let exchange = async {
            sender.ready().await?;
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), TRACE_ANSWER_BYTES_MAX).collect().await;
            Ok::<_, hyper::Error>((status, body.map(|body| body.to_bytes()).unwrap_or_default()))
        };
        match exchange.await {
            Err(error) => {
                drop(sender);
                Sent::Later(self.destination.explained(error, driver).await)
            }
            Ok((status, body)) if status.is_success() => {
                *connection = Some(sender);
                Sent::Taken { rejected: otlp::rejected(&body) }
            }
            Ok((status, _)) => {
                let patience = [
                    StatusCode::TOO_MANY_REQUESTS,
                    StatusCode::BAD_GATEWAY,
                    StatusCode::SERVICE_UNAVAILABLE,
                    StatusCode::GATEWAY_TIMEOUT,
                ];
                let why = format!("it answered {}", status.as_u16());
                if patience.contains(&status) { Sent::Later(why) } else { Sent::Never(why) }
            }
        }
    }

    fn works(&mut self) {
        if self.shared.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the trace collector takes spans again");
            self.complained = None;
        }
    }

    fn complain(&mut self, why: &str) {
        self.shared.failing.store(true, Ordering::Relaxed);
        let long_ago = |at: Instant| at.elapsed() >= TRACE_COMPLAINT_INTERVAL;
        if !self.complained.is_none_or(long_ago) {
            return;
        }
        self.complained = Some(Instant::now());
        let dropped = self.shared.dropped.read();
        let since = dropped - self.dropped_said;
        self.dropped_said = dropped;
        tracing::warn!(
            collector = self.destination.settings.otlp.url(),
            why,
            dropped_spans = since,
            "the trace collector takes no spans; messages are not affected. Start it, or correct telemetry.otlp",
        );
    }
}
