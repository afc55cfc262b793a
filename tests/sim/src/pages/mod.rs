//! Page servers on the simulated log and a simulated object store, from one seed.
//!
//! ```text
//!   agent, host, shards: the page server's own code, as tasks ──► SimLog ──► the log's nodes
//!        │  one Process each: crash, pause, crash points           SimStore ──► StoreWatch
//!        ▼
//!   readers: any page at any LSN, through the directory or from one server ──► Oracle
//! ```
//!
//! A process reaches the world through its log client, its object store client and what it answers. All three stop when
//! it ends, wait while it is paused, and count the points before and after each durable step: it can end at any of them.

pub mod log;
pub mod oracle;
pub mod process;
pub mod store;
pub mod tables;
mod uploads;
pub mod watch;
pub mod workload;

mod branching;
mod computes;
mod faults;
mod lists;
mod readers;
pub mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pageserver::cluster::directory::Directory;
use pageserver::cluster::routes::RoutedPages;
use pageserver::config::WallClock;
use parking_lot::Mutex;
use storage::BranchId;

use crate::simulation::Sim;
use crate::world::MAIN;
use computes::Ledger;
use log::SimLog;
use process::Process;
use servers::Server;
use store::SimStore;

/// Who asks the page servers: readers and operators, which never fail.
const CLIENT: u64 = 900;
/// Page servers are numbered from here.
const FIRST_SERVER: u64 = 100;

/// What is known of a branch that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BranchState {
    /// Read and written.
    Live,
    /// Being deleted, or perhaps deleted: nobody looks at it.
    Doubtful,
    /// Deleted.
    Deleted,
}

/// What came of it.
#[derive(Default)]
pub struct PlaneReport {
    /// Pages compared with replay.
    pub pages_compared: u64,
    /// Databases that were read whole, as of one LSN.
    pub databases_checked: u64,
    pub branches_made: u64,
    /// Transactions that computes acknowledged.
    pub commits: u64,
    /// Databases that computes read whole from their own snapshots.
    pub snapshots_checked: u64,
    /// Transactions on lists whose history was checked.
    pub histories_checked: u64,
    /// Branches that are deleted, or may be.
    pub deleted: BTreeSet<BranchId>,
}

/// Everything around the log.
pub struct Plane {
    sim: Arc<Sim>,
    /// Readers and operators.
    client: Arc<Process>,
    /// Computes whose process runs.
    computes: Mutex<BTreeMap<u64, Arc<Process>>>,
    ledger: Mutex<Ledger>,
    /// How far ahead wall clocks are, by process, in microseconds.
    clocks: Arc<Mutex<BTreeMap<u64, u64>>>,
    pub store: Arc<SimStore>,
    servers: Mutex<BTreeMap<u64, Server>>,
    next_server: AtomicU64,
    branches: Mutex<BTreeMap<BranchId, BranchState>>,
    directory: Directory,
    log: Arc<SimLog>,
    pub pages: Arc<RoutedPages>,
    healed: AtomicBool,
    compared: AtomicU64,
    databases: AtomicU64,
    branches_made: AtomicU64,
}

impl Plane {
    /// Starts servers, readers, operators and faults.
    pub fn start(sim: &Arc<Sim>, store: &Arc<SimStore>) -> Arc<Plane> {
        let (servers, readers) = sim.with(|world| {
            let pages = world.options.pages.as_ref().expect("there are page servers");
            (pages.servers, pages.readers)
        });
        let client = Process::new(sim, CLIENT);
        let log = SimLog::new(client.clone());
        let directory = Directory::new(log.clone());
        let plane = Arc::new_cyclic(|plane: &std::sync::Weak<Plane>| {
            let reached = plane.clone();
            let from = client.clone();
            let connect = move |address: &str| servers::connect(reached.clone(), from.clone(), address);
            Plane {
                sim: sim.clone(),
                client: client.clone(),
                computes: Mutex::default(),
                ledger: Mutex::default(),
                clocks: Arc::default(),
                store: store.clone(),
                servers: Mutex::default(),
                next_server: AtomicU64::new(FIRST_SERVER),
                branches: Mutex::new(BTreeMap::from([(MAIN, BranchState::Live)])),
                pages: Arc::new(RoutedPages::new(directory.clone(), connect)),
                directory,
                log,
                healed: AtomicBool::new(false),
                compared: AtomicU64::new(0),
                databases: AtomicU64::new(0),
                branches_made: AtomicU64::new(0),
            }
        });
        for _ in 0..servers {
            plane.add_server();
        }
        plane.start_computes();
        tokio::spawn(faults::inject(plane.clone()));
        for _ in 0..readers {
            tokio::spawn(readers::read(plane.clone()));
        }
        if sim.with(|world| world.options.splits) {
            tokio::spawn(branching::split(plane.clone()));
        }
        let makes_branches = sim.with(|world| world.options.pages.as_ref().is_some_and(|pages| pages.branches));
        if makes_branches {
            for number in 0..2 {
                tokio::spawn(branching::operate(plane.clone(), number));
            }
        }
        plane
    }

    fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    /// No more faults: whoever is paused goes on, and whoever has ended starts.
    pub fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
        for server in self.servers.lock().values() {
            server.process.resume();
            server.process.forget_crash_point();
        }
        for process in self.computes.lock().values() {
            process.resume();
            process.forget_crash_point();
        }
    }

    /// The wall clock of the machine that a process runs on.
    fn clock(&self, id: u64) -> WallClock {
        let (sim, clocks) = (self.sim.clone(), self.clocks.clone());
        WallClock(Arc::new(move || sim.now() * 1_000 + clocks.lock().get(&id).copied().unwrap_or(0)))
    }

    fn live_branches(&self) -> Vec<BranchId> {
        let branches = self.branches.lock();
        branches.iter().filter(|(_, state)| **state == BranchState::Live).map(|(branch, _)| *branch).collect()
    }

    fn deleted_branches(&self) -> BTreeSet<BranchId> {
        let branches = self.branches.lock();
        branches.iter().filter(|(_, state)| **state != BranchState::Live).map(|(branch, _)| *branch).collect()
    }

    fn set_state(&self, branch: BranchId, state: BranchState) {
        self.branches.lock().insert(branch, state);
    }

    /// Waits until every page of every branch can be read and is right.
    pub async fn finish(&self, within_ms: u64) -> PlaneReport {
        let deadline = self.sim.now() + within_ms;
        readers::read_everything(self, deadline).await;
        branching::splits_are_done(self, deadline).await;
        self.sim.with(|world| world.retire_writers());
        let computes = self.finish_computes();
        PlaneReport {
            pages_compared: self.compared.load(Ordering::Relaxed),
            databases_checked: self.databases.load(Ordering::Relaxed),
            branches_made: self.branches_made.load(Ordering::Relaxed),
            commits: computes.commits,
            snapshots_checked: computes.snapshots,
            histories_checked: computes.histories,
            deleted: self.deleted_branches(),
        }
    }
}
