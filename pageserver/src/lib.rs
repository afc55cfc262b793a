//! Page servers: replay the log into pages, keep them as layers on an object store, answer page@LSN.
//!
//! ```text
//! log ─► decode ─► open buffer ─► frozen buffers ─► level-0 layers ─► runs ─► images
//!                      └───────────────┴───────── get_page ───┴──────────┴───────┘
//! ```
//!
//! Rules:
//! 1. The manifest's durable LSN advances only in the change that names the layers holding everything below it.
//! 2. A layer is deleted only after a manifest without it has landed under our generation.
//! 3. No durable local state: a server is replaced by starting another one anywhere.
//! 4. Memory is bounded: while frozen buffers wait to be written, the log is not read.

// Tests may read clocks, sleep and draw at random.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod admission;
pub mod caches;
pub mod client;
pub mod cluster;
pub mod compaction;
pub mod compactors;
pub mod config;
pub mod grpc;
pub mod host;
pub mod lineage;
pub mod metrics;
pub mod owner;
pub mod replay;
pub mod scrub;
pub mod server;
pub mod stream_filter;

mod buffer;
mod decode;
mod layer_map;
mod page_cache;
mod read;
mod shard;
mod spill;
mod tasks;
mod view;

#[cfg(test)]
mod tests;

pub use config::PageServerConfig;
pub use host::PageHost;
pub use server::{PageServer, StartError};
