//! A piece of the archive: consecutive groups of one branch, as they were committed.
//!
//! ```text
//!  0 magic "ALAP"   4 version u8 = 1 · zero (3)
//!  8 branch u64    16 start LSN u64    24 end LSN u64
//! 32 groups u32    36 crc u32, over the archive's id u64, bytes 0..36 and everything after the crc
//! 40 group*        epoch u64 · length u32
//!    bytes         of all groups, one after another
//! ```
//!
//! Little-endian. The checksum covers which archive, branch and position the bytes belong to, so that an object in
//! another's place is noticed.

use bytes::{Buf, Bytes};
use storage::{BranchId, Epoch, Lsn};

use super::range::ArchiveId;
use crate::client::LogChunk;

const MAGIC: [u8; 4] = *b"ALAP";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 40;
const GROUP_BYTES: usize = 12;
/// Longest piece, header included: it is closed at some MiB, but its last group may be as long as an append may be.
pub const MAX_PIECE_BYTES: usize = 128 << 20;

/// See the module. The groups are contiguous, and there is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whose stream it is of.
    pub branch: BranchId,
    /// The groups in order.
    pub chunks: Vec<LogChunk>,
}

/// Bytes that are not the piece that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// Not the beginning of a piece, or cut short.
    #[error("not a piece of an archive: {0}")]
    Malformed(&'static str),
    /// Written by a newer version of this program.
    #[error("unknown version {0} of a piece")]
    Version(u8),
    /// The checksum does not match: damaged, or another piece, or another archive's.
    #[error("checksum mismatch")]
    Checksum,
}

impl Piece {
    /// Where it starts.
    pub fn start_lsn(&self) -> Lsn {
        self.chunks.first().expect("a piece holds a group").start_lsn
    }

    /// Where it ends: where the next one starts.
    pub fn end_lsn(&self) -> Lsn {
        let last = self.chunks.last().expect("a piece holds a group");
        last.start_lsn.advance(last.bytes.len() as u64)
    }

    /// The object's bytes.
    pub fn encode(&self, archive: ArchiveId) -> Bytes {
        let stream_bytes = self.end_lsn().since(self.start_lsn()) as usize;
        let mut buffer = Vec::with_capacity(HEADER_BYTES + GROUP_BYTES * self.chunks.len() + stream_bytes);
        buffer.extend_from_slice(&MAGIC);
        buffer.extend_from_slice(&[VERSION, 0, 0, 0]);
        buffer.extend_from_slice(&self.branch.0.to_le_bytes());
        buffer.extend_from_slice(&self.start_lsn().0.to_le_bytes());
        buffer.extend_from_slice(&self.end_lsn().0.to_le_bytes());
        let groups = u32::try_from(self.chunks.len()).expect("a piece is closed after some MiB");
        buffer.extend_from_slice(&groups.to_le_bytes());
        buffer.extend_from_slice(&[0; 4]);
        let mut position = self.start_lsn();
        for chunk in &self.chunks {
            assert_eq!(chunk.start_lsn, position, "the groups of a piece are contiguous");
            position = position.advance(chunk.bytes.len() as u64);
            buffer.extend_from_slice(&chunk.epoch.0.to_le_bytes());
            let length = u32::try_from(chunk.bytes.len()).expect("an append has at most 64 MiB");
            buffer.extend_from_slice(&length.to_le_bytes());
        }
        for chunk in &self.chunks {
            buffer.extend_from_slice(&chunk.bytes);
        }
        assert!(buffer.len() <= MAX_PIECE_BYTES, "a piece of {} bytes", buffer.len());
        let crc = checksum(archive, &buffer);
        buffer[36..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        buffer.into()
    }

    /// Reads the piece of `branch` that starts at `start_lsn`.
    pub fn decode(archive: ArchiveId, branch: BranchId, start_lsn: Lsn, bytes: Bytes) -> Result<Piece, PieceError> {
        let malformed = PieceError::Malformed;
        if bytes.len() < HEADER_BYTES || bytes[..4] != MAGIC {
            return Err(malformed("no header"));
        }
        if bytes[4] != VERSION {
            return Err(PieceError::Version(bytes[4]));
        }
        if bytes.len() > MAX_PIECE_BYTES {
            return Err(malformed("longer than a piece may be"));
        }
        let mut header = bytes.slice(8..HEADER_BYTES);
        let (found_branch, found_start, end) = (header.get_u64_le(), header.get_u64_le(), header.get_u64_le());
        let (groups, crc) = (header.get_u32_le() as usize, header.get_u32_le());
        if checksum(archive, &bytes) != crc || (found_branch, found_start) != (branch.0, start_lsn.0) {
            return Err(PieceError::Checksum);
        }
        let table_bytes = groups.checked_mul(GROUP_BYTES).filter(|table| *table <= bytes.len() - HEADER_BYTES);
        let mut stream = bytes.slice(HEADER_BYTES..);
        let mut table = stream.split_to(table_bytes.ok_or(malformed("more groups than fit"))?);
        let (mut position, mut chunks) = (start_lsn, Vec::with_capacity(groups));
        for _ in 0..groups {
            let (epoch, length) = (Epoch(table.get_u64_le()), table.get_u32_le() as usize);
            if length == 0 || length > stream.len() {
                return Err(malformed("a group's length"));
            }
            chunks.push(LogChunk { start_lsn: position, epoch, bytes: stream.split_to(length) });
            position = position.advance(length as u64);
        }
        if chunks.is_empty() || !stream.is_empty() || position.0 != end {
            return Err(malformed("the groups do not end where the piece does"));
        }
        Ok(Piece { branch, chunks })
    }
}

fn checksum(archive: ArchiveId, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&archive.0.to_le_bytes());
    hasher.update(&bytes[..36]);
    hasher.update(&bytes[HEADER_BYTES..]);
    hasher.finalize()
}
