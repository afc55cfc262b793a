//! Noticing that a client has gone while a statement of it runs.
//!
//! A running statement does not read its socket, so the end of the stream would be found only when it has ended:
//! until then it would burn a processor and hold its locks for nobody. One task looks at the sockets of those
//! sessions that are running something, four times a second. It asks the runtime's event queue, not the
//! socket: no system call, and unread input before the end of the stream does not hide it.
//!
//! A client that closes only its sending side while it awaits an answer counts as gone, as with Postgres'
//! `client_connection_check_interval`.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use sql::store::{Interrupt, InterruptReason};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Between two looks. A client is noticed within two of them: within a second, on a busy machine too.
const PERIOD: Duration = Duration::from_millis(250);

/// A socket that its connection uses and the watching task looks at.
#[derive(Clone)]
pub(super) struct SharedStream(Arc<TcpStream>);

impl SharedStream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Whether the client has closed its side, as far as the runtime has heard.
    fn is_closed_by_client(&self) -> bool {
        match self.0.ready(Interest::READABLE).now_or_never() {
            Some(Ok(ready)) => ready.is_read_closed(),
            Some(Err(_)) => true,
            None => false,
        }
    }
}

impl AsyncRead for SharedStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(out.initialize_unfilled()) {
                Ok(bytes) => {
                    out.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // SAFETY: the descriptor is open as long as the stream lives; no memory is passed. Its outcome does not
        // matter: it can only fail because the client was faster.
        unsafe { libc::shutdown(self.0.as_raw_fd(), libc::SHUT_WR) };
        Poll::Ready(Ok(()))
    }
}

/// One session, as the watching task sees it.
pub(super) struct Watched {
    stream: SharedStream,
    interrupt: Arc<Interrupt>,
    /// Whether it is running something now, and so not reading.
    running: AtomicBool,
}

/// Held while a statement runs.
pub(super) struct Running<'w>(Option<&'w Watched>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(watched) = self.0 {
            watched.running.store(false, Ordering::Relaxed);
        }
    }
}

/// Marks a session as running, if it is watched at all.
pub(super) fn running(watched: Option<&Arc<Watched>>) -> Running<'_> {
    if let Some(watched) = watched {
        watched.running.store(true, Ordering::Relaxed);
    }
    Running(watched.map(|watched| &**watched))
}

/// All sessions. As many as there may be connections.
#[derive(Default)]
pub(super) struct Watchers {
    sessions: Mutex<Vec<Weak<Watched>>>,
}

impl Watchers {
    /// Watches a session until the answer is dropped.
    pub(super) fn add(&self, stream: SharedStream, interrupt: Arc<Interrupt>) -> Arc<Watched> {
        let watched = Arc::new(Watched { stream, interrupt, running: AtomicBool::new(false) });
        self.sessions.lock().push(Arc::downgrade(&watched));
        watched
    }

    /// Looks, for ever.
    pub(super) async fn watch(&self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            self.sessions.lock().retain(|session| {
                let Some(watched) = session.upgrade() else { return false };
                if watched.running.load(Ordering::Relaxed) && watched.stream.is_closed_by_client() {
                    watched.interrupt.raise(InterruptReason::ClientGone);
                    return false;
                }
                true
            });
        }
    }
}
