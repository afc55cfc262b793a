//! Settings of one compute.

use storage::BranchId;

/// What [`crate::Compute::start`] needs to know.
#[derive(Clone, Debug)]
pub struct ComputeConfig {
    /// The branch to write.
    pub branch: BranchId,
    /// Memory of the page cache.
    pub memory_bytes: usize,
    /// Uncommitted writes that one transaction may hold; 54000 beyond.
    pub transaction_limit_bytes: usize,
}

impl ComputeConfig {
    /// A compute that uses about `memory_bytes`: three quarters for pages, a quarter at most for one
    /// transaction's writes.
    pub fn new(branch: BranchId, memory_bytes: usize) -> Self {
        Self { branch, memory_bytes: memory_bytes / 4 * 3, transaction_limit_bytes: memory_bytes / 4 }
    }
}
