//! One shard being served: its view, its manifest, and what readers and background tasks share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use storage::Lsn;
use storage::layer::{DiskCache, LayerCache, LayerDescriptor, LayerName, LayerReader, shard_prefix};
use storage::manifest::Manifest;
use storage::object::ObjectStore;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::compaction::JobContext;
use crate::config::PageServerConfig;
use crate::decode::PageBatch;
use crate::owner::{ManifestOwner, OwnerError};
use crate::page_cache::PageCache;
use crate::view::View;

/// Shared by readers, the ingester, the flusher and the compactors.
#[derive(Debug)]
pub(crate) struct Shard {
    pub config: PageServerConfig,
    pub store: ObjectStore,
    pub reader: LayerReader,
    pub pages: PageCache,
    prefix: String,
    owner: ManifestOwner,
    /// Held only to take or replace the `Arc`.
    view: RwLock<Arc<View>>,
    ingested: watch::Sender<Lsn>,
    /// Of the layers that this owner writes.
    next_sequence: AtomicU64,
    generation: storage::Generation,
    /// A buffer was frozen.
    pub frozen: Notify,
    /// A buffer became a layer, or a compaction made room.
    pub room: Notify,
    /// The layers changed.
    pub layers_changed: Notify,
    /// Another page server owns the shard: nothing is written any more.
    lost: AtomicBool,
    stop: watch::Sender<bool>,
}

impl Shard {
    /// Takes the shard over and reads what it consists of.
    pub async fn attach(config: PageServerConfig, store: ObjectStore, writer: Uuid) -> Result<Shard, OwnerError> {
        let prefix = shard_prefix(config.branch, config.shard);
        let owner = ManifestOwner::attach(&store, &prefix, (config.branch, config.shard), writer).await?;
        let manifest = owner.manifest().await;
        // Indexes are small beside the blocks they lead to; without them every read costs one more request.
        let cache = LayerCache::new(config.block_cache_bytes, (config.block_cache_bytes / 8).max(1 << 20));
        let mut reader = LayerReader::new(store.clone(), cache, config.branch, config.shard);
        if let Some(directory) = &config.cache_dir {
            match DiskCache::open(directory, config.cache_disk_bytes) {
                Ok(disk) => reader = reader.with_disk_cache(disk),
                Err(error) => {
                    tracing::warn!(directory = %directory.display(), %error, "no cache of layers on disk");
                }
            }
        }
        Ok(Shard {
            pages: PageCache::new(config.page_cache_bytes),
            config,
            store,
            reader,
            prefix,
            owner,
            view: RwLock::new(Arc::new(View::new(&manifest))),
            ingested: watch::Sender::new(manifest.durable_lsn),
            next_sequence: AtomicU64::new(0),
            generation: manifest.generation,
            frozen: Notify::new(),
            room: Notify::new(),
            layers_changed: Notify::new(),
            lost: AtomicBool::new(false),
            stop: watch::Sender::new(false),
        })
    }

    /// Buffers and layers at this moment.
    pub fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }

    /// Takes a batch into the open buffer and tells readers. Returns the buffer's size.
    pub fn insert(&self, batch: PageBatch) -> usize {
        // Held meanwhile: a buffer frozen between its being looked up and being filled could be written as a layer
        // without the batch.
        let view = self.view.read();
        view.open().insert(batch.end_lsn, batch.records);
        self.ingested.send_replace(batch.end_lsn);
        view.open().bytes()
    }

    /// Freezes the open buffer if it holds anything.
    pub fn freeze(&self) {
        {
            let mut view = self.view.write();
            if view.open().end_lsn() == view.open().start_lsn() {
                return;
            }
            *view = Arc::new(view.frozen_open());
        }
        self.frozen.notify_one();
    }

    /// Log taken into memory.
    pub fn ingested(&self) -> Lsn {
        *self.ingested.borrow()
    }

    /// Follows the log taken into memory.
    pub fn watch_ingested(&self) -> watch::Receiver<Lsn> {
        self.ingested.subscribe()
    }

    /// Whether the server stops.
    pub fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Makes all tasks end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Resolves when the server stops.
    pub async fn stopped(&self) {
        // The sender lives in `self`.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Whether another owner was seen.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Waits, but not beyond the server's stop.
    pub async fn pause(&self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.stopped() => {}
        }
    }

    /// The manifest as last written.
    pub async fn manifest(&self) -> Manifest {
        self.owner.manifest().await
    }

    /// Changes the manifest, then shows the change to readers. An error means that the shard is lost.
    pub async fn update_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Result<Manifest, OwnerError> {
        let pause = |reason: String| async move {
            tracing::warn!(branch = %self.config.branch, %reason, "manifest not written");
            metrics::counter!(crate::metrics::BACKGROUND_FAILURES, "work" => "manifest").increment(1);
            self.pause(self.config.retry_pause).await;
            !self.stopping()
        };
        let show = |manifest: &Manifest| {
            let mut view = self.view.write();
            *view = Arc::new(view.with_manifest(manifest));
        };
        let outcome = self.owner.update(change, pause, show).await;
        match &outcome {
            Ok(manifest) => {
                metrics::gauge!(crate::metrics::LAYERS).set(manifest.layers.len() as f64);
                metrics::gauge!(crate::metrics::DURABLE_LSN).set(manifest.durable_lsn.0 as f64);
                self.layers_changed.notify_one();
                self.room.notify_one();
            }
            Err(error) => {
                tracing::error!(branch = %self.config.branch, %error, "no longer the owner of the shard");
                self.lost.store(true, Ordering::Release);
            }
        }
        outcome
    }

    /// Runs `work` with what a rewrite needs. A rewrite ends early when the server stops, unless it is `urgent`.
    pub async fn with_job_context<T, W>(&self, urgent: bool, work: W) -> T
    where
        W: AsyncFnOnce(&JobContext<'_>) -> T,
    {
        let next_name =
            || LayerName { generation: self.generation, sequence: self.next_sequence.fetch_add(1, Ordering::Relaxed) };
        let stopped = || (self.stopping() && !urgent) || self.is_lost();
        let context = JobContext {
            store: &self.store,
            reader: &self.reader,
            branch: self.config.branch,
            shard_prefix: &self.prefix,
            layer_target_bytes: self.config.compaction.layer_target_bytes,
            next_name: &next_name,
            stopped: &stopped,
        };
        work(&context).await
    }

    /// Object key of a layer.
    pub fn layer_key(&self, name: LayerName) -> String {
        storage::layer::layer_key(&self.prefix, name)
    }

    /// Prefix of all layers' keys.
    pub fn layers_prefix(&self) -> String {
        format!("{}/layers", self.prefix)
    }

    /// Whether a layer was written by an earlier owner.
    pub fn is_from_earlier_owner(&self, name: LayerName) -> bool {
        name.generation < self.generation
    }
}

/// Bytes of layers.
pub(crate) fn layer_bytes(layers: &[LayerDescriptor]) -> u64 {
    layers.iter().map(|layer| layer.size_bytes).sum()
}
