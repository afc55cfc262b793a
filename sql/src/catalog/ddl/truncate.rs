//! TRUNCATE: new empty trees in place of the old.

use std::sync::Arc;

use sqlparser::ast::{CascadeOption, Ident, Truncate, TruncateIdentityOption};

use super::CommandTag;
use super::work::{Work, qualified, system_relation, undefined_relation};
use crate::catalog::object::Object;
use crate::catalog::{Index, Oid, Privilege, Relation, Sequence, SequencePosition, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::store::TableLockMode;

/// TRUNCATE.
pub(super) fn truncate(work: &mut Work<'_>, statement: &Truncate) -> Result<CommandTag> {
    if statement.partitions.is_some() {
        return Err(SqlError::unsupported("TRUNCATE of partitions"));
    }
    let cascade = matches!(statement.cascade, Some(CascadeOption::Cascade));
    let restart = matches!(statement.identity, Some(TruncateIdentityOption::Restart));
    let mut tables = Vec::new();
    for target in &statement.table_names {
        let name = qualified(&target.name, work)?;
        let table = match work.lock_relation(&name, TableLockMode::AccessExclusive)? {
            Some(Relation::Table(table)) => table,
            Some(Relation::System(view)) => return Err(system_relation(view.name)),
            Some(other) => {
                let message = format!("\"{}\" is not a table", other.name());
                return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
            }
            None => return Err(undefined_relation(&name)),
        };
        if !tables.contains(&table.oid) {
            tables.push(table.oid);
        }
    }
    // A table that the session has found empty and is about to fill: nothing can refer to its rows.
    if !is_refill(statement) {
        add_referencing(work, &mut tables, cascade)?;
    }
    for oid in tables {
        let table = work.catalog.table(oid).cloned().ok_or_else(|| SqlError::internal("a locked table is gone"))?;
        work.catalog.require_privilege(work.context.role, table.oid, Privilege::Truncate)?;
        let emptied = work.with_new_trees(&table)?;
        work.put_table(emptied)?;
        if restart {
            let owned: Vec<_> = work
                .catalog
                .sequences()
                .filter(|sequence| sequence.owned_by.is_some_and(|(owner, _)| owner == table.oid))
                .cloned()
                .collect();
            owned.iter().try_for_each(|sequence| work.restart_sequence(sequence, sequence.start))?;
        }
    }
    Ok(CommandTag("TRUNCATE TABLE".into()))
}

/// Marks a TRUNCATE as the session's own, of a table that is empty. No client's statement has this clause.
pub(crate) fn mark_refill(statement: &mut Truncate) {
    statement.on_cluster = Some(Ident::new("refill"));
}

fn is_refill(statement: &Truncate) -> bool {
    statement.on_cluster.is_some()
}

/// Tables that refer to those truncated must be truncated with them.
fn add_referencing(work: &mut Work<'_>, tables: &mut Vec<Oid>, cascade: bool) -> Result<()> {
    let mut at = 0;
    while let Some(table) = tables.get(at).copied() {
        at += 1;
        let keys = work.catalog.references_to(table);
        let children: Vec<Oid> = keys.into_iter().map(|(child, _)| child.oid).collect();
        for child in children {
            if tables.contains(&child) {
                continue;
            }
            let name = work.catalog.table(child).map_or(String::new(), |child| child.name.clone());
            if !cascade {
                let parent = work.catalog.table(table).map_or(String::new(), |table| table.name.clone());
                let message = "cannot truncate a table referenced in a foreign key constraint";
                return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                    .with_detail(format!("Table \"{name}\" references \"{parent}\"."))
                    .with_hint(format!("Truncate table \"{name}\" at the same time, or use TRUNCATE ... CASCADE.")));
            }
            work.notice(SqlState::SUCCESSFUL_COMPLETION, format!("truncate cascades to table \"{name}\""));
            work.lock(child, TableLockMode::AccessExclusive)?;
            work.refresh()?;
            tables.push(child);
        }
    }
    Ok(())
}

impl Work<'_> {
    /// The table over new empty trees; the old ones are dropped when the transaction commits.
    pub fn with_new_trees(&self, table: &Table) -> Result<Table> {
        let transaction = self.context.transaction;
        let mut table = table.clone();
        transaction.drop_tree(table.tree)?;
        table.tree = transaction.create_tree()?;
        for index in &mut table.indexes {
            transaction.drop_tree(index.tree())?;
            *index = Arc::new(Index { tree: transaction.create_tree()?.0.0, ..Index::clone(index) });
        }
        Ok(table)
    }

    /// Lets a sequence begin anew at `value`, if the transaction commits.
    pub fn restart_sequence(&mut self, sequence: &Sequence, value: i64) -> Result<()> {
        self.move_sequence(sequence, SequencePosition { last_value: value, is_called: false })
    }

    /// Lets a sequence go on from a position, if the transaction commits: the position moves to another row.
    pub fn move_sequence(&mut self, sequence: &Sequence, position: SequencePosition) -> Result<()> {
        let state = u64::from(self.allocate_oid()?);
        let moved = Sequence { state, ..sequence.clone() };
        let store = self.context.manager.store();
        self.context.manager.sequences().prepare(&**store, self.catalog.counters(), &moved, position)?;
        let key = crate::catalog::sequence::key(sequence);
        self.context.transaction.delete(self.catalog.counters(), &key)?;
        self.put(Object::Sequence(moved))
    }
}
