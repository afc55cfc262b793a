//! A table gets another primary key, and so another order of its rows.
//!
//! Mostly they stand in that order already: the table was loaded from a dump before it was given its key. Then its
//! rows are copied as they are, neither decoded as a whole nor sorted.

use std::sync::Arc;

use super::work::Work;
use crate::catalog::Table;
use crate::error::{Result, SqlError};
use crate::store::{BulkPush, Direction, KeyRange};
use crate::table::TableAccess;
use crate::types::{Datum, Row};

impl Work<'_> {
    /// Writes the rows of `old` into the trees of `new`, which this transaction has made and which are empty. The
    /// tables differ in their primary key only. Writers are locked out, and the statement layer is at the newest
    /// snapshot.
    pub fn recluster_rows(&self, old: &Table, new: &Arc<Table>) -> Result<()> {
        let access = TableAccess::new(new);
        if !new.indexes.is_empty() || !self.is_in_order(old, &access)? {
            return self.rewrite(old, new, |visit| self.for_each_row(old, visit));
        }
        let mut loader = self.context.transaction.bulk_load(new.tree)?;
        self.for_each_key(old, &access, |key, value| match loader.push(key, value)? {
            BulkPush::Added => Ok(true),
            BulkPush::OutOfOrder => Err(SqlError::internal("a locked table changed while its rows were copied")),
        })?;
        loader.finish()
    }

    /// Whether the rows come in the order of the new key, which is then also unique and nowhere NULL.
    fn is_in_order(&self, old: &Table, access: &TableAccess) -> Result<bool> {
        if access.table().primary_key.is_none() {
            return Ok(false);
        }
        let mut last = Vec::new();
        let mut ascends = true;
        self.for_each_key(old, access, |key, _| {
            ascends = last.as_slice() < key;
            last.clear();
            last.extend_from_slice(key);
            Ok(ascends)
        })?;
        Ok(ascends)
    }

    /// Every row of `old`, as stored, with its key in the table that `access` is of, until `visit` answers false. A
    /// key with a NULL is empty.
    fn for_each_key(
        &self,
        old: &Table,
        access: &TableAccess,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let transaction = self.context.transaction;
        let columns: Vec<usize> = access.key_columns().iter().map(|column| column.column).collect();
        let decoders = access.codec().decoders(&columns);
        let mut row: Row = vec![Datum::Null; old.columns.len()];
        let mut key = Vec::new();
        let mut cursor = transaction.scan(old.tree, KeyRange::ALL, Direction::Forward)?;
        while cursor.advance()? {
            transaction.interrupt().check()?;
            let reader = access.codec().reader(cursor.value())?;
            for (column, decoder) in columns.iter().zip(&decoders) {
                row[*column] = decoder.read(&reader)?;
            }
            key.clear();
            if columns.iter().all(|column| !row[*column].is_null()) {
                access.primary_key(&row, &mut key)?;
            }
            if !visit(&key, cursor.value())? {
                break;
            }
        }
        Ok(())
    }
}
