//! DELETE.

use std::sync::Arc;

use super::update::{Changes, key_of, lock_target};
use super::{Factory, Node, Operator};
use crate::error::Result;
use crate::executor::{Code, Context};
use crate::table::{ForeignKeyAccess, TableAccess};
use crate::types::Row;

pub(crate) struct DeleteCode {
    pub(crate) access: Arc<TableAccess>,
    pub(crate) input: Node,
    pub(crate) recheck: Option<Code>,
    pub(crate) referenced: Vec<Arc<ForeignKeyAccess>>,
    pub(crate) returning: Option<Vec<Code>>,
    pub(crate) main: bool,
}

struct Delete {
    code: Arc<DeleteCode>,
    input: Box<dyn Operator>,
    changes: Changes,
}

impl Factory for DeleteCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(Delete { input: self.input.open(cx), changes: Changes::new(self.main), code: self })
    }
}

impl Operator for Delete {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        if !self.changes.complete {
            self.run(cx)?;
            self.changes.complete = true;
        }
        self.changes.next(out)
    }
}

impl Delete {
    fn run(&mut self, cx: &Context) -> Result<()> {
        let code = &*self.code;
        let columns = code.access.table().columns.len();
        let mut row = Row::new();
        while self.input.next(cx, &mut row)? {
            cx.poll()?;
            let key = key_of(&row[columns])?;
            if lock_target(&code.access, &key, &mut row, code.recheck.as_ref(), cx)? {
                cx.take_away(&code.referenced, &row[..columns], None)?;
                code.access.delete(cx.write_context(), &key, &row[..columns])?;
                self.changes.add(code.returning.as_deref(), &row, cx)?;
            }
        }
        Ok(())
    }
}
