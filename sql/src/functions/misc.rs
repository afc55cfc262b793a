//! What belongs nowhere else.

use std::sync::Arc;

use super::define::scalar;
use super::{ScalarFunction, TableFunction};
use crate::types::{BaseType, DataType as T, Datum};

const ANY: T = T::new(BaseType::Any);

/// The signatures.
#[expect(clippy::disallowed_methods, reason = "gen_random_uuid() is random by definition")]
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("gen_random_uuid", &[], T::UUID, |_, _| Ok(Datum::Uuid(Arc::new(uuid::Uuid::new_v4().into_bytes()))))
        .volatile(),
    scalar("num_nulls", &[ANY], T::INT4, |_, args| {
        Ok(Datum::Int4(args.iter().filter(|value| value.is_null()).count() as i32))
    })
    .variadic()
    .nullable(),
    scalar("num_nonnulls", &[ANY], T::INT4, |_, args| {
        Ok(Datum::Int4(args.iter().filter(|value| !value.is_null()).count() as i32))
    })
    .variadic()
    .nullable(),
];

/// The set-returning ones. psql asks for the tables that a table is a partition of; none is.
pub static TABLE_FUNCTIONS: &[TableFunction] = &[TableFunction {
    name: "pg_partition_ancestors",
    args: &[T::REGCLASS],
    columns: &[("relid", T::REGCLASS)],
    open: |_, _| Ok(Box::new(std::iter::empty())),
}];
