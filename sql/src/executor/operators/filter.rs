//! WHERE and select lists.

use std::sync::Arc;

use super::{Factory, Node, Operator, eval_into};
use crate::error::Result;
use crate::executor::{Code, Context};
use crate::types::Row;

/// Keeps the rows for which the predicate is true.
pub(crate) struct FilterCode {
    pub(crate) input: Node,
    pub(crate) predicate: Code,
}

struct Filter {
    code: Arc<FilterCode>,
    input: Box<dyn Operator>,
}

impl Factory for FilterCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(Filter { input: self.input.open(cx), code: self })
    }
}

impl Operator for Filter {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        while self.input.next(cx, out)? {
            if self.code.predicate.test(out, cx)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Computes expressions over each row.
pub(crate) struct ProjectCode {
    pub(crate) input: Node,
    pub(crate) exprs: Vec<Code>,
    /// Expression `i` is column `i`, for all columns of the input: rows pass as they are.
    pub(crate) identity: bool,
}

struct Project {
    code: Arc<ProjectCode>,
    input: Box<dyn Operator>,
    row: Row,
}

impl Factory for ProjectCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        let input = self.input.open(cx);
        if self.identity { input } else { Box::new(Project { input, code: self, row: Row::new() }) }
    }
}

impl Operator for Project {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        if !self.input.next(cx, &mut self.row)? {
            return Ok(false);
        }
        eval_into(&self.code.exprs, &self.row, cx, out)?;
        Ok(true)
    }
}
