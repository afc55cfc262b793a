//! A database in one tree: a bank, a ring and lists. Its batches are made as a compute's sequencer makes them, by
//! `storage::btree` on the newest pages; whoever reads it at any LSN finds it whole.
//!
//! - **Bank:** accounts come and go, money only moves: the sum is always the same (checker B).
//! - **Ring:** each node names the next; nodes move. Following them passes all and comes back (checker C).
//! - **Lists:** only appended to: without a gap, whenever they are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use storage::batch::{BatchEncoder, MIN_PART_BYTES};
use storage::btree::{Cursor, PageReader, PageWriter, TreeError, check_space, check_tree, get, write_sorted};
use storage::meta::{self, CATALOG_TREE, UPKEEP_TREE};
use storage::page::Page;
use storage::record::RedoOp;
use storage::redo::redo;
use storage::{Lsn, PageNo};

use crate::random::Random;

pub const TREE: storage::TreeId = CATALOG_TREE;
const ACCOUNTS: u32 = 30;
pub const MOST_ACCOUNTS: u32 = 90;
pub const NODES: u32 = 15;
pub const LISTS: u32 = 3;
const SUM: i64 = 1_000 * ACCOUNTS as i64;

pub const ACCOUNT: u8 = 0;
pub const NODE: u8 = 1;
pub const ITEM: u8 = 2;
/// A list in one row, of [`super::lists`].
pub const LIST: u8 = 3;

/// Of a row.
pub fn key(kind: u8, number: u32, position: u32) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&number.to_be_bytes());
    if kind == ITEM {
        key.extend_from_slice(&position.to_be_bytes());
    }
    key
}

/// A number, who wrote it, and some bytes that take room: rarely so many that they lie out of line.
pub fn value(number: i64, tag: u64, random: &mut Random) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.extend_from_slice(&tag.to_le_bytes());
    let filler = if random.percent(2) { random.between(3_000, 9_000) } else { random.below(500) };
    value.resize(16 + filler as usize, random.below(256) as u8);
    value
}

/// Of a value.
pub fn number(value: &[u8]) -> i64 {
    i64::from_le_bytes(value[..8].try_into().expect("eight bytes"))
}

/// A list's value: how long it is, what stands in it, and sometimes so many bytes that it lies out of line.
pub fn list_value(list: &[u64], random: &mut Random) -> Vec<u8> {
    let mut value = (list.len() as u64).to_le_bytes().to_vec();
    list.iter().for_each(|one| value.extend_from_slice(&one.to_le_bytes()));
    let filler = if random.percent(2) { random.between(3_000, 9_000) } else { 0 };
    value.resize(value.len() + filler as usize, random.below(256) as u8);
    value
}

/// Of such a value.
pub fn list(value: &[u8]) -> Vec<u64> {
    let mut numbers = value.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
    let length = numbers.next().expect("a list has a length") as usize;
    numbers.take(length).collect()
}

/// The newest pages, and the batches that change them.
pub struct Tables {
    pages: BTreeMap<PageNo, Box<Page>>,
    encoder: BatchEncoder,
    touched: BTreeSet<PageNo>,
}

/// Rows to be put, or deleted.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl Tables {
    /// Begins at an LSN with the pages as of there.
    pub fn new(begin: Lsn, pages: &BTreeMap<PageNo, Arc<Page>>) -> Tables {
        let pages = pages.iter().map(|(page_no, page)| (*page_no, Box::new(Page::clone(page)))).collect();
        Tables { pages, encoder: BatchEncoder::new(begin, MIN_PART_BYTES), touched: BTreeSet::new() }
    }

    /// Some transactions, cut where an append may be cut.
    pub fn group(&mut self, now: u64, random: &mut Random) -> Vec<Bytes> {
        let batches = random.between(1, 3);
        for _ in 0..batches {
            let is_new = self.pages.is_empty();
            // A compute may have made the pages and no rows yet.
            let has_rows = !is_new && self.read(&key(NODE, 0, 0)).is_some();
            let writes = if has_rows { self.transaction(random) } else { begun(random) };
            self.encoder.begin();
            if is_new {
                meta::initialize(self).expect("no page is there");
            }
            let rows = writes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
            write_sorted(self, TREE, rows).expect("all pages are at hand");
            let span = self.encoder.finish(now * 1000);
            for page_no in std::mem::take(&mut self.touched) {
                self.pages.get_mut(&page_no).expect("it was changed").set_lsn(span.end_lsn);
            }
        }
        let (_, bytes, cuts) = self.encoder.take(Vec::new());
        let bytes = Bytes::from(bytes);
        if bytes.len() <= MIN_PART_BYTES {
            return vec![bytes];
        }
        let ends = cuts.iter().copied().skip(1).chain([bytes.len()]);
        cuts.iter().zip(ends).map(|(start, end)| bytes.slice(*start..end)).collect()
    }

    fn read(&self, key: &[u8]) -> Option<i64> {
        let found = get(&self, TREE, key).expect("all pages are at hand");
        found.map(|value| number(&value))
    }

    fn transaction(&self, random: &mut Random) -> Writes {
        let mut writes = Writes::new();
        match random.below(10) {
            0..=4 => self.transfer(random, &mut writes),
            5 => self.open_or_close(random, &mut writes),
            6..=7 => self.move_node(random, &mut writes),
            _ => self.append(random, &mut writes),
        }
        if writes.is_empty() {
            self.append(random, &mut writes);
        }
        writes
    }

    fn account(&self, random: &mut Random) -> (Vec<u8>, i64) {
        loop {
            let key = key(ACCOUNT, random.below(u64::from(MOST_ACCOUNTS)) as u32, 0);
            if let Some(balance) = self.read(&key) {
                return (key, balance);
            }
        }
    }

    fn transfer(&self, random: &mut Random, writes: &mut Writes) {
        let ((from, has), (to, had)) = (self.account(random), self.account(random));
        if from != to {
            let amount = random.below(50) as i64;
            writes.insert(from, Some(value(has - amount, 0, random)));
            writes.insert(to, Some(value(had + amount, 0, random)));
        }
    }

    /// An account begins with nothing, or one gives all it has to another and goes.
    fn open_or_close(&self, random: &mut Random, writes: &mut Writes) {
        let new = key(ACCOUNT, random.below(u64::from(MOST_ACCOUNTS)) as u32, 0);
        match self.read(&new) {
            None => drop(writes.insert(new, Some(value(0, 0, random)))),
            Some(left) => {
                let (to, had) = self.account(random);
                if to != new {
                    writes.insert(new, None);
                    writes.insert(to, Some(value(had + left, 0, random)));
                }
            }
        }
    }

    /// `a → b → c` and `d → e` become `a → c` and `d → b → e`.
    fn move_node(&self, random: &mut Random, writes: &mut Writes) {
        let next = |node: u32| self.read(&key(NODE, node, 0)).expect("nodes stay") as u32;
        let a = random.below(u64::from(NODES)) as u32;
        let d = random.below(u64::from(NODES)) as u32;
        let b = next(a);
        if a == d || b == d {
            return;
        }
        let (c, e) = (next(b), next(d));
        for (node, follower) in [(a, c), (d, b), (b, e)] {
            writes.insert(key(NODE, node, 0), Some(value(i64::from(follower), 0, random)));
        }
    }

    fn append(&self, random: &mut Random, writes: &mut Writes) {
        let list = random.below(u64::from(LISTS)) as u32;
        let mut cursor = Cursor::new(self, TREE);
        let last = cursor.seek_below(&key(ITEM, list + 1, 0)).expect("all pages are at hand");
        let before = cursor.key()[..5] == key(ITEM, list, 0)[..5];
        let position = if last && before { number(cursor.value()) as u32 + 1 } else { 0 };
        writes.insert(key(ITEM, list, position), Some(value(i64::from(position), 0, random)));
    }
}

/// What every database begins with.
pub fn begun(random: &mut Random) -> Writes {
    let account = |account: u32| (key(ACCOUNT, account, 0), 1_000);
    let node = |node: u32| (key(NODE, node, 0), i64::from((node + 1) % NODES));
    let rows = (0..ACCOUNTS).map(account).chain((0..NODES).map(node));
    rows.map(|(key, number)| (key, Some(value(number, 0, random)))).collect()
}

impl PageWriter for Tables {
    type Error = TreeError;

    fn resident(&self, page: PageNo) -> Option<&Page> {
        self.pages.get(&page).map(|page| &**page)
    }

    fn apply(&mut self, page: PageNo, op: &RedoOp<'_>) -> Result<(), TreeError> {
        self.encoder.push(page, op);
        self.touched.insert(page);
        let changed = self.pages.entry(page).or_insert_with(Page::unused);
        redo(changed, op).map_err(|error| TreeError::Damaged { tree: changed.tree(), page, reason: error.0 })
    }
}

impl PageReader for Tables {
    type Error = TreeError;
    type Ref<'a> = &'a Page;
    type Owned = Box<Page>;

    fn page(&self, page: PageNo) -> Result<&Page, TreeError> {
        self.latest(page)
    }

    fn page_owned(&self, page: PageNo) -> Result<Box<Page>, TreeError> {
        self.latest(page).cloned().map(Box::new)
    }
}

/// Pages as of one LSN, as far as they have been fetched.
#[derive(Default)]
pub struct Fetched(pub BTreeMap<PageNo, Box<Page>>);

impl PageReader for Fetched {
    type Error = TreeError;
    type Ref<'a> = &'a Page;
    type Owned = Box<Page>;

    fn page(&self, page: PageNo) -> Result<&Page, TreeError> {
        self.0.get(&page).map(|page| &**page).ok_or(TreeError::NotResident { page })
    }

    fn page_owned(&self, page: PageNo) -> Result<Box<Page>, TreeError> {
        self.page(page).cloned().map(Box::new)
    }
}

/// Checks a database as of one LSN: its trees, its page space, its rows. An error: a page is missing. What is wrong panics.
pub fn check(pages: &Fetched, at: &str) -> Result<Rows, TreeError> {
    let mut used = Vec::new();
    for tree in [TREE, UPKEEP_TREE] {
        let report = check_tree(pages, tree)?;
        assert!(report.problems.is_empty(), "{at}: tree {tree}: {:?}", report.problems);
        used.extend(report.pages);
    }
    let problems = check_space(pages, used)?;
    assert!(problems.is_empty(), "{at}: page space: {problems:?}");
    let mut rows = Rows::default();
    let mut cursor = Cursor::new(pages, TREE);
    let mut on_row = cursor.seek_first()?;
    while on_row {
        rows.add(cursor.key(), cursor.value(), at);
        on_row = cursor.next_row()?;
    }
    rows.check(at);
    Ok(rows)
}

/// The rows of one database as of one LSN, in their order.
#[derive(Default)]
pub struct Rows {
    sum: i64,
    ring: BTreeMap<u32, u32>,
    lists: BTreeMap<u32, u32>,
    /// Who appended the items.
    pub tags: BTreeSet<u64>,
    /// Lists of [`super::lists`].
    pub histories: BTreeMap<u32, Vec<u64>>,
}

impl Rows {
    /// The next row.
    pub fn add(&mut self, row: &[u8], value: &[u8], at: &str) {
        let part = |from: usize| u32::from_be_bytes(row[from..from + 4].try_into().expect("four bytes"));
        let found = number(value);
        match row[0] {
            LIST => drop(self.histories.insert(part(1), list(value))),
            ACCOUNT => self.sum += found,
            NODE => drop(self.ring.insert(part(1), found as u32)),
            _ => {
                let length = self.lists.entry(part(1)).or_default();
                assert_eq!((part(5), found as u32), (*length, *length), "{at}: list {} has a gap", part(1));
                *length += 1;
                let tag = u64::from_le_bytes(value[8..16].try_into().expect("eight bytes"));
                assert!(tag == 0 || self.tags.insert(tag), "{at}: {tag} has appended twice");
            }
        }
    }

    /// After the last: whether they fit together.
    pub fn check(&self, at: &str) {
        if self.ring.is_empty() && self.lists.is_empty() && self.sum == 0 {
            // Nobody has begun yet.
            return;
        }
        assert_eq!(self.sum, SUM, "{at}: the sum of all accounts");
        let (mut node, mut passed) = (0, BTreeSet::new());
        while passed.insert(node) {
            node = self.ring[&node];
        }
        assert_eq!((node, passed.len()), (0, NODES as usize), "{at}: the ring {:?}", self.ring);
    }
}
