//! Records not yet in a layer, by page, in memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;
use storage::manifest::TimeMark;
use storage::{Lsn, PageNo};

use crate::decode::PageBatch;

/// Bookkeeping that a record is charged with besides its bytes.
const RECORD_OVERHEAD_BYTES: usize = 40;
/// Records' bytes are held in pieces of at least this length.
const ARENA_BYTES: usize = 256 << 10;
/// Of the commits of so long a time the last one's is noted: a mark tells where the log stood, also when nothing was
/// committed for long after it.
const MARK_DISTANCE_US: u64 = 500_000;

/// One page's record: the end of its batch, and its bytes.
pub type BufferedRecord = (Lsn, Bytes);

/// Page numbers are counted up, by nobody who means harm: one multiplication spreads them.
#[derive(Clone, Copy, Debug, Default)]
struct PageHasher(u64);

impl Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 32;
    }
}

/// Where a record's bytes lie.
#[derive(Clone, Copy, Debug)]
struct Place {
    lsn: Lsn,
    arena: u32,
    begin: u32,
    length: u32,
}

#[derive(Debug, Default)]
struct Contents {
    pages: HashMap<PageNo, Vec<Place>, BuildHasherDefault<PageHasher>>,
    arenas: Vec<Vec<u8>>,
    bytes: usize,
    end_lsn: Lsn,
    marks: Vec<TimeMark>,
    /// Commit time of the first batch that the last mark stands for.
    marked_from_us: u64,
}

impl Contents {
    fn bytes_of(&self, place: &Place) -> &[u8] {
        let begin = place.begin as usize;
        &self.arenas[place.arena as usize][begin..begin + place.length as usize]
    }

    fn keep(&mut self, lsn: Lsn, bytes: &[u8]) -> Place {
        let fits = |arena: &Vec<u8>| arena.len() + bytes.len() <= arena.capacity();
        if !self.arenas.last().is_some_and(fits) {
            self.arenas.push(Vec::with_capacity(ARENA_BYTES.max(bytes.len())));
        }
        let number = self.arenas.len() - 1;
        let arena = &mut self.arenas[number];
        let begin = arena.len();
        arena.extend_from_slice(bytes);
        let short = |number: usize| u32::try_from(number).expect("records and buffers are limited");
        Place { lsn, arena: short(number), begin: short(begin), length: short(bytes.len()) }
    }

    fn mark(&mut self, mark: TimeMark) {
        let within = mark.commit_time_us < self.marked_from_us.saturating_add(MARK_DISTANCE_US);
        match self.marks.last_mut() {
            Some(last) if within => *last = mark,
            _ => {
                self.marks.push(mark);
                self.marked_from_us = mark.commit_time_us;
            }
        }
    }
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

    /// Takes a whole batch. Returns the memory held.
    pub fn insert(&self, batch: &PageBatch) -> usize {
        let PageBatch { end_lsn, commit_time_us, .. } = *batch;
        let mut contents = self.contents.write();
        assert!(end_lsn > contents.end_lsn, "batch ending at {end_lsn} after {}", contents.end_lsn);
        contents.mark(TimeMark { lsn: end_lsn, commit_time_us });
        for (page, bytes) in batch.records() {
            let place = contents.keep(end_lsn, bytes);
            contents.bytes += bytes.len() + RECORD_OVERHEAD_BYTES;
            contents.pages.entry(page).or_default().push(place);
        }
        contents.end_lsn = end_lsn;
        contents.bytes
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

    /// A page's records with `above < LSN ≤ up_to`, oldest first. They share one allocation of their own.
    pub fn records(&self, page: PageNo, above: Option<Lsn>, up_to: Lsn) -> Vec<BufferedRecord> {
        let contents = self.contents.read();
        let Some(places) = contents.pages.get(&page) else { return Vec::new() };
        let from = above.map_or(0, |above| places.partition_point(|place| place.lsn <= above));
        let to = places.partition_point(|place| place.lsn <= up_to).max(from);
        let mut arena = BytesMut::with_capacity(places[from..to].iter().map(|place| place.length as usize).sum());
        let mut records = Vec::with_capacity(to - from);
        for place in &places[from..to] {
            arena.extend_from_slice(contents.bytes_of(place));
            records.push((place.lsn, arena.split().freeze()));
        }
        records
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
