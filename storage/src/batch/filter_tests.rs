//! Filtered log says what the log says of the pages that are wanted, and everything of when and where; whatever else it
//! holds is refused.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::ids::Epoch;
use crate::layout::ShardLayout;
use crate::record::PageRun;

const BASE: Lsn = Lsn(5000);

/// Log of one epoch: each batch's records as page and length, and its commit time. Parts are short.
fn encode(base: Lsn, batches: &[(Vec<(u64, usize)>, u64)]) -> (Vec<u8>, Vec<BatchSpan>, Vec<usize>) {
    let mut encoder = BatchEncoder::new(base, MIN_PART_BYTES);
    let data = [7; 8000];
    let mut spans = Vec::new();
    for (records, time) in batches {
        encoder.begin();
        for (page, length) in records {
            let op = RedoOp::Overflow {
                tree: Default::default(),
                next: None,
                pages: PageRun::new(&[]),
                data: &data[..*length],
            };
            encoder.push(PageNo(*page), &op);
        }
        spans.push(encoder.finish(*time));
    }
    let (_, bytes, parts) = encoder.take(Vec::new());
    (bytes, spans, parts)
}

/// What a consumer of the wanted pages sees of a batch.
type Seen = (Lsn, Lsn, Epoch, u64, Vec<Vec<u8>>);

fn seen(decoder: &mut BatchDecoder, filter: &PageFilter) -> Vec<Seen> {
    let mut found = Vec::new();
    while let Some(batch) = decoder.next_batch() {
        let mut records = batch.records();
        let mut kept = Vec::new();
        while let Some(next) = records.next_with_bytes() {
            let (record, bytes) = next.expect("sound");
            if filter.wants(record.page) {
                kept.push(bytes.to_vec());
            }
        }
        found.push((batch.start_lsn, batch.end_lsn, batch.epoch, batch.commit_time_us, kept));
    }
    found
}

fn filter_of(shards: u32, stripe_pages: u32, wanted: impl Fn(u64) -> bool) -> PageFilter {
    let layout = ShardLayout::new(shards, stripe_pages).expect("within the limits");
    PageFilter::new(layout, layout.ids().filter(|shard| wanted(shard.0)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn filtered_log_equals_the_log_for_who_wants_these_pages(
        first in prop::collection::vec((prop::collection::vec((0..900_u64, 0..8000_usize), 0..30), any::<u64>()), 1..8),
        second in prop::collection::vec((prop::collection::vec((0..900_u64, 0..60_usize), 0..9), 0..9_u64), 1..30),
        (shards, stripe, wanted) in (1..=256_u32, 1..80_u32, any::<u64>()),
        cuts in prop::collection::btree_set(0..600_000_usize, 0..9),
        begin in 0..30_usize,
        repeat in 0..5000_u64,
    ) {
        let filter = filter_of(shards, stripe, |shard| wanted >> (shard % 64) & 1 == 1);
        prop_assert_eq!(PageFilter::decode(&filter.encode()), Ok(filter.clone()));
        prop_assert!(filter.encode().len() <= MAX_FILTER_BYTES);
        let (bytes, spans, _) = encode(BASE, &first);
        let middle = BASE.advance(bytes.len() as u64);
        let (more, more_spans, _) = encode(middle, &second);
        let end = middle.advance(more.len() as u64);
        let boundaries: Vec<Lsn> = [BASE].into_iter().chain(spans.iter().chain(&more_spans).map(|span| span.end_lsn)).collect();
        let from = boundaries[begin % boundaries.len()];

        let mut plain = BatchDecoder::new(from);
        plain.feed(BASE, Epoch(1), bytes.clone().into()).expect("sound");
        plain.feed(middle, Epoch(2), more.clone().into()).expect("sound");

        let (mut reduced, mut decoder) = (BatchFilter::new(filter.clone(), from), BatchDecoder::new(from));
        let mut position = 0;
        let mut sent = 0;
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            let cut = cut.clamp(position, bytes.len());
            let start = (position as u64).saturating_sub(repeat);
            let chunk = Bytes::copy_from_slice(&bytes[start as usize..cut]);
            if let Some(log) = reduced.feed(BASE.advance(start), Epoch(1), chunk).expect("sound") {
                prop_assert!(log.start_lsn >= from && log.end_lsn <= middle);
                sent += log.bytes.len();
                decoder.feed_filtered(&log).expect("sound");
                decoder.feed_filtered(&log).expect("what is repeated is skipped");
            }
            position = cut;
        }
        if let Some(log) = reduced.feed(middle, Epoch(2), more.clone().into()).expect("sound") {
            prop_assert_eq!((log.epoch, log.end_lsn), (Epoch(2), end));
            decoder.feed_filtered(&log).expect("sound");
        }
        prop_assert_eq!(decoder.fed_lsn(), end.max(from));
        prop_assert_eq!(decoder.resume_lsn(), plain.resume_lsn());
        prop_assert_eq!(seen(&mut decoder, &filter), seen(&mut plain, &filter));
        prop_assert!(sent <= bytes.len() + 27 * (cuts.len() + 1), "{} bytes of {}", sent, bytes.len());
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), version in 0..3_u8) {
        let mut bytes = bytes;
        let _ = PageFilter::decode(&bytes);
        bytes.insert(0, version);
        let _ = PageFilter::decode(&bytes);
        let log = FilteredLog { start_lsn: BASE, end_lsn: BASE.advance(100), epoch: Epoch(1), bytes: bytes.into() };
        prop_assert!(BatchDecoder::new(BASE).feed_filtered(&log).is_err());
    }
}

fn small() -> FilteredLog {
    let batches = [(vec![(0, 3), (64, 4)], 1_000), (vec![(64, 2)], 900), (vec![(1, 0)], 901)];
    let (bytes, ..) = encode(BASE, &batches);
    let filter = filter_of(8, 64, |shard| shard == 0);
    BatchFilter::new(filter, BASE).feed(BASE, Epoch(3), bytes.into()).expect("sound").expect("whole")
}

/// Written once, and never to change without another version: both sides may be of different ages.
#[test]
fn the_formats_stay_the_same() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&filter_of(9, 64, |shard| shard % 4 == 0).encode()), "0140000000090000001101");
    let log = small();
    assert_eq!((log.start_lsn, log.end_lsn), (BASE, BASE.advance(99)));
    assert_eq!(hex(&log.bytes), GOLDEN);
    let mut decoder = BatchDecoder::new(BASE);
    decoder.feed_filtered(&log).expect("sound");
    let found: Vec<_> = std::iter::from_fn(|| decoder.next_batch()).collect();
    assert_eq!(found.iter().map(|batch| batch.commit_time_us).collect::<Vec<_>>(), [1_000, 900, 901]);
    assert_eq!(found.iter().map(|batch| batch.record_count).collect::<Vec<_>>(), [1, 0, 1]);
}

const GOLDEN: &str = "01a018e588e8030000000000000029000109000a00000003070707041ec701001c020106010a00000000";

#[test]
fn every_single_bit_flip_is_noticed() {
    let log = small();
    let fed = |log: &FilteredLog| BatchDecoder::new(log.start_lsn).feed_filtered(log);
    for bit in 0..log.bytes.len() * 8 {
        let mut bytes = log.bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(fed(&FilteredLog { bytes: bytes.into(), ..log.clone() }).is_err(), "bit {bit}");
    }
    for length in 0..log.bytes.len() {
        assert!(fed(&FilteredLog { bytes: log.bytes.slice(..length), ..log.clone() }).is_err(), "{length} bytes");
    }
    let elsewhere = [
        FilteredLog { start_lsn: log.start_lsn.advance(1), ..log.clone() },
        FilteredLog { end_lsn: log.end_lsn.advance(1), ..log.clone() },
        FilteredLog { epoch: Epoch(4), ..log.clone() },
    ];
    assert!(elsewhere.iter().all(|log| fed(log).is_err()));
    let newer = FilteredLog { bytes: [&[FILTERED_VERSION + 1][..], &log.bytes[1..]].concat().into(), ..log.clone() };
    assert_eq!(fed(&newer), Err(BatchError::Version { at: BASE, version: 2 }));
}

/// A filter checks before it takes apart: damage of the log must not get a checksum that fits.
#[test]
fn damaged_log_is_not_filtered() {
    let (bytes, _, _) = encode(BASE, &[(vec![(0, 30), (64, 40)], 5)]);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let fed = BatchFilter::new(filter_of(8, 64, |_| true), BASE).feed(BASE, Epoch(1), damaged.into());
        assert!(!matches!(fed, Ok(Some(_))), "bit {bit}");
    }
    let mut filter = BatchFilter::new(filter_of(8, 64, |_| true), BASE);
    let gap = filter.feed(BASE.advance(1), Epoch(1), Bytes::from_static(&[1]));
    assert_eq!(gap, Err(BatchError::Gap { expected: BASE, got: BASE.advance(1) }));
    filter.feed(BASE, Epoch(2), bytes.into()).expect("sound");
    let older = filter.feed(BASE, Epoch(1), vec![0; 4000].into());
    assert!(matches!(older, Err(BatchError::Epoch { current: Epoch(2), got: Epoch(1), .. })));
}

/// Plain and filtered log may come one after the other: nodes of several versions serve one reader.
#[test]
fn plain_and_filtered_log_alternate() {
    let big: Vec<(u64, usize)> = (0..40).map(|page| (page * 64, 8000)).collect();
    let (bytes, spans, parts) = encode(BASE, &[(big, 1), (vec![(0, 5)], 2)]);
    assert!(parts.len() > 3, "a batch of several parts");
    let filter = filter_of(2, 64, |shard| shard == 1);
    let cut = parts[2];
    let at = BASE.advance(cut as u64);
    let (front, back) = (Bytes::copy_from_slice(&bytes[..cut]), Bytes::copy_from_slice(&bytes[cut..]));
    let filtered = |from, start, bytes| {
        BatchFilter::new(filter.clone(), from).feed(start, Epoch(1), bytes).expect("sound").expect("whole parts")
    };
    let mut plain = BatchDecoder::new(BASE);
    plain.feed(BASE, Epoch(1), bytes.clone().into()).expect("sound");
    let expected = seen(&mut plain, &filter);
    assert_eq!(expected.len(), spans.len());
    for filtered_first in [true, false] {
        let mut decoder = BatchDecoder::new(BASE);
        if filtered_first {
            decoder.feed_filtered(&filtered(BASE, BASE, front.clone())).expect("sound");
            decoder.feed(at, Epoch(1), back.clone()).expect("sound");
        } else {
            decoder.feed(BASE, Epoch(1), front.clone()).expect("sound");
            decoder.feed_filtered(&filtered(at, BASE, bytes.clone().into())).expect("sound");
        }
        assert_eq!(seen(&mut decoder, &filter), expected);
    }
    let mut decoder = BatchDecoder::new(BASE);
    decoder.feed(BASE, Epoch(1), front.slice(..cut - 1)).expect("sound");
    assert!(decoder.feed_filtered(&filtered(BASE, BASE, bytes.into())).is_err(), "within a part");
}

#[test]
fn filters_are_checked() {
    let good = filter_of(9, 64, |shard| shard == 8).encode();
    let with = |place: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[place] = byte;
        PageFilter::decode(&bytes)
    };
    assert!(PageFilter::decode(&good).is_ok());
    assert_eq!(with(0, 2), Err(FilterError::Version(2)));
    let bad = [with(1, 0), with(5, 0), with(6, 2), with(5, 17), with(10, 2), PageFilter::decode(&good[..10])];
    assert!(bad.iter().all(|outcome| matches!(outcome, Err(FilterError::Malformed(_)))), "{bad:?}");
    assert!(matches!(PageFilter::decode(&[&good[..], &[0]].concat()), Err(FilterError::Malformed(_))));
}
