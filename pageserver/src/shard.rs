//! One shard being served: its view, its manifest, and what readers and background tasks share.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use storage::layer::{DiskCache, LayerDescriptor, LayerName, LayerReader, shard_prefix};
use storage::manifest::Manifest;
use storage::object::ObjectStore;
use storage::{Generation, Lsn, PageNo};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::admission::Admission;
use crate::caches::Caches;
use crate::compaction::{Job, JobContext, LayerId};
use crate::compactors::{Assignment, LeaseId, NAMES_OF_LEASE};
use crate::config::PageServerConfig;
use crate::decode::PageBatches;
use crate::metrics as names;
use crate::owner::{ManifestOwner, OwnerError};
use crate::page_cache::PageCache;
use crate::read::ReadMeters;
use crate::scrub::ScrubReport;
use crate::spill::{Spill, SpilledBuffer};
use crate::view::View;

/// Shared by readers, the ingester, the flusher and the compactors.
#[derive(Debug)]
pub(crate) struct Shard {
    pub config: PageServerConfig,
    pub store: ObjectStore,
    pub reader: LayerReader,
    pub pages: PageCache,
    /// The cache of layers on local disk, shared by all shards.
    pub disk: Option<DiskCache>,
    /// Where buffers are set aside while the object store does not take layers.
    pub spill: Option<Spill>,
    /// A buffer may have to be set aside.
    pub spill_due: Notify,
    /// The object store did not take what was last given to it.
    store_fails: AtomicBool,
    /// It was told that there is no room to set buffers aside.
    spill_is_full: AtomicBool,
    pub admission: Admission,
    pub meters: ReadMeters,
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
    generation: Generation,
    /// A buffer was frozen.
    pub frozen: Notify,
    /// Counts changes of the layers, and merges that ended.
    changes: watch::Sender<u64>,
    /// What running jobs read.
    in_use: Arc<Mutex<InUse>>,
    /// Another page server owns the shard: nothing is written any more.
    lost: AtomicBool,
    stop: watch::Sender<bool>,
    /// The directory has been told of the horizon by this owner.
    horizon_told: AtomicBool,
    /// Names that were given away for jobs whose results are not wanted any more.
    strays: Mutex<Strays>,
    /// Of the last check of the whole shard.
    report: Mutex<ScrubReport>,
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
        let mut reader = LayerReader::new(store.clone(), caches.layers.clone());
        if let Some(disk) = &caches.disk {
            reader = reader.with_disk_cache(disk.clone());
        }
        let labels = vec![
            metrics::Label::new("branch", config.branch.to_string()),
            metrics::Label::new("shard", config.shard.to_string()),
        ];
        Ok(Shard {
            pages: caches.pages.clone(),
            disk: caches.disk.clone(),
            spill: caches.spill.clone().map(|space| Spill::new(space, caches.layers.clone())),
            spill_due: Notify::new(),
            store_fails: AtomicBool::new(false),
            spill_is_full: AtomicBool::new(false),
            admission: caches.admission.clone(),
            meters: ReadMeters::new(),
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
            changes: watch::Sender::new(0),
            in_use: Arc::default(),
            lost: AtomicBool::new(false),
            stop: watch::Sender::new(false),
            horizon_told: AtomicBool::new(false),
            strays: Mutex::new(Strays { sweeps_due: SWEEPS, names: VecDeque::new() }),
            report: Mutex::default(),
        })
    }

    /// Buffers and layers at this moment.
    pub fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }

    /// Takes batches into the open buffer. Returns the buffer's size. Readers are to be told with [`Shard::announce_log`].
    pub fn insert(&self, batches: &PageBatches) -> usize {
        // Held meanwhile: a buffer frozen between its being looked up and being filled could be written as a layer
        // without the batches.
        let view = self.view.read();
        view.open().insert(batches)
    }

    /// Tells readers what has been taken into the open buffer.
    pub fn announce_log(&self) {
        let reached = self.view.read().open().end_lsn();
        self.ingested.send_if_modified(|ingested| {
            let more = reached > *ingested;
            *ingested = reached.max(*ingested);
            more
        });
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

    /// Whether the directory has been told of the horizon since the shard was taken over.
    pub fn horizon_told(&self) -> bool {
        self.horizon_told.load(Ordering::Relaxed)
    }

    /// Notes that it has been.
    pub fn set_horizon_told(&self) {
        self.horizon_told.store(true, Ordering::Relaxed);
    }

    /// Of this owner.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Keeps what a check of the whole shard has found, in place of the last one.
    pub fn keep_report(&self, report: ScrubReport) {
        *self.report.lock() = report;
    }

    /// What the last check found.
    pub fn report(&self) -> ScrubReport {
        self.report.lock().clone()
    }

    /// Labels of the shard's metrics.
    pub fn labels(&self) -> Vec<metrics::Label> {
        self.labels.clone()
    }

    /// Tells the shard's gauges where it stands.
    pub fn publish(&self) {
        let view = self.view();
        let held_bytes = view.open().bytes() + view.frozen_bytes();
        self.set_gauges(held_bytes as f64, view.layers().len() as f64, |lsn| lsn.0 as f64);
        self.set_spill_gauges(&view);
    }

    fn set_spill_gauges(&self, view: &View) {
        let spilled_bytes: u64 = view.spilled().iter().map(|buffer| buffer.bytes()).sum();
        metrics::gauge!(names::SPILLED_BUFFERS, self.labels()).set(view.spilled().len() as f64);
        metrics::gauge!(names::SPILLED_BYTES, self.labels()).set(spilled_bytes as f64);
    }

    /// Whether the object store did not take what was last given to it.
    pub fn store_fails(&self) -> bool {
        self.store_fails.load(Ordering::Acquire)
    }

    /// Notes that the object store does not take what it is given, or not in time.
    pub fn note_store_failure(&self) {
        self.store_fails.store(true, Ordering::Release);
        self.spill_due.notify_one();
    }

    /// `work` with the object store, which fails if that takes as long as nobody would wait for a page.
    pub async fn in_time<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            outcome = &mut work => return outcome,
            () = tokio::time::sleep(SLOW_STORE) => self.note_store_failure(),
        }
        work.await
    }

    /// Shows readers a buffer that has been set aside, and lets it go from memory.
    pub fn show_spilled(&self, buffer: SpilledBuffer) {
        let begins = {
            let mut view = self.view.write();
            // Otherwise it has become a layer meanwhile.
            let Some(next) = view.with_spilled(buffer) else { return };
            let begins = view.spilled().is_empty();
            *view = Arc::new(next);
            begins
        };
        if begins {
            let (branch, shard) = (self.config.branch, self.config.shard);
            tracing::warn!(%branch, %shard, "the object store does not take layers: buffers are set aside on local disk");
        }
        self.set_spill_gauges(&self.view());
        self.announce_change();
    }

    /// Says, once, that nothing more can be set aside.
    pub fn note_full_spill(&self) {
        if !self.spill_is_full.swap(true, Ordering::Relaxed) {
            let (branch, shard) = (self.config.branch, self.config.shard);
            tracing::warn!(%branch, %shard, "no room is left to set buffers aside: the log is not read until there is");
        }
    }

    /// What was set aside cannot be read. Only the log has it now: the shard is given up, to be taken over anew.
    pub fn lose_spill(&self, error: &(dyn std::fmt::Display + Sync)) {
        let (branch, shard) = (self.config.branch, self.config.shard);
        tracing::error!(%branch, %shard, %error, "a buffer on local disk is damaged: the shard is given up, to read the log again");
        self.lost.store(true, Ordering::Release);
        self.spill_due.notify_one();
        self.announce_change();
    }

    fn set_gauges(&self, held_bytes: f64, layers: f64, shown: impl Fn(Lsn) -> f64) {
        metrics::gauge!(names::BUFFER_BYTES, self.labels()).set(held_bytes);
        metrics::gauge!(names::LAYERS, self.labels()).set(layers);
        metrics::gauge!(names::DURABLE_LSN, self.labels()).set(shown(self.view().layers().durable_lsn()));
        metrics::gauge!(names::INGESTED_LSN, self.labels()).set(shown(self.ingested()));
    }

    /// The log no longer has what comes after what was read. Either the shard has another owner, who holds it in layers,
    /// or nobody will ever have it. An error: not known yet.
    pub async fn set_stranded(&self) -> Result<(), OwnerError> {
        let is_ours = self.owner.is_current().await?;
        let fate = if is_ours { &self.stranded } else { &self.lost };
        fate.store(true, Ordering::Release);
        Ok(())
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
        self.spill_due.notify_one();
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

    /// Follows changes of the layers. None is missed by who looks at the manifest after it has looked at this.
    pub fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Wakes those who wait for the layers to change.
    pub fn announce_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Marks layers that a job reads, until what is given is dropped: they are not deleted meanwhile, nor, if it is a merge,
    /// merged otherwise.
    pub fn use_layers(&self, layers: impl Iterator<Item = LayerId>, merge: bool) -> LayersInUse {
        let layers: Vec<_> = layers.collect();
        self.in_use.lock().add(&layers, merge);
        LayersInUse { in_use: self.in_use.clone(), layers, merge }
    }

    /// Marks the layers of the merge that `plan` chooses, given the layers that are being merged.
    pub fn use_for_merge(&self, plan: impl FnOnce(&HashSet<LayerId>) -> Option<Job>) -> Option<(Job, LayersInUse)> {
        let mut in_use = self.in_use.lock();
        let job = plan(&in_use.merging)?;
        let layers: Vec<_> = job.reads().collect();
        in_use.add(&layers, true);
        Some((job, LayersInUse { in_use: self.in_use.clone(), layers, merge: true }))
    }

    /// Whether a running job reads a layer.
    pub fn is_in_use(&self, layer: LayerId) -> bool {
        self.in_use.lock().readers.contains_key(&layer)
    }

    /// Whether a running merge will replace a layer.
    pub fn is_being_merged(&self, layer: LayerId) -> bool {
        self.in_use.lock().merging.contains(&layer)
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
            self.note_store_failure();
            self.pause(self.config.retry_pause).await;
            !self.stopping()
        };
        let mut ends = false;
        let show = |manifest: &Manifest| {
            let mut view = self.view.write();
            let next = view.with_manifest(manifest);
            ends = next.spilled().is_empty() && !view.spilled().is_empty();
            *view = Arc::new(next);
        };
        let outcome = self.in_time(self.owner.update(change, pause, show)).await;
        match &outcome {
            Ok(_) => {
                self.store_fails.store(false, Ordering::Release);
                self.spill_is_full.store(false, Ordering::Relaxed);
                if ends {
                    let (branch, shard) = (self.config.branch, self.config.shard);
                    tracing::info!(%branch, %shard, "all that was set aside on local disk is in the object store");
                }
                self.publish();
                self.announce_change();
            }
            Err(error) => {
                let (branch, shard) = (self.config.branch, self.config.shard);
                tracing::warn!(%branch, %shard, %error, "no longer the owner of the shard");
                self.lost.store(true, Ordering::Release);
            }
        }
        outcome
    }

    /// What a rewrite from and to some places needs.
    pub fn job_context<'a>(
        &'a self,
        (reader, store): (&'a LayerReader, &'a ObjectStore),
        next_name: &'a (dyn Fn() -> LayerName + Send + Sync),
        stopped: &'a (dyn Fn() -> bool + Send + Sync),
    ) -> JobContext<'a> {
        JobContext {
            store,
            reader,
            branch: self.config.branch,
            shard: self.config.shard,
            layer_target_bytes: self.config.compaction.layer_target_bytes,
            next_name,
            stopped,
        }
    }

    /// A layer's name that was never used before.
    pub fn next_name(&self) -> LayerName {
        LayerName { generation: self.generation, sequence: self.next_sequence.fetch_add(1, Ordering::Relaxed) }
    }

    /// A job for a compactor, with names that nobody else has.
    pub fn assignment(&self, job: &Job) -> Assignment {
        let sequence = self.next_sequence.fetch_add(NAMES_OF_LEASE, Ordering::Relaxed);
        let first_name = LayerName { generation: self.generation, sequence };
        Assignment {
            lease: LeaseId { branch: self.config.branch, shard: self.config.shard, first_name },
            job: job.clone(),
            layer_target_bytes: self.config.compaction.layer_target_bytes,
            names: NAMES_OF_LEASE,
        }
    }

    /// Layers of these names will never be part of the shard.
    pub fn note_stray_names(&self, assignment: &Assignment) {
        let first = assignment.lease.first_name.sequence;
        let mut strays = self.strays.lock();
        if strays.names.len() == MOST_STRAY_RANGES {
            // Whoever owns the shard next finds them.
            strays.names.pop_front();
        }
        strays.names.push_back(first..first.saturating_add(assignment.names));
        strays.sweeps_due = SWEEPS;
    }

    /// Whether there may be strays that were not looked for; counts as having looked.
    pub fn begin_sweep(&self) -> bool {
        let mut strays = self.strays.lock();
        let due = strays.sweeps_due > 0;
        strays.sweeps_due = strays.sweeps_due.saturating_sub(1);
        due
    }

    /// Looks for strays again, some time.
    pub fn sweep_again(&self) {
        let mut strays = self.strays.lock();
        strays.sweeps_due = strays.sweeps_due.max(1);
    }

    /// Object key of a layer.
    pub fn layer_key(&self, name: LayerName) -> String {
        storage::layer::layer_key(&self.prefix, name)
    }

    /// Prefix of all layers' keys.
    pub fn layers_prefix(&self) -> String {
        format!("{}/layers", self.prefix)
    }

    /// Whether a layer that the manifest does not name never will be named: it is an earlier owner's, or of a job whose
    /// result is not wanted any more.
    pub fn is_stray(&self, name: LayerName) -> bool {
        let lost = || self.strays.lock().names.iter().any(|names| names.contains(&name.sequence));
        name.generation < self.generation || (name.generation == self.generation && lost())
    }
}

/// What takes the object store longer counts as a failure, once buffers wait: clients wait 30 s for a page.
const SLOW_STORE: Duration = Duration::from_secs(10);
/// Strays are looked for twice: a worker that was slow or paused may write after the first time.
const SWEEPS: u32 = 2;
/// Jobs whose names are remembered for that.
const MOST_STRAY_RANGES: usize = 1024;

#[derive(Debug)]
struct Strays {
    /// Of the generation, oldest first.
    names: VecDeque<Range<u64>>,
    sweeps_due: u32,
}

impl Drop for Shard {
    /// A shard that is served elsewhere must not look as if it stood still here. Where it is served here again, its gauges
    /// are set anew within half a second.
    fn drop(&mut self) {
        self.set_gauges(0.0, 0.0, |_| f64::NAN);
        metrics::gauge!(names::SPILLED_BUFFERS, self.labels()).set(0.0);
        metrics::gauge!(names::SPILLED_BYTES, self.labels()).set(0.0);
    }
}

/// Layers that jobs read.
#[derive(Debug, Default)]
struct InUse {
    readers: HashMap<LayerId, usize>,
    /// Of merges.
    merging: HashSet<LayerId>,
}

impl InUse {
    fn add(&mut self, layers: &[LayerId], merge: bool) {
        for layer in layers {
            *self.readers.entry(*layer).or_default() += 1;
        }
        if merge {
            self.merging.extend(layers);
        }
    }
}

/// A job's layers, marked for as long as this lives.
#[derive(Debug)]
pub(crate) struct LayersInUse {
    in_use: Arc<Mutex<InUse>>,
    layers: Vec<LayerId>,
    merge: bool,
}

impl Drop for LayersInUse {
    fn drop(&mut self) {
        let mut in_use = self.in_use.lock();
        for layer in &self.layers {
            if let Some(readers) = in_use.readers.get_mut(layer) {
                *readers -= 1;
                if *readers == 0 {
                    in_use.readers.remove(layer);
                }
            }
            if self.merge {
                in_use.merging.remove(layer);
            }
        }
    }
}

/// Bytes of layers.
pub(crate) fn layer_bytes(layers: &[LayerDescriptor]) -> u64 {
    layers.iter().map(|layer| layer.size_bytes).sum()
}
