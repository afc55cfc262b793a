//! [`Context`]: what is alive during one execution, beside the operators.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use super::ExecContext;
use super::actuals::{Actuals, NodeActuals};
use super::expr::SubqueryState;
use super::memory::Reservation;
use super::operators::CteState;
use super::references::References;
use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;
use crate::store::Transaction;
use crate::table::WriteContext;
use crate::types::{Datum, Row};

/// How many places of each kind a compiled plan has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    pub(super) subqueries: usize,
    pub(super) ctes: usize,
}

/// State of one execution. Operators share it by reference; what changes sits in cells.
pub(crate) struct Context {
    exec: ExecContext,
    /// Rows of enclosing queries, innermost last.
    outer: RefCell<Vec<Row>>,
    subqueries: Vec<RefCell<SubqueryState>>,
    ctes: Vec<RefCell<CteState>>,
    /// Memory held until the execution ends.
    charged: RefCell<Reservation>,
    /// Rows that the statement's main INSERT, UPDATE or DELETE has changed.
    pub(super) rows_affected: Cell<u64>,
    measured: Option<RefCell<HashMap<usize, NodeActuals>>>,
    pub(super) references: References,
}

impl Context {
    pub(super) fn new(exec: ExecContext, shape: &Shape, instrumented: bool) -> Self {
        Self {
            charged: RefCell::new(Reservation::new(&exec.hash_memory)),
            exec,
            outer: RefCell::new(Vec::new()),
            subqueries: (0..shape.subqueries).map(|_| RefCell::default()).collect(),
            ctes: (0..shape.ctes).map(|_| RefCell::default()).collect(),
            rows_affected: Cell::new(0),
            measured: instrumented.then(RefCell::default),
            references: References::default(),
        }
    }

    pub(crate) fn exec(&self) -> &ExecContext {
        &self.exec
    }

    #[inline]
    pub(crate) fn eval(&self) -> &EvalContext {
        &self.exec.eval
    }

    #[inline]
    pub(crate) fn transaction(&self) -> &dyn Transaction {
        &*self.exec.transaction
    }

    pub(crate) fn write_context(&self) -> WriteContext<'_> {
        WriteContext {
            transaction: &*self.exec.transaction,
            store: &*self.exec.store,
            row_ids: &self.exec.row_ids,
            eval: &self.exec.eval,
        }
    }

    /// The error to stop with, if the statement must stop.
    #[inline]
    pub(crate) fn poll(&self) -> Result<()> {
        self.exec.transaction.interrupt().check()
    }

    #[inline]
    pub(crate) fn parameter(&self, index: usize) -> Result<&Datum> {
        self.exec.params.get(index).ok_or_else(|| {
            SqlError::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter ${}", index + 1))
        })
    }

    /// Makes `row` the innermost enclosing row. Every push has its [`Context::pop_outer`].
    pub(crate) fn push_outer(&self, row: Row) {
        self.outer.borrow_mut().push(row);
    }

    pub(crate) fn pop_outer(&self) -> Row {
        self.outer.borrow_mut().pop().expect("every pop has its push")
    }

    /// Column `index` of the enclosing row `depth` levels out (1 is the innermost).
    pub(crate) fn outer(&self, depth: usize, index: usize) -> Datum {
        let outer = self.outer.borrow();
        let row = &outer[outer.len().checked_sub(depth).expect("an outer column has its enclosing row")];
        row[index].clone()
    }

    pub(crate) fn outer_depth(&self) -> usize {
        self.outer.borrow().len()
    }

    /// Runs `work` with only the `depth` outermost enclosing rows in place.
    pub(crate) fn at_depth<T>(&self, depth: usize, work: impl FnOnce() -> T) -> T {
        let mut inner = self.outer.borrow_mut().split_off(depth);
        let result = work();
        self.outer.borrow_mut().append(&mut inner);
        result
    }

    pub(crate) fn subquery(&self, slot: usize) -> &RefCell<SubqueryState> {
        &self.subqueries[slot]
    }

    pub(crate) fn cte(&self, slot: usize) -> &RefCell<CteState> {
        &self.ctes[slot]
    }

    /// An account for the memory of one hash table, which closes with it.
    pub(crate) fn reservation(&self) -> Reservation {
        Reservation::new(&self.exec.hash_memory)
    }

    /// Memory for an operator that sets rows aside when there is no more: it always gets `work_mem`.
    pub(super) fn spilling_reservation(&self) -> Reservation {
        Reservation::with_floor(&self.exec.hash_memory, self.exec.work_mem_bytes)
    }

    /// Accounts for memory held until the execution ends; 53200 beyond the limit.
    pub(crate) fn charge(&self, bytes: usize) -> Result<()> {
        self.charged.borrow_mut().grow(bytes)
    }

    pub(super) fn is_measured(&self) -> bool {
        self.measured.is_some()
    }

    pub(super) fn measure(&self, identity: usize, change: impl FnOnce(&mut NodeActuals)) {
        if let Some(nodes) = &self.measured {
            change(nodes.borrow_mut().entry(identity).or_default());
        }
    }

    pub(super) fn into_actuals(self) -> Actuals {
        Actuals { nodes: self.measured.map(RefCell::into_inner).unwrap_or_default() }
    }

    /// The directory of temporary files.
    pub(crate) fn temporary_directory(&self) -> &Arc<std::path::Path> {
        &self.exec.temporary_directory
    }
}
