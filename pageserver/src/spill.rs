//! Buffers set aside on local disk while the object store does not take layers.
//!
//! Memory for buffers is bounded. Without this the log would not be read any further while the object store is away, and
//! pages that were changed meanwhile could not be had. A buffer that is set aside is written as the layer it will be, but
//! nothing becomes durable by it: manifest, durable LSN and what the log keeps stay as they are, and whoever serves the shard
//! next reads the log again. The files have no names, so they go with whoever uses them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storage::Lsn;
use storage::layer::{LayerCache, LayerDescriptor, LayerError, LayerReader};
use storage::manifest::TimeMark;
use storage::object::{ObjectError, ObjectStore, Scratch};

use crate::buffer::RecordBuffer;
use crate::compaction::JobError;
use crate::config::PageServerConfig;

/// What the shards of a process may set aside together. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SpillSpace {
    directory: PathBuf,
    limit_bytes: u64,
    used_bytes: Arc<AtomicU64>,
}

impl SpillSpace {
    /// Below the directory of the cache; `None` without one, or when nothing may be set aside.
    pub fn new(config: &PageServerConfig) -> Option<SpillSpace> {
        let directory = config.cache_dir.as_ref()?.join("spill");
        let limit_bytes = config.spill_disk_bytes;
        (limit_bytes > 0).then(|| SpillSpace { directory, limit_bytes, used_bytes: Arc::default() })
    }

    /// Room for a buffer; `None`: there is none now.
    pub fn reserve(&self, bytes: u64) -> Option<Room> {
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes);
        let used = self.used_bytes.clone();
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Room { used, bytes })
    }
}

/// Room that is taken, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    used: Arc<AtomicU64>,
    bytes: u64,
}

impl Room {
    /// Gives back what is not needed.
    fn shrink(&mut self, bytes: u64) {
        let spare = self.bytes.saturating_sub(bytes);
        self.used.fetch_sub(spare, Ordering::Relaxed);
        self.bytes -= spare;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where one shard sets buffers aside.
#[derive(Debug)]
pub(crate) struct Spill {
    pub space: SpillSpace,
    pub store: ObjectStore,
    pub reader: LayerReader,
    scratch: Scratch,
}

impl Spill {
    /// Empty.
    pub fn new(space: SpillSpace, cache: LayerCache) -> Spill {
        let scratch = Scratch::new(space.directory.clone());
        let store = scratch.store();
        Spill { space, reader: LayerReader::new(store.clone(), cache), store, scratch }
    }

    #[cfg(test)]
    pub fn damage(&self, layer: &LayerDescriptor) {
        self.scratch.remove(&layer.key());
    }

    /// A buffer that has been written here as these layers.
    pub fn spilled(&self, buffer: &RecordBuffer, layers: Vec<LayerDescriptor>, mut room: Room) -> SpilledBuffer {
        room.shrink(layers.iter().map(|layer| layer.size_bytes).sum());
        let (start_lsn, end_lsn, marks) = (buffer.start_lsn(), buffer.end_lsn(), buffer.marks());
        SpilledBuffer { start_lsn, end_lsn, marks, layers, room, scratch: self.scratch.clone() }
    }
}

/// A buffer set aside. Its room is given back when nobody reads it any more.
#[derive(Debug)]
pub(crate) struct SpilledBuffer {
    start_lsn: Lsn,
    end_lsn: Lsn,
    marks: Vec<TimeMark>,
    layers: Vec<LayerDescriptor>,
    room: Room,
    scratch: Scratch,
}

impl SpilledBuffer {
    /// Records lie above this.
    pub fn start_lsn(&self) -> Lsn {
        self.start_lsn
    }

    /// Records lie at or below this.
    pub fn end_lsn(&self) -> Lsn {
        self.end_lsn
    }

    /// When points of the log in it were committed, oldest first.
    pub fn marks(&self) -> &[TimeMark] {
        &self.marks
    }

    /// One run; none if it holds no record.
    pub fn layers(&self) -> &[LayerDescriptor] {
        &self.layers
    }

    /// Room that it takes.
    pub fn bytes(&self) -> u64 {
        self.room.bytes
    }

    /// Whether it has records with `above < LSN ≤ up_to`.
    pub fn concerns(&self, above: Option<Lsn>, up_to: Lsn) -> bool {
        self.start_lsn < up_to && above.is_none_or(|above| self.end_lsn > above)
    }
}

impl Drop for SpilledBuffer {
    fn drop(&mut self) {
        self.layers.iter().for_each(|layer| self.scratch.remove(&layer.key()));
    }
}

/// Whether reading what was set aside failed for good: only the log has it now. (Of writing to the object store it is never told
/// that an object is missing.)
pub(crate) fn is_gone(error: &JobError) -> bool {
    match error {
        JobError::Layer(LayerError::Object(error)) => matches!(error, ObjectError::NotFound { .. }),
        JobError::Layer(LayerError::Damaged { .. } | LayerError::Version { .. }) | JobError::Replay(_) => true,
        JobError::Panicked(_) | JobError::Stopped => false,
    }
}
