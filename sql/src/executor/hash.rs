//! Values as keys of hash tables: equality and hashes that agree with each other and with `=`.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::types::{Datum, Row};

/// Seed of all hash tables here: executions are repeatable.
const SEED: u64 = 0x616c_6c75_7669_756d;

/// Hash of a key of several values.
pub(crate) fn hash_row(row: &[Datum]) -> u64 {
    let mut hasher = FixedState::with_seed(SEED).build_hasher();
    for datum in row {
        datum.hash(&mut hasher);
    }
    hasher.finish()
}

/// Whether two keys are equal; NULLs are equal to each other.
pub(crate) fn rows_equal(a: &[Datum], b: &[Datum]) -> bool {
    a == b
}

/// Bytes that a row takes in memory.
pub(crate) fn row_bytes(row: &[Datum]) -> usize {
    24 + row.iter().map(|datum| size_of::<Datum>() + datum.heap_bytes()).sum::<usize>()
}

/// Distinct rows, numbered from 0 as they come.
#[derive(Default)]
pub(crate) struct RowSet {
    rows: Vec<Row>,
    table: HashTable<u32>,
}

impl RowSet {
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The number of an equal row.
    pub(crate) fn find(&self, row: &[Datum]) -> Option<usize> {
        self.find_hashed(hash_row(row), row)
    }

    /// [`RowSet::find`] with the row's [`hash_row`].
    #[inline]
    pub(crate) fn find_hashed(&self, hash: u64, row: &[Datum]) -> Option<usize> {
        let found = self.table.find(hash, |index| rows_equal(&self.rows[*index as usize], row));
        found.map(|index| *index as usize)
    }

    /// The number of an equal row, added if there was none; and whether it was added.
    pub(crate) fn insert(&mut self, row: &[Datum]) -> (usize, bool) {
        let hash = hash_row(row);
        match self.find_hashed(hash, row) {
            Some(number) => (number, false),
            None => (self.insert_hashed(hash, row), true),
        }
    }

    /// Adds a row that is not there, with its [`hash_row`]; answers its number.
    pub(crate) fn insert_hashed(&mut self, hash: u64, row: &[Datum]) -> usize {
        let index = self.rows.len();
        self.rows.push(row.to_vec());
        let Self { rows, table } = self;
        table.insert_unique(hash, index as u32, |index| hash_row(&rows[*index as usize]));
        index
    }

    /// A row by its number.
    pub(crate) fn row(&self, index: usize) -> &Row {
        &self.rows[index]
    }
}
