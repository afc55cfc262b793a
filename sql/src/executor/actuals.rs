//! What operators really did, for EXPLAIN ANALYZE.

use std::collections::HashMap;

use super::context::Context;
use super::operators::Operator;
use crate::error::Result;
use crate::plan::Plan;
use crate::types::Row;

/// Counters of one node, over all its loops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeActuals {
    /// Rows put out.
    pub rows: u64,
    /// How often the operator was started.
    pub loops: u64,
    /// Time to the first row of each loop, microseconds.
    pub startup_us: u64,
    /// Time in all calls, the node's inputs included, microseconds.
    pub total_us: u64,
}

/// Counters of all nodes of a plan.
#[derive(Debug, Default)]
pub struct Actuals {
    pub(super) nodes: HashMap<usize, NodeActuals>,
}

impl Actuals {
    /// A node's counters; none when it was never run. `plan` must be the very node that was compiled.
    pub fn of(&self, plan: &Plan) -> Option<NodeActuals> {
        self.nodes.get(&identity(plan)).copied()
    }
}

/// Names a node by its place in memory, which does not change while its plan lives.
pub(super) fn identity(plan: &Plan) -> usize {
    std::ptr::from_ref(plan) as usize
}

/// An operator with its counters.
pub(super) struct Measured {
    inner: Box<dyn Operator>,
    identity: usize,
    begun: bool,
    got_row: bool,
}

impl Measured {
    pub(super) fn new(inner: Box<dyn Operator>, identity: usize) -> Self {
        Self { inner, identity, begun: false, got_row: false }
    }
}

impl Operator for Measured {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let started_us = (cx.eval().clock)();
        let result = self.inner.next(cx, out);
        let elapsed_us = (cx.eval().clock)().saturating_sub(started_us).max(0) as u64;
        cx.measure(self.identity, |node| {
            node.loops += u64::from(!self.begun);
            node.total_us += elapsed_us;
            if !self.got_row {
                node.startup_us += elapsed_us;
            }
            node.rows += u64::from(matches!(result, Ok(true)));
        });
        self.begun = true;
        self.got_row |= matches!(result, Ok(true));
        result
    }
}
