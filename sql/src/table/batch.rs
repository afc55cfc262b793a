//! [`RowBatch`]: rows that are inserted together, tree by tree and in the order of their keys.
//!
//! A tree learns of many keys for little more than the price of one when they come sorted: one descent for all
//! keys of a leaf. So rows gather here for a while. Nobody sees a difference: a statement does not see its own
//! rows, and of rows that violate a unique key the one that came first is named, as if they had come one by one.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use storage::TreeId;
use storage::row::RowEncoder;

use super::access::{TableAccess, WriteContext};
use super::loader::LoadFailure;
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Datum, Row};

/// Bytes that gather at most, and the row that makes them more.
const BATCH_BYTES: usize = 1 << 20;

/// See the module.
pub struct RowBatch {
    access: Arc<TableAccess>,
    /// Numbers of the rows, as their pusher knows them.
    numbers: Vec<u64>,
    /// Keys and values of all entries.
    bytes: Vec<u8>,
    /// Keys and rows of the table's own tree.
    rows: Entries,
    /// For each index.
    indexes: Vec<Entries>,
    /// A batch was full: the next one will be.
    full_before: bool,
    encoder: RowEncoder,
    key: Vec<u8>,
}

/// Entries of one tree, in the order of their rows.
#[derive(Default)]
struct Entries {
    entries: Vec<Entry>,
}

/// Places in [`RowBatch::bytes`].
struct Entry {
    key: Range<usize>,
    value: Range<usize>,
    /// Nobody else may have this key.
    exclusive: bool,
}

impl RowBatch {
    /// Rows for a table that may have rows and be used by others.
    pub fn new(access: &Arc<TableAccess>) -> Self {
        Self {
            access: Arc::clone(access),
            numbers: Vec::new(),
            bytes: Vec::new(),
            rows: Entries::default(),
            indexes: access.indexes().iter().map(|_| Entries::default()).collect(),
            full_before: false,
            encoder: RowEncoder::new(),
            key: Vec::new(),
        }
    }

    /// Adds a row that passed its NOT NULL and CHECK constraints; `number` is what an error names it by. May insert
    /// all that has gathered.
    pub fn push(&mut self, context: WriteContext<'_>, row: &[Datum], number: u64) -> Result<(), LoadFailure> {
        if self.bytes.capacity() == 0 && self.full_before {
            self.bytes.reserve(BATCH_BYTES + BATCH_BYTES / 16);
        }
        self.key.clear();
        let exclusive = self.access.primary_key(row, &mut self.key)?;
        if !exclusive {
            let id = context.row_ids.allocate(context.store, self.access.tree())?;
            self.key.extend_from_slice(&id.to_be_bytes());
        }
        let start = self.bytes.len();
        let added = self.add(row, exclusive);
        if added.is_err() {
            self.bytes.truncate(start);
            let rows = self.numbers.len();
            self.all_entries().for_each(|entries| entries.entries.truncate(rows));
        }
        added?;
        self.numbers.push(number);
        if self.bytes.len() < BATCH_BYTES {
            return Ok(());
        }
        self.full_before = true;
        self.flush(context)
    }

    fn add(&mut self, row: &[Datum], exclusive: bool) -> Result<()> {
        let bytes = &mut self.bytes;
        let key_start = bytes.len();
        bytes.extend_from_slice(&self.key);
        let key = key_start..bytes.len();
        self.access.codec().encode(row, &mut self.encoder, bytes)?;
        self.rows.entries.push(Entry { value: key.end..bytes.len(), key: key.clone(), exclusive });
        for (index, entries) in self.access.indexes().iter().zip(&mut self.indexes) {
            let start = bytes.len();
            let exclusive = index.entry_key(row, &self.key, bytes)?;
            // In a unique index the row's key stands behind.
            let value = if exclusive { key.clone() } else { 0..0 };
            entries.entries.push(Entry { key: start..bytes.len(), value, exclusive });
        }
        Ok(())
    }

    fn all_entries(&mut self) -> impl Iterator<Item = &mut Entries> {
        std::iter::once(&mut self.rows).chain(&mut self.indexes)
    }

    /// Inserts all that has gathered. 23505 when a key is not unique.
    pub fn flush(&mut self, context: WriteContext<'_>) -> Result<(), LoadFailure> {
        if self.numbers.is_empty() {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let trees: Vec<TreeId> =
            std::iter::once(self.access.tree()).chain(self.access.indexes().iter().map(|index| index.tree())).collect();
        // Where there are duplicates, which row is the first is not known from the order of the keys.
        let all = || std::iter::once(&self.rows).chain(&self.indexes);
        let orders: Vec<Vec<usize>> = all().map(|entries| entries.order(&bytes)).collect();
        for ((entries, order), tree) in all().zip(&orders).zip(&trees) {
            let exclusive = order.iter().map(|row| &entries.entries[*row]).filter(|entry| entry.exclusive);
            let keys: Vec<&[u8]> = exclusive.map(|entry| &bytes[entry.key.clone()]).collect();
            let distinct = keys.is_sorted_by(|before, key| before < key);
            if !distinct || !context.transaction.claim_absent(*tree, &keys)? {
                return Err(self.first_duplicate(context, &bytes));
            }
        }
        for ((entries, order), tree) in self.all_entries().zip(orders).zip(trees) {
            let rows = order.into_iter().map(|row| &entries.entries[row]);
            let rows = rows.map(|entry| (&bytes[entry.key.clone()], bytes.slice(entry.value.clone())));
            context.transaction.put_all(tree, rows.collect())?;
            entries.entries.clear();
        }
        self.numbers.clear();
        Ok(())
    }

    /// The failure of the first row that cannot be inserted: they are inserted one by one. The statement fails, and
    /// with it goes what was inserted.
    #[cold]
    fn first_duplicate(&self, context: WriteContext<'_>, bytes: &Bytes) -> LoadFailure {
        let mut row = Row::new();
        for (entry, number) in self.rows.entries.iter().zip(&self.numbers) {
            row.clear();
            let decoded = self.access.codec().decode_all(&bytes[entry.value.clone()], &mut row);
            if let Err(error) = decoded.and_then(|()| self.access.insert(context, &row).map(drop)) {
                return LoadFailure { error, row: Some(*number) };
            }
        }
        // Whoever had the key has given it up meanwhile; the row ids and the locks are taken all the same.
        SqlError::new(SqlState::SERIALIZATION_FAILURE, "could not serialize access due to concurrent update").into()
    }
}

impl Entries {
    /// The rows by their keys.
    fn order(&self, bytes: &[u8]) -> Vec<usize> {
        let key = |row: &usize| &bytes[self.entries[*row].key.clone()];
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        if !order.is_sorted_by_key(key) {
            order.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        }
        order
    }
}
