//! The row engine: runs any [`Plan`] a row at a time.
//!
//! ```text
//! Plan ──compile──▶ Prepared (immutable, shared, cached with the plan)
//!                      │ open: one operator for each node, nothing evaluated yet
//!                      ▼
//!                   Execution ──next──▶ row, row, row, end
//! ```
//!
//! - Compiling turns expressions into `expr::Code` and tables into [`crate::table::TableAccess`] once; opening
//!   costs one allocation a node, so that a prepared point query pays for little but the lookup.
//! - An operator fills a row of its caller's: no allocation per row on its own account.
//! - Expressions read the operator's input row. Rows of enclosing queries lie on a stack in `Context`: a
//!   subquery or the right side of a lateral join runs with the row pushed.
//! - Sorts and materialised results spill to temporary files beyond `work_mem`. Hash tables (joins,
//!   aggregates, DISTINCT, set operations, IN) cannot; beyond what the server has for all of them
//!   ([`HashMemory`]) they end their statement with 53200.
//! - Every loop over rows polls the interrupt flag, through the cursor loops of the scans and in each loop
//!   that runs over rows in memory.

mod actuals;
mod compile;
mod context;
mod expr;
mod hash;
mod memory;
mod operators;
mod partitions;
mod references;
mod rows;

#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;
use std::sync::Arc;

pub use actuals::{Actuals, NodeActuals};
pub(crate) use context::Context;
pub(crate) use expr::Code;
pub use memory::HashMemory;
pub(crate) use memory::Reservation;
use operators::{Node, Operator};
pub use references::{TakenKey, TakenKeys};
use rows::{RowBuffer, RowPosition};

use crate::catalog::Catalog;
use crate::error::Result;
use crate::functions::EvalContext;
use crate::plan::Plan;
use crate::store::{Store, Transaction};
use crate::table::RowIds;
use crate::types::{Datum, Row};

/// What an execution reads and writes through.
#[derive(Clone)]
pub struct ExecContext {
    /// The transaction, with its statement begun.
    pub transaction: Arc<dyn Transaction>,
    /// The engine.
    pub store: Arc<dyn Store>,
    /// The catalog that the plan was made from.
    pub catalog: Arc<Catalog>,
    /// Values of the statement's parameters.
    pub params: Arc<[Datum]>,
    /// What functions may ask for.
    pub eval: Arc<EvalContext>,
    /// Row ids of the store.
    pub row_ids: Arc<RowIds>,
    /// Memory of one sort or materialised result before it goes to a temporary file, bytes.
    pub work_mem_bytes: usize,
    /// What hash tables may take.
    pub hash_memory: Arc<HashMemory>,
    /// Where temporary files are made.
    pub temporary_directory: Arc<Path>,
}

/// A compiled plan. Executions share it.
pub struct Prepared {
    plan: Arc<Plan>,
    root: Node,
    shape: context::Shape,
    modifies: bool,
    foreign_keys: bool,
}

impl Prepared {
    /// Compiles a plan.
    pub fn new(plan: Arc<Plan>) -> Result<Self> {
        let (root, shape) = compile::compile(&plan)?;
        let modifies = modifies(&plan);
        let mut foreign_keys = false;
        plan.for_each_node(&mut |node| {
            let (references, referenced) = node.foreign_keys();
            foreign_keys |= !references.is_empty() || !referenced.is_empty();
        });
        Ok(Self { plan, root, shape, modifies, foreign_keys })
    }

    /// Whether foreign keys have to be kept: the execution is then to be run with [`Execution::run_out`].
    pub fn has_foreign_keys(&self) -> bool {
        self.foreign_keys
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }
}

/// Whether the statement itself is an INSERT, UPDATE or DELETE.
fn modifies(plan: &Plan) -> bool {
    match &plan.node {
        crate::plan::Node::With { input, .. } => modifies(input),
        node => {
            matches!(node, crate::plan::Node::Insert(_) | crate::plan::Node::Update(_) | crate::plan::Node::Delete(_))
        }
    }
}

/// One run of a plan.
pub struct Execution {
    context: Context,
    root: Box<dyn Operator>,
    modifies: bool,
    _prepared: Arc<Prepared>,
}

impl Execution {
    /// Prepares to run; nothing is read or evaluated before the first [`Execution::next`].
    pub fn open(prepared: Arc<Prepared>, context: ExecContext) -> Result<Self> {
        Self::open_with(prepared, context, false)
    }

    fn open_with(prepared: Arc<Prepared>, context: ExecContext, instrumented: bool) -> Result<Self> {
        let context = Context::new(context, &prepared.shape, instrumented);
        let root = prepared.root.open(&context);
        Ok(Self { context, root, modifies: prepared.modifies, _prepared: prepared })
    }

    /// Puts the next row into `row` (whatever it held is replaced); false at the end. INSERT, UPDATE and
    /// DELETE without RETURNING do all their work in the first call, which gives false. After an error the
    /// execution must be dropped and its statement discarded.
    pub fn next(&mut self, row: &mut Row) -> Result<bool> {
        if self.root.next(&self.context, row)? {
            return Ok(true);
        }
        self.context.finish_references()?;
        Ok(false)
    }

    /// Runs to the end and keeps the rows: whatever the client reads of them, all work has been done, foreign keys have
    /// been looked up, and referenced keys taken away are known.
    pub fn run_out(mut self) -> Result<Finished> {
        let exec = self.context.exec();
        let mut rows = RowBuffer::new(exec.work_mem_bytes, &exec.temporary_directory);
        let mut row = Row::new();
        while self.next(&mut row)? {
            rows.push(std::mem::take(&mut row))?;
        }
        let taken = self.context.take_taken_keys();
        Ok(Finished { rows, position: RowPosition::default(), rows_affected: self.rows_affected(), taken })
    }

    /// Rows inserted, updated or deleted by the statement's main operator; `None` when that changes nothing.
    pub fn rows_affected(&self) -> Option<u64> {
        self.modifies.then(|| self.context.rows_affected.get())
    }

    /// Runs to the end, dropping all rows; answers their number, or that of the rows changed.
    pub fn run(&mut self) -> Result<u64> {
        let mut row = Row::new();
        let mut rows = 0;
        while self.next(&mut row)? {
            rows += 1;
        }
        Ok(self.rows_affected().unwrap_or(rows))
    }
}

/// A statement that has done its work, with its rows.
pub struct Finished {
    rows: RowBuffer,
    position: RowPosition,
    rows_affected: Option<u64>,
    taken: Option<TakenKeys>,
}

impl Finished {
    /// As [`Execution::next`].
    pub fn next(&mut self, row: &mut Row) -> Result<bool> {
        self.position.next(&self.rows, row)
    }

    /// As [`Execution::rows_affected`].
    pub fn rows_affected(&self) -> Option<u64> {
        self.rows_affected
    }

    /// The referenced keys that it took away; none the second time.
    pub fn take_taken_keys(&mut self) -> Option<TakenKeys> {
        self.taken.take()
    }
}

/// Compiles expressions that stand outside any plan (defaults, checks), with a context to evaluate them in.
pub(crate) fn compile_scalars(exprs: &[crate::plan::Expr], context: ExecContext) -> Result<(Vec<Code>, Context)> {
    let (codes, shape) = compile::compile_exprs(exprs)?;
    Ok((codes, Context::new(context, &shape, false)))
}

/// Runs a plan to its end with every operator's rows counted and time measured, for EXPLAIN ANALYZE.
/// Referenced keys that it took away come with them.
pub fn run_instrumented(prepared: Arc<Prepared>, context: ExecContext) -> Result<(Actuals, Option<TakenKeys>)> {
    let mut execution = Execution::open_with(prepared, context, true)?;
    execution.run()?;
    let Execution { context, root, .. } = execution;
    drop(root);
    let taken = context.take_taken_keys();
    Ok((context.into_actuals(), taken))
}
