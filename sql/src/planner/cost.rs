//! Cost units, as Postgres names them: one is reading a page in sequence.
//!
//! Pages come from a cache and indexes are trees like tables are, so a lookup costs about as much as
//! twenty rows of a scan, not four disk reads.

/// Handling one row.
pub(super) const ROW: f64 = 0.01;
/// Evaluating one operator or function.
pub(super) const OPERATOR: f64 = 0.0025;
/// Reading a page of a scan.
pub(super) const PAGE: f64 = 1.0;
/// Finding one key in a tree.
pub(super) const LOOKUP: f64 = 0.25;
/// Putting a row into a hash table.
pub(super) const HASH_BUILD: f64 = 0.02;
/// Probing a hash table with a row.
pub(super) const HASH_PROBE: f64 = 0.01;
/// Bytes of rows in a page, as filled on average.
pub(super) const PAGE_BYTES: f64 = 6_000.0;
/// Rows of a table of which nothing is known.
pub(super) const UNKNOWN_ROWS: f64 = 1_000.0;
/// Rows of a set-returning function.
pub(super) const FUNCTION_ROWS: f64 = 100.0;
/// Distinct values of a column of which nothing is known.
pub(super) const UNKNOWN_DISTINCT: f64 = 200.0;

/// Cost of sorting, first row included; `limit` rows of it are wanted.
pub(super) fn sort(rows: f64, limit: Option<f64>) -> f64 {
    let rows = rows.max(2.0);
    let kept = limit.unwrap_or(rows).clamp(2.0, rows);
    rows * kept.log2() * OPERATOR * 2.0
}
