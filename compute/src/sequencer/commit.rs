//! One commit through the sequencer.

use std::sync::atomic::Ordering;

use crossbeam_epoch as epoch;
use parking_lot::MutexGuard;
use smallvec::SmallVec;
use sql::error::{Result, SqlError, SqlState};
use storage::btree::{self, LocatedPages, Prepared};
use storage::page::PAGE_SIZE_BYTES;
use storage::{Lsn, TreeId};

use super::writer::{BatchWriter, NewestReader};
use super::{Inner, Sequencer, SequencerError};
use crate::blocking::{INTERRUPT_POLL, blocking, check_interrupt};
use crate::cache::{CacheError, CopiedPage, GuardedReader, PinnedPage, SnapshotReader};
use crate::threads;
use crate::transaction::Writes;

/// Leaves copied ahead for one commit. Larger commits copy the rest inside: they are not what the rate of
/// commits is made of.
const COPY_AHEAD_LIMIT: usize = 256;
/// Log bytes applied and not yet taken by the log, beyond which commits wait outside: an eighth of the page cache,
/// within these bounds.
const UNSEALED_LIMITS_BYTES: (u64, u64) = (4 << 20, 32 << 20);
/// Longest batch that we make; consumers refuse more.
pub(super) const BATCH_LIMIT_BYTES: usize = (storage::batch::MAX_BATCH_BYTES / 2) as usize;

/// The writes to one tree.
pub(crate) struct CommitTree {
    pub(crate) tree: TreeId,
    pub(crate) writes: Writes,
}

impl CommitTree {
    /// Of writes that are all in memory, as those that are applied one by one are.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> + Clone {
        let writes = self.writes.in_memory().expect("writes on disk go the way of large commits");
        writes.iter().map(|(key, write)| (&**key, write.value().map(|value| &**value)))
    }

    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.pairs().map(|(key, _)| key)
    }
}

/// All that one commit changes.
#[derive(Default)]
pub(crate) struct Commit {
    /// Ascending by tree, none empty.
    pub(crate) trees: Vec<CommitTree>,
    /// Trees that this commit drops; their pages stay until they are given back in the background.
    pub(crate) dropped: Vec<TreeId>,
    /// Trees that this commit makes visible; older snapshots must not see them.
    pub(crate) attached: Vec<TreeId>,
}

/// What a commit has at hand when it enters.
#[derive(Default)]
struct Supplies {
    copies: SmallVec<[CopiedPage; 4]>,
    /// Pages that were missing, kept in memory until the commit is through.
    pins: Vec<PinnedPage>,
}

impl Sequencer {
    /// Applies and logs; answers the batch's end, or none where memory has no room for all pages that it would
    /// change: nothing was done then. Blocks on missing pages and on a log that does not keep up.
    pub(crate) fn commit(&self, commit: &Commit) -> Result<Option<Lsn>> {
        self.check_size(commit)?;
        self.wait_for_log()?;
        let mut supplies = Supplies::default();
        let mut replaced = Vec::new();
        for attempt in 0.. {
            if attempt % 8 == 0 {
                self.gather(commit, &mut supplies, attempt)?;
            }
            let mut inner = self.enter()?;
            let outcome = self.commit_inside(&mut inner, commit, &mut supplies);
            std::mem::swap(&mut replaced, &mut inner.replaced);
            drop(inner);
            match outcome {
                Ok(lsn) => {
                    self.cache.collect_later(&mut replaced);
                    self.commits.fetch_add(1, Ordering::Relaxed);
                    return Ok(Some(lsn));
                }
                Err(SequencerError::NotResident(page)) => {
                    // Copies take room that the page may need.
                    supplies.copies.clear();
                    supplies.pins.push(self.cache.load_current(page)?);
                }
                Err(SequencerError::NoRoom(pages)) if attempt < 4 => self.cache.make_room_for(pages)?,
                Err(SequencerError::NoRoom(_)) => return Ok(None),
                Err(error) => return Err(error.into_sql()),
            }
        }
        unreachable!("attempts end with an answer")
    }

    /// A transaction that could not be replayed must not be applied.
    fn check_size(&self, commit: &Commit) -> Result<()> {
        let bytes: usize = commit
            .trees
            .iter()
            .flat_map(CommitTree::pairs)
            .map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len) + 32)
            .sum();
        if bytes > BATCH_LIMIT_BYTES {
            let text = format!("transaction of {bytes} bytes exceeds the limit of {BATCH_LIMIT_BYTES} bytes");
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, text));
        }
        Ok(())
    }

    /// Backpressure: what is applied stays in memory until the log has it.
    pub(crate) fn wait_for_log(&self) -> Result<()> {
        let limit_bytes = u64::from(self.cache.capacity_pages()) * PAGE_SIZE_BYTES as u64 / 8;
        let limit_bytes = limit_bytes.clamp(UNSEALED_LIMITS_BYTES.0, UNSEALED_LIMITS_BYTES.1);
        if self.unsealed_bytes.load(Ordering::Relaxed) < limit_bytes {
            return self.shipper.check();
        }
        blocking(|| {
            let mut waiting = self.waiting.lock();
            while self.unsealed_bytes.load(Ordering::Relaxed) >= limit_bytes {
                self.shipper.check()?;
                check_interrupt()?;
                threads::wait_for(&self.sealed, &mut waiting, INTERRUPT_POLL);
            }
            Ok(())
        })
    }

    /// Outside: finds the pages to be touched, brings in the missing ones, copies leaves ahead.
    fn gather(&self, commit: &Commit, supplies: &mut Supplies, attempt: u32) -> Result<()> {
        supplies.copies.clear();
        for tree in &commit.trees {
            let pages = match self.locate_in_memory(tree) {
                Ok(pages) if attempt == 0 => pages,
                Ok(_) | Err(CacheError::Missing { .. }) => self.gather_slowly(tree, supplies)?,
                Err(error) => {
                    // A tree that is younger than the sealed boundary, or damaged: the inside will tell.
                    tracing::trace!(%error, tree = %tree.tree, "cannot locate ahead");
                    continue;
                }
            };
            let room = COPY_AHEAD_LIMIT.saturating_sub(supplies.copies.len());
            supplies.copies.extend(pages.into_iter().filter_map(|page| self.cache.copy_ahead(page)).take(room));
        }
        supplies.copies.sort_unstable_by_key(|copy| copy.page);
        Ok(())
    }

    /// The pages that a tree's writes will touch, if they are in memory. No snapshot protects the sealed LSN: when
    /// a pause has let its versions go, a newer one is at hand, and fetching the old would be for nothing.
    fn locate_in_memory(&self, tree: &CommitTree) -> Result<LocatedPages, CacheError> {
        let mut at = self.positions.sealed();
        loop {
            let located = btree::locate(&GuardedReader::new(&self.cache, at), tree.tree, tree.keys());
            let now = self.positions.sealed();
            if now == at || !matches!(located, Err(CacheError::Missing { .. })) {
                return located;
            }
            at = now;
        }
    }

    /// [`Sequencer::gather`] for a tree whose pages are not all in memory: brings in and pins them.
    fn gather_slowly(&self, tree: &CommitTree, supplies: &mut Supplies) -> Result<LocatedPages> {
        let at = self.positions.sealed();
        let _protected = self.cache.protect(at);
        let reader = SnapshotReader::new(self.cache.clone(), at);
        let pages = match btree::locate(&reader, tree.tree, tree.keys()) {
            Ok(pages) => pages,
            Err(CacheError::Tree(_) | CacheError::Page(_)) => return Ok(LocatedPages::new()),
            Err(error) => return Err(error.into()),
        };
        for page in &pages {
            supplies.pins.push(self.cache.load_current(*page)?);
        }
        Ok(pages)
    }

    fn commit_inside(
        &self,
        inner: &mut MutexGuard<'_, Inner>,
        commit: &Commit,
        supplies: &mut Supplies,
    ) -> Result<Lsn, SequencerError> {
        self.check_dropped(inner, commit)?;
        let lsn = self.batch(inner, &mut supplies.copies, |writer| {
            let mut prepared: SmallVec<[Prepared; 8]> = SmallVec::new();
            for tree in &commit.trees {
                prepared.push(btree::prepare(writer, tree.tree, tree.pairs()).map_err(refused)?);
            }
            let deletes = commit.trees.iter().any(|tree| tree.pairs().any(|(_, value)| value.is_none()));
            self.check_room(&prepared, deletes)?;
            for (tree, prepared) in commit.trees.iter().zip(&prepared) {
                btree::apply_sorted(writer, prepared, tree.pairs())?;
            }
            Ok(())
        })?;
        self.committed(inner, commit, lsn);
        Ok(lsn)
    }

    /// A late writer must not revive a tree.
    pub(super) fn check_dropped(&self, inner: &Inner, commit: &Commit) -> Result<(), SequencerError> {
        if !inner.dropped.is_empty() && commit.trees.iter().any(|tree| inner.dropped.contains(&tree.tree)) {
            let text = "could not serialize access due to concurrent drop";
            return Err(SequencerError::Refused(SqlError::new(SqlState::SERIALIZATION_FAILURE, text)));
        }
        Ok(())
    }

    /// What a commit changes besides pages. By the sequencer's holder.
    pub(super) fn committed(&self, inner: &mut Inner, commit: &Commit, lsn: Lsn) {
        inner.dropped.extend(&commit.dropped);
        self.attach(&commit.attached, lsn);
        if commit.trees.iter().any(|tree| tree.tree == self.catalog_tree) {
            self.catalog_version.store(lsn.0, Ordering::Release);
        }
    }

    /// Outside: brings in and pins the pages that writes will touch.
    pub(crate) fn pin_for(&self, trees: &[CommitTree]) -> Result<Vec<PinnedPage>> {
        let mut supplies = Supplies::default();
        for tree in trees {
            self.gather_slowly(tree, &mut supplies)?;
        }
        Ok(supplies.pins)
    }

    /// Memory for every page that may be copied or made must be there before the first record.
    ///
    /// Inner pages change only where pages are made or merged: a merge takes a leaf, its sibling and their
    /// parent, and merges of inner pages are fewer than those of leaves.
    pub(super) fn check_room(&self, prepared: &[Prepared], deletes: bool) -> Result<(), SequencerError> {
        self.check_room_with(prepared, deletes, 0)
    }

    /// [`Sequencer::check_room`] with so many pages more.
    pub(super) fn check_room_with(
        &self,
        prepared: &[Prepared],
        deletes: bool,
        others: usize,
    ) -> Result<(), SequencerError> {
        let changed = |prepared: &Prepared| {
            let leaves = prepared.leaf_pages().count();
            let bound = if deletes { 4 * leaves } else { leaves } + prepared.new_pages_bound() + 16;
            bound.min(prepared.changed_pages_bound())
        };
        let most: usize = prepared.iter().map(|prepared| prepared.new_pages_bound() + changed(prepared)).sum();
        let most = most + others;
        if most <= self.cache.reserved_pages() { Ok(()) } else { Err(SequencerError::NoRoom(most)) }
    }

    /// One batch: `change` prepares first (errors up to its first record leave no trace), then applies.
    pub(super) fn batch(
        &self,
        inner: &mut Inner,
        copies: &mut [CopiedPage],
        change: impl FnOnce(&mut BatchWriter<'_>) -> Result<(), SequencerError>,
    ) -> Result<Lsn, SequencerError> {
        let guard = epoch::pin();
        let _residency = self.cache.hold_residency();
        inner.encoder.begin();
        let outcome = {
            let Inner { encoder, changes, applying, .. } = inner;
            change(&mut BatchWriter::new(&self.cache, encoder, changes, applying, copies, &guard))
        };
        if let Err(error) = outcome {
            if !inner.applying {
                inner.encoder.abandon();
                return Err(error);
            }
            // `applying` stays set: nobody gets in any more.
            return Err(SequencerError::Refused(self.stop(&error.into_sql())));
        }
        if inner.encoder.is_empty_batch() {
            // Deletes of what is not there.
            inner.encoder.abandon();
            inner.applying = false;
            return Ok(self.positions.applied());
        }
        // For people who look for a time in the log.
        let commit_time_us = self.clock.now_us().max(inner.last_commit_time_us);
        inner.last_commit_time_us = commit_time_us;
        let lsn = inner.encoder.finish(commit_time_us).end_lsn;
        // SAFETY: the caller holds the sequencer; the writer and its references are gone.
        unsafe { self.cache.stamp(&inner.changes, lsn, &mut inner.replaced) };
        inner.changes.clear();
        inner.applying = false;
        crate::governor::charge(lsn.since(self.positions.applied()));
        self.positions.set_applied(lsn);
        self.unsealed_bytes.store(inner.encoder.buffered_bytes() as u64, Ordering::Relaxed);
        self.seal(inner);
        Ok(lsn)
    }

    /// Reads at the newest applied state, above the sealed boundary. `read` must not wait; it is run again
    /// after each page that it found missing.
    pub(crate) fn read_newest<T>(
        &self,
        mut read: impl FnMut(&NewestReader<'_>) -> Result<T, SequencerError>,
    ) -> Result<T> {
        let mut pins = Vec::new();
        loop {
            let outcome = {
                let _inner = self.enter()?;
                let guard = epoch::pin();
                read(&NewestReader::new(&self.cache, &guard))
            };
            match outcome {
                Err(SequencerError::NotResident(page)) => pins.push(self.cache.load_current(page)?),
                Ok(value) => return Ok(value),
                Err(error) => return Err(error.into_sql()),
            }
        }
    }
}

/// What preparing finds wrong has not been applied.
pub(super) fn refused(error: SequencerError) -> SequencerError {
    match error {
        SequencerError::Broken(error) => SequencerError::Refused(crate::cache::tree_error(error)),
        other => other,
    }
}
