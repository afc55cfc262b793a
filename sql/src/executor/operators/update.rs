//! UPDATE, and what all data changes share.

use std::sync::Arc;

use super::{Factory, Node, Operator, eval_into, passes};
use crate::catalog::Table;
use crate::error::{Result, SqlError};
use crate::executor::rows::{RowBuffer, RowPosition};
use crate::executor::{Code, Context};
use crate::store::{LockedRow, RowLockMode, WaitPolicy};
use crate::table::{ForeignKeyAccess, TableAccess, check_not_null, check_violation};
use crate::types::{Datum, Row};

/// Rows changed so far, and what RETURNING gives for them. A data change runs to its end before its first
/// row is given, so that a client that reads only some rows has changed all of them.
pub(super) struct Changes {
    pub(super) complete: bool,
    main: bool,
    returned: Option<RowBuffer>,
    position: RowPosition,
}

impl Changes {
    pub(super) fn new(main: bool) -> Self {
        Self { complete: false, main, returned: None, position: RowPosition::default() }
    }

    /// Counts a changed row; `row` is what RETURNING reads.
    pub(super) fn add(&mut self, returning: Option<&[Code]>, row: &[Datum], cx: &Context) -> Result<()> {
        if self.main {
            cx.rows_affected.set(cx.rows_affected.get() + 1);
        }
        let Some(returning) = returning else { return Ok(()) };
        let mut out = Row::new();
        eval_into(returning, row, cx, &mut out)?;
        let buffer = &mut self.returned;
        let buffer = buffer.get_or_insert_with(|| RowBuffer::new(cx.exec().work_mem_bytes, cx.temporary_directory()));
        buffer.push(out)
    }

    /// The next row of RETURNING.
    pub(super) fn next(&mut self, out: &mut Row) -> Result<bool> {
        let Some(buffer) = &self.returned else { return Ok(false) };
        self.position.next(buffer, out)
    }
}

/// NOT NULL and CHECK constraints of a table row.
#[inline]
pub(super) fn check_row(table: &Table, row: &[Datum], checks: &[(String, Code)], cx: &Context) -> Result<()> {
    check_not_null(table, row, cx.eval())?;
    for (name, check) in checks {
        // NULL passes.
        if check.logic(row, cx)? == Some(false) {
            return Err(check_violation(table, name, row, cx.eval()));
        }
    }
    Ok(())
}

/// Puts new values into `new`, computed over `row`.
#[inline]
pub(super) fn apply_assignments(
    assignments: &[(usize, Code)],
    row: &[Datum],
    cx: &Context,
    new: &mut [Datum],
) -> Result<()> {
    for (column, code) in assignments {
        new[*column] = code.eval(row, cx)?;
    }
    Ok(())
}

/// Locks the table row of an input row of UPDATE or DELETE and brings its columns up to date. False: it is to
/// be left alone.
pub(super) fn lock_target(
    access: &TableAccess,
    key: &[u8],
    row: &mut [Datum],
    recheck: Option<&Code>,
    cx: &Context,
) -> Result<bool> {
    match cx.transaction().lock_row(access.tree(), key, RowLockMode::Exclusive, WaitPolicy::Block)? {
        LockedRow::Unchanged => Ok(true),
        LockedRow::Changed(bytes) => {
            let mut latest = Row::new();
            access.codec().decode_all(&bytes, &mut latest)?;
            for (old, new) in row.iter_mut().zip(latest) {
                *old = new;
            }
            passes(recheck, row, cx)
        }
        LockedRow::Deleted | LockedRow::WrittenByThisStatement | LockedRow::Skipped => Ok(false),
    }
}

/// The key column of an input row.
pub(super) fn key_of(datum: &Datum) -> Result<bytes::Bytes> {
    match datum {
        Datum::Bytea(key) => Ok(key.clone()),
        other => Err(SqlError::internal(format!("the key of a row to be changed is {other:?}"))),
    }
}

pub(crate) struct UpdateCode {
    pub(crate) access: Arc<TableAccess>,
    pub(crate) input: Node,
    pub(crate) recheck: Option<Code>,
    pub(crate) assignments: Vec<(usize, Code)>,
    pub(crate) checks: Vec<(String, Code)>,
    pub(crate) references: Vec<Arc<ForeignKeyAccess>>,
    pub(crate) referenced: Vec<Arc<ForeignKeyAccess>>,
    pub(crate) returning: Option<Vec<Code>>,
    pub(crate) main: bool,
}

struct Update {
    code: Arc<UpdateCode>,
    input: Box<dyn Operator>,
    changes: Changes,
}

impl Factory for UpdateCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(Update { input: self.input.open(cx), changes: Changes::new(self.main), code: self })
    }
}

impl Operator for Update {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        if !self.changes.complete {
            self.run(cx)?;
            self.changes.complete = true;
        }
        self.changes.next(out)
    }
}

impl Update {
    fn run(&mut self, cx: &Context) -> Result<()> {
        let code = &*self.code;
        let columns = code.access.table().columns.len();
        let (mut row, mut new) = (Row::new(), Row::new());
        while self.input.next(cx, &mut row)? {
            cx.poll()?;
            let key = key_of(&row[columns])?;
            if !lock_target(&code.access, &key, &mut row, code.recheck.as_ref(), cx)? {
                continue;
            }
            new.clear();
            new.extend_from_slice(&row[..columns]);
            apply_assignments(&code.assignments, &row, cx, &mut new)?;
            check_row(code.access.table(), &new, &code.checks, cx)?;
            cx.take_away(&code.referenced, &row[..columns], Some(&new))?;
            code.access.update(cx.write_context(), &key, &row[..columns], &new)?;
            cx.refer(&code.references, Some(&row[..columns]), &new)?;
            row[..columns].swap_with_slice(&mut new);
            self.changes.add(code.returning.as_deref(), &row, cx)?;
        }
        Ok(())
    }
}
