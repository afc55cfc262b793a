//! Many shards on many servers: who serves what, found out and decided through the log's metadata map.
//!
//! ```text
//! pages/servers/<id>       one for each server: its address, and a number that it raises every half second
//! pages/branches/<branch>  one for each branch: its layout, its parent, and the owner of each shard
//! ```
//!
//! Every server runs an [`agent`] that reads these, decides by [`plan`] (pure, the same for all who see the same) and claims
//! by compare-and-swap what falls to itself. Computes read them to find their pages ([`routes`]).
//!
//! None of this is needed for correctness: a shard's pages are safe because its manifest has one owner, by generation. A
//! server that is wrongly thought dead is disturbed, not contradicted.

pub mod agent;
pub mod branches;
pub mod descendants;
pub mod directory;
pub mod plan;
pub mod record;
pub mod routes;

#[cfg(test)]
mod tests;
