//! The inside of a large commit: leaves built beforehand take their places.
//!
//! What is left to do here is a pointer for each leaf, so memory is bounded by the tree's inner pages and the time
//! by the number of leaves, however much was written. A leaf that somebody changed meanwhile is told back: its
//! writes must be built into what it is now.

use storage::btree::{self, PageWriter, ReplacementNeeds};
use storage::{Lsn, PageNo};

use super::commit::{BATCH_LIMIT_BYTES, refused};
use super::rebuilt::RebuiltLeaves;
use super::{Commit, CommitTree, Sequencer, SequencerError};
use sql::error::{Result, SqlError, SqlState};

/// A commit whose leaves are built.
pub(crate) struct LargeBatch<'a> {
    /// What it makes visible and drops; its writes are in the other fields.
    pub(crate) commit: &'a Commit,
    pub(crate) rebuilt: &'a [RebuiltLeaves],
    /// Writes that go the way of small commits: few, in memory. Not to leaves that were rebuilt.
    pub(crate) direct: &'a [CommitTree],
    /// Page numbers taken and not used.
    pub(crate) unused: &'a [PageNo],
}

/// What became of an attempt.
pub(crate) enum Attached {
    /// The batch's end.
    Done(Lsn),
    /// Nothing was applied: these leaves (tree, position) are not any more what they were built from.
    Stale(Vec<(usize, usize)>),
    /// Nothing was applied: bring the page to memory.
    NotResident(PageNo),
    /// Nothing was applied: make room for so many pages.
    NoRoom(usize),
}

impl Sequencer {
    /// One attempt. The caller has gathered the inner pages, and holds the pins.
    pub(crate) fn attach_rebuilt(&self, batch: &LargeBatch<'_>) -> Result<Attached> {
        let mut stale = Vec::new();
        let mut replaced = Vec::new();
        let outcome = {
            let mut inner = self.enter()?;
            let outcome = self.check_dropped(&inner, batch.commit).and_then(|()| {
                let lsn = self.batch(&mut inner, &mut [], |writer| {
                    // Leaves that are freed go there.
                    writer.latest(storage::meta::META_PAGE)?;
                    let mut needs = vec![ReplacementNeeds::default(); batch.rebuilt.len()];
                    for (number, tree) in batch.rebuilt.iter().enumerate() {
                        for (position, leaf) in tree.iter() {
                            let is_current = self.cache.last_change_is_by(leaf.replacement.leaf, leaf.at)
                                && btree::measure_replacement(writer, tree.tree, &leaf.replacement, &mut needs[number])
                                    .map_err(refused)?;
                            if !is_current {
                                stale.push((number, position));
                            }
                        }
                    }
                    if !stale.is_empty() {
                        return Err(SequencerError::Stale);
                    }
                    let log_bytes: usize = needs.iter().map(ReplacementNeeds::log_bytes_bound).sum();
                    if log_bytes > BATCH_LIMIT_BYTES {
                        return Err(SequencerError::Refused(too_large(log_bytes)));
                    }
                    let prepared = batch
                        .direct
                        .iter()
                        .map(|tree| btree::prepare(writer, tree.tree, tree.pairs()).map_err(refused))
                        .collect::<Result<Vec<_>, _>>()?;
                    let freed = batch.unused.len() / storage::meta::META_CAPACITY + 1;
                    let rebuilt: usize = needs.iter().map(ReplacementNeeds::pages_bound).sum();
                    self.check_room_with(&prepared, true, rebuilt + freed)?;
                    for tree in batch.rebuilt {
                        tree.iter()
                            .try_for_each(|(_, leaf)| btree::replace_leaf(writer, tree.tree, &leaf.replacement))?;
                        btree::finish_replacing(writer, tree.tree)?;
                    }
                    for (tree, prepared) in batch.direct.iter().zip(&prepared) {
                        btree::apply_sorted_afresh(writer, prepared, tree.pairs())?;
                    }
                    storage::meta::free(writer, batch.unused)
                })?;
                self.committed(&mut inner, batch.commit, lsn);
                Ok(lsn)
            });
            std::mem::swap(&mut replaced, &mut inner.replaced);
            outcome
        };
        self.cache.collect_later(&mut replaced);
        match outcome {
            Ok(lsn) => {
                self.commits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(Attached::Done(lsn))
            }
            Err(SequencerError::Stale) => Ok(Attached::Stale(stale)),
            Err(SequencerError::NotResident(page)) => Ok(Attached::NotResident(page)),
            Err(SequencerError::NoRoom(pages)) => Ok(Attached::NoRoom(pages)),
            Err(error) => Err(error.into()),
        }
    }
}

fn too_large(bytes: usize) -> SqlError {
    SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "transaction is too large")
        .with_detail(format!(
            "Its commit would take about {bytes} bytes of log at once; {BATCH_LIMIT_BYTES} are allowed."
        ))
        .with_hint("Split it into several transactions.")
}
