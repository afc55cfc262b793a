//! What is done about rows that refer to keys which a statement has taken away: they stop the statement, or follow.
//!
//! As in Postgres it is done by statements of their own, which see every commit so far and are run with no privileges
//! asked for. They come after the statement that took the keys, in the order in which the keys were taken; what they take
//! away themselves comes after all of those. Their work is the first statement's: an error is its error.
//!
//! Nobody can have added a reference meanwhile: that takes the key lock (`table::foreign_key`), which the transaction
//! holds for every key that it took away.

use std::sync::Arc;

use super::{Prepared, Session};
use crate::catalog::ForeignKeyAction;
use crate::error::Result;
use crate::executor::{Execution, TakenKey, TakenKeys};
use crate::functions::EvalContext;
use crate::store::StatementOutcome;
use crate::table::ForeignKeyAccess;
use crate::types::cast::cast;
use crate::types::text::quote_identifier;
use crate::types::{BaseType, DataType, Datum, Row};

/// Plans of such statements that a session keeps.
const MAX_PLANS: usize = 256;

impl Session {
    /// Does what foreign keys ask for. No statement layer is open.
    pub(super) fn follow_taken_keys(&mut self, mut taken: TakenKeys) -> Result<()> {
        let transaction = self.transaction()?;
        let eval = self.context.eval_context();
        loop {
            let mut next: Option<TakenKeys> = None;
            let mut first = true;
            while let Some(key) = taken.next_key()? {
                transaction.interrupt().check()?;
                let constraint = key.constraint.constraint();
                let action = if key.new.is_some() { constraint.on_update } else { constraint.on_delete };
                let more = self.follow_key(&key, action, first, &eval)?;
                if action == ForeignKeyAction::SetDefault {
                    // Rows that had the default before have it still, and the default may be the key that is gone.
                    self.follow_key(&key, ForeignKeyAction::NoAction, first, &eval)?;
                }
                if let Some(more) = more {
                    match &mut next {
                        Some(next) => next.append(more)?,
                        None => next = Some(more),
                    }
                }
                first = false;
            }
            match next {
                Some(next) => taken = next,
                None => return Ok(()),
            }
        }
    }

    /// Does what one key asks for. `newest`: what was committed while the key was waited for may not be durable yet.
    fn follow_key(
        &mut self,
        key: &TakenKey,
        action: ForeignKeyAction,
        newest: bool,
        eval: &Arc<EvalContext>,
    ) -> Result<Option<TakenKeys>> {
        let constraint = key.constraint.constraint();
        let Some((old, types)) = wanted_values(&key.constraint, &key.old, eval) else { return Ok(None) };
        if action == ForeignKeyAction::NoAction && self.is_there_again(key)? {
            return Ok(None);
        }
        // The table as it is called now; dropped meanwhile, it has no rows that refer to anything.
        let catalog = self.context.catalog()?;
        let Some(child) = catalog.table(key.constraint.child().oid) else { return Ok(None) };
        let table = catalog.qualified_name(child.schema, &child.name);
        let names: Vec<String> =
            constraint.columns.iter().map(|column| quote_identifier(&child.columns[*column].name)).collect();
        let text = statement(&table, &names, action, key.new.is_some());
        let (mut values, mut types) = (old, types);
        if let (ForeignKeyAction::Cascade, Some(new)) = (action, &key.new) {
            types.extend(key.constraint.parent_types());
            values.extend(new.iter().cloned());
        }
        let prepared = self.action_plan(&text, &types)?;
        let transaction = self.transaction()?;
        let plan = self.locked_plan(&prepared, eval)?;
        // REPEATABLE READ would return to the snapshot of the transaction.
        if newest || transaction.options().isolation != crate::store::IsolationLevel::ReadCommitted {
            transaction.begin_statement_at_newest()?;
        } else {
            transaction.begin_statement()?;
        }
        let context = self.exec_context(transaction.clone(), values.into(), eval.clone())?;
        let mut execution = Execution::open(plan.compiled.clone(), context)?;
        let taken = if matches!(action, ForeignKeyAction::NoAction | ForeignKeyAction::Restrict) {
            if execution.next(&mut Row::new())? {
                return Err(key.constraint.still_referenced(&key.old, eval));
            }
            None
        } else {
            execution.run_out()?.take_taken_keys()
        };
        transaction.end_statement(StatementOutcome::Keep);
        Ok(taken)
    }

    /// Whether another row has taken the key.
    fn is_there_again(&mut self, key: &TakenKey) -> Result<bool> {
        let parent = key.constraint.parent();
        let mut row: Row = vec![Datum::Null; parent.columns.len()];
        for (column, value) in key.constraint.constraint().parent_columns.iter().zip(&key.old) {
            row[*column] = value.clone();
        }
        let transaction = self.transaction()?;
        let eval = self.context.eval_context();
        let server = self.context.server.clone();
        let context = crate::table::WriteContext {
            transaction: &*transaction,
            store: &*server.store,
            row_ids: &server.row_ids,
            eval: &eval,
        };
        match key.constraint.key_of_parent(&row)? {
            Some(bytes) => key.constraint.exists(context, &bytes),
            None => Ok(false),
        }
    }

    /// The plan of a statement, kept for the next key.
    fn action_plan(&mut self, text: &str, types: &[DataType]) -> Result<Arc<Prepared>> {
        if let Some(prepared) = self.action_plans.get(text) {
            return Ok(prepared.clone());
        }
        if self.action_plans.len() >= MAX_PLANS {
            self.action_plans.clear();
        }
        let parsed = self.parse_script(text)?.pop();
        let mut prepared = self.prepare_parsed(parsed, &super::prepared::oids(types))?;
        prepared.unchecked = true;
        let prepared = Arc::new(prepared);
        self.action_plans.insert(text.to_owned(), prepared.clone());
        Ok(prepared)
    }
}

/// The values to look for in the referencing columns, with their types; `None`: no row can have them.
fn wanted_values(access: &ForeignKeyAccess, old: &[Datum], eval: &EvalContext) -> Option<(Vec<Datum>, Vec<DataType>)> {
    let integer = |data_type: DataType| matches!(data_type.base, BaseType::Int2 | BaseType::Int4 | BaseType::Int8);
    let pairs = access.parent_types().zip(access.child_types()).zip(old);
    pairs
        .map(|((parent, child), value)| {
            let (parent, child) = (parent.with_modifier(-1), child.with_modifier(-1));
            // The column's own type, so that an index on it serves.
            if integer(parent) && integer(child) {
                return cast(value, parent, child, false, eval).ok().map(|value| (value, child));
            }
            Some((value.clone(), parent))
        })
        .collect::<Option<Vec<_>>>()
        .map(|pairs| pairs.into_iter().unzip())
}

/// The statement of an action: `$1` … are the old key, then comes the new one.
fn statement(table: &str, names: &[String], action: ForeignKeyAction, update: bool) -> String {
    let list = |between: &str, item: &dyn Fn(usize, &str) -> String| {
        names.iter().enumerate().map(|(at, name)| item(at, name)).collect::<Vec<_>>().join(between)
    };
    let filter = list(" AND ", &|at, name| format!("{name} = ${}", at + 1));
    let width = names.len();
    match action {
        ForeignKeyAction::NoAction | ForeignKeyAction::Restrict => {
            format!("SELECT 1 FROM {table} WHERE {filter} FOR KEY SHARE")
        }
        ForeignKeyAction::Cascade if !update => format!("DELETE FROM {table} WHERE {filter}"),
        ForeignKeyAction::Cascade => {
            let set = list(", ", &|at, name| format!("{name} = ${}", width + at + 1));
            format!("UPDATE {table} SET {set} WHERE {filter}")
        }
        ForeignKeyAction::SetNull => {
            let set = list(", ", &|_, name| format!("{name} = NULL"));
            format!("UPDATE {table} SET {set} WHERE {filter}")
        }
        ForeignKeyAction::SetDefault => {
            let set = list(", ", &|_, name| format!("{name} = DEFAULT"));
            format!("UPDATE {table} SET {set} WHERE {filter}")
        }
    }
}
