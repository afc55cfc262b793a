//! ORDER BY: in memory, by a heap when only the first rows are wanted, or by merging sorted runs on disk.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::limit::row_count;
use super::{Factory, Node, Operator};
use crate::error::Result;
use crate::executor::expr::compare;
use crate::executor::hash::row_bytes;
use crate::executor::rows::{Run, RunReader, SpillFile};
use crate::executor::{Code, Context};
use crate::plan::SortKey;
use crate::types::{Datum, Row};

/// More rows than this are not kept in a heap, whatever the limit.
const HEAP_ROWS: u64 = 100_000;

/// How rows compare: keys are columns of the row, or values appended to it.
pub(crate) struct SortOrder {
    keys: Vec<(usize, bool, bool)>,
    /// Keys that are not plain columns, appended to each row in this order.
    computed: Vec<Code>,
    width: usize,
}

impl SortOrder {
    /// `codes` are the compiled keys, `width` the number of columns of the rows.
    pub(crate) fn new(keys: &[SortKey], codes: Vec<Code>, width: usize) -> Self {
        let mut computed = Vec::new();
        let keys = keys.iter().zip(codes).map(|(key, code)| {
            let at = match code {
                Code::Column(index) => index,
                other => {
                    computed.push(other);
                    width + computed.len() - 1
                }
            };
            (at, key.descending, key.nulls_first)
        });
        Self { keys: keys.collect(), computed, width }
    }

    /// Appends the computed keys.
    pub(crate) fn extend(&self, row: &mut Row, cx: &Context) -> Result<()> {
        for code in &self.computed {
            let value = code.eval(row, cx)?;
            row.push(value);
        }
        Ok(())
    }

    /// Takes the computed keys off again.
    pub(crate) fn strip(&self, row: &mut Row) {
        row.truncate(self.width);
    }

    /// Order of two extended rows.
    #[inline]
    pub(crate) fn compare(&self, a: &[Datum], b: &[Datum]) -> Ordering {
        for (at, descending, nulls_first) in &self.keys {
            let order = match (&a[*at], &b[*at]) {
                (Datum::Null, Datum::Null) => Ordering::Equal,
                (Datum::Null, _) => {
                    if *nulls_first {
                        Ordering::Less
                    } else {
                        Ordering::Greater
                    }
                }
                (_, Datum::Null) => {
                    if *nulls_first {
                        Ordering::Greater
                    } else {
                        Ordering::Less
                    }
                }
                (a, b) if *descending => compare(b, a),
                (a, b) => compare(a, b),
            };
            if order.is_ne() {
                return order;
            }
        }
        Ordering::Equal
    }
}

pub(crate) struct SortCode {
    pub(crate) input: Node,
    pub(crate) order: Arc<SortOrder>,
    pub(crate) limit: Option<Code>,
}

struct Sort {
    code: Arc<SortCode>,
    input: Box<dyn Operator>,
    sorted: Option<Sorted>,
}

/// Rows in order.
pub(crate) enum Sorted {
    Memory(std::vec::IntoIter<Row>),
    Merge(Merge),
}

impl Factory for SortCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(Sort { input: self.input.open(cx), code: self, sorted: None })
    }
}

impl Operator for Sort {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        if self.sorted.is_none() {
            let limit = self.code.limit.as_ref().map(|limit| row_count(limit, cx, false)).transpose()?.flatten();
            self.sorted = Some(match limit {
                Some(limit) if limit <= HEAP_ROWS => self.first_rows(limit as usize, cx)?,
                _ => self.all_rows(cx)?,
            });
        }
        let more = match self.sorted.as_mut().expect("sorted above") {
            Sorted::Memory(rows) => match rows.next() {
                Some(row) => {
                    *out = row;
                    true
                }
                None => false,
            },
            Sorted::Merge(merge) => {
                cx.poll()?;
                merge.next(out)?
            }
        };
        if more {
            self.code.order.strip(out);
        }
        Ok(more)
    }
}

impl Sort {
    /// Keeps the first `limit` rows in a heap whose top is the last of them.
    fn first_rows(&mut self, limit: usize, cx: &Context) -> Result<Sorted> {
        let order = &self.code.order;
        let mut heap: BinaryHeap<Entry> = BinaryHeap::new();
        let mut row = Row::new();
        let mut number = 0;
        while limit > 0 && self.input.next(cx, &mut row)? {
            cx.poll()?;
            order.extend(&mut row, cx)?;
            number += 1;
            if heap.len() == limit {
                let mut last = heap.peek_mut().expect("the limit is above zero");
                // Of equals the earlier row stays.
                if order.compare(&row, &last.row).is_lt() {
                    std::mem::swap(&mut last.row, &mut row);
                    last.number = number;
                }
            } else {
                heap.push(Entry { row: std::mem::take(&mut row), number, order: Arc::clone(order) });
            }
        }
        let rows: Vec<Row> = heap.into_sorted_vec().into_iter().map(|entry| entry.row).collect();
        Ok(Sorted::Memory(rows.into_iter()))
    }

    fn all_rows(&mut self, cx: &Context) -> Result<Sorted> {
        let mut sorter = Sorter::new(Arc::clone(&self.code.order), cx.exec().work_mem_bytes, cx.temporary_directory());
        let mut row = Row::new();
        while self.input.next(cx, &mut row)? {
            cx.poll()?;
            self.code.order.extend(&mut row, cx)?;
            sorter.push(std::mem::take(&mut row))?;
        }
        sorter.finish()
    }
}

/// Sorts any number of rows in bounded memory.
pub(crate) struct Sorter {
    order: Arc<SortOrder>,
    limit_bytes: usize,
    directory: Arc<std::path::Path>,
    rows: Vec<Row>,
    bytes: usize,
    file: Option<SpillFile>,
    runs: Vec<Run>,
}

/// Runs merged at once; beyond it they are first merged into longer ones.
const MERGE_RUNS: usize = 64;

impl Sorter {
    pub(crate) fn new(order: Arc<SortOrder>, limit_bytes: usize, directory: &Arc<std::path::Path>) -> Self {
        let directory = Arc::clone(directory);
        Self { order, limit_bytes, directory, rows: Vec::new(), bytes: 0, file: None, runs: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Row) -> Result<()> {
        self.bytes += row_bytes(&row);
        self.rows.push(row);
        if self.bytes > self.limit_bytes { self.spill() } else { Ok(()) }
    }

    fn sort(&mut self) {
        let order = &self.order;
        self.rows.sort_by(|a, b| order.compare(a, b));
    }

    fn spill(&mut self) -> Result<()> {
        self.sort();
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(SpillFile::new(&self.directory)?),
        };
        let mut run = file.begin();
        self.rows.iter().try_for_each(|row| run.push(row))?;
        self.runs.push(run.finish()?);
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Sorted> {
        if self.runs.is_empty() {
            self.sort();
            return Ok(Sorted::Memory(self.rows.into_iter()));
        }
        if !self.rows.is_empty() {
            self.spill()?;
        }
        while self.runs.len() > MERGE_RUNS {
            let some: Vec<Run> = self.runs.drain(..MERGE_RUNS).collect();
            let mut merge = Merge::new(&self.order, &some)?;
            // A new file: the space of merged runs is given back with the old one.
            let mut file = SpillFile::new(&self.directory)?;
            let mut run = file.begin();
            let mut row = Row::new();
            while merge.next(&mut row)? {
                run.push(&row)?;
            }
            // Merged from the front and put at the front: equal rows keep their order.
            let merged = run.finish()?;
            self.runs.insert(0, merged);
        }
        Ok(Sorted::Merge(Merge::new(&self.order, &self.runs)?))
    }
}

/// Merges sorted runs.
pub(crate) struct Merge {
    readers: Vec<RunReader>,
    /// Next row of each run that has one; the first of them on top.
    heads: BinaryHeap<std::cmp::Reverse<Entry>>,
    order: Arc<SortOrder>,
}

impl Merge {
    fn new(order: &Arc<SortOrder>, runs: &[Run]) -> Result<Self> {
        let mut merge = Self { readers: Vec::new(), heads: BinaryHeap::new(), order: Arc::clone(order) };
        for run in runs {
            merge.readers.push(run.read());
            merge.refill(merge.readers.len() - 1)?;
        }
        Ok(merge)
    }

    fn refill(&mut self, number: usize) -> Result<()> {
        let mut row = Row::new();
        if self.readers[number].next(&mut row)? {
            self.heads.push(std::cmp::Reverse(Entry { row, number, order: Arc::clone(&self.order) }));
        }
        Ok(())
    }

    pub(crate) fn next(&mut self, out: &mut Row) -> Result<bool> {
        let Some(std::cmp::Reverse(first)) = self.heads.pop() else { return Ok(false) };
        *out = first.row;
        self.refill(first.number)?;
        Ok(true)
    }
}

/// A row in a heap. Ties go by number, which keeps sorts stable.
struct Entry {
    row: Row,
    number: usize,
    order: Arc<SortOrder>,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.compare(&self.row, &other.row).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}
