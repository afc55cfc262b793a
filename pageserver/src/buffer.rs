//! Records not yet in a layer, by page, in memory.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::RwLock;
use storage::manifest::TimeMark;
use storage::{Lsn, PageNo};

/// Bookkeeping that a record is charged with besides its bytes.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// Of the commits of so long a time the last one's is noted: a mark tells where the log stood, also when nothing was
/// committed for long after it.
const MARK_DISTANCE_US: u64 = 500_000;

/// One page's record: the end of its batch, and its bytes.
pub type BufferedRecord = (Lsn, Bytes);

#[derive(Debug, Default)]
struct Contents {
    pages: HashMap<PageNo, Vec<BufferedRecord>>,
    bytes: usize,
    end_lsn: Lsn,
    marks: Vec<TimeMark>,
    /// Commit time of the first batch that the last mark stands for.
    marked_from_us: u64,
}

/// All records with `start < LSN ≤ end`. Filled by one ingester while many read; once frozen it no longer changes.
#[derive(Debug)]
pub struct RecordBuffer {
    start_lsn: Lsn,
    contents: RwLock<Contents>,
}

impl RecordBuffer {
    /// Empty, for records above `start_lsn`.
    pub fn new(start_lsn: Lsn) -> RecordBuffer {
        RecordBuffer { start_lsn, contents: RwLock::new(Contents { end_lsn: start_lsn, ..Contents::default() }) }
    }

    /// Records lie above this.
    pub fn start_lsn(&self) -> Lsn {
        self.start_lsn
    }

    /// Records lie at or below this.
    pub fn end_lsn(&self) -> Lsn {
        self.contents.read().end_lsn
    }

    /// Memory held, roughly.
    pub fn bytes(&self) -> usize {
        self.contents.read().bytes
    }

    /// Takes a whole batch that ends at `end_lsn`.
    pub fn insert(&self, mark: TimeMark, records: impl IntoIterator<Item = (PageNo, Bytes)>) {
        let end_lsn = mark.lsn;
        let mut contents = self.contents.write();
        assert!(end_lsn > contents.end_lsn, "batch ending at {end_lsn} after {}", contents.end_lsn);
        let within = mark.commit_time_us < contents.marked_from_us.saturating_add(MARK_DISTANCE_US);
        match contents.marks.last_mut() {
            Some(last) if within => *last = mark,
            _ => {
                contents.marks.push(mark);
                contents.marked_from_us = mark.commit_time_us;
            }
        }
        for (page, bytes) in records {
            contents.bytes += bytes.len() + RECORD_OVERHEAD_BYTES;
            contents.pages.entry(page).or_default().push((end_lsn, bytes));
        }
        contents.end_lsn = end_lsn;
    }

    /// Nothing more lies at or below `end_lsn`.
    pub fn advance(&self, end_lsn: Lsn) {
        let mut contents = self.contents.write();
        contents.end_lsn = contents.end_lsn.max(end_lsn);
    }

    /// When points of the log were committed, oldest first.
    pub fn marks(&self) -> Vec<TimeMark> {
        self.contents.read().marks.clone()
    }

    /// A page's records with `above < LSN ≤ up_to`, oldest first.
    pub fn records(&self, page: PageNo, above: Option<Lsn>, up_to: Lsn) -> Vec<BufferedRecord> {
        let contents = self.contents.read();
        let Some(records) = contents.pages.get(&page) else { return Vec::new() };
        let from = above.map_or(0, |above| records.partition_point(|(lsn, _)| *lsn <= above));
        let to = records.partition_point(|(lsn, _)| *lsn <= up_to);
        records.get(from..to).map(<[_]>::to_vec).unwrap_or_default()
    }

    /// Pages with at least this many records.
    pub fn hot_pages(&self, least_records: usize) -> Vec<PageNo> {
        let contents = self.contents.read();
        contents.pages.iter().filter(|(_, records)| records.len() >= least_records).map(|(page, _)| *page).collect()
    }

    /// Pages with records, in order.
    pub fn pages(&self) -> Vec<PageNo> {
        let mut pages: Vec<_> = self.contents.read().pages.keys().copied().collect();
        pages.sort_unstable();
        pages
    }
}
