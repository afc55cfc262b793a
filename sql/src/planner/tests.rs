//! Plans of statements, as EXPLAIN shows them, and errors of those that cannot be planned.

mod engine;
mod golden;
mod plans;
mod schema;
mod tpch;
