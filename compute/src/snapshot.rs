//! [`Snapshots`]: which LSNs running transactions read at, so that versions they need stay in memory.
//!
//! Only a hint for the cache: a version dropped although a snapshot needs it is fetched again. So taking
//! a snapshot is one store, ordered with nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use storage::Lsn;

const CHUNK: usize = 64;
const UNUSED: u64 = u64::MAX;

type Chunk = [CachePadded<AtomicU64>; CHUNK];

/// All registered snapshots.
#[derive(Default)]
pub(crate) struct Snapshots {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    chunks: Vec<Arc<Chunk>>,
    free: Vec<Place>,
}

struct Place {
    chunk: Arc<Chunk>,
    index: usize,
}

/// A transaction's place among the snapshots. Dropping it ends the registration.
pub(crate) struct Snapshot {
    registry: Arc<Snapshots>,
    place: Option<Place>,
}

impl Snapshots {
    /// A place, reading at `lsn` to begin with.
    pub(crate) fn register(self: &Arc<Self>, lsn: Lsn) -> Snapshot {
        let place = {
            let mut inner = self.inner.lock();
            inner.free.pop().unwrap_or_else(|| inner.grow())
        };
        place.chunk[place.index].store(lsn.0, Ordering::Release);
        Snapshot { registry: self.clone(), place: Some(place) }
    }

    /// The LSNs in use, ascending, each once.
    pub(crate) fn active(&self) -> Vec<Lsn> {
        let chunks = self.inner.lock().chunks.clone();
        let all = chunks.iter().flat_map(|chunk| chunk.iter()).map(|place| place.load(Ordering::Acquire));
        let mut lsns: Vec<Lsn> = all.filter(|lsn| *lsn != UNUSED).map(Lsn).collect();
        lsns.sort_unstable();
        lsns.dedup();
        lsns
    }
}

impl Inner {
    fn grow(&mut self) -> Place {
        let chunk: Arc<Chunk> = Arc::new(std::array::from_fn(|_| CachePadded::new(AtomicU64::new(UNUSED))));
        self.chunks.push(chunk.clone());
        self.free.extend((1..CHUNK).map(|index| Place { chunk: chunk.clone(), index }));
        Place { chunk, index: 0 }
    }
}

impl Snapshot {
    /// Moves on to another LSN.
    pub(crate) fn set(&self, lsn: Lsn) {
        if let Some(place) = &self.place {
            place.chunk[place.index].store(lsn.0, Ordering::Release);
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.chunk[place.index].store(UNUSED, Ordering::Release);
            self.registry.inner.lock().free.push(place);
        }
    }
}
