//! Reading the log.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use logstore::client::{LogClient, LogError};
use logstore::filter::unfiltered;
use storage::Lsn;
use storage::layer::DiskCache;
use tokio::time::Instant;

use super::{AGE_CHECK, after_failure};
use crate::decode::{LogDecoder, PageBatches};
use crate::metrics as names;
use crate::shard::Shard;
use crate::stream_filter::filter_of;

/// After so long without log it is asked whether there is any, and after as long again it is looked for elsewhere.
const SILENCE: Duration = Duration::from_secs(2);

/// Reads the log into the open buffer.
pub(crate) async fn ingest(shard: Arc<Shard>, log: Arc<dyn LogClient>) {
    while !shard.stopping() {
        let outcome = tokio::select! {
            outcome = ingest_stream(&shard, log.as_ref()) => outcome,
            () = shard.stopped() => return,
        };
        match outcome {
            Ok(()) => {}
            Err(reason) => after_failure(&shard, "ingest", &reason).await,
        }
    }
}

/// Reads one stream to its end: for ever, or up to where a descendant leaves it.
async fn ingest_stream(shard: &Shard, log: &dyn LogClient) -> Result<(), String> {
    // What an earlier stream left in the buffer before it broke counts.
    shard.announce_log();
    let from_lsn = shard.ingested();
    let (stream, until) = shard.config.lineage.stream_at(from_lsn);
    let mut decoder = LogDecoder::new(from_lsn);
    let mut batches = PageBatches::default();
    let subscribed = match filter_of(shard.config.layout, shard.config.shard) {
        Some(filter) => log.subscribe_filtered(stream, from_lsn, &filter).await,
        None => log.subscribe(stream, from_lsn).await.map(unfiltered),
    };
    let mut pieces = match subscribed {
        Err(error @ LogError::Trimmed { .. }) => {
            shard.set_stranded().await.map_err(|unknown| format!("{error}; {unknown}"))?;
            return Err(error.to_string());
        }
        subscribed => subscribed.map_err(|error| error.to_string())?,
    };
    // Any node of the log serves a stream, also one that hears nothing of the others any more: whether there is more to
    // read, the leader knows.
    let (mut read_until, mut heard, mut owed) = (from_lsn, Instant::now(), None);
    let mut age_check = tokio::time::interval(AGE_CHECK);
    let mut opened = Instant::now();
    loop {
        tokio::select! {
            piece = pieces.next() => {
                let Some(piece) = piece else { return Err("the log ended its stream".to_owned()) };
                let piece = piece.map_err(|error| error.to_string())?;
                let piece_end = piece.end_lsn();
                metrics::counter!(names::LOG_RECEIVED_BYTES).increment(piece.sent_bytes() as u64);
                (read_until, heard, owed) = (read_until.max(piece_end), Instant::now(), None);
                decoder.feed(piece).map_err(|error| error.to_string())?;
                loop {
                    let more = decoder.next_batches(|page| shard.holds(page), until, &mut batches);
                    let more = more.map_err(|error| error.to_string())?;
                    let held_bytes = shard.insert(&batches);
                    if held_bytes >= shard.config.buffer_bytes {
                        shard.announce_log();
                        shard.freeze();
                        opened = Instant::now();
                        wait_for_room(shard).await;
                    }
                    if !more {
                        break;
                    }
                }
                shard.announce_log();
                if let Some(until) = until.filter(|until| piece_end >= *until) {
                    shard.advance(until);
                    return Ok(());
                }
                metrics::gauge!(names::INGESTED_LSN, shard.labels()).set(shard.ingested().0 as f64);
            }
            _ = age_check.tick() => {
                if heard.elapsed() >= SILENCE {
                    if let Some(end) = owed {
                        return Err(format!("the stream of log stands at {read_until}, and the log ends at {end}"));
                    }
                    let end = log.status(stream).await.map_or(Lsn::ZERO, |status| status.durable_lsn);
                    owed = (end > read_until).then_some(end);
                    heard = Instant::now();
                }
                let view = shard.view();
                shard.publish();
                shard.admission.report();
                if let Some(offers) = &shard.config.offers {
                    offers.report();
                }
                let repairs = shard.disk.as_ref().map_or(0, DiskCache::repairs);
                metrics::counter!(names::CACHE_REPAIRS).absolute(repairs);
                let log_bytes = view.open().end_lsn().since(view.open().start_lsn());
                let is_due = opened.elapsed() >= shard.config.buffer_age || log_bytes >= shard.config.buffer_log_bytes;
                if log_bytes == 0 {
                    opened = Instant::now();
                } else if is_due && view.oldest_frozen().is_none() {
                    shard.freeze();
                    opened = Instant::now();
                }
            }
        }
    }
}

/// Memory is bounded here: while frozen buffers wait to be written, the log is not read.
async fn wait_for_room(shard: &Shard) {
    let mut changes = shard.watch_changes();
    while shard.view().frozen_bytes() > shard.config.frozen_bytes && !shard.stopping() {
        tokio::select! {
            _ = changes.changed() => {}
            () = shard.stopped() => {}
        }
    }
}
