//! Which term each log index has, kept as runs: one element per election, not per entry.

use crate::wire::{Malformed, get_length, get_u64, put_u64};
use bytes::Bytes;

/// Each election adds at most one run; trimming removes them again.
const MAX_RUNS: usize = 1 << 20;

/// Terms of the indices `first..=last`. Since an index and a term name one entry for ever, this also tells which of
/// several copies of an index in the segment files is the live one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermRuns {
    /// (first index of the run, term); both strictly increasing.
    runs: Vec<(u64, u64)>,
    last_index: u64,
}

impl TermRuns {
    /// Knows only the term of `index`.
    pub fn starting_at(index: u64, term: u64) -> Self {
        TermRuns { runs: vec![(index, term)], last_index: index }
    }

    /// Lowest index whose term is known.
    pub fn first_index(&self) -> u64 {
        self.runs[0].0
    }

    /// Highest index whose term is known.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// Term of `index`.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index < self.first_index() || index > self.last_index {
            return None;
        }
        let position = self.runs.partition_point(|&(first, _)| first <= index);
        Some(self.runs[position - 1].1)
    }

    /// Adds the entry after the last, or replaces what is at `index` and forgets what follows.
    pub fn push(&mut self, index: u64, term: u64) {
        assert!(
            index > self.first_index() && index <= self.last_index + 1,
            "entry {index} does not follow {}..={}",
            self.first_index(),
            self.last_index
        );
        if index <= self.last_index {
            self.truncate_after(index - 1);
        }
        let last_term = self.runs.last().expect("never empty").1;
        assert!(term >= last_term, "term went back from {last_term} to {term} at {index}");
        if term != last_term {
            self.runs.push((index, term));
        }
        self.last_index = index;
    }

    /// Forgets everything after `index`.
    pub fn truncate_after(&mut self, index: u64) {
        assert!(index >= self.first_index(), "cannot truncate to {index}, before {}", self.first_index());
        self.last_index = self.last_index.min(index);
        let kept = self.runs.partition_point(|&(first, _)| first <= index);
        self.runs.truncate(kept);
    }

    /// Forgets everything before `index`.
    pub fn compact_to(&mut self, index: u64) {
        let term = self.term(index).expect("compaction stays within the log");
        let dropped = self.runs.partition_point(|&(first, _)| first <= index);
        self.runs.drain(..dropped);
        self.runs.insert(0, (index, term));
    }

    /// The runs up to `index`, as bytes.
    pub fn encode_until(&self, index: u64, buffer: &mut Vec<u8>) {
        let count = self.runs.partition_point(|&(first, _)| first <= index);
        buffer.extend_from_slice(&(count as u32).to_le_bytes());
        for &(first, term) in &self.runs[..count] {
            put_u64(buffer, first);
            put_u64(buffer, term);
        }
    }

    /// Reads what [`TermRuns::encode_until`] wrote with this `last_index`.
    pub fn decode(bytes: &mut Bytes, last_index: u64) -> Result<TermRuns, Malformed> {
        const WHAT: &str = "term runs";
        let count = get_length(bytes, MAX_RUNS, WHAT)?;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for _ in 0..count {
            let run = (get_u64(bytes, WHAT)?, get_u64(bytes, WHAT)?);
            if runs.last().is_some_and(|last| last.0 >= run.0 || last.1 >= run.1) || run.0 > last_index {
                return Err(Malformed(WHAT));
            }
            runs.push(run);
        }
        if runs.is_empty() { Err(Malformed(WHAT)) } else { Ok(TermRuns { runs, last_index }) }
    }
}
