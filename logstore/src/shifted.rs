//! [`ShiftedLog`]: logs of branches that begin at an LSN other than zero.
//!
//! A log service counts the bytes of a stream from zero. A branch that leaves its parent at an LSN goes on counting from
//! there: its LSNs are the positions in its stream plus the LSN at which it begins. The log need not know.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use storage::{BranchId, Epoch, Lsn};

use crate::client::{BranchStatus, EpochGrant, LogChunk, LogClient, LogError};
use crate::filter::{Pieces, StreamFilter, StreamPiece};

/// A log seen in the LSNs of branches.
pub struct ShiftedLog {
    inner: Arc<dyn LogClient>,
    begins: HashMap<BranchId, Lsn>,
}

impl ShiftedLog {
    /// `begins`: where branches begin. Those that are not named begin at zero.
    pub fn new(inner: Arc<dyn LogClient>, begins: impl IntoIterator<Item = (BranchId, Lsn)>) -> ShiftedLog {
        ShiftedLog { inner, begins: begins.into_iter().collect() }
    }

    fn begin(&self, branch: BranchId) -> Lsn {
        self.begins.get(&branch).copied().unwrap_or(Lsn::ZERO)
    }
}

/// What lies before the beginning counts as the beginning; [`Lsn::MAX`] stays what it is.
fn position(begin: Lsn, lsn: Lsn) -> Lsn {
    if lsn == Lsn::MAX { lsn } else { Lsn(lsn.0.saturating_sub(begin.0)) }
}

fn lsn(begin: Lsn, position: Lsn) -> Lsn {
    position.advance(begin.0)
}

fn error(begin: Lsn, error: LogError) -> LogError {
    let shown = |position| lsn(begin, position);
    match error {
        LogError::Fenced { branch, epoch, current, end_lsn } => {
            LogError::Fenced { branch, epoch, current, end_lsn: shown(end_lsn) }
        }
        LogError::Gap { branch, start_lsn, end_lsn } => {
            LogError::Gap { branch, start_lsn: shown(start_lsn), end_lsn: shown(end_lsn) }
        }
        LogError::Trimmed { branch, asked, first_lsn } => {
            LogError::Trimmed { branch, asked: shown(asked), first_lsn: shown(first_lsn) }
        }
        other => other,
    }
}

#[async_trait]
impl LogClient for ShiftedLog {
    async fn acquire_epoch(&self, branch: BranchId) -> Result<EpochGrant, LogError> {
        let begin = self.begin(branch);
        let grant = self.inner.acquire_epoch(branch).await.map_err(|failed| error(begin, failed))?;
        Ok(EpochGrant { end_lsn: lsn(begin, grant.end_lsn), ..grant })
    }

    // Written out, so that the order of the calls is that of the inner log's.
    fn append<'client, 'result>(
        &'client self,
        branch: BranchId,
        epoch: Epoch,
        start_lsn: Lsn,
        bytes: Bytes,
    ) -> BoxFuture<'result, Result<Lsn, LogError>>
    where
        'client: 'result,
        Self: 'result,
    {
        let begin = self.begin(branch);
        let appended = self.inner.append(branch, epoch, position(begin, start_lsn), bytes);
        Box::pin(async move { appended.await.map(|end| lsn(begin, end)).map_err(|failed| error(begin, failed)) })
    }

    async fn subscribe(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
    ) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError> {
        let begin = self.begin(branch);
        let chunks = self.inner.subscribe(branch, position(begin, from_lsn)).await;
        let chunks = chunks.map_err(|failed| error(begin, failed))?;
        let shift = move |chunk: Result<LogChunk, LogError>| match chunk {
            Ok(chunk) => Ok(LogChunk { start_lsn: lsn(begin, chunk.start_lsn), ..chunk }),
            Err(failed) => Err(error(begin, failed)),
        };
        Ok(chunks.map(shift).boxed())
    }

    async fn subscribe_filtered(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
        filter: &StreamFilter,
    ) -> Result<Pieces, LogError> {
        let begin = self.begin(branch);
        let filter = StreamFilter { base_lsn: lsn(begin, filter.base_lsn), ..filter.clone() };
        let pieces = self.inner.subscribe_filtered(branch, position(begin, from_lsn), &filter).await;
        let pieces = pieces.map_err(|failed| error(begin, failed))?;
        let shift = move |piece: Result<StreamPiece, LogError>| match piece {
            Ok(piece) => Ok(piece.moved(|position| lsn(begin, position))),
            Err(failed) => Err(error(begin, failed)),
        };
        Ok(pieces.map(shift).boxed())
    }

    async fn status(&self, branch: BranchId) -> Result<BranchStatus, LogError> {
        let begin = self.begin(branch);
        let status = self.inner.status(branch).await.map_err(|failed| error(begin, failed))?;
        let (first_lsn, durable_lsn) = (lsn(begin, status.first_lsn), lsn(begin, status.durable_lsn));
        let consumers = status.consumers.into_iter().map(|(name, position)| (name, lsn(begin, position))).collect();
        Ok(BranchStatus { first_lsn, durable_lsn, consumers, ..status })
    }

    async fn report_consumer(&self, branch: BranchId, consumer: &str, durable_lsn: Lsn) -> Result<(), LogError> {
        let begin = self.begin(branch);
        let reported = self.inner.report_consumer(branch, consumer, position(begin, durable_lsn)).await;
        reported.map_err(|failed| error(begin, failed))
    }
}
