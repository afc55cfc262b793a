//! Golden files of what the log service writes: segment records, checkpoints, the state machine, commands, the archive. Today's
//! code reads each, writes it again byte by byte, and refuses what is cut short, flipped or newer.
//!
//! A file of `golden/` that this test fails on is a format that has changed: logs that exist would not be read any
//! more. A new version gets a new file *beside* the old one, which stays readable. `BLESS=1` writes files that are
//! missing; it never replaces one.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::eraftpb::ConfState;
use storage::{BranchId, Epoch, Lsn};

use super::format::{Damage, RECORD_HEADER_BYTES, RecordKind, decode_header, put_record, record_bytes};
use crate::archive::{ArchiveId, ArchivedRange, Piece, PieceError};
use crate::client::LogChunk;
use crate::command::Command;
use crate::core::TermRuns;
use crate::machine::StateMachine;
use crate::members::{Member, Members};
use crate::segment::Checkpoint;

/// The bytes of a golden file, hexadecimal, thirty-two a line.
fn golden(name: &str, written: &[u8]) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/segment/golden/{name}.hex"));
    if std::env::var_os("BLESS").is_some() && !path.exists() {
        let lines = written.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        std::fs::write(&path, lines.map(|line| line + "\n").collect::<String>()).expect("the file can be written");
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digits: String = text.split_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    let stored: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
    assert!(stored == written, "{name}: what is written today differs from the golden file");
    stored
}

fn members() -> Members {
    let member = |raft_id: u64, address: &str| Member { raft_id, address: address.to_owned() };
    let nodes = BTreeMap::from([(1, member(0x0001_0001, "one:7000")), (2, member(0, "two:7000"))]);
    Members::new("cluster of two".to_owned(), nodes)
}

fn commands() -> Vec<Command> {
    vec![
        Command::AcquireEpoch { branch: BranchId(7) },
        Command::Append {
            branch: BranchId(7),
            epoch: Epoch(1),
            start_lsn: Lsn(0),
            bytes: Bytes::from_static(b"a group"),
        },
        Command::ReportConsumer { branch: BranchId(7), consumer: "pages".to_owned(), durable_lsn: Lsn(5) },
        Command::CompareAndSwap { key: "key".to_owned(), expected: None, value: Some(Bytes::from_static(b"value")) },
        Command::CompareAndSwap { key: "key".to_owned(), expected: Some(1_000_000), value: None },
        Command::SetMember {
            node_id: 3,
            expected: None,
            member: Member { raft_id: 0x0002_0003, address: "three:7000".to_owned() },
        },
        Command::RemoveMember { node_id: 2 },
    ]
}

#[test]
fn commands_as_they_stand_in_entries() {
    let mut written = Vec::new();
    for command in commands() {
        let (context, data) = command.encode();
        written.extend_from_slice(&(context.len() as u16).to_le_bytes());
        written.extend_from_slice(&(data.len() as u16).to_le_bytes());
        written.extend_from_slice(&context);
        written.extend_from_slice(&data);
    }
    let mut rest = Bytes::from(golden("commands", &written));
    for command in commands() {
        let head = rest.split_to(4);
        let (context, data) = (u16::from_le_bytes([head[0], head[1]]), u16::from_le_bytes([head[2], head[3]]));
        let (context, data) = (rest.split_to(context.into()), rest.split_to(data.into()));
        assert_eq!(Command::decode(context.clone(), data.clone()).expect("it decodes"), Some(command.clone()));
        // An empty context is a new leader's entry.
        for length in 1..context.len() {
            let cut = Command::decode(context.slice(..length), data.clone());
            assert!(cut.is_err(), "{command:?}: cut to {length} bytes gives {cut:?}");
        }
        let newer = [&[context[0] + 1], &context[1..]].concat();
        assert!(Command::decode(newer.into(), data).is_err(), "{command:?}: a newer version");
    }
    assert!(rest.is_empty());
}

fn machine() -> StateMachine {
    let mut machine = StateMachine::begin(40, members());
    for (number, command) in commands().iter().take(4).enumerate() {
        machine.apply(41 + number as u64, Some(command)).expect("it is accepted");
    }
    machine
}

#[test]
fn state_machines_of_both_versions() {
    let machine = machine();
    let bytes = golden("state_machine_2", &machine.encode());
    assert_eq!(StateMachine::decode(bytes.clone().into()).expect("it decodes").encode(), bytes);
    for length in 0..bytes.len() {
        assert!(StateMachine::decode(Bytes::copy_from_slice(&bytes[..length])).is_err(), "cut to {length} bytes");
    }
    let newer = [&[3], &bytes[1..]].concat();
    assert!(StateMachine::decode(newer.into()).is_err(), "a newer version");
    // Version 1 ended before the members. It is read, and never written again.
    let mut first = bytes;
    first[0] = 1;
    let mut members_bytes = Vec::new();
    members().encode(&mut members_bytes);
    first.truncate(first.len() - members_bytes.len());
    let first = golden("state_machine_1", &first);
    let read = StateMachine::decode(first.clone().into()).expect("version 1 is read");
    assert_eq!(read.members(), &Members::default());
    assert_eq!(read.branch(BranchId(7)), machine.branch(BranchId(7)));
    assert_eq!(read.applied_index(), 44);
    for length in 0..first.len() {
        assert!(StateMachine::decode(Bytes::copy_from_slice(&first[..length])).is_err(), "cut to {length} bytes");
    }
}

#[test]
fn a_segment_of_every_record() {
    const SEQUENCE: u64 = 7;
    let mut terms = TermRuns::starting_at(30, 2);
    (31..=44).for_each(|index| terms.push(index, if index < 40 { 2 } else { 3 }));
    let conf_state = ConfState { voters: vec![0x0001_0001, 0x0001_0002], learners: vec![3], ..ConfState::default() };
    let checkpoint = Checkpoint { index: 44, term: 3, terms, conf_state, machine: machine().encode().into() };
    let records: Vec<(RecordKind, (u64, u64), Vec<u8>)> = vec![
        (RecordKind::Header, (45, 0), [&[1][..], &0x0001_0001_u64.to_le_bytes()].concat()),
        (RecordKind::Checkpoint, (44, 3), checkpoint.encode()),
        (RecordKind::HardState, (44, 3), 0x0001_0001_u64.to_le_bytes().to_vec()),
        (RecordKind::Entry, (45, 3), b"\x03\x00ctxdata of the entry".to_vec()),
        (RecordKind::ConfChange, (46, 3), b"\x00\x00conf".to_vec()),
        (RecordKind::ConfChangeV2, (47, 3), b"\x00\x00conf2".to_vec()),
        (RecordKind::Mark, (0, 0), Vec::new()),
        (RecordKind::Seal, (47, 0), Vec::new()),
    ];
    let mut written = Vec::new();
    for (kind, place, payload) in &records {
        let synced = written.len() as u64;
        put_record(&mut written, SEQUENCE, *kind, *place, synced, &[payload]);
    }
    let bytes = golden("segment", &written);
    // Every record of a sound prefix of the file, until something is wrong.
    let read = |sequence: u64, bytes: &[u8]| -> (usize, Result<(), Damage>) {
        let (mut offset, mut count) = (0, 0);
        while offset < bytes.len() {
            let Some(header) = bytes.get(offset..offset + RECORD_HEADER_BYTES) else {
                return (count, Err(Damage::Empty));
            };
            let header = header.try_into().expect("exactly a header");
            let checked = decode_header(sequence, header, (bytes.len() - offset) as u64).and_then(|header| {
                let payload = &bytes[offset + RECORD_HEADER_BYTES..][..header.length_bytes];
                header.check_payload(payload)?;
                let (kind, place, expected) = &records[count];
                assert_eq!((header.kind, (header.index, header.term), payload), (*kind, *place, &expected[..]));
                assert_eq!(header.synced_bytes, offset as u64);
                Ok(record_bytes(header.length_bytes))
            });
            match checked {
                Ok(length) => offset += length,
                Err(damage) => return (count, Err(damage)),
            }
            count += 1;
        }
        (count, Ok(()))
    };
    assert_eq!(read(SEQUENCE, &bytes), (records.len(), Ok(())));
    assert_eq!(read(SEQUENCE + 1, &bytes), (0, Err(Damage::HeaderChecksum)), "records of another segment");
    let ends: Vec<usize> = records
        .iter()
        .scan(0, |end, (_, _, payload)| {
            *end += record_bytes(payload.len());
            Some(*end)
        })
        .collect();
    for length in (0..bytes.len()).filter(|length| *length > 0 && !ends.contains(length)) {
        let (count, outcome) = read(SEQUENCE, &bytes[..length]);
        assert!(outcome.is_err() && count < records.len(), "cut to {length} bytes");
    }
    for bit in 0..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let (record, start) = ends
            .iter()
            .position(|end| bit / 8 < *end)
            .map_or((0, 0), |record| (record, record.checked_sub(1).map_or(0, |before| ends[before])));
        let padding = start + RECORD_HEADER_BYTES + records[record].2.len();
        // Padding carries nothing, and is not read.
        if bit / 8 < padding {
            let (count, outcome) = read(SEQUENCE, &damaged);
            assert!(outcome.is_err() && count == record, "bit {} of byte {} flipped", bit % 8, bit / 8);
        }
    }
    let (_, _, payload) = &records[1];
    let decoded = Checkpoint::decode(44, 3, payload.clone().into()).expect("the checkpoint is read");
    assert_eq!(decoded.encode(), *payload);
    for newer in [0, 2] {
        let changed = [&[newer], &payload[1..]].concat();
        assert!(Checkpoint::decode(44, 3, changed.into()).is_err(), "a checkpoint of version {newer}");
    }
    let mut newer = bytes[..RECORD_HEADER_BYTES].to_vec();
    newer[2] = 2;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&SEQUENCE.to_le_bytes());
    crc.update(&newer[..36]);
    newer[36..40].copy_from_slice(&crc.finalize().to_le_bytes());
    let newer: &[u8; RECORD_HEADER_BYTES] = newer.as_slice().try_into().expect("exactly a header");
    assert_eq!(decode_header(SEQUENCE, newer, 1 << 20).err(), Some(Damage::Version(2)));
}

#[test]
fn a_piece_of_the_archive() {
    let (archive, branch) = (ArchiveId(0x1122_3344_5566_7788), BranchId(7));
    let group = |start: u64, epoch, bytes: &'static [u8]| LogChunk {
        start_lsn: Lsn(start),
        epoch: Epoch(epoch),
        bytes: Bytes::from_static(bytes),
    };
    let piece = Piece { branch, chunks: vec![group(100, 1, b"first"), group(105, 1, b"second"), group(111, 3, b"!")] };
    assert_eq!((piece.start_lsn(), piece.end_lsn()), (Lsn(100), Lsn(112)));
    let bytes = golden("archive_piece", &piece.encode(archive));
    let decode = |bytes: &[u8]| Piece::decode(archive, branch, Lsn(100), Bytes::copy_from_slice(bytes));
    assert_eq!(decode(&bytes), Ok(piece));
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "cut to {length} bytes");
    }
    assert!(decode(&[&bytes[..], &[0]].concat()).is_err(), "longer than it says");
    for bit in 0..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&damaged).is_err(), "bit {} of byte {} flipped", bit % 8, bit / 8);
    }
    let newer = [&bytes[..4], &[2], &bytes[5..]].concat();
    assert_eq!(decode(&newer), Err(PieceError::Version(2)));
    // Sound bytes in another's place.
    let whole = Bytes::from(bytes);
    for (archive, branch, start) in
        [(ArchiveId(1), branch, Lsn(100)), (archive, BranchId(8), Lsn(100)), (archive, branch, Lsn(105))]
    {
        assert_eq!(Piece::decode(archive, branch, start, whole.clone()), Err(PieceError::Checksum));
    }
}

#[test]
fn what_the_metadata_map_says_of_the_archive() {
    let archive = ArchiveId(0x1122_3344_5566_7788);
    let range = ArchivedRange { archive, begin: Lsn(100), end: Lsn(1 << 40) };
    let written = [archive.encode(), range.encode()].concat();
    let bytes = Bytes::from(golden("archive_records", &written));
    let (name, stored) = (bytes.slice(..9), bytes.slice(9..));
    assert_eq!(ArchiveId::decode(name.clone()), Ok(archive));
    assert_eq!(ArchivedRange::decode(stored.clone()), Ok(range));
    for length in 0..stored.len() {
        assert!(ArchivedRange::decode(stored.slice(..length)).is_err(), "cut to {length} bytes");
        assert!(ArchiveId::decode(stored.slice(..length)).is_err() || length == name.len());
    }
    let newer = |bytes: &Bytes| Bytes::from([&[2], &bytes[1..]].concat());
    assert!(ArchiveId::decode(newer(&name)).is_err() && ArchivedRange::decode(newer(&stored)).is_err());
    let backwards = ArchivedRange { begin: Lsn(2), end: Lsn(1), ..range }.encode();
    assert!(ArchivedRange::decode(backwards).is_err());
}
