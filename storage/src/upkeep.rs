//! The upkeep tree: pages that have an owner only as long as somebody lives, or that await being freed.
//!
//! It is an ordinary tree ([`crate::meta::UPKEEP_TREE`]); this file defines its rows.
//!
//! | key | value | meaning |
//! |---|---|---|
//! | `01` first page u64 BE | pages u64 BE | a run handed to a bulk load or a new tree that is not attached yet |
//! | `02` root page u64 BE | | a dropped tree whose pages are being given back |
//!
//! A row of the first kind is written in the batch that takes the numbers, and deleted in the batch that
//! attaches them. Whoever becomes primary finds in the rows left over what its predecessor did not finish:
//! nothing points to those pages, so they are freed.

use crate::ids::{PageNo, TreeId};
use crate::varint::{DecodeError, Input};

const RUN: u8 = 1;
const DROPPED: u8 = 2;

/// A row of the upkeep tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Page numbers taken but not attached.
    Run { first: PageNo, pages: u64 },
    /// A tree to be given back by [`crate::btree::reclaim_step`].
    Dropped { tree: TreeId },
}

impl Upkeep {
    /// The row's key.
    pub fn key(&self) -> [u8; 9] {
        let (tag, page) = match *self {
            Upkeep::Run { first, .. } => (RUN, first),
            Upkeep::Dropped { tree } => (DROPPED, tree.0),
        };
        let mut key = [tag; 9];
        key[1..].copy_from_slice(&page.0.to_be_bytes());
        key
    }

    /// The row's value.
    pub fn value(&self) -> Vec<u8> {
        match self {
            Upkeep::Run { pages, .. } => pages.to_be_bytes().to_vec(),
            Upkeep::Dropped { .. } => Vec::new(),
        }
    }

    /// Inverse of [`Upkeep::key`] and [`Upkeep::value`].
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let (mut key, mut value) = (Input::new(key), Input::new(value));
        let tag = key.byte()?;
        let page = PageNo(key.u64()?.swap_bytes());
        let row = match tag {
            RUN => Upkeep::Run { first: page, pages: value.u64()?.swap_bytes() },
            DROPPED => Upkeep::Dropped { tree: TreeId(page) },
            _ => return Err(DecodeError("unknown upkeep row")),
        };
        if key.is_empty() && value.is_empty() { Ok(row) } else { Err(DecodeError("bytes after an upkeep row")) }
    }
}

#[cfg(test)]
#[path = "upkeep_tests.rs"]
mod tests;
