//! The bytes of a segment file. A segment is a sequence of records, each aligned to 8 bytes:
//!
//! ```text
//!  0  magic u16 = 0xA175   2  version u8 = 1   3  kind u8   4  payload length u32
//!  8  index u64           16  term u64
//! 24  synced u64: bytes of this segment that were durable when the record was written
//! 32  payload CRC32       36  header CRC32, over the segment's sequence number and bytes 0..36
//! 40  payload, zero-padded to the next multiple of 8
//! ```
//!
//! Integers are little-endian. The header CRC covers the payload CRC, and both are bound to the segment, so a record
//! of another file cannot pass for one of this file. `synced` is what makes a torn tail distinguishable from
//! corruption: a damaged record may be cut off only if no later record says that it had been durable.

use bytes::Bytes;

/// Size of a record's header.
pub const RECORD_HEADER_BYTES: usize = 40;
/// Records begin at multiples of this.
pub const RECORD_ALIGNMENT_BYTES: usize = 8;
/// Longest payload; larger ones are refused before anything is allocated for them.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 20;

const MAGIC: u16 = 0xA175;
const VERSION: u8 = 1;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// First record of a segment: index = the first entry index it was opened for; payload = flags u8, Raft's id of the node u64.
    Header = 1,
    /// A Raft entry; payload = context length u16, context, data.
    Entry = 2,
    /// A Raft membership entry, same payload.
    ConfChange = 3,
    /// A Raft membership entry of the newer form, same payload.
    ConfChangeV2 = 4,
    /// Raft's hard state: term, index = commit, payload = vote u64.
    HardState = 5,
    /// The state machine as of index and term.
    Checkpoint = 6,
    /// Last record of a segment that is complete; index = the last entry written.
    Seal = 7,
    /// Says only, by its `synced` field, that all before it was durable.
    Mark = 8,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<RecordKind> {
        Some(match byte {
            1 => RecordKind::Header,
            2 => RecordKind::Entry,
            3 => RecordKind::ConfChange,
            4 => RecordKind::ConfChangeV2,
            5 => RecordKind::HardState,
            6 => RecordKind::Checkpoint,
            7 => RecordKind::Seal,
            8 => RecordKind::Mark,
            _ => return None,
        })
    }
}

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What the payload is.
    pub kind: RecordKind,
    /// Bytes of payload, without padding.
    pub length_bytes: usize,
    /// Raft index, as the kind defines it.
    pub index: u64,
    /// Raft term.
    pub term: u64,
    /// Bytes of the segment that were durable when this was written.
    pub synced_bytes: u64,
    payload_crc: u32,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Nothing was written here.
    #[error("no record")]
    Empty,
    /// Not the beginning of a record.
    #[error("bad magic number")]
    Magic,
    /// The header's checksum does not match.
    #[error("header checksum mismatch")]
    HeaderChecksum,
    /// Written by a newer version of this program.
    #[error("unknown record version {0}")]
    Version(u8),
    /// Unknown kind in a header whose checksum matches.
    #[error("unknown record kind {0}")]
    Kind(u8),
    /// The length leads past the segment or the limit.
    #[error("record of {0} bytes does not fit")]
    Length(usize),
    /// The payload's checksum does not match.
    #[error("payload checksum mismatch")]
    PayloadChecksum,
}

/// Bytes that a record with this payload takes.
pub fn record_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(RECORD_ALIGNMENT_BYTES)
}

/// Appends a record whose payload is the concatenation of `parts`.
pub fn put_record(
    buffer: &mut Vec<u8>,
    sequence: u64,
    kind: RecordKind,
    (index, term): (u64, u64),
    synced_bytes: u64,
    parts: &[&[u8]],
) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    assert!(length <= MAX_PAYLOAD_BYTES, "record payload of {length} bytes exceeds {MAX_PAYLOAD_BYTES}");
    let mut payload_crc = crc32fast::Hasher::new();
    for part in parts {
        payload_crc.update(part);
    }
    let start = buffer.len();
    buffer.extend_from_slice(&MAGIC.to_le_bytes());
    buffer.push(VERSION);
    buffer.push(kind as u8);
    buffer.extend_from_slice(&(length as u32).to_le_bytes());
    buffer.extend_from_slice(&index.to_le_bytes());
    buffer.extend_from_slice(&term.to_le_bytes());
    buffer.extend_from_slice(&synced_bytes.to_le_bytes());
    buffer.extend_from_slice(&payload_crc.finalize().to_le_bytes());
    let header_crc = header_checksum(sequence, &buffer[start..start + 36]);
    buffer.extend_from_slice(&header_crc.to_le_bytes());
    for part in parts {
        buffer.extend_from_slice(part);
    }
    buffer.resize(start + record_bytes(length), 0);
}

/// Reads a header. `available_bytes` is what remains of the segment from the record's first byte on.
pub fn decode_header(
    sequence: u64,
    bytes: &[u8; RECORD_HEADER_BYTES],
    available_bytes: u64,
) -> Result<RecordHeader, Damage> {
    let magic = u16::from_le_bytes([bytes[0], bytes[1]]);
    if magic != MAGIC {
        return Err(if bytes.iter().all(|&byte| byte == 0) { Damage::Empty } else { Damage::Magic });
    }
    if header_checksum(sequence, &bytes[..36]) != u32_at(bytes, 36) {
        return Err(Damage::HeaderChecksum);
    }
    if bytes[2] != VERSION {
        return Err(Damage::Version(bytes[2]));
    }
    let kind = RecordKind::from_byte(bytes[3]).ok_or(Damage::Kind(bytes[3]))?;
    let length_bytes = u32_at(bytes, 4) as usize;
    if length_bytes > MAX_PAYLOAD_BYTES || record_bytes(length_bytes) as u64 > available_bytes {
        return Err(Damage::Length(length_bytes));
    }
    Ok(RecordHeader {
        kind,
        length_bytes,
        index: u64_at(bytes, 8),
        term: u64_at(bytes, 16),
        synced_bytes: u64_at(bytes, 24),
        payload_crc: u32_at(bytes, 32),
    })
}

impl RecordHeader {
    /// Checks the payload that follows the header.
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), Damage> {
        if crc32fast::hash(payload) == self.payload_crc { Ok(()) } else { Err(Damage::PayloadChecksum) }
    }
}

/// True where a record may begin: a cheap test before the checksum is computed.
pub fn looks_like_record(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC.to_le_bytes())
}

/// The two parts of an entry's payload: context and data.
pub fn split_entry(payload: &Bytes) -> Option<(Bytes, Bytes)> {
    let context_bytes = u16::from_le_bytes([*payload.first()?, *payload.get(1)?]) as usize;
    if payload.len() < 2 + context_bytes {
        return None;
    }
    Some((payload.slice(2..2 + context_bytes), payload.slice(2 + context_bytes..)))
}

fn header_checksum(sequence: u64, header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_le_bytes());
    hasher.update(header);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}
