//! Nested-loop joins: any condition, any kind.

use std::sync::Arc;

use super::{Factory, Node, Operator, passes};
use crate::error::Result;
use crate::executor::rows::{RowBuffer, RowPosition};
use crate::executor::{Code, Context};
use crate::plan::JoinKind;
use crate::types::{Datum, Row};

pub(crate) struct NestedLoopCode {
    pub(crate) kind: JoinKind,
    pub(crate) left: Node,
    pub(crate) right: Node,
    pub(crate) on: Option<Code>,
    pub(crate) lateral: bool,
    pub(crate) left_width: usize,
    pub(crate) right_width: usize,
}

struct NestedLoop {
    code: Arc<NestedLoopCode>,
    left: Box<dyn Operator>,
    left_row: Row,
    /// A left row is being joined.
    active: bool,
    matched: bool,
    right_row: Row,
    /// Lateral: the right side as it runs for this left row.
    right: Option<Box<dyn Operator>>,
    /// Otherwise: the right side's rows, the place in them, and for RIGHT and FULL which have found a partner.
    buffer: Option<RowBuffer>,
    position: RowPosition,
    number: usize,
    right_matched: Vec<bool>,
    /// Left rows are at their end; unmatched right rows follow from here.
    tail: Option<RowPosition>,
}

impl Factory for NestedLoopCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(NestedLoop {
            left: self.left.open(cx),
            left_row: Row::new(),
            active: false,
            matched: false,
            right_row: Row::new(),
            right: None,
            buffer: None,
            position: RowPosition::default(),
            number: 0,
            right_matched: Vec::new(),
            tail: None,
            code: self,
        })
    }
}

impl NestedLoop {
    fn fill_buffer(&mut self, cx: &Context) -> Result<()> {
        let mut buffer = RowBuffer::new(cx.exec().work_mem_bytes, cx.temporary_directory());
        let mut right = self.code.right.open(cx);
        while right.next(cx, &mut self.right_row)? {
            buffer.push(std::mem::take(&mut self.right_row))?;
        }
        if matches!(self.code.kind, JoinKind::Right | JoinKind::Full) {
            self.right_matched = vec![false; buffer.len()];
        }
        self.buffer = Some(buffer);
        Ok(())
    }

    /// Takes the next left row; false at their end.
    fn next_left(&mut self, cx: &Context) -> Result<bool> {
        if !self.left.next(cx, &mut self.left_row)? {
            return Ok(false);
        }
        self.active = true;
        self.matched = false;
        if self.code.lateral {
            // Opened with the left row in place: an operator may evaluate when it is made.
            cx.push_outer(std::mem::take(&mut self.left_row));
            self.right = Some(self.code.right.open(cx));
            self.left_row = cx.pop_outer();
        } else {
            self.position = RowPosition::default();
            self.number = 0;
        }
        Ok(true)
    }

    /// Takes the next right row for the left row; false at their end.
    fn next_right(&mut self, cx: &Context) -> Result<bool> {
        if let Some(right) = &mut self.right {
            cx.push_outer(std::mem::take(&mut self.left_row));
            let more = right.next(cx, &mut self.right_row);
            self.left_row = cx.pop_outer();
            return more;
        }
        let buffer = self.buffer.as_ref().expect("the right side has been read");
        self.number += 1;
        self.position.next(buffer, &mut self.right_row)
    }

    fn next_unmatched_right(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let (Some(position), Some(buffer)) = (&mut self.tail, &self.buffer) else { return Ok(false) };
        while position.next(buffer, &mut self.right_row)? {
            cx.poll()?;
            self.number += 1;
            if !self.right_matched[self.number - 1] {
                out.clear();
                out.resize(self.code.left_width, Datum::Null);
                out.append(&mut self.right_row);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Operator for NestedLoop {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let kind = self.code.kind;
        if self.tail.is_some() {
            return self.next_unmatched_right(cx, out);
        }
        if self.buffer.is_none() && !self.code.lateral {
            self.fill_buffer(cx)?;
        }
        loop {
            if !self.active && !self.next_left(cx)? {
                if !matches!(kind, JoinKind::Right | JoinKind::Full) {
                    return Ok(false);
                }
                self.tail = Some(RowPosition::default());
                self.number = 0;
                return self.next_unmatched_right(cx, out);
            }
            while self.next_right(cx)? {
                cx.poll()?;
                out.clear();
                out.extend_from_slice(&self.left_row);
                out.append(&mut self.right_row);
                if !passes(self.code.on.as_ref(), out, cx)? {
                    continue;
                }
                self.matched = true;
                match kind {
                    JoinKind::Semi => {
                        self.active = false;
                        out.truncate(self.code.left_width);
                        return Ok(true);
                    }
                    JoinKind::Anti => break,
                    JoinKind::Right | JoinKind::Full => {
                        self.right_matched[self.number - 1] = true;
                        return Ok(true);
                    }
                    JoinKind::Inner | JoinKind::Left => return Ok(true),
                }
            }
            self.active = false;
            if !self.matched && matches!(kind, JoinKind::Left | JoinKind::Full | JoinKind::Anti) {
                out.clear();
                out.append(&mut self.left_row);
                if kind != JoinKind::Anti {
                    out.resize(self.code.left_width + self.code.right_width, Datum::Null);
                }
                return Ok(true);
            }
        }
    }
}
