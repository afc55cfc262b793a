//! Bound expressions: every name resolved, every type known, every coercion explicit.

use std::sync::Arc;

use super::Plan;
use crate::functions::{AggregateFunction, ScalarFunction};
use crate::types::{DataType, Datum};

/// A bound scalar expression over an operator's input row.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Expr {
    Literal {
        value: Datum,
        data_type: DataType,
    },
    /// Column of the input row, from 0. A join's input row is its left row followed by its right row.
    Column {
        index: usize,
        data_type: DataType,
    },
    /// Column of the row of an enclosing query: depth 1 is the query right outside the subquery.
    Outer {
        depth: usize,
        index: usize,
        data_type: DataType,
    },
    /// Statement parameter, from 0 (`$1` is 0).
    Parameter {
        index: usize,
        data_type: DataType,
    },
    /// A function or operator. Strict functions are not called with a NULL argument.
    Call {
        function: &'static ScalarFunction,
        args: Vec<Expr>,
        data_type: DataType,
    },
    /// A conversion that is more than a relabelling. `explicit`: CAST syntax, which truncates varchar.
    Cast {
        expr: Box<Expr>,
        to: DataType,
        explicit: bool,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    IsNull {
        expr: Box<Expr>,
        negated: bool,
    },
    /// `IS [NOT] TRUE` and `FALSE`; IS UNKNOWN is `IsNull`.
    BooleanTest {
        expr: Box<Expr>,
        value: bool,
        negated: bool,
    },
    /// `IS [NOT] DISTINCT FROM`; both sides of one type.
    Distinct {
        left: Box<Expr>,
        right: Box<Expr>,
        negated: bool,
    },
    /// Searched CASE; the simple form is rewritten. All results of `data_type`.
    Case {
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
        data_type: DataType,
    },
    Coalesce {
        args: Vec<Expr>,
        data_type: DataType,
    },
    /// GREATEST (or LEAST): NULLs ignored.
    Extremum {
        args: Vec<Expr>,
        greatest: bool,
        data_type: DataType,
    },
    /// `expr IN (list)`, all of one type.
    InList {
        expr: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    /// `expr operator ANY (array)` or ALL.
    Quantified {
        expr: Box<Expr>,
        operator: &'static ScalarFunction,
        array: Box<Expr>,
        all: bool,
    },
    ArrayLiteral {
        elements: Vec<Expr>,
        data_type: DataType,
    },
    /// `array[index, …]`
    Subscript {
        array: Box<Expr>,
        indexes: Vec<Expr>,
        data_type: DataType,
    },
    Record(Vec<Expr>),
    Subquery(Box<Subquery>),
}

/// A subquery inside an expression. It is correlated exactly when its plan holds an `Outer` that
/// reaches beyond it; an uncorrelated one is run once per statement.
#[derive(Clone, Debug)]
pub struct Subquery {
    /// What is asked of it.
    pub kind: SubqueryKind,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Whether it reads rows of enclosing queries.
    pub correlated: bool,
    /// Result type.
    pub data_type: DataType,
}

/// What a subquery is asked.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum SubqueryKind {
    /// Its only column of its only row; NULL when empty; 21000 for two rows.
    Scalar,
    Exists {
        negated: bool,
    },
    /// `left operator ANY (subquery)`, row-wise for several columns; IN is `=` ANY, NOT IN is `<>` ALL.
    Quantified {
        left: Vec<Expr>,
        operators: Vec<&'static ScalarFunction>,
        all: bool,
    },
    /// `ARRAY(subquery)`
    Array,
}

/// An aggregate call.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    /// The function.
    pub function: &'static AggregateFunction,
    /// Arguments over the input row; none for `count(*)`.
    pub args: Vec<Expr>,
    /// DISTINCT.
    pub distinct: bool,
    /// FILTER (WHERE …).
    pub filter: Option<Expr>,
    /// ORDER BY inside the call.
    pub order_by: Vec<SortKey>,
    /// Result type.
    pub data_type: DataType,
}

/// One key of an ordering.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct SortKey {
    pub expr: Expr,
    pub descending: bool,
    pub nulls_first: bool,
}
