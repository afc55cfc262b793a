//! Trees, redo and the log format, on one core: `cargo bench -p alluvium-storage --bench tree`.
//!
//! Prints one line a measurement. `ALLUVIUM_BENCH_ROWS` (default 5,000,000) sets the size of the table;
//! the measurements stand for warm memory, so it must fit.

#![allow(clippy::disallowed_methods)]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use storage::batch::{BatchDecoder, BatchEncoder, DEFAULT_PART_BYTES};
use storage::btree::{
    Cursor, PageReader, PageWriter, TreeError, apply_sorted, check_tree, get, get_many, prepare, write_sorted,
};
use storage::bulk::{BulkBuilder, BulkSink};
use storage::page::Page;
use storage::record::RedoOp;
use storage::redo::redo;
use storage::{Epoch, Lsn, PageNo, TreeId, meta};

/// An array of pages at their latest version, and the batch being written.
struct Pages {
    pages: Vec<Page>,
    encoder: BatchEncoder,
    touched: Vec<PageNo>,
}

impl Pages {
    fn new(reserve: usize) -> Self {
        let mut pages = Vec::with_capacity(reserve);
        pages.resize_with(reserve, Page::default);
        let mut new = Self { pages, encoder: BatchEncoder::new(Lsn::ZERO, DEFAULT_PART_BYTES), touched: Vec::new() };
        new.commit(meta::initialize);
        new
    }

    fn commit<T>(&mut self, change: impl FnOnce(&mut Self) -> Result<T, TreeError>) -> T {
        self.encoder.begin();
        let result = change(self).expect("the change is sound");
        let end = self.encoder.finish(0).end_lsn;
        for page in self.touched.drain(..) {
            self.pages[page.0 as usize].set_lsn(end);
        }
        result
    }
}

impl PageReader for Pages {
    type Error = TreeError;
    type Ref<'a> = &'a Page;
    type Owned = Box<Page>;

    fn page(&self, page: PageNo) -> Result<&Page, TreeError> {
        self.pages.get(page.0 as usize).ok_or(TreeError::NotResident { page })
    }

    fn page_owned(&self, page: PageNo) -> Result<Box<Page>, TreeError> {
        self.page(page).map(|page| Box::new(page.clone()))
    }
}

impl PageWriter for Pages {
    type Error = TreeError;

    fn resident(&self, page: PageNo) -> Option<&Page> {
        self.pages.get(page.0 as usize)
    }

    fn apply(&mut self, page: PageNo, op: &RedoOp<'_>) -> Result<(), TreeError> {
        self.encoder.push(page, op);
        self.touched.push(page);
        let target = self.pages.get_mut(page.0 as usize).ok_or(TreeError::NotResident { page })?;
        redo(target, op).map_err(|error| TreeError::Inconsistent(error.0))
    }
}

impl BulkSink for Pages {
    type Error = TreeError;

    fn allocate(&mut self) -> Result<PageNo, TreeError> {
        PageWriter::allocate(self)
    }

    fn write(&mut self, page: PageNo, op: &RedoOp<'_>) -> Result<(), TreeError> {
        self.apply(page, op)
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }
}

fn key(number: u64) -> [u8; 9] {
    let mut key = [1; 9];
    key[1..].copy_from_slice(&(number ^ 1 << 63).to_be_bytes());
    key
}

fn row(number: u64, balance: i32) -> [u8; 36] {
    let mut row = [0; 36];
    row[..8].copy_from_slice(&number.to_le_bytes());
    row[8..12].copy_from_slice(&balance.to_le_bytes());
    row[12..].fill(b' ');
    row
}

/// CPU time of this thread where the system tells it (a busy machine must not look like slow code), else
/// time on the wall.
fn used_seconds(start: Instant) -> f64 {
    let on_cpu = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = on_cpu.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    nanoseconds.map_or_else(|| start.elapsed().as_secs_f64(), |nanoseconds| nanoseconds as f64 / 1e9)
}

fn report(what: &str, count: u64, unit: &str, work: impl FnOnce()) {
    let start = Instant::now();
    let before = used_seconds(start);
    work();
    let (seconds, wall) = (used_seconds(start) - before, start.elapsed().as_secs_f64());
    let (rate, each) = (count as f64 / seconds / 1e6, seconds * 1e9 / count as f64);
    println!("{what:<44} {rate:>8.2} M {unit}/s {each:>9.1} ns each ({wall:.1} s on the wall)");
}

fn load(pages: &mut Pages, rows: u64) -> TreeId {
    let tree = pages.commit(|pages| {
        let tree = TreeId(PageWriter::allocate(pages)?);
        pages.apply(tree.0, &RedoOp::Format { level: 0, flags: 0, tree, prefix: &[] })?;
        Ok(tree)
    });
    let mut builder = BulkBuilder::new(tree, 90);
    let mut number = 0;
    while number < rows {
        let until = (number + 100_000).min(rows);
        pages.commit(|pages| {
            for number in number..until {
                builder.push(pages, &key(number), &row(number, 0))?;
            }
            Ok(())
        });
        pages.encoder.take(Vec::new());
        number = until;
    }
    pages.commit(|pages| {
        let built = builder.finish(pages)?;
        pages.apply(tree.0, &built.attach_op())
    });
    pages.encoder.take(Vec::new());
    tree
}

fn main() {
    let rows: u64 = std::env::var("ALLUVIUM_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(5_000_000);
    let mut pages = Pages::new((rows as usize / 100).max(1000) * 13 / 10 + 20_000);
    let mut tree = TreeId::default();
    report("bulk build", rows, "rows", || tree = load(&mut pages, rows));
    let built = check_tree(&pages, tree).expect("readable");
    assert!(built.problems.is_empty() && built.rows == rows, "{:?}", built.problems.first());
    println!("{rows} rows, {} leaves, height {}", built.leaf_pages, built.height);

    let mut random = Random(42);
    let lookups = 4_000_000;
    for round in ["cold", "warm"] {
        report(&format!("point lookup, {round}"), lookups, "lookups", || {
            for _ in 0..lookups {
                let number = random.below(rows);
                let value = get(&pages, tree, &key(number)).expect("readable").expect("there");
                assert_eq!(value[..8], number.to_le_bytes());
            }
        });
    }
    report("batched lookup, 100 sorted keys nearby", lookups, "lookups", || {
        for _ in 0..lookups / 100 {
            let first = random.below(rows - 1000);
            let keys: Vec<[u8; 9]> = (0..100).map(|step| key(first + step * 10)).collect();
            let mut sum = 0;
            get_many(&pages, tree, keys.iter().map(|key| &key[..]), |_, value| sum += value.map_or(0, <[u8]>::len))
                .expect("readable");
            assert_eq!(sum, 3600);
        }
    });
    report("scan", rows, "rows", || {
        let mut cursor = Cursor::new(&pages, tree);
        let mut more = cursor.seek_first().expect("readable");
        let mut sum = 0_u64;
        while more {
            sum += u64::from(cursor.value()[0]) + u64::from(cursor.key()[8]);
            more = cursor.next_row().expect("readable");
        }
        black_box(sum);
    });

    // TPC-B-like: three small updates and one appended row a transaction.
    let history = load(&mut pages, 1);
    let small = load(&mut pages, 1000);
    let before = pages.pages.clone();
    let start_lsn = pages.encoder.end_lsn();
    let transactions = 500_000_u64;
    report("TPC-B-like transaction: prepare, apply, log", transactions, "transactions", || {
        for number in 0..transactions {
            let balance = random.below(1 << 30) as i32;
            let updates = [(tree, rows), (small, 1000), (small, 1000)];
            let mut writes = Vec::with_capacity(4);
            for (tree, rows) in updates {
                let number = random.below(rows);
                writes.push((tree, key(number), row(number, balance)));
            }
            writes.push((history, key(number + 1), row(number, balance)));
            pages.commit(|pages| {
                for (tree, key, row) in &writes {
                    let run = [(&key[..], Some(&row[..]))];
                    let prepared = prepare(pages, *tree, run)?;
                    apply_sorted(pages, &prepared, run)?;
                }
                Ok(())
            });
        }
    });
    let (_, log, _) = pages.encoder.take(Vec::new());
    println!("{} log bytes a transaction", log.len() as u64 / transactions);

    let mut decoder = BatchDecoder::new(start_lsn);
    let log = Bytes::from(log);
    report("batch decode", transactions, "batches", || {
        decoder.feed(start_lsn, Epoch(1), log.clone()).expect("sound");
    });
    let mut replayed = before;
    let batches: Vec<_> = std::iter::from_fn(|| decoder.next_batch()).collect();
    let records = batches.iter().map(|batch| batch.record_count).sum();
    report("redo, records decoded on the way", records, "records", || {
        for batch in &batches {
            for record in batch.records() {
                let record = record.expect("sound");
                let page = &mut replayed[record.page.0 as usize];
                redo(page, &record.op).expect("sound");
                page.set_lsn(batch.end_lsn);
            }
        }
    });
    assert!(replayed == pages.pages, "replay differs");

    let inserts = 500_000_u64;
    report("random insert, 10 a batch", inserts, "rows", || {
        for _ in 0..inserts / 10 {
            let mut numbers: Vec<u64> = (0..10).map(|_| random.below(1 << 62)).collect();
            numbers.sort_unstable();
            numbers.dedup();
            let rows: Vec<_> = numbers.iter().map(|&number| (key(number), row(number, 0))).collect();
            let writes = rows.iter().map(|(key, row)| (&key[..], Some(&row[..])));
            pages.commit(|pages| write_sorted(pages, history, writes));
        }
    });
    println!("{} log bytes a row", pages.encoder.buffered_bytes() as u64 / inserts);
}
