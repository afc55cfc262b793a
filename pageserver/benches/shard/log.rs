//! A log in a file, given out as far as it is told to go.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use logstore::client::{BranchStatus, EpochGrant, LogChunk, LogClient, LogError};
use storage::{BranchId, Epoch, Lsn};
use tokio::sync::watch;

/// Written once, read by any number of subscribers.
pub struct FileLog {
    file: File,
    /// Ends of the chunks.
    ends: Mutex<Vec<Lsn>>,
    end: watch::Sender<Lsn>,
}

impl FileLog {
    pub fn create(path: &Path) -> FileLog {
        std::fs::create_dir_all(path.parent().expect("in a directory")).expect("the directory can be made");
        let file = File::options().create(true).truncate(true).read(true).write(true).open(path);
        FileLog {
            file: file.expect("the file can be made"),
            ends: Mutex::default(),
            end: watch::Sender::new(Lsn::ZERO),
        }
    }

    pub fn push(&self, start_lsn: Lsn, bytes: &[u8]) {
        self.file.write_all_at(bytes, start_lsn.0).expect("room on the disk");
        self.ends.lock().expect("nobody panics here").push(start_lsn.advance(bytes.len() as u64));
    }

    /// Gives out whole chunks up to here.
    pub fn end_at(&self, lsn: Lsn) {
        let ends = self.ends.lock().expect("nobody panics here");
        let end = ends[..ends.partition_point(|end| *end <= lsn)].last().copied().unwrap_or_default();
        self.end.send_replace(end);
    }

    /// The end of what is given out.
    pub fn end(&self) -> Lsn {
        *self.end.borrow()
    }

    fn chunk(&self, from: Lsn) -> (LogChunk, Lsn) {
        let ends = self.ends.lock().expect("nobody panics here");
        let end = ends[ends.partition_point(|end| *end <= from)];
        let mut bytes = vec![0; usize::try_from(end.since(from)).expect("chunks are small")];
        self.file.read_exact_at(&mut bytes, from.0).expect("it was written");
        (LogChunk { start_lsn: from, epoch: Epoch(1), bytes: Bytes::from(bytes) }, end)
    }
}

/// Shared by the stream it gives.
#[async_trait]
impl LogClient for FileLog {
    async fn acquire_epoch(&self, _: BranchId) -> Result<EpochGrant, LogError> {
        Err(LogError::Unavailable { reason: "this log is only read".to_owned() })
    }

    async fn append(&self, _: BranchId, _: Epoch, _: Lsn, _: Bytes) -> Result<Lsn, LogError> {
        Err(LogError::Unavailable { reason: "this log is only read".to_owned() })
    }

    async fn subscribe(
        &self,
        _: BranchId,
        from_lsn: Lsn,
    ) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError> {
        let reader = FileLog {
            file: self.file.try_clone().expect("a file can be cloned"),
            ends: Mutex::new(self.ends.lock().expect("nobody panics here").clone()),
            end: watch::Sender::new(Lsn::ZERO),
        };
        let end = self.end.subscribe();
        let next = move |(reader, mut end, from): (FileLog, watch::Receiver<Lsn>, Lsn)| async move {
            end.wait_for(|end| *end > from).await.ok()?;
            let (chunk, next) = reader.chunk(from);
            Some((Ok(chunk), (reader, end, next)))
        };
        Ok(futures::stream::unfold((reader, end, from_lsn), next).boxed())
    }

    async fn status(&self, _: BranchId) -> Result<BranchStatus, LogError> {
        let (epoch, first_lsn) = (Epoch(1), Lsn::ZERO);
        Ok(BranchStatus { epoch, first_lsn, durable_lsn: self.end(), consumers: Vec::new() })
    }

    async fn report_consumer(&self, _: BranchId, _: &str, _: Lsn) -> Result<(), LogError> {
        Ok(())
    }
}
