//! Compiled expressions.
//!
//! [`Code`] is the bound expression with everything decided that can be: comparisons and arithmetic of the
//! common types have nodes of their own, `IN` lists of constants are hash sets, subqueries have a place for
//! what they remember. NULL is carried three-valued: `None` in [`Code::logic`].

mod compare;
mod eval;
mod list;
mod subquery;

use crate::functions::ScalarFunction;
use crate::types::{DataType, Datum};

pub(crate) use compare::{Comparison, compare};
pub(crate) use list::ConstantList;
pub(super) use subquery::{SubqueryCode, SubqueryQuestion, SubqueryState};

/// One compiled expression.
pub(crate) enum Code {
    Literal(Datum),
    Column(usize),
    Parameter(usize),
    Outer {
        depth: usize,
        index: usize,
    },
    /// Types whose order [`compare`] knows.
    Compare {
        comparison: Comparison,
        left: Box<Code>,
        right: Box<Code>,
    },
    Arithmetic {
        operation: Arithmetic,
        function: &'static ScalarFunction,
        left: Box<Code>,
        right: Box<Code>,
    },
    Call {
        function: &'static ScalarFunction,
        args: Box<[Code]>,
    },
    Cast {
        inner: Box<Code>,
        from: DataType,
        to: DataType,
        explicit: bool,
    },
    And(Box<[Code]>),
    Or(Box<[Code]>),
    Not(Box<Code>),
    IsNull {
        inner: Box<Code>,
        negated: bool,
    },
    BooleanTest {
        inner: Box<Code>,
        value: bool,
        negated: bool,
    },
    Distinct {
        left: Box<Code>,
        right: Box<Code>,
        negated: bool,
    },
    Case {
        branches: Box<[(Code, Code)]>,
        otherwise: Option<Box<Code>>,
    },
    Coalesce(Box<[Code]>),
    Extremum {
        args: Box<[Code]>,
        greatest: bool,
    },
    InList {
        inner: Box<Code>,
        list: Box<[Code]>,
        negated: bool,
    },
    InConstants {
        inner: Box<Code>,
        list: Box<ConstantList>,
        negated: bool,
    },
    Quantified {
        inner: Box<Code>,
        operator: &'static ScalarFunction,
        array: Box<Code>,
        all: bool,
    },
    Array {
        elements: Box<[Code]>,
        element_type: DataType,
    },
    Subscript {
        array: Box<Code>,
        indexes: Box<[Code]>,
    },
    Record(Box<[Code]>),
    Subquery(Box<SubqueryCode>),
}

/// Arithmetic with a fast path; what it cannot answer (overflow) goes to the function, which words the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
}
