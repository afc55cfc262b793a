//! FOREIGN KEY: from syntax to descriptors, existing rows, and what depends on a referenced key.

use std::sync::Arc;

use sqlparser::ast::{ConstraintReferenceMatchKind, ForeignKeyConstraint, Ident, ObjectName, ReferentialAction};

use super::constraint::{MAX_KEY_COLUMNS, supported};
use super::work::{Work, identifier, qualified, system_relation, undefined_relation};
use crate::catalog::{ForeignKey, ForeignKeyAction, Oid, Privilege, Relation, Table, class};
use crate::error::{Result, SqlError, SqlState};
use crate::store::TableLockMode;
use crate::table::{ForeignKeyAccess, Wanted, WriteContext};
use crate::types::cast::{CastContext, can_cast};
use crate::types::{BaseType, DataType};

/// A FOREIGN KEY as written.
#[derive(Clone, Debug)]
pub(super) struct NewForeignKey {
    columns: Vec<String>,
    parent: ObjectName,
    /// Empty: the primary key.
    parent_columns: Vec<String>,
    match_full: bool,
    on_delete: ForeignKeyAction,
    on_update: ForeignKeyAction,
}

impl NewForeignKey {
    /// From a table constraint, or, with `column`, from a column's REFERENCES.
    pub fn new(constraint: &ForeignKeyConstraint, column: Option<&str>) -> Result<Self> {
        supported(&constraint.characteristics, &[], &None)?;
        let names = |list: &[Ident]| list.iter().map(identifier).collect::<Vec<_>>();
        let match_full = match constraint.match_kind {
            Some(ConstraintReferenceMatchKind::Full) => true,
            Some(ConstraintReferenceMatchKind::Partial) => return Err(SqlError::unsupported("MATCH PARTIAL")),
            Some(ConstraintReferenceMatchKind::Simple) | None => false,
        };
        Ok(Self {
            columns: column.map_or_else(|| names(&constraint.columns), |column| vec![column.to_owned()]),
            parent: constraint.foreign_table.clone(),
            parent_columns: names(&constraint.referred_columns),
            match_full,
            on_delete: action(constraint.on_delete),
            on_update: action(constraint.on_update),
        })
    }
}

fn action(written: Option<ReferentialAction>) -> ForeignKeyAction {
    match written {
        None | Some(ReferentialAction::NoAction) => ForeignKeyAction::NoAction,
        Some(ReferentialAction::Restrict) => ForeignKeyAction::Restrict,
        Some(ReferentialAction::Cascade) => ForeignKeyAction::Cascade,
        Some(ReferentialAction::SetNull) => ForeignKeyAction::SetNull,
        Some(ReferentialAction::SetDefault) => ForeignKeyAction::SetDefault,
    }
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_FOREIGN_KEY, message)
}

/// Positions of named columns.
fn positions(table: &Table, names: &[String]) -> Result<Vec<usize>> {
    if names.len() > MAX_KEY_COLUMNS {
        let message = format!("cannot have more than {MAX_KEY_COLUMNS} keys in a foreign key");
        return Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, message));
    }
    let position = |name: &String| {
        table.column(name).ok_or_else(|| {
            let message = format!("column \"{name}\" referenced in foreign key constraint does not exist");
            SqlError::new(SqlState::UNDEFINED_COLUMN, message)
        })
    };
    names.iter().map(position).collect()
}

/// The index that makes the columns a key.
fn key_index(parent: &Table, columns: &[usize]) -> Result<Oid> {
    let same = |key: &mut dyn Iterator<Item = usize>| {
        let key: Vec<usize> = key.collect();
        key.len() == columns.len() && key.iter().all(|column| columns.contains(column))
    };
    if (1..columns.len()).any(|at| columns[..at].contains(&columns[at])) {
        return Err(invalid("foreign key referenced-columns list must not contain duplicates"));
    }
    if let Some(key) = parent.primary_key.as_ref().filter(|key| same(&mut key.columns.iter().copied())) {
        return Ok(key.oid);
    }
    let unique = parent
        .indexes
        .iter()
        .find(|index| index.unique && index.valid && same(&mut index.columns.iter().map(|column| column.column)));
    unique.map(|index| index.oid).ok_or_else(|| {
        let message =
            format!("there is no unique constraint matching given keys for referenced table \"{}\"", parent.name);
        invalid(message)
    })
}

/// Whether a value of the referencing column can be looked for in the referenced one without loss.
fn comparable(child: DataType, parent: DataType) -> bool {
    let integer = |data_type: DataType| {
        !data_type.array && matches!(data_type.base, BaseType::Int2 | BaseType::Int4 | BaseType::Int8)
    };
    child.same_type(parent) || (integer(child) && integer(parent)) || can_cast(child, parent, CastContext::Implicit)
}

impl Work<'_> {
    /// Puts a FOREIGN KEY into the descriptor of a table, whose rows are not looked at.
    pub fn attach_foreign_key(&mut self, table: &mut Table, name: Option<String>, new: NewForeignKey) -> Result<()> {
        let parent_name = qualified(&new.parent, self)?;
        // The table may refer to itself before the catalog has it.
        let own_schema = self.catalog.schema_name(table.schema);
        let own = parent_name.name == table.name
            && parent_name.schema.as_deref().is_none_or(|schema| Some(schema) == own_schema)
            && self.find(&parent_name)?.is_none_or(|found| found.oid() == table.oid);
        let parent = if own {
            Arc::new(table.clone())
        } else {
            match self.lock_relation(&parent_name, TableLockMode::ShareRowExclusive)? {
                Some(Relation::Table(parent)) => parent,
                Some(Relation::System(view)) => return Err(system_relation(view.name)),
                Some(other) => {
                    let message = format!("referenced relation \"{}\" is not a table", other.name());
                    return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
                }
                None => return Err(undefined_relation(&parent_name)),
            }
        };
        if !own {
            self.catalog.require_privilege(self.context.role, parent.oid, Privilege::References)?;
        }
        let columns = positions(table, &new.columns)?;
        let parent_columns = if new.parent_columns.is_empty() {
            let key = parent.primary_key.as_ref().ok_or_else(|| {
                let message = format!("there is no primary key for referenced table \"{}\"", parent.name);
                SqlError::new(SqlState::UNDEFINED_OBJECT, message)
            })?;
            key.columns.clone()
        } else {
            positions(&parent, &new.parent_columns)?
        };
        if columns.len() != parent_columns.len() {
            return Err(invalid("number of referencing and referenced columns for foreign key disagree"));
        }
        let parent_index = key_index(&parent, &parent_columns)?;
        let taken: Vec<String> = table.foreign_keys.iter().map(|key| key.name.clone()).collect();
        let name = match name {
            Some(name) => {
                self.require_free_constraint(table, &name)?;
                name
            }
            None => {
                let parts: Vec<&str> =
                    std::iter::once(&*table.name).chain(new.columns.iter().map(String::as_str)).collect();
                self.free_name(table.schema, &parts.join("_"), "fkey", &taken)
            }
        };
        for (child_at, parent_at) in columns.iter().zip(&parent_columns) {
            let (child, parent) = (&table.columns[*child_at], &parent.columns[*parent_at]);
            if !comparable(child.data_type, parent.data_type) {
                let message = format!("foreign key constraint \"{name}\" cannot be implemented");
                let detail = format!(
                    "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
                    child.name,
                    parent.name,
                    child.data_type.with_modifier(-1).name(),
                    parent.data_type.with_modifier(-1).name()
                );
                return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).with_detail(detail));
            }
        }
        table.foreign_keys.push(ForeignKey {
            oid: self.allocate_oid()?,
            name,
            columns,
            parent: parent.oid,
            parent_columns,
            parent_index,
            match_full: new.match_full,
            on_delete: new.on_delete,
            on_update: new.on_update,
        });
        Ok(())
    }

    /// 23503 when a row refers to what is not there. The statement layer is at the newest snapshot, and the referenced
    /// table is locked against writers.
    pub fn validate_foreign_key(&self, table: &Arc<Table>, constraint: &ForeignKey) -> Result<()> {
        let parent = if constraint.parent == table.oid { Some(table) } else { self.catalog.table(constraint.parent) };
        let parent = parent.ok_or_else(|| SqlError::internal("a locked table is gone"))?;
        let access = ForeignKeyAccess::new(constraint, table, parent)?;
        let context = WriteContext {
            transaction: &**self.context.transaction,
            store: &**self.context.manager.store(),
            row_ids: self.context.row_ids,
            eval: self.context.eval,
        };
        // Neighbouring rows often refer to the same key.
        let mut last = Wanted::Nothing;
        self.for_each_row(table, |_, row| {
            let wanted = access.wanted(row, self.context.eval)?;
            if wanted == Wanted::Nothing || wanted == last {
                return Ok(());
            }
            let found = match &wanted {
                Wanted::Key(key) => access.exists(context, key)?,
                Wanted::Nothing | Wanted::Mixed | Wanted::Impossible => false,
            };
            if !found {
                return Err(access.missing(row, wanted == Wanted::Mixed, self.context.eval));
            }
            last = wanted;
            Ok(())
        })
    }

    /// What refers to an index, and the shown names of constraint and table.
    fn references_by_index(&self, index: Oid) -> Vec<(Oid, Oid)> {
        let tables = self.catalog.tables();
        let keys = tables.flat_map(|table| table.foreign_keys.iter().map(move |key| (table.oid, key)));
        keys.filter(|(_, key)| key.parent_index == index).map(|(table, key)| (table, key.oid)).collect()
    }

    /// Before the index of a key goes: foreign keys that need it stop that (2BP01) or, with CASCADE, go too.
    pub fn release_index(&mut self, index: Oid, what: &str, cascade: bool) -> Result<()> {
        let found = self.references_by_index(index);
        let name = self.catalog.relation_by_oid(index).map_or(String::new(), |index| index.name().to_owned());
        self.release(&found, what, &format!("index {name}"), cascade)
    }

    /// Foreign keys of other tables that refer to a column, by table and constraint.
    pub fn references_to_column(&self, table: &Table, column: usize) -> Vec<(Oid, Oid)> {
        let keys = self.catalog.references_to(table.oid).into_iter();
        keys.filter(|(child, key)| child.oid != table.oid && key.parent_columns.contains(&column))
            .map(|(child, key)| (child.oid, key.oid))
            .collect()
    }

    fn release(&mut self, found: &[(Oid, Oid)], what: &str, needed: &str, cascade: bool) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        if !cascade {
            let lines = found.iter().map(|key| format!("{} depends on {needed}", self.describe_foreign_key(*key)));
            let detail = lines.collect::<Vec<_>>().join("\n");
            let message = format!("cannot drop {what} because other objects depend on it");
            return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                .with_detail(detail)
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        let lines = found.iter().map(|key| format!("drop cascades to {}", self.describe_foreign_key(*key)));
        self.cascade_notice(&lines.collect::<Vec<_>>());
        found.iter().try_for_each(|key| self.drop_foreign_key(key.0, key.1))
    }

    /// `constraint c_a_fkey on table c`.
    pub fn describe_foreign_key(&self, (table, key): (Oid, Oid)) -> String {
        let found =
            self.catalog.table(table).and_then(|table| table.foreign_keys.iter().find(|known| known.oid == key));
        let name = found.map_or("", |key| &key.name);
        format!("constraint {name} on table {}", self.shown_name(table))
    }

    /// Takes a foreign key out of its table.
    pub fn drop_foreign_key(&mut self, table: Oid, key: Oid) -> Result<()> {
        self.lock(table, TableLockMode::AccessExclusive)?;
        self.refresh()?;
        let Some(found) = self.catalog.table(table) else { return Ok(()) };
        let mut table = Table::clone(found);
        table.foreign_keys.retain(|known| known.oid != key);
        self.delete_comments(class::CONSTRAINT, key)?;
        self.put_table(table)
    }
}
