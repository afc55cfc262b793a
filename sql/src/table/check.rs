//! The consistency check of a table: every row decodes and stands under its own key, every row has its index
//! entries, and every entry leads to its row.
//!
//! Rows and entries are compared by sums of hashes, one pass over each tree, so that a check costs scans and no
//! memory. Only where count or sum differ are they compared one by one, to name what is wrong.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use super::{IndexAccess, TableAccess};
use crate::catalog::Table;
use crate::error::{Result, SqlError, SqlState};
use crate::store::{Direction, KeyRange, Transaction};
use crate::types::Row;

/// What belongs in an index, or stands in it: a count, and a sum that does not depend on the order. Two
/// different sets of entries have the same 128 bits by accident only, and no accident is that unlikely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    entries: u64,
    sums: [u64; 2],
}

impl Tally {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries += 1;
        for (sum, seed) in self.sums.iter_mut().zip([0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F]) {
            let mut hasher = foldhash::quality::FixedState::with_seed(seed).build_hasher();
            hasher.write(key);
            hasher.write_usize(key.len());
            hasher.write(value);
            *sum = sum.wrapping_add(hasher.finish());
        }
    }
}

/// Checks a table as the running statement of `transaction` sees it. `found` is told the name of the table or
/// index and the problem; its error ends the check.
pub(crate) fn check_table(
    table: &Arc<Table>,
    transaction: &dyn Transaction,
    found: &mut dyn FnMut(&str, String) -> Result<()>,
) -> Result<()> {
    let access = TableAccess::new(table);
    let mut expected = vec![Tally::default(); access.indexes().len()];
    let mut entry = Vec::new();
    each_row(&access, transaction, found, &mut |row, key| {
        for (index, tally) in access.indexes().iter().zip(&mut expected) {
            entry.clear();
            let exclusive = index.entry_key(row, key, &mut entry)?;
            tally.add(&entry, if exclusive { key } else { &[] });
        }
        Ok(())
    })?;
    for (position, (index, expected)) in access.indexes().iter().zip(&expected).enumerate() {
        let mut stored = Tally::default();
        let mut cursor = transaction.scan(index.tree(), KeyRange::ALL, Direction::Forward)?;
        while cursor.advance()? {
            stored.add(cursor.key(), cursor.value());
        }
        if stored != *expected {
            let text = format!("has {} entries, its table's rows ask for {}", stored.entries, expected.entries);
            let text =
                if stored.entries == expected.entries { "has other entries than its rows ask for" } else { &text };
            found(&index.index().name, text.to_owned())?;
            name_differences(&access, position, transaction, found)?;
        }
    }
    Ok(())
}

/// Takes a row that decodes, and its key.
type EachRow<'a> = &'a mut dyn FnMut(&Row, &[u8]) -> Result<()>;

/// Goes through the rows, telling of those that are wrong by themselves.
fn each_row(
    access: &TableAccess,
    transaction: &dyn Transaction,
    found: &mut dyn FnMut(&str, String) -> Result<()>,
    each: EachRow<'_>,
) -> Result<()> {
    let table = access.table();
    let mut cursor = transaction.scan(access.tree(), KeyRange::ALL, Direction::Forward)?;
    let (mut row, mut key) = (Row::new(), Vec::new());
    while cursor.advance()? {
        row.clear();
        if let Err(error) = access.codec().decode_all(cursor.value(), &mut row) {
            damage(&error)?;
            found(&table.name, format!("row {} does not decode: {error}", hex(cursor.key())))?;
            continue;
        }
        key.clear();
        let suits = if access.primary_key(&row, &mut key)? { key == cursor.key() } else { cursor.key().len() == 8 };
        if !suits {
            found(&table.name, format!("row {} does not stand under its key", hex(cursor.key())))?;
        }
        let missing = table.live_columns().find(|(position, column)| column.not_null && row[*position].is_null());
        if let Some((_, column)) = missing {
            found(
                &table.name,
                format!("row {} has NULL in \"{}\", which is NOT NULL", hex(cursor.key()), column.name),
            )?;
        }
        each(&row, cursor.key())?;
    }
    Ok(())
}

/// Compares an index with its table entry by entry.
fn name_differences(
    access: &TableAccess,
    position: usize,
    transaction: &dyn Transaction,
    found: &mut dyn FnMut(&str, String) -> Result<()>,
) -> Result<()> {
    let index: &IndexAccess = &access.indexes()[position];
    let name = index.index().name.clone();
    let mut entry = Vec::new();
    let mut problems: Vec<String> = Vec::new();
    // Problems of the rows themselves have been told.
    each_row(access, transaction, &mut |_, _| Ok(()), &mut |row, key| {
        entry.clear();
        let exclusive = index.entry_key(row, key, &mut entry)?;
        let wanted: &[u8] = if exclusive { key } else { &[] };
        match transaction.get(index.tree(), &entry)? {
            Some(value) if value == wanted => {}
            Some(_) => problems.push(format!("entry of row {} leads to another row", hex(key))),
            None => problems.push(format!("row {} has no entry", hex(key))),
        }
        if problems.len() < MAX_NAMED { Ok(()) } else { Err(enough()) }
    })
    .or_else(pass_enough)?;
    let mut cursor = transaction.scan(index.tree(), KeyRange::ALL, Direction::Forward)?;
    let mut row = Row::new();
    while problems.len() < MAX_NAMED && cursor.advance()? {
        let Ok(row_key) = index.row_key(cursor.key(), cursor.value()) else {
            problems.push(format!("entry {} does not decode", hex(cursor.key())));
            continue;
        };
        let Some(bytes) = transaction.get(access.tree(), row_key)? else {
            problems.push(format!("entry {} leads to no row", hex(cursor.key())));
            continue;
        };
        row.clear();
        entry.clear();
        if access.codec().decode_all(&bytes, &mut row).is_err() {
            continue;
        }
        index.entry_key(&row, row_key, &mut entry)?;
        if entry != cursor.key() {
            problems.push(format!("entry {} is not that of the row it leads to", hex(cursor.key())));
        }
    }
    problems.into_iter().try_for_each(|problem| found(&name, problem))
}

/// Differences of one index that are named; more help nobody.
const MAX_NAMED: usize = 100;

/// Ends a scan that has found enough.
fn enough() -> SqlError {
    SqlError::internal("enough differences were named")
}

fn pass_enough(error: SqlError) -> Result<()> {
    if error == enough() { Ok(()) } else { Err(error) }
}

/// Passes on what is no damage of the data: interrupts, lost connections.
fn damage(error: &SqlError) -> Result<()> {
    if error.state() == SqlState::DATA_CORRUPTED { Ok(()) } else { Err(error.clone()) }
}

/// A key as it is told: bytes, since a damaged one may not decode.
fn hex(key: &[u8]) -> String {
    /// Enough to find the row.
    const SHOWN_BYTES: usize = 64;
    let more = if key.len() > SHOWN_BYTES { "…" } else { "" };
    let shown: String = key.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("\\x{shown}{more}")
}
