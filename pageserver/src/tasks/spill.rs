//! Setting buffers aside on local disk while the object store does not take layers.

use std::sync::Arc;
use std::time::Duration;

use super::after_failure;
use super::flush::hot_images;
use crate::buffer::RecordBuffer;
use crate::compaction::{JobError, write_buffer};
use crate::shard::Shard;
use crate::spill::{Room, Spill};

/// So long is looked for what hot pages were before a buffer: most of it is at hand, and what is not may be away.
const IMAGES_TIME: Duration = Duration::from_secs(2);
/// Room is given back by other shards, too.
const ROOM_CHECK: Duration = Duration::from_secs(1);
/// After a failure of the local disk: it is full, and will be for a while.
const DISK_PAUSES: u32 = 10;

/// Sets the oldest buffers in memory aside whenever the object store fails and there are too many of them, and the
/// following ones until all are in the object store: they cannot come before those.
pub(crate) async fn spill(shard: Arc<Shard>) {
    let Some(spill) = &shard.spill else { return };
    let mut changes = shard.watch_changes();
    while !shard.stopping() && !shard.is_lost() {
        changes.borrow_and_update();
        let Some(buffer) = due(&shard) else {
            tokio::select! {
                () = shard.spill_due.notified() => {}
                _ = changes.changed() => {}
                () = shard.stopped() => {}
            }
            continue;
        };
        // What is written is shorter: of what a record is charged with, an entry has less.
        let Some(room) = spill.space.reserve(buffer.bytes() as u64) else {
            shard.note_full_spill();
            tokio::select! {
                () = shard.pause(ROOM_CHECK) => {}
                _ = changes.changed() => {}
            }
            continue;
        };
        match set_aside(&shard, spill, &buffer, room).await {
            Ok(()) => {}
            Err(JobError::Stopped) => return,
            Err(error) => {
                after_failure(&shard, "spill", &error).await;
                shard.pause(shard.config.retry_pause * DISK_PAUSES).await;
            }
        }
    }
}

/// The buffer to be set aside now.
fn due(shard: &Shard) -> Option<Arc<RecordBuffer>> {
    let view = shard.view();
    let goes_on = shard.store_fails() || !view.spilled().is_empty();
    let is_due = goes_on && view.frozen_bytes() > shard.config.frozen_bytes / 2;
    view.oldest_frozen().filter(|_| is_due).cloned()
}

async fn set_aside(shard: &Shard, spill: &Spill, buffer: &RecordBuffer, room: Room) -> Result<(), JobError> {
    let images = hot_images(shard, buffer, Some(IMAGES_TIME)).await;
    let (next_name, stopped) = (|| shard.next_name(), || shard.stopping() || shard.is_lost());
    let context = shard.job_context((&spill.reader, &spill.store), &next_name, &stopped);
    let layers = write_buffer(&context, buffer, &images).await?;
    shard.show_spilled(spill.spilled(buffer, layers, room));
    Ok(())
}
