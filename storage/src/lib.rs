//! The database's substance without its surroundings: ids, pages, redo records, B+trees over a page
//! source, key and row codecs, layer files, manifests and the object-store wrapper.
//!
//! Nothing here opens a socket, reads a clock or knows SQL. What is persisted is defined in one file
//! per format, each with its round-trip and rejection tests.

// Tests may read clocks, sleep and draw at random.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod batch;
pub mod beside;
pub mod btree;
pub mod bulk;
pub mod ids;
pub mod key;
pub mod layer;
pub mod layout;
pub mod manifest;
pub mod meta;
pub mod object;
pub mod page;
pub mod record;
pub mod redo;
pub mod row;
pub mod spill;
pub mod testing;
pub mod upkeep;
pub mod varint;

pub use ids::{BranchId, Epoch, Generation, Lsn, PageNo, ShardId, TreeId};
