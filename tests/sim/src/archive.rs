//! The log's archive: an archiver in the process of every log node, and readers who read from anywhere in the streams, also what
//! the nodes have trimmed. What they see is compared like what the nodes show; what is trimmed, by [`crate::trimming`].

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use logstore::archive::ArchiveConfig;
use logstore::client::{LogClient, LogError};
use logstore::driven::Driven;
use logstore::identity::node_id;
use storage::{BranchId, Lsn};

use crate::machine::{Hosted, Machine};
use crate::options::ArchiveOptions;
use crate::pages::log::SimLog;
use crate::pages::process::Process;
use crate::pages::store::SimStore;
use crate::simulation::Sim;

/// What waits for a node in its own process, in bytes.
const QUEUE_BYTES: usize = 1 << 20;
/// Readers, as partitions know them: they never fail.
const READER: u64 = 901;

/// Begins what runs beside a node that has just started: options, the machine, and what an archive is called that begins there.
pub type Hosting = Arc<dyn Fn(&ArchiveOptions, &Machine, u64) -> Hosted + Send + Sync>;

/// See the module.
pub struct Archive {
    sim: Arc<Sim>,
    log: Arc<SimLog>,
}

impl Archive {
    /// Lets nodes archive, and starts the readers, if this run has an archive.
    pub fn start(sim: &Arc<Sim>, store: &Arc<SimStore>) -> Option<Archive> {
        let options = sim.with(|world| world.options.archive.clone())?;
        let (hosting_sim, hosting_store) = (sim.clone(), store.clone());
        let hosting: Hosting =
            Arc::new(move |options, machine, new_id| host(&hosting_sim, &hosting_store, options, machine, new_id));
        let (outages, has_pages, every_ms) = sim.with(|world| {
            world.hosting = Some(hosting);
            let outages = world.options.store.as_ref().is_some_and(|store| store.outages);
            (outages, world.options.pages.is_some(), world.options.fault_every_ms)
        });
        sim.count("Archive");
        for _ in 0..options.readers {
            tokio::spawn(read(sim.clone()));
        }
        if outages && !has_pages {
            tokio::spawn(interrupt(sim.clone(), store.clone(), every_ms));
        }
        Some(Archive { sim: sim.clone(), log: SimLog::new(Process::new(sim, READER)) })
    }

    /// Waits until everything that is complete is archived, and reads all streams from where they begin.
    pub async fn finish(&self, within_ms: u64) {
        let deadline = self.sim.now() + within_ms;
        let sealed = loop {
            let sealed = self.sim.with(|world| {
                let leader = node_id(world.leader()?.raft_id);
                world.machines[&leader].hosted.as_ref()?.driven.sealed().ok()
            });
            if let Some(sealed) = sealed {
                break sealed;
            }
            assert!(self.sim.now() < deadline, "no leader to archive");
            self.sim.sleep(100).await;
        };
        for (branch, sealed) in sealed {
            loop {
                let archived = self.sim.with(|world| world.trimming.range_end(branch));
                if archived >= sealed {
                    break;
                }
                assert!(self.sim.now() < deadline, "{branch} is archived up to {archived} of {sealed}");
                self.sim.sleep(100).await;
            }
        }
        for branch in self.sim.with(|world| world.branches().to_vec()) {
            let (mut position, end) =
                self.sim.with(|world| (world.trimming.begin(branch), world.history.shown_until(branch)));
            while position < end {
                position = follow(&self.sim, &self.log, branch, position, u64::MAX, end).await;
                // The archive may have dropped some meanwhile.
                position = position.max(self.sim.with(|world| world.trimming.begin(branch)));
                assert!(self.sim.now() < deadline, "the log of {branch} cannot be read from {position}");
            }
        }
    }
}

/// Starts what runs beside a node.
fn host(sim: &Arc<Sim>, store: &Arc<SimStore>, options: &ArchiveOptions, machine: &Machine, new_id: u64) -> Hosted {
    let (id, life) = (machine.id, machine.life);
    let process = Process::new(sim, id);
    let driven = Arc::new(Driven::new(machine.node.as_ref().expect("it has just started"), QUEUE_BYTES));
    let config = ArchiveConfig {
        retention_bytes: options.retention_bytes,
        probe_key: options.probes.then(|| format!("probe/{id}-{life}")),
        pause: Duration::from_millis(options.pause_ms),
        longest_pause: Duration::from_secs(4),
        piece_bytes: options.piece_bytes,
        ..ArchiveConfig::new(store.client(&process), new_id)
    };
    let mut archiver = driven.start_archiver(config);
    process.spawn(async move {
        let reason = archiver.ended().await;
        panic!("the archiver of node {id} gives up: {reason}");
    });
    let (waking, asked) = (sim.clone(), driven.clone());
    process.spawn(async move {
        loop {
            asked.arrived().await;
            waking.with(|world| world.wake(id, life));
        }
    });
    // At one of the archiver's steps; then the node ends too.
    let (sim, ending) = (sim.clone(), process.clone());
    tokio::spawn(async move {
        ending.ended().await;
        sim.with(|world| world.process_ended(id, life));
    });
    Hosted { driven, process }
}

/// The object store answers nobody for a while, again and again. Where there are page servers, that is one of their faults.
async fn interrupt(sim: Arc<Sim>, store: Arc<SimStore>, every_ms: u64) {
    loop {
        let (pause_ms, away_ms) =
            sim.random(|random| (every_ms + random.below(4 * every_ms), random.between(500, 8_000)));
        sim.sleep(pause_ms).await;
        if !sim.with(|world| world.faulty) {
            return;
        }
        sim.count("Outage");
        store.away_until(sim.now() + away_ms);
    }
}

/// Reads from anywhere until the end.
async fn read(sim: Arc<Sim>) {
    let log = SimLog::new(Process::new(&sim, READER));
    loop {
        let pause = sim.random(|random| random.between(50, 1_500));
        sim.sleep(pause).await;
        let wanted = sim.with(|world| {
            let branches = world.branches().to_vec();
            let branch = world.random.one_of(&branches)?;
            let (begin, known) = (world.trimming.begin(branch), world.history.shown_until(branch));
            let from = if world.random.percent(40) { begin } else { Lsn(world.random.between(0, known.0)) };
            Some((branch, from, world.random.between(1, 60)))
        });
        let Some((branch, from, groups)) = wanted else { continue };
        follow(&sim, &log, branch, from, groups, Lsn::MAX).await;
    }
}

/// Reads a branch from a position up to another, some groups at most. Returns how far it came.
async fn follow(sim: &Sim, log: &SimLog, branch: BranchId, from: Lsn, groups: u64, until: Lsn) -> Lsn {
    let mut stream = match log.subscribe(branch, from).await {
        Ok(stream) => stream,
        Err(error) => {
            refused(sim, branch, from, &error);
            sim.sleep(50).await;
            return from;
        }
    };
    let mut position = from;
    for group in 0..groups {
        // So slow that the log is trimmed meanwhile.
        if until == Lsn::MAX && sim.random(|random| random.percent(4)) {
            let pause = sim.random(|random| random.between(100, 3_000));
            sim.sleep(pause).await;
        }
        let next = tokio::time::timeout(Duration::from_secs(3), stream.next()).await;
        match next {
            // Nothing comes.
            Err(_) | Ok(None) => break,
            Ok(Some(Err(error))) => {
                refused(sim, branch, position, &error);
                break;
            }
            Ok(Some(Ok(chunk))) => {
                let end = chunk.start_lsn.advance(chunk.bytes.len() as u64);
                let follows =
                    chunk.start_lsn == position || (group == 0 && chunk.start_lsn < position && position < end);
                assert!(follows, "{branch} read at {position}: a group {}..{end}", chunk.start_lsn);
                position = end;
            }
        }
        if position >= until {
            break;
        }
    }
    position
}

/// A reader is refused only what the archive has dropped.
fn refused(sim: &Sim, branch: BranchId, position: Lsn, error: &LogError) {
    let begin = sim.with(|world| world.trimming.begin(branch));
    match error {
        LogError::Unavailable { .. } => {}
        LogError::Trimmed { .. } => {
            assert!(position < begin, "{branch} read at {position}, kept from {begin}: {error}");
        }
        _ => panic!("{branch} read at {position}: {error}"),
    }
}
