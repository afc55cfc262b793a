//! The server's side: jobs on offer, who has them, and for how long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use storage::layer::LayerDescriptor;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Assignment, JobSource, LeaseId, OfferSeen, SourceError, WorkerSeen};
use crate::compaction::JobKind;
use crate::metrics as names;

/// A worker that says nothing for so long has lost its job.
pub const LEASE: Duration = Duration::from_secs(5);
/// A worker that was heard of this lately is about.
const ABOUT: Duration = Duration::from_secs(3);
/// What nobody takes for so long the server does itself: the workers have more to do than they can.
const OFFERED_FOR: Duration = Duration::from_secs(5);
/// Workers that are remembered. More get no jobs.
const MOST_WORKERS: usize = 1024;

/// How a job came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// Layers, said to be durable.
    Done(Vec<LayerDescriptor>),
    /// The worker could not do it.
    Failed(String),
    /// The worker has not been heard of for too long.
    Lost,
    /// Nobody took it.
    Nobody,
}

enum Stage {
    Open,
    Leased { worker: String, until: Instant },
    Ended(Result<Vec<LayerDescriptor>, String>),
}

struct Offer {
    assignment: Assignment,
    since: Instant,
    stage: Stage,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    offers: BTreeMap<LeaseId, Offer>,
    /// When each was last heard of.
    workers: BTreeMap<String, Instant>,
}

impl State {
    fn hear_of(&mut self, worker: &str, now: Instant) -> bool {
        if self.workers.len() >= MOST_WORKERS && !self.workers.contains_key(worker) {
            self.workers.retain(|_, heard| now.duration_since(*heard) < LEASE);
            if self.workers.len() >= MOST_WORKERS {
                return false;
            }
        }
        match self.workers.get_mut(worker) {
            Some(heard) => *heard = now,
            None => {
                tracing::info!(worker, "a compactor has come");
                self.workers.insert(worker.to_owned(), now);
            }
        }
        true
    }

    /// Those about: idle, or at work.
    fn about(&self, now: Instant) -> usize {
        let leased = |name: &str| {
            let has = |offer: &Offer| matches!(&offer.stage, Stage::Leased { worker, until } if worker == name && now < *until);
            self.offers.values().any(has)
        };
        self.workers.iter().filter(|(name, heard)| now.duration_since(**heard) < ABOUT || leased(name)).count()
    }
}

/// Jobs of all shards of a process, on offer to whoever asks. As many as the shards' own tasks wait for, so few.
#[derive(Default)]
pub struct Offers {
    state: Mutex<State>,
}

impl std::fmt::Debug for Offers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Offers")
    }
}

/// Takes an offer back when nobody waits for it any more.
struct Withdrawal<'a> {
    offers: &'a Offers,
    lease: LeaseId,
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        self.offers.state.lock().offers.remove(&self.lease);
    }
}

impl Offers {
    /// Offers a job and waits for what becomes of it. Dropping the future takes the job back: what a worker still makes of it
    /// is not wanted.
    pub async fn hand_over(&self, assignment: Assignment) -> Handed {
        let (lease, since, changed) = (assignment.lease, Instant::now(), Arc::new(Notify::new()));
        {
            let mut state = self.state.lock();
            if state.about(since) == 0 {
                return Handed::Nobody;
            }
            let offer = Offer { assignment, since, stage: Stage::Open, changed: changed.clone() };
            let before = state.offers.insert(lease, offer);
            assert!(before.is_none(), "lease {lease} was given twice");
        }
        let _withdrawal = Withdrawal { offers: self, lease };
        loop {
            let wake_at = {
                let (mut state, now) = (self.state.lock(), Instant::now());
                let about = state.about(now);
                let offer = state.offers.get_mut(&lease).expect("taken back by us only");
                match &mut offer.stage {
                    Stage::Ended(Ok(layers)) => return Handed::Done(std::mem::take(layers)),
                    Stage::Ended(Err(reason)) => return Handed::Failed(std::mem::take(reason)),
                    Stage::Leased { until, .. } if now >= *until => return Handed::Lost,
                    Stage::Leased { until, .. } => *until,
                    Stage::Open if about == 0 || now >= since + OFFERED_FOR => return Handed::Nobody,
                    Stage::Open => (now + ABOUT).min(since + OFFERED_FOR),
                }
            };
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    /// Tells the gauges.
    pub fn report(&self) {
        let (about, open, leased) = {
            let state = self.state.lock();
            let leased = state.offers.values().filter(|offer| matches!(offer.stage, Stage::Leased { .. })).count();
            (state.about(Instant::now()), state.offers.len() - leased, leased)
        };
        metrics::gauge!(names::COMPACTORS).set(about as f64);
        metrics::gauge!(names::COMPACTION_OFFERS, "stage" => "offered").set(open as f64);
        metrics::gauge!(names::COMPACTION_OFFERS, "stage" => "taken").set(leased as f64);
    }
}

fn milliseconds(since: Instant, now: Instant) -> u64 {
    u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl JobSource for Offers {
    async fn take(&self, worker: &str) -> Result<Option<Assignment>, SourceError> {
        let (mut state, now) = (self.state.lock(), Instant::now());
        if !state.hear_of(worker, now) {
            return Ok(None);
        }
        // Merges first: flushes wait for them. Then who has waited longest.
        let open = state.offers.values_mut().filter(|offer| matches!(offer.stage, Stage::Open));
        let first = open.min_by_key(|offer| (offer.assignment.job.kind == JobKind::Image, offer.since));
        let Some(offer) = first else { return Ok(None) };
        offer.stage = Stage::Leased { worker: worker.to_owned(), until: now + LEASE };
        offer.changed.notify_one();
        Ok(Some(offer.assignment.clone()))
    }

    async fn renew(&self, lease: LeaseId) -> Result<bool, SourceError> {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let Some(Offer { stage: Stage::Leased { worker, until }, .. }) = state.offers.get_mut(&lease) else {
            return Ok(false);
        };
        if now >= *until {
            return Ok(false);
        }
        *until = now + LEASE;
        let worker = worker.clone();
        state.hear_of(&worker, now);
        Ok(true)
    }

    async fn finish(&self, lease: LeaseId, outcome: Result<Vec<LayerDescriptor>, String>) -> Result<bool, SourceError> {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let Some(offer) = state.offers.get_mut(&lease) else { return Ok(false) };
        match &offer.stage {
            Stage::Leased { until, .. } if now < *until => {}
            _ => return Ok(false),
        }
        offer.stage = Stage::Ended(outcome);
        offer.changed.notify_one();
        Ok(true)
    }

    async fn list(&self) -> Result<(Vec<WorkerSeen>, Vec<OfferSeen>), SourceError> {
        let (state, now) = (self.state.lock(), Instant::now());
        let recent = state.workers.iter().filter(|(_, heard)| now.duration_since(**heard) < LEASE);
        let workers = recent
            .map(|(name, heard)| WorkerSeen { name: name.clone(), silent_ms: milliseconds(*heard, now) })
            .collect();
        let seen = |(lease, offer): (&LeaseId, &Offer)| OfferSeen {
            lease: *lease,
            kind: offer.assignment.job.kind,
            input_bytes: offer.assignment.input_bytes(),
            age_ms: milliseconds(offer.since, now),
            worker: match &offer.stage {
                Stage::Leased { worker, .. } => worker.clone(),
                Stage::Open | Stage::Ended(_) => String::new(),
            },
        };
        Ok((workers, state.offers.iter().map(seen).collect()))
    }
}
