//! Segment files by themselves. Stories of what the simulator found.

use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry};

use crate::core::TermRuns;
use crate::disk::Disk;
use crate::disk::simulated::SimulatedDisk;
use crate::machine::StateMachine;
use crate::members::Members;
use crate::segment::{Checkpoint, Recovered, SegmentConfig, SegmentLog, Spare, StoreError, read_entries};

const SEGMENT_BYTES: u64 = 16 << 10;

fn open(disk: &SimulatedDisk) -> Recovered {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let config = SegmentConfig { segment_bytes: SEGMENT_BYTES, checkpoint_every_bytes: 1 << 20, raft_id: 1 };
    let spare = Spare::new(disk.clone(), SEGMENT_BYTES, false);
    SegmentLog::open(disk, config, spare, &[1]).expect("a log that was written in good order opens")
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { index, term, data: Bytes::from(vec![term as u8; 1500]), ..Entry::default() }
}

/// Story (simulator): a follower's uncommitted entries are replaced by a new leader's, and the next segment's checkpoint
/// is from after that. The old copies stand before the new ones in the file, do not fit to the checkpoint's terms, and
/// the node refused to start: "entry 22 of term 2 follows one of term 3".
///
/// Of `first` entries of the first leader all from 3 on are replaced, up to `last`.
fn check_replaced_entries(first: u64, last: u64, segments: usize) {
    let disk = SimulatedDisk::new();
    let mut log = open(&disk).log;
    let mut terms = TermRuns::starting_at(0, 0);
    let mut write = |log: &mut SegmentLog, entry: Entry, applied: u64| {
        let applied = applied.min(entry.index);
        terms.push(entry.index, entry.term);
        let (term, terms) = (terms.term(applied).expect("applied"), terms.clone());
        let mut conf_state = ConfState::default();
        conf_state.set_voters(vec![1]);
        let machine: Bytes = StateMachine::begin(applied, Members::default()).encode().into();
        let checkpoint = || Checkpoint {
            index: applied,
            term,
            terms: terms.clone(),
            conf_state: conf_state.clone(),
            machine: machine.clone(),
        };
        log.append(None, &[entry], &checkpoint).expect("no fault");
        let unsynced = log.unsynced();
        log.synced(&unsynced, unsynced.sync()).expect("no fault");
    };
    for index in 1..=first {
        write(&mut log, entry(index, 1), 2);
    }
    // A new leader replaces 3 and what follows; 3 is applied, and a new segment begins soon after.
    for index in 3..=last {
        write(&mut log, entry(index, 2), 3);
    }
    drop(log);
    let recovered = open(&disk);
    assert!(recovered.log.set().all().len() >= segments, "segments were begun");
    let terms = &recovered.terms;
    assert_eq!((terms.last_index(), terms.term(2), terms.term(3)), (last, Some(1), Some(2)));
    let entries = read_entries(recovered.log.set(), 1, last + 1, u64::MAX).expect("readable");
    let found: Vec<(u64, u64)> = entries.iter().map(|entry| (entry.index, entry.term)).collect();
    let expected: Vec<(u64, u64)> = (1..=last).map(|index| (index, if index < 3 { 1 } else { 2 })).collect();
    assert_eq!(found, expected);
}

#[test]
fn replaced_entries_before_a_checkpoint_do_not_keep_the_log_from_opening() {
    check_replaced_entries(6, 12, 2);
}

/// Seed 6709: they fill a segment to its seal, which names the last of them.
#[test]
fn replaced_entries_up_to_a_seal_do_not_keep_the_log_from_opening() {
    check_replaced_entries(20, 34, 3);
}

/// A sync that fails while a file is prepared ends the node when it needs the file: another try might only seem to succeed.
#[test]
fn a_sync_that_fails_beside_the_node_while_a_segment_is_prepared_is_not_tried_again() {
    let simulated = SimulatedDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(simulated.clone());
    let spare = Spare::new(disk.clone(), SEGMENT_BYTES, true);
    let config = SegmentConfig { segment_bytes: SEGMENT_BYTES, checkpoint_every_bytes: 1 << 20, raft_id: 1 };
    // The first file is made by the writer: nobody else is there yet.
    let log = SegmentLog::open(disk, config, spare.clone(), &[1]).expect("an empty disk").log;
    simulated.fail_next_sync();
    let maker = {
        let spare = spare.clone();
        std::thread::spawn(move || spare.serve())
    };
    for _ in 0..3 {
        assert!(matches!(log.ensure_room(SEGMENT_BYTES), Err(StoreError::Io { .. })));
    }
    spare.close();
    maker.join().expect("it ends");
    assert!(matches!(log.ensure_room(SEGMENT_BYTES), Err(StoreError::Io { .. })));
}
