//! Set-returning functions in a select list: they advance together until the longest has ended.

use std::sync::Arc;

use super::function_scan::{FunctionRows, start};
use super::{Factory, Node, Operator};
use crate::error::Result;
use crate::executor::{Code, Context};
use crate::functions::TableFunction;
use crate::types::{Datum, Row};

pub(crate) enum ProjectSetItemCode {
    Scalar(Code),
    Set { function: &'static TableFunction, args: Vec<Code> },
}

pub(crate) struct ProjectSetCode {
    pub(crate) input: Node,
    pub(crate) items: Vec<ProjectSetItemCode>,
}

struct ProjectSet {
    code: Arc<ProjectSetCode>,
    input: Box<dyn Operator>,
    row: Row,
    /// The running functions of this input row; `None` for scalars and sets that have ended.
    sets: Vec<Option<FunctionRows>>,
    active: bool,
}

impl Factory for ProjectSetCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        let input = self.input.open(cx);
        Box::new(ProjectSet { input, code: self, row: Row::new(), sets: Vec::new(), active: false })
    }
}

impl Operator for ProjectSet {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        loop {
            if !self.active {
                if !self.input.next(cx, &mut self.row)? {
                    return Ok(false);
                }
                self.sets.clear();
                for item in &self.code.items {
                    self.sets.push(match item {
                        ProjectSetItemCode::Scalar(_) => None,
                        ProjectSetItemCode::Set { function, args } => Some(start(function, args, &self.row, cx)?),
                    });
                }
                self.active = true;
            }
            cx.poll()?;
            out.clear();
            let mut any = false;
            for (item, set) in self.code.items.iter().zip(&mut self.sets) {
                let value = match (item, &mut *set) {
                    (ProjectSetItemCode::Scalar(code), _) => code.eval(&self.row, cx)?,
                    (ProjectSetItemCode::Set { .. }, None) => Datum::Null,
                    (ProjectSetItemCode::Set { .. }, Some(rows)) => match rows.next().transpose()? {
                        Some(row) => {
                            any = true;
                            element(row)
                        }
                        None => {
                            *set = None;
                            Datum::Null
                        }
                    },
                };
                out.push(value);
            }
            if any {
                return Ok(true);
            }
            self.active = false;
        }
    }
}

/// A function of one column gives its value, others a record.
fn element(mut row: Row) -> Datum {
    if row.len() == 1 { row.pop().unwrap_or_default() } else { Datum::Record(row.into()) }
}
