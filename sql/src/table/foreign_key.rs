//! [`ForeignKeyAccess`]: one FOREIGN KEY with what it takes to look a reference up and to lock what it refers to.
//!
//! **Locks.** A reference holds a *key lock*: a row lock, shared, on the referenced key with [`KEY_LOCK`] behind it. Whoever
//! takes the key away (DELETE, an UPDATE of its columns, FOR UPDATE) holds it exclusively, beside the row's own lock. An
//! UPDATE of other columns does not meet it, as FOR KEY SHARE and FOR NO KEY UPDATE do not meet in Postgres: without that,
//! two transactions that insert children and then update their common parent would deadlock.
//!
//! With the key lock held, the newest version of the key decides, not the snapshot.

use std::sync::Arc;

use super::access::{TableAccess, UniqueKey, WriteContext};
use super::constraint::format_row_values;
use crate::catalog::{ForeignKey, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;
use crate::store::{LockedRow, RowLockMode, WaitPolicy};
use crate::types::cast::cast;
use crate::types::{DataType, Datum, Row};

/// What stands behind a key to make the name of its key lock. A row of that very key would share the lock: a wait that
/// need not have been.
const KEY_LOCK: &[u8] = b"\0foreign key";

/// A FOREIGN KEY between two tables as they are now.
#[derive(Debug)]
pub struct ForeignKeyAccess {
    constraint: ForeignKey,
    child: Arc<Table>,
    parent: TableAccess,
    key: UniqueKey,
}

/// What a row of the referencing table asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: a column is NULL.
    Nothing,
    /// MATCH FULL, and some columns are NULL, others not.
    Mixed,
    /// A key that no row of the referenced table can have.
    Impossible,
    /// This key of the referenced table.
    Key(Vec<u8>),
}

impl ForeignKeyAccess {
    /// The access to a constraint of `child` that refers to `parent`.
    pub fn new(constraint: &ForeignKey, child: &Arc<Table>, parent: &Arc<Table>) -> Result<Self> {
        let access = TableAccess::new(parent);
        let primary = parent.primary_key.as_ref().is_some_and(|key| key.oid == constraint.parent_index);
        let position = parent.indexes.iter().position(|index| index.oid == constraint.parent_index);
        let key = match position {
            _ if primary => UniqueKey::Primary,
            Some(position) => UniqueKey::Index(position),
            None => {
                let message = format!("foreign key {} refers to an index that is not there", constraint.name);
                return Err(SqlError::internal(message));
            }
        };
        Ok(Self { constraint: constraint.clone(), child: Arc::clone(child), parent: access, key })
    }

    /// The constraint.
    pub fn constraint(&self) -> &ForeignKey {
        &self.constraint
    }

    /// The referencing table.
    pub fn child(&self) -> &Arc<Table> {
        &self.child
    }

    /// The referenced table.
    pub fn parent(&self) -> &Arc<Table> {
        self.parent.table()
    }

    /// Types of the referenced columns, in the constraint's order.
    pub fn parent_types(&self) -> impl Iterator<Item = DataType> + '_ {
        self.constraint.parent_columns.iter().map(|column| self.parent().columns[*column].data_type)
    }

    /// Types of the referencing columns.
    pub fn child_types(&self) -> impl Iterator<Item = DataType> + '_ {
        self.constraint.columns.iter().map(|column| self.child.columns[*column].data_type)
    }

    /// What a row of the referencing table asks for.
    pub fn wanted(&self, row: &[Datum], eval: &EvalContext) -> Result<Wanted> {
        let nulls = self.constraint.columns.iter().filter(|column| row[**column].is_null()).count();
        if nulls > 0 {
            let mixed = self.constraint.match_full && nulls < self.constraint.columns.len();
            return Ok(if mixed { Wanted::Mixed } else { Wanted::Nothing });
        }
        let mut values: Row = vec![Datum::Null; self.parent().columns.len()];
        let pairs = self.constraint.columns.iter().zip(&self.constraint.parent_columns);
        for ((from, to), (child, parent)) in self.child_types().zip(self.parent_types()).zip(pairs) {
            // A bigint that no integer holds has no parent; the other families convert without loss.
            let Ok(value) = cast(&row[*child], from, to.with_modifier(-1), false, eval) else {
                return Ok(Wanted::Impossible);
            };
            values[*parent] = value;
        }
        Ok(self.key_of_parent(&values)?.map_or(Wanted::Impossible, Wanted::Key))
    }

    /// The referenced key of a row of the referenced table; `None` when a column of it is NULL.
    pub fn key_of_parent(&self, row: &[Datum]) -> Result<Option<Vec<u8>>> {
        let mut key = Vec::with_capacity(32);
        let whole = match self.key {
            UniqueKey::Primary => self.parent.primary_key(row, &mut key)?,
            UniqueKey::Index(position) => self.parent.indexes()[position].entry_key(row, &[], &mut key)?,
        };
        Ok(whole.then_some(key))
    }

    /// Takes the key lock until the transaction ends. False only with [`WaitPolicy::Skip`].
    pub fn lock(&self, context: WriteContext<'_>, key: &[u8], mode: RowLockMode, wait: WaitPolicy) -> Result<bool> {
        let mut name = Vec::with_capacity(key.len() + KEY_LOCK.len());
        name.extend_from_slice(key);
        name.extend_from_slice(KEY_LOCK);
        let tree = self.parent.unique_tree(self.key);
        Ok(context.transaction.lock_row(tree, &name, mode, wait)? != LockedRow::Skipped)
    }

    /// Whether a row of the referenced table has the key now. The key lock is held.
    pub fn exists(&self, context: WriteContext<'_>, key: &[u8]) -> Result<bool> {
        Ok(context.transaction.get_latest(self.parent.unique_tree(self.key), key)?.is_some())
    }

    /// 23503 for a row of the referencing table.
    #[cold]
    pub fn missing(&self, row: &[Datum], mixed: bool, eval: &EvalContext) -> SqlError {
        let (child, name) = (&self.child, &self.constraint.name);
        let message =
            format!("insert or update on table \"{}\" violates foreign key constraint \"{name}\"", child.name);
        let detail = if mixed {
            "MATCH FULL does not allow mixing of null and nonnull key values.".to_owned()
        } else {
            let values = self.constraint.columns.iter().map(|column| row[*column].clone()).collect::<Vec<_>>();
            let shown = key_text(&self.child, &self.constraint.columns, &values, eval);
            format!("Key {shown} is not present in table \"{}\".", self.parent().name)
        };
        self.error(message, detail)
    }

    /// 23503 for a row of the referenced table; `values` are its referenced columns.
    #[cold]
    pub fn still_referenced(&self, values: &[Datum], eval: &EvalContext) -> SqlError {
        let (parent, child, name) = (&self.parent().name, &self.child.name, &self.constraint.name);
        let message = format!(
            "update or delete on table \"{parent}\" violates foreign key constraint \"{name}\" on table \"{child}\""
        );
        let shown = key_text(self.parent(), &self.constraint.parent_columns, values, eval);
        self.error(message, format!("Key {shown} is still referenced from table \"{child}\"."))
    }

    fn error(&self, message: String, detail: String) -> SqlError {
        SqlError::new(SqlState::FOREIGN_KEY_VIOLATION, message)
            .with_detail(detail)
            .of_table(self.child.schema, &self.child.name)
            .with_constraint(&self.constraint.name)
    }
}

/// `(a, b)=(1, 2)`.
fn key_text(table: &Table, columns: &[usize], values: &[Datum], eval: &EvalContext) -> String {
    let names: Vec<&str> = columns.iter().map(|column| table.columns[*column].name.as_str()).collect();
    let typed = values.iter().zip(columns).map(|(value, column)| (value, table.columns[*column].data_type));
    format!("({})=({})", names.join(", "), format_row_values(typed, eval, None))
}
