//! Overflow pages: a value too large for a leaf.
//!
//! ```text
//!  32  next    u64   next head page, 0 if there is none
//!  40  length  u16   data bytes in this page
//!  42  count   u16   page numbers that follow; 0 in all but head pages
//!  48  pages   u64 each
//!      data
//! ```
//!
//! A value begins with a *head* page: some data, and the numbers of up to [`HEAD_FANOUT`] pages that hold
//! what comes next, then possibly another head. So a reader can ask for many pages at once, and freeing
//! reads one page in 900.

use super::{HEADER_BYTES, PAGE_SIZE_BYTES, Page, PageDamage, PageKind};
use crate::ids::{PageNo, TreeId};
use crate::record::PageRun;
use crate::redo::RedoError;

const NEXT: usize = HEADER_BYTES;
const LENGTH: usize = HEADER_BYTES + 8;
const COUNT: usize = HEADER_BYTES + 10;
const BODY: usize = HEADER_BYTES + 16;

/// Bytes of a value in an overflow page that is not a head.
pub const OVERFLOW_CAPACITY_BYTES: usize = PAGE_SIZE_BYTES - BODY;
/// Most pages that a head names.
pub const HEAD_FANOUT: usize = 900;

/// Where a large value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverflowRef {
    /// First head page.
    pub first: PageNo,
    /// Bytes of the value.
    pub length_bytes: u64,
}

impl OverflowRef {
    /// Bytes of an encoded reference.
    pub const ENCODED_BYTES: usize = 16;

    /// As it is stored in a leaf.
    pub fn encode(self) -> [u8; Self::ENCODED_BYTES] {
        let mut out = [0; Self::ENCODED_BYTES];
        out[..8].copy_from_slice(&self.first.0.to_le_bytes());
        out[8..].copy_from_slice(&self.length_bytes.to_le_bytes());
        out
    }

    /// Inverse of [`OverflowRef::encode`].
    pub fn decode(bytes: &[u8; Self::ENCODED_BYTES]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Self { first: PageNo(word(0)), length_bytes: word(8) }
    }
}

/// How many pages the head of a value's remaining `bytes` names.
pub fn head_pages(bytes: usize) -> usize {
    bytes.saturating_sub(OVERFLOW_CAPACITY_BYTES).div_ceil(OVERFLOW_CAPACITY_BYTES - 8).min(HEAD_FANOUT)
}

/// Bytes of the value in a head that names `pages`.
pub fn head_capacity_bytes(pages: usize) -> usize {
    OVERFLOW_CAPACITY_BYTES - 8 * pages
}

/// Pages, heads included, that a value of `bytes` takes.
pub fn overflow_pages(bytes: usize) -> usize {
    let (mut rest, mut pages) = (bytes, 0);
    while rest > 0 {
        let named = head_pages(rest);
        rest = rest.saturating_sub(head_capacity_bytes(named) + named * OVERFLOW_CAPACITY_BYTES);
        pages += 1 + named;
    }
    pages
}

impl Page {
    /// The next head. Overflow pages only, as the next two.
    pub fn overflow_next(&self) -> Option<PageNo> {
        Some(PageNo(self.u64_at(NEXT))).filter(|next| next.0 != 0)
    }

    /// The pages that a head names, in the value's order.
    pub fn overflow_pages(&self) -> impl ExactSizeIterator<Item = PageNo> + '_ {
        let words = self.bytes()[BODY..BODY + 8 * self.u16_at(COUNT)].as_chunks().0;
        words.iter().map(|word| PageNo(u64::from_le_bytes(*word)))
    }

    /// The piece of the value in this page.
    pub fn overflow_data(&self) -> &[u8] {
        let start = BODY + 8 * self.u16_at(COUNT);
        &self.bytes()[start..start + self.u16_at(LENGTH)]
    }

    pub(super) fn check_overflow(&self) -> Result<(), PageDamage> {
        let fits = 8 * self.u16_at(COUNT) + self.u16_at(LENGTH) <= OVERFLOW_CAPACITY_BYTES;
        if fits { Ok(()) } else { Err(PageDamage::Structure { reason: "piece of a value exceeds its page" }) }
    }

    pub(crate) fn format_overflow(
        &mut self,
        tree: TreeId,
        next: Option<PageNo>,
        pages: PageRun<'_>,
        data: &[u8],
    ) -> Result<(), RedoError> {
        let words = pages.words().ok_or(RedoError("page numbers end early"))?.as_flattened();
        if words.len() + data.len() > OVERFLOW_CAPACITY_BYTES {
            return Err(RedoError("piece of a value exceeds its page"));
        }
        self.reset(PageKind::Overflow, 0, 0, tree);
        self.put_u64(NEXT, next.map_or(0, |next| next.0));
        self.put_u16(LENGTH, data.len());
        self.put_u16(COUNT, words.len() / 8);
        let bytes = self.bytes_mut();
        bytes[BODY..BODY + words.len()].copy_from_slice(words);
        bytes[BODY + words.len()..BODY + words.len() + data.len()].copy_from_slice(data);
        Ok(())
    }
}
