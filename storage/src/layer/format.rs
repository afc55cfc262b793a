//! The layer file, version 2. All numbers little-endian.
//!
//! ```text
//! head      magic "ALLY" (4) · version (1) · kind (1) · zero (2)
//! block*    crc32 (4) · raw length (4) · lz4 block
//!             raw: entry*   page (varint) · LSN (varint) · length (varint) · bytes
//! index     entry for each block:   first page (8) · last page (8) · stored length (4)
//! footer    magic (4) · version (1) · kind (1) · zero (2) · branch (8) · first page (8) · last page (8) ·
//!           start LSN (8) · end LSN (8) · entries (8) · index offset (8) · blocks (4) · index crc32 (4) · crc32 (4)
//! ```
//!
//! An entry's page is told by its distance from the one before, in the first entry of a block from the block's first page.
//! Its LSN is told by its distance, positive or negative (zigzag), from the entry before if that has the same page, else from
//! the layer's start LSN. In version 1, which is still read, an entry is: page (8) · LSN (8) · length (4) · bytes.
//!
//! A block's CRC covers its identity (branch, kind, LSN range, number, first page) besides its bytes, and the index's
//! CRC covers the footer's identity, so that a block or file that turns up in the wrong place is found out.

use std::ops::Range;

use bytes::{Buf, Bytes};
use lz4_flex::block::CompressTable;

use super::{LayerDescriptor, LayerEntry, LayerError, LayerKind, LayerName};
use crate::varint::put_varint;
use crate::{BranchId, Lsn, PageNo};

/// Version written.
pub const VERSION: u8 = 2;
/// Oldest version read.
pub const OLDEST_READABLE: u8 = 1;
/// Bytes before the first block.
pub const HEAD_BYTES: usize = 8;
/// Bytes of the footer.
pub const FOOTER_BYTES: usize = 76;
/// Bytes of one index entry.
pub const INDEX_ENTRY_BYTES: usize = 20;
/// Bytes before a block's compressed part.
pub const BLOCK_HEAD_BYTES: usize = 8;
/// Bytes before an entry's own, in version 1.
const OLD_ENTRY_HEAD_BYTES: usize = 20;
/// Most bytes before an entry's own: three varints.
pub const ENTRY_HEAD_BYTES: usize = 25;
/// A block is closed once it holds this much.
pub const BLOCK_TARGET_BYTES: usize = 32 << 10;
/// Longest record or page.
pub const MAX_ENTRY_BYTES: usize = 1 << 20;
/// Longest block, raw: one below its target plus one entry of the longest kind.
pub const MAX_BLOCK_BYTES: usize = BLOCK_TARGET_BYTES + ENTRY_HEAD_BYTES + MAX_ENTRY_BYTES;
/// Most blocks in a layer: its index stays below 20 MiB.
pub const MAX_BLOCKS: usize = 1 << 20;

const MAGIC: [u8; 4] = *b"ALLY";

/// What the blocks of a layer are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerIdentity {
    /// The branch whose pages these are.
    pub branch: BranchId,
    /// Delta or image.
    pub kind: LayerKind,
    /// See [`LayerDescriptor::start_lsn`].
    pub start_lsn: Lsn,
    /// See [`LayerDescriptor::end_lsn`].
    pub end_lsn: Lsn,
}

/// Where a block lies and which pages it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHandle {
    /// First page with an entry in it.
    pub first_page: PageNo,
    /// Last page with an entry in it.
    pub last_page: PageNo,
    /// Where it begins in the file.
    pub offset: u64,
    /// Length in the file.
    pub stored_bytes: u32,
}

/// What leads into a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerIndex {
    /// Of the file.
    pub version: u8,
    /// In the order of the file, which is that of the pages.
    pub blocks: Vec<BlockHandle>,
}

/// The footer's own content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Of the file.
    pub version: u8,
    /// The blocks' identity.
    pub identity: LayerIdentity,
    /// First page of the layer's range.
    pub first_page: PageNo,
    /// Last page of the layer's range.
    pub last_page: PageNo,
    /// Entries in all blocks.
    pub entries: u64,
    /// Where the index begins.
    pub index_offset: u64,
    /// Blocks, and entries of the index.
    pub blocks: u32,
    /// CRC of the index.
    pub index_crc: u32,
}

fn kind_byte(kind: LayerKind) -> u8 {
    match kind {
        LayerKind::Delta => 1,
        LayerKind::Image => 2,
    }
}

/// Bytes before the first block.
pub fn head(kind: LayerKind) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = MAGIC;
    [a, b, c, d, VERSION, kind_byte(kind), 0, 0]
}

/// Small for small distances in either direction.
fn zigzag(distance: i64) -> u64 {
    ((distance << 1) ^ (distance >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn block_crc(identity: &LayerIdentity, number: u32, first_page: PageNo, raw_bytes: u32, stored: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&identity.branch.0.to_le_bytes());
    crc.update(&[kind_byte(identity.kind)]);
    crc.update(&identity.start_lsn.0.to_le_bytes());
    crc.update(&identity.end_lsn.0.to_le_bytes());
    crc.update(&number.to_le_bytes());
    crc.update(&first_page.0.to_le_bytes());
    crc.update(&raw_bytes.to_le_bytes());
    crc.update(stored);
    crc.finalize()
}

/// A raw block being filled.
#[derive(Debug)]
pub struct BlockBuilder {
    start_lsn: Lsn,
    raw: Vec<u8>,
    first_page: PageNo,
    last: (PageNo, Lsn),
}

impl BlockBuilder {
    /// Of a layer that begins at an LSN.
    pub fn new(start_lsn: Lsn) -> BlockBuilder {
        let raw = Vec::with_capacity(BLOCK_TARGET_BYTES * 2);
        BlockBuilder { start_lsn, raw, first_page: PageNo(0), last: (PageNo(0), start_lsn) }
    }

    /// What has been appended.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Page of the first entry.
    pub fn first_page(&self) -> PageNo {
        self.first_page
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.raw.clear();
    }

    /// Appends an entry, of the last one's page or a higher one.
    pub fn push(&mut self, page: PageNo, lsn: Lsn, bytes: &[u8]) {
        assert!(bytes.len() <= MAX_ENTRY_BYTES, "entry of {} bytes on page {page} at {lsn}", bytes.len());
        if self.raw.is_empty() {
            self.first_page = page;
            self.last = (page, self.start_lsn);
        }
        let (last_page, last_lsn) = self.last;
        let from = if page == last_page { last_lsn } else { self.start_lsn };
        put_varint(&mut self.raw, page.0 - last_page.0);
        put_varint(&mut self.raw, zigzag(lsn.0.wrapping_sub(from.0) as i64));
        put_varint(&mut self.raw, bytes.len() as u64);
        self.raw.extend_from_slice(bytes);
        self.last = (page, lsn);
    }
}

/// Most bytes that a block of so many raw ones is stored in.
pub fn longest_block(raw_bytes: usize) -> usize {
    BLOCK_HEAD_BYTES + lz4_flex::block::get_maximum_output_size(raw_bytes)
}

/// Writes a block as it is stored to `place`, of [`longest_block`] bytes; answers how many it has. `table` is scratch memory.
pub fn encode_block(
    identity: &LayerIdentity,
    number: u32,
    first_page: PageNo,
    raw: &[u8],
    table: &mut CompressTable,
    place: &mut [u8],
) -> usize {
    let raw_bytes = u32::try_from(raw.len()).expect("blocks are limited in length");
    let (head, compressed) = place.split_at_mut(BLOCK_HEAD_BYTES);
    let length =
        lz4_flex::block::compress_into_with_table(raw, compressed, table).expect("there is room for the longest");
    let crc = block_crc(identity, number, first_page, raw_bytes, &compressed[..length]);
    head[..4].copy_from_slice(&crc.to_le_bytes());
    head[4..].copy_from_slice(&raw_bytes.to_le_bytes());
    BLOCK_HEAD_BYTES + length
}

/// Checks and decompresses a stored block.
pub fn decode_block(
    identity: &LayerIdentity,
    number: u32,
    first_page: PageNo,
    mut stored: &[u8],
) -> Result<Bytes, String> {
    if stored.len() < BLOCK_HEAD_BYTES {
        return Err(format!("block {number} has {} bytes", stored.len()));
    }
    let (crc, raw_bytes) = (stored.get_u32_le(), stored.get_u32_le());
    if block_crc(identity, number, first_page, raw_bytes, stored) != crc {
        return Err(format!("block {number} fails its checksum"));
    }
    if raw_bytes as usize > MAX_BLOCK_BYTES {
        return Err(format!("block {number} claims {raw_bytes} bytes"));
    }
    let raw = lz4_flex::block::decompress(stored, raw_bytes as usize).map_err(|e| format!("block {number}: {e}"))?;
    if raw.len() != raw_bytes as usize {
        return Err(format!("block {number} has {} bytes, not {raw_bytes}", raw.len()));
    }
    Ok(Bytes::from(raw))
}

/// Reads the entries of a raw block in order. Damage ends it with an error.
#[derive(Clone, Debug)]
pub struct Entries {
    raw: Bytes,
    /// Of the next entry.
    at: usize,
    version: u8,
    start_lsn: Lsn,
    /// Of the entry before.
    page: PageNo,
    lsn: Lsn,
}

/// Where an entry's bytes lie in its block.
pub type EntrySpan = (PageNo, Lsn, Range<usize>);

impl Entries {
    /// Over a block that [`decode_block`] gave, of a layer of a version that begins at an LSN.
    pub fn new(raw: Bytes, version: u8, start_lsn: Lsn, first_page: PageNo) -> Entries {
        Entries { raw, at: 0, version, start_lsn, page: first_page, lsn: start_lsn }
    }

    /// The block.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let first = *self.raw.get(self.at)?;
        if first < 0x80 {
            self.at += 1;
            return Some(first.into());
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.raw.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7F).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn head(&mut self) -> Option<u64> {
        if self.version == 1 {
            let mut head = self.raw.get(self.at..self.at + OLD_ENTRY_HEAD_BYTES)?;
            self.at += OLD_ENTRY_HEAD_BYTES;
            (self.page, self.lsn) = (PageNo(head.get_u64_le()), Lsn(head.get_u64_le()));
            return Some(u64::from(head.get_u32_le()));
        }
        let distance = self.varint()?;
        if distance > 0 {
            self.page = PageNo(self.page.0.checked_add(distance)?);
            self.lsn = self.start_lsn;
        }
        self.lsn = Lsn(self.lsn.0.wrapping_add_signed(unzigzag(self.varint()?)));
        self.varint()
    }

    /// The next entry; its bytes are `raw()[span]`.
    pub fn next_span(&mut self) -> Option<Result<EntrySpan, String>> {
        if self.at >= self.raw.len() {
            return None;
        }
        let length = self.head();
        let end = length.and_then(|length| self.at.checked_add(usize::try_from(length).ok()?));
        match end.filter(|end| *end <= self.raw.len()) {
            Some(end) => {
                let span = self.at..end;
                self.at = end;
                Some(Ok((self.page, self.lsn, span)))
            }
            None => {
                self.at = self.raw.len();
                Some(Err(format!("an entry after page {} at {} is cut off", self.page, self.lsn)))
            }
        }
    }
}

impl Iterator for Entries {
    type Item = Result<LayerEntry, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let span = self.next_span()?;
        Some(span.map(|(page, lsn, span)| LayerEntry { page, lsn, bytes: self.raw.slice(span) }))
    }
}

/// The index as it is stored.
pub fn encode_index(blocks: &[BlockHandle]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(blocks.len() * INDEX_ENTRY_BYTES);
    for block in blocks {
        bytes.extend_from_slice(&block.first_page.0.to_le_bytes());
        bytes.extend_from_slice(&block.last_page.0.to_le_bytes());
        bytes.extend_from_slice(&block.stored_bytes.to_le_bytes());
    }
    bytes
}

/// Checks an index against its footer.
pub fn decode_index(footer: &Footer, mut bytes: &[u8]) -> Result<LayerIndex, String> {
    if bytes.len() != footer.blocks as usize * INDEX_ENTRY_BYTES {
        return Err(format!("an index of {} blocks has {} bytes", footer.blocks, bytes.len()));
    }
    if crc32fast::hash(bytes) != footer.index_crc {
        return Err("the index fails its checksum".to_owned());
    }
    let mut blocks = Vec::with_capacity(footer.blocks as usize);
    let mut offset = HEAD_BYTES as u64;
    let mut previous = footer.first_page;
    for number in 0..footer.blocks {
        let (first_page, last_page) = (PageNo(bytes.get_u64_le()), PageNo(bytes.get_u64_le()));
        let stored_bytes = bytes.get_u32_le();
        if first_page < previous || last_page < first_page || last_page > footer.last_page {
            return Err(format!("block {number} of pages {first_page}..={last_page} is out of order"));
        }
        previous = last_page;
        blocks.push(BlockHandle { first_page, last_page, offset, stored_bytes });
        offset += u64::from(stored_bytes);
    }
    if offset != footer.index_offset {
        return Err(format!("blocks end at {offset}, the index begins at {}", footer.index_offset));
    }
    Ok(LayerIndex { version: footer.version, blocks })
}

/// The footer as it is stored.
pub fn encode_footer(footer: &Footer) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FOOTER_BYTES);
    assert_eq!(footer.version, VERSION, "older versions are not written");
    bytes.extend_from_slice(&head(footer.identity.kind));
    bytes.extend_from_slice(&footer.identity.branch.0.to_le_bytes());
    bytes.extend_from_slice(&footer.first_page.0.to_le_bytes());
    bytes.extend_from_slice(&footer.last_page.0.to_le_bytes());
    bytes.extend_from_slice(&footer.identity.start_lsn.0.to_le_bytes());
    bytes.extend_from_slice(&footer.identity.end_lsn.0.to_le_bytes());
    bytes.extend_from_slice(&footer.entries.to_le_bytes());
    bytes.extend_from_slice(&footer.index_offset.to_le_bytes());
    bytes.extend_from_slice(&footer.blocks.to_le_bytes());
    bytes.extend_from_slice(&footer.index_crc.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    assert_eq!(bytes.len(), FOOTER_BYTES, "a footer has a fixed length");
    bytes
}

/// Checks a footer against what the manifest says of the layer.
pub fn decode_footer(layer: &LayerDescriptor, branch: BranchId, bytes: &[u8]) -> Result<Footer, LayerError> {
    let name: LayerName = layer.name;
    let damaged = |reason: String| LayerError::Damaged { name, reason };
    if bytes.len() != FOOTER_BYTES || bytes[..4] != MAGIC {
        return Err(damaged("this is not a layer's footer".to_owned()));
    }
    // The same in all versions: a flipped bit must not pass for a newer program's file.
    let (content, mut crc) = bytes.split_at(FOOTER_BYTES - 4);
    if crc32fast::hash(content) != crc.get_u32_le() {
        return Err(damaged("the footer fails its checksum".to_owned()));
    }
    let version = bytes[4];
    if !(OLDEST_READABLE..=VERSION).contains(&version) {
        return Err(LayerError::Version { name, version: bytes[4], known: VERSION });
    }
    let kind = match content[5] {
        1 => LayerKind::Delta,
        2 => LayerKind::Image,
        other => return Err(damaged(format!("unknown kind {other}"))),
    };
    let mut rest = &content[HEAD_BYTES..];
    let branch_found = BranchId(rest.get_u64_le());
    let (first_page, last_page) = (PageNo(rest.get_u64_le()), PageNo(rest.get_u64_le()));
    let (start_lsn, end_lsn) = (Lsn(rest.get_u64_le()), Lsn(rest.get_u64_le()));
    let identity = LayerIdentity { branch: branch_found, kind, start_lsn, end_lsn };
    let (entries, index_offset) = (rest.get_u64_le(), rest.get_u64_le());
    let (blocks, index_crc) = (rest.get_u32_le(), rest.get_u32_le());
    let footer = Footer { version, identity, first_page, last_page, entries, index_offset, blocks, index_crc };
    let expected = LayerIdentity { branch, kind: layer.kind, start_lsn: layer.start_lsn, end_lsn: layer.end_lsn };
    if identity != expected || (first_page, last_page, entries) != (layer.first_page, layer.last_page, layer.entries) {
        return Err(damaged(format!("the footer says {footer:?}, the manifest {layer:?} of branch {branch}")));
    }
    let index_bytes = u64::from(blocks) * INDEX_ENTRY_BYTES as u64;
    let length = index_offset.checked_add(index_bytes).and_then(|n| n.checked_add(FOOTER_BYTES as u64));
    if blocks as usize > MAX_BLOCKS || length != Some(layer.size_bytes) {
        return Err(damaged(format!("{blocks} blocks, index at {index_offset}, {} bytes in all", layer.size_bytes)));
    }
    Ok(footer)
}
