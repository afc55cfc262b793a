//! WITH: each query runs as far as somebody reads, its rows are kept for all its readers. A data-modifying
//! one runs to its end first.

use std::sync::Arc;

use super::{Factory, Node, Operator};
use crate::error::{Result, SqlError};
use crate::executor::hash::{RowSet, row_bytes};
use crate::executor::rows::{RowBuffer, RowPosition};
use crate::executor::{Context, Reservation};
use crate::types::Row;

/// One compiled query of a WITH.
pub(crate) struct CteCode {
    pub(crate) slot: usize,
    pub(crate) node: Node,
    /// The recursive term, and whether UNION ALL.
    pub(crate) recursive: Option<(Node, bool)>,
    pub(crate) modifies: bool,
}

pub(crate) struct WithCode {
    pub(crate) ctes: Vec<Arc<CteCode>>,
    pub(crate) input: Node,
}

/// What an execution keeps of one query of a WITH.
#[derive(Default)]
pub(crate) struct CteState {
    producer: Option<Box<Producer>>,
    rows: Option<RowBuffer>,
    /// What the recursive term reads in this round.
    working: Arc<Vec<Row>>,
    /// Enclosing rows where the WITH stands; readers may be deeper in.
    depth: usize,
}

/// Computes the rows of a query, one at a time.
struct Producer {
    code: Arc<CteCode>,
    operator: Box<dyn Operator>,
    /// Rows of this round, which the next round works on.
    fresh: Vec<Row>,
    /// UNION without ALL: rows put out.
    seen: RowSet,
    memory: Reservation,
}

impl Producer {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        loop {
            cx.poll()?;
            if self.operator.next(cx, out)? {
                let Some((_, all)) = &self.code.recursive else { return Ok(true) };
                if !all {
                    if !self.seen.insert(out).1 {
                        continue;
                    }
                    self.memory.grow(row_bytes(out))?;
                }
                self.fresh.push(out.clone());
                return Ok(true);
            }
            let Some((term, _)) = &self.code.recursive else { return Ok(false) };
            if self.fresh.is_empty() {
                return Ok(false);
            }
            cx.cte(self.code.slot).borrow_mut().working = Arc::new(std::mem::take(&mut self.fresh));
            self.operator = term.open(cx);
        }
    }
}

struct With {
    code: Arc<WithCode>,
    input: Option<Box<dyn Operator>>,
}

impl Factory for WithCode {
    fn open(self: Arc<Self>, _: &Context) -> Box<dyn Operator> {
        Box::new(With { code: self, input: None })
    }
}

impl Operator for With {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        if self.input.is_none() {
            let depth = cx.outer_depth();
            for cte in &self.code.ctes {
                let operator = cte.node.open(cx);
                let producer = Producer {
                    code: Arc::clone(cte),
                    operator,
                    fresh: Vec::new(),
                    seen: RowSet::default(),
                    memory: cx.reservation(),
                };
                *cx.cte(cte.slot).borrow_mut() = CteState {
                    producer: Some(Box::new(producer)),
                    rows: Some(RowBuffer::new(cx.exec().work_mem_bytes, cx.temporary_directory())),
                    working: Arc::default(),
                    depth,
                };
            }
            for cte in self.code.ctes.iter().filter(|cte| cte.modifies) {
                while produce(cte.slot, cx)? {}
            }
            self.input = Some(self.code.input.open(cx));
        }
        self.input.as_mut().expect("opened above").next(cx, out)
    }
}

/// Computes one more row of a query; false at its end.
fn produce(slot: usize, cx: &Context) -> Result<bool> {
    let (producer, depth) = {
        let mut state = cx.cte(slot).borrow_mut();
        (state.producer.take(), state.depth)
    };
    let Some(mut producer) = producer else { return Ok(false) };
    let mut row = Row::new();
    let more = cx.at_depth(depth, || producer.next(cx, &mut row))?;
    if more {
        let mut state = cx.cte(slot).borrow_mut();
        let rows = state.rows.as_mut().ok_or_else(|| SqlError::internal("a CTE is read outside its WITH"))?;
        rows.push(row)?;
        state.producer = Some(producer);
    }
    Ok(more)
}

/// Reads the rows of a query of a WITH.
pub(crate) struct CteScanCode {
    pub(crate) slot: usize,
}

struct CteScan {
    slot: usize,
    position: RowPosition,
}

impl Factory for CteScanCode {
    fn open(self: Arc<Self>, _: &Context) -> Box<dyn Operator> {
        Box::new(CteScan { slot: self.slot, position: RowPosition::default() })
    }
}

impl Operator for CteScan {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        loop {
            cx.poll()?;
            {
                let state = cx.cte(self.slot).borrow();
                let rows = state.rows.as_ref().ok_or_else(|| SqlError::internal("a CTE is read outside its WITH"))?;
                if self.position.next(rows, out)? {
                    return Ok(true);
                }
            }
            if !produce(self.slot, cx)? {
                return Ok(false);
            }
        }
    }
}

/// Reads the working table of a recursive query.
pub(crate) struct WorkTableCode {
    pub(crate) slot: usize,
}

struct WorkTable {
    slot: usize,
    rows: Option<Arc<Vec<Row>>>,
    next: usize,
}

impl Factory for WorkTableCode {
    fn open(self: Arc<Self>, _: &Context) -> Box<dyn Operator> {
        Box::new(WorkTable { slot: self.slot, rows: None, next: 0 })
    }
}

impl Operator for WorkTable {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        cx.poll()?;
        let rows = self.rows.get_or_insert_with(|| Arc::clone(&cx.cte(self.slot).borrow().working));
        let Some(row) = rows.get(self.next) else { return Ok(false) };
        self.next += 1;
        out.clone_from(row);
        Ok(true)
    }
}
