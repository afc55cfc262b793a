//! Writing the archive: a task beside the node, which works while the node leads.
//!
//! Bounded: one piece is in memory at a time. While the object store does not answer, the archiver waits longer and longer
//! (up to [`ArchiveConfig::longest_pause`]); commits go on until the log has reached its budget, and when the store is
//! back everything catches up by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use metrics::{Counter, Gauge, counter, gauge};
use storage::object::{ObjectError, ProbeError, SwapError};
use storage::{BranchId, Lsn};
use tokio::task::JoinHandle;

use super::reader::{ReadError, read_piece};
use super::retention::drop_pieces;
use super::{
    ARCHIVE_CONSUMER, ARCHIVE_KEY, ArchiveConfig, ArchiveId, ArchivedRange, Piece, RANGE_PREFIX, archived_ranges,
    identity_key, piece_key, range_key,
};
use crate::LogStore;
use crate::client::{LogChunk, LogClient, LogError, MetadataClient, SwapOutcome};
use crate::local::LocalClient;
use crate::node::Read;

/// Charged for a group beside its bytes, so that tiny ones do not make a piece with millions of them.
const GROUP_OVERHEAD_BYTES: usize = 64;

/// The task that archives. Dropping it stops it; what is under way is repeated by whoever leads next.
pub struct Archiver {
    task: JoinHandle<String>,
}

impl Archiver {
    /// Begins to archive the log of `store` while it leads, and lets its subscriptions read from the archive. To be called
    /// within a tokio runtime.
    pub fn start(store: &LogStore, config: ArchiveConfig) -> Archiver {
        Archiver::start_with((*store.local_client()).clone(), config)
    }

    /// The same for the node that a client belongs to.
    pub(crate) fn start_with(log: LocalClient, config: ArchiveConfig) -> Archiver {
        log.set_archive(config.store.clone());
        let work = Work {
            log,
            config,
            archive: None,
            probed: false,
            probes: 0,
            reported: BTreeMap::new(),
            metrics: Metrics::new(),
        };
        Archiver { task: tokio::spawn(work.run()) }
    }

    /// Resolves when the store cannot be used for an archive at all, with the reason, or when the node has stopped.
    pub async fn ended(&mut self) -> String {
        match (&mut self.task).await {
            Ok(reason) => reason,
            Err(error) => format!("the log's archiver has ended: {error}"),
        }
    }
}

impl Drop for Archiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a round ended early.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The log does not answer or this node does not lead any more: the next round will see.
    Log(LogError),
    /// The object store does not do its work, or holds what it should not.
    Store(String),
    /// Never use this store.
    Dishonest(String),
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Trouble {
        Trouble::Log(error)
    }
}

impl From<ObjectError> for Trouble {
    fn from(error: ObjectError) -> Trouble {
        Trouble::Store(error.to_string())
    }
}

impl From<crate::wire::Malformed> for Trouble {
    fn from(error: crate::wire::Malformed) -> Trouble {
        Trouble::Store(error.to_string())
    }
}

struct Metrics {
    lag_bytes: Gauge,
    written_bytes: Counter,
    failures: Counter,
}

impl Metrics {
    fn new() -> Metrics {
        Metrics {
            lag_bytes: gauge!("alluvium_log_archive_lag_bytes"),
            written_bytes: counter!("alluvium_log_archive_written_bytes_total"),
            failures: counter!("alluvium_log_archive_failures_total"),
        }
    }
}

struct Work {
    log: LocalClient,
    config: ArchiveConfig,
    /// Which archive, once the store was seen to hold it.
    archive: Option<ArchiveId>,
    probed: bool,
    /// Probes begun.
    probes: u64,
    /// What was reported as consumer, by this process.
    reported: BTreeMap<BranchId, Lsn>,
    metrics: Metrics,
}

/// A range as it stands in the map.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) range: ArchivedRange,
    pub(super) version: u64,
}

impl Work {
    /// Returns why there will be no archive.
    async fn run(mut self) -> String {
        let mut failures: u32 = 0;
        loop {
            let stopped = self.log.stopped.clone();
            if stopped.borrow().is_some() {
                return "the log node has stopped".to_owned();
            }
            let pause = match self.round().await {
                Ok(()) => {
                    failures = 0;
                    self.config.pause
                }
                // Changes of the leader are no failure.
                Err(Trouble::Log(error)) => {
                    tracing::debug!(%error, "archiving is interrupted");
                    self.config.pause
                }
                Err(Trouble::Store(reason)) => {
                    self.metrics.failures.increment(1);
                    tracing::warn!(reason, "the log is not being archived, and cannot be trimmed");
                    failures += 1;
                    self.pause_after(failures)
                }
                Err(Trouble::Dishonest(reason)) => return reason,
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn pause_after(&self, failures: u32) -> Duration {
        self.config.pause.saturating_mul(1 << failures.min(16)).min(self.config.longest_pause)
    }

    /// Everything that can be archived now.
    async fn round(&mut self) -> Result<(), Trouble> {
        self.probe().await?;
        if !self.log.read(Read::View).await?.is_leader {
            self.reported.clear();
            self.metrics.lag_bytes.set(0.0);
            return Ok(());
        }
        let archive = self.begin().await?;
        let listed = self.log.list(RANGE_PREFIX).await?;
        let mut ranges = BTreeMap::new();
        for found in archived_ranges(&listed) {
            let (branch, range, version) = found?;
            ranges.insert(branch, Known { range, version });
        }
        let sealed = self.log.sealed()?;
        let held = |branch: &BranchId| ranges.get(branch).map_or(Lsn::ZERO, |known| known.range.end);
        let mut lag_bytes: u64 = sealed.iter().map(|(branch, end)| end.0.saturating_sub(held(branch).0)).sum();
        self.metrics.lag_bytes.set(lag_bytes as f64);
        let mut last = Ok(());
        for (branch, sealed) in sealed {
            let before = held(&branch);
            match self.archive_branch(archive, branch, ranges.get(&branch).copied(), sealed).await {
                Ok(()) => lag_bytes = lag_bytes.saturating_sub(sealed.0.saturating_sub(before.0)),
                // What is wrong with one branch does not keep the others in the log.
                Err(trouble @ Trouble::Store(_)) => last = Err(trouble),
                Err(trouble) => return Err(trouble),
            }
            self.metrics.lag_bytes.set(lag_bytes as f64);
        }
        last
    }

    /// Tries conditional PUT once: two nodes that both believe to lead must not both create a piece.
    async fn probe(&mut self) -> Result<(), Trouble> {
        let Some(key) = self.config.probe_key.as_ref().filter(|_| !self.probed) else { return Ok(()) };
        // What an earlier one has left, or what takes effect late, must not be taken for a store that breaks its word.
        self.probes += 1;
        match self.config.store.probe(&format!("{key}-{}", self.probes)).await {
            Ok(()) => self.probed = true,
            Err(ProbeError::Dishonest(reason)) => {
                let reason = format!("the archive's store cannot be used: conditional PUT is not honoured: {reason}");
                return Err(Trouble::Dishonest(reason));
            }
            Err(ProbeError::Object(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// The archive of this log; begins one if there is none.
    async fn begin(&mut self) -> Result<ArchiveId, Trouble> {
        let noted = match self.log.get(ARCHIVE_KEY).await? {
            Some(value) => ArchiveId::decode(value.bytes)?,
            None => {
                let new = ArchiveId(self.config.new_id);
                // First the object: an archive that is noted and whose object is missing is in another store.
                self.config.store.put(&identity_key(new), new.encode()).await?;
                match self.log.compare_and_swap(ARCHIVE_KEY, None, Some(new.encode())).await? {
                    SwapOutcome::Swapped { .. } => {
                        tracing::info!(archive = %new, "the log is archived from now on");
                        new
                    }
                    SwapOutcome::Conflict { current: Some(current) } => ArchiveId::decode(current.bytes)?,
                    SwapOutcome::Conflict { current: None } => {
                        return Err(Trouble::Store("the archive was given up at this moment".to_owned()));
                    }
                }
            }
        };
        if self.archive == Some(noted) {
            return Ok(noted);
        }
        match self.config.store.get(&identity_key(noted)).await {
            Ok(identity) if identity == noted.encode() => {}
            Ok(_) => return Err(Trouble::Store(format!("{:?} is damaged", identity_key(noted)))),
            Err(ObjectError::NotFound { .. }) => {
                let reason =
                    format!("this store does not hold the cluster's archive {noted}: another node uses another");
                return Err(Trouble::Store(reason));
            }
            Err(error) => return Err(error.into()),
        }
        self.archive = Some(noted);
        self.reported.clear();
        Ok(noted)
    }

    /// Archives a branch up to `sealed`.
    async fn archive_branch(
        &mut self,
        archive: ArchiveId,
        branch: BranchId,
        known: Option<Known>,
        sealed: Lsn,
    ) -> Result<(), Trouble> {
        let first_lsn = self.log.first_lsn(branch);
        let mut known = match known {
            Some(known) if known.range.archive == archive && known.range.end >= first_lsn => known,
            // Before there was an archive, each node trimmed as far as it could: this one's log begins later than that of
            // the node that began the archive. Nobody needs what lies between, or it would not have been trimmed.
            other => {
                if let Some(known) = other {
                    let end = known.range.end;
                    tracing::warn!(%branch, %end, %first_lsn, "the archive begins anew: the log does not reach back to it");
                }
                let range = ArchivedRange { archive, begin: first_lsn, end: first_lsn };
                self.note(branch, range, other.map(|known| known.version)).await?
            }
        };
        self.report(branch, known.range.end).await?;
        while known.range.end < sealed {
            let mut groups = self.log.subscribe_to_log(branch, known.range.end)?;
            while known.range.end < sealed {
                let from = known.range.end;
                let mut chunks: Vec<LogChunk> = Vec::new();
                let mut bytes = 0;
                let mut position = from;
                while position < sealed && bytes < self.config.piece_bytes {
                    let Some(chunk) = groups.next().await else { break };
                    let chunk = chunk?;
                    position = chunk.start_lsn.advance(chunk.bytes.len() as u64);
                    bytes += chunk.bytes.len() + GROUP_OVERHEAD_BYTES;
                    chunks.push(chunk);
                }
                if chunks.is_empty() {
                    return Err(Trouble::Log(LogError::Unavailable { reason: "the log has stopped".to_owned() }));
                }
                let ours = Piece { branch, chunks };
                assert_eq!(ours.start_lsn(), from, "pieces begin where the one before ends");
                let end = self.create(archive, &ours).await?;
                let range = ArchivedRange { end, ..known.range };
                known = self.note(branch, range, Some(known.version)).await?;
                self.report(branch, end).await?;
                if end != ours.end_lsn() {
                    break;
                }
            }
        }
        if let Some(retention_bytes) = self.config.retention_bytes {
            let begin = drop_pieces(&self.config.store, &self.log, branch, known.range, retention_bytes).await?;
            if let Some(begin) = begin {
                let range = ArchivedRange { begin, ..known.range };
                self.note(branch, range, Some(known.version)).await?;
                super::retention::delete_before(&self.config.store, branch, &range).await?;
            }
        }
        Ok(())
    }

    /// Makes a piece, or finds that one that starts there exists: returns where it ends.
    async fn create(&self, archive: ArchiveId, piece: &Piece) -> Result<Lsn, Trouble> {
        let (branch, start) = (piece.branch, piece.start_lsn());
        let key = piece_key(archive, branch, start);
        let bytes: Bytes = piece.encode(archive);
        let length = bytes.len() as u64;
        match self.config.store.swap(&key, None, bytes).await {
            Ok(_) => {
                self.metrics.written_bytes.increment(length);
                Ok(piece.end_lsn())
            }
            Err(SwapError::Conflict { .. }) => {
                let there = match read_piece(&self.config.store, archive, branch, start).await {
                    Ok(there) => there,
                    Err(ReadError::Object(error)) => return Err(error.into()),
                    Err(error) => return Err(Trouble::Store(error.into_log_error(branch).to_string())),
                };
                let common = there.chunks.len().min(piece.chunks.len());
                if there.chunks[..common] != piece.chunks[..common] {
                    return Err(Trouble::Store(format!("object {key:?} of the archive differs from the log")));
                }
                Ok(there.end_lsn())
            }
            Err(SwapError::Doubtful { reason, .. }) => Err(Trouble::Store(reason)),
            Err(SwapError::Object(error)) => Err(error.into()),
        }
    }

    async fn note(&self, branch: BranchId, range: ArchivedRange, expected: Option<u64>) -> Result<Known, Trouble> {
        match self.log.compare_and_swap(&range_key(branch), expected, Some(range.encode())).await? {
            SwapOutcome::Swapped { version: Some(version) } => Ok(Known { range, version }),
            // Another node archives: it has taken over.
            _ => Err(Trouble::Log(LogError::Unavailable { reason: "another node archives this branch".to_owned() })),
        }
    }

    /// Lets the log be trimmed.
    async fn report(&mut self, branch: BranchId, end: Lsn) -> Result<(), Trouble> {
        if self.reported.get(&branch) == Some(&end) {
            return Ok(());
        }
        self.log.report_consumer(branch, ARCHIVE_CONSUMER, end).await?;
        gauge!("alluvium_log_archived_lsn", "branch" => branch.to_string()).set(end.0 as f64);
        self.reported.insert(branch, end);
        Ok(())
    }
}
