//! Page servers: replay the log into pages, keep them as layers on an object store, answer page@LSN.

pub mod client;
