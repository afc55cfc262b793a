//! What comes in quick succession on a subscription goes out as one message: each costs its receiver much more than its bytes,
//! and no commit waits for readers. The first chunk after a pause goes out at once.

use std::time::Duration;

use bytes::BytesMut;
use futures::stream::{BoxStream, Peekable, StreamExt, unfold};
use futures::{FutureExt, Stream};
use tokio::time::Instant;

use crate::client::{LogChunk, LogError};

/// Between two messages to a reader that is up to date. What it delays is a read of a page that changed this recently and that
/// the compute has already let go.
const PAUSE: Duration = Duration::from_millis(10);
/// Chunks are joined up to about this size; a reader that gets so much has no pause.
const LIMIT_BYTES: usize = 256 << 10;

type Chunks = BoxStream<'static, Result<LogChunk, LogError>>;

/// The same log in fewer chunks. They begin and end where chunks of `chunks` do.
pub(super) fn gather(chunks: Chunks) -> impl Stream<Item = Result<LogChunk, LogError>> + Send + 'static {
    let state = (Box::pin(chunks.peekable()), None::<Instant>);
    unfold(state, |(mut chunks, not_before)| async move {
        if let Some(not_before) = not_before {
            tokio::time::sleep_until(not_before).await;
        }
        let gathered = match chunks.next().await? {
            Ok(first) => Ok(joined(first, chunks.as_mut().get_mut())),
            Err(error) => Err(error),
        };
        let full = gathered.as_ref().is_ok_and(|chunk| chunk.bytes.len() >= LIMIT_BYTES / 2);
        let not_before = (!full).then(|| Instant::now() + PAUSE);
        Some((gathered, (chunks, not_before)))
    })
}

/// `first` with those after it that are there already and continue it.
fn joined(first: LogChunk, chunks: &mut Peekable<Chunks>) -> LogChunk {
    let mut bytes: Option<BytesMut> = None;
    let mut length = first.bytes.len();
    loop {
        let continues = |next: &Result<LogChunk, LogError>| {
            next.as_ref().is_ok_and(|next| {
                next.epoch == first.epoch
                    && next.start_lsn == first.start_lsn.advance(length as u64)
                    && length + next.bytes.len() <= LIMIT_BYTES
            })
        };
        let next = std::pin::Pin::new(&mut *chunks).next_if(continues).now_or_never();
        let Some(Some(Ok(next))) = next else { break };
        length += next.bytes.len();
        bytes.get_or_insert_with(|| BytesMut::from(&first.bytes[..])).extend_from_slice(&next.bytes);
    }
    match bytes {
        Some(bytes) => LogChunk { bytes: bytes.freeze(), ..first },
        None => first,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use storage::{Epoch, Lsn};
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    fn chunk(start: u64, epoch: u64, length: usize) -> Result<LogChunk, LogError> {
        Ok(LogChunk { start_lsn: Lsn(start), epoch: Epoch(epoch), bytes: Bytes::from(vec![epoch as u8; length]) })
    }

    /// (start, epoch, length) of what comes out of chunks that are all there.
    async fn check(chunks: Vec<Result<LogChunk, LogError>>, expected: &[(u64, u64, usize)]) {
        let gathered: Vec<_> = gather(futures::stream::iter(chunks).boxed()).collect().await;
        let shown: Vec<_> = gathered
            .into_iter()
            .filter_map(Result::ok)
            .map(|chunk| (chunk.start_lsn.0, chunk.epoch.0, chunk.bytes.len()))
            .collect();
        assert_eq!(shown, expected);
    }

    #[tokio::test]
    async fn what_continues_is_joined() {
        check(vec![], &[]).await;
        check(vec![chunk(5, 1, 3)], &[(5, 1, 3)]).await;
        check(vec![chunk(5, 1, 3), chunk(8, 1, 2), chunk(10, 1, 1)], &[(5, 1, 6)]).await;
        // Another epoch, an overlap.
        check(vec![chunk(5, 1, 3), chunk(8, 2, 2)], &[(5, 1, 3), (8, 2, 2)]).await;
        check(vec![chunk(5, 1, 3), chunk(7, 1, 4)], &[(5, 1, 3), (7, 1, 4)]).await;
        // Not beyond the limit, unless one chunk is.
        let (half, most) = (LIMIT_BYTES / 2, LIMIT_BYTES as u64);
        check(vec![chunk(0, 1, half), chunk(most / 2, 1, half), chunk(most, 1, 1)], &[(0, 1, 2 * half), (most, 1, 1)])
            .await;
        check(vec![chunk(0, 1, 4 * half), chunk(2 * most, 1, 1)], &[(0, 1, 4 * half), (2 * most, 1, 1)]).await;
        // An error is not lost, nor what came before it.
        let error = || Err(LogError::Unavailable { reason: "gone".to_owned() });
        check(vec![chunk(5, 1, 3), error()], &[(5, 1, 3)]).await;
        let gathered: Vec<_> = gather(futures::stream::iter([chunk(5, 1, 3), error()]).boxed()).collect().await;
        assert_eq!(gathered[1], error());
    }

    #[tokio::test]
    async fn the_first_goes_out_at_once_and_those_after_it_together() {
        let (sender, receiver) = mpsc::channel(64);
        // Before the first: the pause begins with it.
        let begun = Instant::now();
        let mut gathered = Box::pin(gather(ReceiverStream::new(receiver).boxed()));
        sender.send(chunk(0, 1, 10)).await.expect("open");
        assert_eq!(gathered.next().await.expect("one"), chunk(0, 1, 10));
        for start in [10, 20, 30] {
            sender.send(chunk(start, 1, 10)).await.expect("open");
        }
        assert_eq!(gathered.next().await.expect("the others"), chunk(10, 1, 30));
        assert!(begun.elapsed() >= PAUSE, "{:?}", begun.elapsed());
        // So much at once is followed by the rest without a pause.
        sender.send(chunk(40, 1, LIMIT_BYTES)).await.expect("open");
        sender.send(chunk(40 + LIMIT_BYTES as u64, 1, 1)).await.expect("open");
        assert_eq!(gathered.next().await.expect("a large one"), chunk(40, 1, LIMIT_BYTES));
        assert_eq!(gathered.next().now_or_never().flatten(), Some(chunk(40 + LIMIT_BYTES as u64, 1, 1)));
    }
}
