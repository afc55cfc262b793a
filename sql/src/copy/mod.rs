//! COPY: rows from and to bytes in the text, csv and binary formats.
//!
//! ```text
//! client bytes ──CopyIn::push──▶ lines ──▶ fields ──▶ values ──▶ rows with defaults ──▶ table
//! plan rows ──CopyOut::row──▶ bytes
//! ```
//!
//! Bytes come in pieces of any size; what is not yet a whole line waits, up to [`MAX_LINE_BYTES`]. Rows go to
//! the table as INSERT would put them, or, into a table made or truncated by the same transaction and still
//! empty, straight into its trees ([`crate::table::TableLoader`]).

mod binary;
mod input;
mod options;
mod output;
mod split;
#[cfg(test)]
mod tests;

pub use input::{CopyIn, CopyTarget};
pub use options::{Columns, CopyFormat, CopyOptions};
pub use output::CopyOut;

/// Longest line (of text and csv) or row (binary), bytes.
pub const MAX_LINE_BYTES: usize = 2 * crate::table::MAX_ROW_BYTES;
