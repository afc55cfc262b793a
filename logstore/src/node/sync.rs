//! The node's part in making things durable: who syncs, and what waits for it.
//!
//! ```text
//!   work ─► written ─► unsynced ──one sync at a time──► settled: acknowledgements go out, entries count as held here
//!                          └─ a leader's entries that a majority of others holds settle at once
//! ```
//!
//! Invariant: as long as this node is not the leader, nothing settles before a sync that began after it was written
//! has ended. At a change of segments that is a sync of both: the end of the old one and what is written into the new one
//! settle together.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;

use super::Node;
use crate::segment::{StoreError, Unsynced};
use crate::transport::Transport;

/// Below this a sync is done by the node's own thread.
const QUICK_SYNC_US: u64 = 1_000;
/// A leader does not run ahead of its own disk by more than this.
const MAX_AHEAD_BYTES: u64 = 32 << 20;

/// A sync for somebody else to do: [`Unsynced::sync`], and then [`Node::synced`].
pub struct SyncRequest {
    /// What to sync.
    pub unsynced: Unsynced,
    /// The work that is durable then.
    number: u64,
}

/// Work that was written and waits for a sync.
struct Waiting {
    /// The work that wrote.
    number: u64,
    /// The last work that is durable when it is: later work may have written nothing.
    until: u64,
    /// The last entry, if this node led when it wrote it.
    led_index: Option<u64>,
    /// The leader's entries are held by a majority of others.
    is_settled: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Syncs {
    waiting: VecDeque<Waiting>,
    /// Who syncs while the disk is slow; without it the caller's thread always does.
    syncer: Option<SyncSender<SyncRequest>>,
    is_under_way: bool,
    /// The last sync took long.
    is_slow: bool,
    completed: u64,
}

impl Node {
    /// While the disk is slow, syncs are done by somebody else from now on, who answers with [`Node::synced`]. One is under
    /// way at a time.
    pub fn set_syncer(&mut self, syncer: SyncSender<SyncRequest>) {
        self.syncs.syncer = Some(syncer);
    }

    /// Syncs so far that this thread has done itself: the caller measures them, and tells by [`Node::synced_in`].
    pub fn syncs(&self) -> u64 {
        self.syncs.completed
    }

    /// The last sync took this long: decides who does the next one.
    pub(super) fn took(&mut self, us: u64) {
        self.syncs.is_slow = us >= QUICK_SYNC_US;
    }

    /// Work has written something that must be durable before it settles.
    pub(super) fn wrote(
        &mut self,
        number: u64,
        last_index: Option<u64>,
        transport: &mut dyn Transport,
    ) -> Result<(), StoreError> {
        let syncs = &self.syncs;
        // At a change of segments two files are synced, of which one is new: slower than usual on any disk.
        let is_slow = syncs.is_slow || self.log.is_changing();
        let elsewhere = syncs.is_under_way || is_slow && syncs.syncer.is_some();
        if elsewhere {
            let led_index = last_index.filter(|_| self.core.is_leader());
            self.syncs.waiting.push_back(Waiting { number, until: number, led_index, is_settled: false });
            return Ok(());
        }
        self.sync_now()?;
        // What else was waiting is durable as well.
        self.forget_unsynced();
        self.settle(number, transport);
        Ok(())
    }

    /// Work that wrote nothing settles with what was written before it.
    pub(super) fn settle_after_writes(&mut self, number: u64, transport: &mut dyn Transport) {
        match self.syncs.waiting.back_mut() {
            Some(waiting) if !waiting.is_settled => waiting.until = number,
            _ => self.settle(number, transport),
        }
    }

    /// Syncs on this thread.
    pub(super) fn sync_now(&mut self) -> Result<(), StoreError> {
        let unsynced = self.log.unsynced();
        let started = self.metrics.start();
        let outcome = unsynced.sync();
        self.metrics.synced(started);
        self.syncs.completed += 1;
        self.log.synced(&unsynced, outcome)
    }

    /// Everything is replaced: what was written before needs no sync any more.
    pub(super) fn forget_unsynced(&mut self) {
        self.syncs.waiting.clear();
    }

    pub(super) fn settle(&mut self, number: u64, transport: &mut dyn Transport) {
        for message in self.core.persisted(number) {
            transport.send(message);
        }
    }

    /// Has what was written synced, if nothing is being synced already.
    pub(super) fn begin_sync(&mut self) {
        let Some(last) = self.syncs.waiting.back() else { return };
        let Some(syncer) = self.syncs.syncer.as_ref().filter(|_| !self.syncs.is_under_way) else { return };
        let request = SyncRequest { unsynced: self.log.unsynced(), number: last.number };
        // The syncer is gone only when the node is about to end.
        self.syncs.is_under_way = syncer.try_send(request).is_ok();
    }

    /// A sync has ended, after `us` microseconds. To be followed by [`Node::run`].
    pub fn synced(
        &mut self,
        request: &SyncRequest,
        outcome: std::io::Result<()>,
        us: u64,
        transport: &mut dyn Transport,
    ) -> Result<(), StoreError> {
        self.syncs.is_under_way = false;
        self.metrics.synced_in(us);
        self.log.synced(&request.unsynced, outcome)?;
        while let Some(done) = self.syncs.waiting.pop_front_if(|waiting| waiting.number <= request.number) {
            if !done.is_settled {
                self.settle(done.until, transport);
            }
        }
        self.synced_in(us);
        Ok(())
    }

    /// A majority of others has a leader's entries on disk: then they are committed, and the leader's own copy is not what
    /// makes them so. Counting them as held here before they are lets it apply and answer them, so that its own disk, while it
    /// is slow, slows nobody. If it stops now and forgets them, it comes back as one of the minority that lacks them: it
    /// has never told anybody that it had them.
    pub(super) fn settle_what_followers_hold(&mut self, transport: &mut dyn Transport) {
        if !self.core.is_leader() || self.log.unsynced_bytes() > MAX_AHEAD_BYTES {
            return;
        }
        let committed = self.core.committed_index();
        let held = |waiting: &Waiting| waiting.led_index.is_some_and(|index| index <= committed);
        let settled: Vec<u64> = self
            .syncs
            .waiting
            .iter_mut()
            .take_while(|waiting| waiting.is_settled || held(waiting))
            .filter(|waiting| !waiting.is_settled)
            .map(|waiting| {
                waiting.is_settled = true;
                waiting.until
            })
            .collect();
        for number in settled {
            self.settle(number, transport);
        }
    }
}
