//! [`Runs`]: one layer's runs on disk, oldest first.

use std::sync::Arc;

use sql::error::Result;
use storage::spill::{Merge, Run, SpillSpace};

use super::writes::{Write, spill_failed};

/// So many runs of one size are merged into one: a lookup asks few runs, and a write is written again but as often
/// as the size can grow that many times.
const MERGE_RUNS: usize = 8;

/// A run, and how often its writes were merged.
#[derive(Clone)]
struct Leveled {
    run: Arc<Run>,
    level: u32,
}

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Runs(Vec<Leveled>);

impl Runs {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds the newest.
    pub(super) fn push(&mut self, run: Arc<Run>) {
        self.0.push(Leveled { run, level: 0 });
    }

    /// Adds runs that are all newer.
    pub(super) fn put_on_top(&mut self, newer: Runs) {
        self.0.extend(newer.0);
    }

    pub(super) fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
    }

    /// The newest of what they know about a key.
    pub(super) fn get(&self, spilled_key: &[u8]) -> Result<Option<Write>> {
        for Leveled { run, .. } in self.0.iter().rev() {
            if let Some(value) = run.get(spilled_key).map_err(spill_failed)? {
                return Ok(Some(value.map_or(Write::Delete, |value| Write::Put(value.into()))));
            }
        }
        Ok(None)
    }

    /// All, oldest first.
    pub(super) fn shared(&self) -> Arc<[Arc<Run>]> {
        self.0.iter().map(|leveled| leveled.run.clone()).collect()
    }

    /// Merges where there are many; runs below `floor` stay as they are.
    pub(super) fn compact(&mut self, floor: usize, space: &Arc<SpillSpace>) -> Result<()> {
        loop {
            let Some(first) = self.0.len().checked_sub(MERGE_RUNS).filter(|first| *first >= floor) else {
                return Ok(());
            };
            let newest = &self.0[first..];
            // Levels fall from old to new, except where a statement's runs were put on top.
            let level = newest.iter().map(|leveled| leveled.level).max().unwrap_or(0);
            let ripe = newest.iter().filter(|leveled| leveled.level == level).count() == MERGE_RUNS
                || newest.first().is_some_and(|oldest| oldest.level < level);
            if !ripe {
                return Ok(());
            }
            let entries = newest.iter().map(|leveled| leveled.run.entries()).sum();
            let merge = Merge::of_runs(newest.iter().rev().map(|leveled| &leveled.run)).map_err(spill_failed)?;
            let run = merge.into_run(space, Some(entries), true).map_err(spill_failed)?;
            self.0.truncate(first);
            self.0.push(Leveled { run: Arc::new(run), level: level + 1 });
        }
    }
}
