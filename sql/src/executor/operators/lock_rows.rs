//! SELECT … FOR UPDATE and FOR SHARE.

use std::sync::Arc;

use super::update::key_of;
use super::{Factory, Node, Operator, passes};
use crate::error::{Result, SqlError, SqlState};
use crate::executor::{Code, Context};
use crate::store::{LockedRow, RowLockMode, WaitPolicy};
use crate::table::{ForeignKeyAccess, TableAccess};
use crate::types::{Datum, Row};

pub(crate) struct LockTargetCode {
    pub(crate) access: Arc<TableAccess>,
    pub(crate) columns_at: usize,
    pub(crate) key_at: usize,
    pub(crate) mode: RowLockMode,
    /// Positions of the columns that are not dropped.
    pub(crate) columns: Vec<usize>,
    pub(crate) referenced: Vec<Arc<ForeignKeyAccess>>,
}

pub(crate) struct LockRowsCode {
    pub(crate) input: Node,
    pub(crate) targets: Vec<LockTargetCode>,
    pub(crate) recheck: Option<Code>,
    pub(crate) wait: WaitPolicy,
}

struct LockRows {
    code: Arc<LockRowsCode>,
    input: Box<dyn Operator>,
}

impl Factory for LockRowsCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(LockRows { input: self.input.open(cx), code: self })
    }
}

impl LockRowsCode {
    /// Locks the rows behind an input row; false when it is to be left out.
    fn lock(&self, row: &mut Row, cx: &Context) -> Result<bool> {
        let mut changed = false;
        for target in &self.targets {
            if row[target.key_at].is_null() {
                // The nullable side of an outer join.
                continue;
            }
            let key = key_of(&row[target.key_at])?;
            let locked = cx.transaction().lock_row(target.access.tree(), &key, target.mode, self.wait);
            match locked.map_err(|error| self.name_relation(error, target))? {
                LockedRow::Unchanged | LockedRow::WrittenByThisStatement => {}
                LockedRow::Deleted | LockedRow::Skipped => return Ok(false),
                LockedRow::Changed(bytes) => {
                    let mut latest = Row::with_capacity(target.columns.len());
                    target.access.codec().decode(&bytes, &target.columns, &mut latest)?;
                    for (old, new) in row[target.columns_at..].iter_mut().zip(latest) {
                        *old = new;
                    }
                    changed = true;
                }
            }
            if !target.referenced.is_empty() && !self.lock_keys(target, row, cx)? {
                return Ok(false);
            }
        }
        if changed { passes(self.recheck.as_ref(), row, cx) } else { Ok(true) }
    }

    /// Keeps new references to a row away, as its deletion would.
    fn lock_keys(&self, target: &LockTargetCode, row: &[Datum], cx: &Context) -> Result<bool> {
        let mut whole = vec![Datum::Null; target.access.table().columns.len()];
        for (column, value) in target.columns.iter().zip(&row[target.columns_at..]) {
            whole[*column] = value.clone();
        }
        for constraint in &target.referenced {
            let Some(key) = constraint.key_of_parent(&whole)? else { continue };
            let locked = constraint.lock(cx.write_context(), &key, RowLockMode::Exclusive, self.wait);
            if !locked.map_err(|error| self.name_relation(error, target))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    #[cold]
    fn name_relation(&self, error: SqlError, target: &LockTargetCode) -> SqlError {
        if self.wait != WaitPolicy::Error || error.state() != SqlState::LOCK_NOT_AVAILABLE {
            return error;
        }
        let message = format!("could not obtain lock on row in relation \"{}\"", target.access.table().name);
        SqlError::new(SqlState::LOCK_NOT_AVAILABLE, message)
    }
}

impl Operator for LockRows {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        while self.input.next(cx, out)? {
            cx.poll()?;
            if self.code.lock(out, cx)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
