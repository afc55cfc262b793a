//! Transactions: snapshot, overlay, locks, and the way to the sequencer.
//!
//! A statement reads its snapshot S (the durable LSN when it began) merged with the overlay. S lags what is
//! applied, so a writer never trusts S alone: under the row's lock it asks whether the row has changed since,
//! and READ COMMITTED goes on with the newest value while REPEATABLE READ raises 40001. The lock makes the
//! answer stable: commits release their locks after their pages are stamped.

mod check;
mod cursor;
mod handle;
mod large;
mod load;
mod overlay;
mod read;
mod runs;
mod sink;
mod spilling;
#[cfg(test)]
mod tests;
mod writes;

pub(crate) use handle::EngineTransaction;
pub(crate) use read::{get_newest, last_key};
pub(crate) use spilling::Spilling;
pub(crate) use writes::{TreeWrites, Write, Writes};
