//! Records, plans, and clusters of several servers in one process.

mod branching;
mod golden;
mod leases;
mod servers;
mod split;
mod times;
mod undoing;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use storage::layout::ShardLayout;
use storage::{BranchId, Generation, Lsn, ShardId};
use uuid::Uuid;

use super::directory::Snapshot;
use super::plan::{ShardKey, Sight, Step, steps};
use super::record::*;
use crate::compaction::Retention;

fn branch(number: u64, placements: &[(&str, &str)]) -> BranchRecord {
    let layout = ShardLayout::new(placements.len() as u32, 16).expect("within the limits");
    let placements =
        placements.iter().map(|(owner, to)| Placement { owner: (*owner).to_owned(), moving_to: (*to).to_owned() });
    BranchRecord { placements: placements.collect(), ..BranchRecord::new(BranchId(number), "main", layout) }
}

proptest! {
    #[test]
    fn records_round_trip(
        numbers in any::<(u64, u64, u64, u64)>(),
        names in proptest::collection::vec(".{0,20}", 2..20),
        parent in proptest::option::of((1u64.., any::<u64>())),
    ) {
        let server = ServerRecord {
            incarnation: Uuid::from_u64_pair(numbers.0, numbers.1),
            beat: numbers.2,
            address: names[0].clone(),
        };
        prop_assert_eq!(ServerRecord::decode(&server.encode()), Ok(server));
        let pairs: Vec<_> = names.iter().zip(&names[1..]).map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let record = BranchRecord {
            name: names[1].clone(),
            parent: parent.map(|(branch, lsn)| (BranchId(branch), Lsn(lsn))),
            created_us: numbers.3,
            deleting: numbers.2 % 2 == 0,
            swept: numbers.2 % 4 == 0,
            retention: (numbers.1 % 2 == 0).then_some(Retention { bytes: numbers.1, time_us: numbers.2 }),
            ..branch(numbers.0, &pairs)
        };
        prop_assert_eq!(BranchRecord::decode(&record.encode()), Ok(record));
    }
}

/// Version 1 had no retention. It is read, and never written again.
#[test]
fn branches_of_the_first_version_are_read() {
    let record = BranchRecord { parent: Some((BranchId(1), Lsn(77))), ..branch(3, &[("a", ""), ("b", "c")]) };
    let mut bytes = record.encode().to_vec();
    assert_eq!(bytes[0], BRANCH_VERSION);
    let retention_at = 3 + 4 * 8 + 2 * 4;
    assert_eq!(bytes.drain(retention_at..retention_at + 16).collect::<Vec<_>>(), [0xFF; 16]);
    bytes[0] = 1;
    let body = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..body]);
    bytes[body..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(BranchRecord::decode(&bytes), Ok(record));
    let lease = LeaseRecord { lsn: Lsn(5), until_us: 6 };
    assert_eq!(LeaseRecord::decode(&lease.encode()), Ok(lease));
    let horizon = HorizonRecord { generation: Generation(7), lsn: Lsn(8) };
    assert_eq!(HorizonRecord::decode(&horizon.encode()), Ok(horizon));
    assert!(HorizonRecord::decode(&lease.encode()).is_err() && LeaseRecord::decode(&horizon.encode()).is_err());
}

#[test]
fn damaged_records_are_refused() {
    let server = ServerRecord { incarnation: Uuid::nil(), beat: 7, address: "host:1".to_owned() }.encode();
    let record = branch(3, &[("a", ""), ("b", "c")]).encode();
    assert!(ServerRecord::decode(&record).is_err() && BranchRecord::decode(&server).is_err());
    for bytes in [&server, &record] {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ServerRecord::decode(&flipped).is_err() && BranchRecord::decode(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            let cut = &bytes[..length];
            assert!(ServerRecord::decode(cut).is_err() && BranchRecord::decode(cut).is_err(), "cut at {length}");
        }
    }
}

#[test]
fn lineages() {
    let mut snapshot = Snapshot::default();
    for (number, parent) in [(1, None), (2, Some((1, 100))), (3, Some((2, 150))), (4, Some((2, 50))), (6, Some((5, 1)))]
    {
        let parent = parent.map(|(branch, lsn)| (BranchId(branch), Lsn(lsn)));
        snapshot.branches.insert(BranchId(number), BranchRecord { parent, ..branch(number, &[("", "")]) });
    }
    let stream = |branch: u64, lsn: u64| {
        let (stream, until) = snapshot.lineage(BranchId(branch)).expect("complete").stream_at(Lsn(lsn));
        (stream.0, until.map(|until| until.0))
    };
    assert_eq!([stream(1, 0), stream(1, 500)], [(1, None), (1, None)]);
    assert_eq!([stream(3, 99), stream(3, 100), stream(3, 149), stream(3, 150)].map(|(branch, _)| branch), [1, 2, 2, 3]);
    // A branch from below its parent's own branch point sees nothing of its parent's log.
    assert_eq!([stream(4, 49), stream(4, 50)], [(1, Some(50)), (4, None)]);
    assert_eq!(snapshot.lineage(BranchId(6)), None);
    assert_eq!(snapshot.lineage(BranchId(9)), None);
}

fn key(branch: u64, shard: u64) -> ShardKey {
    (BranchId(branch), ShardId(shard))
}

#[test]
fn plans() {
    use Step::*;
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [(u64, bool)], &'a [Step]);
    let cases: &[Case<'_>] = &[
        ("nothing to do", &[("me", ""), ("other", "")], &[(0, false)], &[]),
        ("ours, not served", &[("me", ""), ("other", "")], &[], &[Attach(key(1, 0))]),
        ("not ours, served", &[("other", ""), ("me", "")], &[(0, false), (1, false)], &[Detach(key(1, 0))]),
        ("orphans are shared out", &[("", ""), ("dead", "")], &[], &[Claim(key(1, 0))]),
        ("to be ours", &[("other", "me"), ("me", "")], &[(1, false)], &[Attach(key(1, 0))]),
        ("ready to be ours", &[("other", "me"), ("me", "")], &[(0, false), (1, false)], &[Finish(key(1, 0))]),
        ("its owner died while it moved here", &[("dead", "me"), ("me", "")], &[(1, false)], &[Attach(key(1, 0))]),
        ("taken by whom it moves to", &[("me", "other"), ("other", "")], &[(0, true)], &[]),
        (
            "moved to whom died",
            &[("me", "dead"), ("other", "")],
            &[(0, true)],
            &[CancelMove(key(1, 0)), Detach(key(1, 0)), Attach(key(1, 0))],
        ),
        ("taken by nobody known", &[("me", "")], &[(0, true)], &[Detach(key(1, 0)), Attach(key(1, 0))]),
        ("others have more", &[("other", ""), ("other", ""), ("third", "")], &[], &[Pull(key(1, 1))]),
        ("one move at a time", &[("other", ""), ("other", ""), ("other", "third")], &[], &[]),
        ("no longer there", &[("other", ""), ("me", "")], &[(1, false), (7, false)], &[Detach(key(1, 7))]),
    ];
    let alive: BTreeSet<_> = ["me", "other", "third"].map(str::to_owned).into();
    for (name, placements, attached, expected) in cases {
        let branches = BTreeMap::from([(BranchId(1), branch(1, placements))]);
        let attached = attached.iter().map(|(shard, lost)| (key(1, *shard), *lost)).collect();
        let found = steps(Sight { me: "me", alive: &alive, branches: &branches, attached: &attached });
        assert_eq!(&found, expected, "{name}");
    }
}

/// Whatever the state: servers that act in turn come to rest, with every shard served once, evenly.
#[test]
fn plans_come_to_rest() {
    let mut random = crate::tests::workload::Random(5);
    for round in 0..300 {
        let names = ["a", "b", "c", "dead", "gone", ""];
        let living = 1 + random.below(3) as usize;
        let alive: BTreeSet<_> = names[..living].iter().map(|name| (*name).to_owned()).collect();
        let mut any = || names[random.below(names.len() as u64) as usize];
        let placements: Vec<_> = (0..8).map(|_| (any(), any())).collect();
        let mut record = branch(1, &placements);
        let mut attached: BTreeMap<String, BTreeMap<ShardKey, bool>> = BTreeMap::new();
        let mut quiet = 0;
        for turn in 0.. {
            assert!(turn < 500, "round {round} never rests: {record:?}");
            let me = names[turn % living];
            let branches = BTreeMap::from([(BranchId(1), record.clone())]);
            let mine = attached.entry(me.to_owned()).or_default();
            let found = steps(Sight { me, alive: &alive, branches: &branches, attached: mine });
            quiet = if found.is_empty() { quiet + 1 } else { 0 };
            if quiet > living {
                break;
            }
            for step in found {
                let (Step::Claim(at) | Step::Attach(at) | Step::Detach(at)) = step else {
                    let (Step::Finish(at) | Step::Pull(at) | Step::CancelMove(at)) = step else { unreachable!() };
                    let placement = record.placement_mut(at.1).expect("a shard");
                    match step {
                        Step::Finish(_) => *placement = Placement { owner: me.to_owned(), moving_to: String::new() },
                        Step::Pull(_) => me.clone_into(&mut placement.moving_to),
                        _ => placement.moving_to.clear(),
                    }
                    continue;
                };
                if matches!(step, Step::Detach(_)) {
                    attached.get_mut(me).expect("there").remove(&at);
                    continue;
                }
                if matches!(step, Step::Claim(_)) {
                    *record.placement_mut(at.1).expect("a shard") =
                        Placement { owner: me.to_owned(), moving_to: String::new() };
                }
                for (id, shards) in &mut attached {
                    if let Some(lost) = shards.get_mut(&at) {
                        *lost = id != me;
                    }
                }
                attached.get_mut(me).expect("there").insert(at, false);
            }
        }
        for (shard, placement) in record.shards() {
            assert!(alive.contains(&placement.owner), "round {round}: shard {shard} is {placement:?}");
            assert_eq!(attached[&placement.owner].get(&key(1, shard.0)), Some(&false), "round {round}: shard {shard}");
        }
        let loads: Vec<_> =
            alive.iter().map(|id| record.placements.iter().filter(|p| p.owner == *id).count()).collect();
        assert!(loads.iter().max() <= loads.iter().min().map(|least| least + 1).as_ref(), "round {round}: {loads:?}");
    }
}
