//! What a client still sends when its answer is complete.
//!
//! A stream whose request body is let go too early is reset at once (RFC 9113 section 8.1: NO_ERROR). That is correct, and
//! all the same takes the answer away from clients that read the reset first, or wait for a window that never opens.
//! So the rest is read and dropped for a while, as HTTP/1 does: it frees the window, and an upload that ends soon ends
//! by itself. It costs a task and no memory; the answer does not wait for it.

use std::rc::Rc;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::Active;
use crate::limits::Limits;

/// Drops what is left of a body, within `discard_bytes_max` and `linger_timeout`; what goes beyond is reset.
pub(super) async fn drop_rest(mut body: Incoming, limits: &Limits) {
    let rest = async {
        let mut left = limits.discard_bytes_max;
        while !body.is_end_stream() {
            let Some(Ok(frame)) = body.frame().await else { return };
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(length) {
                Some(fewer) => left = fewer,
                None => return,
            }
        }
    };
    // A client that takes longer has had its time.
    let _ = timeout(limits.linger_timeout, rest).await;
}

/// The same for a message that was answered without an exchange; the stream counts as active until then.
pub(super) fn drop_rest_beside(body: Incoming, limits: &Rc<Limits>, active: Active) {
    if body.is_end_stream() {
        return;
    }
    let limits = Rc::clone(limits);
    spawn_local(async move {
        drop_rest(body, &limits).await;
        drop(active);
    });
}
