//! Records not yet in a layer, by page, in memory.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;
use storage::manifest::TimeMark;
use storage::{Lsn, PageNo};

use crate::decode::{PageBatch, PageBatches};

/// Bookkeeping that a record is charged with besides its bytes.
const RECORD_OVERHEAD_BYTES: usize = 24;
/// The same for a page.
const PAGE_OVERHEAD_BYTES: usize = 96;
/// Records' bytes are held in pieces of this length; a longer record has a piece of its own.
const ARENA_BYTES: usize = 1 << BEGIN_BITS;
const BEGIN_BITS: u32 = 18;
/// A record's longest is 1 MiB.
const LENGTH_BITS: u32 = 21;
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
    /// Arena, begin within it, length: there are as many of these as records.
    packed: u64,
}

impl Place {
    fn new(lsn: Lsn, arena: usize, begin: usize, length: usize) -> Place {
        assert!(length < 1 << LENGTH_BITS && begin < 1 << BEGIN_BITS, "record of {length} bytes at {begin}");
        let packed = ((arena as u64) << BEGIN_BITS | begin as u64) << LENGTH_BITS | length as u64;
        assert!(packed >> (BEGIN_BITS + LENGTH_BITS) == arena as u64, "{arena} pieces in one buffer");
        Place { lsn, packed }
    }

    fn arena(self) -> usize {
        (self.packed >> (BEGIN_BITS + LENGTH_BITS)) as usize
    }

    fn begin(self) -> usize {
        (self.packed >> LENGTH_BITS) as usize & (ARENA_BYTES - 1)
    }

    fn length(self) -> usize {
        self.packed as usize & ((1 << LENGTH_BITS) - 1)
    }
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
    /// The latest commit time so far, in this buffer or before.
    latest_us: u64,
}

impl Contents {
    fn bytes_of(&self, place: &Place) -> &[u8] {
        let begin = place.begin();
        &self.arenas[place.arena()][begin..begin + place.length()]
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
        Place::new(lsn, number, begin, bytes.len())
    }

    fn insert(&mut self, batch: PageBatch<'_>) {
        let PageBatch { end_lsn, commit_time_us, .. } = batch;
        assert!(end_lsn > self.end_lsn, "batch ending at {end_lsn} after {}", self.end_lsn);
        self.mark(TimeMark { lsn: end_lsn, commit_time_us });
        for (page, bytes) in batch.records() {
            let place = self.keep(end_lsn, bytes);
            self.bytes += bytes.len() + RECORD_OVERHEAD_BYTES;
            let Contents { pages, bytes: held_bytes, .. } = self;
            let places = pages.entry(page).or_insert_with(|| {
                *held_bytes += PAGE_OVERHEAD_BYTES;
                Vec::new()
            });
            places.push(place);
        }
        self.end_lsn = end_lsn;
    }

    /// Times never go back here: who commits after another does so later, whatever its clock says. So each time has one place in
    /// the log, and no branch of a time holds what clocks say was made after it.
    fn mark(&mut self, mark: TimeMark) {
        self.latest_us = self.latest_us.max(mark.commit_time_us);
        let mark = TimeMark { commit_time_us: self.latest_us, ..mark };
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

/// A page's records, in memory that is used again for the next page's.
#[derive(Debug, Default)]
pub struct RecordCopy {
    bytes: Vec<u8>,
    /// With where they end in `bytes`.
    ends: Vec<(Lsn, usize)>,
}

impl RecordCopy {
    /// The records, oldest first.
    pub fn records(&self) -> impl Iterator<Item = (Lsn, &[u8])> {
        let begins = [0].into_iter().chain(self.ends.iter().map(|(_, end)| *end));
        self.ends.iter().zip(begins).map(|((lsn, end), begin)| (*lsn, &self.bytes[begin..*end]))
    }

    /// Number of the last record for which something holds.
    pub fn last_where(&self, holds: impl Fn(&[u8]) -> bool) -> Option<usize> {
        let begin = |number: usize| number.checked_sub(1).map_or(0, |before| self.ends[before].1);
        (0..self.ends.len()).rev().find(|&number| holds(&self.bytes[begin(number)..self.ends[number].1]))
    }
}

/// All records with `start < LSN ≤ end`. Filled by one ingester while many read; once frozen it no longer changes.
#[derive(Debug)]
pub struct RecordBuffer {
    start_lsn: Lsn,
    contents: RwLock<Contents>,
}

impl RecordBuffer {
    /// Empty, for records above `start_lsn`, up to which the latest commit time was `latest_us`.
    pub fn new(start_lsn: Lsn, latest_us: u64) -> RecordBuffer {
        let contents = Contents { end_lsn: start_lsn, latest_us, ..Contents::default() };
        RecordBuffer { start_lsn, contents: RwLock::new(contents) }
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

    /// Takes whole batches. Returns the memory held. Several at a time cost less than each by itself: between two locks, what is
    /// written to pages that are not in the processor's cache has to arrive.
    pub fn insert(&self, batches: &PageBatches) -> usize {
        let mut contents = self.contents.write();
        batches.batches().for_each(|batch| contents.insert(batch));
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

    /// The latest commit time so far.
    pub fn latest_us(&self) -> u64 {
        self.contents.read().latest_us
    }

    /// A page's records with `above < LSN ≤ up_to`, oldest first. They share one allocation of their own.
    pub fn records(&self, page: PageNo, above: Option<Lsn>, up_to: Lsn) -> Vec<BufferedRecord> {
        let contents = self.contents.read();
        let Some(places) = contents.pages.get(&page) else { return Vec::new() };
        let from = above.map_or(0, |above| places.partition_point(|place| place.lsn <= above));
        let to = places.partition_point(|place| place.lsn <= up_to).max(from);
        let mut arena = BytesMut::with_capacity(places[from..to].iter().map(|place| place.length()).sum());
        let mut records = Vec::with_capacity(to - from);
        for place in &places[from..to] {
            arena.extend_from_slice(contents.bytes_of(place));
            records.push((place.lsn, arena.split().freeze()));
        }
        records
    }

    /// Copies all records of a page, oldest first, in place of what `copy` holds: who writes a layer asks for every page.
    pub fn copy_records(&self, page: PageNo, copy: &mut RecordCopy) {
        copy.bytes.clear();
        copy.ends.clear();
        let contents = self.contents.read();
        for place in contents.pages.get(&page).into_iter().flatten() {
            copy.bytes.extend_from_slice(contents.bytes_of(place));
            copy.ends.push((place.lsn, copy.bytes.len()));
        }
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
