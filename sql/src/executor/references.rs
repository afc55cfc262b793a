//! What one execution knows of foreign keys: references still to be found, and referenced keys that it took away.
//!
//! A new reference is looked up at once. One that is not found is kept and looked up again when the statement has done all
//! its work, since a later row of the same statement may be what it refers to. A key taken away is locked and kept: what is
//! done about rows that refer to it is the session's to do, in statements of their own (`session::foreign_keys`).

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Context;
use super::rows::{RowBuffer, RowPosition};
use crate::catalog::Oid;
use crate::error::{Result, SqlError};
use crate::store::{RowLockMode, TableLockMode, WaitPolicy};
use crate::table::{ForeignKeyAccess, Wanted};
use crate::types::{Datum, Row};

/// Keys of one constraint that a statement remembers to have found, so that it does not look for them again.
const MAX_REMEMBERED: usize = 10_000;
/// Key locks that one statement takes for one constraint. Beyond, it locks the referenced table against writers instead:
/// locks live in memory.
const MAX_KEY_LOCKS: usize = 100_000;

/// The state of an execution.
#[derive(Default)]
pub(super) struct References {
    found: RefCell<HashMap<Oid, Found>>,
    open: RefCell<Option<Kept>>,
    taken: RefCell<Option<Kept>>,
}

/// What is known of the keys of one constraint.
#[derive(Default)]
struct Found {
    keys: HashSet<Vec<u8>>,
    locks: usize,
    table_locked: bool,
}

/// Rows set aside, each with its constraint.
struct Kept {
    constraints: Vec<Arc<ForeignKeyAccess>>,
    rows: RowBuffer,
}

impl Kept {
    fn new(cx: &Context) -> Self {
        let (limit, directory) = (cx.exec().work_mem_bytes, cx.temporary_directory());
        Self { constraints: Vec::new(), rows: RowBuffer::new(limit, directory) }
    }

    fn push(&mut self, constraint: &Arc<ForeignKeyAccess>, values: impl Iterator<Item = Datum>) -> Result<()> {
        let known = self.constraints.iter().position(|known| Arc::ptr_eq(known, constraint));
        let number = known.unwrap_or_else(|| {
            self.constraints.push(Arc::clone(constraint));
            self.constraints.len() - 1
        });
        self.rows.push(std::iter::once(Datum::Int8(number as i64)).chain(values).collect())
    }

    fn next(&self, position: &mut RowPosition, row: &mut Row) -> Result<Option<Arc<ForeignKeyAccess>>> {
        if !position.next(&self.rows, row)? {
            return Ok(None);
        }
        match row.remove(0) {
            Datum::Int8(number) => Ok(self.constraints.get(number as usize).cloned()),
            other => Err(SqlError::internal(format!("the number of a foreign key is {other:?}"))),
        }
    }
}

/// Referenced keys that a statement took away, in order.
pub struct TakenKeys {
    kept: Kept,
    position: RowPosition,
}

/// A referenced key that was taken away.
pub struct TakenKey {
    /// Between which tables.
    pub constraint: Arc<ForeignKeyAccess>,
    /// Values of the referenced columns, in the constraint's order.
    pub old: Row,
    /// Their values after an UPDATE; `None`: the row was deleted.
    pub new: Option<Row>,
}

impl TakenKeys {
    /// The next one.
    pub fn next_key(&mut self) -> Result<Option<TakenKey>> {
        let mut row = Row::new();
        let Some(constraint) = self.kept.next(&mut self.position, &mut row)? else { return Ok(None) };
        let width = constraint.constraint().parent_columns.len();
        let new = row.split_off(width);
        Ok(Some(TakenKey { constraint, old: row, new: (!new.is_empty()).then_some(new) }))
    }

    /// Adds what another statement took away.
    pub fn append(&mut self, mut other: TakenKeys) -> Result<()> {
        while let Some(key) = other.next_key()? {
            self.kept.push(&key.constraint, key.old.into_iter().chain(key.new.into_iter().flatten()))?;
        }
        Ok(())
    }
}

impl Context {
    /// A row has been written that refers to other rows. `old` is what it was before, if it was.
    pub(crate) fn refer(
        &self,
        references: &[Arc<ForeignKeyAccess>],
        old: Option<&[Datum]>,
        row: &[Datum],
    ) -> Result<()> {
        for reference in references {
            let wanted = reference.wanted(row, self.eval())?;
            if wanted == Wanted::Nothing {
                continue;
            }
            if let Some(old) = old
                && reference.wanted(old, self.eval())? == wanted
            {
                continue;
            }
            if !self.finds(reference, &wanted)? {
                let mut open = self.references.open.borrow_mut();
                open.get_or_insert_with(|| Kept::new(self)).push(reference, row.iter().cloned())?;
            }
        }
        Ok(())
    }

    /// Locks what a reference asks for and tells whether it is there.
    fn finds(&self, reference: &ForeignKeyAccess, wanted: &Wanted) -> Result<bool> {
        let Wanted::Key(key) = wanted else { return Ok(*wanted == Wanted::Nothing) };
        let mut found = self.references.found.borrow_mut();
        let found = found.entry(reference.constraint().oid).or_default();
        if found.keys.contains(key) {
            return Ok(true);
        }
        if found.locks < MAX_KEY_LOCKS {
            reference.lock(self.write_context(), key, RowLockMode::Share, WaitPolicy::Block)?;
            found.locks += 1;
        } else if !found.table_locked {
            let table = u64::from(reference.parent().oid);
            self.transaction().lock_table(table, TableLockMode::Share, WaitPolicy::Block)?;
            found.table_locked = true;
        }
        let exists = reference.exists(self.write_context(), key)?;
        if exists && found.keys.len() < MAX_REMEMBERED {
            found.keys.insert(key.clone());
        }
        Ok(exists)
    }

    /// The statement has done all its work: 23503 for a reference to what is not there.
    pub(crate) fn finish_references(&self) -> Result<()> {
        let Some(open) = self.references.open.borrow_mut().take() else { return Ok(()) };
        let (mut position, mut row) = (RowPosition::default(), Row::new());
        while let Some(reference) = open.next(&mut position, &mut row)? {
            let wanted = reference.wanted(&row, self.eval())?;
            if !self.finds(&reference, &wanted)? {
                return Err(reference.missing(&row, wanted == Wanted::Mixed, self.eval()));
            }
        }
        Ok(())
    }

    /// A row that others may refer to is deleted (`new` is `None`) or changed.
    pub(crate) fn take_away(&self, by: &[Arc<ForeignKeyAccess>], old: &[Datum], new: Option<&[Datum]>) -> Result<()> {
        for constraint in by {
            let Some(key) = constraint.key_of_parent(old)? else { continue };
            if let Some(new) = new
                && constraint.key_of_parent(new)?.as_ref() == Some(&key)
            {
                continue;
            }
            constraint.lock(self.write_context(), &key, RowLockMode::Exclusive, WaitPolicy::Block)?;
            let columns = &constraint.constraint().parent_columns;
            let old = columns.iter().map(|column| old[*column].clone());
            let new = new.iter().flat_map(|new| columns.iter().map(|column| new[*column].clone()));
            let mut taken = self.references.taken.borrow_mut();
            taken.get_or_insert_with(|| Kept::new(self)).push(constraint, old.chain(new))?;
        }
        Ok(())
    }

    /// The referenced keys taken away.
    pub(super) fn take_taken_keys(&self) -> Option<TakenKeys> {
        let kept = self.references.taken.borrow_mut().take()?;
        Some(TakenKeys { kept, position: RowPosition::default() })
    }
}
