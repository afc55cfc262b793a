//! What a log node measures. Durations are in seconds, as Prometheus wants them.

use std::time::Instant;

use metrics::{Gauge, Histogram, gauge, histogram};
use storage::{BranchId, Lsn};

/// Handles, made once.
pub(crate) struct NodeMetrics {
    sync_seconds: Histogram,
    group_entries: Histogram,
    leader: Gauge,
    term: Gauge,
    disk_bytes: Gauge,
    durable: Vec<(BranchId, Gauge)>,
}

impl NodeMetrics {
    pub(crate) fn new(node_id: u64) -> Self {
        let node = node_id.to_string();
        NodeMetrics {
            sync_seconds: histogram!("alluvium_log_fsync_seconds", "node" => node.clone()),
            group_entries: histogram!("alluvium_log_group_entries", "node" => node.clone()),
            leader: gauge!("alluvium_log_is_leader", "node" => node.clone()),
            term: gauge!("alluvium_log_term", "node" => node.clone()),
            disk_bytes: gauge!("alluvium_log_disk_bytes", "node" => node),
            durable: Vec::new(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a duration for metrics")]
    pub(crate) fn start(&self) -> Instant {
        Instant::now()
    }

    /// A group was written.
    pub(crate) fn written(&self, entries: usize) {
        self.group_entries.record(entries as f64);
    }

    /// What was written was synced.
    pub(crate) fn synced(&self, started: Instant) {
        self.sync_seconds.record(started.elapsed().as_secs_f64());
    }

    /// The same, when somebody else has measured it.
    pub(crate) fn synced_in(&self, us: u64) {
        self.sync_seconds.record(us as f64 / 1e6);
    }

    /// A branch's durable end moved.
    pub(crate) fn durable(&mut self, branch: BranchId, end_lsn: Lsn) {
        let position = match self.durable.binary_search_by_key(&branch, |(id, _)| *id) {
            Ok(position) => position,
            Err(position) => {
                let gauge = gauge!("alluvium_log_durable_lsn", "branch" => branch.to_string());
                self.durable.insert(position, (branch, gauge));
                position
            }
        };
        self.durable[position].1.set(end_lsn.0 as f64);
    }

    /// Role and size.
    pub(crate) fn state(&self, leads: bool, term: u64, disk_bytes: u64) {
        self.leader.set(f64::from(u8::from(leads)));
        self.term.set(term as f64);
        self.disk_bytes.set(disk_bytes as f64);
    }
}
