//! A log like that of pgbench: a load, then transactions.

use storage::batch::{BatchEncoder, DEFAULT_PART_BYTES};
use storage::page::{EntryBytes, Page};
use storage::record::RedoOp;
use storage::redo::redo;
use storage::{Lsn, PageNo, TreeId};

use super::log::FileLog;

/// Splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ mixed >> 31) % limit
    }
}

/// Rows of an account page, of a branch, tellers of a branch.
const ROWS: u64 = 61;
const ACCOUNT_PAGES_OF_BRANCH: u64 = 1640;
const TELLERS: u64 = 10;
const GROUP_BYTES: usize = 256 << 10;

/// Pages: 1…: accounts; then branches and tellers, `ROWS` to a page; then history.
pub struct Workload {
    account_pages: u64,
    branches: u64,
    encoder: BatchEncoder,
    random: Random,
    history: Box<Page>,
    history_page: u64,
    pub transactions: u64,
    time_us: u64,
}

fn format() -> RedoOp<'static> {
    RedoOp::Format { level: 0, flags: 0, tree: TreeId(PageNo(1)), prefix: b"" }
}

fn insert<'a>(page: &Page, key: &'a [u8], value: &'a [u8]) -> RedoOp<'a> {
    let slot = page.search(key).unwrap_or_else(|slot| slot) as u16;
    RedoOp::Insert { slot, entry: EntryBytes { suffix: key, value, out_of_line: false } }
}

impl Workload {
    pub fn new(account_pages: u64) -> Workload {
        Workload {
            account_pages,
            branches: account_pages.div_ceil(ACCOUNT_PAGES_OF_BRANCH),
            encoder: BatchEncoder::new(Lsn::ZERO, DEFAULT_PART_BYTES),
            random: Random(7),
            history: Page::unused(),
            history_page: 0,
            transactions: 0,
            time_us: 0,
        }
    }

    pub fn account_pages(&self) -> u64 {
        self.account_pages
    }

    pub fn end(&self) -> Lsn {
        self.encoder.end_lsn()
    }

    fn first_history_page(&self) -> u64 {
        1 + self.account_pages + self.branches * (1 + TELLERS)
    }

    /// A page that has been written. While they are loaded, one of the first.
    pub fn any_page(&self, random: &mut Random, loading: bool) -> PageNo {
        let all = if loading { self.account_pages.min(500) } else { self.account_pages };
        match random.below(20) {
            0 if !loading => PageNo(1 + self.account_pages + random.below(self.branches * (1 + TELLERS))),
            1 if !loading => PageNo(self.first_history_page()),
            _ => PageNo(1 + random.below(all)),
        }
    }

    fn end_group(&mut self, log: &FileLog, least_bytes: usize) {
        if self.encoder.buffered_bytes() > least_bytes {
            let (start, bytes, _) = self.encoder.take(Vec::new());
            log.push(start, &bytes);
        }
    }

    /// Whole pages, as a bulk load logs them.
    pub fn load(&mut self, log: &FileLog) {
        let pages = self.account_pages + self.branches * (1 + TELLERS);
        let mut next = 1;
        while next <= pages {
            self.encoder.begin();
            for number in next..(next + 64).min(pages + 1) {
                let mut page = Page::unused();
                redo(&mut page, &format()).expect("an unused page can be formatted");
                for row in 0..if number <= self.account_pages { ROWS } else { 1 } {
                    let key = (number * ROWS + row).to_be_bytes();
                    // Branch, balance, filler.
                    let mut value = [b' '; 104];
                    value[..4].copy_from_slice(&((number / ACCOUNT_PAGES_OF_BRANCH) as u32).to_le_bytes());
                    value[4..8].copy_from_slice(&(self.random.below(1 << 32) as u32).to_le_bytes());
                    let record = insert(&page, &key, &value);
                    redo(&mut page, &record).expect("the row fits");
                }
                self.encoder.push(PageNo(number), &RedoOp::image_of(&page));
            }
            next += 64;
            self.time_us += 1000;
            self.encoder.finish(self.time_us);
            self.end_group(log, GROUP_BYTES);
        }
        self.end_group(log, 0);
    }

    /// Transactions that make so much log.
    pub fn transactions(&mut self, log: &FileLog, log_bytes: u64) {
        let until = self.end().0 + log_bytes;
        self.history_page = self.first_history_page() - 1;
        while self.end().0 < until {
            self.transaction();
            self.end_group(log, GROUP_BYTES);
        }
        self.end_group(log, 0);
    }

    fn transaction(&mut self) {
        self.encoder.begin();
        let account = 1 + self.random.below(self.account_pages);
        let branch = self.random.below(self.branches);
        let teller = self.branches + branch * TELLERS + self.random.below(TELLERS);
        let rows = [
            (account, self.random.below(ROWS)),
            (1 + self.account_pages + branch, 0),
            (1 + self.account_pages + teller, 0),
        ];
        for (page, slot) in rows {
            let balance = (self.random.below(1 << 32) as u32).to_le_bytes();
            let slot = slot as u16;
            self.encoder.push(PageNo(page), &RedoOp::Splice { slot, keep_front: 4, keep_back: 96, middle: &balance });
        }
        let key = self.transactions.to_be_bytes();
        let mut value = [0; 36];
        value[..8].copy_from_slice(&account.to_le_bytes());
        value[8..16].copy_from_slice(&self.time_us.to_le_bytes());
        value[16..20].copy_from_slice(&(self.random.below(1 << 32) as u32).to_le_bytes());
        let record = insert(&self.history, &key, &value);
        if !self.history.is_slotted() || redo(&mut self.history, &record).is_err() {
            self.history_page += 1;
            redo(&mut self.history, &format()).expect("any page can be formatted");
            self.encoder.push(PageNo(self.history_page), &format());
            let record = insert(&self.history, &key, &value);
            redo(&mut self.history, &record).expect("the row fits");
            self.encoder.push(PageNo(self.history_page), &record);
        } else {
            self.encoder.push(PageNo(self.history_page), &record);
        }
        self.time_us += 50;
        self.encoder.finish(self.time_us);
        self.transactions += 1;
    }
}
