//! How far the tiers behind a compute may lag: options of whatever runs one.

use clap::Args;
use compute::GovernorConfig;

use crate::size;

/// Limits of the governor.
#[derive(Args)]
pub struct GovernorArguments {
    /// Log that page servers may be behind in reading; writers are slowed from a quarter of it on. 0 sets no limit.
    #[arg(long, env = "ALLUVIUM_INGEST_LAG", default_value = "512MiB", value_parser = size::parse)]
    ingest_lag: u64,

    /// Log that may not be in layers on the object store yet, likewise. Keep it below the log nodes' --log-budget.
    #[arg(long, env = "ALLUVIUM_FLUSH_LAG", default_value = "4GiB", value_parser = size::parse)]
    flush_lag: u64,

    /// Log that the archiver may be behind, likewise.
    #[arg(long, env = "ALLUVIUM_ARCHIVE_LAG", default_value = "4GiB", value_parser = size::parse)]
    archive_lag: u64,
}

impl GovernorArguments {
    /// What the compute is told.
    pub fn config(&self) -> GovernorConfig {
        GovernorConfig {
            ingest_lag_bytes: self.ingest_lag,
            flush_lag_bytes: self.flush_lag,
            archive_lag_bytes: self.archive_lag,
        }
    }
}
