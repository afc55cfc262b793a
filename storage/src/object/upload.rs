//! Streamed writing of one object with bounded memory: small ones are put whole, larger ones go in parts.

use bytes::{Bytes, BytesMut};
use object_store::ObjectStoreExt;
use object_store::WriteMultipart;

use super::{ObjectError, ObjectStore};

/// Bytes of one part; S3 wants at least 5 MiB.
pub(super) const PART_BYTES: usize = 8 << 20;
/// Parts that may be under way at a time.
const PARTS_IN_FLIGHT: usize = 2;

/// An object being written. It exists only once [`Upload::finish`] has returned; dropping it gives up.
#[derive(Debug)]
pub struct Upload {
    store: ObjectStore,
    key: String,
    pending: BytesMut,
    parts: Option<WriteMultipart>,
    written_bytes: u64,
}

impl ObjectStore {
    /// Begins writing an object that nobody else writes.
    pub fn upload(&self, key: &str) -> Upload {
        let pending = BytesMut::new();
        Upload { store: self.clone(), key: key.to_owned(), pending, parts: None, written_bytes: 0 }
    }
}

impl Upload {
    /// Bytes taken so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Takes the next bytes; waits while too many parts are under way.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ObjectError> {
        self.reserve(bytes.len());
        self.pending.extend_from_slice(bytes);
        self.written_bytes += bytes.len() as u64;
        self.send_part().await
    }

    /// The same with bytes that `fill` writes in place, of `longest` at most; it answers how many they are.
    pub async fn write_with(
        &mut self,
        longest: usize,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), ObjectError> {
        self.reserve(longest);
        let before = self.pending.len();
        self.pending.resize(before + longest, 0);
        let length = fill(&mut self.pending[before..]);
        self.pending.truncate(before + length);
        self.written_bytes += length as u64;
        self.send_part().await
    }

    /// What has grown to this will probably grow to a part: no more copies on the way there.
    fn reserve(&mut self, more_bytes: usize) {
        let part_bytes = self.store.part_bytes;
        if self.pending.len() >= part_bytes / 16 && self.pending.capacity() < part_bytes {
            self.pending.reserve((part_bytes + more_bytes).saturating_sub(self.pending.len()));
        }
    }

    async fn send_part(&mut self) -> Result<(), ObjectError> {
        if self.pending.len() < self.store.part_bytes {
            return Ok(());
        }
        if self.parts.is_none() {
            let path = self.store.path(&self.key)?;
            let upload =
                self.store.inner.put_multipart(&path).await.map_err(|e| ObjectError::from_put(&self.key, e))?;
            self.parts = Some(WriteMultipart::new_with_chunk_size(upload, self.store.part_bytes));
        }
        let parts = self.parts.as_mut().expect("set just above");
        parts.wait_for_capacity(PARTS_IN_FLIGHT).await.map_err(|e| ObjectError::from_put(&self.key, e))?;
        parts.put(self.pending.split().freeze());
        Ok(())
    }

    /// Makes the object exist, durably. Not repeated on failure: the caller begins anew under another key.
    pub async fn finish(self) -> Result<(), ObjectError> {
        let Upload { store, key, pending, parts, .. } = self;
        let rest: Bytes = pending.freeze();
        match parts {
            None => store.put(&key, rest).await,
            Some(mut parts) => {
                parts.put(rest);
                parts.finish().await.map(|_| ()).map_err(|e| ObjectError::from_put(&key, e))
            }
        }
    }

    /// Gives up and removes what was already sent, as far as possible.
    pub async fn abort(self) {
        if let Some(parts) = self.parts {
            // What stays behind is not an object and costs space only.
            let _ = parts.abort().await;
        }
    }
}
