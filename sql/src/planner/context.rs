//! What planning needs from its surroundings, and what it hands back.

use std::sync::Arc;

use crate::catalog::{Catalog, Oid, Table};
use crate::functions::EvalContext;
use crate::plan::Plan;
use crate::store::TableLockMode;
use crate::types::DataType;

/// Answers how many rows a table has; none: not known.
pub type RowEstimate<'a> = dyn Fn(&Table) -> Option<f64> + 'a;

/// What planning needs from its surroundings.
pub struct PlanContext<'a> {
    /// The catalog as the statement sees it.
    pub catalog: Arc<Catalog>,
    /// Schemas that unqualified names are looked up in, in order; `pg_catalog` is implied.
    pub search_path: &'a [String],
    /// For constant folding and for reading literals.
    pub eval: Arc<EvalContext>,
    /// Parameter types that the client has declared; a missing or `None` one is inferred.
    pub parameter_hints: &'a [Option<DataType>],
    /// The query string, which positions in errors refer to. Empty: no positions.
    pub source: &'a str,
    /// How many rows a table has now, when somebody knows better than ANALYZE.
    pub row_estimate: Option<&'a RowEstimate<'a>>,
}

/// What a statement is, for the command tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum StatementKind {
    Select,
    Insert,
    Update,
    Delete,
}

/// A plan with what the session must know to run it.
#[derive(Clone, Debug)]
pub struct PlannedStatement {
    /// The plan. Its columns are the result's; none for DML without RETURNING.
    pub plan: Arc<Plan>,
    /// Types of `$1`, `$2`, …
    pub parameters: Vec<DataType>,
    /// Tables to be locked before execution (by OID), each with the strongest mode needed.
    pub tables: Vec<(Oid, TableLockMode)>,
    /// Views that were expanded, and system views read: with `tables`, all that the plan depends on.
    pub relations: Vec<Oid>,
    /// For the command tag.
    pub kind: StatementKind,
    /// Whether it may write (DML, also inside WITH, and row locks): refused in read-only transactions.
    pub writes: bool,
}
