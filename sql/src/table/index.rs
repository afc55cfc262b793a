//! One index (or the primary key) of a table: entries, and byte ranges from values.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::TreeId;
use storage::key::{KeyOrder, KeyReader};

use super::codec::check_key_length;
use crate::catalog::{Index, Table};
use crate::error::Result;
use crate::store::KeyRange;
use crate::types::codec::{encode_key, skip_key};
use crate::types::{DataType, Datum};

/// A column of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyColumn {
    /// Position in the table.
    pub(crate) column: usize,
    pub(crate) data_type: DataType,
    pub(crate) order: KeyOrder,
}

/// The columns of a primary key, in order.
pub(super) fn primary_key_columns(table: &Table) -> Vec<KeyColumn> {
    let columns = table.primary_key.iter().flat_map(|key| &key.columns);
    columns
        .map(|column| KeyColumn {
            column: *column,
            data_type: table.columns[*column].data_type,
            order: KeyOrder::ASCENDING,
        })
        .collect()
}

/// A secondary index, ready to encode its entries.
#[derive(Debug)]
pub struct IndexAccess {
    index: Arc<Index>,
    columns: Vec<KeyColumn>,
    tree: TreeId,
}

impl IndexAccess {
    /// An index of the table.
    pub fn new(table: &Table, index: &Arc<Index>) -> Self {
        let columns = index.columns.iter().map(|column| KeyColumn {
            column: column.column,
            data_type: table.columns[column.column].data_type,
            order: KeyOrder { descending: column.descending, nulls_first: column.nulls_first },
        });
        Self { index: Arc::clone(index), columns: columns.collect(), tree: index.tree() }
    }

    /// The descriptor.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The tree of the entries.
    pub fn tree(&self) -> TreeId {
        self.tree
    }

    pub(crate) fn columns(&self) -> &[KeyColumn] {
        &self.columns
    }

    /// Positions of the indexed columns in the table.
    pub(super) fn positions(&self) -> Vec<usize> {
        self.columns.iter().map(|column| column.column).collect()
    }

    /// Appends the key of a row's entry; true when only one row may have that entry: the index is unique and
    /// no column is NULL. The entry's value is then the row's key, else empty.
    pub fn entry_key(&self, row: &[Datum], row_key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let start = out.len();
        let mut has_null = false;
        for column in &self.columns {
            let datum = &row[column.column];
            has_null |= datum.is_null();
            encode_key(datum, column.data_type, column.order, out)?;
        }
        let exclusive = self.index.unique && !has_null;
        if !exclusive {
            out.extend_from_slice(row_key);
        }
        check_key_length(&out[start..], &self.index.name)?;
        Ok(exclusive)
    }

    /// The key of the row that an entry stands for.
    pub(crate) fn row_key<'a>(&self, key: &'a [u8], value: &'a [u8]) -> Result<&'a [u8]> {
        if !value.is_empty() {
            return Ok(value);
        }
        let mut reader = KeyReader::new(key);
        for column in &self.columns {
            skip_key(&mut reader, column.data_type, column.order)?;
        }
        Ok(reader.rest())
    }
}

/// Bounds of a search in values; see [`crate::plan::IndexRange`].
pub(crate) struct ValueRange<'a> {
    /// Equalities on the leading columns.
    pub(crate) equal: &'a [Datum],
    /// Lower end on the next column, and whether it is included.
    pub(crate) lower: Option<(&'a Datum, bool)>,
    /// Upper end on the next column, and whether it is included.
    pub(crate) upper: Option<(&'a Datum, bool)>,
}

/// The bytes between which the keys of a range lie; `None`: a NULL among the values, nothing can match.
pub(crate) fn key_range(columns: &[KeyColumn], range: &ValueRange<'_>) -> Result<Option<KeyRange>> {
    let mut ends = range.lower.iter().chain(&range.upper).map(|(value, _)| *value);
    if range.equal.iter().any(Datum::is_null) || ends.any(Datum::is_null) {
        return Ok(None);
    }
    let mut prefix = Vec::with_capacity(64);
    for (column, value) in columns.iter().zip(range.equal) {
        encode_key(value, column.data_type, column.order, &mut prefix)?;
    }
    if range.lower.is_none() && range.upper.is_none() {
        return Ok(Some(if prefix.is_empty() { KeyRange::ALL } else { KeyRange::prefix(prefix.into()) }));
    }
    let column = &columns[range.equal.len()];
    let encoded = |value: &Datum| -> Result<Bytes> {
        let mut bytes = prefix.clone();
        encode_key(value, column.data_type, column.order, &mut bytes)?;
        Ok(Bytes::from(bytes))
    };
    // A range never finds NULLs: it stays among the keys whose next column has a value.
    let present = {
        let mut bytes = prefix.clone();
        bytes.push(PRESENT);
        KeyRange::prefix(bytes.into())
    };
    let (low, high) = if column.order.descending { (range.upper, range.lower) } else { (range.lower, range.upper) };
    let lower = match low {
        None => present.lower,
        Some((value, true)) => Bound::Included(encoded(value)?),
        Some((value, false)) => after(encoded(value)?),
    };
    let upper = match high {
        None => present.upper,
        Some((value, true)) => KeyRange::prefix(encoded(value)?).upper,
        Some((value, false)) => Bound::Excluded(encoded(value)?),
    };
    Ok(Some(KeyRange { lower, upper }))
}

/// What begins a column that is not NULL, see [`storage::key`].
const PRESENT: u8 = 1;

/// Behind every key that begins with `prefix`.
fn after(prefix: Bytes) -> Bound<Bytes> {
    match KeyRange::prefix(prefix).upper {
        Bound::Excluded(end) => Bound::Included(end),
        // Only 0xFF bytes: impossible behind the marker of a column, which is at most 2.
        other => other,
    }
}
