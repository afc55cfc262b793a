//! Overflow pages: pieces of a value too large for a leaf, chained.
//!
//! ```text
//!  32  next    u64   next page of the chain, 0 at its end
//!  40  length  u16   data bytes in this page
//!  48  data
//! ```

use super::{HEADER_BYTES, PAGE_SIZE_BYTES, Page, PageKind};
use crate::ids::{PageNo, TreeId};
use crate::redo::RedoError;

const NEXT: usize = HEADER_BYTES;
const LENGTH: usize = HEADER_BYTES + 8;
const DATA: usize = HEADER_BYTES + 16;

/// Bytes of a value in one overflow page. All pages of a chain but the last are full.
pub const OVERFLOW_CAPACITY_BYTES: usize = PAGE_SIZE_BYTES - DATA;

/// Where a large value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverflowRef {
    /// First page of the chain.
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

    /// Pages in the chain.
    pub fn pages(self) -> u64 {
        self.length_bytes.div_ceil(OVERFLOW_CAPACITY_BYTES as u64)
    }
}

impl Page {
    /// Next page of the chain; `None` at its end. Overflow pages only.
    pub fn overflow_next(&self) -> Option<PageNo> {
        Some(PageNo(self.u64_at(NEXT))).filter(|next| next.0 != 0)
    }

    /// The piece of the value. Overflow pages only.
    pub fn overflow_data(&self) -> &[u8] {
        &self.bytes()[DATA..DATA + self.u16_at(LENGTH)]
    }

    pub(super) fn overflow_length(&self) -> usize {
        self.u16_at(LENGTH)
    }

    pub(crate) fn format_overflow(&mut self, tree: TreeId, next: Option<PageNo>, data: &[u8]) -> Result<(), RedoError> {
        if data.len() > OVERFLOW_CAPACITY_BYTES {
            return Err(RedoError("piece of a value exceeds its page"));
        }
        self.reset(PageKind::Overflow, 0, 0, tree);
        self.put_u64(NEXT, next.map_or(0, |next| next.0));
        self.put_u16(LENGTH, data.len());
        self.bytes_mut()[DATA..DATA + data.len()].copy_from_slice(data);
        Ok(())
    }
}
