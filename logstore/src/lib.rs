//! The log service: a Raft-replicated write-ahead log. It knows bytes, epochs and positions; never pages or SQL.

pub mod client;
