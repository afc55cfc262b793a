//! [`TableLoader`]: rows straight into the trees of a table that nobody else can see yet.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use storage::TreeId;
use storage::key::KeyReader;
use storage::row::RowEncoder;

use super::access::{TableAccess, UniqueKey, WriteContext};
use super::constraint::unique_violation;
use crate::error::{Result, SqlError};
use crate::executor::EntrySorter;
use crate::store::{BulkLoader, BulkPush, Transaction};
use crate::types::codec::decode_key;
use crate::types::{Datum, Row};

/// Fills a table made or truncated by the running transaction and still empty.
///
/// Rows go to the table's tree as they come while their keys ascend; from the first that does not, each is put
/// like any other write. Index entries are sorted on the side and written at the end.
pub struct TableLoader {
    access: Arc<TableAccess>,
    loader: Option<Box<dyn BulkLoader>>,
    entries: Vec<EntrySorter>,
    encoder: RowEncoder,
    key: Vec<u8>,
    value: Vec<u8>,
    entry: Vec<u8>,
}

impl TableLoader {
    /// `None`: the table is not new to this transaction, or has had rows.
    pub fn begin(
        access: &Arc<TableAccess>,
        transaction: &dyn Transaction,
        work_mem_bytes: usize,
        temporary_directory: &Arc<Path>,
    ) -> Option<Self> {
        let trees = std::iter::once(access.tree()).chain(access.indexes().iter().map(|index| index.tree()));
        if !trees.into_iter().all(|tree| transaction.is_own_tree(tree)) {
            return None;
        }
        // The store refuses a tree that has been written to.
        let loader = transaction.bulk_load(access.tree()).ok()?;
        let share = work_mem_bytes / access.indexes().len().max(1);
        Some(Self {
            access: Arc::clone(access),
            loader: Some(loader),
            entries: access.indexes().iter().map(|_| EntrySorter::new(share, temporary_directory)).collect(),
            encoder: RowEncoder::new(),
            key: Vec::new(),
            value: Vec::new(),
            entry: Vec::new(),
        })
    }

    /// Adds a row that passed its NOT NULL and CHECK constraints.
    pub fn push(&mut self, context: WriteContext<'_>, row: &[Datum]) -> Result<()> {
        self.key.clear();
        self.value.clear();
        if !self.access.primary_key(row, &mut self.key)? {
            let id = context.row_ids.allocate(context.store, self.access.tree())?;
            self.key.extend_from_slice(&id.to_be_bytes());
        }
        self.access.codec().encode(row, &mut self.encoder, &mut self.value)?;
        if let Some(loader) = &mut self.loader
            && loader.push(&self.key, &self.value)? == BulkPush::OutOfOrder
        {
            self.finish_rows()?;
            self.put(context, row)?;
        } else if self.loader.is_none() {
            self.put(context, row)?;
        }
        for (index, entries) in self.access.indexes().iter().zip(&mut self.entries) {
            self.entry.clear();
            let exclusive = index.entry_key(row, &self.key, &mut self.entry)?;
            entries.push(&self.entry, if exclusive { &self.key } else { &[] })?;
        }
        Ok(())
    }

    fn finish_rows(&mut self) -> Result<()> {
        self.loader.take().map_or(Ok(()), BulkLoader::finish)
    }

    fn put(&self, context: WriteContext<'_>, row: &[Datum]) -> Result<()> {
        if self.access.holder(context, UniqueKey::Primary, &self.key)?.is_some() {
            return Err(self.access.duplicate(UniqueKey::Primary, row, context.eval));
        }
        context.transaction.put(self.access.tree(), &self.key, Bytes::copy_from_slice(&self.value))
    }

    /// Writes what is left. 23505 when an index turns out not to be unique.
    pub fn finish(mut self, context: WriteContext<'_>) -> Result<()> {
        self.finish_rows()?;
        for (position, entries) in std::mem::take(&mut self.entries).into_iter().enumerate() {
            let index = &self.access.indexes()[position];
            let mut target = EntryTarget::begin(context.transaction, index.tree());
            entries.finish(|key, value| {
                context.transaction.interrupt().check()?;
                if target.push(key, value)? { Ok(()) } else { Err(self.duplicate_entry(position, key, context)) }
            })?;
            target.finish()?;
        }
        Ok(())
    }

    #[cold]
    fn duplicate_entry(&self, position: usize, key: &[u8], context: WriteContext<'_>) -> SqlError {
        let index = &self.access.indexes()[position];
        let mut row: Row = vec![Datum::Null; self.access.table().columns.len()];
        let mut reader = KeyReader::new(key);
        for column in index.columns() {
            match decode_key(&mut reader, column.data_type, column.order) {
                Ok(value) => row[column.column] = value,
                Err(error) => return error,
            }
        }
        unique_violation(self.access.table(), &index.index().name, &index.positions(), &row, context.eval)
    }
}

/// Where sorted entries go.
enum EntryTarget<'a> {
    Bulk(Box<dyn BulkLoader>),
    /// The tree has had entries before.
    Puts {
        transaction: &'a dyn Transaction,
        tree: TreeId,
    },
}

impl<'a> EntryTarget<'a> {
    fn begin(transaction: &'a dyn Transaction, tree: TreeId) -> Self {
        match transaction.bulk_load(tree) {
            Ok(loader) => EntryTarget::Bulk(loader),
            Err(_) => EntryTarget::Puts { transaction, tree },
        }
    }

    /// False: there is an entry of this key already.
    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<bool> {
        match self {
            EntryTarget::Bulk(loader) => Ok(loader.push(key, value)? == BulkPush::Added),
            EntryTarget::Puts { transaction, tree } => {
                if transaction.get_latest(*tree, key)?.is_some() {
                    return Ok(false);
                }
                transaction.put(*tree, key, Bytes::copy_from_slice(value))?;
                Ok(true)
            }
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            EntryTarget::Bulk(loader) => loader.finish(),
            EntryTarget::Puts { .. } => Ok(()),
        }
    }
}
