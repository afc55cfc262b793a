//! Log clusters in one thread: the real nodes on a simulated network, simulated disks and a simulated clock.
//!
//! Everything is drawn from one seed: which faults there are, when, how long messages take, what a crash leaves on a
//! disk. The same seed gives the same run, event by event; [`Report::trace`] is a hash of it, and a test compares two.
//!
//! ```text
//!   events (time, kind) ──► machine: inbox ──► real Node ──► simulated disk
//!        ▲                                        │ messages, answers
//!        └──────────── network: loss, delay, duplicates, partitions ◄┘
//! ```
//!
//! Checked all the time: one leader a term; nodes that applied the same index hold the same state; every byte that was
//! acknowledged stays, at its place (A); a fenced writer writes nothing (fencing); metadata reads and swaps are those of
//! one register (L). At the end, after the faults: a healed majority makes progress, or the whole cluster is in sync.

mod checks;
mod clients;
mod faults;
#[cfg(test)]
mod latency;
mod machine;
mod options;
mod random;
mod register;
mod world;

pub use world::{Report, run};

#[cfg(test)]
mod tests;
