//! Rows set aside by the hash of their keys, when a hash table may not grow any more.
//!
//! Rows with equal keys come to the same partition, so that each partition can be worked on by itself, with a
//! fraction of the memory; one that is still too much is partitioned again by other bits of the hash. (Grace hash
//! join: Kitsuregawa, Tanaka and Moto-oka, 1983; hybrid hashing of aggregates as in PostgreSQL 13.)

use std::path::Path;
use std::sync::Arc;

use super::operators::Operator;
use super::rows::{Run, RunWriter, SpillFile};
use super::{Context, Reservation};
use crate::error::Result;
use crate::executor::hash::{RowSet, hash_row, row_bytes};
use crate::executor::rows::RunReader;
use crate::types::{Datum, Row};

/// Bits of the hash that a level takes.
const LEVEL_BITS: u32 = 4;
/// Partitions of a level.
pub(super) const PARTITIONS: usize = 1 << LEVEL_BITS;
/// Levels, beyond which rows are not partitioned any more: then very many have one hash, and mostly one key.
pub(super) const LEVELS: u32 = 6;

/// Rows of one level, by the hash of their keys. Each has a temporary file.
pub(super) struct Partitions {
    level: u32,
    directory: Arc<Path>,
    writers: [Option<RunWriter<SpillFile>>; PARTITIONS],
}

/// One of the partitions.
pub(super) struct Partition {
    /// Its rows, in the order in which they came.
    pub(super) rows: Run,
    /// The level that they are to be partitioned at if they are too many.
    pub(super) level: u32,
}

impl Partitions {
    pub(super) fn new(level: u32, cx: &Context) -> Self {
        let writers = [const { None }; PARTITIONS];
        Self { level, directory: Arc::clone(cx.temporary_directory()), writers }
    }

    /// Sets a row aside whose key has this hash. Hash tables use the low bits and the highest.
    pub(super) fn push(&mut self, hash: u64, row: &[Datum]) -> Result<()> {
        let number = (hash >> (32 + LEVEL_BITS * self.level)) as usize % PARTITIONS;
        let writer = match &mut self.writers[number] {
            Some(writer) => writer,
            empty => empty.insert(SpillFile::new(&self.directory)?.into_run()),
        };
        writer.push(row)
    }

    /// The partitions by number; none for those without rows.
    pub(super) fn finish(self) -> Result<[Option<Partition>; PARTITIONS]> {
        // All in one: most likely they have one key, and would stay together.
        let one = self.writers.iter().flatten().count() == 1;
        let level = if one { LEVELS } else { self.level + 1 };
        let mut partitions = [const { None }; PARTITIONS];
        for (partition, writer) in partitions.iter_mut().zip(self.writers) {
            *partition = writer
                .map(|writer| Ok::<_, crate::error::SqlError>(Partition { rows: writer.finish()?, level }))
                .transpose()?;
        }
        Ok(partitions)
    }
}

/// Tells rows that are met for the first time, of any number of rows.
///
/// Rows that are new when the memory is used up are set aside; [`Deduplicator::next_part`] gives them back.
pub(super) struct Deduplicator {
    seen: RowSet,
    memory: Reservation,
    level: u32,
    aside: Option<Partitions>,
    parts: Vec<Partition>,
}

impl Deduplicator {
    pub(super) fn new(cx: &Context) -> Self {
        Self { seen: RowSet::default(), memory: cx.spilling_reservation(), level: 0, aside: None, parts: Vec::new() }
    }

    /// Whether the row is new and can be put out now.
    #[inline]
    pub(super) fn admit(&mut self, row: &[Datum], cx: &Context) -> Result<bool> {
        let hash = hash_row(row);
        if self.seen.find_hashed(hash, row).is_some() {
            return Ok(false);
        }
        // Once a row was set aside, another of the same value may come: none is admitted any more.
        if self.aside.is_none() && self.memory.grow_or_spill(row_bytes(row), self.level)? {
            self.seen.insert_hashed(hash, row);
            return Ok(true);
        }
        self.aside.get_or_insert_with(|| Partitions::new(self.level, cx)).push(hash, row)?;
        Ok(false)
    }

    /// When all rows have been offered: rows to be offered again, none of which equals one admitted so far.
    pub(super) fn next_part(&mut self, cx: &Context) -> Result<Option<RunReader>> {
        if let Some(aside) = self.aside.take() {
            self.parts.extend(aside.finish()?.into_iter().flatten());
        }
        let Some(part) = self.parts.pop() else { return Ok(None) };
        self.seen = RowSet::default();
        self.memory = cx.spilling_reservation();
        self.level = part.level;
        Ok(Some(part.rows.read()))
    }
}

/// Where an operator's rows come from: another operator, and later what was set aside.
pub(super) enum Source {
    Input(Box<dyn Operator>),
    Run(RunReader),
    Nothing,
}

impl Source {
    #[inline]
    pub(super) fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        match self {
            Source::Input(input) => input.next(cx, out),
            Source::Run(run) => run.next(out),
            Source::Nothing => Ok(false),
        }
    }
}
