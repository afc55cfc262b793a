//! Reading a layer from front to back, as rewrites do: past the cache, about 1 MiB at a time.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{self, Entries, EntrySpan, LayerIndex};
use super::reader::{LayerReader, identity_of};
use super::{LayerDescriptor, LayerEntry, LayerError};
use crate::{Lsn, PageNo};

/// A scan reads about this much at a time.
const SCAN_BYTES: u64 = 1 << 20;

/// A layer being read; holds about 1 MiB of it, compressed, and one block, at a time.
///
/// The entry at hand is borrowed from its block: a rewrite looks at millions of them, and copies each once.
#[derive(Debug)]
pub struct LayerScan {
    reader: LayerReader,
    layer: LayerDescriptor,
    index: Arc<LayerIndex>,
    pages: RangeInclusive<PageNo>,
    /// The next block to be fetched, and the one after the last that may hold such pages.
    next_block: usize,
    end_block: usize,
    /// Fetched and not yet decoded: block and its stored bytes.
    fetched: VecDeque<(usize, Bytes)>,
    entries: Option<Entries>,
    head: Option<EntrySpan>,
}

impl LayerScan {
    pub(super) fn new(
        reader: LayerReader,
        layer: LayerDescriptor,
        index: Arc<LayerIndex>,
        pages: RangeInclusive<PageNo>,
    ) -> LayerScan {
        let next_block = index.blocks.partition_point(|block| block.last_page < *pages.start());
        let end_block = index.blocks.partition_point(|block| block.first_page <= *pages.end()).max(next_block);
        let fetched = VecDeque::new();
        LayerScan { reader, layer, index, pages, next_block, end_block, fetched, entries: None, head: None }
    }

    /// The entry at hand: none before the first [`LayerScan::advance`] and after the last.
    pub fn head(&self) -> Option<(PageNo, Lsn, &[u8])> {
        let ((page, lsn, span), entries) = (self.head.as_ref()?, self.entries.as_ref()?);
        Some((*page, *lsn, &entries.raw()[span.clone()]))
    }

    /// Goes on to the next visible entry.
    pub async fn advance(&mut self) -> Result<(), LayerError> {
        while !self.step()? {
            if self.next_block == self.end_block {
                return Ok(());
            }
            self.fetch().await?;
        }
        Ok(())
    }

    /// Goes on as far as what was fetched allows; false if there is no entry at hand then.
    pub fn step(&mut self) -> Result<bool, LayerError> {
        let damaged = |reason: String| self.reader.damaged(&self.layer, &reason);
        loop {
            if let Some(entries) = &mut self.entries {
                while let Some(next) = entries.next_span() {
                    let (page, lsn, span) = next.map_err(damaged)?;
                    if lsn <= self.layer.visible_lsn && self.pages.contains(&page) {
                        self.head = Some((page, lsn, span));
                        return Ok(true);
                    }
                }
            }
            self.head = None;
            let Some((number, stored)) = self.fetched.pop_front() else { return Ok(false) };
            let (identity, first_page) = (identity_of(&self.layer), self.index.blocks[number].first_page);
            let number = u32::try_from(number).expect("an index is limited in length");
            let raw = format::decode_block(&identity, number, first_page, &stored).map_err(damaged)?;
            self.entries = Some(Entries::new(raw, self.index.version, identity.start_lsn, first_page));
        }
    }

    /// The next entry as one of its own; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<LayerEntry>, LayerError> {
        self.advance().await?;
        let entry = |(page, lsn, bytes)| LayerEntry { page, lsn, bytes: Bytes::copy_from_slice(bytes) };
        Ok(self.head().map(entry))
    }

    async fn fetch(&mut self) -> Result<(), LayerError> {
        let blocks = &self.index.blocks;
        let (first, begin) = (self.next_block, blocks[self.next_block].offset);
        let mut end = begin;
        while self.next_block < self.end_block && end - begin < SCAN_BYTES {
            end += u64::from(blocks[self.next_block].stored_bytes);
            self.next_block += 1;
        }
        let stored = self.reader.fetch_uncached(&self.layer, begin..end).await?;
        for (number, block) in blocks.iter().enumerate().take(self.next_block).skip(first) {
            let from = usize::try_from(block.offset - begin).expect("within what was read");
            self.fetched.push_back((number, stored.slice(from..from + block.stored_bytes as usize)));
        }
        Ok(())
    }
}
