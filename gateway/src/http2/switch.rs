//! Extended CONNECT (RFC 8441): a WebSocket, or another protocol that the resource names, over one stream.
//!
//! The upstream is asked over HTTP/1.1, with `Upgrade`, or over HTTP/2 by the same method; its 101, or its success, becomes the
//! 200 that opens the stream for bytes. Any answer that does not switch is passed on as the refusal that it is, but for a success, which the client would take for the
//! other protocol.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use h2::Reason;
use http::{Response, StatusCode};

use super::download::{Begun, Download};
use super::exchange::{Exchange, Failed, LastWord, conclude};
use super::lease::{Wait, Waiting, watch};
use super::pipe::Pipe;
use super::reply::Reply;
use crate::http1::switched::Watch;
use crate::telemetry::StreamKind;
use crate::tunnel::{self, Ending};
use crate::upstream::call::{Call, Failure};

impl Exchange {
    /// Asks the upstream, over a call that has begun, to switch protocols, and runs the tunnel if it does.
    pub(super) async fn switch(&mut self, call: &RefCell<Call>, reply: &mut Option<Reply>) -> Result<(), Failed> {
        let worker = Rc::clone(&self.worker);
        let response_timeout = self.response_timeout();
        let (wait, bytes_out) = (Waiting::on(Wait::Answer(Instant::now()), false), Cell::new(0));
        let download = Download { call, wait: &wait, bytes_out: &bytes_out, budget: &worker.budget };
        call.borrow_mut().expect_switch();
        let Some(waiting) = reply else { return Err(Failed::Gone) };
        let asked = async {
            while !call.borrow().has_sent_all() {
                // An upstream that does not take it all may have answered.
                if poll_fn(|cx| call.borrow_mut().poll_send(cx, &mut false)).await.is_err() {
                    break;
                }
            }
            download.head(waiting).await
        };
        let mut begun = tokio::select! {
            biased;
            begun = asked => begun?,
            end = watch(&wait, &worker, &self.admitted.lease, response_timeout) => return Err(end),
        };
        let has_switched = self.has_switched(&begun, call)?;
        if let Some(cross) = &self.ticket.cross {
            cross.apply(begun.head.headers_mut());
        }
        self.ticket.keeping.apply(begun.head.headers_mut());
        self.ticket.answered();
        let Some(reply) = reply.take() else { return Err(Failed::Gone) };
        if has_switched {
            self.ticket.responded(&worker, StatusCode::OK.as_u16());
            return self.tunnel(call, reply, opened(begun.head)).await;
        }
        self.ticket.responded(&worker, begun.head.status().as_u16());
        if begun.is_all {
            return reply.head_only(begun.head).map_err(|_| Failed::Gone);
        }
        let mut sender = reply.begin(begun.head, begun.declared).map_err(|_| Failed::Gone)?;
        let no_events = Cell::new(None);
        let ended = tokio::select! {
            biased;
            ended = download.body(&no_events, &mut sender) => ended,
            end = watch(&wait, &worker, &self.admitted.lease, response_timeout) => Err(end),
        };
        self.ticket.bytes_out = bytes_out.get();
        conclude(ended, sender, LastWord::None).await
    }

    /// Whether the upstream has switched as it was asked to.
    fn has_switched(&self, begun: &Begun, call: &RefCell<Call>) -> Result<bool, Failed> {
        let call = call.borrow();
        let (Some(head), Some(switch)) = (call.response(), &self.admitted.switch) else {
            return Err(Failure::Closed.into());
        };
        if switch.is_granted(&head).map_err(Failure::BadSwitch)? {
            return Ok(true);
        }
        if begun.head.status().is_success() {
            return Err(Failure::BadSwitch("it answered without switching").into());
        }
        Ok(false)
    }

    /// Runs the tunnel to its end.
    async fn tunnel(&mut self, call: &RefCell<Call>, reply: Reply, head: Response<()>) -> Result<(), Failed> {
        let worker = Rc::clone(&self.worker);
        let limits = worker.limits();
        let Some((upstream, down)) = call.borrow_mut().switched() else { return Err(Failure::Closed.into()) };
        let is_websocket = self.admitted.switch.as_ref().is_some_and(|switch| switch.is_websocket());
        let sender = reply.begin(head, None).map_err(|_| Failed::Gone)?;
        let mut client = Pipe::of(&mut self.body, sender);
        let begun = tunnel::Begun {
            up: Vec::new(),
            down,
            is_websocket,
            linger: limits.linger_timeout,
            budget: Some(Arc::clone(&worker.budget)),
            client_window_bytes: limits.h2_stream_window_bytes as usize,
            upstream_window_bytes: upstream.window_bytes(&limits),
        };
        let _open = worker.telemetry.open_stream(if is_websocket { StreamKind::WebSocket } else { StreamKind::Other });
        let (deadline, lease) = (worker.http1.deadline(), Some(&self.admitted.lease));
        let is_draining = || is_websocket && worker.http1.is_draining();
        let mut watch = Watch::new(lease, &deadline, &limits, &is_draining);
        let ended = tunnel::run(&mut client, upstream, begun, |cx, pace| watch.poll(cx, pace)).await;
        // Where the end was said this does nothing.
        client.into_sender().abort(Reason::CANCEL);
        (self.ticket.bytes_in, self.ticket.bytes_out) = (ended.bytes_up, ended.bytes_down);
        match ended.by {
            Some(Ending::Fallen(fallen)) => Err(Failed::Fallen(fallen)),
            _ => Ok(()),
        }
    }
}

/// The head that opens the stream for bytes: what was agreed on besides the switch itself stays (subprotocol, extensions).
fn opened(mut head: Response<()>) -> Response<()> {
    *head.status_mut() = StatusCode::OK;
    // The answer to a key that the client never had.
    head.headers_mut().remove("sec-websocket-accept");
    head
}
