//! The page cache alone: intervals and gaps, contradictions, eviction, copies per group, pins.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_epoch as epoch;
use logstore::client::EpochGrant;
use storage::{BranchId, Epoch, Lsn, PageNo};
use tokio::runtime::Runtime;

use super::pool::FramePool;
use super::upkeep::Collector;
use super::{CacheConfig, CacheError, PageCache};
use crate::positions::Positions;
use crate::snapshot::Snapshots;
use crate::testing::{MemoryLog, ReplayPages};

const PAGE: PageNo = PageNo(5);

/// A cache opened at LSN 100, nothing fetched from anywhere.
fn cache(runtime: &Runtime, pages: usize) -> Arc<PageCache> {
    let positions = Arc::new(Positions::new(Lsn(100)));
    let config = CacheConfig {
        branch: BranchId(1),
        memory_bytes: pages * storage::page::PAGE_SIZE_BYTES,
        client: Arc::new(ReplayPages::new(Arc::new(MemoryLog::default()))),
        runtime: runtime.handle().clone(),
    };
    let grant = EpochGrant { epoch: Epoch(1), end_lsn: Lsn(100) };
    Arc::new(PageCache::new(config, grant, positions, Arc::new(Snapshots::default())))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime")
}

/// Pretends that the page server answered: the page at `at`, last changed at `lsn`.
fn fetched(cache: &PageCache, lsn: u64, at: u64) -> Result<(), CacheError> {
    let frame = cache.take_frame()?;
    // SAFETY: just taken.
    unsafe { cache.pool.page_mut(frame) }.set_lsn(Lsn(lsn));
    let installed = cache.install(PAGE, frame, Lsn(lsn), Lsn(at))?;
    cache.pool.unpin(installed);
    Ok(())
}

/// Pretends that a batch ending at `lsn` changed the page; then that its group is durable.
fn changed(cache: &PageCache, lsn: u64) {
    let guard = epoch::pin();
    let (mut changes, mut replaced) = (Vec::new(), Vec::new());
    // SAFETY: the test is alone.
    unsafe {
        cache.change(PAGE, true, |_, _| None, &mut changes, &guard).expect("room");
        cache.stamp(&changes, Lsn(lsn), &mut replaced);
    }
    cache.collect_later(&mut replaced);
    cache.positions.set_applied(Lsn(lsn));
    cache.positions.set_sealed(Lsn(lsn));
    cache.positions.raise_durable(Lsn(lsn));
}

/// The LSNs of the versions found at each of `ats`.
fn found(cache: &PageCache, ats: &[u64]) -> Vec<Option<u64>> {
    let guard = epoch::pin();
    let find = |at: &u64| cache.find(PAGE, Lsn(*at), &guard).map(|frame| cache.pool.header(frame).lsn().0);
    ats.iter().map(find).collect()
}

#[test]
fn versions_hold_for_their_interval_and_gaps_are_misses() {
    let runtime = runtime();
    let cache = cache(&runtime, 64);
    assert_eq!(found(&cache, &[100]), [None]);
    // Nothing known lies above the opening: an answer at 100 is the current version.
    fetched(&cache, 40, 100).expect("sound");
    assert_eq!(found(&cache, &[39, 40, 100, 5000]), [None, Some(40), Some(40), Some(40)]);
    changed(&cache, 200);
    assert_eq!(found(&cache, &[100, 199, 200, 900]), [Some(40), Some(40), Some(200), Some(200)]);
    changed(&cache, 300);
    cache.collect(&mut Collector::default());
    // The replaced versions are gone; what was below them is not taken for them.
    assert_eq!(found(&cache, &[100, 250, 300]), [None, None, Some(300)]);
    // An answer for the past holds for just that LSN.
    fetched(&cache, 40, 150).expect("sound");
    assert_eq!(found(&cache, &[39, 40, 150, 151, 250, 300]), [None, Some(40), Some(40), None, None, Some(300)]);
    fetched(&cache, 40, 180).expect("sound");
    fetched(&cache, 200, 250).expect("sound");
    assert_eq!(found(&cache, &[180, 181, 200, 250, 251]), [Some(40), None, Some(200), Some(200), None]);
}

#[test]
fn answers_that_contradict_what_is_known_are_refused() {
    let runtime = runtime();
    let cache = cache(&runtime, 64);
    assert!(matches!(fetched(&cache, 120, 130), Err(CacheError::Damaged { .. })), "a record that nobody wrote");
    fetched(&cache, 40, 100).expect("sound");
    changed(&cache, 200);
    assert!(matches!(fetched(&cache, 40, 250), Err(CacheError::Damaged { .. })), "a record is missing");
    assert!(matches!(fetched(&cache, 300, 310), Err(CacheError::Damaged { .. })), "a record that nobody wrote");
    assert_eq!(found(&cache, &[100, 250]), [Some(40), Some(200)]);
}

#[test]
fn eviction_remembers_the_last_change_and_spares_the_undurable() {
    let runtime = runtime();
    let cache = cache(&runtime, 64);
    fetched(&cache, 40, 100).expect("sound");
    changed(&cache, 200);
    cache.collect(&mut Collector::default());
    while found(&cache, &[200]) != [None] {
        cache.make_room();
    }
    assert_eq!(cache.directory.slot(PAGE).evicted_lsn.load(Ordering::Relaxed), 200);
    // At 150 it is not known to be the newest; at 200 it is.
    fetched(&cache, 40, 150).expect("sound");
    assert_eq!(found(&cache, &[150, 160]), [Some(40), None]);
    fetched(&cache, 200, 220).expect("sound");
    assert_eq!(found(&cache, &[220, 7000]), [Some(200), Some(200)]);
    // Applied, but not durable.
    let guard = epoch::pin();
    let mut changes = Vec::new();
    // SAFETY: the test is alone.
    unsafe {
        cache.change(PAGE, true, |_, _| None, &mut changes, &guard).expect("room");
        cache.stamp(&changes, Lsn(400), &mut Vec::new());
    }
    drop(guard);
    cache.positions.set_applied(Lsn(400));
    for _ in 0..8 {
        cache.make_room();
    }
    assert_eq!(found(&cache, &[400]), [Some(400)]);
}

#[test]
fn within_a_group_a_page_is_copied_once() {
    let runtime = runtime();
    let cache = cache(&runtime, 64);
    fetched(&cache, 40, 100).expect("sound");
    let batch = |lsn: u64| {
        let guard = epoch::pin();
        let (mut changes, mut replaced) = (Vec::new(), Vec::new());
        // SAFETY: the test is alone.
        unsafe {
            cache.change(PAGE, false, |_, _| None, &mut changes, &guard).expect("room");
            cache.change(PAGE, false, |_, _| None, &mut changes, &guard).expect("room");
            assert_eq!(changes.len(), 1);
            cache.stamp(&changes, Lsn(lsn), &mut replaced);
        }
        cache.positions.set_applied(Lsn(lsn));
        replaced.len()
    };
    assert_eq!([batch(200), batch(210), batch(220)], [1, 0, 0]);
    // Between the group's batches there is nothing to be read, and no snapshot to read it.
    assert_eq!(found(&cache, &[100, 199, 219, 220]), [Some(40), Some(40), None, Some(220)]);
    cache.positions.set_sealed(Lsn(220));
    assert_eq!([batch(230), batch(240)], [1, 0]);
    assert_eq!(found(&cache, &[220, 239, 240]), [Some(220), None, Some(240)]);
}

#[test]
fn a_frame_is_free_again_once_its_last_pin_is_gone() {
    let pool = FramePool::new(16 * storage::page::PAGE_SIZE_BYTES);
    let frames: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
    assert_eq!((frames.len(), pool.available()), (16, 0));
    // The reserve is for the sequencer only.
    let reserved = pool.take_reserved().expect("reserve");
    pool.give_back(reserved);
    pool.pin(frames[0]);
    pool.pin(frames[0]);
    pool.release_unlinked(&frames[..2]);
    assert_eq!(pool.available(), 1);
    pool.unpin(frames[0]);
    assert_eq!(pool.available(), 1);
    pool.unpin(frames[0]);
    assert_eq!(pool.available(), 2);
}
