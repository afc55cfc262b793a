//! Redo records: one operation on one page, and its encoding.
//!
//! A record is self-contained given the page's earlier content: no operation reads a second page.
//!
//! ```text
//!  page number varint · operation u8 · operands
//! ```
//!
//! Numbers are varints, byte strings a varint length and the bytes, unless said otherwise. Keys travel
//! without the prefix of the page they go to. Decoding borrows from the input and checks every length.

#[cfg(test)]
mod tests;

use crate::ids::{PageNo, TreeId};
use crate::page::{EntryBytes, Page};
use crate::varint::{DecodeError, Input, put_bytes, put_varint};

/// One operation on one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The page.
    pub page: PageNo,
    /// What is done to it.
    pub op: RedoOp<'a>,
}

/// What can be done to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedoOp<'a> {
    /// Makes an empty leaf (level 0) or internal page. The page's earlier content does not matter.
    Format { level: u8, flags: u8, tree: TreeId, prefix: &'a [u8] },
    /// Puts an entry before the one in `slot`.
    Insert { slot: u16, entry: EntryBytes<'a> },
    /// Puts several entries, in order, before the one in `slot`.
    InsertRun { slot: u16, entries: EntryRun<'a> },
    /// Replaces a value.
    Update { slot: u16, value: &'a [u8], out_of_line: bool },
    /// Replaces the middle of an inline value.
    Splice { slot: u16, keep_front: u16, keep_back: u16, middle: &'a [u8] },
    /// Removes `count` entries from `slot` on.
    Delete { slot: u16, count: u16 },
    /// Rewrites the page with a prefix of this length.
    Rebuild { prefix_len: u16 },
    /// Sets a root's flags.
    SetFlags { flags: u8 },
    /// The whole page but its LSN; the zero bytes in the middle are left out. Earlier content does not
    /// matter.
    Image { start: &'a [u8], end: &'a [u8] },
    /// A piece of a large value. Earlier content does not matter.
    Overflow { tree: TreeId, next: Option<PageNo>, pages: PageRun<'a>, data: &'a [u8] },
    /// Makes the meta page of a new branch. Earlier content does not matter.
    MetaFormat { catalog: TreeId, upkeep: TreeId, next_page: PageNo },
    /// Takes page numbers never used before, from the meta page's counter.
    MetaExtend { count: u64 },
    /// Takes the last page numbers of the meta page's own part of the free list.
    MetaPop { count: u16 },
    /// Adds page numbers to the meta page's own part of the free list.
    MetaPush { pages: PageRun<'a> },
    /// Empties the meta page's own part of the free list into the free-list page `head`.
    MetaSpill { head: PageNo },
    /// Takes over the content of the first free-list page.
    MetaRefill { next: Option<PageNo>, pages: PageRun<'a> },
    /// Makes a free-list page. Earlier content does not matter.
    FreeList { next: Option<PageNo>, pages: PageRun<'a> },
}

const FORMAT: u8 = 1;
const INSERT: u8 = 2;
const INSERT_RUN: u8 = 3;
const UPDATE: u8 = 4;
const SPLICE: u8 = 5;
const DELETE: u8 = 6;
const REBUILD: u8 = 7;
const SET_FLAGS: u8 = 8;
const IMAGE: u8 = 9;
const OVERFLOW: u8 = 10;
const META_FORMAT: u8 = 16;
const META_EXTEND: u8 = 17;
const META_POP: u8 = 18;
const META_PUSH: u8 = 19;
const META_SPILL: u8 = 20;
const META_REFILL: u8 = 21;
const FREE_LIST: u8 = 22;

impl<'a> RedoOp<'a> {
    /// The image of a page, borrowed from it.
    pub fn image_of(page: &'a Page) -> Self {
        let bytes = page.bytes();
        let (start, end) = page.hole();
        RedoOp::Image { start: &bytes[..start], end: &bytes[end..] }
    }

    /// True when the page's earlier content does not matter: a page server need not look for it, a
    /// compute need not fetch it.
    pub fn initializes_page(&self) -> bool {
        matches!(
            self,
            RedoOp::Format { .. }
                | RedoOp::Image { .. }
                | RedoOp::Overflow { .. }
                | RedoOp::MetaFormat { .. }
                | RedoOp::FreeList { .. }
        )
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            RedoOp::Format { level, flags, tree, prefix } => {
                out.extend_from_slice(&[FORMAT, level, flags]);
                put_varint(out, tree.0.0);
                put_bytes(out, prefix);
            }
            RedoOp::Insert { slot, entry } => {
                out.push(INSERT);
                put_varint(out, slot.into());
                put_entry(out, entry);
            }
            RedoOp::InsertRun { slot, entries } => {
                out.push(INSERT_RUN);
                put_varint(out, slot.into());
                put_varint(out, entries.count.into());
                put_bytes(out, entries.encoded);
            }
            RedoOp::Update { slot, value, out_of_line } => {
                out.push(UPDATE);
                put_varint(out, slot.into());
                put_value(out, value, out_of_line);
            }
            RedoOp::Splice { slot, keep_front, keep_back, middle } => {
                out.push(SPLICE);
                for number in [slot, keep_front, keep_back] {
                    put_varint(out, number.into());
                }
                put_bytes(out, middle);
            }
            RedoOp::Delete { slot, count } => {
                out.push(DELETE);
                put_varint(out, slot.into());
                put_varint(out, count.into());
            }
            RedoOp::Rebuild { prefix_len } => {
                out.push(REBUILD);
                put_varint(out, prefix_len.into());
            }
            RedoOp::SetFlags { flags } => out.extend_from_slice(&[SET_FLAGS, flags]),
            RedoOp::Image { start, end } => {
                out.push(IMAGE);
                put_bytes(out, start);
                put_bytes(out, end);
            }
            RedoOp::Overflow { tree, next, pages, data } => {
                out.push(OVERFLOW);
                put_varint(out, tree.0.0);
                put_optional(out, next);
                put_bytes(out, pages.encoded);
                put_bytes(out, data);
            }
            RedoOp::MetaFormat { catalog, upkeep, next_page } => {
                out.push(META_FORMAT);
                for page in [catalog.0, upkeep.0, next_page] {
                    put_varint(out, page.0);
                }
            }
            RedoOp::MetaExtend { count } => {
                out.push(META_EXTEND);
                put_varint(out, count);
            }
            RedoOp::MetaPop { count } => {
                out.push(META_POP);
                put_varint(out, count.into());
            }
            RedoOp::MetaPush { pages } => {
                out.push(META_PUSH);
                put_bytes(out, pages.encoded);
            }
            RedoOp::MetaSpill { head } => {
                out.push(META_SPILL);
                put_varint(out, head.0);
            }
            RedoOp::MetaRefill { next, pages } => {
                out.push(META_REFILL);
                put_optional(out, next);
                put_bytes(out, pages.encoded);
            }
            RedoOp::FreeList { next, pages } => {
                out.push(FREE_LIST);
                put_optional(out, next);
                put_bytes(out, pages.encoded);
            }
        }
    }

    fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            FORMAT => RedoOp::Format {
                level: input.byte()?,
                flags: input.byte()?,
                tree: TreeId(PageNo(input.varint()?)),
                prefix: input.bytes()?,
            },
            INSERT => RedoOp::Insert { slot: input.varint_u16()?, entry: take_entry(input)? },
            INSERT_RUN => RedoOp::InsertRun {
                slot: input.varint_u16()?,
                entries: EntryRun { count: input.varint_u16()?, encoded: input.bytes()? },
            },
            UPDATE => {
                let slot = input.varint_u16()?;
                let (value, out_of_line) = take_value(input)?;
                RedoOp::Update { slot, value, out_of_line }
            }
            SPLICE => RedoOp::Splice {
                slot: input.varint_u16()?,
                keep_front: input.varint_u16()?,
                keep_back: input.varint_u16()?,
                middle: input.bytes()?,
            },
            DELETE => RedoOp::Delete { slot: input.varint_u16()?, count: input.varint_u16()? },
            REBUILD => RedoOp::Rebuild { prefix_len: input.varint_u16()? },
            SET_FLAGS => RedoOp::SetFlags { flags: input.byte()? },
            IMAGE => RedoOp::Image { start: input.bytes()?, end: input.bytes()? },
            OVERFLOW => RedoOp::Overflow {
                tree: TreeId(PageNo(input.varint()?)),
                next: take_optional(input)?,
                pages: PageRun { encoded: input.bytes()? },
                data: input.bytes()?,
            },
            META_FORMAT => RedoOp::MetaFormat {
                catalog: TreeId(PageNo(input.varint()?)),
                upkeep: TreeId(PageNo(input.varint()?)),
                next_page: PageNo(input.varint()?),
            },
            META_EXTEND => RedoOp::MetaExtend { count: input.varint()? },
            META_POP => RedoOp::MetaPop { count: input.varint_u16()? },
            META_PUSH => RedoOp::MetaPush { pages: PageRun { encoded: input.bytes()? } },
            META_SPILL => RedoOp::MetaSpill { head: PageNo(input.varint()?) },
            META_REFILL => {
                RedoOp::MetaRefill { next: take_optional(input)?, pages: PageRun { encoded: input.bytes()? } }
            }
            FREE_LIST => RedoOp::FreeList { next: take_optional(input)?, pages: PageRun { encoded: input.bytes()? } },
            _ => return Err(DecodeError("unknown operation")),
        })
    }
}

impl<'a> Record<'a> {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.page.0);
        self.op.encode(out);
    }

    /// Takes the next record off the input.
    pub fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        Ok(Self { page: PageNo(input.varint()?), op: RedoOp::decode(input)? })
    }

    /// Whether a record that stands alone [initializes its page](RedoOp::initializes_page), told by its first bytes: the rest may
    /// turn out not to decode.
    pub fn bytes_initialize_page(bytes: &[u8]) -> bool {
        let mut input = Input::new(bytes);
        input.varint().is_ok() && matches!(input.byte(), Ok(FORMAT | IMAGE | OVERFLOW | META_FORMAT | FREE_LIST))
    }

    /// A record that stands alone, as layers keep them.
    pub fn decode_exact(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut input = Input::new(bytes);
        let record = Self::decode(&mut input)?;
        if input.is_empty() { Ok(record) } else { Err(DecodeError("bytes after the record")) }
    }
}

/// Several entries, encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRun<'a> {
    count: u16,
    encoded: &'a [u8],
}

impl<'a> EntryRun<'a> {
    /// `encoded` as [`put_entry`] made it, `count` times.
    pub fn new(count: usize, encoded: &'a [u8]) -> Self {
        Self { count: u16::try_from(count).expect("a page holds fewer than 2^16 entries"), encoded }
    }

    /// The entries. Ends after the first error.
    pub fn iter(self) -> impl Iterator<Item = Result<EntryBytes<'a>, DecodeError>> {
        let mut input = Input::new(self.encoded);
        let mut left = self.count;
        std::iter::from_fn(move || {
            if left == 0 {
                let surplus = !input.is_empty();
                input = Input::new(&[]);
                return surplus.then_some(Err(DecodeError("bytes after the last entry")));
            }
            let entry = take_entry(&mut input);
            left = if entry.is_ok() { left - 1 } else { 0 };
            if entry.is_err() {
                input = Input::new(&[]);
            }
            Some(entry)
        })
    }
}

/// Page numbers, eight bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun<'a> {
    encoded: &'a [u8],
}

impl<'a> PageRun<'a> {
    /// `encoded` holds little-endian page numbers.
    pub fn new(encoded: &'a [u8]) -> Self {
        Self { encoded }
    }

    /// The bytes, if they are whole page numbers.
    pub fn words(self) -> Option<&'a [[u8; 8]]> {
        let (words, rest) = self.encoded.as_chunks();
        rest.is_empty().then_some(words)
    }
}

/// Appends an entry of an [`EntryRun`].
pub fn put_entry(out: &mut Vec<u8>, entry: EntryBytes<'_>) {
    put_bytes(out, entry.suffix);
    put_value(out, entry.value, entry.out_of_line);
}

fn take_entry<'a>(input: &mut Input<'a>) -> Result<EntryBytes<'a>, DecodeError> {
    let suffix = input.bytes()?;
    let (value, out_of_line) = take_value(input)?;
    Ok(EntryBytes { suffix, value, out_of_line })
}

fn put_value(out: &mut Vec<u8>, value: &[u8], out_of_line: bool) {
    put_varint(out, (value.len() as u64) << 1 | u64::from(out_of_line));
    out.extend_from_slice(value);
}

fn take_value<'a>(input: &mut Input<'a>) -> Result<(&'a [u8], bool), DecodeError> {
    let word = input.varint()?;
    let length = usize::try_from(word >> 1).map_err(|_| DecodeError("length exceeds memory"))?;
    Ok((input.take(length)?, word & 1 != 0))
}

fn put_optional(out: &mut Vec<u8>, page: Option<PageNo>) {
    put_varint(out, page.map_or(0, |page| page.0));
}

fn take_optional(input: &mut Input<'_>) -> Result<Option<PageNo>, DecodeError> {
    Ok(Some(PageNo(input.varint()?)).filter(|page| page.0 != 0))
}
