//! A cursor over a tree at a snapshot, merged with the transaction's own writes.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use sql::error::Result;
use sql::store::{Cursor, Direction, Interrupt, KeyRange};
use storage::btree;
use storage::{Lsn, TreeId};

use super::read::existing;
use super::writes::{Write, WritesCursor};
use crate::cache::{PageCache, SnapshotReader};

/// Committed rows of a range at one LSN.
struct Base {
    cache: Arc<PageCache>,
    tree: TreeId,
    at: Lsn,
    cursor: btree::Cursor<SnapshotReader>,
    started: bool,
}

impl Base {
    /// Steps to the next row of the range; false at its end.
    fn step(&mut self, range: &KeyRange, direction: Direction) -> Result<bool> {
        let outcome = if std::mem::replace(&mut self.started, true) {
            match direction {
                Direction::Forward => self.cursor.next_row(),
                Direction::Backward => self.cursor.previous_row(),
            }
        } else {
            match direction {
                Direction::Forward => match &range.lower {
                    Bound::Included(key) => self.cursor.seek_at_or_above(key),
                    Bound::Excluded(key) => self.cursor.seek_above(key),
                    Bound::Unbounded => self.cursor.seek_first(),
                },
                Direction::Backward => match &range.upper {
                    Bound::Included(key) => self.cursor.seek_at_or_below(key),
                    Bound::Excluded(key) => self.cursor.seek_below(key),
                    Bound::Unbounded => self.cursor.seek_last(),
                },
            }
        };
        let on_row = existing(&self.cache, self.tree, self.at, outcome)?.unwrap_or(false);
        Ok(on_row && within(self.cursor.key(), range, direction))
    }
}

/// True when a key has not passed the far end of a range.
#[inline]
fn within(key: &[u8], range: &KeyRange, direction: Direction) -> bool {
    match direction {
        Direction::Forward => match &range.upper {
            Bound::Included(upper) => key <= &upper[..],
            Bound::Excluded(upper) => key < &upper[..],
            Bound::Unbounded => true,
        },
        Direction::Backward => match &range.lower {
            Bound::Included(lower) => key >= &lower[..],
            Bound::Excluded(lower) => key > &lower[..],
            Bound::Unbounded => true,
        },
    }
}

/// See the module.
pub(super) struct MergeCursor {
    range: KeyRange,
    direction: Direction,
    interrupt: Arc<Interrupt>,
    base: Option<Base>,
    /// The base cursor stands on a row of the range that was not answered yet.
    base_ready: bool,
    overlay: Option<WritesCursor>,
    current: Current,
}

enum Current {
    None,
    Base,
    Own { key: Box<[u8]>, value: bytes::Bytes },
}

impl MergeCursor {
    /// `base_at`: the LSN to read committed rows at; none for a tree that has none.
    pub(super) fn new(
        cache: &Arc<PageCache>,
        tree: TreeId,
        base_at: Option<Lsn>,
        overlay: Option<WritesCursor>,
        range: KeyRange,
        direction: Direction,
        interrupt: Arc<Interrupt>,
    ) -> Self {
        let base = base_at.map(|at| {
            let cursor = btree::Cursor::new(SnapshotReader::new(cache.clone(), at), tree);
            Base { cache: cache.clone(), tree, at, cursor, started: false }
        });
        Self { range, direction, interrupt, base, base_ready: false, overlay, current: Current::None }
    }

    fn end(&mut self) {
        self.base = None;
        self.overlay = None;
        self.base_ready = false;
        self.current = Current::None;
    }

    fn try_advance(&mut self) -> Result<bool> {
        loop {
            self.current = Current::None;
            if let Some(base) = self.base.as_mut().filter(|_| !self.base_ready) {
                if base.step(&self.range, self.direction)? {
                    self.base_ready = true;
                } else {
                    self.base = None;
                }
            }
            let own = self.overlay.as_ref().and_then(WritesCursor::peek);
            let base = self.base.as_ref().map(|base| base.cursor.key());
            let order = match (base, own) {
                (None, None) => return Ok(false),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(base), Some((own, _))) => match self.direction {
                    Direction::Forward => base.cmp(own),
                    Direction::Backward => own.cmp(base),
                },
            };
            if order == Ordering::Less {
                self.base_ready = false;
                self.current = Current::Base;
                return Ok(true);
            }
            // The own write hides the committed row of the same key.
            if order == Ordering::Equal {
                self.base_ready = false;
            }
            let own = self.overlay.as_mut().map_or(Ok(None), WritesCursor::pop)?;
            if let Some((key, Write::Put(value))) = own {
                self.current = Current::Own { key, value };
                return Ok(true);
            }
            self.interrupt.check()?;
        }
    }
}

impl Cursor for MergeCursor {
    #[inline]
    fn advance(&mut self) -> Result<bool> {
        if self.overlay.is_none() {
            // The usual case: nothing written to this tree.
            let Some(base) = &mut self.base else { return Ok(false) };
            match base.step(&self.range, self.direction) {
                Ok(true) => {
                    self.current = Current::Base;
                    return Ok(true);
                }
                Ok(false) => {
                    self.end();
                    return Ok(false);
                }
                Err(error) => {
                    self.end();
                    return Err(error);
                }
            }
        }
        let outcome = self.try_advance();
        if !matches!(outcome, Ok(true)) {
            self.end();
        }
        outcome
    }

    #[inline]
    fn key(&self) -> &[u8] {
        match &self.current {
            Current::Base => self.base.as_ref().expect("on a committed row").cursor.key(),
            Current::Own { key, .. } => key,
            Current::None => panic!("the cursor is on no row"),
        }
    }

    #[inline]
    fn value(&self) -> &[u8] {
        match &self.current {
            Current::Base => self.base.as_ref().expect("on a committed row").cursor.value(),
            Current::Own { value, .. } => value,
            Current::None => panic!("the cursor is on no row"),
        }
    }
}
