//! Segments of another size than before, and nodes of one cluster whose segments differ.

use std::sync::Arc;

use storage::Lsn;

use super::node_tests::{BRANCH, Cluster, content, propose, read_all, sized_config};
use crate::client::LogError;
use crate::command::Command;
use crate::disk::Disk;
use crate::disk::simulated::{SeededChoice, SimulatedDisk};
use crate::machine::Outcome;
use crate::node::Node;
use crate::segment::Spare;
use crate::transport::NoPeers;

const KIB: u64 = 1 << 10;

fn open(disk: &SimulatedDisk, segment_bytes: u64) -> Node {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let spare = Spare::new(disk.clone(), segment_bytes, false);
    let config = sized_config(1, &[1], segment_bytes);
    Node::open(config, disk, spare, &mut NoPeers).unwrap_or_else(|error| panic!("{segment_bytes} bytes: {error}"))
}

/// The groups are there, from the first one on.
fn check(node: &Node, groups: &[(Lsn, usize, u64)]) {
    let chunks = read_all(node, BRANCH, Lsn(0));
    assert_eq!(chunks.len(), groups.len());
    for (chunk, &(start, length, epoch)) in chunks.iter().zip(groups) {
        assert_eq!((chunk.start_lsn, chunk.bytes.len(), chunk.epoch.0), (start, length, epoch));
        assert_eq!(chunk.bytes, content(start, length, epoch));
    }
}

/// Starts of one node with these sizes, one after the other; each life appends at the limit, above it, and small groups, until a
/// segment of its size has begun. Stops in good order, by the process, or by the machine.
fn check_sizes(sizes: &[u64]) {
    for stop in 0..3 {
        let disk = SimulatedDisk::new();
        let mut groups = Vec::new();
        let mut end = Lsn(0);
        let mut choice = SeededChoice::new(stop);
        for (life, &segment_bytes) in sizes.iter().enumerate() {
            let mut node = open(&disk, segment_bytes);
            check(&node, &groups);
            let limit = segment_bytes as usize / 4;
            let mut granted = propose(&mut node, &Command::AcquireEpoch { branch: BRANCH });
            node.run(&mut NoPeers).expect("no fault");
            let Ok(Ok(Outcome::Granted(grant))) = granted.try_recv() else { panic!("no epoch") };
            assert_eq!(grant.end_lsn, end);
            let mut append = |node: &mut Node, length: usize| {
                let bytes = content(end, length, grant.epoch.0);
                let append = Command::Append { branch: BRANCH, epoch: grant.epoch, start_lsn: end, bytes };
                let mut answer = propose(node, &append);
                node.run(&mut NoPeers).expect("no fault");
                match answer.try_recv().expect("an answer") {
                    Ok(_) => {
                        groups.push((end, length, grant.epoch.0));
                        end = end.advance(length as u64);
                    }
                    Err(LogError::TooLarge { .. }) => assert!(length > limit),
                    Err(error) => panic!("{length} bytes: {error}"),
                }
            };
            append(&mut node, limit + 1);
            let last_bytes = |node: &Node| node.segments().all().last().map(|segment| segment.length_bytes());
            for round in 0.. {
                if round > 6 && last_bytes(&node) == Some(segment_bytes) {
                    break;
                }
                append(&mut node, limit);
                append(&mut node, 1 + choice.below(200) as usize);
            }
            match stop {
                0 => node.close().expect("no fault"),
                1 => disk.restart_process(),
                _ => disk.restart(life as u64),
            }
        }
        let node = open(&disk, sizes[0]);
        check(&node, &groups);
        // Each segment has one of the sizes that were set, and all of them occur.
        let lengths: Vec<u64> = node.segments().all().iter().map(|segment| segment.length_bytes()).collect();
        assert!(lengths.iter().all(|length| sizes.contains(length)), "{lengths:?}");
        assert!(sizes.iter().all(|size| lengths.contains(size)), "{lengths:?}");
    }
}

#[test]
fn segments_keep_their_size_when_the_setting_changes() {
    check_sizes(&[64 * KIB, 16 * KIB]);
    check_sizes(&[16 * KIB, 64 * KIB]);
    check_sizes(&[256 * KIB, 16 * KIB, 128 * KIB, 32 * KIB, 16 * KIB]);
}

/// Nodes with segments of these sizes; whoever leads appends at *its* limit, which the others' segments need not hold.
fn check_cluster(sizes: [u64; 3]) {
    let mut cluster = Cluster::new();
    cluster.segment_bytes = (1..=3).zip(sizes).collect();
    for leader in 1..=3 {
        for id in 1..=3 {
            cluster.nodes.remove(&id);
            cluster.disks[&id].restart(id + leader);
            cluster.start(id);
        }
        // Time passes for one only: the others know no leader, and vote for it.
        for _ in 0..100 {
            cluster.nodes.get_mut(&leader).expect("it runs").tick().expect("no fault");
            cluster.settle();
        }
        assert!(cluster.nodes[&leader].is_leader(), "node {leader}");
        let (epoch, mut end) = cluster.acquire(leader);
        let limit = sizes[leader as usize - 1] as usize / 4;
        for length in [limit, 100, limit, limit, 1, limit, limit, limit] {
            let bytes = content(end, length, epoch.0);
            let answer = cluster.propose(leader, &Command::Append { branch: BRANCH, epoch, start_lsn: end, bytes });
            cluster.settle();
            match answer.blocking_recv() {
                Ok(Ok(Outcome::Appended { end_lsn })) => end = end_lsn,
                other => panic!("{sizes:?}: node {leader}, {length} bytes: {other:?}"),
            }
        }
        cluster.check_equal();
    }
}

#[test]
fn followers_take_what_does_not_fit_into_their_usual_segment() {
    check_cluster([256 * KIB, 16 * KIB, 16 * KIB]);
    check_cluster([16 * KIB, 64 * KIB, 256 * KIB]);
}
