//! A reader's stream of committed chunks: from memory when they are recent, from the segment files when they are not,
//! from the archive when they are no longer in the log, and then as they are committed. Driven by the reader: at most
//! one read of about 1 MiB, or one piece of the archive, is ahead of it.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt, unfold};
use storage::beside::beside;
use storage::{BranchId, Lsn};
use tokio::sync::watch;

use crate::archive::ArchiveReader;
use crate::client::{LogChunk, LogError};
use crate::published::{BranchTail, Published};
use crate::segment::{BranchCursor, SegmentSet, StoreError};

/// Chunks are fetched in portions of about this size.
const PORTION_BYTES: usize = 1 << 20;

struct Subscription {
    branch: BranchId,
    tail: Arc<BranchTail>,
    segments: Arc<SegmentSet>,
    durable: watch::Receiver<Lsn>,
    stopped: watch::Receiver<Option<LogError>>,
    position: Lsn,
    buffered: VecDeque<LogChunk>,
    /// Kept while the reader is behind what memory holds.
    cursor: Option<BranchCursor>,
    /// Where that is found which is no longer in the log.
    archive: Option<ArchiveReader>,
    ended: bool,
}

/// Follows `branch` from `from_lsn`.
pub(crate) fn subscribe(
    published: &Published,
    segments: &Arc<SegmentSet>,
    archive: Option<ArchiveReader>,
    branch: BranchId,
    from_lsn: Lsn,
) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError> {
    let tail = published.branch(branch);
    let first_lsn = tail.first_lsn();
    if from_lsn < first_lsn && archive.is_none() {
        return Err(LogError::Trimmed { branch, asked: from_lsn, first_lsn });
    }
    let subscription = Subscription {
        branch,
        durable: tail.watch(),
        tail,
        segments: segments.clone(),
        stopped: published.stopped(),
        position: from_lsn,
        buffered: VecDeque::new(),
        cursor: None,
        archive,
        ended: false,
    };
    let stream = unfold(subscription, |mut subscription| async move {
        if subscription.ended {
            return None;
        }
        let next = subscription.next().await;
        // An error is the last item: the reader decides where to begin again.
        subscription.ended = next.is_err();
        Some((next, subscription))
    });
    Ok(stream.boxed())
}

impl Subscription {
    async fn next(&mut self) -> Result<LogChunk, LogError> {
        loop {
            if let Some(chunk) = self.buffered.pop_front() {
                self.position = chunk.start_lsn.advance(chunk.bytes.len() as u64);
                return Ok(chunk);
            }
            let durable = *self.durable.borrow_and_update();
            if self.position >= durable {
                let running = tokio::select! {
                    biased;
                    changed = self.durable.changed() => changed.is_ok(),
                    _ = self.stopped.wait_for(Option::is_some) => false,
                };
                if !running {
                    return Err(self.stop_reason());
                }
                continue;
            }
            let first_lsn = self.tail.first_lsn();
            if self.position < first_lsn {
                // Trimmed before it was read, however often that happens: what is trimmed is archived.
                let trimmed = LogError::Trimmed { branch: self.branch, asked: self.position, first_lsn };
                let archive = self.archive.as_mut().ok_or(trimmed)?;
                self.buffered = archive.read(self.position).await?.into();
                self.cursor = None;
                continue;
            }
            self.buffered = self.tail.recent(self.position, PORTION_BYTES).into();
            if self.buffered.is_empty() {
                self.read_files(durable).await?;
            } else {
                self.cursor = None;
            }
        }
    }

    fn stop_reason(&self) -> LogError {
        let reason = self.stopped.borrow().clone();
        reason.unwrap_or_else(|| LogError::Unavailable { reason: "the log node has stopped".into() })
    }

    async fn read_files(&mut self, durable: Lsn) -> Result<(), LogError> {
        let (branch, position) = (self.branch, self.position);
        let (cursor, segments) = (self.cursor.take(), self.segments.clone());
        let read = beside(move || read_portion(cursor, &segments, branch, position, durable)).await;
        let read = read.ok_or_else(|| LogError::Unavailable { reason: "reading the log was given up".into() })?;
        match read {
            Ok((chunks, cursor)) => {
                // Trimmed under us: what is left begins further on, and must not be taken for what comes next.
                let begins = chunks.front().map_or(cursor.position(), |chunk| chunk.start_lsn);
                if begins > position && self.archive.is_some() {
                    return Ok(());
                }
                if begins > position {
                    return Err(LogError::Trimmed { branch, asked: position, first_lsn: begins });
                }
                self.buffered = chunks;
                self.cursor = Some(cursor);
                Ok(())
            }
            Err(error) => {
                // Trimming may have removed the file under us; then that is the answer.
                let first_lsn = self.tail.first_lsn();
                if position < first_lsn && self.archive.is_some() {
                    return Ok(());
                }
                if position < first_lsn {
                    return Err(LogError::Trimmed { branch, asked: position, first_lsn });
                }
                self.read_damaged(to_log_error(&error)).await
            }
        }
    }
}

impl Subscription {
    /// Damage of the node's own file: the archive may hold what was there. Else the reader asks another node.
    async fn read_damaged(&mut self, error: LogError) -> Result<(), LogError> {
        let archive = self.archive.as_mut().filter(|_| matches!(error, LogError::Corrupt { .. }));
        let Some(archive) = archive else { return Err(error) };
        let Ok(chunks) = archive.read(self.position).await else { return Err(error) };
        metrics::counter!("alluvium_log_damage_bridged_total").increment(1);
        tracing::error!(%error, branch = %self.branch, position = %self.position, "read from the archive instead");
        self.buffered = chunks.into();
        Ok(())
    }
}

type Portion = (VecDeque<LogChunk>, BranchCursor);

fn read_portion(
    cursor: Option<BranchCursor>,
    segments: &Arc<SegmentSet>,
    branch: BranchId,
    position: Lsn,
    durable: Lsn,
) -> Result<Portion, StoreError> {
    // A cursor that was kept holds bytes that have been read before the rest of their block was written, and may stand among
    // entries whose terms have been forgotten since, with a trim. So its failure says nothing.
    let kept = cursor.filter(|cursor| cursor.position() == position);
    if let Some(Ok(portion)) = kept.map(|cursor| read_on(cursor, durable)) {
        return Ok(portion);
    }
    read_on(BranchCursor::new(segments, branch, position)?, durable)
}

fn read_on(mut cursor: BranchCursor, durable: Lsn) -> Result<Portion, StoreError> {
    let (mut chunks, mut bytes) = (VecDeque::new(), 0);
    while cursor.position() < durable && bytes < PORTION_BYTES {
        let chunk = cursor.next_chunk()?;
        bytes += chunk.bytes.len();
        chunks.push_back(chunk);
    }
    Ok((chunks, cursor))
}

/// What a client is told about a failure of the files.
pub(crate) fn to_log_error(error: &StoreError) -> LogError {
    let reason = error.to_string();
    match error {
        StoreError::NoSpace { .. } => LogError::NoSpace { reason },
        StoreError::Corrupt { .. } => LogError::Corrupt { reason },
        StoreError::Io { .. } => LogError::Unavailable { reason },
    }
}
