//! OIDs: handed out from blocks that are reserved in the counters tree before any of them is used.

use bytes::Bytes;
use parking_lot::Mutex;
use storage::TreeId;

use super::{FIRST_USER_OID, Oid};
use crate::error::{Result, SqlError, SqlState};
use crate::store::Store;

/// Key of the next OID not yet reserved, in the counters tree.
const OID_KEY: &[u8] = b"oid";
/// OIDs reserved at once. A crash loses at most these.
const BLOCK: Oid = 64;

/// The OID counter of a store.
pub(super) struct OidAllocator {
    /// Reserved and not yet handed out.
    block: Mutex<std::ops::Range<Oid>>,
}

impl OidAllocator {
    pub fn new() -> Self {
        Self { block: Mutex::new(0..0) }
    }

    /// The next OID. It is never given out twice: the reservation is written before, and whatever uses the
    /// OID commits after it in the log.
    pub fn allocate(&self, store: &dyn Store, counters: TreeId) -> Result<Oid> {
        let mut block = self.block.lock();
        if let Some(oid) = block.next() {
            return Ok(oid);
        }
        let first = match store.get_newest(counters, OID_KEY)? {
            None => FIRST_USER_OID,
            Some(value) => {
                let bytes = value[..].try_into();
                let damaged = |_| SqlError::new(SqlState::DATA_CORRUPTED, "OID counter is damaged");
                Oid::from_be_bytes(bytes.map_err(damaged)?)
            }
        };
        let end = first.checked_add(BLOCK).ok_or_else(|| {
            SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "all object identifiers (OIDs) have been used")
        })?;
        store.put_immediate(counters, OID_KEY, Bytes::copy_from_slice(&end.to_be_bytes()))?;
        *block = first + 1..end;
        Ok(first)
    }
}
