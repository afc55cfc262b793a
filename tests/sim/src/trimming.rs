//! Checks of the log's archive: what it holds is what was committed, it has no gaps, and no node ever trims its log above what is
//! archived and what its readers have said to hold (FAULTS 17).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use logstore::archive::{
    ARCHIVE_CONSUMER, ARCHIVE_KEY, ArchiveId, ArchivedRange, Piece, RANGE_PREFIX, archived_ranges,
};
use logstore::machine::StateMachine;
use storage::{BranchId, Lsn};

use crate::machine::Machine;

/// Names a piece.
#[derive(Clone, Copy, Debug)]
pub struct PieceKey {
    pub archive: ArchiveId,
    pub branch: BranchId,
    pub start: Lsn,
}

impl PieceKey {
    /// `None`: the object is no piece.
    pub fn parse(key: &str) -> Option<PieceKey> {
        let parts: Vec<_> = key.split('/').collect();
        let ["log", archive, branch, _, start] = parts[..] else { return None };
        let hexadecimal = |text| u64::from_str_radix(text, 16).ok();
        let (archive, start) = (ArchiveId(hexadecimal(archive)?), Lsn(hexadecimal(start)?));
        Some(PieceKey { archive, branch: BranchId(branch.parse().ok()?), start })
    }
}

/// What was seen of a node after its last round.
struct Seen {
    life: u64,
    archives: bool,
    first: BTreeMap<BranchId, Lsn>,
    consumers: BTreeMap<BranchId, BTreeSet<String>>,
}

/// See the module.
#[derive(Default)]
pub struct Trimming {
    /// The highest position that each consumer has ever sent.
    reported: BTreeMap<(BranchId, String), Lsn>,
    /// What each branch's range said last, with its version.
    ranges: BTreeMap<BranchId, (u64, ArchivedRange)>,
    /// Where each piece that is there ends, by where it starts.
    pieces: BTreeMap<(BranchId, Lsn), Lsn>,
    /// Up to where nodes have trimmed before there was an archive.
    before: BTreeMap<BranchId, Lsn>,
    /// By node.
    seen: BTreeMap<u64, Seen>,
}

impl Trimming {
    /// A consumer is about to say that it needs nothing before a position.
    pub fn reported(&mut self, branch: BranchId, consumer: &str, durable: Lsn) {
        if durable < Lsn::MAX {
            let position = self.reported.entry((branch, consumer.to_owned())).or_default();
            *position = durable.max(*position);
        }
    }

    /// A piece has been written: what it holds.
    pub fn archived(&mut self, key: &PieceKey, bytes: Bytes) -> Piece {
        let PieceKey { archive, branch, start } = *key;
        let piece = Piece::decode(archive, branch, start, bytes);
        let piece = piece.unwrap_or_else(|error| panic!("the piece of {branch} at {start}: {error}"));
        let before = self.pieces.insert((branch, start), piece.end_lsn());
        assert_eq!(before, None, "the piece of {branch} at {start} is written twice");
        piece
    }

    /// A piece is deleted.
    pub fn dropped(&mut self, key: &PieceKey) {
        let PieceKey { branch, start, .. } = *key;
        let begin = self.ranges.get(&branch).map_or(Lsn::ZERO, |(_, range)| range.begin);
        assert!(start < begin, "the piece of {branch} at {start} is deleted, but the archive begins at {begin}");
        self.pieces.remove(&(branch, start));
    }

    /// Before this, a branch need not be readable.
    pub fn begin(&self, branch: BranchId) -> Lsn {
        let range = self.ranges.get(&branch).map_or(Lsn::ZERO, |(_, range)| range.begin);
        range.max(self.before.get(&branch).copied().unwrap_or_default())
    }

    /// Up to where the map says that a branch is archived.
    pub fn range_end(&self, branch: BranchId) -> Lsn {
        self.ranges.get(&branch).map_or(Lsn::ZERO, |(_, range)| range.end)
    }

    /// How far the pieces of a branch reach without a gap.
    fn archived_until(&self, branch: BranchId) -> Lsn {
        let mut until = self.ranges.get(&branch).map_or(Lsn::ZERO, |(_, range)| range.begin);
        while let Some(end) = self.pieces.get(&(branch, until)) {
            until = *end;
        }
        until
    }

    /// A node has worked: what it has trimmed was archived, and read by all who had said that they read.
    pub fn node_worked(&mut self, machine: &Machine) {
        let Some(node) = &machine.node else { return };
        self.follow_ranges(node.machine());
        let archives = node.machine().metadata(ARCHIVE_KEY).is_some();
        let before = self.seen.remove(&machine.id).filter(|seen| seen.life == machine.life);
        let (mut first, mut consumers) = (BTreeMap::new(), BTreeMap::new());
        for (branch, state) in node.machine().branches() {
            let begin = node.first_lsn(branch);
            let names: BTreeSet<String> = state.consumers.keys().cloned().collect();
            let begun = before.as_ref().and_then(|seen| seen.first.get(&branch)).copied().unwrap_or_default();
            if begin > begun {
                let archived_before = before.as_ref().is_none_or(|seen| seen.archives);
                self.trimmed(machine.id, branch, begin, archives && archived_before);
                let known = before.as_ref().and_then(|seen| seen.consumers.get(&branch));
                let readers = known.into_iter().flat_map(|known| known & &names);
                for reader in readers.filter(|reader| reader != ARCHIVE_CONSUMER) {
                    let holds = self.reported.get(&(branch, reader.clone())).copied().unwrap_or_default();
                    let id = machine.id;
                    assert!(
                        begin <= holds,
                        "node {id} trims {branch} up to {begin}, and {reader} holds it up to {holds}"
                    );
                }
            }
            first.insert(branch, begin);
            consumers.insert(branch, names);
        }
        self.seen.insert(machine.id, Seen { life: machine.life, archives, first, consumers });
    }

    fn trimmed(&mut self, node: u64, branch: BranchId, begin: Lsn, archives: bool) {
        if !archives {
            let before = self.before.entry(branch).or_default();
            *before = begin.max(*before);
            return;
        }
        let archived = self.archived_until(branch);
        let excused = self.before.get(&branch).copied().unwrap_or_default();
        assert!(
            begin <= archived.max(excused),
            "node {node} trims {branch} up to {begin}, which is archived up to {archived} only"
        );
    }

    fn follow_ranges(&mut self, state: &StateMachine) {
        let listed: Vec<_> =
            state.metadata_with_prefix(RANGE_PREFIX).map(|(key, value)| (key.clone(), value.clone())).collect();
        for found in archived_ranges(&listed) {
            let (branch, range, version) = found.expect("the archiver's own");
            if self.ranges.get(&branch).is_some_and(|(known, _)| *known >= version) {
                continue;
            }
            if let Some((_, known)) = self.ranges.get(&branch) {
                let grows = range.archive == known.archive && range.begin >= known.begin && range.end >= known.end;
                assert!(grows, "the archive of {branch}: {known:?} is followed by {range:?}");
            }
            self.ranges.insert(branch, (version, range));
            let held = self.archived_until(branch);
            assert!(held >= range.end, "{branch} is said to be archived up to {}, and is up to {held}", range.end);
        }
    }
}
