//! UNION, INTERSECT and EXCEPT. UNION ALL is compiled to [`super::AppendCode`], UNION to that and
//! [`super::DistinctCode`].

use std::sync::Arc;

use super::{Factory, Node, Operator};
use crate::error::Result;
use crate::executor::hash::{RowSet, row_bytes};
use crate::executor::{Context, Reservation};
use crate::plan::SetOperation;
use crate::types::Row;

pub(crate) struct SetOperationCode {
    pub(crate) operation: SetOperation,
    pub(crate) all: bool,
    pub(crate) left: Node,
    pub(crate) right: Node,
}

struct SetOperator {
    code: Arc<SetOperationCode>,
    left: Option<Box<dyn Operator>>,
    right: Option<Box<dyn Operator>>,
    /// The right side's rows.
    rows: RowSet,
    /// How often each right row is still to be matched (or, without ALL, whether it was put out).
    counts: Vec<u64>,
    counted: bool,
    /// Rows of the left side put out by EXCEPT.
    given: RowSet,
    memory: Reservation,
}

impl Factory for SetOperationCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(SetOperator {
            left: Some(self.left.open(cx)),
            right: Some(self.right.open(cx)),
            rows: RowSet::default(),
            counts: Vec::new(),
            counted: false,
            given: RowSet::default(),
            memory: cx.reservation(),
            code: self,
        })
    }
}

impl SetOperator {
    fn count_right(&mut self, cx: &Context) -> Result<()> {
        self.counted = true;
        let Some(mut right) = self.right.take() else { return Ok(()) };
        let mut row = Row::new();
        while right.next(cx, &mut row)? {
            cx.poll()?;
            let (number, added) = self.rows.insert(&row);
            if added {
                self.memory.grow(row_bytes(&row))?;
                self.counts.push(0);
            }
            self.counts[number] += 1;
        }
        Ok(())
    }
}

impl Operator for SetOperator {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let (operation, all) = (self.code.operation, self.code.all);
        if !self.counted {
            self.count_right(cx)?;
        }
        let Some(left) = &mut self.left else { return Ok(false) };
        while left.next(cx, out)? {
            cx.poll()?;
            let found = self.rows.find(out);
            let wanted = match (operation, found) {
                (SetOperation::Intersect, None) => false,
                (SetOperation::Intersect, Some(number)) => {
                    let left = self.counts[number];
                    self.counts[number] = if all { left.saturating_sub(1) } else { 0 };
                    left > 0
                }
                (_, Some(number)) if all => {
                    let left = self.counts[number];
                    self.counts[number] = left.saturating_sub(1);
                    left == 0
                }
                (_, Some(_)) => false,
                (_, None) if all => true,
                (_, None) => {
                    let (_, added) = self.given.insert(out);
                    if added {
                        self.memory.grow(row_bytes(out))?;
                    }
                    added
                }
            };
            if wanted {
                return Ok(true);
            }
        }
        self.left = None;
        Ok(false)
    }
}
