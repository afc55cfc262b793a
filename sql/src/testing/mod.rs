//! An engine in memory, for tests of everything above [`crate::store`]: the same contract as `compute`'s,
//! without pages and log, and the oracle that `compute` is compared with.

mod cursor;
mod locks;
mod memory_store;
mod transaction;

pub use memory_store::MemoryStore;

#[cfg(test)]
mod tests;
