//! Faults of disks and machines, as docs/faults.md numbers them: a second crash during recovery (2), writes that are torn,
//! short or misdirected (4), bit rot that others make good (5), crashes at every step of a change of members (19).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use storage::Lsn;
use storage::object::{ObjectStore, RetryPolicy};

use super::node_tests::{BRANCH, Client, Cluster, begun_segments, closed_log, content, open, propose, read_all};
use super::serve;
use crate::archive::{ArchiveConfig, Archiver};
use crate::client::{LogClient, LogError};
use crate::command::Command;
use crate::disk::Disk;
use crate::disk::simulated::{SeededChoice, SimulatedDisk};
use crate::grpc::RemoteLog;
use crate::machine::Outcome;
use crate::members::Member;
use crate::node::Node;
use crate::segment::parse_file_name;
use crate::transport::NoPeers;
use crate::{LogStore, LogStoreConfig};

/// What a node knows and holds.
fn state(node: &Node) -> String {
    let first = node.first_lsn(BRANCH);
    format!("{:?} {first} {:?}", node.machine().branch(BRANCH), read_all(node, BRANCH, first))
}

/// One crash, and the same one followed by another during the recovery from it: the same state.
#[test]
fn a_second_crash_during_recovery_changes_nothing() {
    let groups = 35;
    let crashed = |crash_at: u64| {
        let disk = SimulatedDisk::new();
        disk.crash_at_operation(crash_at);
        if let Ok(mut node) = open(&disk) {
            let _ = Client::default().run(&mut node, &mut SeededChoice::new(1), groups);
        }
        let has_crashed = disk.crashed();
        disk.restart(crash_at);
        (disk, has_crashed)
    };
    let (mut pairs, mut crash_at) = (0, 0);
    loop {
        let (once, has_crashed) = crashed(crash_at);
        if !has_crashed {
            break;
        }
        let expected = state(&open(&once).expect("recovered"));
        for second_at in 0..10 {
            let (twice, _) = crashed(crash_at);
            twice.crash_at_operation(second_at);
            let recovered = open(&twice);
            let is_second = twice.crashed();
            drop(recovered);
            twice.restart(crash_at * 100 + second_at);
            let found = state(&open(&twice).expect("recovered"));
            assert_eq!(found, expected, "crashes at {crash_at} and, recovering, at {second_at}");
            pairs += usize::from(is_second);
        }
        crash_at += 1;
    }
    assert!(pairs > 200, "{pairs} pairs of crashes");
}

/// Whether damage is noticed; what is read is what was written in any case.
fn is_noticed(disk: &SimulatedDisk, acknowledged: Lsn, case: &str) -> bool {
    let Ok(node) = open(disk) else { return true };
    let end = node.machine().branch(BRANCH).map_or(Lsn::ZERO, |state| state.end_lsn);
    assert!(end >= acknowledged, "{case}: ends at {end}, {acknowledged} was acknowledged");
    let mut position = node.first_lsn(BRANCH);
    let Ok(mut cursor) = crate::segment::BranchCursor::new(node.segments(), BRANCH, position) else { return true };
    while position < end {
        let Ok(chunk) = cursor.next_chunk() else { return true };
        assert_eq!(chunk.start_lsn, position, "{case}");
        assert_eq!(chunk.bytes, content(position, chunk.bytes.len(), chunk.epoch.0), "{case}");
        position = position.advance(chunk.bytes.len() as u64);
    }
    false
}

#[test]
fn misdirected_and_short_writes_are_noticed() {
    let fresh = || {
        let (disk, mut client) = (SimulatedDisk::new(), Client::default());
        closed_log(&disk, &mut client);
        (disk, client.acknowledged)
    };
    let (reference, _) = fresh();
    let names = begun_segments(&reference);
    assert!(names.len() >= 2, "{names:?}");
    let written = |name: &str| {
        let contents = reference.contents(name).expect("exists");
        let length = contents.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
        (contents, length)
    };
    let mut choice = SeededChoice::new(8);
    let (mut noticed, mut cases) = (0, 0);
    for from in &names {
        for to in &names {
            for _ in 0..60 {
                let ((source, source_bytes), (target, target_bytes)) = (written(from), written(to));
                let length = 512 * (1 + choice.below(8)) as usize;
                let begin = choice.below(source_bytes as u64) as usize / 512 * 512;
                let place = choice.below(target_bytes as u64) as usize / 512 * 512;
                let bytes = &source[begin..(begin + length).min(source.len())];
                // What lands on the very end of a log looks like a write that was torn: a lone node cannot tell, and forgets
                // what a majority holds. So the end, a mark of 40 bytes, stays.
                let is_end = Some(to) == names.last() && place + bytes.len() + 40 > target_bytes;
                if is_end || target[place..(place + bytes.len()).min(target.len())].starts_with(bytes) {
                    continue;
                }
                let (disk, acknowledged) = fresh();
                disk.misdirect(to, place, bytes);
                let case = format!("{} bytes of {from} at {begin} written to {to} at {place}", bytes.len());
                noticed += usize::from(is_noticed(&disk, acknowledged, &case));
                cases += 1;
            }
        }
    }
    // What hits only what no longer matters (old checkpoints, the rest of a segment) is harmless.
    assert!(noticed * 10 > cases * 7, "{noticed} of {cases} were noticed");
    for name in &names {
        let (_, length) = written(name);
        for keep in (0..length).step_by(97) {
            let (disk, acknowledged) = fresh();
            disk.cut(name, keep);
            assert!(is_noticed(&disk, acknowledged, &format!("{name} cut to {keep} bytes")), "{name} cut to {keep}");
        }
    }
}

const GROUP_BYTES: usize = 700;

fn store_on(disk: &SimulatedDisk) -> LogStore {
    let config = LogStoreConfig {
        segment_bytes: 64 << 10,
        max_append_bytes: 8 << 10,
        recent_bytes: 1 << 10,
        ..LogStoreConfig::new("not used")
    };
    LogStore::open_on(config, Arc::new(disk.clone()), Box::new(NoPeers)).expect("open")
}

async fn write(log: &dyn LogClient, groups: usize) -> Lsn {
    let epoch = log.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    let mut end = Lsn(0);
    for _ in 0..groups {
        end = log.append(BRANCH, epoch, end, content(end, GROUP_BYTES, 1)).await.expect("append");
    }
    end
}

async fn read(log: &dyn LogClient, end: Lsn) -> Result<(), LogError> {
    let mut chunks = log.subscribe(BRANCH, Lsn(0)).await?;
    let mut position = Lsn(0);
    while position < end {
        let chunk = chunks.next().await.expect("without end")?;
        assert_eq!(chunk.start_lsn, position);
        // Several groups may come as one.
        for group in chunk.bytes.chunks(GROUP_BYTES) {
            assert!(group == content(position, GROUP_BYTES, 1), "a wrong answer at {position}");
            position = position.advance(group.len() as u64);
        }
    }
    Ok(())
}

/// One bit of a segment after the other: who reads gets what was written, from another node or from the archive, or, where
/// there is neither, an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bit_rot_is_made_good_by_a_peer_or_the_archive() {
    let (disk, peer_disk) = (SimulatedDisk::new(), SimulatedDisk::new());
    let (store, peer) = (store_on(&disk), store_on(&peer_disk));
    let end = write(&*store.client(), 400).await;
    assert_eq!(write(&*peer.client(), 400).await, end);
    let names = disk.list().expect("list");
    let mut sequences: Vec<u64> = names.iter().filter_map(|name| parse_file_name(name)).collect();
    sequences.sort_unstable();
    let first = crate::segment::file_name(sequences[0]);
    let length = disk.contents(&first).expect("exists").iter().rposition(|byte| *byte != 0).expect("written") as u64;
    let addresses = vec![serve(&store, None).await.0, serve(&peer, None).await.0];
    let patience = Duration::from_millis(300);
    let (mut detected, mut harmless) = (0, 0);
    for bit in (0..length * 8).step_by(40_009) {
        disk.flip_bit(&first, bit);
        // A client of its own each time: each begins at another node.
        match read(&*store.client(), end).await {
            Err(LogError::Corrupt { .. }) => detected += 1,
            Ok(()) => harmless += 1,
            Err(error) => panic!("bit {bit}: {error}"),
        }
        for turn in 0..2 {
            let mut addresses = addresses.clone();
            addresses.rotate_left(turn);
            let both = RemoteLog::with_patience(addresses, Duration::from_secs(5)).expect("addresses");
            read(&both, end).await.unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        }
        disk.flip_bit(&first, bit);
    }
    assert!(detected > 8, "{detected} bits were noticed, {harmless} are of no use to readers");

    let archive = ArchiveConfig {
        pause: Duration::from_millis(20),
        piece_bytes: 32 << 10,
        ..ArchiveConfig::new(ObjectStore::memory(RetryPolicy::none()), 5)
    };
    let archiver = Archiver::start(&store, archive);
    let sealed = store.local_client().sealed().expect("sealed").into_iter().find(|(branch, _)| *branch == BRANCH);
    let (_, sealed) = sealed.expect("some segments are complete");
    for _ in 0..500 {
        let range = store.local_client().archived(BRANCH).await.expect("known");
        if range.is_some_and(|range| range.end >= sealed) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let alone = RemoteLog::with_patience(vec![addresses[0].clone()], patience).expect("an address");
    for bit in (0..length * 8).step_by(40_009) {
        disk.flip_bit(&first, bit);
        read(&*store.client(), end).await.unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        read(&alone, end).await.unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        disk.flip_bit(&first, bit);
    }
    drop(archiver);
}

/// A cluster whose nodes may fail at any operation of their disks, and come back.
struct Crashing {
    cluster: Cluster,
    seed: u64,
    crashes: usize,
}

impl Crashing {
    fn crash(&mut self, id: u64) {
        self.crashes += 1;
        self.cluster.nodes.remove(&id);
        self.cluster.disks[&id].restart(self.seed);
        self.cluster.start(id);
    }

    fn settle(&mut self) {
        let ids: Vec<u64> = self.cluster.nodes.keys().copied().collect();
        for id in ids {
            let node = self.cluster.nodes.get_mut(&id).expect("it runs");
            if node.run(&mut self.cluster.wire).is_err() {
                self.crash(id);
            }
        }
        while let Some(message) = self.cluster.wire.queue.pop_front() {
            let to = message.to;
            let Some(node) = self.cluster.nodes.get_mut(&to) else { continue };
            node.step(message);
            if node.run(&mut self.cluster.wire).is_err() {
                self.crash(to);
            }
        }
    }

    fn tick(&mut self) {
        let ids: Vec<u64> = self.cluster.nodes.keys().copied().collect();
        for id in ids {
            if self.cluster.nodes.get_mut(&id).expect("it runs").tick().is_err() {
                self.crash(id);
            }
        }
        self.settle();
    }

    fn leader(&self) -> Option<u64> {
        self.cluster.nodes.iter().find(|(_, node)| node.is_leader()).map(|(id, _)| *id)
    }

    /// The outcome, as far as it becomes known.
    fn ask(&mut self, command: &Command) -> Option<Result<Outcome, LogError>> {
        let leader = self.leader()?;
        let mut answer = propose(self.cluster.nodes.get_mut(&leader).expect("it leads"), command);
        self.settle();
        answer.try_recv().ok()
    }

    fn voters(&self) -> Vec<u64> {
        let mut voters = self.leader().map(|leader| self.cluster.nodes[&leader].view().voters).unwrap_or_default();
        voters.sort_unstable();
        voters
    }
}

/// A node is added and another removed, the leader or a follower, while a client writes and swaps a register; a node's
/// machine stops at an operation of its disk meanwhile. True if it came to that.
fn change_members(crashing: u64, crash_at: u64, gone: u64) -> bool {
    let mut cluster = Cluster::with_members();
    let leader = cluster.leader();
    let (epoch, mut acknowledged) = cluster.acquire(leader);
    cluster.append(leader, epoch, &mut acknowledged, 4);
    cluster.disks.insert(4, SimulatedDisk::new());
    cluster.start(4);
    cluster.disks[&crashing].crash_at_operation(cluster.disks[&crashing].operations() + crash_at);
    let mut world = Crashing { cluster, seed: crash_at * 10 + crashing, crashes: 0 };
    let key = "register".to_owned();
    let (mut version, mut swapped, mut doubtful) = (None, 0_u64, 0_u64);
    let mut wanted: Vec<u64> = vec![1, 2, 3, 4];
    for round in 0_u64.. {
        assert!(round < 3_000, "node {crashing} at {crash_at}: voters {:?}, not {wanted:?}", world.voters());
        world.tick();
        let Some(leader) = world.leader() else { continue };
        let members = world.cluster.nodes[&leader].machine().members().nodes().clone();
        let is_there = |node: u64| members.contains_key(&node);
        if wanted.len() == 4 && !is_there(4) && round % 8 == 0 {
            let member = Member { raft_id: 4, address: "node-4".to_owned() };
            world.ask(&Command::SetMember { node_id: 4, expected: None, member });
        } else if wanted.len() == 4 && world.voters() == wanted {
            wanted.retain(|node| *node != gone);
        } else if wanted.len() == 3 && is_there(gone) && round % 8 == 0 {
            world.ask(&Command::RemoveMember { node_id: gone });
        } else if wanted.len() == 3 && world.voters() == wanted && !is_there(gone) {
            break;
        }
        if round % 3 == 0 {
            let Some(leader) = world.leader() else { continue };
            let found = world.cluster.nodes[&leader].machine().branch(BRANCH).map_or(Lsn::ZERO, |state| state.end_lsn);
            let bytes = content(found, 300, epoch.0);
            let append = Command::Append { branch: BRANCH, epoch, start_lsn: found, bytes };
            if let Some(Ok(Outcome::Appended { end_lsn })) = world.ask(&append) {
                assert!(found >= acknowledged && end_lsn > acknowledged, "{acknowledged} was acknowledged");
                acknowledged = end_lsn;
            }
            let value = Some(Bytes::from((swapped + doubtful + 1).to_le_bytes().to_vec()));
            let swap = Command::CompareAndSwap { key: key.clone(), expected: version, value };
            match world.ask(&swap) {
                Some(Ok(Outcome::Swapped { version: now })) => (version, swapped) = (now, swapped + 1),
                Some(Ok(Outcome::Conflict { current })) => {
                    // Only a swap whose answer was lost can have come between.
                    assert!(doubtful > 0, "somebody else has swapped: {current:?}");
                    let current = current.expect("nobody removes it");
                    assert!(version.is_none_or(|version| current.version > version), "a version comes back");
                    version = Some(current.version);
                }
                Some(Err(_)) | None => doubtful += 1,
                Some(Ok(other)) => panic!("{other:?}"),
            }
        }
    }
    world.cluster.nodes.remove(&gone);
    for _ in 0..60 {
        world.tick();
    }
    world.cluster.check_equal();
    let node = world.cluster.nodes.values().next().expect("three run");
    let end = node.machine().branch(BRANCH).expect("written").end_lsn;
    assert!(end >= acknowledged, "node {crashing} at {crash_at}: {acknowledged} was acknowledged, {end} is there");
    let found = node.machine().metadata(&key).expect("swapped").version;
    assert!(version.is_some_and(|version| found >= version), "the register went back");
    world.crashes > 0
}

#[test]
fn members_change_while_any_node_crashes_at_any_operation() {
    let first = Cluster::with_members().leader();
    let follower = first % 3 + 1;
    for gone in [first, follower] {
        for crashing in 1..=4 {
            let mut crash_at = crashing % 3;
            while change_members(crashing, crash_at, gone) {
                crash_at += 3;
            }
            assert!(crash_at > 12, "node {crashing} has {crash_at} operations");
        }
    }
}
