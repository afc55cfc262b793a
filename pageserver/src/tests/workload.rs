//! Random batches, and what every page is as of every LSN according to direct replay.

use std::collections::BTreeMap;

use bytes::Bytes;
use storage::batch::BatchEncoder;
use storage::page::{EntryBytes, Page};
use storage::record::RedoOp;
use storage::redo::redo;
use storage::{BranchId, Epoch, Lsn, PageNo, TreeId};

use super::fake_log::FakeLog;

pub const BRANCH: BranchId = BranchId(3);

/// Splitmix64: the same seed gives the same workload.
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

/// Writes a log and remembers all versions of all pages.
pub struct Workload {
    pub branch: BranchId,
    /// LSN at which the branch's own log begins.
    begin: Lsn,
    commit_time_us: u64,
    pub random: Random,
    encoder: BatchEncoder,
    pages: BTreeMap<PageNo, Box<Page>>,
    versions: BTreeMap<PageNo, Vec<(Lsn, Bytes)>>,
    page_space: u64,
    pub end: Lsn,
    /// When each batch was committed, with its end.
    commits: Vec<(u64, Lsn)>,
}

impl Workload {
    pub fn new(seed: u64, page_space: u64) -> Workload {
        Workload {
            branch: BRANCH,
            begin: Lsn::ZERO,
            commit_time_us: 1,
            random: Random(seed),
            encoder: BatchEncoder::new(Lsn::ZERO, storage::batch::MIN_PART_BYTES),
            pages: BTreeMap::new(),
            versions: BTreeMap::new(),
            page_space,
            end: Lsn::ZERO,
            commits: Vec::new(),
        }
    }

    /// Appends `batches` transactions to the log, several to a chunk.
    pub fn run(&mut self, log: &FakeLog, batches: usize) {
        for number in 0..batches {
            self.batch();
            if number + 1 == batches || self.random.below(3) == 0 {
                let (start, bytes, _) = self.encoder.take(Vec::new());
                log.push(self.branch, Lsn(start.since(self.begin)), Epoch(1), Bytes::from(bytes));
            }
        }
    }

    fn batch(&mut self) {
        self.encoder.begin();
        let mut touched = Vec::new();
        // Some batches are long enough to be continued in further parts.
        let operations = if self.random.below(40) == 0 { 400 } else { 1 + self.random.below(8) };
        for _ in 0..operations {
            let page = PageNo(1 + self.random.below(self.page_space));
            self.operation(page);
            touched.push(page);
        }
        self.commit_time_us += 100_000;
        let span = self.encoder.finish(self.commit_time_us);
        self.end = span.end_lsn;
        self.commits.push((self.commit_time_us, self.end));
        for page_no in touched {
            let page = self.pages.get_mut(&page_no).expect("touched");
            page.set_lsn(span.end_lsn);
            let versions = self.versions.entry(page_no).or_default();
            if versions.last().is_none_or(|(lsn, _)| *lsn < span.end_lsn) {
                versions.push((span.end_lsn, page.seal(self.branch, page_no)));
            }
        }
    }

    fn operation(&mut self, page_no: PageNo) {
        let page = self.pages.entry(page_no).or_insert_with(Page::unused);
        let key = self.random.below(1 << 20).to_be_bytes();
        let value = vec![self.random.below(256) as u8; self.random.below(400) as usize];
        let format = RedoOp::Format { level: 0, flags: 0, tree: TreeId(PageNo(1)), prefix: b"" };
        let copy = page.clone();
        let slots = if page.is_slotted() { page.slot_count() as u64 } else { 0 };
        let op = match self.random.below(30) {
            _ if !page.is_slotted() => format,
            0 => RedoOp::image_of(&copy),
            1 => format,
            2..=9 if slots > 0 => {
                let slot = self.random.below(slots) as u16;
                RedoOp::Update { slot, value: &value, out_of_line: false }
            }
            10..=12 if slots > 0 => RedoOp::Delete { slot: self.random.below(slots) as u16, count: 1 },
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

    /// The workload of a branch that leaves this one at an LSN.
    pub fn branched(&self, branch: BranchId, at: Lsn, seed: u64) -> Workload {
        let mut child = Workload::new(seed, self.page_space);
        (child.branch, child.begin, child.end, child.commit_time_us) = (branch, at, at, self.commit_time_us);
        child.encoder = BatchEncoder::new(at, storage::batch::MIN_PART_BYTES);
        for (page_no, versions) in &self.versions {
            let open = |bytes: &Bytes| Page::open(bytes, self.branch, *page_no).expect("sealed by this workload");
            let seen = versions.iter().filter(|(lsn, _)| *lsn <= at);
            let seen: Vec<_> = seen.map(|(lsn, bytes)| (*lsn, open(bytes).seal(branch, *page_no))).collect();
            if let Some((_, last)) = seen.last() {
                let page = Page::open(last, branch, *page_no).expect("just sealed");
                child.pages.insert(*page_no, page);
                child.versions.insert(*page_no, seen);
            }
        }
        child
    }

    /// End of the last batch that was committed by a time.
    pub fn committed(&self, time_us: u64) -> Option<Lsn> {
        let later = self.commits.partition_point(|(time, _)| *time <= time_us);
        Some(self.commits[later.checked_sub(1)?].1)
    }

    /// LSN and commit time of the last batch.
    pub fn last_commit(&self) -> (Lsn, u64) {
        (self.end, self.commit_time_us)
    }

    /// The page as of an LSN.
    pub fn expected(&self, page: PageNo, at: Lsn) -> Option<(Lsn, Bytes)> {
        let versions = self.versions.get(&page)?;
        let newer = versions.partition_point(|(lsn, _)| *lsn <= at);
        Some(versions[newer.checked_sub(1)?].clone())
    }

    /// A page, which may never have been written.
    pub fn any_page(&mut self) -> PageNo {
        PageNo(1 + self.random.below(self.page_space + 2))
    }
}
