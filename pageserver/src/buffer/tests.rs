//! From log to buffer and out again: every record, in order, whatever its length and however batches are taken together.

use logstore::client::LogChunk;
use logstore::filter::StreamPiece;
use storage::batch::{BatchEncoder, MIN_PART_BYTES};
use storage::record::{PageRun, Record, RedoOp};
use storage::{Epoch, Lsn, PageNo, TreeId};

use super::*;
use crate::decode::LogDecoder;

/// Lengths of records around those of the pieces that they are kept in.
const LENGTHS: [usize; 7] = [0, 1, 30, ARENA_BYTES - 40, ARENA_BYTES, ARENA_BYTES + 1, (1 << 20) - 64];

#[test]
fn every_record_comes_back() {
    let mut encoder = BatchEncoder::new(Lsn::ZERO, MIN_PART_BYTES);
    let mut expected: HashMap<PageNo, Vec<(Lsn, Vec<u8>)>> = HashMap::new();
    let mut ends = Vec::new();
    for number in 0..300_u64 {
        encoder.begin();
        let mut pushed = Vec::new();
        for page in [1 + number % 7, 100] {
            let length =
                if number % 40 == 0 { LENGTHS[(number / 40) as usize % LENGTHS.len()] } else { number as usize };
            let data = vec![number as u8; length];
            let tree = TreeId(PageNo(5));
            let op = RedoOp::Overflow { tree, next: None, pages: PageRun::new(&[]), data: &data };
            encoder.push(PageNo(page), &op);
            let mut bytes = Vec::new();
            Record { page: PageNo(page), op }.encode(&mut bytes);
            pushed.push((PageNo(page), bytes));
        }
        let end = encoder.finish(number * 1000).end_lsn;
        pushed.into_iter().for_each(|(page, bytes)| expected.entry(page).or_default().push((end, bytes)));
        ends.push(end);
    }
    let (start_lsn, bytes, _) = encoder.take(Vec::new());
    let until = ends[250];
    let mut decoder = LogDecoder::new(Lsn::ZERO);
    let chunk = LogChunk { start_lsn, epoch: Epoch(1), bytes: bytes.into() };
    decoder.feed(StreamPiece::Whole(chunk)).expect("sound");
    let (buffer, mut batches, mut rounds) = (RecordBuffer::new(Lsn::ZERO, 0), PageBatches::default(), 0);
    while decoder.next_batches(|page| page != PageNo(3), Some(until), &mut batches).expect("sound") {
        buffer.insert(&batches);
        rounds += 1;
    }
    buffer.insert(&batches);
    assert!(rounds > 3, "{rounds} rounds");
    assert_eq!(buffer.end_lsn(), until);
    expected.remove(&PageNo(3));
    let mut pages: Vec<_> = expected.keys().copied().collect();
    pages.sort_unstable();
    assert_eq!(buffer.pages(), pages);
    let mut copy = RecordCopy::default();
    for (page, mut records) in expected {
        records.retain(|(lsn, _)| *lsn <= until);
        buffer.copy_records(page, &mut copy);
        let copied: Vec<_> = copy.records().map(|(lsn, bytes)| (lsn, bytes.to_vec())).collect();
        assert!(copied == records, "page {page}");
        assert_eq!(copy.last_where(|bytes| bytes == records[1].1), Some(1));
        let (above, up_to) = (ends[20], ends[199]);
        let found: Vec<_> =
            buffer.records(page, Some(above), up_to).into_iter().map(|(lsn, bytes)| (lsn, bytes.to_vec())).collect();
        records.retain(|(lsn, _)| above < *lsn && *lsn <= up_to);
        assert!(found == records, "page {page} above {above} up to {up_to}");
    }
}

/// A compute whose clock is behind takes over from one whose clock was ahead: what it commits is later all the same.
#[test]
fn commit_times_do_not_go_back_with_a_clock() {
    const HOUR_US: u64 = 3_600_000_000;
    let mut encoder = BatchEncoder::new(Lsn::ZERO, MIN_PART_BYTES);
    let mut ends = Vec::new();
    for time_us in [HOUR_US, 2 * HOUR_US, HOUR_US + 5, HOUR_US + 10, 2 * HOUR_US + 1_000_000] {
        encoder.begin();
        encoder.push(PageNo(1), &RedoOp::Format { level: 0, flags: 0, tree: TreeId(PageNo(1)), prefix: b"" });
        ends.push(encoder.finish(time_us).end_lsn);
    }
    let (start_lsn, bytes, _) = encoder.take(Vec::new());
    let mut decoder = LogDecoder::new(Lsn::ZERO);
    decoder.feed(StreamPiece::Whole(LogChunk { start_lsn, epoch: Epoch(1), bytes: bytes.into() })).expect("sound");
    let mut batches = PageBatches::default();
    let marks = |latest_us: u64, batches: &PageBatches| {
        let buffer = RecordBuffer::new(Lsn::ZERO, latest_us);
        buffer.insert(batches);
        let marks: Vec<_> = buffer.marks().iter().map(|mark| (mark.lsn, mark.commit_time_us)).collect();
        assert_eq!(buffer.latest_us(), marks.last().expect("a mark").1);
        marks
    };
    decoder.next_batches(|_| true, None, &mut batches).expect("sound");
    let last = 2 * HOUR_US + 1_000_000;
    assert_eq!(marks(0, &batches), [(ends[0], HOUR_US), (ends[3], 2 * HOUR_US), (ends[4], last)]);
    // Nor from one buffer to the next.
    assert_eq!(marks(5 * HOUR_US, &batches), [(ends[4], 5 * HOUR_US)]);
}
