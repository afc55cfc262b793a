//! Batches that the engine makes for itself: trees created, loaded pages written, pages given back.
//!
//! Pages that no tree leads to are named in the upkeep tree by the very batch that takes their numbers. So a
//! crash, like an abort, leaves rows that say what to free, and never a page that nobody knows.

use sql::error::Result;
use storage::btree::{self, PageWriter, Prepared, Reclaimed};
use storage::bulk::BulkTree;
use storage::record::{Record, RedoOp};
use storage::upkeep::Upkeep;
use storage::{Lsn, PageNo, TreeId, meta};

use super::commit::refused;
use super::writer::BatchWriter;
use super::{Sequencer, SequencerError};

/// Pages freed in one batch.
const RECLAIM_PAGES: usize = 512;

/// A run of page numbers, as the upkeep tree has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRun {
    pub(crate) first: PageNo,
    pub(crate) pages: u64,
}

impl PageRun {
    pub(crate) fn upkeep(self) -> Upkeep {
        Upkeep::Run { first: self.first, pages: self.pages }
    }

    fn numbers(self) -> impl Iterator<Item = PageNo> {
        (self.first.0..self.first.0 + self.pages).map(PageNo)
    }
}

impl Sequencer {
    /// One batch of the engine's own, tried again until its pages are in memory.
    fn upkeep_batch<T>(
        &self,
        mut change: impl FnMut(&mut BatchWriter<'_>) -> Result<T, SequencerError>,
    ) -> Result<(T, Lsn)> {
        let mut pins = Vec::new();
        let mut made_room = 0;
        loop {
            let mut made = None;
            let mut replaced = Vec::new();
            let outcome = {
                let mut inner = self.enter()?;
                let outcome = self.batch(&mut inner, &mut [], |writer| {
                    made = Some(change(writer)?);
                    Ok(())
                });
                std::mem::swap(&mut replaced, &mut inner.replaced);
                outcome
            };
            self.cache.collect_later(&mut replaced);
            match outcome {
                Ok(lsn) => return Ok((made.expect("set by a change that went well"), lsn)),
                Err(SequencerError::NotResident(page)) => pins.push(self.cache.load_current(page)?),
                Err(SequencerError::NoRoom(pages)) if made_room < 4 => {
                    made_room += 1;
                    self.cache.make_room_for(pages)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn prepare_upkeep(
        &self,
        writer: &BatchWriter<'_>,
        rows: &[(Vec<u8>, Option<Vec<u8>>)],
    ) -> Result<Prepared, SequencerError> {
        let prepared = btree::prepare(writer, self.upkeep_tree, pairs(rows)).map_err(refused)?;
        self.check_room(std::slice::from_ref(&prepared), true)?;
        Ok(prepared)
    }

    /// The first batch of a new branch.
    pub(crate) fn initialize(&self) -> Result<Lsn> {
        Ok(self.upkeep_batch(|writer| meta::initialize(writer))?.1)
    }

    /// A tree that nothing leads to yet: an empty root, named in the upkeep tree. Its page number was never
    /// used before, and will never be a root again: so a tree's id means one tree at every LSN.
    pub(crate) fn create_tree(&self) -> Result<TreeId> {
        let (tree, _) = self.upkeep_batch(|writer| {
            let run = PageRun { first: writer.latest(meta::META_PAGE)?.next_page(), pages: 1 };
            let rows = [put(run)];
            let prepared = self.prepare_upkeep(writer, &rows)?;
            let tree = TreeId(meta::allocate_run(writer, 1)?);
            writer.apply(tree.0, &RedoOp::Format { level: 0, flags: 0, tree, prefix: &[] })?;
            btree::apply_sorted(writer, &prepared, pairs(&rows))?;
            Ok(tree)
        })?;
        Ok(tree)
    }

    /// Makes a tree that is not attached yet empty again.
    pub(crate) fn reset_tree(&self, tree: TreeId) -> Result<()> {
        self.upkeep_batch(|writer| writer.apply(tree.0, &RedoOp::Format { level: 0, flags: 0, tree, prefix: &[] }))?;
        Ok(())
    }

    /// Takes a run of page numbers for a load.
    pub(crate) fn take_run(&self, pages: u64) -> Result<PageRun> {
        let (run, _) = self.upkeep_batch(|writer| {
            let run = PageRun { first: writer.latest(meta::META_PAGE)?.next_page(), pages };
            let rows = [put(run)];
            let prepared = self.prepare_upkeep(writer, &rows)?;
            meta::allocate_run(writer, pages)?;
            btree::apply_sorted(writer, &prepared, pairs(&rows))?;
            Ok(run)
        })?;
        Ok(run)
    }

    /// Writes pages of a load: encoded records, each of which initializes its page.
    pub(crate) fn write_loaded(&self, records: &[Vec<u8>]) -> Result<Lsn> {
        let decoded: Vec<Record<'_>> = records
            .iter()
            .map(|record| Record::decode_exact(record))
            .collect::<Result<_, _>>()
            .map_err(|error| sql::error::SqlError::internal(format!("a loaded page does not decode: {error}")))?;
        let (_, lsn) = self.upkeep_batch(|writer| {
            for record in &decoded {
                writer.apply(record.page, &record.op)?;
            }
            Ok(())
        })?;
        Ok(lsn)
    }

    /// Ends a load: writes the root's content, and gives back what the last run has left over.
    pub(crate) fn attach_loaded(&self, tree: TreeId, loaded: &BulkTree, last: Option<(PageRun, u64)>) -> Result<Lsn> {
        let (_, lsn) = self.upkeep_batch(|writer| {
            let rows: Vec<_> = last
                .filter(|(run, used)| *used < run.pages)
                .map(|(run, used)| if used == 0 { remove(run) } else { put(PageRun { pages: used, ..run }) })
                .into_iter()
                .collect();
            let prepared = self.prepare_upkeep(writer, &rows)?;
            writer.apply(tree.0, &loaded.attach_op())?;
            if let Some((run, used)) = last {
                let unused: Vec<PageNo> = run.numbers().skip(used as usize).collect();
                writer.free(&unused)?;
            }
            btree::apply_sorted(writer, &prepared, pairs(&rows))?;
            Ok(())
        })?;
        Ok(lsn)
    }

    /// Gives back a run that was not attached.
    pub(crate) fn free_run(&self, run: PageRun) -> Result<()> {
        let mut left = run;
        // From the end, so that what is left keeps its row's key.
        while left.pages > 0 {
            let step = left.pages.min(RECLAIM_PAGES as u64);
            let rest = PageRun { pages: left.pages - step, ..left };
            let freed: Vec<PageNo> = left.numbers().skip(rest.pages as usize).collect();
            self.upkeep_batch(|writer| {
                let rows = [if rest.pages == 0 { remove(rest) } else { put(rest) }];
                let prepared = self.prepare_upkeep(writer, &rows)?;
                writer.free(&freed)?;
                btree::apply_sorted(writer, &prepared, pairs(&rows))
            })?;
            left = rest;
        }
        Ok(())
    }

    /// One step of giving back a dropped tree; true when it is done.
    pub(crate) fn reclaim_step(&self, tree: TreeId) -> Result<bool> {
        let row = Upkeep::Dropped { tree };
        let (done, _) = self.upkeep_batch(|writer| {
            let rows = [(row.key().to_vec(), None)];
            let prepared = self.prepare_upkeep(writer, &rows)?;
            let done = btree::reclaim_step(writer, tree, RECLAIM_PAGES)? == Reclaimed::All;
            if done {
                btree::apply_sorted(writer, &prepared, pairs(&rows))?;
            }
            Ok(done)
        })?;
        Ok(done)
    }
}

fn put(run: PageRun) -> (Vec<u8>, Option<Vec<u8>>) {
    (run.upkeep().key().to_vec(), Some(run.upkeep().value()))
}

fn remove(run: PageRun) -> (Vec<u8>, Option<Vec<u8>>) {
    (run.upkeep().key().to_vec(), None)
}

fn pairs(rows: &[(Vec<u8>, Option<Vec<u8>>)]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> + Clone {
    rows.iter().map(|(key, value)| (&key[..], value.as_deref()))
}
