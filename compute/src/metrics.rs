//! What operators see. Hot paths count in plain atomics of their own; a task copies them to the recorder
//! every second, so that a metric costs a commit nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::task::JoinHandle;

use crate::engine::Engine;

const PERIOD: Duration = Duration::from_secs(1);

/// The copying task; ends when dropped.
pub(crate) struct Metrics {
    task: JoinHandle<()>,
}

impl Metrics {
    pub(crate) fn start(engine: &Arc<Engine>) -> Self {
        let weak = Arc::downgrade(engine);
        let task = tokio::spawn(async move {
            loop {
                {
                    let Some(engine) = weak.upgrade() else { return };
                    publish(&engine);
                }
                tokio::time::sleep(PERIOD).await;
            }
        });
        Self { task }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn publish(engine: &Engine) {
    counter!("alluvium_compute_commits_total").absolute(engine.sequencer.commits());
    counter!("alluvium_compute_groups_total").absolute(engine.shipper.group_count.load(Ordering::Relaxed));
    counter!("alluvium_compute_log_bytes_total").absolute(engine.shipper.group_bytes.load(Ordering::Relaxed));
    gauge!("alluvium_compute_applied_lsn").set(engine.positions.applied().0 as f64);
    gauge!("alluvium_compute_sealed_lsn").set(engine.positions.sealed().0 as f64);
    gauge!("alluvium_compute_durable_lsn").set(engine.positions.durable().0 as f64);
    engine.governor.publish();
    let cache = &engine.cache;
    counter!("alluvium_cache_misses_total").absolute(cache.counters.misses.load(Ordering::Relaxed));
    counter!("alluvium_cache_evictions_total").absolute(cache.counters.evictions.load(Ordering::Relaxed));
    counter!("alluvium_cache_versions_collected_total")
        .absolute(cache.counters.versions_collected.load(Ordering::Relaxed));
    let (made, droppable) = cache.versions_made();
    gauge!("alluvium_cache_undroppable_versions").set((made - droppable) as f64);
    gauge!("alluvium_cache_old_versions").set(cache.counters.old_versions.load(Ordering::Relaxed) as f64);
    gauge!("alluvium_cache_capacity_pages").set(f64::from(cache.capacity_pages()));
    gauge!("alluvium_cache_free_pages").set(f64::from(cache.free_pages()));
    let spilled = storage::spill::totals();
    counter!("alluvium_spill_written_bytes_total").absolute(spilled.written_bytes);
    counter!("alluvium_spill_files_total").absolute(spilled.files);
    gauge!("alluvium_spill_used_bytes").set(spilled.used_bytes as f64);
    counter!("alluvium_lock_waits_total").absolute(engine.locks.waited());
    counter!("alluvium_deadlocks_total").absolute(engine.locks.deadlocks());
}
