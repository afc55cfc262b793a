//! A simulated process: what it does reaches the world only while it lives and is not paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::FIRST_SERVER;
use crate::simulation::Sim;

/// See the module.
pub struct Process {
    pub sim: Arc<Sim>,
    /// As partitions know it.
    pub id: u64,
    alive: AtomicBool,
    paused_until: AtomicU64,
    /// Points before and after durable steps that it has passed.
    steps: AtomicU64,
    /// At which of them it ends; zero: at none.
    crash_at: AtomicU64,
    tasks: Mutex<Vec<AbortHandle>>,
    ended: watch::Sender<bool>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.id)
    }
}

impl Process {
    pub fn new(sim: &Arc<Sim>, id: u64) -> Arc<Process> {
        Arc::new(Process {
            sim: sim.clone(),
            id,
            alive: AtomicBool::new(true),
            paused_until: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            crash_at: AtomicU64::new(0),
            tasks: Mutex::default(),
            ended: watch::Sender::new(false),
        })
    }

    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Alive and not paused.
    pub fn runs(&self) -> bool {
        self.is_alive() && self.sim.now() >= self.paused_until.load(Ordering::Relaxed)
    }

    /// Ends at once, whatever it was doing.
    pub fn end(&self) {
        self.alive.store(false, Ordering::Relaxed);
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.ended.send_replace(true);
    }

    /// Resolves when it has ended.
    pub async fn ended(&self) {
        // The sender lives in `self`.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Does nothing for a while that others can see.
    pub fn pause_until(&self, time: u64) {
        self.paused_until.fetch_max(time, Ordering::Relaxed);
    }

    pub fn resume(&self) {
        self.paused_until.store(0, Ordering::Relaxed);
    }

    /// Ends at the point that lies so many further on.
    pub fn crash_in(&self, points: u64) {
        self.crash_at.store(self.steps.load(Ordering::Relaxed) + points.max(1), Ordering::Relaxed);
    }

    pub fn forget_crash_point(&self) {
        self.crash_at.store(0, Ordering::Relaxed);
    }

    /// Passes only while the process runs.
    pub async fn gate(&self) {
        loop {
            if !self.is_alive() {
                std::future::pending::<()>().await;
            }
            let (now, until) = (self.sim.now(), self.paused_until.load(Ordering::Relaxed));
            if now >= until {
                return;
            }
            // A pause may be ended early.
            tokio::time::sleep(Duration::from_millis((until - now).min(50))).await;
        }
    }

    /// Counts a point just before or after something durable. False: the process is to end here.
    pub fn step(&self) -> bool {
        let step = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        step != self.crash_at.load(Ordering::Relaxed)
    }

    /// A point just before or after something durable.
    pub async fn point(&self) {
        self.gate().await;
        if !self.step() {
            self.sim.note("crash point", &[self.id, self.steps.load(Ordering::Relaxed)]);
            self.sim.count(if self.id < FIRST_SERVER { "ArchiverCrashPoint" } else { "ServerCrashPoint" });
            self.end();
            self.gate().await;
        }
    }

    /// A task that ends with the process.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if self.is_alive() {
            let mut tasks = self.tasks.lock();
            tasks.retain(|task| !task.is_finished());
            tasks.push(tokio::spawn(task).abort_handle());
        }
    }
}
