//! The Raft log as segment files: it *is* the write-ahead log, so every byte is written once.
//!
//! A segment `<sequence>.log` is created at full size, so that writing into it changes no metadata. It begins with a
//! header, a checkpoint of the state machine and Raft's hard state; then come entries as they were appended, and
//! more checkpoints; a seal ends it before the next segment begins. So a reader can start at any segment, and
//! the log is trimmed by removing whole files.
//!
//! ```text
//!  7.log  [header][checkpoint A=90][hard state] [entry 91] [entry 92] … [checkpoint A=140] … [seal]
//!  8.log  [header][checkpoint A=180][hard state] [entry 182] …
//! ```
//!
//! A checkpoint's applied index may lie a little before the segment's first entry: entries in between are at the end
//! of the previous file.
//!
//! A segment may begin before the end of the one before it is durable, so that nobody waits for the disk at the change from
//! one to the next. Invariant: nothing in a segment counts as durable before *all* of the one before it is, and `synced` of
//! a record is above zero only then. So a machine that stops leaves at most the last two segments undurable; the last is
//! forgotten if the one before it turns out to be incomplete, and a third file behind them, prepared, holds zeros.

mod checkpoint;
pub mod format;
#[cfg(test)]
mod golden_tests;
mod open;
mod reader;
mod set;
mod spare;
mod writer;

pub use checkpoint::Checkpoint;
pub use open::Recovered;
pub use reader::{BranchCursor, read_entries};
pub use set::{Head, Mark, Segment, SegmentSet};
pub use spare::Spare;
pub use writer::{Location, SegmentConfig, SegmentLog, Unsynced};

use std::io;

use crate::disk::Disk;
use format::Damage;

/// Smallest segment: a checkpoint must fit beside some entries.
pub const MIN_SEGMENT_BYTES: u64 = 16 << 10;
/// Lengths of segments are multiples of this.
pub const SEGMENT_ALIGNMENT_BYTES: u64 = 4096;

/// What can go wrong with the files. Only [`StoreError::NoSpace`] leaves the node running.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room for another segment; nothing was written.
    #[error("no space for a log segment in {location}: {source}")]
    NoSpace {
        /// The log's directory.
        location: String,
        /// What the file system said.
        source: io::Error,
    },
    /// Bytes that had been durable are damaged.
    #[error("{location}/{file} is damaged at offset {offset}: {reason}")]
    Corrupt {
        /// The log's directory.
        location: String,
        /// The file.
        file: String,
        /// Where in the file.
        offset: u64,
        /// What does not match.
        reason: String,
    },
    /// A write or fsync failed: the state of the disk is unknown and the node must stop.
    #[error("log I/O failed in {location} while {doing}: {source}")]
    Io {
        /// The log's directory.
        location: String,
        /// The step that failed.
        doing: &'static str,
        /// What the file system said.
        source: io::Error,
    },
}

impl StoreError {
    fn corrupt(disk: &dyn Disk, sequence: u64, offset: u64, reason: impl ToString) -> StoreError {
        StoreError::Corrupt { location: disk.location(), file: file_name(sequence), offset, reason: reason.to_string() }
    }

    fn io<'a>(disk: &'a dyn Disk, doing: &'static str) -> impl Fn(io::Error) -> StoreError + 'a {
        move |source| StoreError::Io { location: disk.location(), doing, source }
    }
}

/// Name of a segment's file.
pub fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}.log")
}

/// Sequence number in a segment's file name.
pub fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 16 {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// A record that was read, with where it was.
#[derive(Debug)]
struct Record {
    offset: u64,
    header: format::RecordHeader,
    payload: bytes::Bytes,
}

/// Why reading stopped.
#[derive(Debug)]
enum ReadStop {
    Io(io::Error),
    Damaged { offset: u64, damage: Damage },
}
