//! [`Sorter`]: any number of entries by key, in bounded memory.

use std::sync::Arc;

use super::{Merge, Run, RunWriter, SpillError, SpillSpace};

/// Runs read at once, a block of each in memory; beyond it they are first merged into longer ones.
const MERGE_RUNS: usize = 64;

/// An entry in the sorter's memory.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The key's first bytes, which decide most comparisons.
    head: u64,
    start: usize,
    key_len: u32,
    value_len: u32,
}

/// Collects entries in any order and gives them back by key; equal keys in the order in which they came.
#[derive(Debug)]
pub struct Sorter {
    space: Arc<SpillSpace>,
    limit_bytes: usize,
    bytes: Vec<u8>,
    places: Vec<Place>,
    runs: Vec<Arc<Run>>,
}

impl Sorter {
    /// At most `limit_bytes` in memory, and beyond it what the longest entry takes.
    pub fn new(limit_bytes: usize, space: Arc<SpillSpace>) -> Self {
        Self { space, limit_bytes, bytes: Vec::new(), places: Vec::new(), runs: Vec::new() }
    }

    /// Whether an entry of that many bytes goes to memory, with nothing on disk.
    pub fn has_room(&self, entry_bytes: usize) -> bool {
        self.runs.is_empty() && self.used_bytes() + entry_bytes + size_of::<Place>() <= self.limit_bytes
    }

    fn used_bytes(&self) -> usize {
        self.bytes.len() + self.places.len() * size_of::<Place>()
    }

    /// True when it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.runs.is_empty()
    }

    /// Adds an entry.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), SpillError> {
        let added = key.len() + value.len() + size_of::<Place>();
        if !self.places.is_empty() && self.used_bytes() + added > self.limit_bytes {
            self.spill()?;
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("keys and values are shorter than 4 GiB");
        let place = Place { head: head(key), start: self.bytes.len(), key_len: length(key), value_len: length(value) };
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.places.push(place);
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.places.sort_unstable_by(|a, b| {
            // What came first lies first.
            a.head.cmp(&b.head).then_with(|| key(bytes, a).cmp(key(bytes, b))).then(a.start.cmp(&b.start))
        });
    }

    fn spill(&mut self) -> Result<(), SpillError> {
        self.sort();
        let mut run = RunWriter::new(&self.space, None)?;
        for place in &self.places {
            run.push(key(&self.bytes, place), Some(value(&self.bytes, place)))?;
        }
        self.runs.push(Arc::new(run.finish()?));
        self.places.clear();
        self.bytes.clear();
        // An entry longer than all others is not paid for any longer.
        self.bytes.shrink_to(self.limit_bytes);
        Ok(())
    }

    /// What was added, by key.
    pub fn finish(mut self) -> Result<Sorted, SpillError> {
        if self.runs.is_empty() {
            self.sort();
            return Ok(Sorted(Inner::Memory { bytes: self.bytes, places: self.places, next: 0 }));
        }
        if !self.places.is_empty() {
            self.spill()?;
        }
        (self.bytes, self.places) = (Vec::new(), Vec::new());
        while self.runs.len() > MERGE_RUNS {
            let some: Vec<_> = self.runs.drain(..MERGE_RUNS.min(self.runs.len() - MERGE_RUNS + 1)).collect();
            let merged = Merge::of_runs(&some)?.into_run(&self.space, None, false)?;
            // Merged from the front and put at the front: equal keys keep their order.
            self.runs.insert(0, Arc::new(merged));
        }
        Ok(Sorted(Inner::Merge { merge: Merge::of_runs(&self.runs)?, started: false }))
    }
}

fn head(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    let length = key.len().min(8);
    head[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(head)
}

fn key<'a>(bytes: &'a [u8], place: &Place) -> &'a [u8] {
    &bytes[place.start..place.start + place.key_len as usize]
}

fn value<'a>(bytes: &'a [u8], place: &Place) -> &'a [u8] {
    let start = place.start + place.key_len as usize;
    &bytes[start..start + place.value_len as usize]
}

/// Entries by key.
#[derive(Debug)]
pub struct Sorted(Inner);

#[derive(Debug)]
enum Inner {
    Memory { bytes: Vec<u8>, places: Vec<Place>, next: usize },
    Merge { merge: Merge, started: bool },
}

impl Sorted {
    /// The next key and value.
    // Not an iterator: what it answers is borrowed.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<(&[u8], &[u8])>, SpillError> {
        match &mut self.0 {
            Inner::Memory { bytes, places, next } => {
                let Some(place) = places.get(*next) else { return Ok(None) };
                *next += 1;
                Ok(Some((key(bytes, place), value(bytes, place))))
            }
            Inner::Merge { merge, started } => {
                if std::mem::replace(started, true) {
                    merge.advance()?;
                }
                Ok(merge.entry().map(|(key, value)| (key, value.unwrap_or_default())))
            }
        }
    }
}
