//! [`TableAccess`]: everything that one version of a table needs to be written to.

use std::sync::Arc;

use bytes::Bytes;
use storage::TreeId;
use storage::row::RowEncoder;

use super::codec::{RowCodec, check_key_length};
use super::constraint::unique_violation;
use super::index::{IndexAccess, KeyColumn, primary_key_columns};
use super::row_id::RowIds;
use crate::catalog::Table;
use crate::error::{Result, SqlError};
use crate::functions::EvalContext;
use crate::store::{LockedRow, RowLockMode, Store, Transaction, WaitPolicy};
use crate::types::Datum;
use crate::types::codec::encode_key;

/// What writing needs besides the row.
#[derive(Clone, Copy)]
pub struct WriteContext<'a> {
    /// The running transaction.
    pub transaction: &'a dyn Transaction,
    /// Its store.
    pub store: &'a dyn Store,
    /// Row ids of the store.
    pub row_ids: &'a RowIds,
    /// For the text of values in errors.
    pub eval: &'a EvalContext,
}

/// A table with codecs for its rows, its key and its indexes. Made once per plan or COPY.
#[derive(Debug)]
pub struct TableAccess {
    table: Arc<Table>,
    codec: RowCodec,
    key: Vec<KeyColumn>,
    key_positions: Vec<usize>,
    indexes: Vec<IndexAccess>,
}

/// A unique key of a table: its primary key or one of its unique indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UniqueKey {
    Primary,
    /// Position in [`TableAccess::indexes`].
    Index(usize),
}

impl TableAccess {
    /// The access to a table as its descriptor describes it.
    pub fn new(table: &Arc<Table>) -> Self {
        let key = primary_key_columns(table);
        Self {
            codec: RowCodec::new(table),
            key_positions: key.iter().map(|column| column.column).collect(),
            key,
            indexes: table.indexes.iter().map(|index| IndexAccess::new(table, index)).collect(),
            table: Arc::clone(table),
        }
    }

    /// The descriptor.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The codec of its rows.
    pub fn codec(&self) -> &RowCodec {
        &self.codec
    }

    /// The tree of its rows.
    pub fn tree(&self) -> TreeId {
        self.table.tree
    }

    /// Its secondary indexes, in the descriptor's order.
    pub fn indexes(&self) -> &[IndexAccess] {
        &self.indexes
    }

    pub(crate) fn key_columns(&self) -> &[KeyColumn] {
        &self.key
    }

    /// Appends the row's key by its primary key; false when the table has none and the key is a row id.
    pub fn primary_key(&self, row: &[Datum], out: &mut Vec<u8>) -> Result<bool> {
        let Some(primary) = &self.table.primary_key else { return Ok(false) };
        let start = out.len();
        for column in &self.key {
            encode_key(&row[column.column], column.data_type, column.order, out)?;
        }
        check_key_length(&out[start..], &primary.name)?;
        Ok(true)
    }

    /// The row as stored.
    pub fn encode(&self, row: &[Datum]) -> Result<Bytes> {
        let mut bytes = Vec::new();
        self.codec.encode(row, &mut RowEncoder::new(), &mut bytes)?;
        Ok(bytes.into())
    }

    /// Inserts a row that passed its NOT NULL and CHECK constraints; answers its key. 23505 on a duplicate.
    pub fn insert(&self, context: WriteContext<'_>, row: &[Datum]) -> Result<Bytes> {
        let mut key = Vec::with_capacity(32);
        if self.primary_key(row, &mut key)? {
            self.claim(context, UniqueKey::Primary, &key, row)?;
        } else {
            let id = context.row_ids.allocate(context.store, self.table.tree)?;
            key.extend_from_slice(&id.to_be_bytes());
        }
        let key = Bytes::from(key);
        context.transaction.put(self.table.tree, &key, self.encode(row)?)?;
        for position in 0..self.indexes.len() {
            self.insert_entry(context, position, row, &key)?;
        }
        Ok(key)
    }

    /// Replaces the row at `key`, which the caller has locked and which is `old`; answers its new key. Index
    /// entries that stay the same are not touched.
    pub fn update(&self, context: WriteContext<'_>, key: &[u8], old: &[Datum], new: &[Datum]) -> Result<Bytes> {
        let mut new_key = Vec::with_capacity(key.len());
        if !self.primary_key(new, &mut new_key)? {
            new_key.extend_from_slice(key);
        }
        let moved = new_key != key;
        if moved {
            self.claim(context, UniqueKey::Primary, &new_key, new)?;
            context.transaction.delete(self.table.tree, key)?;
        }
        context.transaction.put(self.table.tree, &new_key, self.encode(new)?)?;
        let (mut old_entry, mut new_entry) = (Vec::new(), Vec::new());
        for (position, index) in self.indexes.iter().enumerate() {
            let unchanged =
                || index.columns().iter().all(|column| same_value(&old[column.column], &new[column.column]));
            if !moved && unchanged() {
                continue;
            }
            old_entry.clear();
            new_entry.clear();
            let old_exclusive = index.entry_key(old, key, &mut old_entry)?;
            let new_exclusive = index.entry_key(new, &new_key, &mut new_entry)?;
            if old_entry == new_entry {
                // Same entry of a unique index; its value names the row, which may have moved.
                if moved && new_exclusive {
                    self.lock(context, index.tree(), &new_entry)?;
                    context.transaction.put(index.tree(), &new_entry, Bytes::copy_from_slice(&new_key))?;
                }
                continue;
            }
            if old_exclusive {
                self.lock(context, index.tree(), &old_entry)?;
            }
            context.transaction.delete(index.tree(), &old_entry)?;
            self.insert_entry(context, position, new, &new_key)?;
        }
        Ok(new_key.into())
    }

    /// Deletes the row at `key`, which the caller has locked and which is `row`.
    pub fn delete(&self, context: WriteContext<'_>, key: &[u8], row: &[Datum]) -> Result<()> {
        context.transaction.delete(self.table.tree, key)?;
        let mut entry = Vec::new();
        for index in &self.indexes {
            entry.clear();
            if index.entry_key(row, key, &mut entry)? {
                self.lock(context, index.tree(), &entry)?;
            }
            context.transaction.delete(index.tree(), &entry)?;
        }
        Ok(())
    }

    fn insert_entry(&self, context: WriteContext<'_>, position: usize, row: &[Datum], row_key: &[u8]) -> Result<()> {
        let index = &self.indexes[position];
        let mut entry = Vec::with_capacity(32);
        let value = if index.entry_key(row, row_key, &mut entry)? {
            self.claim(context, UniqueKey::Index(position), &entry, row)?;
            Bytes::copy_from_slice(row_key)
        } else {
            Bytes::new()
        };
        context.transaction.put(index.tree(), &entry, value)
    }

    fn lock(&self, context: WriteContext<'_>, tree: TreeId, key: &[u8]) -> Result<()> {
        if !context.transaction.is_own_tree(tree) {
            context.transaction.lock_row(tree, key, RowLockMode::Exclusive, WaitPolicy::Block)?;
        }
        Ok(())
    }

    /// Locks a unique key and makes sure that nobody has it.
    fn claim(&self, context: WriteContext<'_>, unique: UniqueKey, key: &[u8], row: &[Datum]) -> Result<()> {
        match self.holder(context, unique, key)? {
            None => Ok(()),
            Some(_) => Err(self.duplicate(unique, row, context.eval)),
        }
    }

    /// 23505 of a row.
    #[cold]
    pub(super) fn duplicate(&self, unique: UniqueKey, row: &[Datum], eval: &EvalContext) -> SqlError {
        let (name, columns) = match unique {
            UniqueKey::Primary => {
                (self.table.primary_key.as_ref().map_or("", |key| &*key.name), self.key_positions.clone())
            }
            UniqueKey::Index(position) => (&*self.indexes[position].index().name, self.indexes[position].positions()),
        };
        unique_violation(&self.table, name, &columns, row, eval)
    }

    /// Locks a unique key and answers what stands there now: the row (primary key) or its key (index).
    pub(crate) fn holder(&self, context: WriteContext<'_>, unique: UniqueKey, key: &[u8]) -> Result<Option<Bytes>> {
        let tree = self.unique_tree(unique);
        if context.transaction.is_own_tree(tree) {
            return context.transaction.get_latest(tree, key);
        }
        match context.transaction.lock_row(tree, key, RowLockMode::Exclusive, WaitPolicy::Block)? {
            LockedRow::Changed(bytes) => Ok(Some(bytes)),
            LockedRow::Deleted => Ok(None),
            _ => context.transaction.get_latest(tree, key),
        }
    }

    pub(crate) fn unique_tree(&self, unique: UniqueKey) -> TreeId {
        match unique {
            UniqueKey::Primary => self.table.tree,
            UniqueKey::Index(position) => self.indexes[position].tree(),
        }
    }

    /// Every unique key: the primary key first.
    pub(crate) fn unique_keys(&self) -> impl Iterator<Item = UniqueKey> + '_ {
        let primary = self.table.primary_key.iter().map(|_| UniqueKey::Primary);
        let unique = self.indexes.iter().enumerate().filter(|(_, index)| index.index().unique);
        primary.chain(unique.map(|(position, _)| UniqueKey::Index(position)))
    }
}

/// Whether two values are certainly the same bytes in a key; false is always safe.
fn same_value(a: &Datum, b: &Datum) -> bool {
    match (a, b) {
        (Datum::Null, Datum::Null) => true,
        (Datum::Bool(a), Datum::Bool(b)) => a == b,
        (Datum::Int2(a), Datum::Int2(b)) => a == b,
        (Datum::Int4(a), Datum::Int4(b)) | (Datum::Date(a), Datum::Date(b)) => a == b,
        (Datum::Int8(a), Datum::Int8(b))
        | (Datum::Timestamp(a), Datum::Timestamp(b))
        | (Datum::Timestamptz(a), Datum::Timestamptz(b)) => a == b,
        (Datum::Text(a), Datum::Text(b)) | (Datum::Bpchar(a), Datum::Bpchar(b)) => a == b,
        _ => false,
    }
}
