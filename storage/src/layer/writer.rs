//! Writing a run of layers in one pass, with memory bounded by a block, the index and two parts of an upload.

use std::ops::RangeInclusive;

use lz4_flex::block::CompressTable;

use super::format::{self, BlockBuilder, BlockHandle, Footer, LayerIdentity};
use super::{LayerDescriptor, LayerError, LayerKind, LayerName, layer_key, shard_prefix};
use crate::object::{ObjectStore, Upload};
use crate::{Lsn, PageNo, ShardId};

/// What all layers of a run have in common.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// The shard that writes.
    pub shard: ShardId,
    /// Branch, kind and LSN range.
    pub identity: LayerIdentity,
    /// See [`LayerDescriptor::level`].
    pub level: u8,
    /// Pages that an image run speaks for: of those it does not hold it says that they do not exist. A run of records
    /// ends where its records do.
    pub pages: RangeInclusive<PageNo>,
    /// A layer is closed at the first page boundary after this many bytes.
    pub layer_target_bytes: u64,
}

struct OpenLayer {
    name: LayerName,
    upload: Upload,
    blocks: Vec<BlockHandle>,
    entries: u64,
}

/// Takes entries in order, makes layers of them.
pub struct RunWriter<N> {
    store: ObjectStore,
    settings: RunSettings,
    next_name: N,
    open: Option<OpenLayer>,
    block: BlockBuilder,
    table: CompressTable,
    last: Option<(PageNo, Lsn)>,
    /// First page that no finished image layer covers.
    uncovered: PageNo,
    layer_first: PageNo,
    finished: Vec<LayerDescriptor>,
}

impl<N: FnMut() -> LayerName> RunWriter<N> {
    /// Begins a run; `next_name` gives a name never used before.
    pub fn new(store: &ObjectStore, settings: RunSettings, next_name: N) -> RunWriter<N> {
        RunWriter {
            store: store.clone(),
            uncovered: *settings.pages.start(),
            block: BlockBuilder::new(settings.identity.start_lsn),
            table: CompressTable::default(),
            settings,
            next_name,
            open: None,
            last: None,
            layer_first: PageNo(0),
            finished: Vec::new(),
        }
    }

    fn check_order(&self, page: PageNo, lsn: Lsn) {
        assert!(self.settings.pages.contains(&page), "page {page} is not of {:?}", self.settings.pages);
        if let Some((last_page, last_lsn)) = self.last {
            assert!((last_page, last_lsn) <= (page, lsn), "{page}@{lsn} after {last_page}@{last_lsn}");
            let image = self.settings.identity.kind == LayerKind::Image;
            assert!(!image || last_page < page, "page {page} twice in an image layer");
        }
    }

    /// Takes the next entry if it only has to be appended to the block at hand, as nearly all have; false: [`RunWriter::push`]
    /// it. Rewrites push millions.
    #[inline]
    pub fn try_push(&mut self, page: PageNo, lsn: Lsn, bytes: &[u8]) -> bool {
        let raw_bytes = self.block.raw().len();
        let fits = raw_bytes > 0 && raw_bytes + format::ENTRY_HEAD_BYTES + bytes.len() < format::BLOCK_TARGET_BYTES;
        if !fits || self.last.is_some_and(|(last_page, _)| last_page != page) && self.layer_is_full() {
            return false;
        }
        self.check_order(page, lsn);
        self.block.push(page, lsn, bytes);
        self.open.as_mut().expect("a block belongs to a layer").entries += 1;
        self.last = Some((page, lsn));
        true
    }

    /// Takes the next entry. Order: by page, then LSN; entries of equal page and LSN stay in the order given.
    pub async fn push(&mut self, page: PageNo, lsn: Lsn, bytes: &[u8]) -> Result<(), LayerError> {
        if self.try_push(page, lsn, bytes) {
            return Ok(());
        }
        self.check_order(page, lsn);
        if let Some((last_page, _)) = self.last.filter(|(last_page, _)| *last_page != page)
            && self.layer_is_full()
        {
            self.finish_layer(last_page, last_page).await?;
        }
        if self.open.is_none() {
            self.begin_layer(page).await?;
        }
        self.block.push(page, lsn, bytes);
        self.open.as_mut().expect("begun above").entries += 1;
        self.last = Some((page, lsn));
        if self.block.raw().len() >= format::BLOCK_TARGET_BYTES {
            self.finish_block(page).await?;
        }
        Ok(())
    }

    fn layer_is_full(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let bytes = open.upload.written_bytes() + self.block.raw().len() as u64;
            bytes >= self.settings.layer_target_bytes || open.blocks.len() + 2 >= format::MAX_BLOCKS
        })
    }

    async fn begin_layer(&mut self, page: PageNo) -> Result<(), LayerError> {
        let name = (self.next_name)();
        let mut upload =
            self.store.upload(&layer_key(&shard_prefix(self.settings.identity.branch, self.settings.shard), name));
        upload.write(&format::head(self.settings.identity.kind)).await?;
        self.layer_first = match self.settings.identity.kind {
            LayerKind::Delta => page,
            LayerKind::Image => self.uncovered,
        };
        self.open = Some(OpenLayer { name, upload, blocks: Vec::new(), entries: 0 });
        Ok(())
    }

    async fn finish_block(&mut self, last_page: PageNo) -> Result<(), LayerError> {
        if self.block.raw().is_empty() {
            return Ok(());
        }
        let open = self.open.as_mut().expect("a block belongs to a layer");
        let number = u32::try_from(open.blocks.len()).expect("limited by layer_is_full");
        let first_page = self.block.first_page();
        let offset = open.upload.written_bytes();
        let longest = format::longest_block(self.block.raw().len());
        let (identity, raw, table) = (&self.settings.identity, self.block.raw(), &mut self.table);
        let encode = |place: &mut [u8]| format::encode_block(identity, number, first_page, raw, table, place);
        open.upload.write_with(longest, encode).await?;
        let stored_bytes = u32::try_from(open.upload.written_bytes() - offset).expect("blocks are limited in length");
        open.blocks.push(BlockHandle { first_page, last_page, offset, stored_bytes });
        self.block.clear();
        Ok(())
    }

    async fn finish_layer(&mut self, last_entry: PageNo, range_end: PageNo) -> Result<(), LayerError> {
        self.finish_block(last_entry).await?;
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let index = format::encode_index(&open.blocks);
        let footer = Footer {
            version: format::VERSION,
            identity: self.settings.identity,
            first_page: self.layer_first,
            last_page: range_end,
            entries: open.entries,
            index_offset: open.upload.written_bytes(),
            blocks: u32::try_from(open.blocks.len()).expect("limited by layer_is_full"),
            index_crc: crc32fast::hash(&index),
        };
        open.upload.write(&index).await?;
        open.upload.write(&format::encode_footer(&footer)).await?;
        self.finished.push(LayerDescriptor {
            branch: self.settings.identity.branch,
            shard: self.settings.shard,
            name: open.name,
            kind: self.settings.identity.kind,
            level: self.settings.level,
            first_page: self.layer_first,
            last_page: range_end,
            start_lsn: self.settings.identity.start_lsn,
            end_lsn: self.settings.identity.end_lsn,
            visible_lsn: self.settings.identity.end_lsn,
            size_bytes: open.upload.written_bytes(),
            entries: open.entries,
        });
        self.uncovered = PageNo(range_end.0.saturating_add(1));
        open.upload.finish().await?;
        Ok(())
    }

    /// Ends the run. Its layers are durable and wait for a manifest to name them. An image run always covers all its pages,
    /// also when it holds none.
    pub async fn finish(mut self) -> Result<Vec<LayerDescriptor>, LayerError> {
        if self.settings.identity.kind == LayerKind::Image && self.open.is_none() {
            self.begin_layer(self.uncovered).await?;
        }
        let last_page = self.last.map_or(PageNo(0), |(page, _)| page);
        let range_end = match self.settings.identity.kind {
            LayerKind::Delta => last_page,
            LayerKind::Image => *self.settings.pages.end(),
        };
        self.finish_layer(last_page, range_end).await?;
        Ok(self.finished)
    }
}
