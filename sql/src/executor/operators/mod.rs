//! The operators. Each file holds one: its compiled form (`…Code`, shared by executions) and its running one.

mod aggregate;
mod append;
mod cte;
mod delete;
mod distinct;
mod filter;
mod function_scan;
mod hash_join;
mod index_join;
mod index_scan;
mod insert;
mod limit;
mod lock_rows;
mod nested_loop;
mod project_set;
mod scan;
mod set_operation;
mod sort;
mod update;
mod values;
mod window;

use std::sync::Arc;

pub(super) use aggregate::{AggregateCode, AggregateFunctionCode};
pub(super) use append::AppendCode;
pub(super) use cte::{CteCode, CteScanCode, CteState, WithCode, WorkTableCode};
pub(super) use delete::DeleteCode;
pub(super) use distinct::{DistinctCode, DistinctOnCode};
pub(super) use filter::{FilterCode, ProjectCode};
pub(super) use function_scan::FunctionScanCode;
pub(super) use hash_join::HashJoinCode;
pub(super) use index_join::IndexJoinCode;
pub(super) use index_scan::{IndexScanCode, RangeCode, Searched};
pub(super) use insert::{ConflictAction, ConflictUpdateCode, InsertCode};
pub(super) use limit::LimitCode;
pub(super) use lock_rows::{LockRowsCode, LockTargetCode};
pub(super) use nested_loop::NestedLoopCode;
pub(super) use project_set::{ProjectSetCode, ProjectSetItemCode};
pub(super) use scan::{RowOutput, SeqScanCode};
pub(super) use set_operation::SetOperationCode;
pub(super) use sort::{SortCode, SortOrder};
pub(super) use update::UpdateCode;
pub(super) use values::{ConstantCode, SystemScanCode, ValuesCode};
pub(super) use window::{WindowCallCode, WindowCode, WindowFunctionCode};

use super::actuals::Measured;
use super::{Code, Context};
use crate::error::Result;
use crate::types::{Datum, Row};

/// A running operator.
pub(super) trait Operator: Send {
    /// Replaces `out` by the next row; false at the end, and from then on.
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool>;
}

/// A compiled operator.
pub(super) trait Factory: Send + Sync {
    /// Makes a running operator. Evaluates nothing.
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator>;
}

/// A compiled operator and which plan node it came from.
pub(crate) struct Node {
    factory: Arc<dyn Factory>,
    /// None: a part of another node's work, which EXPLAIN does not show.
    identity: Option<usize>,
}

impl Node {
    pub(super) fn new(factory: Arc<dyn Factory>, identity: usize) -> Self {
        Self { factory, identity: Some(identity) }
    }

    /// An operator that stands for no node of the plan.
    pub(super) fn hidden(factory: Arc<dyn Factory>) -> Self {
        Self { factory, identity: None }
    }

    /// Starts it.
    pub(super) fn open(&self, cx: &Context) -> Box<dyn Operator> {
        let operator = Arc::clone(&self.factory).open(cx);
        match self.identity {
            Some(identity) if cx.is_measured() => Box::new(Measured::new(operator, identity)),
            _ => operator,
        }
    }
}

/// Evaluates `codes` over `row` into `out`, replacing what was there.
#[inline]
pub(super) fn eval_into(codes: &[Code], row: &[Datum], cx: &Context, out: &mut Row) -> Result<()> {
    out.clear();
    out.reserve(codes.len());
    for code in codes {
        out.push(code.eval(row, cx)?);
    }
    Ok(())
}

/// True without a condition.
#[inline]
pub(super) fn passes(condition: Option<&Code>, row: &[Datum], cx: &Context) -> Result<bool> {
    condition.map_or(Ok(true), |condition| condition.test(row, cx))
}
