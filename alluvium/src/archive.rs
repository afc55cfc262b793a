//! The archive of the log that the command line names.

use std::time::Duration;

use clap::Args;
use logstore::LogStore;
use logstore::archive::{ARCHIVE_KEY, ArchiveConfig, Archiver};

use crate::size;
use crate::store::{S3Arguments, probe_key};

/// Between two warnings.
const REMINDER: Duration = Duration::from_secs(60);

/// Where the log is archived.
#[derive(Args)]
pub struct ArchiveArguments {
    /// Archive of the log: file:///directory or s3://bucket/prefix. All nodes must name the same. The log is trimmed only
    /// below what is in it.
    #[arg(long, env = "ALLUVIUM_LOG_ARCHIVE")]
    archive: Option<String>,

    /// Log that stays in the archive, per branch, behind its end; what a consumer needs stays in any case. Without this
    /// everything stays.
    #[arg(long, env = "ALLUVIUM_LOG_ARCHIVE_RETENTION", value_parser = size::parse, requires = "archive")]
    archive_retention: Option<u64>,

    #[command(flatten)]
    s3: S3Arguments,
}

impl ArchiveArguments {
    /// The archive's settings. The store is not asked anything yet: while it is away, log nodes run without it.
    pub fn archive(&self) -> Result<Option<Archive>, String> {
        let Some(url) = &self.archive else { return Ok(None) };
        #[expect(clippy::disallowed_methods, reason = "the shell is where randomness comes from")]
        let new_id = rand::random();
        let config = ArchiveConfig {
            retention_bytes: self.archive_retention,
            probe_key: probe_key(url),
            ..ArchiveConfig::new(self.s3.open(url)?, new_id)
        };
        Ok(Some(Archive { url: url.clone(), config }))
    }
}

/// An archive that the command line names.
pub struct Archive {
    url: String,
    config: ArchiveConfig,
}

/// Lets subscriptions read from the archive. To be called before anybody can subscribe: whoever asked for what has been
/// trimmed would be told that it is gone.
pub fn read_from(store: &LogStore, archive: Option<&Archive>) {
    if let Some(archive) = archive {
        store.set_archive(archive.config.store.clone());
    }
}

/// Archives while the node runs; resolves only when the archive cannot be used, with the reason.
pub async fn run(store: &LogStore, archive: Option<Archive>) -> String {
    let Some(Archive { url, config }) = archive else { return watch_for_an_archive(store).await };
    let reason = Archiver::start(store, config).ended().await;
    format!("archiving to {url}: {reason}")
}

/// Without an archiver on the leader the log of a cluster that has an archive grows until it reaches its budget.
async fn watch_for_an_archive(store: &LogStore) -> String {
    let metadata = store.metadata();
    loop {
        tokio::time::sleep(REMINDER).await;
        // Answered by the leader only.
        if let Ok(Some(_)) = metadata.get(ARCHIVE_KEY).await {
            tracing::warn!("the log has an archive, but its leader was started without --archive: nothing is trimmed");
        }
    }
}
