//! [`Merge`]: several runs read as one.

use std::sync::Arc;

use super::{Run, RunCursor, RunWriter, SpillError, SpillSpace};

/// Cursors joined by key. Of equal keys the one of the earlier cursor comes first.
#[derive(Debug)]
pub struct Merge {
    cursors: Vec<RunCursor>,
    /// A heap of the cursors that stand on an entry, the next one on top.
    heap: Vec<usize>,
    forward: bool,
}

impl Merge {
    /// Cursors already in place, all to go in one direction.
    pub fn new(cursors: Vec<RunCursor>, forward: bool) -> Self {
        let heap = (0..cursors.len()).filter(|number| cursors[*number].key().is_some()).collect();
        let mut merge = Self { cursors, heap, forward };
        for position in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(position);
        }
        merge
    }

    /// All of some runs, from their first key.
    pub fn of_runs<'r>(runs: impl IntoIterator<Item = &'r Arc<Run>>) -> Result<Self, SpillError> {
        let cursors = runs.into_iter().map(|run| {
            let mut cursor = run.cursor();
            cursor.seek_from(std::ops::Bound::Unbounded)?;
            Ok(cursor)
        });
        Ok(Self::new(cursors.collect::<Result<_, SpillError>>()?, true))
    }

    /// The entry at hand.
    pub fn entry(&self) -> Option<(&[u8], Option<&[u8]>)> {
        self.cursors[*self.heap.first()?].entry()
    }

    /// Moves past the entry at hand.
    pub fn advance(&mut self) -> Result<(), SpillError> {
        let Some(&top) = self.heap.first() else { return Ok(()) };
        let cursor = &mut self.cursors[top];
        if self.forward {
            cursor.forward()?
        } else {
            cursor.backward()?
        }
        if cursor.key().is_none() {
            self.heap.swap_remove(0);
        }
        self.sift_down(0);
        Ok(())
    }

    /// Moves past every entry with the key at hand.
    pub fn advance_key(&mut self) -> Result<(), SpillError> {
        let Some((key, _)) = self.entry() else { return Ok(()) };
        if self.heap.len() == 1 {
            return self.advance();
        }
        let key = key.to_vec();
        while self.entry().is_some_and(|(next, _)| next == key) {
            self.advance()?;
        }
        Ok(())
    }

    fn comes_before(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.heap[a], self.heap[b]);
        let order = self.cursors[a].key().cmp(&self.cursors[b].key());
        let order = if self.forward { order } else { order.reverse() };
        order.then(a.cmp(&b)).is_lt()
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let child = 2 * at + 1;
            if child >= self.heap.len() {
                return;
            }
            let right = child + 1;
            let first = if right < self.heap.len() && self.comes_before(right, child) { right } else { child };
            if !self.comes_before(first, at) {
                return;
            }
            self.heap.swap(at, first);
            at = first;
        }
    }

    /// What is left as a run of its own. `distinct`: of equal keys the first only.
    pub fn into_run(
        mut self,
        space: &Arc<SpillSpace>,
        lookups_of: Option<u64>,
        distinct: bool,
    ) -> Result<Run, SpillError> {
        let mut writer = RunWriter::new(space, lookups_of)?;
        while let Some((key, value)) = self.entry() {
            writer.push(key, value)?;
            if distinct { self.advance_key()? } else { self.advance()? }
        }
        writer.finish()
    }
}
