//! What a shard consists of at a moment: buffers, in memory and set aside, and layers. Readers take it whole; a change makes a new one.

use std::sync::Arc;

use storage::manifest::{Manifest, TimeMark};
use storage::{Lsn, PageNo};

use crate::buffer::{BufferedRecord, RecordBuffer};
use crate::layer_map::LayerMap;
use crate::spill::SpilledBuffer;

/// Buffers and layers. Every record above the layers' durable LSN is in exactly one buffer.
#[derive(Clone, Debug)]
pub struct View {
    open: Arc<RecordBuffer>,
    /// Oldest first.
    frozen: Vec<Arc<RecordBuffer>>,
    /// Older than these, oldest first.
    spilled: Vec<Arc<SpilledBuffer>>,
    layers: Arc<LayerMap>,
}

impl View {
    /// Of a shard just attached.
    pub fn new(manifest: &Manifest) -> View {
        let latest_us = manifest.marks.iter().map(|mark| mark.commit_time_us).max().unwrap_or(0);
        let open = Arc::new(RecordBuffer::new(manifest.durable_lsn, latest_us));
        View { open, frozen: Vec::new(), spilled: Vec::new(), layers: Arc::new(LayerMap::new(manifest)) }
    }

    /// The buffer being filled.
    pub fn open(&self) -> &Arc<RecordBuffer> {
        &self.open
    }

    /// The oldest buffer in memory that waits to be written as a layer.
    pub fn oldest_frozen(&self) -> Option<&Arc<RecordBuffer>> {
        self.frozen.first()
    }

    /// Buffers set aside on local disk, oldest first. They are to be written as layers before those in memory.
    pub(crate) fn spilled(&self) -> &[Arc<SpilledBuffer>] {
        &self.spilled
    }

    /// Memory of the frozen buffers.
    pub fn frozen_bytes(&self) -> usize {
        self.frozen.iter().map(|buffer| buffer.bytes()).sum()
    }

    /// The layers.
    pub fn layers(&self) -> &Arc<LayerMap> {
        &self.layers
    }

    /// The open buffer frozen, and a new one in its place.
    #[must_use]
    pub fn frozen_open(&self) -> View {
        let mut frozen = self.frozen.clone();
        frozen.push(self.open.clone());
        let open = RecordBuffer::new(self.open.end_lsn(), self.open.latest_us());
        View { open: Arc::new(open), frozen, ..self.clone() }
    }

    /// With a buffer that was set aside in place of the oldest frozen one. `None`: that has become a layer meanwhile.
    #[must_use]
    pub(crate) fn with_spilled(&self, buffer: SpilledBuffer) -> Option<View> {
        let (oldest, frozen) = self.frozen.split_first()?;
        if (oldest.start_lsn(), oldest.end_lsn()) != (buffer.start_lsn(), buffer.end_lsn()) {
            return None;
        }
        let mut spilled = self.spilled.clone();
        spilled.push(Arc::new(buffer));
        Some(View { frozen: frozen.to_vec(), spilled, ..self.clone() })
    }

    /// With the layers of a newer manifest, and without the buffers that it makes superfluous.
    #[must_use]
    pub fn with_manifest(&self, manifest: &Manifest) -> View {
        let mut frozen = self.frozen.clone();
        frozen.retain(|buffer| buffer.end_lsn() > manifest.durable_lsn);
        let mut spilled = self.spilled.clone();
        spilled.retain(|buffer| buffer.end_lsn() > manifest.durable_lsn);
        let first = frozen.first().unwrap_or(&self.open).start_lsn();
        let first = spilled.first().map_or(first, |buffer| buffer.start_lsn());
        assert_eq!(first, manifest.durable_lsn, "buffers continue where the layers end");
        View { open: self.open.clone(), frozen, spilled, layers: Arc::new(LayerMap::new(manifest)) }
    }

    /// When points of the log in the buffers were committed, oldest first.
    pub fn marks(&self) -> Vec<TimeMark> {
        let spilled = self.spilled.iter().flat_map(|buffer| buffer.marks()).copied();
        spilled.chain(self.frozen.iter().chain([&self.open]).flat_map(|buffer| buffer.marks())).collect()
    }

    /// A page's records in the buffers in memory with `above < LSN ≤ up_to`, oldest first.
    pub fn buffered(&self, page: PageNo, above: Option<Lsn>, up_to: Lsn) -> Vec<BufferedRecord> {
        let mut records = Vec::new();
        for buffer in self.frozen.iter().chain([&self.open]) {
            if buffer.start_lsn() >= up_to {
                break;
            }
            records.append(&mut buffer.records(page, above, up_to));
        }
        records
    }
}
