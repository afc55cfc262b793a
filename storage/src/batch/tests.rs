//! Batches: round trip through any cutting of the stream, and refusal of everything else.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::ids::Epoch;
use crate::page::OVERFLOW_CAPACITY_BYTES;
use crate::record::PageRun;

const BASE: Lsn = Lsn(1000);

fn data_op(data: &[u8]) -> RedoOp<'_> {
    RedoOp::Overflow { tree: Default::default(), next: None, pages: PageRun::new(&[]), data }
}

/// Encodes batches with one record per given length; answers the bytes and each batch's span.
fn encode(batches: &[Vec<usize>]) -> (Vec<u8>, Vec<BatchSpan>) {
    let mut encoder = BatchEncoder::new(BASE, MIN_PART_BYTES);
    let data = vec![5; OVERFLOW_CAPACITY_BYTES];
    let mut spans = Vec::new();
    for (number, lengths) in batches.iter().enumerate() {
        encoder.begin();
        for (page, &length) in lengths.iter().enumerate() {
            encoder.push(PageNo(page as u64), &data_op(&data[..length]));
        }
        spans.push(encoder.finish(1_000_000 + number as u64));
    }
    assert_eq!(encoder.end_lsn(), spans.last().map_or(BASE, |span| span.end_lsn));
    let (start_lsn, bytes, parts) = encoder.take(Vec::new());
    assert_eq!((start_lsn, parts.len()), (BASE, spans.iter().map(|span| span.parts).sum()));
    (bytes, spans)
}

fn lengths_of(batch: &Batch) -> Vec<usize> {
    let length = |record: Record<'_>| match record.op {
        RedoOp::Overflow { data, .. } => data.len(),
        other => panic!("{other:?}"),
    };
    batch.records().map(|record| length(record.expect("sound"))).collect()
}

fn decode(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Batch>, BatchError> {
    let mut decoder = BatchDecoder::new(BASE);
    let mut from = 0;
    for &cut in cuts.iter().chain([&bytes.len()]) {
        let cut = cut.clamp(from, bytes.len());
        decoder.feed(BASE.advance(from as u64), Epoch(1), Bytes::copy_from_slice(&bytes[from..cut]))?;
        from = cut;
    }
    Ok(std::iter::from_fn(|| decoder.next_batch()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn round_trip_however_the_stream_is_cut(
        batches in prop::collection::vec(prop::collection::vec(0..OVERFLOW_CAPACITY_BYTES, 0..30), 1..6),
        cuts in prop::collection::btree_set(0_usize..400_000, 0..20),
    ) {
        let (bytes, spans) = encode(&batches);
        let cuts: Vec<usize> = cuts.into_iter().collect();
        let decoded = decode(&bytes, &cuts).expect("sound");
        prop_assert_eq!(decoded.len(), batches.len());
        for (number, (batch, span)) in decoded.iter().zip(&spans).enumerate() {
            prop_assert_eq!((batch.start_lsn, batch.end_lsn), (span.start_lsn, span.end_lsn));
            prop_assert_eq!(batch.commit_time_us, 1_000_000 + number as u64);
            prop_assert_eq!(batch.record_count, batches[number].len() as u64);
            prop_assert_eq!(lengths_of(batch), batches[number].clone());
        }
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &[]);
    }
}

#[test]
fn every_single_bit_flip_is_noticed() {
    let (bytes, _) = encode(&[vec![10, 20], vec![30]]);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // A longer length merely waits for bytes that never come.
        let noticed = decode(&damaged, &[]).map_or(true, |batches| batches.len() < 2);
        assert!(noticed, "bit {bit}");
    }
}

#[test]
fn large_batches_travel_in_parts() {
    let lengths = vec![8000; 40];
    let (bytes, spans) = encode(&[lengths.clone(), vec![1]]);
    assert!(spans[0].parts > 4 && spans[1].parts == 1, "{spans:?}");
    let decoded = decode(&bytes, &[]).expect("sound");
    assert_eq!(lengths_of(&decoded[0]), lengths);

    // Held back until the last part, whose end is the batch's.
    let cut = usize::try_from(spans[0].end_lsn.since(BASE)).expect("small") - 1;
    let mut decoder = BatchDecoder::new(BASE);
    decoder.feed(BASE, Epoch(1), Bytes::copy_from_slice(&bytes[..cut])).expect("sound");
    assert_eq!((decoder.next_batch(), decoder.resume_lsn()), (None, BASE));
    let rest = Bytes::copy_from_slice(&bytes[cut..]);
    decoder.feed(BASE.advance(cut as u64), Epoch(1), rest).expect("sound");
    assert_eq!(decoder.next_batch().expect("complete").end_lsn, spans[0].end_lsn);
    assert_eq!(decoder.resume_lsn(), spans[1].end_lsn);
}

#[test]
fn a_new_epoch_drops_what_the_old_one_left_unfinished() {
    let mut encoder = BatchEncoder::new(BASE, MIN_PART_BYTES);
    encoder.begin();
    let data = vec![5; 8000];
    (0..20).for_each(|page| encoder.push(PageNo(page), &data_op(&data)));
    encoder.finish(1);
    let (_, bytes, parts) = encoder.take(Vec::new());
    let cut = parts[1];
    let mut decoder = BatchDecoder::new(BASE);
    decoder.feed(BASE, Epoch(1), Bytes::copy_from_slice(&bytes[..cut])).expect("sound");

    let base = BASE.advance(cut as u64);
    let mut encoder = BatchEncoder::new(base, MIN_PART_BYTES);
    encoder.begin();
    encoder.push(PageNo(1), &data_op(&[1, 2, 3]));
    let span = encoder.finish(2);
    let (_, next, _) = encoder.take(Vec::new());
    decoder.feed(base, Epoch(2), Bytes::from(next)).expect("sound");
    let batch = decoder.next_batch().expect("complete");
    assert_eq!((batch.start_lsn, batch.end_lsn, batch.epoch), (base, span.end_lsn, Epoch(2)));
    assert_eq!(decoder.next_batch(), None);

    // The old writer's bytes must not come after that.
    let error = decoder.feed(span.end_lsn, Epoch(1), Bytes::from_static(&[0])).expect_err("old epoch");
    assert!(matches!(error, BatchError::Epoch { current: Epoch(2), got: Epoch(1), .. }));
}

#[test]
fn repeated_bytes_are_skipped_and_gaps_refused() {
    let (bytes, spans) = encode(&[vec![10], vec![20], vec![30]]);
    let mut decoder = BatchDecoder::new(spans[1].start_lsn);
    decoder.feed(BASE, Epoch(1), Bytes::copy_from_slice(&bytes)).expect("sound");
    decoder.feed(BASE, Epoch(1), Bytes::copy_from_slice(&bytes)).expect("sound");
    let starts: Vec<Lsn> = std::iter::from_fn(|| decoder.next_batch()).map(|batch| batch.start_lsn).collect();
    assert_eq!(starts, [spans[1].start_lsn, spans[2].start_lsn]);
    let end = decoder.fed_lsn();
    let gap = decoder.feed(end.advance(1), Epoch(1), Bytes::from_static(&[0]));
    assert_eq!(gap, Err(BatchError::Gap { expected: end, got: end.advance(1) }));
    assert_eq!(decoder.feed(end, Epoch(1), Bytes::new()), gap, "an error stays");
}

#[test]
fn bytes_at_another_place_of_the_log_are_noticed() {
    let (bytes, _) = encode(&[vec![10]]);
    let mut decoder = BatchDecoder::new(Lsn(0));
    let result = decoder.feed(Lsn(0), Epoch(1), Bytes::from(bytes));
    assert!(matches!(result, Err(BatchError::Damaged { .. })));
}

#[test]
fn lengths_are_checked_before_memory_is_used() {
    let mut header = vec![0; HEADER_BYTES];
    header[..4].copy_from_slice(&(MAX_BATCH_BYTES as u32 + 1).to_le_bytes());
    header[8] = BATCH_VERSION;
    assert_eq!(decode(&header, &[]), Err(BatchError::TooLong { at: BASE }));
    header[8] = 9;
    header[..4].copy_from_slice(&100_u32.to_le_bytes());
    assert_eq!(decode(&header, &[]), Err(BatchError::Version { at: BASE, version: 9 }));
}

#[test]
fn an_abandoned_batch_leaves_no_trace() {
    let mut encoder = BatchEncoder::new(BASE, MIN_PART_BYTES);
    encoder.begin();
    encoder.push(PageNo(1), &data_op(&[1]));
    assert!(!encoder.is_empty_batch() && encoder.open_bytes() > HEADER_BYTES);
    encoder.abandon();
    assert_eq!((encoder.end_lsn(), encoder.buffered_bytes()), (BASE, 0));
}
