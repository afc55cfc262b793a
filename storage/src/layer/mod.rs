//! Layers: immutable files of page history on the object store.
//!
//! ```text
//! delta layer   every record with start < LSN ≤ end of the pages first..=last     sorted by (page, LSN), stable
//! image layer   every page that exists at LSN `end` among the pages first..=last  sorted by page
//! ```
//!
//! Both are files of compressed blocks ([`mod@format`]). A *run* is a set of layers of the same kind and LSN range whose
//! page ranges do not overlap; it is what one flush or one compaction writes. An image run covers a range of pages
//! without a gap, so that a page of the range that it does not hold did not exist.

pub mod format;

mod cache;
mod disk_cache;
mod reader;
mod scan;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::object::ObjectError;
use crate::{BranchId, Generation, Lsn, PageNo, ShardId};

pub use cache::LayerCache;
pub use disk_cache::DiskCache;
pub use reader::{LayerReader, Wanted};
pub use scan::LayerScan;
pub use writer::{RunSettings, RunWriter};

/// What a layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// Records of pages in an LSN range.
    Delta,
    /// Whole pages at one LSN.
    Image,
}

/// A layer's name within its shard: unique, because a generation belongs to one owner, who counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerName {
    /// Of the owner that wrote it.
    pub generation: Generation,
    /// Counted by that owner from zero.
    pub sequence: u64,
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:08x}", self.generation.0, self.sequence)
    }
}

impl LayerName {
    /// The name that [`LayerName`]'s `Display` printed.
    pub fn parse(text: &str) -> Option<LayerName> {
        let (generation, sequence) = text.split_once('-')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        Some(LayerName { generation: Generation(number(generation)?), sequence: number(sequence)? })
    }
}

/// Branch, shard and name of a layer: no other has the same.
pub type LayerId = (BranchId, ShardId, LayerName);

/// A layer as its manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerDescriptor {
    /// The branch that wrote it: the manifest's own, or an ancestor of it.
    pub branch: BranchId,
    /// The shard that wrote it: the manifest's own, or one that this one was split from.
    pub shard: ShardId,
    /// Tells its object key, together with branch and shard.
    pub name: LayerName,
    /// Delta or image.
    pub kind: LayerKind,
    /// 0 for what a flush wrote, higher for what compaction wrote.
    pub level: u8,
    /// First page of its range.
    pub first_page: PageNo,
    /// Last page of its range, inclusive.
    pub last_page: PageNo,
    /// Records lie above this; for an image equal to `end_lsn`.
    pub start_lsn: Lsn,
    /// Records lie at or below this; an image holds its pages as of this.
    pub end_lsn: Lsn,
    /// Records above this belong to the ancestor's history after the branch point and are not to be seen. Equal to
    /// `end_lsn` unless the layer is inherited.
    pub visible_lsn: Lsn,
    /// Length of its object.
    pub size_bytes: u64,
    /// Records or pages in it.
    pub entries: u64,
}

impl LayerDescriptor {
    /// Whether some page lies in both its range and another.
    pub fn overlaps(&self, first_page: PageNo, last_page: PageNo) -> bool {
        self.first_page <= last_page && first_page <= self.last_page
    }

    /// Whether a page lies in its range.
    pub fn covers(&self, page: PageNo) -> bool {
        self.first_page <= page && page <= self.last_page
    }

    /// What tells it apart from all other layers.
    pub fn id(&self) -> LayerId {
        (self.branch, self.shard, self.name)
    }

    /// Key of its object.
    pub fn key(&self) -> String {
        layer_key(&shard_prefix(self.branch, self.shard), self.name)
    }
}

/// One record (delta) or page (image), with its bytes borrowed from a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerEntry {
    /// The page.
    pub page: PageNo,
    /// End of the record's batch; an image's page LSN.
    pub lsn: Lsn,
    /// The record or page.
    pub bytes: bytes::Bytes,
}

/// A layer cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// The object store failed.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The bytes are not what was written: XX001.
    #[error("layer {name} is damaged: {reason}")]
    Damaged { name: LayerName, reason: String },
    /// Written by a newer program.
    #[error("layer {name} has format version {version}; this program knows {known}")]
    Version { name: LayerName, version: u8, known: u8 },
}

/// Prefix of everything that belongs to a shard.
pub fn shard_prefix(branch: BranchId, shard: ShardId) -> String {
    format!("branches/{branch}/shards/{shard}")
}

/// Object key of a layer.
pub fn layer_key(shard_prefix: &str, name: LayerName) -> String {
    format!("{shard_prefix}/layers/{name}")
}
