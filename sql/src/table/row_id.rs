//! Row ids of tables without a primary key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use storage::TreeId;

use crate::error::{Result, SqlError, SqlState};
use crate::store::Store;

/// Bytes of a row id in a key.
pub(crate) const ROW_ID_BYTES: usize = 8;

/// Hands out row ids, unique per tree. One for all sessions of a store: two of them would give the same
/// id twice. Ids of transactions that roll back are not used again.
#[derive(Default)]
pub struct RowIds {
    next: RwLock<HashMap<TreeId, Arc<AtomicU64>>>,
}

impl RowIds {
    /// The next free row id of a tree. The first call for a tree reads its greatest key.
    pub fn allocate(&self, store: &dyn Store, tree: TreeId) -> Result<u64> {
        let counter = self.counter(store, tree)?;
        Ok(counter.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets a tree's ids go on at `next` or later: for whoever fills a tree of its own with ids it chose,
    /// which nothing committed tells of. A counter left from a dropped tree of the same number is raised.
    pub(crate) fn raise(&self, tree: TreeId, next: u64) {
        let mut counters = self.next.write();
        counters.entry(tree).or_default().fetch_max(next, Ordering::Relaxed);
    }

    /// The counter of a tree: `fetch_add` allocates.
    pub(crate) fn counter(&self, store: &dyn Store, tree: TreeId) -> Result<Arc<AtomicU64>> {
        if let Some(counter) = self.next.read().get(&tree) {
            return Ok(Arc::clone(counter));
        }
        let mut counters = self.next.write();
        if let Some(counter) = counters.get(&tree) {
            return Ok(Arc::clone(counter));
        }
        let first = match store.last_key(tree)? {
            None => 1,
            Some(key) => {
                let bytes: [u8; ROW_ID_BYTES] = key.as_ref().try_into().map_err(|_| {
                    SqlError::new(SqlState::DATA_CORRUPTED, format!("key of {} bytes in a table of row ids", key.len()))
                })?;
                u64::from_be_bytes(bytes) + 1
            }
        };
        let counter = Arc::new(AtomicU64::new(first));
        counters.insert(tree, Arc::clone(&counter));
        Ok(counter)
    }
}
