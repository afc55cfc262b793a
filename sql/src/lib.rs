//! SQL: types and functions, catalog, binder, planner and the row engine.
//!
//! Data flows one way: text → [`parser`] → [`binder`] → [`planner`] → [`plan`] → [`executor`] → [`store`].
//! Nothing here opens a socket or knows of logs and page servers.

// Tests may read clocks, sleep and draw at random.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod binder;
pub mod catalog;
pub mod copy;
mod entry_sorter;
pub mod error;
pub mod executor;
pub mod functions;
pub mod interrupt;
pub mod parser;
pub mod plan;
pub mod planner;
pub mod session;
pub mod store;
pub mod table;
pub mod testing;
pub mod types;
