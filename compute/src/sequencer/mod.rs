//! The sequencer: one commit after another is applied to the pages and laid out in the log.
//!
//! ```text
//!   outside   locate the leaves (fetching what is missing) · copy those that will need a copy
//!   inside    prepare every tree: all pages there, all limits kept · apply, which emits records ·
//!             stamp the pages with the batch's end · seal the group if the log can take one
//!   outside   release locks · hand the group to the shipper · give replaced versions to the collector
//! ```
//!
//! Apply cannot be undone, because the pages are changed as the records are made. So everything that can
//! fail is found out before the first record; what fails after it (a damaged tree, a defect of ours) stops
//! this compute: the batch is never shipped, and no snapshot ever sees its pages.
//!
//! The mutex around [`Inner`] *is* the sequencer: holding it is the right to read and change pages above the
//! sealed boundary.

mod attach;
mod commit;
mod rebuilt;
mod trees;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hashbrown::HashMap;
use pageserver::config::WallClock;
use parking_lot::{Condvar, Mutex, MutexGuard};
use sql::error::{Result, SqlError, SqlState};
use storage::batch::BatchEncoder;
use storage::btree::TreeError;
use storage::{Lsn, PageNo, TreeId};

pub(crate) use attach::{Attached, LargeBatch};
pub(crate) use commit::{Commit, CommitTree};
pub(crate) use rebuilt::{RebuiltLeaf, RebuiltLeaves};
pub(crate) use trees::PageRun;

use crate::cache::{CacheError, Change, PageCache, ReplacedVersion};
use crate::positions::Positions;
use crate::shipper::{CANNOT_WRITE, Group, Shipper};

/// Log bytes between two appends' cuts. The log takes twice as much in one append.
pub(crate) const PART_LIMIT_BYTES: usize = storage::batch::DEFAULT_PART_BYTES;

/// Attached trees remembered before those that no snapshot can miss are forgotten.
const ATTACHED_LIMIT: usize = 1024;

/// Before a thread sleeps for its turn: about 4 µs.
const LOCK_TRIES: u32 = 10;

/// See the module.
pub(crate) struct Sequencer {
    inner: Mutex<Inner>,
    /// Of commit times.
    clock: WallClock,
    pub(crate) cache: Arc<PageCache>,
    pub(crate) positions: Arc<Positions>,
    pub(crate) shipper: Arc<Shipper>,
    /// Bytes applied and not yet sealed, for backpressure without the lock.
    unsealed_bytes: AtomicU64,
    /// Held by who looks whether there is room, so that none misses [`Sequencer::sealed`].
    waiting: Mutex<()>,
    /// Told when everything applied has been sealed.
    sealed: Condvar,
    /// LSN of the newest applied commit that wrote to the catalog tree.
    catalog_version: AtomicU64,
    pub(crate) catalog_tree: TreeId,
    pub(crate) upkeep_tree: TreeId,
    commits: AtomicU64,
    /// Trees attached since the start, and where: a snapshot below reads them as empty, although their pages
    /// (of a load, say) are there.
    attached: Mutex<HashMap<TreeId, Lsn>>,
    /// The highest of them: later snapshots need not look.
    last_attached: AtomicU64,
}

/// What only the sequencer's holder touches.
pub(crate) struct Inner {
    encoder: BatchEncoder,
    /// The encoder's next buffer.
    spare: Vec<u8>,
    /// Pages of the open batch.
    changes: Vec<Change>,
    replaced: Vec<ReplacedVersion>,
    last_commit_time_us: u64,
    /// Set from a batch's first record until it is stamped. Found set by the next holder, it says that applying
    /// failed half way, and nothing may be applied any more.
    applying: bool,
    /// Trees dropped since the start, which late writers must not revive.
    dropped: hashbrown::HashSet<TreeId>,
}

/// Room of a buffer for groups. Most groups are a few hundred bytes.
const GROUP_BUFFER_BYTES: usize = 16 << 10;

/// A group's bytes, in memory of just their size: the log keeps the newest groups for its readers and counts their bytes,
/// not the room around them. A small group is copied, and its buffer serves again.
fn group_bytes(mut buffer: Vec<u8>, spare: &mut Vec<u8>) -> Bytes {
    if buffer.len() > GROUP_BUFFER_BYTES / 2 {
        buffer.shrink_to_fit();
        *spare = Vec::with_capacity(GROUP_BUFFER_BYTES);
        return buffer.into();
    }
    let bytes = Bytes::copy_from_slice(&buffer);
    *spare = buffer;
    bytes
}

/// Why a commit did not go through.
#[derive(Debug)]
pub(crate) enum SequencerError {
    /// Nothing was applied. Bring the page to memory and try again.
    NotResident(PageNo),
    /// Nothing was applied. Make room for so many pages and try again.
    NoRoom(usize),
    /// Nothing was applied. Leaves have changed since they were rebuilt.
    Stale,
    /// Nothing was applied.
    Refused(SqlError),
    /// Something was: this compute must stop.
    Broken(TreeError),
}

impl From<TreeError> for SequencerError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::NotResident { page } => Self::NotResident(page),
            other => Self::Broken(other),
        }
    }
}

impl SequencerError {
    fn into_sql(self) -> SqlError {
        match self {
            Self::NotResident(page) => SqlError::internal(format!("page {page} is not in memory")),
            Self::NoRoom(_) => {
                SqlError::new(SqlState::OUT_OF_MEMORY, "transaction changes more pages than fit into memory")
                    .with_hint("Split it into several transactions.")
            }
            Self::Stale => SqlError::internal("a leaf changed while a large commit was being prepared"),
            Self::Refused(error) => error,
            Self::Broken(error) => crate::cache::tree_error(error),
        }
    }
}

impl From<SequencerError> for SqlError {
    fn from(error: SequencerError) -> Self {
        error.into_sql()
    }
}

impl Sequencer {
    pub(crate) fn new(
        cache: Arc<PageCache>,
        positions: Arc<Positions>,
        shipper: Arc<Shipper>,
        clock: WallClock,
    ) -> Self {
        let end = positions.applied();
        let inner = Inner {
            encoder: BatchEncoder::new(end, PART_LIMIT_BYTES),
            spare: Vec::with_capacity(GROUP_BUFFER_BYTES),
            changes: Vec::new(),
            replaced: Vec::new(),
            last_commit_time_us: 0,
            applying: false,
            dropped: hashbrown::HashSet::new(),
        };
        Self {
            inner: Mutex::new(inner),
            clock,
            cache,
            positions,
            shipper,
            unsealed_bytes: AtomicU64::new(0),
            waiting: Mutex::new(()),
            sealed: Condvar::new(),
            catalog_version: AtomicU64::new(end.0),
            catalog_tree: storage::meta::CATALOG_TREE,
            upkeep_tree: storage::meta::UPKEEP_TREE,
            commits: AtomicU64::new(0),
            attached: Mutex::new(HashMap::new()),
            last_attached: AtomicU64::new(end.0),
        }
    }

    pub(crate) fn catalog_version(&self) -> u64 {
        self.catalog_version.load(Ordering::Acquire)
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// The right to read and change what is above the sealed boundary.
    pub(crate) fn enter(&self) -> Result<MutexGuard<'_, Inner>> {
        self.shipper.check()?;
        let inner = self.lock_inner();
        if inner.applying {
            drop(inner);
            return Err(self.stop(&SqlError::internal("an earlier commit failed while it was applied")));
        }
        Ok(inner)
    }

    /// Most commits hold the lock for a microsecond or two, which is less than going to sleep and being woken costs: tries
    /// for about that long first.
    fn lock_inner(&self) -> MutexGuard<'_, Inner> {
        for _ in 0..LOCK_TRIES {
            if let Some(inner) = self.inner.try_lock() {
                return inner;
            }
            for _ in 0..16 {
                std::hint::spin_loop();
            }
        }
        self.inner.lock()
    }

    /// Ends this compute's writing for good.
    #[cold]
    fn stop(&self, cause: &SqlError) -> SqlError {
        tracing::error!(%cause, "applying a commit failed; this compute stops writing");
        self.shipper.fail(SqlError::new(SqlState::ADMIN_SHUTDOWN, CANNOT_WRITE));
        cause.clone()
    }

    /// Seals what was applied, if the log can take a group now and there is something.
    fn seal(&self, inner: &mut Inner) {
        let bytes = inner.encoder.buffered_bytes();
        if bytes == 0 || !self.shipper.begin_group(bytes) {
            return;
        }
        let (start_lsn, buffer, cuts) = inner.encoder.take(std::mem::take(&mut inner.spare));
        let end_lsn = inner.encoder.end_lsn();
        self.positions.set_sealed(end_lsn);
        self.unsealed_bytes.store(0, Ordering::Relaxed);
        drop(self.waiting.lock());
        self.sealed.notify_all();
        // Within the lock, so that groups reach the log in order.
        let bytes = group_bytes(buffer, &mut inner.spare);
        let (versions_made, _) = self.cache.versions_made();
        self.shipper.send(Group { start_lsn, end_lsn, bytes, cuts, versions_made });
    }

    /// By the sequencer's holder.
    fn attach(&self, trees: &[TreeId], lsn: Lsn) {
        if trees.is_empty() {
            return;
        }
        let mut attached = self.attached.lock();
        if attached.len() >= ATTACHED_LIMIT {
            let oldest = self.cache.oldest_snapshot();
            attached.retain(|_, at| *at > oldest);
        }
        attached.extend(trees.iter().map(|tree| (*tree, lsn)));
        self.last_attached.store(lsn.0, Ordering::Release);
    }

    /// True when the tree became visible after `at` only.
    #[inline]
    pub(crate) fn attached_after(&self, tree: TreeId, at: Lsn) -> bool {
        at.0 < self.last_attached.load(Ordering::Acquire)
            && self.attached.lock().get(&tree).is_some_and(|attached| *attached > at)
    }

    /// Called when the log has room again.
    pub(crate) fn seal_more(&self) {
        let mut inner = self.inner.lock();
        if !inner.applying {
            self.seal(&mut inner);
        }
    }
}

impl From<CacheError> for SequencerError {
    fn from(error: CacheError) -> Self {
        Self::Refused(error.into())
    }
}
