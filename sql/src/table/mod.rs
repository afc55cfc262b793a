//! Tables over trees: how a row and its index entries become keys and values, and what it takes to insert,
//! change or delete a row with everything that hangs on it.
//!
//! ```text
//! table tree   key   = primary key columns (ASC NULLS LAST), or the row id, 8 bytes big endian
//!              value = all columns, dropped ones as NULL
//! index tree   key   = indexed columns, then the row's key (left out in a unique index without NULLs)
//!              value = the row's key in a unique index's entries without NULL, else empty
//! ```
//!
//! Rules that DML, COPY and DDL rely on:
//! - Whoever writes or deletes an entry of a unique index holds the row lock on that entry's key first. That
//!   lock is what makes two inserters of one value wait for each other.
//! - `get_latest` on a locked key decides uniqueness, not the snapshot: a committed duplicate that the
//!   snapshot cannot see is a duplicate all the same.
//! - Trees made by this transaction are nobody else's: no locks are taken in them.

mod access;
mod batch;
mod check;
mod codec;
mod constraint;
mod foreign_key;
mod index;
mod loader;
mod row_id;

#[cfg(test)]
mod tests;

pub(crate) use access::UniqueKey;
pub use access::{TableAccess, WriteContext};
pub use batch::RowBatch;
pub(crate) use check::check_table;
pub use codec::RowCodec;
pub(crate) use codec::{ColumnDecoder, decode_columns};
pub use constraint::{check_not_null, check_violation, failing_row, format_row_values};
pub use foreign_key::{ForeignKeyAccess, Wanted};
pub use index::IndexAccess;
pub(crate) use index::{KeyColumn, ValueRange, key_range};
pub use loader::{LoadFailure, TableLoader};
pub use row_id::RowIds;

/// Longest key that a tree takes, bytes.
pub use storage::page::MAX_KEY_BYTES;

/// Longest row, bytes.
pub const MAX_ROW_BYTES: usize = 256 * 1024 * 1024;
