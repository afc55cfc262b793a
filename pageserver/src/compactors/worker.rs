//! The worker's side: takes a job, does it, hands back what it made. Keeps nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use storage::layer::{LayerCache, LayerDescriptor, LayerName, LayerReader};
use storage::object::ObjectStore;
use tokio::sync::watch;
use tokio::time::Instant;

use super::offers::LEASE;
use super::{Assignment, JobSource, LeaseId, SourceError};
use crate::compaction::{JobContext, JobError, apart, run_job};
use crate::metrics as names;

/// Pause after all servers had nothing to do.
const IDLE: Duration = Duration::from_millis(250);
/// Pause after a job that failed: its reason may last.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often a lease is renewed.
const RENEW: Duration = Duration::from_secs(1);
/// How often a finished job is handed back before it is given up.
const FINISH_TRIALS: usize = 4;
/// Memory for layers' indexes.
const INDEX_BYTES: u64 = 32 << 20;

/// Where to ask for jobs at the moment.
pub trait JobSources: Send + Sync {
    /// All servers that are worth asking.
    fn sources(&self) -> Vec<Arc<dyn JobSource>>;
}

/// A stateless worker. Any number of [`Worker::run`] may share it, each doing one job at a time.
pub struct Worker {
    name: String,
    store: ObjectStore,
    reader: LayerReader,
    running: AtomicU64,
}

impl Worker {
    /// With a name that tells it apart, and the object store that the page servers have.
    pub fn new(name: String, store: ObjectStore) -> Worker {
        let reader = LayerReader::new(store.clone(), LayerCache::new(0, INDEX_BYTES));
        Worker { name, store, reader, running: AtomicU64::new(0) }
    }

    /// Does jobs until told to stop; the one at hand is given up then. `slot` tells the runs of one worker apart: they begin
    /// with different servers.
    pub async fn run(self: Arc<Self>, slot: usize, sources: Arc<dyn JobSources>, mut stop: watch::Receiver<bool>) {
        let mut first = slot;
        while !*stop.borrow() {
            let mut sources = sources.sources();
            let count = sources.len().max(1);
            sources.rotate_left(first % count);
            first = first.wrapping_add(1);
            let mut pause = IDLE;
            for source in sources {
                match self.work_once(source.as_ref(), stop.clone()).await {
                    Ok(true) => pause = Duration::ZERO,
                    Ok(false) => {}
                    Err(_) => pause = pause.max(AFTER_FAILURE),
                }
                if *stop.borrow() {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Asks one server, and does what it has; false: nothing. An error has been told already.
    pub async fn work_once(&self, source: &dyn JobSource, stop: watch::Receiver<bool>) -> Result<bool, SourceError> {
        let Some(assignment) = source.take(&self.name).await? else { return Ok(false) };
        let lease = assignment.lease;
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::gauge!(names::COMPACTOR_RUNNING).set(running as f64);
        let outcome = self.do_job(source, assignment, stop).await;
        let running = self.running.fetch_sub(1, Ordering::Relaxed) - 1;
        metrics::gauge!(names::COMPACTOR_RUNNING).set(running as f64);
        let (outcome, label) = match outcome {
            Ok(layers) => {
                let bytes = layers.iter().map(|layer| layer.size_bytes).sum();
                metrics::counter!(names::COMPACTOR_WRITTEN_BYTES).increment(bytes);
                (Ok(layers), "done")
            }
            Err(error) => {
                tracing::warn!(%lease, %error, "a job was not done");
                (Err(error.to_string()), "failed")
            }
        };
        let failed = outcome.is_err();
        let label = match self.finish(source, lease, outcome).await? {
            true => label,
            false => "too late",
        };
        metrics::counter!(names::COMPACTOR_JOBS, "outcome" => label).increment(1);
        if failed { Err(SourceError(format!("job {lease} failed"))) } else { Ok(true) }
    }

    async fn do_job(
        &self,
        source: &dyn JobSource,
        assignment: Assignment,
        stop: watch::Receiver<bool>,
    ) -> Result<Vec<LayerDescriptor>, JobError> {
        let lease = assignment.lease;
        let (given_up, used) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let work = {
            let (store, reader, assignment) = (self.store.clone(), self.reader.clone(), assignment.clone());
            let (given_up, used) = (given_up.clone(), used.clone());
            move || async move {
                let next_name = || {
                    let number = used.fetch_add(1, Ordering::Relaxed);
                    assignment.name(number).expect("a job writes fewer layers than a manifest can name")
                };
                let stopped = || given_up.load(Ordering::Relaxed) || *stop.borrow();
                let context = JobContext {
                    store: &store,
                    reader: &reader,
                    branch: assignment.lease.branch,
                    shard: assignment.lease.shard,
                    layer_target_bytes: assignment.layer_target_bytes,
                    next_name: &next_name,
                    stopped: &stopped,
                };
                run_job(&context, &assignment.job).await
            }
        };
        let mut job = Box::pin(apart(work));
        let mut heard = Instant::now();
        let outcome = loop {
            tokio::select! {
                outcome = &mut job => break outcome,
                () = tokio::time::sleep(RENEW) => match source.renew(lease).await {
                    Ok(true) => heard = Instant::now(),
                    Ok(false) => given_up.store(true, Ordering::Relaxed),
                    // Whoever cannot be told has given the job to another by now.
                    Err(_) if heard.elapsed() >= LEASE => given_up.store(true, Ordering::Relaxed),
                    Err(_) => {}
                },
            }
        };
        if outcome.is_err() {
            // Nobody was told of these layers, so nobody can have named them. What cannot be deleted now the owner finds.
            let written = (0..used.load(Ordering::Relaxed)).filter_map(|number| assignment.name(number));
            self.discard(lease, written).await;
        }
        outcome
    }

    async fn discard(&self, lease: LeaseId, written: impl Iterator<Item = LayerName>) {
        let prefix = storage::layer::shard_prefix(lease.branch, lease.shard);
        for name in written {
            if let Err(error) = self.store.delete(&storage::layer::layer_key(&prefix, name)).await {
                tracing::warn!(%lease, %error, "a layer that is not needed was not deleted");
                return;
            }
        }
    }

    async fn finish(
        &self,
        source: &dyn JobSource,
        lease: LeaseId,
        outcome: Result<Vec<LayerDescriptor>, String>,
    ) -> Result<bool, SourceError> {
        let mut trial = 1;
        loop {
            match source.finish(lease, outcome.clone()).await {
                Ok(taken) => return Ok(taken),
                Err(error) if trial == FINISH_TRIALS => {
                    tracing::warn!(%lease, %error, "what a job made could not be handed back");
                    return Err(error);
                }
                Err(_) => {
                    trial += 1;
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }
}
