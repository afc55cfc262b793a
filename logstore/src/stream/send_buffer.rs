//! Frames on their way to the other side of a connection: what the socket takes at once is written by whoever adds them, the
//! rest by the connection's task.

use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;

use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

/// Room that an empty buffer keeps.
const KEPT_BYTES: usize = 1 << 20;

/// See the module. Frames wait in it while there is no connection.
#[derive(Default)]
pub(super) struct SendBuffer {
    /// The socket has taken the first `written_bytes` of them.
    frames: Vec<u8>,
    written_bytes: usize,
    connection: Option<Arc<OwnedWriteHalf>>,
}

impl SendBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What the socket has not taken yet.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.frames.len() - self.written_bytes
    }

    /// Frames go to `connection` from now on, beginning with those that wait.
    pub(super) fn attach(&mut self, connection: Arc<OwnedWriteHalf>) {
        self.connection = Some(connection);
    }

    /// The connection has ended, and what was not written is lost.
    pub(super) fn detach(&mut self) {
        self.connection = None;
        self.clear();
    }

    /// Forgets what waits. Only without a connection: the other side must not get half a frame.
    pub(super) fn clear(&mut self) {
        assert!(self.connection.is_none(), "a frame may have been sent in part");
        self.emptied();
    }

    fn emptied(&mut self) {
        self.frames.clear();
        self.frames.shrink_to(KEPT_BYTES);
        self.written_bytes = 0;
    }

    /// Lets go of what the socket has taken, once that is half of the buffer: one that is never empty must not grow for ever,
    /// and each byte is moved less than once.
    fn forget_written(&mut self) {
        if self.written_bytes >= self.frames.len().div_ceil(2) {
            self.frames.drain(..self.written_bytes);
            self.written_bytes = 0;
        }
    }

    /// Adds what `put` writes, and sends it if nothing waits before it; asks for `help` if the task has to. False if `put`
    /// has written nothing.
    pub(super) fn add(&mut self, help: &Notify, put: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let was_empty = self.is_empty();
        if !put(&mut self.frames) {
            return false;
        }
        // What broke, the task will find when it writes.
        if was_empty && !matches!(self.write(), Ok(true)) {
            help.notify_one();
        }
        true
    }

    /// Gives the socket what it takes. False if some is left. After an error the connection takes nothing more: whoever
    /// tried again would try for ever, because a broken socket counts as writable.
    pub(super) fn write(&mut self) -> Result<bool> {
        let Some(connection) = &self.connection else { return Ok(self.is_empty()) };
        while self.written_bytes < self.frames.len() {
            match connection.try_write(&self.frames[self.written_bytes..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written_bytes += count,
                Err(error) if blocks(&error) => {
                    self.forget_written();
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.emptied();
        Ok(true)
    }
}

fn blocks(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A sender that is always ahead of its connection, as one with a window of appends under way is.
    #[tokio::test]
    async fn a_buffer_that_is_never_empty_holds_what_waits() {
        const FRAME_BYTES: usize = 1 << 20;
        const WAITING_BYTES: usize = 16 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let sender = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (mut receiver, _) = listener.accept().await.expect("connected");
        let (_, write) = sender.into_split();
        let (write, help, mut buffer) = (Arc::new(write), Notify::new(), SendBuffer::default());
        buffer.attach(write.clone());
        let (mut sent, mut received) = (0, 0);
        let mut read = vec![0; 1 << 20];
        while received < 4 * WAITING_BYTES {
            while buffer.unwritten_bytes() < WAITING_BYTES {
                let byte = (sent / FRAME_BYTES) as u8;
                assert!(buffer.add(&help, |frames| {
                    frames.resize(frames.len() + FRAME_BYTES, byte);
                    true
                }));
                sent += FRAME_BYTES;
            }
            let held_bytes = buffer.frames.len();
            assert!(held_bytes <= 2 * (WAITING_BYTES + FRAME_BYTES), "{held_bytes} after {received}");
            tokio::select! {
                biased;
                ready = write.writable() => {
                    ready.expect("open");
                    assert!(!buffer.write().expect("open"), "the socket takes less");
                }
                count = receiver.read(&mut read) => {
                    let count = count.expect("open");
                    for (place, byte) in read[..count].iter().enumerate().step_by(511) {
                        assert_eq!(*byte, ((received + place) / FRAME_BYTES) as u8, "at {}", received + place);
                    }
                    received += count;
                }
            }
        }
    }
}
