//! One compute: page cache, transactions, locks, the sequencer that orders commits, and the shipper that
//! makes them durable.
pub(crate) mod blocking;
pub(crate) mod cache;
pub(crate) mod lock;
pub(crate) mod positions;
pub(crate) mod snapshot;
