//! Point reads of committed rows: at a snapshot, and the newest.

use std::sync::Arc;

use bytes::Bytes;
use sql::error::Result;
use storage::btree::{self, PageReader, TreeError};
use storage::page::{EntryValue, Page};
use storage::{Lsn, PageNo, TreeId};

use pageserver::client::PageError;
use smallvec::SmallVec;

use crate::cache::{CacheError, GuardedReader, PageCache, SnapshotReader};
use crate::sequencer::{Sequencer, SequencerError};

/// The value of a key at an LSN. A tree that did not exist then is empty.
pub(crate) fn get_at(cache: &Arc<PageCache>, tree: TreeId, key: &[u8], at: Lsn) -> Result<Option<Bytes>> {
    let guarded = GuardedReader::new(cache, at);
    match get(&guarded, tree, key) {
        Err(CacheError::Missing { .. }) => {}
        outcome => return existing(cache, tree, at, outcome).map(Option::flatten),
    }
    let outcome = get(&SnapshotReader::new(cache.clone(), at), tree, key);
    existing(cache, tree, at, outcome).map(Option::flatten)
}

fn get<R: PageReader>(reader: &R, tree: TreeId, key: &[u8]) -> Result<Option<Bytes>, R::Error> {
    Ok(btree::get(reader, tree, key)?.map(|value| match value {
        btree::Value::Assembled(bytes) => Bytes::from(bytes),
        in_page => Bytes::copy_from_slice(&in_page),
    }))
}

/// Tells a tree that did not exist at that LSN (`None`) from an error.
pub(crate) fn existing<T>(
    cache: &Arc<PageCache>,
    tree: TreeId,
    at: Lsn,
    outcome: Result<T, CacheError>,
) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(CacheError::Page(PageError::NotFound { page, .. })) if page == tree.0 => Ok(None),
        Err(CacheError::Tree(TreeError::Damaged { page, .. })) if page == tree.0 && !is_root(cache, tree, at)? => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// True when the page was this tree's root at that LSN, sound or not. Numbers of roots are never used for
/// another root (`Sequencer::create_tree`), so a page of the same number tells the tree.
fn is_root(cache: &Arc<PageCache>, tree: TreeId, at: Lsn) -> Result<bool> {
    let reader = SnapshotReader::new(cache.clone(), at);
    let page = reader.page(tree.0)?;
    Ok(page.is_slotted() && page.tree() == tree)
}

/// Pages from the root to a leaf.
type Path = SmallVec<[PageNo; 6]>;

/// The leaf of a key and the way to it. `None`: the tree did not exist. `passing` is told of each inner page and the
/// slot that the way takes.
fn descend<'r, R: PageReader>(
    reader: &'r R,
    tree: TreeId,
    key: &[u8],
    mut passing: impl FnMut(&Page, usize),
) -> Result<Option<(Path, R::Ref<'r>)>, R::Error> {
    let mut path = Path::new();
    path.push(tree.0);
    let mut page = reader.page(tree.0)?;
    if !page.is_slotted() || page.tree() != tree {
        return Ok(None);
    }
    while !page.is_leaf() {
        let sound = |page: &Page| page.slot_count() > 0;
        let damaged = |reason| TreeError::Damaged { tree, page: tree.0, reason };
        if !sound(&page) {
            return Err(damaged("inner page without children").into());
        }
        let slot = page.child_slot(key);
        passing(&page, slot);
        let (child, level) = (page.child(slot), page.level());
        path.push(child);
        page = reader.page(child)?;
        if !page.is_slotted() || page.level() + 1 != level {
            return Err(damaged("not the page that its parent means").into());
        }
    }
    Ok(Some((path, page)))
}

/// A row as of an LSN, and whether everything on the way to it is still as it was then.
struct Seen {
    value: Option<Bytes>,
    is_newest: bool,
}

/// Reads a row at `at` and tells whether that is the newest there is.
///
/// The *whole path* must be unchanged: a leaf that was merged away keeps its bytes, and only its parent tells.
/// The caller holds the row's lock, so nobody changes the row between the reading and the answer.
fn see(cache: &Arc<PageCache>, tree: TreeId, key: &[u8], at: Lsn) -> Result<Seen> {
    let outcome = match look(&GuardedReader::new(cache, at), cache, tree, key, at) {
        Err(CacheError::Missing { .. }) => look(&SnapshotReader::new(cache.clone(), at), cache, tree, key, at),
        outcome => outcome,
    };
    Ok(existing(cache, tree, at, outcome)?.unwrap_or(Seen { value: None, is_newest: false }))
}

fn look<R: PageReader<Error = CacheError>>(
    reader: &R,
    cache: &PageCache,
    tree: TreeId,
    key: &[u8],
    at: Lsn,
) -> Result<Seen, CacheError> {
    let Some((path, leaf)) = descend(reader, tree, key, |_, _| {})? else {
        return Ok(Seen { value: None, is_newest: cache.unchanged_since(tree.0, at) });
    };
    let is_newest = path.iter().all(|page| cache.unchanged_since(*page, at));
    let value = match leaf.search(key).map(|slot| leaf.value(slot)) {
        Err(_) => None,
        Ok(EntryValue::Inline(value)) => Some(Bytes::copy_from_slice(value)),
        Ok(EntryValue::Overflow(reference)) => {
            let mut value = Vec::new();
            btree::read_overflow(reader, tree, reference, &mut value)?;
            Some(Bytes::from(value))
        }
    };
    Ok(Seen { value, is_newest })
}

/// The newest committed value of a key whose row lock the caller holds (or that nobody else writes).
pub(crate) fn get_newest(sequencer: &Sequencer, tree: TreeId, key: &[u8]) -> Result<Option<Bytes>> {
    // Without the sequencer if all is in memory and sealed; what is missing is better fetched as it is now.
    let (cache, at) = (&sequencer.cache, sequencer.positions.sealed());
    match look(&GuardedReader::new(cache, at), cache, tree, key, at) {
        Ok(seen) if seen.is_newest => return Ok(seen.value),
        Ok(_) | Err(CacheError::Missing { .. }) => {}
        Err(error) => drop(existing::<()>(cache, tree, at, Err(error))?),
    }
    sequencer.read_newest(|reader| match get(reader, tree, key) {
        // Dropped, or not there yet.
        Err(SequencerError::Broken(TreeError::Damaged { page, .. })) if page == tree.0 => Ok(None),
        outcome => outcome,
    })
}

/// Whether nothing stands at any of the keys, as of the newest commit. They ascend, and the caller holds their row
/// locks. One descent for all keys of a leaf.
pub(crate) fn none_stands(sequencer: &Sequencer, tree: TreeId, mut keys: &[&[u8]]) -> Result<bool> {
    while let Some(first) = keys.first() {
        let passed = match absent_in_leaf(&sequencer.cache, tree, keys, sequencer.positions.sealed()) {
            Ok(Absent::Keys(keys)) => keys,
            Ok(Absent::NotAll) => return Ok(false),
            // Not in memory, or not as it was when it was sealed.
            Ok(Absent::Unknown) | Err(CacheError::Missing { .. } | CacheError::Page(_) | CacheError::Tree(_)) => {
                if get_newest(sequencer, tree, first)?.is_some() {
                    return Ok(false);
                }
                1
            }
            Err(error) => return Err(error.into()),
        };
        keys = &keys[passed..];
    }
    Ok(true)
}

/// What one leaf tells of keys.
enum Absent {
    /// So many of the first ones belong to it, and are not there.
    Keys(usize),
    NotAll,
    /// It may not be the newest.
    Unknown,
}

fn absent_in_leaf(cache: &PageCache, tree: TreeId, keys: &[&[u8]], at: Lsn) -> Result<Absent, CacheError> {
    let reader = GuardedReader::new(cache, at);
    let mut upper: Option<Vec<u8>> = None;
    let found = descend(&reader, tree, keys[0], |page, slot| {
        if slot + 1 < page.slot_count() {
            let upper = upper.get_or_insert_default();
            upper.clear();
            page.read_key(slot + 1, upper);
        }
    })?;
    let Some((path, leaf)) = found else { return Ok(Absent::Unknown) };
    if !path.iter().all(|page| cache.unchanged_since(*page, at)) {
        return Ok(Absent::Unknown);
    }
    let belongs = |key: &[u8]| upper.as_ref().is_none_or(|upper| key < &upper[..]);
    let mut passed = 0;
    for key in keys.iter().take_while(|key| belongs(key)) {
        if leaf.search(key).is_ok() {
            return Ok(Absent::NotAll);
        }
        passed += 1;
    }
    Ok(Absent::Keys(passed))
}

/// What became of a row since a snapshot. The caller holds the row's lock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// It is as the snapshot has it.
    Unchanged,
    /// It is gone.
    Deleted,
    /// It is there, and is another.
    Changed(Bytes),
}

/// Compares the newest committed row with a snapshot's, by value: a row that was changed and changed back counts
/// as unchanged, since whatever was derived from the snapshot's row holds for the newest one.
pub(crate) fn changed_since(sequencer: &Sequencer, tree: TreeId, key: &[u8], at: Lsn) -> Result<Since> {
    let then = if sequencer.attached_after(tree, at) {
        Seen { value: None, is_newest: false }
    } else {
        see(&sequencer.cache, tree, key, at)?
    };
    if then.is_newest {
        return Ok(Since::Unchanged);
    }
    let now = get_newest(sequencer, tree, key)?;
    Ok(match now {
        now if now == then.value => Since::Unchanged,
        None => Since::Deleted,
        Some(now) => Since::Changed(now),
    })
}

/// The greatest key of a tree, as of the newest commit.
pub(crate) fn last_key(sequencer: &Sequencer, tree: TreeId) -> Result<Option<Bytes>> {
    sequencer.read_newest(|reader| {
        let mut cursor = btree::Cursor::new(reader, tree);
        match cursor.seek_last() {
            Ok(true) => Ok(Some(Bytes::copy_from_slice(cursor.key()))),
            Ok(false) => Ok(None),
            Err(SequencerError::Broken(TreeError::Damaged { page, .. })) if page == tree.0 => Ok(None),
            Err(error) => Err(error),
        }
    })
}
