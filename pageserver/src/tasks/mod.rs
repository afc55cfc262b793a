//! The background work of a shard: reading the log, writing buffers as layers, rewriting layers, deleting garbage.
//! Every task repeats what failed after a pause, and ends when the server stops or the shard is lost.

mod compact;
mod flush;
mod garbage;
mod ingest;
mod scrub;
mod spill;

use std::time::Duration;

use crate::metrics as names;
use crate::shard::Shard;

pub(crate) use compact::{Compactor, compact};
pub(crate) use flush::{consumer_name, flush, report};
pub(crate) use garbage::delete_garbage;
pub(crate) use ingest::ingest;
pub(crate) use scrub::scrub_again_and_again;
pub(crate) use spill::spill;

/// How often the age of the open buffer is looked at.
const AGE_CHECK: Duration = Duration::from_millis(500);

/// Work that failed, for the log line and the pause before the next trial.
async fn after_failure(shard: &Shard, work: &'static str, error: &(dyn std::fmt::Display + Sync)) {
    tracing::warn!(branch = %shard.config.branch, work, %error, "background work failed; trying again");
    metrics::counter!(names::BACKGROUND_FAILURES, "work" => work).increment(1);
    shard.pause(shard.config.retry_pause).await;
}
