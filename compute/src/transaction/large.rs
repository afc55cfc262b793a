//! Commits of large transactions: leaves are rebuilt outside the sequencer, and attached inside.
//!
//! ```text
//!   outside   for each leaf that was written to: its rows as of an LSN and the writes become new leaves, on
//!             pages of their own, logged in bounded batches and evictable like those of a bulk load
//!   inside    each old leaf unchanged since? its place in its parent goes to the new ones; it is free
//!   else      the leaves that changed meanwhile are rebuilt, or, when they are few, written to inside
//! ```
//!
//! Row locks keep the written rows themselves as they are meanwhile; what may change is the rest of a leaf.
//! Values out of line are written outside too. Until the commit the upkeep tree names all new pages: whatever
//! ends the transaction before that, they are given back.

use std::ops::Bound;
use std::sync::Arc;

use sql::error::{Result, SqlError, SqlState};
use sql::store::Interrupt;
use storage::btree::{self, PageReader};
use storage::bulk::LeafRebuilder;
use storage::page::{MAX_INLINE_VALUE_BYTES, PAGE_SIZE_BYTES};
use storage::upkeep::Upkeep;
use storage::{PageNo, TreeId};

use super::sink::{LoadError, PageSink};
use super::writes::{TreeWrites, Write, Writes};
use crate::cache::{PinnedPage, SnapshotReader};
use crate::engine::Engine;
use crate::sequencer::{Attached, Commit, CommitTree, LargeBatch, PageRun, RebuiltLeaf, RebuiltLeaves};

/// Values out of line, together, that are still written inside the sequencer.
const OUT_OF_LINE_LIMIT_BYTES: usize = 1 << 20;
/// Bytes of writes that are still applied one by one inside the sequencer, whatever the memory.
const INSIDE_LIMIT_BYTES: usize = 32 << 20;
/// From so many bytes on, writes that lie close together had better be rebuilt, whatever the memory: it keeps the
/// sequencer shortly, and costs less.
const DENSE_BYTES: usize = 4 << 20;
/// Bytes written to a leaf on average, from which on its whole new contents are hardly more to log.
const DENSE_LEAF_BYTES: usize = PAGE_SIZE_BYTES / 2;
/// Writes at the front of a tree that are looked at first: what lies close together mostly does so throughout.
const SAMPLED_WRITES: usize = 2048;
/// A tree with no more writes than this, and bytes, is written to inside all the same.
const DIRECT_WRITES: usize = 256;
const DIRECT_BYTES: usize = 256 << 10;
/// Of the pages in memory so many may be leaves that others have changed meanwhile, whose writes are applied
/// inside: the reciprocal. After some attempts more.
const CONTESTED_SHARE: usize = 16;
const CONTESTED_SHARE_AT_LAST: usize = 3;
const PATIENT_ATTEMPTS: u32 = 6;
/// Then others change the leaves faster than they can be rebuilt.
const MOST_ATTEMPTS: u32 = 200;
/// Memory of such writes, for each of these leaves: a few times what fits into one.
const CONTESTED_LEAF_BYTES: usize = 4 * PAGE_SIZE_BYTES;
/// What a write takes in memory besides its key and value.
const WRITE_OVERHEAD_BYTES: usize = 100;
/// Leaves read at one LSN: beyond it versions would be kept that nobody else needs.
const LEAVES_PER_SNAPSHOT: usize = 64;

/// Whether a commit had better go this way: it is partly on disk, touches more leaves than the memory should
/// hold at once, writes most of them anew, or would keep the sequencer for long.
pub(super) fn is_large(engine: &Engine, commit: &Commit) -> Result<bool> {
    let (mut writes, mut widest): (usize, Option<(TreeId, &TreeWrites)>) = (0, None);
    for tree in &commit.trees {
        let Some(memory) = tree.writes.in_memory() else { return Ok(true) };
        writes += memory.len();
        if widest.is_none_or(|(_, widest)| memory.len() > widest.len()) {
            widest = Some((tree.tree, memory));
        }
    }
    if let Some((tree, memory)) = widest
        && memory.len() >= 4 * SAMPLED_WRITES
    {
        let front = || memory.iter().take(SAMPLED_WRITES);
        let bytes: usize = front().map(|(key, write)| key.len() + write.bytes()).sum();
        let leaves = count_leaves(engine, tree, front().map(|(key, _)| &**key), SAMPLED_WRITES);
        if bytes / SAMPLED_WRITES * memory.len() >= DENSE_BYTES && bytes >= leaves * DENSE_LEAF_BYTES {
            return Ok(true);
        }
    }
    let pages = engine.cache.capacity_pages() as usize;
    let (mut bytes, mut out_of_line) = (0, 0);
    for (key, write) in commit.trees.iter().filter_map(|tree| tree.writes.in_memory()).flatten() {
        bytes += key.len() + write.bytes();
        if write.bytes() > MAX_INLINE_VALUE_BYTES {
            out_of_line += write.bytes();
        }
    }
    if out_of_line > OUT_OF_LINE_LIMIT_BYTES || bytes > INSIDE_LIMIT_BYTES.min(pages * PAGE_SIZE_BYTES / 4) {
        return Ok(true);
    }
    if writes <= pages / 8 && bytes < DENSE_BYTES {
        return Ok(false);
    }
    let most = pages / 4;
    let mut leaves = 0;
    for tree in &commit.trees {
        let keys = tree.writes.in_memory().into_iter().flatten().map(|(key, _)| &**key);
        leaves += count_leaves(engine, tree.tree, keys, most + 1 - leaves.min(most));
    }
    Ok(leaves > most || bytes >= DENSE_BYTES.max(leaves * DENSE_LEAF_BYTES))
}

/// Leaves that keys belong to, as far as is known outside the sequencer, counted no further than `most`.
fn count_leaves<'k>(engine: &Engine, tree: TreeId, keys: impl Iterator<Item = &'k [u8]>, most: usize) -> usize {
    let at = engine.positions.sealed();
    let _protected = engine.cache.protect(at);
    let reader = SnapshotReader::new(engine.cache.clone(), at);
    // A tree that is younger than the LSN has next to no leaves.
    btree::count_leaves(&reader, tree, keys, most).unwrap_or(1)
}

/// Commits.
pub(super) fn commit(engine: &Arc<Engine>, interrupt: &Arc<Interrupt>, commit: &Commit) -> Result<storage::Lsn> {
    // Trees that this transaction has made are read like all others.
    engine.block_durable(engine.positions.applied())?;
    let mut work = Work {
        engine,
        interrupt,
        sink: PageSink::new(engine.clone(), interrupt.clone()),
        rebuilt: Vec::new(),
        sources: Vec::new(),
        direct: Vec::new(),
        unused: Vec::new(),
        contested: (0, 0),
        attempts: 0,
    };
    let outcome = work.run(commit);
    if outcome.is_err() {
        engine.reclaim_later(work.sink.runs().iter().map(|run| run.upkeep()));
    }
    outcome
}

struct Work<'a> {
    engine: &'a Arc<Engine>,
    interrupt: &'a Arc<Interrupt>,
    sink: PageSink,
    rebuilt: Vec<RebuiltLeaves>,
    /// The writes that each of `rebuilt` was made from.
    sources: Vec<&'a Writes>,
    direct: Vec<(TreeId, TreeWrites)>,
    /// Pages of what was rebuilt in vain.
    unused: Vec<PageNo>,
    /// Contested leaves whose writes are among `direct`, and these writes' bytes.
    contested: (usize, usize),
    /// How often leaves were found changed.
    attempts: u32,
}

impl<'a> Work<'a> {
    fn run(&mut self, commit: &'a Commit) -> Result<storage::Lsn> {
        for tree in &commit.trees {
            // The upkeep tree changes with every run of pages that is taken here.
            let is_direct = |memory: &&TreeWrites| tree.tree == self.engine.sequencer.upkeep_tree || is_small(memory);
            if let Some(memory) = tree.writes.in_memory().filter(is_direct) {
                self.direct.push((tree.tree, memory.clone()));
            } else {
                self.rebuilt.push(RebuiltLeaves::new(tree.tree));
                self.sources.push(&tree.writes);
                let number = self.rebuilt.len() - 1;
                self.rebuild(number, Bound::Unbounded, Bound::Unbounded)?;
            }
        }
        self.sink.flush()?;
        self.attach(commit)
    }

    /// Builds what the writes of a range make of the leaves that they belong to.
    fn rebuild(&mut self, number: usize, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Result<()> {
        let tree = self.rebuilt[number].tree;
        let mut writes = self.sources[number].cursor(lower, upper, true)?;
        while writes.peek().is_some() {
            let at = self.engine.positions.durable();
            let _protected = self.engine.cache.protect(at);
            let reader = SnapshotReader::new(self.engine.cache.clone(), at);
            for _ in 0..LEAVES_PER_SNAPSHOT {
                let Some((key, _)) = writes.peek() else { break };
                self.interrupt.check()?;
                let leaf = btree::find_leaf_at(&reader, tree, key)?;
                let end = leaf.upper.clone();
                let from = self.sink.allocated();
                let mut rebuilder = LeafRebuilder::new(tree, leaf);
                while let Some((key, _)) = writes.peek()
                    && end.as_ref().is_none_or(|end| key < &end[..])
                    && let Some((key, write)) = writes.pop()?
                {
                    let value = write.value().map(|value| &**value);
                    rebuilder.push::<_, _, LoadError>(&reader, &mut self.sink, &key, value)?;
                }
                let replacement = rebuilder.finish(&mut self.sink)?;
                let numbers = (from, self.sink.allocated());
                self.rebuilt[number].push(&RebuiltLeaf { replacement, at, numbers });
            }
        }
        Ok(())
    }

    /// Tries until no leaf has changed since it was built.
    fn attach(&mut self, commit: &Commit) -> Result<storage::Lsn> {
        let sequencer = &self.engine.sequencer;
        let mut pins = self.pin_inner_pages()?;
        let mut rooms = 0;
        loop {
            sequencer.wait_for_log()?;
            let mut unused = self.unused.clone();
            if let Some((run, used)) = self.sink.last_run() {
                unused.extend((run.first.0 + used..run.first.0 + run.pages).map(PageNo));
            }
            let direct = self.direct_with_upkeep();
            let gathered = sequencer.pin_for(&direct)?;
            let batch = LargeBatch { commit, rebuilt: &self.rebuilt, direct: &direct, unused: &unused };
            match sequencer.attach_rebuilt(&batch)? {
                Attached::Done(lsn) => return Ok(lsn),
                Attached::NotResident(page) => pins.push(self.engine.cache.load_current(page)?),
                Attached::NoRoom(pages) if rooms < 4 => {
                    rooms += 1;
                    drop(gathered);
                    self.engine.cache.make_room_for(pages)?;
                }
                Attached::NoRoom(_) => {
                    return Err(SqlError::new(
                        SqlState::OUT_OF_MEMORY,
                        "transaction changes more inner pages than fit into memory",
                    )
                    .with_hint("Split it into several transactions, or give the server more memory."));
                }
                Attached::Stale(stale) => {
                    self.interrupt.check()?;
                    self.redo(stale)?;
                    self.sink.flush()?;
                    pins = self.pin_inner_pages()?;
                }
            }
        }
    }

    /// Writes to leaves that somebody has changed: applied inside while they are few, rebuilt otherwise.
    fn redo(&mut self, stale: Vec<(usize, usize)>) -> Result<()> {
        self.attempts += 1;
        if self.attempts > MOST_ATTEMPTS {
            let text = "could not serialize access due to concurrent update";
            return Err(SqlError::new(SqlState::SERIALIZATION_FAILURE, text)
                .with_detail("The pages of a large transaction changed faster than its commit could be prepared."));
        }
        // What the leaves were changed to can be read once it is durable.
        self.engine.block_durable(self.engine.positions.applied())?;
        let mut ranges = Vec::new();
        for (number, tree) in self.rebuilt.iter_mut().enumerate() {
            let positions: Vec<usize> =
                stale.iter().filter(|(stale, _)| *stale == number).map(|(_, position)| *position).collect();
            if positions.is_empty() {
                continue;
            }
            for (position, leaf) in tree.iter() {
                if positions.binary_search(&position).is_ok() {
                    self.unused.extend(self.sink.numbers(leaf.numbers.0, leaf.numbers.1));
                    ranges.push((number, leaf.replacement.first_key, leaf.replacement.last_key));
                }
            }
            positions.into_iter().for_each(|position| tree.give_up(position));
        }
        for (number, first, last) in ranges {
            let (lower, upper) = (Bound::Included(&*first), Bound::Included(&*last));
            if !self.take_directly(number, lower, upper)? {
                self.rebuild(number, lower, upper)?;
            }
        }
        Ok(())
    }

    /// Takes the writes of a range among those applied inside; false when these would be too many.
    fn take_directly(&mut self, number: usize, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Result<bool> {
        let (leaves, mut bytes) = self.contested;
        let share = if self.attempts > PATIENT_ATTEMPTS { CONTESTED_SHARE_AT_LAST } else { CONTESTED_SHARE };
        let most = self.engine.cache.capacity_pages() as usize / share;
        if leaves >= most {
            return Ok(false);
        }
        let mut taken = Vec::new();
        let mut writes = self.sources[number].cursor(lower, upper, true)?;
        while let Some((key, write)) = writes.pop()? {
            bytes += key.len() + write.bytes() + WRITE_OVERHEAD_BYTES;
            if bytes > CONTESTED_LEAF_BYTES * (leaves + 1) {
                return Ok(false);
            }
            taken.push((key, write));
        }
        self.contested = (leaves + 1, bytes);
        let tree = self.rebuilt[number].tree;
        match self.direct.iter_mut().find(|(direct, _)| *direct == tree) {
            Some((_, writes)) => writes.extend(taken),
            None => self.direct.push((tree, taken.into_iter().collect())),
        }
        Ok(true)
    }

    /// The writes applied inside, with those that take the new pages off the upkeep tree.
    fn direct_with_upkeep(&self) -> Vec<CommitTree> {
        let upkeep = self.engine.sequencer.upkeep_tree;
        let runs = self.sink.runs().iter().map(|run: &PageRun| run.upkeep());
        let rows = runs.map(|row: Upkeep| (Box::from(&row.key()[..]), Write::Delete));
        let mut direct = self.direct.clone();
        match direct.iter_mut().find(|(tree, _)| *tree == upkeep) {
            Some((_, writes)) => writes.extend(rows),
            None => direct.push((upkeep, rows.collect())),
        }
        direct.retain(|(_, writes)| !writes.is_empty());
        direct.sort_unstable_by_key(|(tree, _)| *tree);
        direct.into_iter().map(|(tree, writes)| CommitTree { tree, writes: Writes::of_memory(tree, writes) }).collect()
    }

    /// Brings the inner pages above all rebuilt leaves to memory, and keeps them there.
    fn pin_inner_pages(&self) -> Result<Vec<PinnedPage>> {
        let at = self.engine.positions.durable();
        let _protected = self.engine.cache.protect(at);
        let reader = SnapshotReader::new(self.engine.cache.clone(), at);
        let mut pins = Vec::new();
        for tree in &self.rebuilt {
            let mut path: Vec<PageNo> = Vec::new();
            for (_, leaf) in tree.iter() {
                let mut number = tree.tree.0;
                for depth in 0.. {
                    let page = reader.page(number)?;
                    if depth > 0 && page.is_leaf() {
                        break;
                    }
                    if path.get(depth) != Some(&number) {
                        path.truncate(depth);
                        path.push(number);
                        pins.push(self.engine.cache.load_current(number)?);
                    }
                    if page.level() <= 1 || page.slot_count() == 0 {
                        break;
                    }
                    number = page.child(page.child_slot(&leaf.replacement.first_key));
                }
            }
        }
        Ok(pins)
    }
}

fn is_small(writes: &TreeWrites) -> bool {
    writes.len() <= DIRECT_WRITES
        && writes.iter().map(|(key, write)| key.len() + write.bytes()).sum::<usize>() <= DIRECT_BYTES
}
