//! Batches that change pages at random, as a compute's would: they continue from the pages as of where an epoch begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use storage::batch::{BatchEncoder, MIN_PART_BYTES};
use storage::page::{EntryBytes, Page};
use storage::record::RedoOp;
use storage::redo::redo;
use storage::{Lsn, PageNo, TreeId};

use crate::random::Random;

/// Pages that a branch uses.
const PAGE_SPACE: u64 = 40;

/// See the module.
pub struct PageWorkload {
    encoder: BatchEncoder,
    pages: BTreeMap<PageNo, Box<Page>>,
}

impl PageWorkload {
    /// Begins at an LSN with the pages as of there.
    pub fn new(begin: Lsn, pages: &BTreeMap<PageNo, Arc<Page>>) -> PageWorkload {
        let pages = pages.iter().map(|(page_no, page)| (*page_no, Box::new(Page::clone(page)))).collect();
        PageWorkload { encoder: BatchEncoder::new(begin, MIN_PART_BYTES), pages }
    }

    /// Some batches, cut where an append may be cut. A long batch is cut inside: its parts come one by one.
    pub fn group(&mut self, now: u64, random: &mut Random) -> Vec<Bytes> {
        let is_long = random.percent(2);
        let batches = if is_long { 1 } else { random.between(1, 3) };
        for _ in 0..batches {
            let operations = if is_long { random.between(200, 700) } else { random.between(1, 8) };
            self.batch(now, operations, random);
        }
        let (_, bytes, cuts) = self.encoder.take(Vec::new());
        let bytes = Bytes::from(bytes);
        if bytes.len() <= MIN_PART_BYTES {
            return vec![bytes];
        }
        let ends = cuts.iter().copied().skip(1).chain([bytes.len()]);
        cuts.iter().zip(ends).map(|(start, end)| bytes.slice(*start..end)).collect()
    }

    fn batch(&mut self, now: u64, operations: u64, random: &mut Random) {
        self.encoder.begin();
        let mut touched = Vec::new();
        for _ in 0..operations {
            // Some pages are used more than others.
            let space = if random.percent(50) { PAGE_SPACE / 8 } else { PAGE_SPACE };
            let page_no = PageNo(1 + random.below(space));
            self.operation(page_no, random);
            touched.push(page_no);
        }
        let span = self.encoder.finish(now * 1000);
        for page_no in touched {
            self.pages.get_mut(&page_no).expect("it was changed").set_lsn(span.end_lsn);
        }
    }

    fn operation(&mut self, page_no: PageNo, random: &mut Random) {
        let page = self.pages.entry(page_no).or_insert_with(Page::unused);
        let key = random.below(1 << 20).to_be_bytes();
        let value = vec![random.below(256) as u8; random.below(400) as usize];
        let format = RedoOp::Format { level: 0, flags: 0, tree: TreeId(PageNo(1)), prefix: b"" };
        let copy = page.clone();
        let slots = if page.is_slotted() { page.slot_count() as u64 } else { 0 };
        let op = match random.below(30) {
            _ if !page.is_slotted() => format,
            0 => RedoOp::image_of(&copy),
            1 => format,
            2..=9 if slots > 0 => {
                RedoOp::Update { slot: random.below(slots) as u16, value: &value, out_of_line: false }
            }
            10..=12 if slots > 0 => RedoOp::Delete { slot: random.below(slots) as u16, count: 1 },
            _ => {
                let slot = page.search(&key).unwrap_or_else(|slot| slot) as u16;
                RedoOp::Insert { slot, entry: EntryBytes { suffix: &key, value: &value, out_of_line: false } }
            }
        };
        let mut changed = page.clone();
        let op = match redo(&mut changed, &op) {
            Ok(()) => op,
            // Full, or a key that is there already.
            Err(_) => {
                redo(&mut changed, &format).expect("any page can be formatted");
                format
            }
        };
        *page = changed;
        self.encoder.push(page_no, &op);
    }
}
