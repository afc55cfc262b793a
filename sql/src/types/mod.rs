//! SQL values and their types, with PostgreSQL's representations, limits and OIDs.

pub mod binary;
pub mod cast;
pub mod codec;
mod data_type;
pub mod datetime;
mod datum;
#[cfg(test)]
pub(crate) mod golden;
pub mod json;
pub mod numeric;
mod order;
pub mod text;
mod type_info;

pub use data_type::{BaseType, DataType};
pub use datum::{Array, Datum, Interval, Row};
pub use numeric::Numeric;
pub use order::{compare_floats, without_blanks};
pub use type_info::{Category, TYPES, TypeInfo};
