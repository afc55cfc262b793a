//! TRUNCATE: new empty trees in place of the old.

use std::sync::Arc;

use sqlparser::ast::{Truncate, TruncateIdentityOption};

use super::CommandTag;
use super::work::{Work, qualified, system_relation, undefined_relation};
use crate::catalog::object::Object;
use crate::catalog::{Index, Privilege, Relation, Sequence, SequencePosition, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::store::TableLockMode;

/// TRUNCATE.
pub(super) fn truncate(work: &mut Work<'_>, statement: &Truncate) -> Result<CommandTag> {
    if statement.partitions.is_some() {
        return Err(SqlError::unsupported("TRUNCATE of partitions"));
    }
    let restart = matches!(statement.identity, Some(TruncateIdentityOption::Restart));
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
