//! Settings of one compute.

use std::path::PathBuf;

use pageserver::config::WallClock;
use storage::BranchId;

use crate::governor::GovernorConfig;

/// What [`crate::Compute::start`] needs to know.
#[derive(Clone, Debug)]
pub struct ComputeConfig {
    /// The branch to write.
    pub branch: BranchId,
    /// Memory of the page cache.
    pub memory_bytes: usize,
    /// Uncommitted writes that one transaction may hold in memory; beyond it they go to disk.
    pub transaction_limit_bytes: usize,
    /// The same of all transactions together.
    pub transactions_limit_bytes: usize,
    /// A directory for uncommitted writes that exceed their memory. Without one a transaction that does ends with
    /// 54000.
    pub spill_directory: Option<PathBuf>,
    /// What all transactions together may hold there; 54000 beyond.
    pub spill_limit_bytes: u64,
    /// How far those who follow the log may fall behind before writers are slowed.
    pub governor: GovernorConfig,
    /// Wall clock, for commit times.
    pub clock: WallClock,
}

impl ComputeConfig {
    /// A compute that uses about `memory_bytes`: three quarters for pages, an eighth at most for one
    /// transaction's writes, and as much again for all of them.
    pub fn new(branch: BranchId, memory_bytes: usize) -> Self {
        Self {
            branch,
            memory_bytes: memory_bytes / 4 * 3,
            transaction_limit_bytes: memory_bytes / 8,
            transactions_limit_bytes: memory_bytes / 4,
            spill_directory: None,
            spill_limit_bytes: DEFAULT_SPILL_LIMIT_BYTES,
            governor: GovernorConfig::default(),
            clock: WallClock::default(),
        }
    }
}

/// More than most disks have to give.
const DEFAULT_SPILL_LIMIT_BYTES: u64 = 1 << 40;
