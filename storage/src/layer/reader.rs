//! Reading layers through the caches: one page, or many at a time.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;

use super::format::{self, Entries, LayerIdentity, LayerIndex};
use super::scan::LayerScan;
use super::{DiskCache, LayerCache, LayerDescriptor, LayerEntry, LayerError};
use crate::object::{ObjectError, ObjectStore};
use crate::{Lsn, PageNo};

/// Blocks that lie side by side are fetched together, up to this many bytes.
const FETCH_BYTES: u64 = 1 << 20;
/// A page with entries in more blocks than that is read from the newest block back: most of it may not be needed.
const FEW_BLOCKS: usize = 3;

/// Reads layers, of any branch and shard.
#[derive(Clone, Debug)]
pub struct LayerReader {
    store: ObjectStore,
    cache: LayerCache,
    disk: Option<DiskCache>,
}

pub(super) fn identity_of(layer: &LayerDescriptor) -> LayerIdentity {
    LayerIdentity { branch: layer.branch, kind: layer.kind, start_lsn: layer.start_lsn, end_lsn: layer.end_lsn }
}

/// What is asked of a layer: the entries of a page with `LSN ≤ up_to`.
pub type Wanted = (PageNo, Lsn);

impl LayerReader {
    /// Over a store and a cache that may be shared with other shards.
    pub fn new(store: ObjectStore, cache: LayerCache) -> LayerReader {
        LayerReader { store, cache, disk: None }
    }

    /// With pieces of layers kept on local disk. Worth it where the object store is distant.
    #[must_use]
    pub fn with_disk_cache(self, disk: DiskCache) -> LayerReader {
        LayerReader { disk: Some(disk), ..self }
    }

    async fn fetch(&self, layer: &LayerDescriptor, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let key = layer.key();
        match &self.disk {
            Some(disk) => disk.get_range(&self.store, &key, layer.size_bytes, range).await,
            None => self.store.get_range(&key, range).await,
        }
    }

    /// The same reader without caches: what is read comes from the object store.
    #[must_use]
    pub fn uncached(&self) -> LayerReader {
        LayerReader { cache: LayerCache::new(0, 0), disk: None, ..self.clone() }
    }

    /// That a layer's object is not what was written.
    pub(super) fn damaged(&self, layer: &LayerDescriptor, reason: &str) -> LayerError {
        LayerError::Damaged { name: layer.name, reason: format!("{reason}; it is object {}", layer.key()) }
    }

    /// What `decode` makes of a range of a layer. If the bytes come from local disk and are damaged, they are fetched from the
    /// object store, which has the last word.
    async fn fetch_decoded<T>(
        &self,
        layer: &LayerDescriptor,
        range: Range<u64>,
        decode: impl Fn(&Bytes) -> Result<T, String>,
    ) -> Result<T, LayerError> {
        let decoded = decode(&self.fetch(layer, range.clone()).await?);
        let (Err(_), Some(disk)) = (&decoded, &self.disk) else {
            return decoded.map_err(|reason| self.damaged(layer, &reason));
        };
        disk.forget(&layer.key(), range.clone());
        let decoded =
            decode(&self.fetch_uncached(layer, range).await?).map_err(|reason| self.damaged(layer, &reason))?;
        disk.count_repair();
        Ok(decoded)
    }

    /// Past the cache on disk, which a rewrite would only wear out.
    pub(super) async fn fetch_uncached(
        &self,
        layer: &LayerDescriptor,
        range: Range<u64>,
    ) -> Result<Bytes, ObjectError> {
        self.store.get_range(&layer.key(), range).await
    }

    /// Where a layer's blocks lie and which pages they hold.
    pub async fn index(&self, layer: &LayerDescriptor) -> Result<Arc<LayerIndex>, LayerError> {
        let id = layer.id();
        if let Some(index) = self.cache.index(id) {
            return Ok(index);
        }
        let least = (format::HEAD_BYTES + format::FOOTER_BYTES) as u64;
        if layer.size_bytes < least {
            return Err(self.damaged(layer, &format!("a layer of {} bytes", layer.size_bytes)));
        }
        let footer_at = layer.size_bytes - format::FOOTER_BYTES as u64;
        // One request suffices for most: the index lies before the footer.
        let guess_at = footer_at.saturating_sub(64 << 10);
        let unknown_version = parking_lot::Mutex::new(None);
        let decode_tail = |tail: &Bytes| {
            let footer_bytes = &tail[tail.len() - format::FOOTER_BYTES..];
            let footer = format::decode_footer(layer, layer.branch, footer_bytes).map_err(|error| {
                let reason = error.to_string();
                *unknown_version.lock() = matches!(error, LayerError::Version { .. }).then_some(error);
                reason
            })?;
            if footer.index_offset < guess_at {
                return Ok((footer, None));
            }
            let from = usize::try_from(footer.index_offset - guess_at).expect("within what was read");
            let index_bytes = tail.slice(from..tail.len() - format::FOOTER_BYTES);
            Ok((footer, Some(format::decode_index(&footer, &index_bytes)?)))
        };
        let decoded = self.fetch_decoded(layer, guess_at..layer.size_bytes, decode_tail).await;
        let (footer, index) = decoded.map_err(|error| unknown_version.lock().take().unwrap_or(error))?;
        let index = match index {
            Some(index) => index,
            None => {
                let range = footer.index_offset..footer_at;
                self.fetch_decoded(layer, range, |bytes| format::decode_index(&footer, bytes)).await?
            }
        };
        let index = Arc::new(index);
        self.cache.keep_index(id, index.clone());
        Ok(index)
    }

    /// The blocks of these numbers (ascending), decoded. Neighbours that are not in the cache are fetched together.
    async fn blocks(
        &self,
        layer: &LayerDescriptor,
        index: &LayerIndex,
        numbers: &[usize],
    ) -> Result<Vec<Bytes>, LayerError> {
        let id = layer.id();
        let number_of = |number: usize| u32::try_from(number).expect("an index is limited in length");
        let mut found: Vec<Option<Bytes>> =
            numbers.iter().map(|number| self.cache.block(id, number_of(*number))).collect();
        let mut at = 0;
        while at < numbers.len() {
            if found[at].is_some() {
                at += 1;
                continue;
            }
            let (first, begin) = (at, index.blocks[numbers[at]].offset);
            let mut end = begin;
            while at < numbers.len()
                && found[at].is_none()
                && index.blocks[numbers[at]].offset == end
                && (at == first || end - begin < FETCH_BYTES)
            {
                end += u64::from(index.blocks[numbers[at]].stored_bytes);
                at += 1;
            }
            let together = &numbers[first..at];
            let decode = |stored: &Bytes| {
                let block = |number: &usize| {
                    let block = &index.blocks[*number];
                    let from = usize::try_from(block.offset - begin).expect("within what was read");
                    let stored = &stored[from..from + block.stored_bytes as usize];
                    format::decode_block(&identity_of(layer), number_of(*number), block.first_page, stored)
                };
                together.iter().map(block).collect::<Result<Vec<_>, _>>()
            };
            let decoded = self.fetch_decoded(layer, begin..end, decode).await?;
            for ((number, found), raw) in together.iter().zip(&mut found[first..at]).zip(decoded) {
                self.cache.keep_block(id, number_of(*number), raw.clone());
                *found = Some(raw);
            }
        }
        Ok(found.into_iter().map(|block| block.expect("fetched above")).collect())
    }

    /// Entries of one page with `LSN ≤ up_to` that are visible, in order, and no more than from the last that is `enough`
    /// on, as far as whole blocks can be spared.
    pub async fn page(
        &self,
        layer: &LayerDescriptor,
        wanted: Wanted,
        enough: impl Fn(&LayerEntry) -> bool,
    ) -> Result<Vec<LayerEntry>, LayerError> {
        Ok(self.pages(layer, &[wanted], enough).await?.pop().expect("one answer for one page"))
    }

    /// The same for many pages, in ascending order: each block is read once.
    pub async fn pages(
        &self,
        layer: &LayerDescriptor,
        wanted: &[Wanted],
        enough: impl Fn(&LayerEntry) -> bool,
    ) -> Result<Vec<Vec<LayerEntry>>, LayerError> {
        let index = self.index(layer).await?;
        let blocks_of = |page: PageNo| {
            let first = index.blocks.partition_point(|block| block.last_page < page);
            first..index.blocks.partition_point(|block| block.first_page <= page).max(first)
        };
        let ranges: Vec<Range<usize>> = wanted.iter().map(|(page, _)| blocks_of(*page)).collect();
        let mut numbers: Vec<usize> =
            ranges.iter().filter(|range| range.len() <= FEW_BLOCKS).cloned().flatten().collect();
        numbers.sort_unstable();
        numbers.dedup();
        let blocks = self.blocks(layer, &index, &numbers).await?;
        let mut answers = Vec::with_capacity(wanted.len());
        for ((page, up_to), range) in wanted.iter().zip(ranges) {
            let up_to = (*up_to).min(layer.visible_lsn);
            let entries_of = |number: usize, raw: &Bytes| {
                let first_page = index.blocks[number].first_page;
                let entries = Entries::new(raw.clone(), index.version, layer.start_lsn, first_page);
                entries_of_page(entries, *page, up_to).map_err(|reason| self.damaged(layer, &reason))
            };
            let mut answer = Vec::new();
            if range.len() <= FEW_BLOCKS {
                for number in range {
                    let at = numbers.binary_search(&number).expect("read above");
                    answer.append(&mut entries_of(number, &blocks[at])?);
                }
            } else {
                let mut newest_first = Vec::new();
                for number in range.rev() {
                    let raw = self.blocks(layer, &index, &[number]).await?.remove(0);
                    let entries = entries_of(number, &raw)?;
                    let last = entries.iter().any(&enough);
                    newest_first.push(entries);
                    if last {
                        break;
                    }
                }
                answer = newest_first.into_iter().rev().flatten().collect();
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    /// All visible entries of a layer's `pages` in order, past the cache.
    pub async fn scan(&self, layer: &LayerDescriptor, pages: RangeInclusive<PageNo>) -> Result<LayerScan, LayerError> {
        let index = self.index(layer).await?;
        Ok(LayerScan::new(self.clone(), layer.clone(), index, pages))
    }
}

fn entries_of_page(mut entries: Entries, page: PageNo, up_to: Lsn) -> Result<Vec<LayerEntry>, String> {
    let mut found = Vec::new();
    while let Some(entry) = entries.next_span() {
        let (entry_page, lsn, span) = entry?;
        if entry_page > page || (entry_page == page && lsn > up_to) {
            break;
        }
        if entry_page == page {
            found.push(LayerEntry { page, lsn, bytes: entries.raw().slice(span) });
        }
    }
    Ok(found)
}
