//! Filling trees from a table's rows: indexes, and whole tables that are written anew.

use std::sync::Arc;

use storage::TreeId;
use storage::row::RowEncoder;

use super::work::Work;
use crate::catalog::{Index, Table};
use crate::entry_sorter::EntrySorter;
use crate::error::{Result, SqlError, SqlState};
use crate::store::{BulkPush, Direction, KeyRange};
use crate::table::{IndexAccess, RowCodec, TableAccess, format_row_values};
use crate::types::Row;

impl Work<'_> {
    /// Every row of a table with its key. The statement layer must be at the newest snapshot.
    pub fn for_each_row(&self, table: &Table, mut visit: impl FnMut(&[u8], &Row) -> Result<()>) -> Result<()> {
        let transaction = self.context.transaction;
        let codec = RowCodec::new(table);
        let mut cursor = transaction.scan(table.tree, KeyRange::ALL, Direction::Forward)?;
        let mut row = Row::new();
        while cursor.advance()? {
            transaction.interrupt().check()?;
            row.clear();
            codec.decode_all(cursor.value(), &mut row)?;
            visit(cursor.key(), &row)?;
        }
        Ok(())
    }

    fn sorter(&self) -> EntrySorter {
        EntrySorter::new(self.context.work_mem_bytes, &self.context.temporary_directory)
    }

    /// Fills an index's tree, which this transaction has made. Writers of the table are locked out.
    pub fn build_index(&self, table: &Arc<Table>, index: &Arc<Index>) -> Result<()> {
        let mut builder = IndexBuilder::new(self, table, index);
        self.for_each_row(table, |key, row| builder.add(key, row))?;
        builder.finish(self, table)
    }

    /// Writes rows of `old` into the trees of `new`, which this transaction has made and which are empty.
    /// `source` gives every row of `old`, with its old key and its new values, in the order of the old keys.
    /// Gives up at the first duplicate key.
    pub fn rewrite(
        &self,
        old: &Table,
        new: &Arc<Table>,
        source: impl FnOnce(&mut dyn FnMut(&[u8], &Row) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let access = TableAccess::new(new);
        let mut indexes: Vec<_> = new.indexes.iter().map(|index| IndexBuilder::new(self, new, index)).collect();
        // Rows come by their old key. They go by row id, or by a primary key in whatever order that has.
        let sorted = old.primary_key.is_none() && new.primary_key.is_none();
        let mut sorter = self.sorter();
        let mut loader = if sorted { Some(self.context.transaction.bulk_load(new.tree)?) } else { None };
        let (mut encoder, mut key, mut value) = (RowEncoder::new(), Vec::new(), Vec::new());
        // The greatest row id used.
        let mut last_id = 0u64;
        source(&mut |old_key, row| {
            crate::table::check_not_null(new, row, self.context.eval)?;
            key.clear();
            value.clear();
            if !access.primary_key(row, &mut key)? {
                last_id = match old_key.try_into() {
                    Ok(id) if sorted => u64::from_be_bytes(id),
                    _ => last_id + 1,
                };
                key.extend_from_slice(&last_id.to_be_bytes());
            }
            access.codec().encode(row, &mut encoder, &mut value)?;
            match &mut loader {
                Some(loader) => _ = loader.push(&key, &value)?,
                None => sorter.push(&key, &value)?,
            }
            indexes.iter_mut().try_for_each(|index| index.add(&key, row))
        })?;
        if new.primary_key.is_none() {
            self.context.row_ids.raise(new.tree, last_id + 1);
        }
        match loader {
            Some(loader) => loader.finish()?,
            None => {
                let key_of = |value: &[u8]| {
                    let primary = new.primary_key.as_ref().expect("only a primary key can have duplicates");
                    let mut row = Row::new();
                    access.codec().decode_all(value, &mut row)?;
                    Ok(self.not_unique(new, &primary.name, &primary.columns, &row))
                };
                self.load(new.tree, sorter, |_, value| key_of(value))?;
            }
        }
        indexes.into_iter().try_for_each(|index| index.finish_from_rows(self, new))
    }

    /// Loads sorted entries into a tree; `duplicate` makes the error for two equal keys.
    fn load(
        &self,
        tree: TreeId,
        sorter: EntrySorter,
        duplicate: impl Fn(&[u8], &[u8]) -> Result<SqlError>,
    ) -> Result<()> {
        let mut loader = self.context.transaction.bulk_load(tree)?;
        sorter.finish(|key, value| {
            self.context.transaction.interrupt().check()?;
            match loader.push(key, value)? {
                BulkPush::Added => Ok(()),
                BulkPush::OutOfOrder => Err(duplicate(key, value)?),
            }
        })?;
        loader.finish()
    }

    /// 23505 of an index that cannot be built.
    fn not_unique(&self, table: &Table, index: &str, columns: &[usize], row: &Row) -> SqlError {
        let names: Vec<_> = columns.iter().map(|column| table.columns[*column].name.as_str()).collect();
        let values = columns.iter().map(|column| (&row[*column], table.columns[*column].data_type));
        let values = format_row_values(values, self.context.eval, None);
        SqlError::new(SqlState::UNIQUE_VIOLATION, format!("could not create unique index \"{index}\""))
            .with_detail(format!("Key ({})=({values}) is duplicated.", names.join(", ")))
            .of_table(table.schema, &table.name)
            .with_constraint(index)
    }
}

/// Entries of an index being built.
struct IndexBuilder {
    access: IndexAccess,
    sorter: EntrySorter,
    entry: Vec<u8>,
}

impl IndexBuilder {
    fn new(work: &Work<'_>, table: &Table, index: &Arc<Index>) -> Self {
        Self { access: IndexAccess::new(table, index), sorter: work.sorter(), entry: Vec::new() }
    }

    fn add(&mut self, key: &[u8], row: &Row) -> Result<()> {
        self.entry.clear();
        let exclusive = self.access.entry_key(row, key, &mut self.entry)?;
        self.sorter.push(&self.entry, if exclusive { key } else { &[] })
    }

    fn columns(&self) -> Vec<usize> {
        self.access.index().columns.iter().map(|column| column.column).collect()
    }

    /// Of a table whose rows are where the snapshot has them.
    fn finish(self, work: &Work<'_>, table: &Arc<Table>) -> Result<()> {
        let (columns, name) = (self.columns(), self.access.index().name.clone());
        let codec = RowCodec::new(table);
        work.load(self.access.tree(), self.sorter, |_, row_key| {
            let mut row = Row::new();
            match work.context.transaction.get(table.tree, row_key)? {
                Some(value) => codec.decode_all(&value, &mut row)?,
                None => return Err(SqlError::internal("an indexed row is gone")),
            }
            Ok(work.not_unique(table, &name, &columns, &row))
        })
    }

    /// Of a table just rewritten, whose rows this statement cannot read back: the message goes without values.
    fn finish_from_rows(self, work: &Work<'_>, table: &Arc<Table>) -> Result<()> {
        let name = self.access.index().name.clone();
        work.load(self.access.tree(), self.sorter, |_, _| {
            Ok(SqlError::new(SqlState::UNIQUE_VIOLATION, format!("could not create unique index \"{name}\""))
                .of_table(table.schema, &table.name)
                .with_constraint(name.clone()))
        })
    }
}
