//! Operators over plans built by hand; the golden scripts test them from SQL.

pub(crate) mod bed;
mod dml;
mod joins;
mod queries;
mod spilling;
