//! What a client still sends when its answer is complete.
//!
//! A stream whose request body is let go too early is reset at once (RFC 9113 section 8.1: NO_ERROR). That is correct, and
//! all the same takes the answer away from clients that read the reset first, or wait for a window that never opens.
//! So the rest is read and dropped for a while, as HTTP/1 does: it frees the window, and an upload that ends soon ends
//! by itself. It costs no memory; the answer does not wait for it.

use h2::RecvStream;
use tokio::time::timeout;

use crate::worker::Worker;

/// Drops what is left of a body, within `discard_bytes_max` and `linger_timeout`; what goes beyond is reset. Where memory is
/// short nobody is waited for.
pub(super) async fn drop_rest(mut body: RecvStream, worker: &Worker) {
    if body.is_end_stream() || worker.budget.is_strained() {
        return;
    }
    let limits = worker.limits();
    let rest = async {
        let mut left = limits.discard_bytes_max;
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
            match left.checked_sub(data.len() as u64) {
                Some(fewer) => left = fewer,
                None => return,
            }
        }
        // Fields may follow; the stream has ended with them.
        let _ = body.trailers().await;
    };
    // A client that takes longer has had its time.
    let _ = timeout(limits.linger_timeout, rest).await;
}
