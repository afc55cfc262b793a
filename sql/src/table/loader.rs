//! [`TableLoader`]: rows straight into the trees of a table that nobody else can see yet.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use storage::TreeId;
use storage::key::KeyReader;
use storage::row::RowEncoder;
use storage::spill::Sorted;

use super::access::{TableAccess, UniqueKey, WriteContext};
use super::constraint::unique_violation;
use crate::entry_sorter::{EntrySorter, spill_failed};
use crate::error::{Result, SqlError};
use crate::store::{BulkLoader, BulkPush, Transaction};
use crate::types::codec::decode_key;
use crate::types::{Datum, Row};

/// Fills a table made or truncated by the running transaction and still empty.
///
/// The first rows are kept in memory. If their keys ascend, they and the rows that follow go straight to the
/// table's tree; a row whose key comes too late is kept aside and put at the end like any other write. If they
/// do not, all rows are sorted first, in temporary files. Index entries are sorted on the side and written at
/// the end. So memory is bounded by `work_mem` whatever the order.
pub struct TableLoader {
    access: Arc<TableAccess>,
    loader: Option<Box<dyn BulkLoader>>,
    way: Way,
    /// Rows with their numbers behind them: all (first or sorted), or those whose keys came too late.
    rows: EntrySorter,
    pushed: u64,
    /// Of the first rows.
    last_key: Vec<u8>,
    directory: Arc<Path>,
    rows_limit_bytes: usize,
    entries: Vec<EntrySorter>,
    /// Where the next row id comes from, once one was needed.
    row_ids: Option<Arc<AtomicU64>>,
    encoder: RowEncoder,
    key: Vec<u8>,
    value: Vec<u8>,
    entry: Vec<u8>,
}

/// Where rows go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To memory, while there is room; their keys have ascended so far, or have not.
    First { ascending: bool },
    /// To the tree.
    InOrder,
    /// To the sorter.
    Sorted,
}

/// Why a load did not end well.
pub struct LoadFailure {
    /// What the statement ends with.
    pub error: SqlError,
    /// The row (from 1, as pushed) that it is about, where that is known.
    pub row: Option<u64>,
}

impl From<SqlError> for LoadFailure {
    fn from(error: SqlError) -> Self {
        Self { error, row: None }
    }
}

/// Bytes of a row's number behind it.
const NUMBER_BYTES: usize = 8;

/// A row as it is in the sorter: its bytes and its number.
fn split_number(stored: &[u8]) -> (&[u8], u64) {
    let (value, number) = stored.split_last_chunk::<NUMBER_BYTES>().expect("every row has a number behind it");
    (value, u64::from_be_bytes(*number))
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
        let share = work_mem_bytes / (1 + access.indexes().len());
        Some(Self {
            access: Arc::clone(access),
            loader: Some(loader),
            // Row ids ascend.
            way: if access.key_columns().is_empty() { Way::InOrder } else { Way::First { ascending: true } },
            rows: EntrySorter::new(share, temporary_directory),
            pushed: 0,
            last_key: Vec::new(),
            directory: Arc::clone(temporary_directory),
            rows_limit_bytes: share,
            entries: access.indexes().iter().map(|_| EntrySorter::new(share, temporary_directory)).collect(),
            row_ids: None,
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
            let counter = match &self.row_ids {
                Some(counter) => counter,
                None => self.row_ids.insert(context.row_ids.counter(context.store, self.access.tree())?),
            };
            self.key.extend_from_slice(&counter.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        }
        self.access.codec().encode(row, &mut self.encoder, &mut self.value)?;
        self.pushed += 1;
        self.push_row()?;
        for (index, entries) in self.access.indexes().iter().zip(&mut self.entries) {
            self.entry.clear();
            let exclusive = index.entry_key(row, &self.key, &mut self.entry)?;
            entries.push(&self.entry, if exclusive { &self.key } else { &[] })?;
        }
        Ok(())
    }

    fn push_row(&mut self) -> Result<()> {
        if let Way::First { ascending } = self.way {
            let ascending = ascending && (self.pushed == 1 || self.key > self.last_key);
            if self.rows.has_room(self.key.len() + self.value.len() + NUMBER_BYTES) {
                self.way = Way::First { ascending };
                self.last_key.clone_from(&self.key);
            } else if ascending {
                let rows = EntrySorter::new(self.rows_limit_bytes, &self.directory);
                let loader = self.loader.as_mut().expect("taken at the end only");
                std::mem::replace(&mut self.rows, rows).finish(|key, stored| {
                    loader.push(key, split_number(stored).0)?;
                    Ok(())
                })?;
                self.way = Way::InOrder;
            } else {
                self.way = Way::Sorted;
            }
        }
        if self.way == Way::InOrder {
            let loader = self.loader.as_mut().expect("taken at the end only");
            if loader.push(&self.key, &self.value)? == BulkPush::Added {
                return Ok(());
            }
        }
        self.value.extend_from_slice(&self.pushed.to_be_bytes());
        self.rows.push(&self.key, &self.value)
    }

    /// Writes what is left. 23505 when a key turns out not to be unique.
    pub fn finish(mut self, context: WriteContext<'_>) -> Result<(), LoadFailure> {
        let mut loader = self.loader.take().expect("taken here only");
        let empty = EntrySorter::new(0, &self.directory);
        let rows = std::mem::replace(&mut self.rows, empty);
        let mut row = Row::new();
        if self.way == Way::InOrder {
            loader.finish()?;
            if !rows.is_empty() {
                self.put_late_rows(context, rows.sorted()?)?;
            }
        } else {
            let mut sorted = rows.sorted()?;
            while let Some((key, stored)) = sorted.next().map_err(spill_failed)? {
                context.transaction.interrupt().check()?;
                if loader.push(key, split_number(stored).0)? == BulkPush::OutOfOrder {
                    let (key, stored) = (key.to_vec(), stored.to_vec());
                    let (value, number) = first_duplicate(sorted, key, stored)?;
                    self.access.codec().decode_all(&value, &mut row)?;
                    let error = self.access.duplicate(UniqueKey::Primary, &row, context.eval);
                    return Err(LoadFailure { error, row: Some(number) });
                }
            }
            loader.finish()?;
        }
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

    /// Rows whose keys came after greater ones.
    fn put_late_rows(&self, context: WriteContext<'_>, mut sorted: Sorted) -> Result<(), LoadFailure> {
        while let Some((key, stored)) = sorted.next().map_err(spill_failed)? {
            context.transaction.interrupt().check()?;
            let (value, number) = split_number(stored);
            if self.access.holder(context, UniqueKey::Primary, key)?.is_some() {
                let mut row = Row::new();
                self.access.codec().decode_all(value, &mut row)?;
                let error = self.access.duplicate(UniqueKey::Primary, &row, context.eval);
                return Err(LoadFailure { error, row: Some(number) });
            }
            context.transaction.put(self.access.tree(), key, Bytes::copy_from_slice(value))?;
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

/// The row that came first of those whose key had come before, as Postgres would meet it. `stored` is the first
/// that was found.
#[cold]
fn first_duplicate(mut sorted: Sorted, mut key: Vec<u8>, stored: Vec<u8>) -> Result<(Vec<u8>, u64)> {
    let (value, mut number) = split_number(&stored);
    let mut value = value.to_vec();
    while let Some((next, stored)) = sorted.next().map_err(spill_failed)? {
        let (later, later_number) = split_number(stored);
        if next == key && later_number < number {
            (value, number) = (later.to_vec(), later_number);
        }
        key.clear();
        key.extend_from_slice(next);
    }
    Ok((value, number))
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
