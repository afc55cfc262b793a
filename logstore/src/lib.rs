//! The log service: a Raft-replicated write-ahead log. It knows bytes, epochs and positions; never pages or SQL.
//!
//! ```text
//!  LogClient ──► store (thread, queue) ──► node ──► core (Raft, no I/O)
//!      ▲                                     ├────► segment (files: the log) ──► disk
//!      └── subscription ◄── published ◄──────┴────► machine (epochs, ends, metadata)
//!            └─ filter: what a reader wants, as those above the log understand it
//! ```

// Tests may read clocks, sleep and draw at random.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod archive;
pub mod client;
pub mod cluster;
pub mod command;
pub mod core;
pub mod disk;
pub mod driven;
pub mod filter;
pub mod grpc;
pub mod identity;
pub mod joining;
mod local;
pub mod machine;
pub mod members;
pub mod node;
mod node_metrics;
mod published;
pub mod segment;
pub mod shifted;
mod store;
pub mod stream;
mod subscription;
pub mod transport;
mod wire;
pub mod writers;

pub use node::ClusterView;
pub use store::{LogStore, LogStoreConfig, OpenError};

#[cfg(test)]
mod tests;
