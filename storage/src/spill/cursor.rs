//! [`RunCursor`]: a position in a run.

use std::ops::Bound;
use std::sync::Arc;

use super::run::entry_at;
use super::{Run, SpillError};

/// Stands on an entry, or on none. Memory: one block.
#[derive(Debug)]
pub struct RunCursor {
    run: Arc<Run>,
    block: usize,
    payload: Vec<u8>,
    /// Where each entry of the block begins.
    starts: Vec<u32>,
    /// Position in `starts`; none: on no entry.
    at: Option<usize>,
}

impl RunCursor {
    pub(super) fn new(run: Arc<Run>) -> Self {
        Self { run, block: usize::MAX, payload: Vec::new(), starts: Vec::new(), at: None }
    }

    /// The entry that it stands on: key, and value unless the key is deleted.
    pub fn entry(&self) -> Option<(&[u8], Option<&[u8]>)> {
        let start = self.starts[self.at?] as usize;
        let entry = entry_at(&self.payload, start).expect("checked when the block was read");
        Some((entry.key, entry.value))
    }

    /// The key that it stands on.
    pub fn key(&self) -> Option<&[u8]> {
        self.entry().map(|(key, _)| key)
    }

    fn load(&mut self, block: usize) -> Result<(), SpillError> {
        if self.block == block {
            return Ok(());
        }
        (self.at, self.block) = (None, usize::MAX);
        self.run.read_block(block, &mut self.payload)?;
        self.starts.clear();
        let mut start = 0;
        while start < self.payload.len() {
            self.starts.push(u32::try_from(start).map_err(|_| SpillError::Damaged)?);
            start = entry_at(&self.payload, start)?.end;
        }
        if self.starts.is_empty() {
            return Err(SpillError::Damaged);
        }
        self.block = block;
        Ok(())
    }

    fn key_at(&self, position: usize) -> &[u8] {
        entry_at(&self.payload, self.starts[position] as usize).expect("checked when the block was read").key
    }

    /// To the first entry within a lower bound.
    pub fn seek_from(&mut self, lower: Bound<&[u8]>) -> Result<(), SpillError> {
        self.at = None;
        if self.run.block_count() == 0 {
            return Ok(());
        }
        let block = match lower {
            Bound::Included(key) | Bound::Excluded(key) => self.run.block_of(key).unwrap_or(0),
            Bound::Unbounded => 0,
        };
        self.load(block)?;
        let below = |position: usize| match lower {
            Bound::Included(key) => self.key_at(position) < key,
            Bound::Excluded(key) => self.key_at(position) <= key,
            Bound::Unbounded => false,
        };
        let first = partition_point(self.starts.len(), below);
        self.at = Some(first.saturating_sub(1));
        if first == 0 { Ok(()) } else { self.forward() }
    }

    /// To the last entry within an upper bound.
    pub fn seek_until(&mut self, upper: Bound<&[u8]>) -> Result<(), SpillError> {
        self.at = None;
        let Some(last) = self.run.block_count().checked_sub(1) else { return Ok(()) };
        let block = match upper {
            Bound::Included(key) | Bound::Excluded(key) => match self.run.block_of(key) {
                Some(block) => block,
                None => return Ok(()),
            },
            Bound::Unbounded => last,
        };
        self.load(block)?;
        let within = |position: usize| match upper {
            Bound::Included(key) => self.key_at(position) <= key,
            Bound::Excluded(key) => self.key_at(position) < key,
            Bound::Unbounded => true,
        };
        match partition_point(self.starts.len(), within) {
            0 => {
                self.at = Some(0);
                self.backward()
            }
            past => {
                self.at = Some(past - 1);
                Ok(())
            }
        }
    }

    /// To the next entry, or on none.
    pub fn forward(&mut self) -> Result<(), SpillError> {
        let Some(at) = self.at else { return Ok(()) };
        if at + 1 < self.starts.len() {
            self.at = Some(at + 1);
            return Ok(());
        }
        let next = self.block + 1;
        self.at = None;
        if next < self.run.block_count() {
            self.load(next)?;
            self.at = Some(0);
        }
        Ok(())
    }

    /// To the entry before, or on none.
    pub fn backward(&mut self) -> Result<(), SpillError> {
        let Some(at) = self.at else { return Ok(()) };
        if at > 0 {
            self.at = Some(at - 1);
            return Ok(());
        }
        self.at = None;
        if let Some(before) = self.block.checked_sub(1) {
            self.load(before)?;
            self.at = Some(self.starts.len() - 1);
        }
        Ok(())
    }
}

/// The first position of `count` for which `before` is false.
fn partition_point(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
