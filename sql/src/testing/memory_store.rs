//! [`MemoryStore`]: committed versions of every key, in ordered maps.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{RwLock, RwLockReadGuard};
use storage::{Lsn, PageNo, TreeId};

use super::locks::LockTable;
use super::transaction::MemoryTransaction;
use crate::error::{Result, SqlError, SqlState};
use crate::interrupt::Interrupt;
use crate::store::{IsolationLevel, Store, Transaction, TransactionOptions};

/// Versions of one key, oldest first; `None` is a deletion.
pub(super) type Versions = Vec<(Lsn, Option<Bytes>)>;
/// One tree.
pub(super) type Tree = BTreeMap<Bytes, Versions>;

/// What a commit writes: for each tree, the keys and their new values.
pub(super) type Writes = HashMap<TreeId, BTreeMap<Bytes, Option<Bytes>>>;

/// Bytes of log that a commit claims: any positive number keeps the order.
const COMMIT_BYTES: u64 = 16;
/// Where the catalog lives.
const CATALOG_TREE: TreeId = TreeId(PageNo(1));

/// Everything committed.
pub(super) struct Committed {
    pub(super) trees: HashMap<TreeId, Tree>,
    pub(super) lsn: Lsn,
}

impl Committed {
    /// The newest version of a key at or below `at`.
    pub(super) fn get(&self, tree: TreeId, key: &[u8], at: Lsn) -> Option<&Bytes> {
        Self::visible(self.trees.get(&tree)?.get(key)?, at)
    }

    /// The newest of `versions` at or below `at`.
    pub(super) fn visible(versions: &Versions, at: Lsn) -> Option<&Bytes> {
        versions.iter().rev().find(|(lsn, _)| *lsn <= at)?.1.as_ref()
    }
}

/// State that a store and its transactions share.
pub(super) struct Shared {
    committed: RwLock<Committed>,
    pub(super) locks: LockTable,
    next_tree: AtomicU64,
    next_transaction: AtomicU64,
    catalog_version: AtomicU64,
    rows_written: AtomicU64,
}

impl Shared {
    pub(super) fn committed(&self) -> RwLockReadGuard<'_, Committed> {
        self.committed.read()
    }

    pub(super) fn allocate_tree(&self) -> TreeId {
        TreeId(PageNo(self.next_tree.fetch_add(1, Ordering::Relaxed)))
    }

    /// Makes `writes` visible as one step.
    pub(super) fn apply(&self, writes: Writes, created: Vec<TreeId>, dropped: &[TreeId]) -> Lsn {
        let mut committed = self.committed.write();
        let lsn = committed.lsn.advance(COMMIT_BYTES);
        for tree in created {
            committed.trees.entry(tree).or_default();
        }
        for (tree, rows) in writes {
            if tree == CATALOG_TREE {
                self.catalog_version.store(lsn.0, Ordering::Release);
            }
            self.rows_written.fetch_add(rows.len() as u64, Ordering::Relaxed);
            let target = committed.trees.entry(tree).or_default();
            for (key, value) in rows {
                target.entry(key).or_default().push((lsn, value));
            }
        }
        for tree in dropped {
            committed.trees.remove(tree);
        }
        committed.lsn = lsn;
        lsn
    }
}

/// A [`Store`] over ordered maps. Every version is kept for the life of the store.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store: only the catalog tree exists.
    pub fn new() -> Self {
        let trees = HashMap::from([(CATALOG_TREE, Tree::new())]);
        let shared = Shared {
            committed: RwLock::new(Committed { trees, lsn: Lsn(COMMIT_BYTES) }),
            locks: LockTable::default(),
            next_tree: AtomicU64::new(CATALOG_TREE.0.0 + 1),
            next_transaction: AtomicU64::new(1),
            catalog_version: AtomicU64::new(1),
            rows_written: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Rows (of tables, indexes and catalog; deletions too) that commits have written so far.
    pub fn rows_written(&self) -> u64 {
        self.shared.rows_written.load(Ordering::Relaxed)
    }

    /// Every visible row of a tree, newest state.
    pub fn rows(&self, tree: TreeId) -> Vec<(Bytes, Bytes)> {
        let committed = self.shared.committed();
        let rows = committed.trees.get(&tree).into_iter().flatten();
        rows.filter_map(|(key, versions)| Some((key.clone(), Committed::visible(versions, Lsn::MAX)?.clone())))
            .collect()
    }
}

impl Store for MemoryStore {
    fn begin(&self, options: TransactionOptions, interrupt: Arc<Interrupt>) -> Result<Arc<dyn Transaction>> {
        if options.isolation == IsolationLevel::Serializable {
            return Err(SqlError::unsupported("isolation level SERIALIZABLE"));
        }
        let id = self.shared.next_transaction.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(MemoryTransaction::new(id, Arc::clone(&self.shared), options, interrupt)))
    }

    fn durable_lsn(&self) -> Lsn {
        self.shared.committed().lsn
    }

    fn wait_durable(&self, lsn: Lsn) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        let durable = self.durable_lsn();
        Box::pin(std::future::ready(if lsn <= durable {
            Ok(())
        } else {
            let message = format!("LSN {lsn} was never written, the log ends at {durable}");
            Err(SqlError::new(SqlState::TRANSACTION_RESOLUTION_UNKNOWN, message))
        }))
    }

    fn put_immediate(&self, tree: TreeId, key: &[u8], value: Bytes) -> Result<Lsn> {
        let row = BTreeMap::from([(Bytes::copy_from_slice(key), Some(value))]);
        Ok(self.shared.apply(HashMap::from([(tree, row)]), Vec::new(), &[]))
    }

    fn get_newest(&self, tree: TreeId, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.shared.committed().get(tree, key, Lsn::MAX).cloned())
    }

    fn last_key(&self, tree: TreeId) -> Result<Option<Bytes>> {
        let committed = self.shared.committed();
        let rows = committed.trees.get(&tree).into_iter().flat_map(|tree| tree.iter().rev());
        let mut live = rows.filter(|(_, versions)| Committed::visible(versions, Lsn::MAX).is_some());
        Ok(live.next().map(|(key, _)| key.clone()))
    }

    fn catalog_tree(&self) -> TreeId {
        CATALOG_TREE
    }

    fn catalog_version(&self) -> u64 {
        self.shared.catalog_version.load(Ordering::Acquire)
    }
}
