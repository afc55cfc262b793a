//! The change from one segment to the next while somebody else syncs: a crash at every operation of the disk, and how long
//! appends wait.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use storage::{Epoch, Lsn};

use super::node_tests::{Answer, BRANCH, SEGMENT_BYTES, begun_segments, config, content, open, propose, read_all};
use crate::client::LogError;
use crate::command::Command;
use crate::disk::simulated::{SeededChoice, SimulatedDisk};
use crate::disk::{Disk, DiskFile};
use crate::machine::Outcome;
use crate::node::{Node, SyncRequest};
use crate::segment::{Spare, StoreError};
use crate::transport::NoPeers;

const SLOW_US: u64 = 20_000;

/// A client of a lone node whose syncs are done beside it, and what the client knows.
#[derive(Default)]
struct Writer {
    epoch: Epoch,
    end: Lsn,
    sent: BTreeSet<(Lsn, usize, u64)>,
    acknowledged: Lsn,
}

/// One life of the node.
struct Life {
    node: Node,
    to_sync: Receiver<SyncRequest>,
    /// Done, and not yet told.
    done: Option<(SyncRequest, io::Result<()>)>,
    waiting: VecDeque<(Lsn, Answer)>,
}

impl Life {
    fn begin(mut node: Node) -> Life {
        let (requests, to_sync) = sync_channel(1);
        node.set_syncer(requests);
        node.synced_in(SLOW_US);
        Life { node, to_sync, done: None, waiting: VecDeque::new() }
    }

    /// One of the two halves of a sync: it is done, or the node is told.
    fn sync(&mut self) -> Result<(), StoreError> {
        match self.done.take() {
            Some((request, outcome)) => {
                self.node.synced(&request, outcome, SLOW_US, &mut NoPeers)?;
                self.node.run(&mut NoPeers)
            }
            None => {
                if let Ok(request) = self.to_sync.try_recv() {
                    let outcome = request.unsynced.sync();
                    self.done = Some((request, outcome));
                }
                Ok(())
            }
        }
    }
}

impl Writer {
    /// Works for so many steps. An error is the node's end.
    fn live(&mut self, node: Node, choice: &mut SeededChoice, steps: usize) -> Result<(), StoreError> {
        let mut life = Life::begin(node);
        let mut granted = propose(&mut life.node, &Command::AcquireEpoch { branch: BRANCH });
        life.node.run(&mut NoPeers)?;
        let grant = loop {
            life.sync()?;
            match granted.try_recv() {
                Ok(Ok(Outcome::Granted(grant))) => break grant,
                Ok(Err(LogError::Unavailable { reason })) if reason.contains("simulated crash") => {
                    return life.node.run(&mut NoPeers);
                }
                Ok(other) => panic!("an epoch is granted, not {other:?}"),
                Err(_) => {}
            }
        };
        assert!(grant.end_lsn >= self.acknowledged, "acknowledged {}, ends at {}", self.acknowledged, grant.end_lsn);
        (self.epoch, self.end) = (grant.epoch, grant.end_lsn);
        for _ in 0..steps {
            let outcome = self.step(&mut life, choice);
            while let Some((end, answer)) = life.waiting.front_mut() {
                match answer.try_recv() {
                    Ok(Ok(Outcome::Appended { end_lsn })) => {
                        assert_eq!(end_lsn, *end);
                        self.acknowledged = end_lsn;
                    }
                    Ok(Err(LogError::Unavailable { reason })) if reason.contains("simulated crash") => {
                        return life.node.run(&mut NoPeers);
                    }
                    Ok(other) => panic!("appended up to {end}, not {other:?}"),
                    Err(_) => break,
                }
                life.waiting.pop_front();
            }
            outcome?;
        }
        Ok(())
    }

    fn step(&mut self, life: &mut Life, choice: &mut SeededChoice) -> Result<(), StoreError> {
        match choice.below(10) {
            // Up to three segments are under way.
            0..=4 if self.end.since(self.acknowledged) < 3 * SEGMENT_BYTES => {
                let (start_lsn, length) = (self.end, 1 + choice.below(1500) as usize);
                self.sent.insert((start_lsn, length, self.epoch.0));
                let bytes = content(start_lsn, length, self.epoch.0);
                let append = Command::Append { branch: BRANCH, epoch: self.epoch, start_lsn, bytes };
                self.end = start_lsn.advance(length as u64);
                life.waiting.push_back((self.end, propose(&mut life.node, &append)));
                life.node.run(&mut NoPeers)
            }
            5 => {
                let durable_lsn = Lsn(self.acknowledged.0.saturating_sub(8 << 10));
                let consumer = "shard".to_owned();
                propose(&mut life.node, &Command::ReportConsumer { branch: BRANCH, consumer, durable_lsn });
                life.node.run(&mut NoPeers)
            }
            6 => {
                life.node.tick()?;
                life.node.run(&mut NoPeers)
            }
            _ => life.sync(),
        }
    }

    /// Everything acknowledged is there, and everything that is there was sent.
    fn check(&self, node: &Node, case: &str) {
        let mut position = node.first_lsn(BRANCH);
        for chunk in read_all(node, BRANCH, position) {
            assert_eq!(chunk.start_lsn, position, "{case}");
            let sent = (chunk.start_lsn, chunk.bytes.len(), chunk.epoch.0);
            assert!(self.sent.contains(&sent), "{case}: {sent:?} was never sent");
            assert_eq!(chunk.bytes, content(chunk.start_lsn, chunk.bytes.len(), chunk.epoch.0), "{case}");
            position = position.advance(chunk.bytes.len() as u64);
        }
        assert!(position >= self.acknowledged, "{case}: {} acknowledged, ends at {position}", self.acknowledged);
    }
}

/// The segment that has begun, the end of the one before, the prepared one: whatever part of them a crash leaves, what was
/// acknowledged is there. The machine stops, or only the process, and soon after it the machine.
#[test]
fn a_crash_at_every_operation_while_another_syncs_loses_nothing_acknowledged() {
    const STEPS: usize = 160;
    let (mut crashes, mut forgotten, mut completed) = (0, 0, 0);
    for crash_at in 0.. {
        let mut reached = false;
        for seed in 0..6 {
            let case = format!("crash at {crash_at}, seed {seed}");
            let disk = SimulatedDisk::new();
            let mut writer = Writer::default();
            let mut choice = SeededChoice::new(seed);
            disk.crash_at_operation(crash_at);
            for life in 0..5 {
                if let Ok(node) = open(&disk) {
                    writer.check(&node, &case);
                    completed += usize::from(writer.live(node, &mut choice, STEPS).is_ok());
                }
                reached |= life == 0 && disk.crashed();
                crashes += usize::from(disk.crashed());
                // A process that dies leaves to the machine what it had not synced.
                if (seed + life) % 3 == 0 {
                    disk.restart_process();
                } else {
                    disk.restart(crash_at * 1000 + seed * 10 + life);
                }
                let begun = begun_segments(&disk).len();
                if life < 3 {
                    disk.crash_at_operation(choice.below(40));
                } else if let Ok(node) = open(&disk) {
                    writer.check(&node, &case);
                    drop(node);
                    forgotten += usize::from(begun_segments(&disk).len() < begun);
                }
            }
            writer.check(&open(&disk).unwrap_or_else(|error| panic!("{case}: {error}")), &case);
        }
        if !reached {
            break;
        }
    }
    assert!(crashes > 1000 && completed > 100 && forgotten > 10, "{crashes}, {completed}, {forgotten}");
}

thread_local! {
    /// What this thread has spent on syncs since it was last asked, in simulated time.
    static SPENT_US: Cell<u64> = const { Cell::new(0) };
}

/// A disk whose syncs take simulated time of whoever asks for them.
struct SlowDisk(SimulatedDisk);

struct SlowFile(Arc<dyn DiskFile>);

fn spend() {
    SPENT_US.set(SPENT_US.get() + SLOW_US);
}

impl Disk for SlowDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SlowFile(self.0.open(name)?)))
    }

    fn create(&self, name: &str, length_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SlowFile(self.0.create(name, length_bytes)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        spend();
        self.0.sync_directory()
    }

    fn location(&self) -> String {
        self.0.location()
    }
}

impl DiskFile for SlowFile {
    fn length_bytes(&self) -> io::Result<u64> {
        self.0.length_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        spend();
        self.0.sync()
    }
}

/// A group every millisecond, over many segments, in simulated time. Returns how long the node's thread was held up by the
/// disk at most, and how long a group waited at most, in microseconds.
fn longest_pauses(groups: u64) -> (u64, u64) {
    const STEP_US: u64 = 1_000;
    let disk: Arc<dyn Disk> = Arc::new(SlowDisk(SimulatedDisk::new()));
    let mut config = config(1, &[1]);
    // A segment takes much longer to fill than a change takes, as in reality.
    (config.segment_bytes, config.checkpoint_every_bytes) = (8 * SEGMENT_BYTES, 8 * SEGMENT_BYTES);
    config.core.max_uncommitted_bytes = 1 << 20;
    let spare = Spare::new(disk.clone(), config.segment_bytes, true);
    let maker = {
        let spare = spare.clone();
        std::thread::spawn(move || spare.serve())
    };
    let mut node = Node::open(config, disk, spare.clone(), &mut NoPeers).expect("open");
    propose(&mut node, &Command::AcquireEpoch { branch: BRANCH });
    node.run(&mut NoPeers).expect("no fault");
    let (requests, to_sync) = sync_channel(1);
    node.set_syncer(requests);
    node.synced_in(SLOW_US);
    SPENT_US.set(0);
    let (mut now_us, mut free_at_us, mut end) = (0, 0, Lsn(0));
    let (mut held_up_us, mut waited_us) = (0, 0);
    let mut syncing: Option<(u64, SyncRequest, io::Result<()>)> = None;
    let mut waiting: VecDeque<(u64, Answer)> = VecDeque::new();
    let (mut due, mut answered) = (0, 0);
    while answered < groups {
        now_us += STEP_US;
        assert!(now_us < 100 * groups * STEP_US, "{answered} of {groups} were answered");
        if now_us < free_at_us {
            continue;
        }
        if let Some((_, request, outcome)) = syncing.take_if(|(until, ..)| *until <= now_us) {
            node.synced(&request, outcome, SLOW_US, &mut NoPeers).expect("no fault");
        }
        // Those that came while the thread was held up are late, and counted from when they came.
        while due < groups && due * STEP_US < now_us {
            let bytes = content(end, 300, 1);
            let append = Command::Append { branch: BRANCH, epoch: Epoch(1), start_lsn: end, bytes };
            waiting.push_back((due * STEP_US, propose(&mut node, &append)));
            end = end.advance(300);
            due += 1;
        }
        let syncs = node.syncs();
        node.run(&mut NoPeers).expect("no fault");
        let spent_us = SPENT_US.take();
        if node.syncs() > syncs {
            node.synced_in(spent_us);
        }
        held_up_us = held_up_us.max(spent_us);
        free_at_us = now_us + spent_us;
        while let Some((since_us, answer)) = waiting.front_mut() {
            match answer.try_recv() {
                Ok(Ok(_)) => waited_us = waited_us.max(free_at_us - *since_us),
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => break,
            }
            waiting.pop_front();
            answered += 1;
        }
        if syncing.is_none()
            && let Ok(request) = to_sync.try_recv()
        {
            let outcome = request.unsynced.sync();
            syncing = Some((free_at_us + SPENT_US.take(), request, outcome));
        }
    }
    assert!(node.segments().all().len() > 2, "segments were changed");
    spare.close();
    maker.join().expect("the maker ends");
    (held_up_us, waited_us)
}

#[test]
fn nobody_waits_for_the_disk_at_a_change_of_segments() {
    let (held_up_us, waited_us) = longest_pauses(1_000);
    println!("the thread was held up for {held_up_us} us, a group waited for {waited_us} us");
    assert_eq!(held_up_us, 0, "the node's thread waits for no sync");
    // The sync that was under way, and then one of both segments.
    assert!(waited_us <= 3 * SLOW_US + 2_000, "a group waited for {waited_us} us");
}
