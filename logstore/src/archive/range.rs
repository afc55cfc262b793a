//! What the metadata map says of the archive: which one it is, and from where to where it holds each branch.
//!
//! ```text
//! log/archive              version u8 · archive u64
//! log/archive/<branch>     version u8 · archive u64 · begin LSN u64 · end LSN u64
//! ```
//!
//! `<branch>` has 16 hexadecimal digits. Little-endian. The map is part of the log's state machine, whose checkpoints have
//! checksums; so these have none.

use std::fmt;

use bytes::Bytes;
use storage::{BranchId, Lsn};

use super::RANGE_PREFIX;
use crate::client::{LogError, MetadataValue};
use crate::wire::{Malformed, get_u8, get_u64, put_u64};

const VERSION: u8 = 1;

/// Tells archives apart: no two logs have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveId(pub u64);

impl fmt::Display for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl ArchiveId {
    /// The value of [`super::ARCHIVE_KEY`].
    pub fn encode(self) -> Bytes {
        let mut buffer = vec![VERSION];
        put_u64(&mut buffer, self.0);
        buffer.into()
    }

    /// Reads what [`ArchiveId::encode`] wrote.
    pub fn decode(mut bytes: Bytes) -> Result<ArchiveId, Malformed> {
        let id = begin(&mut bytes)?;
        if bytes.is_empty() { Ok(id) } else { Err(Malformed("archive's name")) }
    }
}

fn begin(bytes: &mut Bytes) -> Result<ArchiveId, Malformed> {
    if get_u8(bytes, "archive record")? != VERSION {
        return Err(Malformed("archive record's version"));
    }
    Ok(ArchiveId(get_u64(bytes, "archive record")?))
}

/// What of a branch's stream is archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchivedRange {
    /// Which archive.
    pub archive: ArchiveId,
    /// A piece starts here, unless the range is empty.
    pub begin: Lsn,
    /// The last piece ends here.
    pub end: Lsn,
}

impl ArchivedRange {
    /// The value of the branch's key.
    pub fn encode(&self) -> Bytes {
        let mut buffer = vec![VERSION];
        put_u64(&mut buffer, self.archive.0);
        put_u64(&mut buffer, self.begin.0);
        put_u64(&mut buffer, self.end.0);
        buffer.into()
    }

    /// Reads what [`ArchivedRange::encode`] wrote.
    pub fn decode(mut bytes: Bytes) -> Result<ArchivedRange, Malformed> {
        const WHAT: &str = "archived range";
        let archive = begin(&mut bytes)?;
        let (begin, end) = (Lsn(get_u64(&mut bytes, WHAT)?), Lsn(get_u64(&mut bytes, WHAT)?));
        if !bytes.is_empty() || begin > end {
            return Err(Malformed(WHAT));
        }
        Ok(ArchivedRange { archive, begin, end })
    }
}

/// The ranges among metadata entries, by branch, each with its version. Keys of another form are passed over.
pub fn archived_ranges(
    entries: &[(String, MetadataValue)],
) -> impl Iterator<Item = Result<(BranchId, ArchivedRange, u64), Malformed>> {
    entries.iter().filter_map(|(key, value)| {
        let digits = key.strip_prefix(RANGE_PREFIX).filter(|digits| digits.len() == 16)?;
        let branch = BranchId(u64::from_str_radix(digits, 16).ok()?);
        Some(ArchivedRange::decode(value.bytes.clone()).map(|range| (branch, range, value.version)))
    })
}

/// The range among metadata entries that are one branch's.
pub(crate) fn archived_range(entries: &[(String, MetadataValue)]) -> Result<Option<ArchivedRange>, LogError> {
    let found = archived_ranges(entries).next().transpose();
    found.map(|found| found.map(|(_, range, _)| range)).map_err(|error| LogError::Corrupt { reason: error.to_string() })
}
