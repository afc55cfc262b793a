//! [`Run`]: one sorted run, and its writer.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::bloom::Bloom;
use super::{BLOCK_BYTES, Reservation, RunCursor, SpillError, SpillSpace};

const HEADER_BYTES: usize = 8;
/// The value's length of a key that is deleted.
pub(super) const DELETED: u32 = u32::MAX;

/// Where a block lies, and its first key among those of all blocks.
#[derive(Clone, Copy, Debug)]
struct Block {
    offset: u64,
    length: u32,
    key_start: usize,
}

/// A sorted run. In memory are the first key of every block and, if asked for, a filter of a byte for each key.
#[derive(Debug)]
pub struct Run {
    file: File,
    blocks: Vec<Block>,
    first_keys: Vec<u8>,
    last_key: Vec<u8>,
    bloom: Option<Bloom>,
    entries: u64,
    /// Bytes of keys and values.
    payload_bytes: u64,
    /// The block that a lookup read last: the next one often falls into it.
    recent: Mutex<Option<(usize, Vec<u8>)>>,
    reservation: Reservation,
}

impl Run {
    /// Entries in it, deleted keys among them.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes of its keys and values.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Bytes on disk.
    pub fn file_bytes(&self) -> u64 {
        self.reservation.bytes
    }

    /// Bytes that it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.blocks.len() * size_of::<Block>()
            + self.first_keys.len()
            + self.bloom.as_ref().map_or(0, Bloom::bytes)
            + BLOCK_BYTES
    }

    pub(super) fn block_count(&self) -> usize {
        self.blocks.len()
    }

    fn first_key(&self, block: usize) -> &[u8] {
        let end = self.blocks.get(block + 1).map_or(self.first_keys.len(), |next| next.key_start);
        &self.first_keys[self.blocks[block].key_start..end]
    }

    /// The block that holds `key` if any does; none when the key lies before the first.
    pub(super) fn block_of(&self, key: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.blocks.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.first_key(middle) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }

    /// Replaces `payload` by a block's entries.
    pub(super) fn read_block(&self, block: usize, payload: &mut Vec<u8>) -> Result<(), SpillError> {
        let Block { offset, length, .. } = self.blocks[block];
        payload.resize(length as usize, 0);
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut header, offset)?;
        self.file.read_exact_at(payload, offset + HEADER_BYTES as u64)?;
        let (stored_length, crc) = header.split_at(4);
        let sound = stored_length == length.to_le_bytes() && crc == crc32fast::hash(payload).to_le_bytes();
        if sound { Ok(()) } else { Err(SpillError::Damaged) }
    }

    /// Looks a key up: `None` when the run does not know it, `Some(None)` when it is deleted.
    pub fn get(&self, key: &[u8]) -> Result<Option<Option<Vec<u8>>>, SpillError> {
        if key > self.last_key.as_slice() || self.bloom.as_ref().is_some_and(|bloom| !bloom.may_hold(key)) {
            return Ok(None);
        }
        let Some(block) = self.block_of(key) else { return Ok(None) };
        let mut recent = self.recent.lock();
        if recent.as_ref().is_none_or(|(read, _)| *read != block) {
            let mut payload = recent.take().map(|(_, payload)| payload).unwrap_or_default();
            self.read_block(block, &mut payload)?;
            *recent = Some((block, payload));
        }
        let (_, payload) = recent.as_ref().expect("just read");
        let mut at = 0;
        while at < payload.len() {
            let entry = entry_at(payload, at)?;
            match entry.key.cmp(key) {
                std::cmp::Ordering::Less => at = entry.end,
                std::cmp::Ordering::Equal => return Ok(Some(entry.value.map(<[u8]>::to_vec))),
                std::cmp::Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// A cursor on no entry yet.
    pub fn cursor(self: &Arc<Self>) -> RunCursor {
        RunCursor::new(Arc::clone(self))
    }
}

/// An entry within its block.
pub(super) struct EntryAt<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: Option<&'a [u8]>,
    /// Where the next one begins.
    pub(super) end: usize,
}

pub(super) fn entry_at(payload: &[u8], at: usize) -> Result<EntryAt<'_>, SpillError> {
    let (header, rest) = payload.get(at..).and_then(|rest| rest.split_at_checked(8)).ok_or(SpillError::Damaged)?;
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let (key_len, value_len) = (word(0) as usize, word(4));
    let held = if value_len == DELETED { 0 } else { value_len as usize };
    let (key, rest) = rest.split_at_checked(key_len).ok_or(SpillError::Damaged)?;
    let value = rest.get(..held).ok_or(SpillError::Damaged)?;
    let end = at + 8 + key_len + held;
    Ok(EntryAt { key, value: (value_len != DELETED).then_some(value), end })
}

/// Writes a run; keys ascend (the same key may come again where a reader takes that for what it means).
#[derive(Debug)]
pub struct RunWriter {
    file: File,
    reservation: Reservation,
    /// The block being filled, with room for its header.
    block: Vec<u8>,
    blocks: Vec<Block>,
    first_keys: Vec<u8>,
    last_key: Vec<u8>,
    bloom: Option<Bloom>,
    entries: u64,
    payload_bytes: u64,
}

impl RunWriter {
    /// A run in a file of its own. `lookups_of`: the run will be asked for single keys, of which it will have
    /// so many at most.
    pub fn new(space: &Arc<SpillSpace>, lookups_of: Option<u64>) -> Result<Self, SpillError> {
        Ok(Self {
            file: space.file()?,
            reservation: Reservation { space: Arc::clone(space), bytes: 0 },
            block: vec![0; HEADER_BYTES],
            blocks: Vec::new(),
            first_keys: Vec::new(),
            last_key: Vec::new(),
            bloom: lookups_of.map(|keys| Bloom::new(usize::try_from(keys).unwrap_or(usize::MAX))),
            entries: 0,
            payload_bytes: 0,
        })
    }

    /// Adds an entry; `None` marks the key as deleted. Values are shorter than 4 GiB.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), SpillError> {
        debug_assert!(self.entries == 0 || key >= self.last_key.as_slice(), "keys of a run must ascend");
        if self.block.len() == HEADER_BYTES {
            let block = Block { offset: self.reservation.bytes, length: 0, key_start: self.first_keys.len() };
            self.blocks.push(block);
            self.first_keys.extend_from_slice(key);
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).ok().filter(|length| *length != DELETED);
        let key_len = length(key).expect("keys are shorter than a page");
        let value_len = value.map_or(DELETED, |value| length(value).expect("values are shorter than 4 GiB"));
        self.block.extend_from_slice(&key_len.to_le_bytes());
        self.block.extend_from_slice(&value_len.to_le_bytes());
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value.unwrap_or_default());
        if let Some(bloom) = &mut self.bloom {
            bloom.add(key);
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.entries += 1;
        self.payload_bytes += (key.len() + value.map_or(0, <[u8]>::len)) as u64;
        if self.block.len() >= BLOCK_BYTES { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> Result<(), SpillError> {
        if self.block.len() == HEADER_BYTES {
            return Ok(());
        }
        let length = u32::try_from(self.block.len() - HEADER_BYTES).map_err(|_| SpillError::Damaged)?;
        let crc = crc32fast::hash(&self.block[HEADER_BYTES..]);
        self.block[..4].copy_from_slice(&length.to_le_bytes());
        self.block[4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        let offset = self.reservation.bytes;
        self.reservation.grow(self.block.len() as u64)?;
        self.file.write_all_at(&self.block, offset)?;
        self.blocks.last_mut().expect("an entry opened the block").length = length;
        self.block.truncate(HEADER_BYTES);
        // A block of one very long value is not kept for the next.
        self.block.shrink_to(2 * BLOCK_BYTES);
        Ok(())
    }

    /// The run.
    pub fn finish(mut self) -> Result<Run, SpillError> {
        self.close_block()?;
        Ok(Run {
            file: self.file,
            blocks: self.blocks,
            first_keys: self.first_keys,
            last_key: self.last_key,
            bloom: self.bloom,
            entries: self.entries,
            payload_bytes: self.payload_bytes,
            recent: Mutex::new(None),
            reservation: self.reservation,
        })
    }
}
