//! What the writing thread publishes to readers: per branch the durable end and the most recent chunks.
//!
//! Invariants: only committed chunks are here; `chunks` of a branch are contiguous and end at its durable LSN.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use storage::{BranchId, Lsn};
use tokio::sync::watch;

use crate::client::{LogChunk, LogError};

/// Charged for a chunk beside its bytes.
const CHUNK_OVERHEAD_BYTES: usize = 128;

/// One branch.
pub(crate) struct BranchTail {
    chunks: Mutex<Chunks>,
    durable: watch::Sender<Lsn>,
}

#[derive(Default)]
struct Chunks {
    recent: VecDeque<LogChunk>,
    first_lsn: Lsn,
}

impl BranchTail {
    /// Follows the durable end.
    pub(crate) fn watch(&self) -> watch::Receiver<Lsn> {
        self.durable.subscribe()
    }

    /// First LSN that is still in the log.
    pub(crate) fn first_lsn(&self) -> Lsn {
        self.chunks.lock().first_lsn
    }

    /// Chunks from the one that holds `from` on, up to `max_bytes`, if they are in memory.
    pub(crate) fn recent(&self, from: Lsn, max_bytes: usize) -> Vec<LogChunk> {
        let chunks = self.chunks.lock();
        if chunks.recent.front().is_none_or(|front| front.start_lsn > from) {
            return Vec::new();
        }
        let position = chunks.recent.partition_point(|chunk| chunk.start_lsn <= from) - 1;
        let mut bytes = 0;
        let mut taken = Vec::new();
        for chunk in chunks.recent.range(position..) {
            if chunk.start_lsn.advance(chunk.bytes.len() as u64) <= from {
                continue;
            }
            bytes += chunk.bytes.len();
            if bytes > max_bytes && !taken.is_empty() {
                break;
            }
            taken.push(chunk.clone());
        }
        taken
    }
}

/// All branches.
pub(crate) struct Published {
    branches: RwLock<HashMap<BranchId, Arc<BranchTail>>>,
    recent_bytes: AtomicUsize,
    recent_limit_bytes: usize,
    stopped: watch::Sender<Option<LogError>>,
    leader: Mutex<(bool, Option<String>)>,
    metadata: watch::Sender<u64>,
}

impl Published {
    pub(crate) fn new(recent_limit_bytes: usize) -> Arc<Published> {
        Arc::new(Published {
            branches: RwLock::default(),
            recent_bytes: AtomicUsize::new(0),
            recent_limit_bytes,
            stopped: watch::Sender::new(None),
            leader: Mutex::default(),
            metadata: watch::Sender::new(0),
        })
    }

    /// A branch's tail; an empty one for a branch that does not exist yet.
    pub(crate) fn branch(&self, branch: BranchId) -> Arc<BranchTail> {
        if let Some(tail) = self.branches.read().get(&branch) {
            return tail.clone();
        }
        let mut branches = self.branches.write();
        let empty = || Arc::new(BranchTail { chunks: Mutex::default(), durable: watch::Sender::new(Lsn::ZERO) });
        branches.entry(branch).or_insert_with(empty).clone()
    }

    /// Adds a committed chunk, and forgets older ones beyond the limit.
    pub(crate) fn push(&self, branch: BranchId, chunk: LogChunk) {
        let tail = self.branch(branch);
        let end_lsn = chunk.start_lsn.advance(chunk.bytes.len() as u64);
        let cost = |chunk: &LogChunk| chunk.bytes.len() + CHUNK_OVERHEAD_BYTES;
        let mut chunks = tail.chunks.lock();
        let mut total = self.recent_bytes.fetch_add(cost(&chunk), Ordering::Relaxed) + cost(&chunk);
        chunks.recent.push_back(chunk);
        while total > self.recent_limit_bytes
            && let Some(dropped) = chunks.recent.pop_front()
        {
            total = self.recent_bytes.fetch_sub(cost(&dropped), Ordering::Relaxed) - cost(&dropped);
        }
        drop(chunks);
        tail.durable.send_replace(end_lsn);
    }

    /// Sets where a branch ends, without chunks: at a start, or after a snapshot.
    pub(crate) fn reset(&self, branch: BranchId, end_lsn: Lsn) {
        let tail = self.branch(branch);
        let mut chunks = tail.chunks.lock();
        for dropped in chunks.recent.drain(..) {
            self.recent_bytes.fetch_sub(dropped.bytes.len() + CHUNK_OVERHEAD_BYTES, Ordering::Relaxed);
        }
        drop(chunks);
        tail.durable.send_replace(end_lsn);
    }

    /// The log of a branch now begins at `first_lsn`.
    pub(crate) fn set_first_lsn(&self, branch: BranchId, first_lsn: Lsn) {
        self.branch(branch).chunks.lock().first_lsn = first_lsn;
    }

    /// The metadata changed with the entry at `index`.
    pub(crate) fn metadata_changed(&self, index: u64) {
        self.metadata.send_replace(index);
    }

    /// Follows [`Published::metadata_changed`].
    pub(crate) fn watch_metadata(&self) -> watch::Receiver<u64> {
        self.metadata.subscribe()
    }

    /// Whether a leader is known, and where it listens.
    pub(crate) fn set_leader(&self, known: bool, address: Option<String>) {
        *self.leader.lock() = (known, address);
    }

    /// See [`Published::set_leader`].
    pub(crate) fn leader(&self) -> (bool, Option<String>) {
        self.leader.lock().clone()
    }

    /// Nothing will be published any more; readers are told why.
    pub(crate) fn stop(&self, reason: LogError) {
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            stopped.get_or_insert(reason);
            first
        });
    }

    /// Resolves when the node stops.
    pub(crate) fn stopped(&self) -> watch::Receiver<Option<LogError>> {
        self.stopped.subscribe()
    }
}
