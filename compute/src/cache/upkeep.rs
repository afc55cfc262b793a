//! Making room: old versions that nobody needs, pages not used for long, memory that is not mapped yet.
//!
//! One thread does both, outside the sequencer. *Collection* looks at replaced versions by interval: one that
//! no snapshot reads, and that the durable LSN has passed, goes. What snapshots protect stays up to a budget,
//! beyond which it goes too (and is fetched again if it is really asked for). *Eviction* is a clock over all
//! frames.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_epoch as epoch;
use storage::Lsn;

use super::pool::Frame;
use super::{PageCache, Replaced};
use crate::threads::{self, Thread};

/// How often the thread looks when nobody wakes it.
const PAUSE: Duration = Duration::from_millis(10);
/// Old versions may take this part of the memory (1/n).
const OLD_VERSIONS_SHARE: u32 = 4;
/// Frames evicted at a time.
const EVICT_BATCH: usize = 64;

/// The upkeep thread. Dropping it stops it.
pub(crate) struct Upkeep {
    stop: Arc<AtomicBool>,
    thread: Option<Thread>,
}

impl Upkeep {
    /// Starts the thread.
    pub(crate) fn start(cache: Arc<PageCache>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let for_thread = cache.clone();
        let thread = Thread::spawn("cache-upkeep", move || {
            let mut collector = Collector::default();
            while !stopped.load(Ordering::Acquire) {
                for_thread.upkeep_once(&mut collector);
                threads::park(PAUSE);
            }
        })?;
        *cache.upkeep.lock() = thread.handle();
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            if let Some(parked) = thread.handle() {
                parked.unpark();
            }
            if !thread.join() {
                tracing::error!("the cache's upkeep thread panicked");
            }
        }
    }
}

/// Replaced versions that could not go yet.
#[derive(Default)]
pub(super) struct Collector {
    /// Whose end the durable LSN has not reached.
    undurable: Vec<Replaced>,
    /// By the lowest snapshot that reads them.
    protected: BTreeMap<Lsn, Vec<Replaced>>,
}

impl Collector {
    fn len(&self) -> usize {
        self.undurable.len() + self.protected.values().map(Vec::len).sum::<usize>()
    }
}

impl PageCache {
    pub(super) fn wake_upkeep(&self) {
        if let Some(thread) = &*self.upkeep.lock() {
            thread.unpark();
        }
    }

    pub(super) fn upkeep_once(&self, collector: &mut Collector) {
        self.collect(collector);
        self.pool.prefault_ahead();
        // Free frames kept at hand: an eighth of the memory, at most 16 MiB.
        let wanted = (self.pool.limit() / 8).min(2048);
        let mut rounds = 0;
        while self.pool.available() < wanted && rounds < 64 {
            rounds += 1;
            if self.make_room() == 0 {
                break;
            }
            epoch::pin().flush();
        }
    }

    /// Drops the replaced versions that nobody needs.
    pub(super) fn collect(&self, collector: &mut Collector) {
        let durable = self.positions.durable();
        let active = self.snapshots.active();
        let mut looked_at = std::mem::take(&mut *self.replaced.lock());
        looked_at.append(&mut collector.undurable);
        // Protectors that are gone.
        let gone: Vec<Lsn> =
            collector.protected.keys().filter(|lsn| active.binary_search(lsn).is_err()).copied().collect();
        for lsn in gone {
            looked_at.append(&mut collector.protected.remove(&lsn).unwrap_or_default());
        }
        let mut dropped = Vec::new();
        for version in looked_at {
            if version.end > durable {
                collector.undurable.push(version);
                continue;
            }
            let reader = active.partition_point(|lsn| *lsn < version.lsn);
            match active.get(reader).filter(|lsn| **lsn < version.end) {
                Some(protector) => collector.protected.entry(*protector).or_default().push(version),
                None => dropped.push(version),
            }
        }
        let budget = (self.pool.limit() / OLD_VERSIONS_SHARE) as usize;
        while collector.len() > budget
            && let Some((_, versions)) = collector.protected.pop_first()
        {
            dropped.extend(versions);
        }
        let unlinked: Vec<Frame> = dropped
            .iter()
            .filter(|version| self.unlink(version.page, version.frame, version.lsn))
            .map(|version| version.frame)
            .collect();
        self.counters.versions_collected.fetch_add(unlinked.len() as u64, Ordering::Relaxed);
        self.counters.old_versions.store(collector.len() as u64, Ordering::Relaxed);
        self.retire(unlinked);
    }

    /// Evicts some versions that were not used for long; answers how many.
    pub(super) fn make_room(&self) -> usize {
        let touched = self.pool.touched_frames();
        let durable = self.positions.durable();
        let mut chosen = Vec::new();
        // Twice around: the first may only find that everything was used.
        for _ in 0..2 * touched {
            let frame = Frame(1 + self.hand.fetch_add(1, Ordering::Relaxed) % (touched - 1).max(1));
            let header = self.pool.header(frame);
            if !header.linked.load(Ordering::Acquire) || header.is_pinned() {
                continue;
            }
            let lsn = header.lsn();
            if lsn > durable || header.referenced.swap(false, Ordering::Relaxed) {
                continue;
            }
            chosen.push((header.page(), frame, lsn));
            if chosen.len() == EVICT_BATCH.min(1 + touched as usize / 8) {
                break;
            }
        }
        let evicted: Vec<Frame> = {
            // Commits wait for this: it is kept to the unlinking.
            let _residency = self.residency.lock();
            chosen.retain(|(page, frame, lsn)| self.unlink(*page, *frame, *lsn));
            chosen.into_iter().map(|(_, frame, _)| frame).collect()
        };
        let count = evicted.len();
        self.counters.evictions.fetch_add(count as u64, Ordering::Relaxed);
        self.retire(evicted);
        count
    }
}
