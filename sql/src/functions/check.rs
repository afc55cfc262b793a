//! The consistency check, as a set-returning function: a row for each problem, none for what is sound.

use super::{EvalContext, FunctionRows, TableFunction};
use crate::error::Result;
use crate::types::{DataType as T, Datum};

const COLUMNS: &[(&str, T)] = &[("database", T::TEXT), ("relation", T::TEXT), ("page", T::INT8), ("problem", T::TEXT)];

/// The signatures.
pub static TABLE_FUNCTIONS: &[TableFunction] = &[
    TableFunction { name: "alluvium_check", args: &[], columns: COLUMNS, open: |context, _| check(context, None) },
    TableFunction {
        name: "alluvium_check",
        args: &[T::REGCLASS],
        columns: COLUMNS,
        open: |context, args| match args {
            [Datum::Oid(oid)] => check(context, Some(*oid)),
            _ => Ok(Box::new(std::iter::empty())),
        },
    },
];

fn check(context: &EvalContext, relation: Option<u32>) -> Result<FunctionRows> {
    Ok(Box::new(context.session.check(relation)?.into_iter().map(Ok)))
}
