//! Keys with values, sorted by key in bounded memory.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::operators::{SortOrder, Sorted, Sorter};
use crate::error::{Result, SqlError};
use crate::plan::{Expr, SortKey};
use crate::types::{DataType, Datum, Row};

/// Collects entries in any order and gives them back by key.
pub(crate) struct EntrySorter {
    sorter: Sorter,
}

impl EntrySorter {
    pub(crate) fn new(limit_bytes: usize, directory: &Arc<Path>) -> Self {
        let expr = Expr::Column { index: 0, data_type: DataType::BYTEA };
        let key = SortKey { expr, descending: false, nulls_first: false };
        let order = SortOrder::new(&[key], vec![super::Code::Column(0)], 2);
        Self { sorter: Sorter::new(Arc::new(order), limit_bytes, directory) }
    }

    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let bytes = |bytes: &[u8]| Datum::Bytea(Bytes::copy_from_slice(bytes));
        self.sorter.push(vec![bytes(key), bytes(value)])
    }

    /// Calls `take` with every entry, by key; equal keys in the order in which they came.
    pub(crate) fn finish(self, mut take: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut entry = |row: &Row| match row.as_slice() {
            [Datum::Bytea(key), Datum::Bytea(value)] => take(key, value),
            other => Err(SqlError::internal(format!("sorted entry {other:?}"))),
        };
        match self.sorter.finish()? {
            Sorted::Memory(mut rows) => rows.try_for_each(|row| entry(&row)),
            Sorted::Merge(mut merge) => {
                let mut row = Row::new();
                while merge.next(&mut row)? {
                    entry(&row)?;
                }
                Ok(())
            }
        }
    }
}
