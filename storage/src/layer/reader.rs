//! Reading layers: one page through the block cache, or everything in order for compaction.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;

use super::format::{self, BlockHandle, Entries, LayerIdentity};
use super::{DiskCache, LayerCache, LayerDescriptor, LayerEntry, LayerError, layer_key, shard_prefix};
use crate::object::{ObjectError, ObjectStore};
use crate::{Lsn, PageNo, ShardId};

/// A scan reads about this much at a time.
const SCAN_BYTES: u64 = 1 << 20;

/// Reads the layers of one shard, its own branch's and those of ancestors.
#[derive(Clone, Debug)]
pub struct LayerReader {
    store: ObjectStore,
    cache: LayerCache,
    disk: Option<DiskCache>,
    shard: ShardId,
}

fn identity_of(layer: &LayerDescriptor) -> LayerIdentity {
    LayerIdentity { branch: layer.branch, kind: layer.kind, start_lsn: layer.start_lsn, end_lsn: layer.end_lsn }
}

impl LayerReader {
    /// Over a store and a cache that may be shared with other shards.
    pub fn new(store: ObjectStore, cache: LayerCache, shard: ShardId) -> LayerReader {
        LayerReader { store, cache, disk: None, shard }
    }

    /// With pieces of layers kept on local disk. Worth it where the object store is distant.
    #[must_use]
    pub fn with_disk_cache(self, disk: DiskCache) -> LayerReader {
        LayerReader { disk: Some(disk), ..self }
    }

    async fn fetch(&self, layer: &LayerDescriptor, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let key = self.key(layer);
        match &self.disk {
            Some(disk) => disk.get_range(&self.store, &key, layer.size_bytes, range).await,
            None => self.store.get_range(&key, range).await,
        }
    }

    fn key(&self, layer: &LayerDescriptor) -> String {
        layer_key(&shard_prefix(layer.branch, self.shard), layer.name)
    }

    async fn index(&self, layer: &LayerDescriptor) -> Result<Arc<Vec<BlockHandle>>, LayerError> {
        let id = (layer.branch, self.shard, layer.name);
        if let Some(blocks) = self.cache.index(id) {
            return Ok(blocks);
        }
        let damaged = |reason| LayerError::Damaged { name: layer.name, reason };
        let least = (format::HEAD_BYTES + format::FOOTER_BYTES) as u64;
        if layer.size_bytes < least {
            return Err(damaged(format!("a layer of {} bytes", layer.size_bytes)));
        }
        let footer_at = layer.size_bytes - format::FOOTER_BYTES as u64;
        // One request suffices for most: the index lies before the footer.
        let guess_at = footer_at.saturating_sub(64 << 10);
        let tail = self.fetch(layer, guess_at..layer.size_bytes).await?;
        let footer_bytes = &tail[tail.len() - format::FOOTER_BYTES..];
        let footer = format::decode_footer(layer, layer.branch, footer_bytes)?;
        let index_bytes = if footer.index_offset >= guess_at {
            let from = usize::try_from(footer.index_offset - guess_at).expect("within what was read");
            tail.slice(from..tail.len() - format::FOOTER_BYTES)
        } else {
            self.fetch(layer, footer.index_offset..footer_at).await?
        };
        let blocks = Arc::new(format::decode_index(&footer, &index_bytes).map_err(damaged)?);
        self.cache.keep_index(id, blocks.clone());
        Ok(blocks)
    }

    async fn block(&self, layer: &LayerDescriptor, number: usize, handle: &BlockHandle) -> Result<Bytes, LayerError> {
        let id = (layer.branch, self.shard, layer.name);
        let number = u32::try_from(number).expect("an index is limited in length");
        if let Some(raw) = self.cache.block(id, number) {
            return Ok(raw);
        }
        let end = handle.offset + u64::from(handle.stored_bytes);
        let stored = self.fetch(layer, handle.offset..end).await?;
        let raw = format::decode_block(&identity_of(layer), number, handle.first_page, &stored)
            .map_err(|reason| LayerError::Damaged { name: layer.name, reason })?;
        self.cache.keep_block(id, number, raw.clone());
        Ok(raw)
    }

    /// Entries of one page with `above < LSN ≤ up_to` that are visible, in order. Read from the newest block back, and no further than
    /// one with an entry that is `enough`: what lies before it is left out.
    pub async fn page(
        &self,
        layer: &LayerDescriptor,
        page: PageNo,
        above: Option<Lsn>,
        up_to: Lsn,
        enough: impl Fn(&LayerEntry) -> bool,
    ) -> Result<Vec<LayerEntry>, LayerError> {
        let up_to = up_to.min(layer.visible_lsn);
        let blocks = self.index(layer).await?;
        let first = blocks.partition_point(|block| block.last_page < page);
        let end = blocks.partition_point(|block| block.first_page <= page);
        let mut found: Vec<Vec<LayerEntry>> = Vec::new();
        for number in (first..end).rev() {
            let raw = self.block(layer, number, &blocks[number]).await?;
            let mut entries = Vec::new();
            for entry in Entries::new(raw) {
                let entry = entry.map_err(|reason| LayerError::Damaged { name: layer.name, reason })?;
                if entry.page > page || (entry.page == page && entry.lsn > up_to) {
                    break;
                }
                if entry.page == page && above.is_none_or(|above| entry.lsn > above) {
                    entries.push(entry);
                }
            }
            let last = entries.iter().any(&enough);
            found.push(entries);
            if last {
                break;
            }
        }
        found.reverse();
        Ok(found.into_iter().flatten().collect())
    }

    /// All visible entries of a layer's `pages` in order, past the cache.
    pub async fn scan(&self, layer: &LayerDescriptor, pages: RangeInclusive<PageNo>) -> Result<LayerScan, LayerError> {
        let blocks = self.index(layer).await?;
        let next_block = blocks.partition_point(|block| block.last_page < *pages.start());
        let end_block = blocks.partition_point(|block| block.first_page <= *pages.end()).max(next_block);
        let (reader, layer) = (self.clone(), layer.clone());
        Ok(LayerScan { reader, layer, blocks, pages, next_block, end_block, ready: Vec::new() })
    }

    /// Where a layer's blocks lie and which pages they hold.
    pub async fn blocks(&self, layer: &LayerDescriptor) -> Result<Arc<Vec<BlockHandle>>, LayerError> {
        self.index(layer).await
    }
}

/// A layer being read from front to back; holds about 1 MiB of it, compressed, at a time.
#[derive(Debug)]
pub struct LayerScan {
    reader: LayerReader,
    layer: LayerDescriptor,
    blocks: Arc<Vec<BlockHandle>>,
    pages: RangeInclusive<PageNo>,
    next_block: usize,
    /// The one after the last that may hold such pages.
    end_block: usize,
    /// Raw entries read ahead, last first.
    ready: Vec<LayerEntry>,
}

impl LayerScan {
    /// The next entry; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<LayerEntry>, LayerError> {
        while self.ready.is_empty() && self.next_block < self.end_block {
            self.fill().await?;
        }
        Ok(self.ready.pop())
    }

    async fn fill(&mut self) -> Result<(), LayerError> {
        let begin = self.blocks[self.next_block].offset;
        let mut end = begin;
        let first = self.next_block;
        while self.next_block < self.end_block && end - begin < SCAN_BYTES {
            end += u64::from(self.blocks[self.next_block].stored_bytes);
            self.next_block += 1;
        }
        let name = self.layer.name;
        let stored = self.reader.store.get_range(&self.reader.key(&self.layer), begin..end).await?;
        let identity = identity_of(&self.layer);
        let damaged = |reason| LayerError::Damaged { name, reason };
        for (number, block) in self.blocks.iter().enumerate().take(self.next_block).skip(first) {
            let from = usize::try_from(block.offset - begin).expect("within what was read");
            let bytes = &stored[from..from + block.stored_bytes as usize];
            let number = u32::try_from(number).expect("an index is limited in length");
            let raw = format::decode_block(&identity, number, block.first_page, bytes).map_err(damaged)?;
            for entry in Entries::new(raw) {
                let entry = entry.map_err(damaged)?;
                if entry.lsn <= self.layer.visible_lsn && self.pages.contains(&entry.page) {
                    self.ready.push(entry);
                }
            }
        }
        self.ready.reverse();
        Ok(())
    }
}
