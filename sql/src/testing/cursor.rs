//! A cursor that merges committed rows at a snapshot with a transaction's own writes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{Lsn, TreeId};

use super::memory_store::{Committed, Shared};
use crate::error::Result;
use crate::store::{Cursor, Direction, KeyRange};

/// Rows fetched under one lock of the store.
const BATCH_ROWS: usize = 256;

pub(super) struct MemoryCursor {
    shared: Arc<Shared>,
    tree: TreeId,
    snapshot: Lsn,
    direction: Direction,
    /// What is still to be fetched of the committed rows.
    rest: Option<KeyRange>,
    committed: VecDeque<(Bytes, Bytes)>,
    /// Own writes within the range, as they were when the cursor was opened.
    own: BTreeMap<Bytes, Option<Bytes>>,
    current: Option<(Bytes, Bytes)>,
}

impl MemoryCursor {
    pub(super) fn new(
        shared: Arc<Shared>,
        tree: TreeId,
        snapshot: Lsn,
        range: KeyRange,
        direction: Direction,
        own: BTreeMap<Bytes, Option<Bytes>>,
    ) -> Self {
        let rest = Some(range).filter(|range| !is_empty(range));
        Self { shared, tree, snapshot, direction, rest, committed: VecDeque::new(), own, current: None }
    }

    fn fetch(&mut self) {
        while self.committed.is_empty()
            && let Some(mut range) = self.rest.take()
        {
            let committed = self.shared.committed();
            let Some(tree) = committed.trees.get(&self.tree) else { return };
            let bounds = (as_slice(&range.lower), as_slice(&range.upper));
            let rows = tree.range::<[u8], _>(bounds);
            let mut last = None;
            let mut seen = 0;
            let mut take = |(key, versions): (&Bytes, &super::memory_store::Versions)| {
                if let Some(value) = Committed::visible(versions, self.snapshot) {
                    self.committed.push_back((key.clone(), value.clone()));
                }
                last = Some(key.clone());
                seen += 1;
            };
            match self.direction {
                Direction::Forward => rows.take(BATCH_ROWS).for_each(&mut take),
                Direction::Backward => rows.rev().take(BATCH_ROWS).for_each(&mut take),
            }
            if seen == BATCH_ROWS
                && let Some(last) = last
            {
                match self.direction {
                    Direction::Forward => range.lower = Bound::Excluded(last),
                    Direction::Backward => range.upper = Bound::Excluded(last),
                }
                self.rest = Some(range).filter(|range| !is_empty(range));
            }
        }
    }

    fn next_own(&self) -> Option<&Bytes> {
        match self.direction {
            Direction::Forward => self.own.first_key_value(),
            Direction::Backward => self.own.last_key_value(),
        }
        .map(|(key, _)| key)
    }
}

impl Cursor for MemoryCursor {
    fn advance(&mut self) -> Result<bool> {
        loop {
            self.fetch();
            let order = match (self.committed.front(), self.next_own()) {
                (None, None) => {
                    self.current = None;
                    return Ok(false);
                }
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((key, _)), Some(own)) => match self.direction {
                    Direction::Forward => key.cmp(own),
                    Direction::Backward => own.cmp(key),
                },
            };
            if order.is_lt() {
                self.current = self.committed.pop_front();
                return Ok(true);
            }
            if order.is_eq() {
                self.committed.pop_front();
            }
            let own = match self.direction {
                Direction::Forward => self.own.pop_first(),
                Direction::Backward => self.own.pop_last(),
            };
            if let Some((key, Some(value))) = own {
                self.current = Some((key, value));
                return Ok(true);
            }
        }
    }

    fn key(&self) -> &[u8] {
        &self.current.as_ref().expect("a cursor is read only where advance gave true").0
    }

    fn value(&self) -> &[u8] {
        &self.current.as_ref().expect("a cursor is read only where advance gave true").1
    }
}

/// Borrowed form of a bound.
pub(super) fn as_slice(bound: &Bound<Bytes>) -> Bound<&[u8]> {
    bound.as_ref().map(AsRef::as_ref)
}

/// Whether no key can lie in the range (`BTreeMap::range` panics on some of these).
pub(super) fn is_empty(range: &KeyRange) -> bool {
    match (&range.lower, &range.upper) {
        (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
        (Bound::Included(lower) | Bound::Excluded(lower), Bound::Excluded(upper))
        | (Bound::Excluded(lower), Bound::Included(upper)) => lower >= upper,
        _ => false,
    }
}
