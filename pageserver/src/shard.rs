//! One shard being served: its view, its manifest, and what readers and background tasks share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use storage::layer::{LayerDescriptor, LayerName, LayerReader, shard_prefix};
use storage::manifest::{Manifest, TimeMark};
use storage::object::ObjectStore;
use storage::{Lsn, PageNo};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::caches::Caches;
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
    labels: Vec<metrics::Label>,
    /// The log knows this shard and its siblings as consumers, and the ancestors' logs have been let go.
    pub registered: AtomicBool,
    /// The log no longer has what comes after the layers.
    stranded: AtomicBool,
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
    pub async fn attach(
        config: PageServerConfig,
        caches: &Caches,
        store: ObjectStore,
        writer: Uuid,
    ) -> Result<Shard, OwnerError> {
        let owner = ManifestOwner::attach(&store, &config.lineage, (config.shard, config.layout), writer).await?;
        let manifest = owner.manifest().await;
        let mut reader = LayerReader::new(store.clone(), caches.layers.clone(), config.shard);
        if let Some(disk) = &caches.disk {
            reader = reader.with_disk_cache(disk.clone());
        }
        let labels = vec![
            metrics::Label::new("branch", config.branch.to_string()),
            metrics::Label::new("shard", config.shard.to_string()),
        ];
        Ok(Shard {
            pages: caches.pages.clone(),
            prefix: shard_prefix(config.branch, config.shard),
            config,
            store,
            reader,
            labels,
            registered: AtomicBool::new(false),
            stranded: AtomicBool::new(false),
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
        let mark = TimeMark { lsn: batch.end_lsn, commit_time_us: batch.commit_time_us };
        view.open().insert(mark, batch.records);
        self.ingested.send_replace(batch.end_lsn);
        view.open().bytes()
    }

    /// Nothing more comes at or below `lsn`.
    pub fn advance(&self, lsn: Lsn) {
        let view = self.view.read();
        if view.open().end_lsn() < lsn {
            view.open().advance(lsn);
            self.ingested.send_replace(lsn);
        }
    }

    /// Whether a page is this shard's.
    pub fn holds(&self, page: PageNo) -> bool {
        self.config.layout.shard_of(page) == self.config.shard
    }

    /// Labels of the shard's metrics.
    pub fn labels(&self) -> Vec<metrics::Label> {
        self.labels.clone()
    }

    /// Notes that the log no longer has what comes after the layers.
    pub fn set_stranded(&self) {
        self.stranded.store(true, Ordering::Release);
    }

    /// Whether the log no longer has what comes after the layers.
    pub fn is_stranded(&self) -> bool {
        self.stranded.load(Ordering::Acquire)
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
                metrics::gauge!(crate::metrics::LAYERS, self.labels()).set(manifest.layers.len() as f64);
                metrics::gauge!(crate::metrics::DURABLE_LSN, self.labels()).set(manifest.durable_lsn.0 as f64);
                self.layers_changed.notify_one();
                self.room.notify_one();
            }
            Err(error) => {
                let (branch, shard) = (self.config.branch, self.config.shard);
                tracing::warn!(%branch, %shard, %error, "no longer the owner of the shard");
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
