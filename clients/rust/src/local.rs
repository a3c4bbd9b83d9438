//! Connections to a Unix socket on this machine.
//!
//! A capability is shown to whoever answers, so it is looked at first who that is: the socket and the process behind it
//! belong to the account that was named, or to root.

use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tower_service::Service;

/// Makes connections to one socket, whatever the URL's host is.
#[derive(Clone)]
pub(crate) struct Local {
    path: Arc<PathBuf>,
    owner: u32,
}

impl Local {
    pub(crate) fn new(path: PathBuf, owner: u32) -> Self {
        Self { path: Arc::new(path), owner }
    }

    /// The socket's path, for sentences.
    pub(crate) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    async fn connect(self) -> io::Result<TokioIo<UnixStream>> {
        let foreign = |what: &str, uid: u32| {
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{what} belongs to another account (uid {uid}), which is shown nothing"),
            ))
        };
        let found = std::fs::symlink_metadata(&*self.path)?;
        if !found.file_type().is_socket() {
            return Err(io::Error::other("this is no socket"));
        }
        if ![0, self.owner].contains(&found.uid()) {
            return foreign("the socket", found.uid());
        }
        let stream = UnixStream::connect(&*self.path).await?;
        match stream.peer_cred()?.uid() {
            peer if [0, self.owner].contains(&peer) => Ok(TokioIo::new(stream)),
            peer => foreign("the process at the socket", peer),
        }
    }
}

impl Service<Uri> for Local {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn who_answers_is_looked_at_before_anything_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let me = std::fs::symlink_metadata(&path).unwrap().uid();
        Local::new(path.clone(), me).connect().await.unwrap();
        listener.accept().unwrap();
        let other = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &other).unwrap();
        assert!(Local::new(other, me).connect().await.is_err(), "a link");
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_ok() {
            let error = Local::new(path, me).connect().await.map(drop).unwrap_err();
            assert!(error.to_string().contains("12345"), "{error}");
        }
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "nobody connected");
    }
}
