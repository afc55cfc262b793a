//! What the shards of one process share: memory and disk for pages and pieces of layers, and the door for requests.

use storage::layer::{DiskCache, LayerCache};

use crate::admission::Admission;
use crate::config::PageServerConfig;
use crate::page_cache::PageCache;
use crate::spill::SpillSpace;

/// Caches, each below its own limit, and who is let in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caches {
    pub(crate) pages: PageCache,
    pub(crate) layers: LayerCache,
    pub(crate) disk: Option<DiskCache>,
    pub(crate) spill: Option<SpillSpace>,
    pub(crate) admission: Admission,
}

impl Caches {
    /// With the limits of a configuration. A directory that cannot be used costs speed only.
    pub fn new(config: &PageServerConfig) -> Caches {
        let disk = config.cache_dir.as_ref().and_then(|directory| {
            let opened = DiskCache::open(directory, config.cache_disk_bytes);
            opened
                .inspect_err(|error| {
                    tracing::warn!(directory = %directory.display(), %error, "no cache of layers on disk");
                })
                .ok()
        });
        // Indexes are small beside the blocks they lead to; without them every read costs one more request.
        let layers = LayerCache::new(config.block_cache_bytes, (config.block_cache_bytes / 4).max(4 << 20));
        Caches {
            pages: PageCache::new(config.page_cache_bytes),
            layers,
            disk,
            spill: SpillSpace::new(config),
            admission: Admission::new(config.admission),
        }
    }
}
