//! INSERT, with ON CONFLICT.

use std::sync::Arc;

use bytes::Bytes;

use super::update::{Changes, apply_assignments, check_row};
use super::{Factory, Node, Operator, eval_into, passes};
use crate::error::{Result, SqlError, SqlState};
use crate::executor::{Code, Context};
use crate::store::{LockedRow, RowLockMode, WaitPolicy};
use crate::table::{ForeignKeyAccess, RowBatch, TableAccess, TableLoader, UniqueKey};
use crate::types::Row;

pub(crate) struct InsertCode {
    pub(crate) access: Arc<TableAccess>,
    pub(crate) input: Node,
    pub(crate) values: Vec<Code>,
    pub(crate) checks: Vec<(String, Code)>,
    pub(crate) references: Vec<Arc<ForeignKeyAccess>>,
    pub(crate) referenced: Vec<Arc<ForeignKeyAccess>>,
    pub(crate) conflict: Option<ConflictAction>,
    pub(crate) returning: Option<Vec<Code>>,
    /// The source may give many rows: a table new to the transaction is loaded in bulk.
    pub(crate) many: bool,
    /// The statement itself, not a query of its WITH: its rows count.
    pub(crate) main: bool,
}

/// ON CONFLICT: which unique keys arbitrate, and what is done.
pub(crate) struct ConflictAction {
    pub(crate) arbiters: Vec<UniqueKey>,
    /// DO UPDATE: assignments and filter over the existing row followed by the proposed one.
    pub(crate) update: Option<ConflictUpdateCode>,
}

/// DO UPDATE.
pub(crate) struct ConflictUpdateCode {
    pub(crate) assignments: Vec<(usize, Code)>,
    pub(crate) filter: Option<Code>,
}

struct Insert {
    code: Arc<InsertCode>,
    input: Box<dyn Operator>,
    changes: Changes,
}

impl Factory for InsertCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(Insert { input: self.input.open(cx), changes: Changes::new(self.main), code: self })
    }
}

impl Operator for Insert {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        if !self.changes.complete {
            self.run(cx)?;
            self.changes.complete = true;
        }
        self.changes.next(out)
    }
}

impl Insert {
    fn run(&mut self, cx: &Context) -> Result<()> {
        let code = &*self.code;
        let table = code.access.table();
        let (mut source, mut row) = (Row::new(), Row::new());
        let mut loader = if code.many && code.conflict.is_none() {
            let (limit, directory) = (cx.exec().work_mem_bytes, cx.temporary_directory());
            TableLoader::begin(&code.access, cx.transaction(), limit, directory)
        } else {
            None
        };
        let own = code.references.iter().any(|reference| reference.parent().oid == table.oid);
        let batches = loader.is_none() && code.many && code.conflict.is_none() && !own;
        let mut batch = batches.then(|| RowBatch::new(&code.access));
        let mut number = 0;
        while self.input.next(cx, &mut source)? {
            cx.poll()?;
            number += 1;
            eval_into(&code.values, &source, cx, &mut row)?;
            check_row(table, &row, &code.checks, cx)?;
            if let Some(action) = &code.conflict
                && let Some((arbiter, key)) = code.conflicting_key(action, &row, cx)?
            {
                if let Some(update) = &action.update {
                    let updated = code.update_existing(arbiter, &key, &row, update, cx)?;
                    if let Some(new) = updated {
                        self.changes.add(code.returning.as_deref(), &new, cx)?;
                    }
                }
                continue;
            }
            match (&mut loader, &mut batch) {
                (Some(loader), _) => loader.push(cx.write_context(), &row)?,
                (None, Some(batch)) => {
                    batch.push(cx.write_context(), &row, number).map_err(|failure| failure.error)?;
                }
                (None, None) => _ = code.access.insert(cx.write_context(), &row)?,
            }
            cx.refer(&code.references, None, &row)?;
            self.changes.add(code.returning.as_deref(), &row, cx)?;
        }
        if let Some(mut batch) = batch {
            batch.flush(cx.write_context()).map_err(|failure| failure.error)?;
        }
        loader.map_or(Ok(()), |loader| loader.finish(cx.write_context()).map_err(|failure| failure.error))
    }
}

impl InsertCode {
    /// The first arbiter that the row runs into, with the key it has there. All keys met are locked.
    fn conflicting_key(&self, action: &ConflictAction, row: &Row, cx: &Context) -> Result<Option<(UniqueKey, Bytes)>> {
        for arbiter in &action.arbiters {
            let mut key = Vec::new();
            let exclusive = match arbiter {
                UniqueKey::Primary => self.access.primary_key(row, &mut key)?,
                UniqueKey::Index(position) => self.access.indexes()[*position].entry_key(row, &[], &mut key)?,
            };
            if exclusive && self.access.holder(cx.write_context(), *arbiter, &key)?.is_some() {
                return Ok(Some((*arbiter, key.into())));
            }
        }
        Ok(None)
    }

    /// DO UPDATE of the row that holds `key`. `None`: the filter spared it.
    fn update_existing(
        &self,
        arbiter: UniqueKey,
        key: &[u8],
        proposed: &Row,
        update: &ConflictUpdateCode,
        cx: &Context,
    ) -> Result<Option<Row>> {
        let transaction = cx.transaction();
        let gone = || SqlError::new(SqlState::DATA_CORRUPTED, "a unique key has an entry without a row");
        let row_key = match arbiter {
            UniqueKey::Primary => Bytes::copy_from_slice(key),
            UniqueKey::Index(_) => transaction.get_latest(self.access.unique_tree(arbiter), key)?.ok_or_else(gone)?,
        };
        let tree = self.access.tree();
        let locked = transaction.lock_row(tree, &row_key, RowLockMode::Exclusive, WaitPolicy::Block)?;
        if locked == LockedRow::WrittenByThisStatement {
            let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
            return Err(SqlError::new(SqlState::CARDINALITY_VIOLATION, message).with_hint(
                "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.",
            ));
        }
        let bytes = transaction.get_latest(tree, &row_key)?.ok_or_else(gone)?;
        let mut old = Row::new();
        self.access.codec().decode_all(&bytes, &mut old)?;
        let mut both = old.clone();
        both.extend_from_slice(proposed);
        if !passes(update.filter.as_ref(), &both, cx)? {
            return Ok(None);
        }
        let mut new = old.clone();
        apply_assignments(&update.assignments, &both, cx, &mut new)?;
        check_row(self.access.table(), &new, &self.checks, cx)?;
        cx.take_away(&self.referenced, &old, Some(&new))?;
        self.access.update(cx.write_context(), &row_key, &old, &new)?;
        cx.refer(&self.references, Some(&old), &new)?;
        Ok(Some(new))
    }
}
