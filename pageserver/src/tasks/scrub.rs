//! Checking the whole shard every now and then.

use std::sync::Arc;

use crate::scrub::scrub;
use crate::shard::Shard;

/// Checks, waits, and begins anew.
pub(crate) async fn scrub_again_and_again(shard: Arc<Shard>) {
    loop {
        // First: a shard that has just moved here was looked at where it was.
        shard.pause(shard.config.scrub_pause).await;
        if shard.stopping() || shard.is_lost() {
            return;
        }
        let (branch, id) = (shard.config.branch, shard.config.shard);
        match scrub(&shard, shard.config.scrub_bytes_per_second).await {
            Ok(report) => {
                tracing::info!(%branch, shard = %id, layers = report.layers, pages = report.pages, "scrubbed");
                shard.keep_report(report);
            }
            Err(error) => tracing::warn!(%branch, shard = %id, %error, "scrubbing was not finished"),
        }
    }
}
