//! DISTINCT and DISTINCT ON.

use std::sync::Arc;

use super::{Factory, Node, Operator, eval_into};
use crate::error::Result;
use crate::executor::partitions::{Deduplicator, Source};
use crate::executor::{Code, Context};
use crate::types::Row;

/// Each row once, where it is first met while memory lasts; the others follow.
pub(crate) struct DistinctCode {
    pub(crate) input: Node,
}

struct Distinct {
    source: Source,
    rows: Deduplicator,
}

impl Factory for DistinctCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(Distinct { source: Source::Input(self.input.open(cx)), rows: Deduplicator::new(cx) })
    }
}

impl Operator for Distinct {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        loop {
            while self.source.next(cx, out)? {
                cx.poll()?;
                if self.rows.admit(out, cx)? {
                    return Ok(true);
                }
            }
            match self.rows.next_part(cx)? {
                Some(part) => self.source = Source::Run(part),
                None => return Ok(false),
            }
        }
    }
}

/// The first row of each run of equal keys; the input is sorted by them.
pub(crate) struct DistinctOnCode {
    pub(crate) input: Node,
    pub(crate) on: Vec<Code>,
}

struct DistinctOn {
    code: Arc<DistinctOnCode>,
    input: Box<dyn Operator>,
    last: Option<Row>,
    key: Row,
}

impl Factory for DistinctOnCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(DistinctOn { input: self.input.open(cx), code: self, last: None, key: Row::new() })
    }
}

impl Operator for DistinctOn {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        while self.input.next(cx, out)? {
            cx.poll()?;
            eval_into(&self.code.on, out, cx, &mut self.key)?;
            if self.last.as_ref() != Some(&self.key) {
                self.last = Some(std::mem::take(&mut self.key));
                return Ok(true);
            }
        }
        Ok(false)
    }
}
