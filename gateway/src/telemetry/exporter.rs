//! The thread that sends spans: OTLP over HTTP, binary protobuf (opentelemetry.io, "OTLP/HTTP").
//!
//! It takes what the workers left every second, or when one of them has a batch together. A collector that cannot be
//! reached, or asks for patience (429, 502, 503, 504), gets the same batch again later; what it refuses for good is
//! dropped. What waits here is bounded like what waits at a worker, and what is dropped is counted. The collector is
//! complained of once in a while, not once a second.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::otlp;
use super::traces::{Shared, Spans};
use crate::config::{self, Collector};
use crate::limits::{
    TRACE_ANSWER_BYTES_MAX, TRACE_BATCH_MESSAGES_MAX, TRACE_COMPLAINT_INTERVAL, TRACE_EXPORT_TIMEOUT,
    TRACE_FLUSH_TIMEOUT, TRACE_GATHER,
};
use crate::state::{StateError, read_secret_file};

/// Why the file of header fields cannot be used. No value of it is repeated: they are keys.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// It cannot be read, or others can read it as well.
    #[error("telemetry.otlp_headers: {0}")]
    File(#[from] StateError),
    /// A line is no header field.
    #[error("telemetry.otlp_headers: line {line} of {path} is no header field; write `name: value`, one a line")]
    Line {
        /// The file.
        path: String,
        /// Which line, from 1.
        line: usize,
    },
}

/// Where spans go.
pub(super) struct Destination {
    collector: Collector,
    service_name: String,
    headers: HeaderMap,
}

impl Destination {
    /// Reads the header fields, if there are any.
    pub(super) fn new(settings: &config::Telemetry) -> Result<Self, HeadersError> {
        let headers = settings.headers.as_deref().map_or_else(|| Ok(HeaderMap::new()), headers)?;
        Ok(Self { collector: settings.otlp.clone(), service_name: settings.service_name.clone(), headers })
    }
}

fn headers(path: &Path) -> Result<HeaderMap, HeadersError> {
    let text = read_secret_file(path)?;
    let mut headers = HeaderMap::new();
    for (line, written) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let field = written.split_once(':').and_then(|(name, value)| {
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value))
        });
        let (name, value) = field.ok_or_else(|| HeadersError::Line { path: path.display().to_string(), line })?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// What came of sending one batch.
enum Sent {
    /// The collector has it, but for so many spans.
    Taken { rejected: u64 },
    /// It may take it later.
    Later(String),
    /// It never will.
    Never(String),
}

/// The thread's whole life.
pub(super) fn run(shared: &Shared, destination: &Destination, stopped: watch::Receiver<bool>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(Exporter::new(shared, destination, stopped).run()),
        Err(error) => tracing::error!(%error, "traces have no runtime and are not sent"),
    }
}

struct Exporter<'e> {
    shared: &'e Shared,
    destination: &'e Destination,
    stopped: watch::Receiver<bool>,
    /// What was taken from the workers and is not sent.
    waiting: Vec<Spans>,
    complained: Option<Instant>,
    dropped_said: u64,
}

impl<'e> Exporter<'e> {
    fn new(shared: &'e Shared, destination: &'e Destination, stopped: watch::Receiver<bool>) -> Self {
        Self { shared, destination, stopped, waiting: Vec::new(), complained: None, dropped_said: 0 }
    }

    async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        loop {
            let is_last = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => true,
                () = self.shared.wake.notified() => false,
                () = sleep(TRACE_GATHER) => false,
            };
            self.collect();
            if is_last {
                // The others are waiting for this thread to end.
                let _ = timeout(TRACE_FLUSH_TIMEOUT, self.send_all()).await;
                self.drop_from(0);
                return;
            }
            self.send_all().await;
        }
    }

    fn collect(&mut self) {
        self.waiting.extend(self.shared.take());
        let mut spans = 0;
        let fits = self.waiting.iter().take_while(|message| {
            spans += message.count();
            spans <= self.shared.spans_max
        });
        self.drop_from(fits.count());
    }

    fn drop_from(&mut self, first: usize) {
        let dropped: usize = self.waiting.drain(first..).map(|message| message.count()).sum();
        self.shared.dropped.add(dropped as u64);
    }

    /// Sends what waits, batch by batch over one connection, until the collector has it or does not want it now.
    async fn send_all(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut driver = JoinSet::new();
        let mut connection = None;
        while !self.waiting.is_empty() {
            let batch = self.waiting.len().min(TRACE_BATCH_MESSAGES_MAX);
            let body = otlp::request(&self.destination.service_name, &self.waiting[..batch]);
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
        let mut stopped = self.stopped.clone();
        // An error means that whoever could stop this is gone, which stops it as well.
        let _ = stopped.wait_for(|stop| *stop).await;
        sleep(TRACE_FLUSH_TIMEOUT).await;
    }

    async fn send(
        &self,
        connection: &mut Option<SendRequest<Full<Bytes>>>,
        driver: &mut JoinSet<()>,
        body: Vec<u8>,
    ) -> Sent {
        let mut sender = match connection.take().filter(|kept| !kept.is_closed()) {
            Some(kept) => kept,
            None => match self.connect(driver).await {
                Ok(fresh) => fresh,
                Err(error) => return Sent::Later(error),
            },
        };
        let Collector { path, authority, .. } = &self.destination.collector;
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
            sender.ready().await.map_err(|error| error.to_string())?;
            let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), TRACE_ANSWER_BYTES_MAX).collect().await;
            Ok::<_, String>((status, body.map(|body| body.to_bytes()).unwrap_or_default()))
        };
        match exchange.await {
            Err(error) => Sent::Later(error),
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

    async fn connect(&self, driver: &mut JoinSet<()>) -> Result<SendRequest<Full<Bytes>>, String> {
        let Collector { host, port, .. } = &self.destination.collector;
        let stream = TcpStream::connect((&**host, *port)).await.map_err(|error| error.to_string())?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| error.to_string())?;
        driver.spawn(async move { drop(connection.await) });
        Ok(sender)
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
        let Collector { authority, path, .. } = &self.destination.collector;
        let since = dropped - self.dropped_said;
        self.dropped_said = dropped;
        tracing::warn!(
            collector = %format_args!("http://{authority}{path}"),
            why,
            dropped_spans = since,
            "the trace collector takes no spans; messages are not affected. Start it, or correct telemetry.otlp",
        );
    }
}
