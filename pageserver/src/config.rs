//! Settings of a page server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use storage::layout::ShardLayout;
use storage::{BranchId, ShardId};

use crate::admission::AdmissionSettings;
use crate::cluster::descendants::Descendants;
use crate::compaction::CompactionSettings;
use crate::compactors::Offers;
use crate::lineage::Lineage;

/// Settings of one page server serving one shard.
#[derive(Clone, Debug)]
pub struct PageServerConfig {
    /// The branch whose log is replayed.
    pub branch: BranchId,
    /// The branch and those it comes from.
    pub lineage: Lineage,
    /// How the branch's pages are distributed.
    pub layout: ShardLayout,
    /// Which of them are served.
    pub shard: ShardId,
    /// Directory for the local cache of layers. May be deleted between runs. `None`: no cache on disk, as when the
    /// object store is a local directory itself.
    pub cache_dir: Option<PathBuf>,
    /// Limit of the cache on disk.
    pub cache_disk_bytes: u64,
    /// Limit of what all shards of a process set aside beside that cache while the object store does not take layers. 0: nothing
    /// is, as when that would be the same disk.
    pub spill_disk_bytes: u64,
    /// Records are held in memory up to this size before they become a layer.
    pub buffer_bytes: usize,
    /// Frozen buffers beyond this stop the reading of the log.
    pub frozen_bytes: usize,
    /// Records are held in memory no longer than this before they become a layer.
    pub buffer_age: Duration,
    /// Or until so much log has gone by, most of it of other shards: nothing of it can be trimmed before, and writers are
    /// slowed when it is too much.
    pub buffer_log_bytes: u64,
    /// Limit of the cache of materialised pages.
    pub page_cache_bytes: u64,
    /// Limit of the cache of layer blocks.
    pub block_cache_bytes: u64,
    /// How long a request waits for the log to reach it.
    pub wait_timeout: Duration,
    /// Parts of one batch, of up to 64 pages, that are made at a time.
    pub read_concurrency: usize,
    /// How many requests are taken on, all shards of a process together.
    pub admission: AdmissionSettings,
    /// When and how layers are rewritten, and how much history is kept.
    pub compaction: CompactionSettings,
    /// Wait between the end of a check of the whole shard and the next one.
    pub scrub_pause: Duration,
    /// Bytes that such a check reads in a second.
    pub scrub_bytes_per_second: u64,
    /// Wall clock, in microseconds since 1970 UTC: how old history is.
    pub clock: WallClock,
    /// Wait between background retries after a failure.
    pub retry_pause: Duration,
    /// What other branches need of this one. `None`: there are no other branches.
    pub descendants: Option<Arc<dyn Descendants>>,
    /// Where rewrites are offered to compactors. `None`: the server does them all itself.
    pub offers: Option<Arc<Offers>>,
    /// Wait between searches for objects that nobody names and nobody will.
    pub sweep_pause: Duration,
}

impl PageServerConfig {
    /// Defaults within a memory limit.
    pub fn new(branch: BranchId, memory_bytes: u64) -> PageServerConfig {
        let share = |parts: u64| memory_bytes / parts;
        let buffer = usize::try_from(share(8)).unwrap_or(usize::MAX).clamp(1 << 20, 64 << 20);
        PageServerConfig {
            branch,
            lineage: Lineage::root(branch),
            layout: ShardLayout::SINGLE,
            shard: ShardId(0),
            cache_dir: None,
            cache_disk_bytes: 4 << 30,
            spill_disk_bytes: 0,
            buffer_bytes: buffer,
            frozen_bytes: buffer * 2,
            buffer_age: Duration::from_secs(60),
            buffer_log_bytes: 256 << 20,
            page_cache_bytes: share(4),
            block_cache_bytes: share(4),
            wait_timeout: Duration::from_secs(30),
            read_concurrency: 4,
            admission: AdmissionSettings::default(),
            compaction: CompactionSettings::default(),
            scrub_pause: Duration::from_secs(24 * 60 * 60),
            scrub_bytes_per_second: 8 << 20,
            clock: WallClock::default(),
            retry_pause: Duration::from_millis(500),
            descendants: None,
            offers: None,
            sweep_pause: Duration::from_secs(600),
        }
    }
}

/// Tells the wall clock, in microseconds since 1970 UTC.
#[derive(Clone)]
pub struct WallClock(pub Arc<dyn Fn() -> u64 + Send + Sync>);

impl WallClock {
    /// Now.
    pub fn now_us(&self) -> u64 {
        (self.0)()
    }
}

impl Default for WallClock {
    fn default() -> WallClock {
        #[expect(clippy::disallowed_methods, reason = "how long history is kept; whoever tests it brings a clock")]
        let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        WallClock(Arc::new(move || u64::try_from(now().as_micros()).unwrap_or(u64::MAX)))
    }
}

impl std::fmt::Debug for WallClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WallClock")
    }
}
