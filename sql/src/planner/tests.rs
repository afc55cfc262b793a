//! Plans of statements, as EXPLAIN shows them, and errors of those that cannot be planned.

mod errors;
mod plans;
mod schema;
mod tpch;
