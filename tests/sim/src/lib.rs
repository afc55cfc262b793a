//! Whole clusters in one thread: log nodes and page servers as they are, on a simulated network, simulated disks, a simulated
//! object store and a simulated clock.
//!
//! Everything is drawn from one seed: which faults there are, when, how long messages take, what a crash leaves on a
//! disk. The same seed gives the same run, event by event; [`Report::trace`] is a hash of it, and a test compares two.
//! A process runs one seed: see [`entropy`].
//!
//! ```text
//!   events (time, kind) ──► machine: inbox ──► real Node ──► simulated disk
//!        ▲                                        │ messages, answers
//!        └──────────── network: loss, delay, duplicates, partitions ◄┘
//!                          ▲
//!   page servers' tasks ───┴──► object store: refusals, lost answers, late requests, stale LIST, outages
//! ```
//!
//! Checked all the time: one leader a term; nodes that applied the same index hold the same state; every byte that was
//! acknowledged stays, at its place (A); a fenced writer writes nothing (fencing); metadata reads and swaps are those of
//! one register (L); every page that any page server gives equals replay of the log (P); no object that a manifest names is
//! missing or deleted. At the end, after the faults: a healed majority makes progress, or the whole cluster is in sync, and
//! every page of every branch can be read.

pub mod entropy;

mod archive;
mod checks;
mod clients;
mod faults;
#[cfg(test)]
mod latency;
mod machine;
mod options;
mod pages;
mod random;
mod register;
mod simulation;
mod threads;
mod trimming;
mod world;

pub use simulation::run;
pub use world::Report;

#[cfg(test)]
mod tests;
