//! SQL values and their types, with PostgreSQL's representations, limits and OIDs.

mod data_type;
mod datum;
pub mod numeric;

pub use data_type::{BaseType, DataType};
pub use datum::{Array, Datum, Interval, Row};
pub use numeric::Numeric;
