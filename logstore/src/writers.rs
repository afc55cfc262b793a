//! Where the writers are. An append to a leader on the writer's own machine saves a journey through the network each way; so
//! leadership goes to the node beside which most is written.
//!
//! Only a wish: whoever leads, nothing but latency depends on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Streams that are remembered; those beyond count as being nowhere.
const MAX_STREAMS: usize = 1024;

/// What is written to this node, by place. Shared by the streams and the node's thread.
#[derive(Default)]
pub struct Writers {
    streams: Mutex<Vec<(String, Weak<AtomicU64>)>>,
}

/// One stream's count.
pub struct Writer {
    bytes: Arc<AtomicU64>,
}

impl Writer {
    /// So much was sent.
    pub fn wrote(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Writers {
    /// A stream from beside the node that listens at `near`; empty: from beside none.
    pub fn register(&self, near: &str) -> Writer {
        let bytes = Arc::new(AtomicU64::new(0));
        let mut streams = self.streams.lock();
        streams.retain(|(_, bytes)| bytes.strong_count() > 0);
        if streams.len() < MAX_STREAMS {
            streams.push((near.to_owned(), Arc::downgrade(&bytes)));
        }
        Writer { bytes }
    }

    /// Beside which node more than half of what came since the last call was written.
    pub fn majority(&self) -> Option<String> {
        let mut by_place = BTreeMap::<String, u64>::new();
        for (near, bytes) in &*self.streams.lock() {
            let bytes = bytes.upgrade().map_or(0, |bytes| bytes.swap(0, Ordering::Relaxed));
            *by_place.entry(near.clone()).or_default() += bytes;
        }
        let total: u64 = by_place.values().sum();
        let found = by_place.into_iter().find(|(near, bytes)| !near.is_empty() && bytes * 2 > total);
        found.map(|(near, _)| near)
    }
}
