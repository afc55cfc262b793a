//! Rows that need no table: VALUES, constants, system views.

use std::sync::Arc;
use std::vec::IntoIter;

use super::{Factory, Operator, eval_into, passes};
use crate::catalog::{SystemContext, SystemView};
use crate::error::Result;
use crate::executor::{Code, Context};
use crate::types::Row;

/// VALUES.
pub(crate) struct ValuesCode {
    pub(crate) rows: Vec<Vec<Code>>,
}

struct Values {
    code: Arc<ValuesCode>,
    next: usize,
}

impl Factory for ValuesCode {
    fn open(self: Arc<Self>, _: &Context) -> Box<dyn Operator> {
        Box::new(Values { code: self, next: 0 })
    }
}

impl Operator for Values {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let Some(row) = self.code.rows.get(self.next) else { return Ok(false) };
        cx.poll()?;
        self.next += 1;
        eval_into(row, &[], cx, out)?;
        Ok(true)
    }
}

/// Rows computed when the plan was made.
pub(crate) struct ConstantCode {
    pub(crate) rows: Arc<Vec<Row>>,
}

struct Constant {
    rows: Arc<Vec<Row>>,
    next: usize,
}

impl Factory for ConstantCode {
    fn open(self: Arc<Self>, _: &Context) -> Box<dyn Operator> {
        Box::new(Constant { rows: Arc::clone(&self.rows), next: 0 })
    }
}

impl Operator for Constant {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let Some(row) = self.rows.get(self.next) else { return Ok(false) };
        cx.poll()?;
        self.next += 1;
        out.clone_from(row);
        Ok(true)
    }
}

/// A system view.
pub(crate) struct SystemScanCode {
    pub(crate) view: &'static SystemView,
    pub(crate) filter: Option<Code>,
}

struct SystemScan {
    code: Arc<SystemScanCode>,
    rows: Option<IntoIter<Row>>,
}

impl Factory for SystemScanCode {
    fn open(self: Arc<Self>, _: &Context) -> Box<dyn Operator> {
        Box::new(SystemScan { code: self, rows: None })
    }
}

impl Operator for SystemScan {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let rows = match &mut self.rows {
            Some(rows) => rows,
            empty => {
                let exec = cx.exec();
                let context = SystemContext { catalog: &exec.catalog, store: &*exec.store, eval: &exec.eval };
                empty.insert((self.code.view.rows)(&context)?.into_iter())
            }
        };
        for row in rows {
            cx.poll()?;
            if passes(self.code.filter.as_ref(), &row, cx)? {
                *out = row;
                return Ok(true);
            }
        }
        Ok(false)
    }
}
