//! Bulk loading: pages written bottom-up, logged in bounded batches, attached at the end.
//!
//! The load's pages are in the log before anything leads to them; the upkeep tree names them until the
//! transaction commits. Memory at hand: one page a level, and one batch.

use std::sync::Arc;

use sql::error::Result;
use sql::store::{BulkLoader, BulkPush};
use storage::TreeId;
use storage::bulk::{BulkBuilder, Pushed};

use super::handle::Shared;
use super::sink::PageSink;
use crate::engine::Engine;

const FILL_PERCENT: u8 = 90;

/// See the module.
pub(super) struct Loader {
    engine: Arc<Engine>,
    transaction: Arc<Shared>,
    tree: TreeId,
    builder: Option<BulkBuilder>,
    sink: PageSink,
}

impl Loader {
    pub(super) fn new(engine: Arc<Engine>, transaction: Arc<Shared>, tree: TreeId) -> Self {
        let sink = PageSink::of_tree(engine.clone(), transaction.clone(), tree);
        Self { engine, transaction, tree, builder: Some(BulkBuilder::new(tree, FILL_PERCENT)), sink }
    }
}

impl BulkLoader for Loader {
    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<BulkPush> {
        let builder = self.builder.as_mut().expect("taken by `finish` only, which consumes the loader");
        match builder.push(&mut self.sink, key, value)? {
            Pushed::Added => Ok(BulkPush::Added),
            Pushed::OutOfOrder => Ok(BulkPush::OutOfOrder),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let builder = self.builder.take().expect("a loader is finished once");
        if builder.rows() == 0 {
            return Ok(());
        }
        let loaded = builder.finish(&mut self.sink)?;
        self.sink.flush()?;
        let last = self.sink.last_run();
        let lsn = self.engine.sequencer.attach_loaded(self.tree, &loaded, last)?;
        if let Some((run, used)) = last {
            self.transaction.shorten_run(self.tree, run, used);
        }
        // The load is read at its own LSN, and only what is durable can be read.
        self.engine.block_durable(lsn)?;
        self.transaction.set_loaded(self.tree, lsn);
        Ok(())
    }
}
