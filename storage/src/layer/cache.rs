//! Bounded caches of decoded blocks and of layers' indexes, shared by all layers of a page server.

use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;

use super::LayerId;
use super::format::{BlockHandle, LayerIndex};

/// Blocks and indexes, each below its own limit of bytes. Any entry may go at any time.
#[derive(Clone, Debug)]
pub struct LayerCache {
    blocks: Cache<(LayerId, u32), Bytes>,
    indexes: Cache<LayerId, Arc<LayerIndex>>,
}

/// Bytes of bookkeeping that an entry is charged with.
const ENTRY_OVERHEAD_BYTES: usize = 128;

fn weigh(bytes: usize) -> u32 {
    u32::try_from(bytes + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX)
}

impl LayerCache {
    /// Limits in bytes.
    pub fn new(block_bytes: u64, index_bytes: u64) -> LayerCache {
        LayerCache {
            blocks: Cache::builder().max_capacity(block_bytes).weigher(|_, raw: &Bytes| weigh(raw.len())).build(),
            indexes: Cache::builder()
                .max_capacity(index_bytes)
                .weigher(|_, index: &Arc<LayerIndex>| weigh(index.blocks.len() * size_of::<BlockHandle>()))
                .build(),
        }
    }

    pub(super) fn block(&self, layer: LayerId, number: u32) -> Option<Bytes> {
        self.blocks.get(&(layer, number))
    }

    pub(super) fn keep_block(&self, layer: LayerId, number: u32, raw: Bytes) {
        self.blocks.insert((layer, number), raw);
    }

    pub(super) fn index(&self, layer: LayerId) -> Option<Arc<LayerIndex>> {
        self.indexes.get(&layer)
    }

    pub(super) fn keep_index(&self, layer: LayerId, index: Arc<LayerIndex>) {
        self.indexes.insert(layer, index);
    }
}
