//! Compactors: stateless workers that do a page server's rewrites.
//!
//! ```text
//! page server (owner of the shard)                      compactor
//!   plans a job, marks its layers as in use
//!   offers it, with names of layers that are            asks every server for a job
//!   its alone ───────────────────────────────────────►  reads the layers, writes new ones
//!   keeps the lease ◄───────────── still at it ───────
//!   checks the layers ◄─────────────── finished ──────
//!   changes the manifest
//! ```
//!
//! Rules:
//! 1. Only the owner changes the manifest, and only under its generation: whatever a worker writes, however late, is an object
//!    that nobody names.
//! 2. No two leases share a layer's name, also not two for the same job: nothing is ever overwritten.
//! 3. A lease that is not renewed runs out. The job is offered once more, and then done by the server itself; it does so at once
//!    when no worker is about, and when nobody takes what is offered.
//! 4. What lost jobs leave behind is deleted by the owner, which knows their names, or by the next one.

mod check;
mod discovery;
mod offers;
mod worker;

#[cfg(test)]
mod tests;

use std::fmt;

use async_trait::async_trait;
use storage::layer::{LayerDescriptor, LayerName};
use storage::{BranchId, ShardId};

use crate::compaction::Job;

pub(crate) use check::check;
pub use discovery::Discovery;
pub use offers::{Handed, Offers};
pub use worker::{JobSources, Worker};

/// What a job says: a worker gets none from a server that means something else by it.
pub const VERSION: u32 = 1;
/// Layers that one job may write.
pub const NAMES_OF_LEASE: u64 = 1 << 20;

/// Which job of which owner: no other lease ever has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId {
    /// The branch.
    pub branch: BranchId,
    /// The shard.
    pub shard: ShardId,
    /// The first of the names that are the lease's alone.
    pub first_name: LayerName,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.branch, self.shard, self.first_name)
    }
}

/// A job as it is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Whose it is.
    pub lease: LeaseId,
    /// What to do.
    pub job: Job,
    /// See [`crate::compaction::CompactionSettings::layer_target_bytes`].
    pub layer_target_bytes: u64,
    /// How many names, from the lease's first on, layers may have.
    pub names: u64,
}

impl Assignment {
    /// The names of its layers, by number.
    pub fn name(&self, number: u64) -> Option<LayerName> {
        let first = self.lease.first_name;
        (number < self.names).then_some(LayerName { sequence: first.sequence + number, ..first })
    }

    /// Whether a layer may have that name.
    pub fn owns(&self, name: LayerName) -> bool {
        let first = self.lease.first_name;
        let numbers = first.sequence..first.sequence.saturating_add(self.names);
        name.generation == first.generation && numbers.contains(&name.sequence)
    }

    /// Bytes of the layers that it reads.
    pub fn input_bytes(&self) -> u64 {
        let images = self.job.base.iter().filter_map(|tile| tile.image.as_ref());
        self.job.runs.iter().flatten().chain(images).map(|layer| layer.size_bytes).sum()
    }
}

/// A worker that was heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSeen {
    /// Its name.
    pub name: String,
    /// Since then, in milliseconds.
    pub silent_ms: u64,
}

/// A job on offer or under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferSeen {
    /// Which.
    pub lease: LeaseId,
    /// What it makes.
    pub kind: crate::compaction::JobKind,
    /// Of the layers that it reads.
    pub input_bytes: u64,
    /// Since it was offered, in milliseconds.
    pub age_ms: u64,
    /// Who has it; empty: nobody yet.
    pub worker: String,
}

/// The server could not be asked, or its answer makes no sense: ask again later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Where jobs come from: a page server, in process or over gRPC.
#[async_trait]
pub trait JobSource: Send + Sync {
    /// A job, if there is one.
    async fn take(&self, worker: &str) -> Result<Option<Assignment>, SourceError>;
    /// Says that a job is still worked on; false: give up, its result is not wanted any more.
    async fn renew(&self, lease: LeaseId) -> Result<bool, SourceError>;
    /// Hands over durable layers, or the reason why there are none; false: nobody waits for them any more.
    async fn finish(&self, lease: LeaseId, outcome: Result<Vec<LayerDescriptor>, String>) -> Result<bool, SourceError>;
    /// Who is about, and what there is to do.
    async fn list(&self) -> Result<(Vec<WorkerSeen>, Vec<OfferSeen>), SourceError>;
}
