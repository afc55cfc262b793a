//! Golden files of the directory's records. Today's code reads each, writes it again byte by byte, and refuses it when it is cut
//! short, when any bit is flipped, and when it says that a newer program wrote it.
//!
//! A file of `golden/` that this test fails on is a record that has changed: clusters that exist would not start any more. A new
//! version gets a new file *beside* the old one, which stays readable.

use bytes::Bytes;
use storage::layout::ShardLayout;
use storage::{BranchId, Lsn};
use uuid::Uuid;

use crate::cluster::record::{
    BranchRecord, LeaseRecord, Placement, RecordError, ServerRecord, decode_number, encode_number,
};
use crate::compaction::Retention;

/// The bytes of a golden file, hexadecimal, thirty-two a line.
fn stored(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/cluster/golden/{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digits: String = text.split_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The file holds `record`; today's program writes it as `written`, if it still does.
fn check<T: PartialEq + std::fmt::Debug>(
    name: &str,
    record: &T,
    written: Option<&Bytes>,
    decode: impl Fn(&[u8]) -> Result<T, RecordError>,
) {
    let bytes = stored(name);
    if let Some(written) = written {
        assert!(bytes == written[..], "{name}: what is written today differs from the golden file");
    }
    assert_eq!(decode(&bytes).as_ref(), Ok(record), "{name}");
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{name}: cut to {length} bytes");
    }
    let mut damaged = bytes.clone();
    for bit in 0..8 * bytes.len() {
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&damaged).is_err(), "{name}: bit {} of byte {} flipped", bit % 8, bit / 8);
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
    // Sound, and of a version that is not known yet.
    let mut newer = bytes;
    newer[0] = 3;
    let body = newer.len() - 4;
    let crc = crc32fast::hash(&newer[..body]);
    newer[body..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(decode(&newer), Err(RecordError("unknown version")), "{name}");
}

#[test]
fn records_of_all_versions() {
    let incarnation = Uuid::from_bytes(std::array::from_fn(|byte| byte as u8));
    let server = ServerRecord { incarnation, beat: 77, address: "pages.one:7100".to_owned() };
    check("server", &server, Some(&server.encode()), ServerRecord::decode);

    let layout = ShardLayout::new(2, 2048).expect("a layout");
    let placement =
        |owner: &str, moving_to: &str| Placement { owner: owner.to_owned(), moving_to: moving_to.to_owned() };
    let second = BranchRecord {
        parent: Some((BranchId(7), Lsn(123_456))),
        created_us: 1_700_000_000_000_000,
        retention: Some(Retention { bytes: 1 << 30, time_us: 3_600_000_000 }),
        placements: vec![placement("server-1", ""), placement("server-2", "server-3")],
        ..BranchRecord::new(BranchId(9), "main copy", layout)
    };
    check("branch_2", &second, Some(&second.encode()), BranchRecord::decode);
    let unset = BranchRecord { parent: None, deleting: true, retention: None, ..second.clone() };
    check("branch_2_unset", &unset, Some(&unset.encode()), BranchRecord::decode);
    // Version 1 had no retention. It is read, and never written again.
    check("branch_1", &BranchRecord { retention: None, ..second }, None, BranchRecord::decode);

    check("number", &BranchId(10), Some(&encode_number(BranchId(10))), decode_number);
    let lease = LeaseRecord { lsn: Lsn(123_000), until_us: 1_700_000_100_000_000 };
    check("lease", &lease, Some(&lease.encode()), LeaseRecord::decode);
}
