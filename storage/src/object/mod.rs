//! The object store as the rest of the system sees it: whole puts, ranged gets, deletes, streamed uploads and one
//! compare-and-swap, over a local directory, memory or S3.
//!
//! Rules:
//! 1. An object other than a manifest is written once, under a key nobody else writes, so a put may be repeated.
//! 2. Objects that change, change by [`ObjectStore::swap`] only. Their bytes name their writer and differ with every
//!    change, so that reading them back tells whether a doubtful write took effect.
//! 3. A put counts when it returns: locally the file and its directory have been synced by then.
//! 4. Correctness never depends on [`ObjectStore::list`].

pub mod faults;

mod durable_local;
mod error;
mod probe;
mod retry;
mod s3;
mod scratch;
mod swap;
mod upload;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt, PutMode, PutOptions, PutPayload};

pub use durable_local::DurableLocal;
pub use error::ObjectError;
pub use probe::ProbeError;
pub use retry::RetryPolicy;
pub use s3::{S3Credentials, S3Options};
pub use scratch::Scratch;
pub use swap::{SwapError, Versioned};
pub use upload::Upload;

/// An object store below a prefix, with bounded retries. Cheap to share behind an `Arc`.
#[derive(Clone, Debug)]
pub struct ObjectStore {
    inner: Arc<dyn object_store::ObjectStore>,
    prefix: Path,
    retry: RetryPolicy,
    part_bytes: usize,
}

impl ObjectStore {
    /// Wraps any implementation. What it acknowledges must be durable.
    pub fn new(inner: Arc<dyn object_store::ObjectStore>, prefix: Path, retry: RetryPolicy) -> ObjectStore {
        ObjectStore { inner, prefix, retry, part_bytes: upload::PART_BYTES }
    }

    /// Uploads go in parts of this size instead of 8 MiB, and objects below it whole: for stores that take smaller parts than S3.
    pub fn with_part_bytes(self, part_bytes: usize) -> ObjectStore {
        assert!(part_bytes > 0, "a part holds something");
        ObjectStore { part_bytes, ..self }
    }

    /// A store that lives as long as this value and its clones.
    pub fn memory(retry: RetryPolicy) -> ObjectStore {
        ObjectStore::new(Arc::new(object_store::memory::InMemory::new()), Path::default(), retry)
    }

    /// [`ObjectStore::open_with`] what the `AWS_*` environment variables say of S3.
    pub fn open(url: &str, retry: RetryPolicy) -> Result<ObjectStore, ObjectError> {
        ObjectStore::open_with(url, &S3Options::default(), retry)
    }

    /// Opens `file:///directory` (created if missing), `memory://` or `s3://bucket/prefix`. A bucket should be
    /// [probed](ObjectStore::probe) before it is used.
    pub fn open_with(url: &str, options: &S3Options, retry: RetryPolicy) -> Result<ObjectStore, ObjectError> {
        let refuse = |reason: &str| ObjectError::Url { url: url.to_owned(), reason: reason.to_owned() };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse("expected scheme://…"))?;
        match scheme {
            "memory" if rest.is_empty() || rest == "/" => Ok(ObjectStore::memory(retry)),
            "memory" => Err(refuse("memory:// takes no path")),
            "file" if rest.starts_with('/') => {
                let local =
                    DurableLocal::open(std::path::Path::new(rest)).map_err(|e| ObjectError::from_put(url, e))?;
                Ok(ObjectStore::new(Arc::new(local), Path::default(), retry))
            }
            "file" => Err(refuse("file:// needs an absolute path: file:///directory")),
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(refuse("s3:// needs a bucket: s3://bucket/prefix"));
                }
                let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|e| refuse(&e.to_string()))?;
                let s3 = s3::open(url, bucket, options)?;
                Ok(ObjectStore::new(Arc::new(s3), prefix, retry))
            }
            _ => Err(refuse("known schemes are file://, memory:// and s3://")),
        }
    }

    fn path(&self, key: &str) -> Result<Path, ObjectError> {
        let key =
            Path::parse(key).map_err(|e| ObjectError::Permanent { key: key.to_owned(), reason: e.to_string() })?;
        Ok(self.prefix.parts().chain(key.parts()).collect())
    }

    /// Writes an object that nobody else writes, whole. May be repeated.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        let path = self.path(key)?;
        self.retry
            .run(|| async {
                let options = PutOptions { mode: PutMode::Overwrite, ..Default::default() };
                let put = self.inner.put_opts(&path, PutPayload::from_bytes(bytes.clone()), options).await;
                put.map(|_| ()).map_err(|e| ObjectError::from_put(key, e))
            })
            .await
    }

    /// Reads an object whole.
    pub async fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        let path = self.path(key)?;
        self.retry
            .run(|| async {
                let found = self.inner.get_opts(&path, GetOptions::default()).await;
                let found = found.map_err(|e| ObjectError::from_get(key, e))?;
                found.bytes().await.map_err(|e| ObjectError::from_get(key, e))
            })
            .await
    }

    /// Reads exactly `range` of an object; an object that ends earlier is an error.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let path = self.path(key)?;
        let wanted = range.end.saturating_sub(range.start);
        let bytes = self
            .retry
            .run(|| async {
                let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..Default::default() };
                let found = self.inner.get_opts(&path, options).await.map_err(|e| ObjectError::from_get(key, e))?;
                found.bytes().await.map_err(|e| ObjectError::from_get(key, e))
            })
            .await?;
        if bytes.len() as u64 != wanted {
            let reason = format!("asked for {wanted} bytes at {}, got {}", range.start, bytes.len());
            return Err(ObjectError::Permanent { key: key.to_owned(), reason });
        }
        Ok(bytes)
    }

    /// Deletes an object; one that is not there counts as deleted.
    pub async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let path = self.path(key)?;
        self.retry
            .run(|| async {
                match self.inner.delete(&path).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                    Err(e) => Err(ObjectError::from_put(key, e)),
                }
            })
            .await
    }

    /// Keys below a prefix, for finding what a crash left behind. May be stale: never decide by absence.
    pub async fn list(&self, below: &str) -> Result<Vec<String>, ObjectError> {
        let path = self.path(below)?;
        let mut keys = Vec::new();
        let mut found = self.inner.list(Some(&path));
        let skip = self.prefix.parts().count();
        while let Some(object) = found.next().await {
            let object = object.map_err(|e| ObjectError::from_get(below, e))?;
            keys.push(object.location.parts().skip(skip).collect::<Path>().to_string());
        }
        Ok(keys)
    }
}
