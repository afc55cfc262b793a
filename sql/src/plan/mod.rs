//! Plans: what the planner hands to the row engine (and, later, to the vectorised one), and what EXPLAIN
//! prints. A plan is immutable and shared; everything that changes lives in the executor.

mod expr;
mod point;
mod walk;

use std::sync::Arc;

pub use expr::{AggregateCall, Expr, SortKey, Subquery, SubqueryKind};

use crate::catalog::{Index, Table};
use crate::functions::TableFunction;
use crate::store::WaitPolicy;
use crate::table::ForeignKeyAccess;
use crate::types::{DataType, Row};

/// An operator with its inputs, and the planner's estimates.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The operator.
    pub node: Node,
    /// Its output columns.
    pub columns: Vec<OutputColumn>,
    /// Estimated rows out.
    pub rows: f64,
    /// Estimated cost to the first row, in Postgres' units.
    pub startup_cost: f64,
    /// Estimated cost to the last row.
    pub total_cost: f64,
}

/// A column of an operator's output.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputColumn {
    /// Name as the client sees it.
    pub name: String,
    /// Type.
    pub data_type: DataType,
    /// Table OID and attribute number, where it is a plain column (RowDescription tells it).
    pub origin: Option<(u32, i16)>,
}

/// Which columns of a table a scan puts out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanOutput {
    /// Positions in [`Table::columns`], in output order.
    pub columns: Vec<usize>,
    /// Appends the row's key in the table's tree as one bytea column (for UPDATE, DELETE, FOR UPDATE).
    pub with_key: bool,
    /// What the statement calls the table, for EXPLAIN.
    pub alias: Arc<str>,
}

/// How an index (or the primary key) is searched. The expressions read no input row: literals,
/// parameters, outer columns and calls of them; in an [`Node::IndexJoin`] they read the left row.
#[derive(Clone, Debug)]
pub struct IndexRange {
    /// Equalities on the leading columns, of the column's type. A NULL finds nothing.
    pub equal: Vec<Expr>,
    /// Range on the next column: lower end and whether it is included.
    pub lower: Option<(Expr, bool)>,
    /// Range on the next column: upper end and whether it is included.
    pub upper: Option<(Expr, bool)>,
}

/// Kinds of join. The right side is the nullable one in `Left`; `Semi` and `Anti` put out left columns only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    Semi,
    Anti,
}

/// Set operations; with `all`, duplicates count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SetOperation {
    Union,
    Intersect,
    Except,
}

/// The operators.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Node {
    /// Rows of expressions (VALUES; one empty row for a SELECT without FROM).
    Values {
        rows: Vec<Vec<Expr>>,
    },
    /// Rows computed when the plan is made (system catalog, SHOW, …).
    Constant {
        rows: Arc<Vec<Row>>,
    },
    /// A system view, computed from the catalog when the scan opens.
    SystemScan {
        view: &'static crate::catalog::SystemView,
        filter: Option<Expr>,
    },
    /// Whole table in key order. `filter` reads a row of `output`.
    SeqScan {
        table: Arc<Table>,
        output: ScanOutput,
        filter: Option<Expr>,
    },
    /// By primary key (`index` none) or secondary index, in its order or backward.
    IndexScan {
        table: Arc<Table>,
        index: Option<Arc<Index>>,
        range: IndexRange,
        backward: bool,
        output: ScanOutput,
        filter: Option<Expr>,
    },
    /// A set-returning function in FROM.
    FunctionScan {
        function: &'static TableFunction,
        args: Vec<Expr>,
        ordinality: bool,
    },
    Filter {
        input: Box<Plan>,
        predicate: Expr,
    },
    Project {
        input: Box<Plan>,
        exprs: Vec<Expr>,
    },
    /// `unnest`/`generate_series` in a select list: one output row for each element.
    ProjectSet {
        input: Box<Plan>,
        exprs: Vec<ProjectSetItem>,
    },
    /// For each left row the right side is run anew when `lateral` (its `Outer { depth: 1 }` columns are
    /// the left row), else it is kept in memory.
    NestedLoopJoin {
        kind: JoinKind,
        left: Box<Plan>,
        right: Box<Plan>,
        on: Option<Expr>,
        lateral: bool,
    },
    /// For each left row, rows of `table` by index. Output: left row, then `output`.
    IndexJoin {
        kind: JoinKind,
        left: Box<Plan>,
        table: Arc<Table>,
        index: Option<Arc<Index>>,
        range: IndexRange,
        output: ScanOutput,
        /// Reads left row followed by `output`; part of the join condition.
        filter: Option<Expr>,
    },
    /// Equal keys; those `null_safe` (one flag for each key) compare as IS NOT DISTINCT FROM. `filter` is the
    /// rest of the condition.
    HashJoin {
        kind: JoinKind,
        left: Box<Plan>,
        right: Box<Plan>,
        left_keys: Vec<Expr>,
        right_keys: Vec<Expr>,
        null_safe: Vec<bool>,
        filter: Option<Expr>,
    },
    /// `limit`: only the first rows are wanted (offset included).
    Sort {
        input: Box<Plan>,
        keys: Vec<SortKey>,
        limit: Option<Expr>,
    },
    Limit {
        input: Box<Plan>,
        limit: Option<Expr>,
        offset: Option<Expr>,
    },
    /// Output: the group keys, then the aggregates. Several `sets` (positions in `keys`) for GROUPING SETS.
    Aggregate {
        input: Box<Plan>,
        keys: Vec<Expr>,
        aggregates: Vec<AggregateCall>,
        sets: Option<Vec<Vec<usize>>>,
    },
    /// Output: the input's columns, then one column a call.
    Window {
        input: Box<Plan>,
        calls: Vec<WindowCall>,
    },
    /// DISTINCT, or DISTINCT ON (`on`, over input sorted by it).
    Distinct {
        input: Box<Plan>,
        on: Option<Vec<Expr>>,
    },
    SetOp {
        operation: SetOperation,
        all: bool,
        left: Box<Plan>,
        right: Box<Plan>,
    },
    /// Inputs one after the other.
    Append {
        inputs: Vec<Plan>,
    },
    /// Runs `ctes` (once each, when first read) around `input`. Data-modifying ones run to their end.
    With {
        ctes: Vec<Cte>,
        input: Box<Plan>,
    },
    /// Reads the result of CTE `id`, or a recursive CTE's working table.
    CteScan {
        id: usize,
    },
    /// SELECT … FOR UPDATE/SHARE. Takes each row's lock and re-checks under READ COMMITTED. Output: input.
    LockRows {
        input: Box<Plan>,
        targets: Vec<LockTarget>,
        recheck: Option<Expr>,
        wait: WaitPolicy,
    },
    Insert(Box<Insert>),
    Update(Box<Update>),
    Delete(Box<Delete>),
}

/// An item of a select list with set-returning functions.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum ProjectSetItem {
    Scalar(Expr),
    Set { function: &'static TableFunction, args: Vec<Expr> },
}

/// A window function call.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct WindowCall {
    pub function: WindowFunction,
    pub args: Vec<Expr>,
    pub partition_by: Vec<Expr>,
    pub order_by: Vec<SortKey>,
    /// Frame from the first row of the partition to the current row's last peer when ordered (the
    /// default), else the whole partition; other frames are refused by the binder unless listed here.
    pub frame: WindowFrame,
    pub data_type: DataType,
}

/// What is called over a window.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum WindowFunction {
    RowNumber,
    Rank,
    DenseRank,
    PercentRank,
    CumeDist,
    Ntile,
    Lag,
    Lead,
    FirstValue,
    LastValue,
    NthValue,
    Aggregate(AggregateCall),
}

/// Window frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum WindowFrame {
    /// RANGE UNBOUNDED PRECEDING to CURRENT ROW.
    RangeToCurrent,
    /// ROWS between offsets (None: unbounded; negative: preceding).
    Rows { start: Option<i64>, end: Option<i64> },
    /// The whole partition.
    Whole,
}

/// A common table expression.
#[derive(Clone, Debug)]
pub struct Cte {
    /// Referred to by [`Node::CteScan`]; unique in the statement.
    pub id: usize,
    /// Name, for EXPLAIN.
    pub name: String,
    /// The query, or a recursive one's first term.
    pub plan: Plan,
    /// A recursive one's second term, which reads the working table by `CteScan { id }`, and whether UNION ALL.
    pub recursive: Option<(Plan, bool)>,
}

/// A table whose rows are locked.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct LockTarget {
    pub table: Arc<Table>,
    /// Where in the input row the table's (not dropped) columns begin: all of them, in order.
    pub columns_at: usize,
    /// Where in the input row its key stands.
    pub key_at: usize,
    pub exclusive: bool,
    /// Foreign keys that refer to the table: FOR UPDATE keeps new references away.
    pub referenced: Vec<Arc<ForeignKeyAccess>>,
}

/// INSERT.
#[derive(Clone, Debug)]
pub struct Insert {
    /// Into.
    pub table: Arc<Table>,
    /// Source rows.
    pub input: Plan,
    /// For every column of the table, dropped ones included (NULL literal there), its value over the source row.
    pub values: Vec<Expr>,
    /// CHECK conditions with their names, over a table row (all columns, by position).
    pub checks: Vec<(String, Expr)>,
    /// Foreign keys of the table.
    pub references: Vec<Arc<ForeignKeyAccess>>,
    /// Foreign keys that refer to it and whose key DO UPDATE may change.
    pub referenced: Vec<Arc<ForeignKeyAccess>>,
    /// ON CONFLICT.
    pub on_conflict: Option<OnConflict>,
    /// RETURNING, over a table row.
    pub returning: Option<Vec<Expr>>,
}

/// ON CONFLICT.
#[derive(Clone, Debug)]
pub struct OnConflict {
    /// Which unique index is meant: `None` any; `Some(None)` the primary key.
    pub arbiter: Option<Option<Arc<Index>>>,
    /// DO UPDATE; `None` is DO NOTHING.
    pub update: Option<ConflictUpdate>,
}

/// DO UPDATE SET: expressions over the existing table row followed by the excluded one.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct ConflictUpdate {
    pub assignments: Vec<(usize, Expr)>,
    pub filter: Option<Expr>,
}

/// UPDATE. Input rows: all columns of the table by position (dropped ones included), then the row's key, then
/// whatever FROM gives.
#[derive(Clone, Debug)]
pub struct Update {
    /// The table.
    pub table: Arc<Table>,
    /// Source rows.
    pub input: Plan,
    /// The whole WHERE over an input row, evaluated anew when the row has changed since the snapshot.
    pub recheck: Option<Expr>,
    /// Column position and new value, over an input row.
    pub assignments: Vec<(usize, Expr)>,
    /// CHECK conditions, as in [`Insert`].
    pub checks: Vec<(String, Expr)>,
    /// Foreign keys of the table over assigned columns.
    pub references: Vec<Arc<ForeignKeyAccess>>,
    /// Foreign keys that refer to assigned columns.
    pub referenced: Vec<Arc<ForeignKeyAccess>>,
    /// RETURNING, over an input row whose table columns are the new ones.
    pub returning: Option<Vec<Expr>>,
}

/// DELETE. Input rows as in [`Update`].
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Delete {
    pub table: Arc<Table>,
    pub input: Plan,
    pub recheck: Option<Expr>,
    /// Foreign keys that refer to the table.
    pub referenced: Vec<Arc<ForeignKeyAccess>>,
    pub returning: Option<Vec<Expr>>,
}

impl Expr {
    /// Its type.
    pub fn data_type(&self) -> DataType {
        match self {
            Expr::Literal { data_type, .. }
            | Expr::Column { data_type, .. }
            | Expr::Outer { data_type, .. }
            | Expr::Parameter { data_type, .. }
            | Expr::Call { data_type, .. }
            | Expr::Case { data_type, .. }
            | Expr::Coalesce { data_type, .. }
            | Expr::Extremum { data_type, .. }
            | Expr::ArrayLiteral { data_type, .. }
            | Expr::Subscript { data_type, .. } => *data_type,
            Expr::Cast { to, .. } => *to,
            Expr::Record(_) => DataType::RECORD,
            Expr::Subquery(subquery) => subquery.data_type,
            Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::IsNull { .. }
            | Expr::BooleanTest { .. }
            | Expr::Distinct { .. }
            | Expr::InList { .. }
            | Expr::Quantified { .. } => DataType::BOOL,
        }
    }
}
