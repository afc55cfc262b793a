//! Aggregates. DISTINCT, FILTER and ORDER BY are the executor's; states see only rows that count.

pub(super) mod basic;
pub(super) mod collect;
pub(super) mod json;
pub mod ordered_set;
pub(super) mod statistics;

use super::{AggregateFunction, AggregateState};
use crate::types::DataType;

pub(super) const fn aggregate(
    name: &'static str,
    args: &'static [DataType],
    result: DataType,
    state: fn() -> Box<dyn AggregateState>,
) -> AggregateFunction {
    AggregateFunction { name, args, result, state }
}
