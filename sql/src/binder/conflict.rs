//! ON CONFLICT.

use std::sync::Arc;

use sqlparser::ast::{self, ConflictTarget, OnConflictAction};

use super::Binder;
use super::logical::{OnConflict, Scan};
use super::names::{Clause, Item, ItemColumns, Level, Namespace, Scope, fold, split_name};
use super::scalar::ColumnId;
use crate::catalog::{Index, Table};
use crate::error::{Result, SqlError, SqlState};

impl Binder<'_> {
    pub(super) fn on_conflict(
        &mut self,
        clause: &ast::OnConflict,
        table: &Arc<Table>,
        row: &Namespace,
        excluded_first: ColumnId,
        parent: Option<&Scope<'_>>,
    ) -> Result<OnConflict> {
        let arbiter = match &clause.conflict_target {
            None => None,
            Some(target) => Some(self.arbiter(target, table)?),
        };
        let update = match &clause.action {
            OnConflictAction::DoNothing => None,
            OnConflictAction::DoUpdate(update) => {
                if arbiter.is_none() {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                    )
                    .with_hint("For example, ON CONFLICT (column_name)."));
                }
                let mut namespace = row.clone();
                let excluded = Scan { table: table.clone(), first: excluded_first, alias: "excluded".into() };
                namespace.items.push(Item {
                    alias: "excluded".into(),
                    schema: None,
                    columns: ItemColumns::Table(excluded),
                    oid: None,
                });
                // Unqualified names mean the existing row.
                let own = Namespace { items: row.items.clone(), merged: None };
                namespace.merged = Some(own.visible());
                let level = Level::default();
                let scope = Scope { namespace: &namespace, parent, level: &level, clause: Clause::Update };
                let assignments = self.assignments(&update.assignments, table, &scope)?;
                let filter = match &update.selection {
                    Some(condition) => Some(self.condition(condition, &scope.in_clause(Clause::Where), "WHERE")?),
                    None => None,
                };
                Some((assignments, filter))
            }
        };
        Ok(OnConflict { arbiter, update })
    }

    /// The unique index that a conflict target means; `None` is the primary key.
    fn arbiter(&self, target: &ConflictTarget, table: &Table) -> Result<Option<Arc<Index>>> {
        match target {
            ConflictTarget::OnConstraint(name) => {
                let (_, name) = split_name(name)?;
                if table.primary_key.as_ref().is_some_and(|key| key.name == name) {
                    return Ok(None);
                }
                let index = table.indexes.iter().find(|index| index.unique && index.constraint && index.name == name);
                index.cloned().map(Some).ok_or_else(|| {
                    SqlError::new(
                        SqlState::UNDEFINED_OBJECT,
                        format!("constraint \"{name}\" for table \"{}\" does not exist", table.name),
                    )
                })
            }
            ConflictTarget::Columns(names) => {
                let mut wanted = Vec::with_capacity(names.len());
                for ident in names {
                    let name = fold(ident);
                    wanted.push(table.column(&name).ok_or_else(|| {
                        let error =
                            SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"));
                        self.place(error, ident.span)
                    })?);
                }
                wanted.sort_unstable();
                wanted.dedup();
                let matches = |columns: &mut dyn Iterator<Item = usize>| {
                    let mut columns: Vec<usize> = columns.collect();
                    columns.sort_unstable();
                    columns == wanted
                };
                if table.primary_key.as_ref().is_some_and(|key| matches(&mut key.columns.iter().copied())) {
                    return Ok(None);
                }
                let unique = table.indexes.iter().filter(|index| index.unique && index.valid);
                let index = unique.into_iter().find(|index| matches(&mut index.columns.iter().map(|c| c.column)));
                index.cloned().map(Some).ok_or_else(|| {
                    SqlError::new(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        "there is no unique or exclusion constraint matching the ON CONFLICT specification",
                    )
                })
            }
        }
    }
}
