//! Which page servers there are to ask: those of the directory in the log's metadata map.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use storage::layer::LayerDescriptor;
use tokio::time::Instant;

use super::{Assignment, JobSource, JobSources, LeaseId, OfferSeen, SourceError, WorkerSeen};
use crate::cluster::directory::{Directory, DirectoryError};

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A server that did not answer is left alone for so long.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// Makes a client of the page server at an address, or says why that cannot be one.
type Connect = dyn Fn(&str) -> Result<Arc<dyn JobSource>, String> + Send + Sync;

/// The page servers that the directory names.
pub struct Discovery {
    directory: Directory,
    connect: Box<Connect>,
    /// By address.
    servers: Mutex<BTreeMap<String, Arc<Server>>>,
}

/// A page server, and until when it is left alone.
struct Server {
    client: Arc<dyn JobSource>,
    not_before: Mutex<Option<Instant>>,
}

impl Discovery {
    /// Knows nobody yet.
    pub fn new(
        directory: Directory,
        connect: impl Fn(&str) -> Result<Arc<dyn JobSource>, String> + Send + Sync + 'static,
    ) -> Arc<Discovery> {
        Arc::new(Discovery { directory, connect: Box::new(connect), servers: Mutex::default() })
    }

    /// Looks once.
    pub async fn look(&self) -> Result<(), DirectoryError> {
        let found = self.directory.load().await?;
        let mut servers = self.servers.lock();
        servers.retain(|address, _| found.servers.values().any(|server| server.address == *address));
        for server in found.servers.values() {
            if servers.contains_key(&server.address) {
                continue;
            }
            match (self.connect)(&server.address) {
                Ok(client) => {
                    let known = Server { client, not_before: Mutex::new(None) };
                    servers.insert(server.address.clone(), Arc::new(known));
                }
                Err(reason) => tracing::warn!(reason, "a page server cannot be asked for jobs"),
            }
        }
        Ok(())
    }

    /// Looks again and again, for ever. While the directory cannot be read, those known are asked.
    pub async fn keep_looking(self: Arc<Self>) {
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the page servers' directory cannot be read; trying again");
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl JobSources for Discovery {
    fn sources(&self) -> Vec<Arc<dyn JobSource>> {
        let now = Instant::now();
        let ready = |server: &&Arc<Server>| server.not_before.lock().is_none_or(|at| at <= now);
        let servers = self.servers.lock();
        servers.values().filter(ready).map(|server| server.clone() as Arc<dyn JobSource>).collect()
    }
}

#[async_trait]
impl JobSource for Server {
    async fn take(&self, worker: &str) -> Result<Option<Assignment>, SourceError> {
        let taken = self.client.take(worker).await;
        let pause = taken.is_err().then(|| Instant::now() + LEFT_ALONE);
        *self.not_before.lock() = pause;
        // Told apart from a job that failed: there are others to ask.
        match taken {
            Ok(assignment) => Ok(assignment),
            Err(error) => {
                tracing::debug!(%error, "a page server does not answer");
                Ok(None)
            }
        }
    }

    async fn renew(&self, lease: LeaseId) -> Result<bool, SourceError> {
        self.client.renew(lease).await
    }

    async fn finish(&self, lease: LeaseId, outcome: Result<Vec<LayerDescriptor>, String>) -> Result<bool, SourceError> {
        self.client.finish(lease, outcome).await
    }

    async fn list(&self) -> Result<(Vec<WorkerSeen>, Vec<OfferSeen>), SourceError> {
        self.client.list().await
    }
}
