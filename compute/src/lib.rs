//! One compute: page cache, transactions, locks, the sequencer that orders commits, and the shipper that
//! makes them durable.
//!
//! ```text
//!   SQL ──► transaction ──reads──► cache ◄──misses── page servers
//!               │   └─locks            ▲
//!             commit                 applies
//!               └────► sequencer ──────┘──groups──► shipper ──► log
//! ```
//!
//! Invariants: a commit is acknowledged only when the log has it on a majority's disks; nothing that is
//! not committed enters the log; the order of commits in the sequencer, in the log and in what snapshots see
//! is one and the same. Absent: any state on local disk, undo, recovery.

// Tests may read clocks, sleep and draw at random.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod blocking;
mod cache;
mod compute;
mod config;
mod engine;
mod governor;
mod lock;
mod metrics;
mod positions;
mod reclaim;
mod sequencer;
mod shipper;
mod snapshot;
pub mod testing;
pub mod threads;
mod transaction;
pub mod wire;

pub use compute::{Compute, StartError};
pub use config::ComputeConfig;
pub use governor::GovernorConfig;
