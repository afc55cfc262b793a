//! Pages: 8 KiB of bytes with a header, the unit of caching, replay and storage.
//!
//! ```text
//!   0  crc        u32   zero in memory; filled in by `seal`, checked and cleared by `load`
//!   4  version    u8    1
//!   5  kind       u8    see `PageKind`
//!   6  level      u8    0 in leaves, height above the leaves in internal pages
//!   7  flags      u8    bit 0 (tree roots only): some value of the tree may be out of line
//!   8  lsn        u64   end of the last batch that changed the page
//!  16  tree       u64   root page number of the tree that the page belongs to
//!  24  slots      u16   entries                            ┐
//!  26  heap       u16   lowest used byte of the heap       │ slotted pages: leaf and internal
//!  28  dead       u16   bytes of the heap no entry uses    │ (module `slotted`)
//!  30  prefix     u16   bytes that all keys begin with     ┘
//!  32  body
//! ```
//!
//! All integers are little-endian. The checksum covers every byte after it and, before them, the branch
//! and the page number, so that a page which ends up in another's place is noticed. In memory the
//! checksum is zero: a page changed by replay and the same page changed by a writer are byte-identical.
//!
//! **Trust.** Bytes become a [`Page`] through [`Page::load`] only, which verifies the checksum *and* the
//! structure; every later change goes through [`crate::redo`], which keeps the structure valid whatever
//! the record says. So accessors may index freely: a bad index is a broken invariant and panics.

mod check;
mod edit;
mod measure;
mod overflow;
mod slotted;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

use crate::ids::{BranchId, Lsn, PageNo, TreeId};

pub use edit::EntryBytes;
pub use measure::{Fit, common_prefix_len};
pub use overflow::{
    HEAD_FANOUT, OVERFLOW_CAPACITY_BYTES, OverflowRef, head_capacity_bytes, head_pages, overflow_pages,
};
pub use slotted::EntryValue;

/// Bytes in a page.
pub const PAGE_SIZE_BYTES: usize = 8192;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 32;
/// The only format version so far.
pub const PAGE_VERSION: u8 = 1;
/// Longest key. Three such keys fit a page, so a split always succeeds.
pub const MAX_KEY_BYTES: usize = 2500;
/// Longest value kept in a leaf, given that key and value together fit [`MAX_INLINE_ENTRY_BYTES`].
pub const MAX_INLINE_VALUE_BYTES: usize = 2048;
/// Longest key plus value kept in a leaf; beyond it the value goes to overflow pages.
pub const MAX_INLINE_ENTRY_BYTES: usize = 2600;

/// Root flag: the tree has, or had, values in overflow pages.
pub const FLAG_OVERFLOW: u8 = 1;

/// Bytes after the header.
pub const BODY_BYTES: usize = PAGE_SIZE_BYTES - HEADER_BYTES;

/// How far [`Page::prefetch`] goes: the slots of a leaf of rows of 40 bytes.
#[cfg(target_arch = "x86_64")]
const PREFETCH_BYTES: usize = 2048;

const CRC: usize = 0;
const VERSION: usize = 4;
const KIND: usize = 5;
const LEVEL: usize = 6;
const FLAGS: usize = 7;
const LSN: usize = 8;
const TREE: usize = 16;
const SLOTS: usize = 24;
const HEAP: usize = 26;
const DEAD: usize = 28;
const PREFIX: usize = 30;

const _: () = assert!(3 * (MAX_INLINE_ENTRY_BYTES + 10) < PAGE_SIZE_BYTES - HEADER_BYTES);
const _: () = assert!(3 * (MAX_KEY_BYTES + 18) + 18 < PAGE_SIZE_BYTES - HEADER_BYTES);

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageKind {
    /// Never written: all bytes zero.
    Unused = 0,
    /// Rows of a tree.
    Leaf = 1,
    /// Separators and children of a tree.
    Internal = 2,
    /// A piece of a large value.
    Overflow = 3,
    /// Page 0 of a branch.
    Meta = 4,
    /// Page numbers free for use, chained.
    FreeList = 5,
}

impl PageKind {
    /// The kind of that number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Unused,
            1 => Self::Leaf,
            2 => Self::Internal,
            3 => Self::Overflow,
            4 => Self::Meta,
            5 => Self::FreeList,
            _ => return None,
        })
    }
}

/// Why bytes are not a page. The holder fetches the page elsewhere or answers XX001.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageDamage {
    /// Not [`PAGE_SIZE_BYTES`] long.
    #[error("{bytes} bytes are not a page of {PAGE_SIZE_BYTES}")]
    Size { bytes: usize },
    /// The checksum belongs to other bytes, or to another page.
    #[error("page {page} of branch {branch} has checksum {stored:08x}, its bytes give {computed:08x}")]
    Checksum { branch: BranchId, page: PageNo, stored: u32, computed: u32 },
    /// Written by a newer program.
    #[error("page format version {version} is not known to this program")]
    Version { version: u8 },
    /// The checksum is right and the structure is not: written by a faulty program.
    #[error("page structure is broken: {reason}")]
    Structure { reason: &'static str },
}

/// One page in memory. Aligned so that the header and a short prefix share a cache line.
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Page {
    bytes: [u8; PAGE_SIZE_BYTES],
}

const _: () = assert!(size_of::<Page>() == PAGE_SIZE_BYTES);

impl Default for Page {
    fn default() -> Self {
        Self { bytes: [0; PAGE_SIZE_BYTES] }
    }
}

impl Page {
    /// A page that was never written.
    pub fn unused() -> Box<Self> {
        Box::default()
    }

    /// The bytes as they stand in memory: no checksum.
    pub fn bytes(&self) -> &[u8; PAGE_SIZE_BYTES] {
        &self.bytes
    }

    /// Makes this page all zero.
    pub fn clear(&mut self) {
        self.bytes.fill(0);
    }

    /// Tells the processor that the page is about to be searched, so that its header and slots come from
    /// memory together and not one after another.
    #[inline]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        for line in (0..PREFETCH_BYTES).step_by(64) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch reads nothing that the program sees and cannot fault; the address lies
            // within the page.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.bytes.as_ptr().add(line).cast()) };
        }
    }

    /// Takes over verified bytes: what a page server or a layer handed out. The page is unspecified but
    /// harmless (unused) after an error.
    pub fn load(&mut self, bytes: &[u8], branch: BranchId, page: PageNo) -> Result<(), PageDamage> {
        verify(bytes, branch, page)?;
        self.bytes.copy_from_slice(bytes);
        self.bytes[CRC..CRC + 4].fill(0);
        self.check().inspect_err(|_| self.clear())
    }

    /// [`Page::load`] into a new page.
    pub fn open(bytes: &[u8], branch: BranchId, page: PageNo) -> Result<Box<Self>, PageDamage> {
        let mut opened = Self::unused();
        opened.load(bytes, branch, page)?;
        Ok(opened)
    }

    /// The bytes with their checksum, for leaving memory.
    pub fn seal(&self, branch: BranchId, page: PageNo) -> Bytes {
        let mut out = Vec::with_capacity(PAGE_SIZE_BYTES);
        self.seal_into(branch, page, &mut out);
        Bytes::from(out)
    }

    /// Appends what [`Page::seal`] gives.
    pub fn seal_into(&self, branch: BranchId, page: PageNo, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let crc = checksum(&self.bytes, branch, page);
        out[start + CRC..start + CRC + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// What the page holds.
    pub fn kind(&self) -> PageKind {
        PageKind::from_byte(self.bytes[KIND]).unwrap_or(PageKind::Unused)
    }

    /// Height above the leaves.
    pub fn level(&self) -> u8 {
        self.bytes[LEVEL]
    }

    /// True for leaves.
    pub fn is_leaf(&self) -> bool {
        self.bytes[KIND] == PageKind::Leaf as u8
    }

    /// Root flags, such as [`FLAG_OVERFLOW`].
    pub fn flags(&self) -> u8 {
        self.bytes[FLAGS]
    }

    /// End of the last batch that changed the page.
    pub fn lsn(&self) -> Lsn {
        Lsn(self.u64_at(LSN))
    }

    /// Stamps the page with the end of the batch whose records were just applied. Redo leaves the LSN
    /// alone, because a writer learns the end of its batch only after the last record.
    pub fn set_lsn(&mut self, lsn: Lsn) {
        self.put_u64(LSN, lsn.0);
    }

    /// The tree that the page belongs to.
    pub fn tree(&self) -> TreeId {
        TreeId(PageNo(self.u64_at(TREE)))
    }

    pub(crate) fn u16_at(&self, offset: usize) -> usize {
        usize::from(u16::from_le_bytes([self.bytes[offset], self.bytes[offset + 1]]))
    }

    pub(crate) fn put_u16(&mut self, offset: usize, value: usize) {
        let value = u16::try_from(value).expect("offsets within a page fit 16 bits");
        self.bytes[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64_at(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes[offset..offset + 8].try_into().expect("eight bytes"))
    }

    pub(crate) fn put_u64(&mut self, offset: usize, value: u64) {
        self.bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE_BYTES] {
        &mut self.bytes
    }

    /// Where the zero bytes in the middle begin and end.
    pub(crate) fn hole(&self) -> (usize, usize) {
        if self.is_slotted() {
            return (self.slots_end(), self.heap_start());
        }
        let zeros = self.bytes.iter().rev().take_while(|&&byte| byte == 0).count();
        ((PAGE_SIZE_BYTES - zeros).max(HEADER_BYTES), PAGE_SIZE_BYTES)
    }

    /// Clears everything but the LSN and writes a new header.
    pub(crate) fn reset(&mut self, kind: PageKind, level: u8, flags: u8, tree: TreeId) {
        let lsn = self.lsn();
        self.clear();
        self.bytes[VERSION] = PAGE_VERSION;
        self.bytes[KIND] = kind as u8;
        self.bytes[LEVEL] = level;
        self.bytes[FLAGS] = flags;
        self.set_lsn(lsn);
        self.put_u64(TREE, tree.0.0);
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("kind", &self.kind())
            .field("level", &self.level())
            .field("lsn", &self.lsn())
            .field("tree", &self.tree())
            .field("slots", &self.u16_at(SLOTS))
            .finish_non_exhaustive()
    }
}

/// Checks the length and the checksum of bytes that came in as `page` of `branch`.
pub fn verify(bytes: &[u8], branch: BranchId, page: PageNo) -> Result<(), PageDamage> {
    let bytes: &[u8; PAGE_SIZE_BYTES] = bytes.try_into().map_err(|_| PageDamage::Size { bytes: bytes.len() })?;
    let stored = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let computed = checksum(bytes, branch, page);
    if stored != computed {
        return Err(PageDamage::Checksum { branch, page, stored, computed });
    }
    Ok(())
}

fn checksum(bytes: &[u8; PAGE_SIZE_BYTES], branch: BranchId, page: PageNo) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&branch.0.to_le_bytes());
    hasher.update(&page.0.to_le_bytes());
    hasher.update(&bytes[CRC + 4..]);
    hasher.finalize()
}
