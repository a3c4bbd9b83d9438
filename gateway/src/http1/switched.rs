//! A connection that is HTTP no longer: the upstream has agreed to switch protocols, and bytes pass as they are.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Connection, End};
use super::deadline::Deadline;
use super::exchange::Exchange;
use super::way::Way;
use crate::head::Spans;
use crate::lease::Lease;
use crate::limits::Limits;
use crate::telemetry::StreamKind;
use crate::tunnel::{self, Begun, Ending, Pace};

impl<C, W> Connection<C, W>
where
    C: AsyncRead + AsyncWrite + Unpin,
    W: Way,
{
    /// Runs the tunnel to its end; the connection ends with it.
    pub(super) async fn switched(&mut self, mut x: Exchange<W>) -> End {
        let Some((upstream, down)) = x.call.switched() else { return End::Abort };
        let is_websocket = x.order.switch.as_ref().is_some_and(|switch| switch.is_websocket());
        let linger = self.limits.linger_timeout;
        let up = self.client.input.filled().to_vec();
        let budget = Some(Arc::clone(&self.shared.budget));
        let upstream_window_bytes = upstream.window_bytes(&self.limits);
        let begun = Begun { up, down, is_websocket, linger, budget, client_window_bytes: 0, upstream_window_bytes };
        // Nothing is read as HTTP any more, here or there: the room for it goes back.
        self.client.input.release();
        self.permitted = W::Permitted::default();
        self.spans = Spans::new();
        self.shared.put_call(x.call);
        let kind = if is_websocket { StreamKind::WebSocket } else { StreamKind::Other };
        let open = self.way.telemetry().open_stream(kind);
        let is_draining = || is_websocket && self.shared.is_draining();
        let mut watch = Watch::new(x.order.lease.as_ref(), &self.deadline, &self.limits, &is_draining);
        let ended = tunnel::run(&mut self.client.io, upstream, begun, |cx, pace| watch.poll(cx, pace)).await;
        drop(open);
        if let Some(Ending::Fallen(fallen)) = &ended.by {
            self.way.telemetry().lease_fell();
            self.way.broken(&mut x.ticket, Some(fallen));
        }
        self.way.close(x.ticket, ended.bytes_up, ended.bytes_down);
        End::Abort
    }
}

/// What ends a tunnel from outside, whichever HTTP it came over.
pub(crate) struct Watch<'w> {
    lease: Option<&'w Lease>,
    deadline: &'w Deadline,
    limits: &'w Limits,
    is_draining: &'w dyn Fn() -> bool,
    was_waiting: Option<bool>,
}

impl<'w> Watch<'w> {
    pub(crate) fn new(
        lease: Option<&'w Lease>,
        deadline: &'w Deadline,
        limits: &'w Limits,
        is_draining: &'w dyn Fn() -> bool,
    ) -> Self {
        Self { lease, deadline, limits, is_draining, was_waiting: None }
    }

    /// Whether it must end. Remembers whom to wake when it must.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, pace: Pace) -> Poll<Ending> {
        if let Some(lease) = self.lease
            && let Poll::Ready(fallen) = lease.poll_fallen(cx)
        {
            return Poll::Ready(Ending::Fallen(fallen));
        }
        if (self.is_draining)() {
            return Poll::Ready(Ending::GoingAway);
        }
        if pace.has_moved || self.was_waiting != Some(pace.is_waiting) {
            self.was_waiting = Some(pace.is_waiting);
            match self.limits.tunnel_idle_timeout {
                _ if pace.is_waiting => self.deadline.set(self.limits.body_stall_timeout),
                Some(timeout) => self.deadline.set(timeout),
                None => self.deadline.unset(),
            }
        }
        // Also remembers whom to wake for a drain.
        match self.deadline.has_passed(cx) {
            false => Poll::Pending,
            true if pace.is_waiting => Poll::Ready(Ending::Stalled),
            true => Poll::Ready(Ending::Idle),
        }
    }
}
