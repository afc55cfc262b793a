//! [`Engine`]: what all parts of one compute share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sql::error::Result;
use storage::Lsn;
use storage::upkeep::Upkeep;
use tokio::runtime::Handle;

use crate::blocking::block_on;
use crate::cache::PageCache;
use crate::config::ComputeConfig;
use crate::governor::Governor;
use crate::lock::{LockTable, OwnerId};
use crate::positions::Positions;
use crate::reclaim::ReclaimQueue;
use crate::sequencer::Sequencer;
use crate::shipper::Shipper;
use crate::snapshot::Snapshots;
use crate::transaction::Spilling;

/// See the module.
pub(crate) struct Engine {
    pub(crate) config: ComputeConfig,
    pub(crate) runtime: Handle,
    pub(crate) positions: Arc<Positions>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) cache: Arc<PageCache>,
    pub(crate) sequencer: Arc<Sequencer>,
    pub(crate) shipper: Arc<Shipper>,
    pub(crate) governor: Governor,
    pub(crate) locks: LockTable,
    pub(crate) spilling: Arc<Spilling>,
    pub(crate) reclaim: Arc<ReclaimQueue>,
    pub(crate) next_owner: AtomicU64,
}

impl Engine {
    pub(crate) fn next_owner(&self) -> OwnerId {
        OwnerId(self.next_owner.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits for durability from synchronous code, until interrupted.
    pub(crate) fn block_durable(&self, lsn: Lsn) -> Result<()> {
        if lsn <= self.positions.durable() {
            return Ok(());
        }
        block_on(&self.runtime, self.shipper.wait_durable(lsn))?
    }

    /// Pages to be given back by the background thread.
    pub(crate) fn reclaim_later(&self, rows: impl IntoIterator<Item = Upkeep>) {
        self.reclaim.push(rows);
    }
}
