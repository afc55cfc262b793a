//! The clients within a node's process and its archiver, for whoever drives the [`Node`] step by step instead of giving it to
//! the thread of a [`crate::LogStore`]: a simulator.

use std::sync::Arc;

use metrics::Histogram;
use storage::{BranchId, Lsn};

use crate::archive::{ArchiveConfig, Archiver};
use crate::client::{LogClient, LogError};
use crate::command::Command;
use crate::local::LocalClient;
use crate::node::Node;
use crate::store::{Inbox, Request};

/// Requests of one node's own process: those wait here until the driver hands them over.
pub struct Driven {
    inbox: Arc<Inbox>,
    client: Arc<LocalClient>,
}

impl Driven {
    /// Of `node`. Clients wait while requests of more than `queue_bytes` do.
    pub fn new(node: &Node, queue_bytes: usize) -> Driven {
        let inbox = Arc::new(Inbox::new(queue_bytes));
        let published = node.published().clone();
        let client = Arc::new(LocalClient {
            inbox: inbox.clone(),
            segments: node.segments().clone(),
            stopped: published.stopped(),
            published,
            append_seconds: Histogram::noop(),
            archive: Arc::default(),
        });
        Driven { inbox, client }
    }

    /// A client in the node's process. With an archiver it reads from the archive what is no longer in the log.
    pub fn client(&self) -> Arc<dyn LogClient> {
        self.client.clone()
    }

    /// Begins to archive the node's log, as [`Archiver::start`].
    pub fn start_archiver(&self, config: ArchiveConfig) -> Archiver {
        Archiver::start_with((*self.client).clone(), config)
    }

    /// What is to be archived: where each branch ended when the segment that is being written was begun.
    pub fn sealed(&self) -> Result<Vec<(BranchId, Lsn)>, LogError> {
        self.client.sealed()
    }

    /// Resolves when requests have come since the last time.
    pub async fn arrived(&self) {
        self.inbox.arrived().await;
    }

    /// Whether requests wait.
    pub fn waits(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Hands what waits to the node, to be followed by [`Node::run`]. `admits` is asked before each command; at the first that it
    /// refuses, that and all others are dropped, as when the process ends there, and the answer is false.
    pub fn serve(&self, node: &mut Node, mut admits: impl FnMut(&Command) -> bool) -> bool {
        for request in self.inbox.take_all() {
            match request {
                Request::Propose { command, reply, _permit } => {
                    if !admits(&command) {
                        return false;
                    }
                    node.propose(&command, reply);
                }
                Request::Read(read) => node.read(read),
                _ => unreachable!("clients propose and read"),
            }
        }
        true
    }

    /// The node is gone: whoever asks is told so.
    pub fn close(&self) {
        self.inbox.close();
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.close();
    }
}
