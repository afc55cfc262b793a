//! Hash joins: the right side is the table, the left side probes it. When the table would take too much memory,
//! both sides are set aside in partitions, and these are joined one after another.

use std::sync::Arc;

use hashbrown::HashTable;

use super::{Factory, Node, Operator, passes};
use crate::error::Result;
use crate::executor::hash::{hash_row, row_bytes};
use crate::executor::partitions::{PARTITIONS, Partition, Partitions, Source};
use crate::executor::{Code, Context, Reservation};
use crate::plan::JoinKind;
use crate::types::{Datum, Row};

pub(crate) struct HashJoinCode {
    pub(crate) kind: JoinKind,
    pub(crate) left: Node,
    pub(crate) right: Node,
    pub(crate) left_keys: Vec<Code>,
    pub(crate) right_keys: Vec<Code>,
    /// Which keys compare as IS NOT DISTINCT FROM.
    pub(crate) null_safe: Vec<bool>,
    pub(crate) filter: Option<Code>,
    pub(crate) left_width: usize,
    pub(crate) right_width: usize,
}

/// End of a chain of right rows.
const NONE: u32 = u32::MAX;

/// The right side's rows by key. Rows of one key form a chain.
struct Table {
    rows: Vec<Row>,
    next: Vec<u32>,
    keys: Vec<Row>,
    /// First and last row of each key in `keys`.
    chains: Vec<(u32, u32)>,
    index: HashTable<u32>,
    memory: Reservation,
}

impl Table {
    fn new(memory: Reservation) -> Self {
        let (rows, next, keys, chains) = Default::default();
        Self { rows, next, keys, chains, index: HashTable::new(), memory }
    }

    fn find(&self, key: &[Datum]) -> u32 {
        let found = self.index.find(hash_row(key), |chain| self.keys[*chain as usize] == key);
        found.map_or(NONE, |chain| self.chains[*chain as usize].0)
    }

    fn insert(&mut self, key: &Row, row: Row) {
        let number = self.push(row);
        let Self { keys, chains, index, next, .. } = self;
        let hash = hash_row(key);
        if let Some(chain) = index.find(hash, |chain| keys[*chain as usize] == *key) {
            let (_, last) = &mut chains[*chain as usize];
            next[*last as usize] = number;
            *last = number;
            return;
        }
        let chain = keys.len() as u32;
        keys.push(key.clone());
        chains.push((number, number));
        index.insert_unique(hash, chain, |chain| hash_row(&keys[*chain as usize]));
    }

    /// A row that no key finds.
    fn push(&mut self, row: Row) -> u32 {
        self.rows.push(row);
        self.next.push(NONE);
        self.rows.len() as u32 - 1
    }
}

struct HashJoin {
    code: Arc<HashJoinCode>,
    /// The rows that probe.
    left: Source,
    table: Option<Table>,
    /// Partitions of both sides that are still to be joined.
    parts: Vec<Part>,
    begun: bool,
    left_row: Row,
    key: Row,
    /// The next right row to try for the left row.
    candidate: u32,
    active: bool,
    matched: bool,
    right_matched: Vec<bool>,
    /// RIGHT and FULL after the last left row: the next right row to look at.
    tail: Option<usize>,
}

/// Rows of both sides whose keys have hashes of the same partition.
struct Part {
    left: Option<Partition>,
    right: Option<Partition>,
}

impl Factory for HashJoinCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(HashJoin {
            left: Source::Input(self.left.open(cx)),
            table: None,
            parts: Vec::new(),
            begun: false,
            left_row: Row::new(),
            key: Row::new(),
            candidate: NONE,
            active: false,
            matched: false,
            right_matched: Vec::new(),
            tail: None,
            code: self,
        })
    }
}

impl HashJoinCode {
    /// Evaluates a key; false when a NULL keeps it from matching anything.
    #[inline]
    fn key(&self, codes: &[Code], row: &[Datum], cx: &Context, key: &mut Row) -> Result<bool> {
        key.clear();
        let mut can_match = true;
        for (code, null_safe) in codes.iter().zip(&self.null_safe) {
            let value = code.eval(row, cx)?;
            can_match &= *null_safe || !value.is_null();
            key.push(value);
        }
        Ok(can_match)
    }

    fn keeps_left(&self) -> bool {
        matches!(self.kind, JoinKind::Left | JoinKind::Full | JoinKind::Anti)
    }

    fn keeps_right(&self) -> bool {
        matches!(self.kind, JoinKind::Right | JoinKind::Full)
    }

    /// Makes a table of the right side; or, when it is too much for the memory, partitions of it.
    fn build(&self, right: &mut Source, level: u32, cx: &Context) -> Result<Built> {
        let mut table = Table::new(cx.spilling_reservation());
        let (mut row, mut key) = (Row::new(), Row::new());
        while right.next(cx, &mut row)? {
            cx.poll()?;
            let can_match = self.key(&self.right_keys, &row, cx, &mut key)?;
            if !can_match && !self.keeps_right() {
                continue;
            }
            if !table.memory.grow_or_spill(row_bytes(&row) + row_bytes(&key), level)? {
                return self.partition_right(table, row, right, level, cx);
            }
            let row = std::mem::take(&mut row);
            if can_match {
                table.insert(&key, row);
            } else {
                table.push(row);
            }
        }
        Ok(Built::Table(table))
    }

    #[cold]
    fn partition_right(
        &self,
        table: Table,
        mut row: Row,
        right: &mut Source,
        level: u32,
        cx: &Context,
    ) -> Result<Built> {
        let mut partitions = Partitions::new(level, cx);
        let mut key = Row::new();
        let mut set_aside = |row: &[Datum]| {
            if self.key(&self.right_keys, row, cx, &mut key)? || self.keeps_right() {
                partitions.push(hash_row(&key), row)?;
            }
            Ok::<_, crate::error::SqlError>(())
        };
        table.rows.iter().try_for_each(|row| set_aside(row))?;
        drop(table);
        set_aside(&row)?;
        while right.next(cx, &mut row)? {
            cx.poll()?;
            set_aside(&row)?;
        }
        Ok(Built::Partitions(Box::new(partitions.finish()?)))
    }

    fn partition_left(&self, left: &mut Source, level: u32, cx: &Context) -> Result<[Option<Partition>; PARTITIONS]> {
        let mut partitions = Partitions::new(level, cx);
        let (mut row, mut key) = (Row::new(), Row::new());
        while left.next(cx, &mut row)? {
            cx.poll()?;
            if self.key(&self.left_keys, &row, cx, &mut key)? || self.keeps_left() {
                partitions.push(hash_row(&key), &row)?;
            }
        }
        partitions.finish()
    }
}

enum Built {
    Table(Table),
    Partitions(Box<[Option<Partition>; PARTITIONS]>),
}

impl HashJoin {
    fn next_unmatched_right(&mut self, out: &mut Row) -> bool {
        let (Some(next), Some(table)) = (&mut self.tail, &mut self.table) else { return false };
        while let Some(row) = table.rows.get_mut(*next) {
            *next += 1;
            if !self.right_matched[*next - 1] {
                out.clear();
                out.resize(self.code.left_width, Datum::Null);
                out.append(row);
                return true;
            }
        }
        false
    }

    /// Makes the next table, of the inputs and then of one partition after another; false when there are no more.
    fn next_table(&mut self, cx: &Context) -> Result<bool> {
        let code = Arc::clone(&self.code);
        // Its memory serves the next one.
        (self.table, self.tail) = (None, None);
        loop {
            let (mut right, level) = if !std::mem::replace(&mut self.begun, true) {
                (Some(Source::Input(code.right.open(cx))), 0)
            } else {
                let Some(part) = self.parts.pop() else { return Ok(false) };
                let level = part.right.as_ref().map_or(0, |right| right.level);
                if part.right.is_none() && !code.keeps_left() || part.left.is_none() && !code.keeps_right() {
                    continue;
                }
                self.left = part.left.map_or(Source::Nothing, |left| Source::Run(left.rows.read()));
                (part.right.map(|right| Source::Run(right.rows.read())), level)
            };
            match code.build(right.get_or_insert(Source::Nothing), level, cx)? {
                Built::Table(table) => {
                    if code.keeps_right() {
                        self.right_matched = vec![false; table.rows.len()];
                    }
                    self.table = Some(table);
                    return Ok(true);
                }
                Built::Partitions(right) => {
                    let left = code.partition_left(&mut self.left, level, cx)?;
                    let parts = left.into_iter().zip(*right).map(|(left, right)| Part { left, right });
                    self.parts.extend(parts.filter(|part| part.left.is_some() || part.right.is_some()));
                }
            }
        }
    }

    /// The next row of the table at hand.
    fn next_of_table(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let code = Arc::clone(&self.code);
        let kind = code.kind;
        if self.tail.is_some() {
            return Ok(self.next_unmatched_right(out));
        }
        let Some(table) = &self.table else { return Ok(false) };
        loop {
            if !self.active {
                // With no right rows only kinds that keep left rows have anything to say.
                let fruitless = table.rows.is_empty() && !code.keeps_left();
                if fruitless || !self.left.next(cx, &mut self.left_row)? {
                    if !code.keeps_right() {
                        return Ok(false);
                    }
                    self.tail = Some(0);
                    return Ok(self.next_unmatched_right(out));
                }
                let can_match = code.key(&code.left_keys, &self.left_row, cx, &mut self.key)?;
                self.candidate = if can_match { table.find(&self.key) } else { NONE };
                self.active = true;
                self.matched = false;
            }
            while self.candidate != NONE {
                cx.poll()?;
                let number = self.candidate as usize;
                self.candidate = table.next[number];
                if code.filter.is_some() || !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
                    out.clear();
                    out.extend_from_slice(&self.left_row);
                    out.extend_from_slice(&table.rows[number]);
                    if !passes(code.filter.as_ref(), out, cx)? {
                        continue;
                    }
                }
                self.matched = true;
                match kind {
                    JoinKind::Semi => {
                        self.active = false;
                        out.clear();
                        out.append(&mut self.left_row);
                        return Ok(true);
                    }
                    JoinKind::Anti => break,
                    JoinKind::Right | JoinKind::Full => {
                        self.right_matched[number] = true;
                        return Ok(true);
                    }
                    JoinKind::Inner | JoinKind::Left => return Ok(true),
                }
            }
            self.active = false;
            if !self.matched && code.keeps_left() {
                out.clear();
                out.append(&mut self.left_row);
                if kind != JoinKind::Anti {
                    out.resize(code.left_width + code.right_width, Datum::Null);
                }
                return Ok(true);
            }
        }
    }
}

impl Operator for HashJoin {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        loop {
            if self.next_of_table(cx, out)? {
                return Ok(true);
            }
            if !self.next_table(cx)? {
                return Ok(false);
            }
        }
    }
}
