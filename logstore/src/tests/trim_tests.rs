//! FAULTS 17: three nodes on simulated disks and network, an archiver, readers, changes of the leader and crashes, in an
//! order that is drawn from a seed. No node ever trims above min(archived, every reader).

use std::collections::BTreeMap;

use storage::{BranchId, Epoch, Lsn};

use super::node_tests::{BRANCH, Cluster};
use crate::archive::{ARCHIVE_CONSUMER, ARCHIVE_KEY, ArchiveId};
use crate::command::Command;
use crate::disk::simulated::SeededChoice;

const READERS: [&str; 2] = ["shard 1", "shard 2"];

/// What outside the log is true.
#[derive(Default)]
struct Outside {
    /// Objects of the archive hold everything below.
    archived: Lsn,
    /// What each reader has made durable elsewhere.
    readers: BTreeMap<&'static str, Lsn>,
}

impl Outside {
    /// What may be trimmed: what nobody is known to need. A reader that was never heard of does not hold the log.
    fn floor(&self) -> Lsn {
        let readers = self.readers.values().min().copied().unwrap_or(Lsn::ZERO);
        readers.min(self.archived)
    }
}

fn report(consumer: &str, durable_lsn: Lsn) -> Command {
    Command::ReportConsumer { branch: BRANCH, consumer: consumer.to_owned(), durable_lsn }
}

fn check(cluster: &Cluster, outside: &Outside, what: &str) {
    for (id, node) in &cluster.nodes {
        let first = node.first_lsn(BRANCH);
        assert!(first <= outside.floor(), "{what}: node {id} begins at {first}, above {}", outside.floor());
    }
}

fn run(seed: u64) -> (Lsn, Lsn) {
    let mut choice = SeededChoice::new(seed);
    let mut cluster = Cluster::new();
    let mut outside = Outside::default();
    let leader = cluster.leader();
    let (mut epoch, mut end) = cluster.acquire(leader);
    let key = ARCHIVE_KEY.to_owned();
    let value = Some(ArchiveId(seed).encode());
    cluster.propose(leader, &Command::CompareAndSwap { key, expected: None, value });
    cluster.settle();
    for reader in READERS {
        outside.readers.insert(reader, Lsn::ZERO);
        cluster.propose(leader, &report(reader, Lsn::ZERO));
        cluster.settle();
    }
    for step in 0..300 {
        let what = format!("seed {seed}, step {step}");
        let leader = cluster.leader();
        match choice.below(16) {
            0..=6 => {
                let count = 1 + choice.below(4) as usize;
                cluster.append(leader, epoch, &mut end, count);
            }
            // The archive first holds something, and only then, or never, says so: with an old position as well.
            7..=8 => {
                outside.archived = Lsn(outside.archived.0 + choice.below(end.0 - outside.archived.0 + 1));
            }
            9..=10 => {
                let told = Lsn(outside.archived.0 - choice.below(outside.archived.0.min(2_000) + 1));
                cluster.propose(leader, &report(ARCHIVE_CONSUMER, told));
            }
            11..=12 => {
                let reader = READERS[choice.below(2) as usize];
                let position = outside.readers.get_mut(reader).expect("all are there");
                *position = Lsn(position.0 + choice.below(end.0 - position.0 + 1));
                let position = *position;
                cluster.propose(leader, &report(reader, position));
            }
            // Another leader, to which the last words of the old one may or may not have come.
            13 => {
                cluster.cut_off = vec![leader];
                let told = outside.archived;
                cluster.propose(leader, &report(ARCHIVE_CONSUMER, told));
                cluster.settle();
                let next = cluster.leader();
                (epoch, end) = cluster.acquire(next);
                check(&cluster, &outside, &what);
                cluster.cut_off.clear();
                cluster.tick(15);
            }
            14 => {
                let id = 1 + choice.below(3);
                cluster.nodes.remove(&id);
                cluster.disks[&id].restart(seed ^ step);
                cluster.start(id);
                cluster.tick(5);
            }
            _ => cluster.tick(3),
        }
        cluster.settle();
        check(&cluster, &outside, &what);
    }
    let leader = cluster.leader();
    assert!(epoch >= Epoch(1) && cluster.nodes[&leader].machine().branch(BranchId(1)).is_some());
    (cluster.nodes[&leader].first_lsn(BRANCH), outside.floor())
}

#[test]
fn the_log_is_never_trimmed_above_what_is_archived_and_read() {
    let mut trimmed = 0;
    for seed in 0..24 {
        let (first, floor) = run(seed);
        assert!(first <= floor);
        trimmed += usize::from(first > Lsn::ZERO);
    }
    assert!(trimmed > 8, "only {trimmed} runs trimmed anything");
}

/// Archiving has begun but holds nothing of a branch yet; or a branch has an archive and no reader.
#[test]
fn a_branch_waits_for_its_archive_and_for_its_first_reader() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    let (epoch, mut end) = cluster.acquire(leader);
    let mut tell = |cluster: &mut Cluster, command: Command| {
        cluster.append(leader, epoch, &mut end, 40);
        cluster.propose(leader, &command);
        cluster.settle();
        (cluster.nodes[&leader].first_lsn(BRANCH), end)
    };
    let value = Some(ArchiveId(1).encode());
    tell(&mut cluster, Command::CompareAndSwap { key: ARCHIVE_KEY.to_owned(), expected: None, value });
    let (first, end) = tell(&mut cluster, report("shard 1", Lsn(20_000)));
    assert_eq!(first, Lsn::ZERO, "nothing is archived");
    tell(&mut cluster, report("shard 1", Lsn::MAX));
    let (first, end) = tell(&mut cluster, report(ARCHIVE_CONSUMER, end));
    assert_eq!(first, Lsn::ZERO, "nobody has read anything");
    let (first, _) = tell(&mut cluster, report("shard 1", end));
    assert!(first > Lsn::ZERO && first <= end, "{first}");
}
