//! Uploads in parts, as S3 has them: an object that is not there until all of its parts are and their maker says so. Each step is a
//! request of its own, with its own fate: parts that are lost or come too late, ends that nobody hears of, parts left behind.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, PutOptions, PutPayload, PutResult, Result, UploadPart};

use super::store::{SimStore, StoreHandle};

/// Parts of objects that are not there yet.
#[derive(Default)]
pub(super) struct Uploads {
    last: u64,
    begun: BTreeMap<u64, BTreeMap<usize, Bytes>>,
}

/// The answer to whoever names an upload that has ended, or was never begun.
fn no_upload(id: u64) -> Error {
    Error::NotFound { path: format!("upload {id}"), source: "no such upload".into() }
}

impl Uploads {
    /// Begins one.
    pub(super) fn begin(&mut self) -> u64 {
        self.last += 1;
        self.begun.insert(self.last, BTreeMap::new());
        self.last
    }

    fn part(&mut self, id: u64, number: usize, bytes: Bytes) -> Result<()> {
        let parts = self.begun.get_mut(&id).ok_or_else(|| no_upload(id))?;
        parts.insert(number, bytes);
        Ok(())
    }

    /// All bytes, if so many parts are there.
    fn end(&mut self, id: u64, count: usize) -> Result<Bytes> {
        let parts = self.begun.get(&id).ok_or_else(|| no_upload(id))?;
        let mut whole = BytesMut::new();
        for number in 0..count {
            let missing = || Error::Generic { store: "simulated", source: format!("part {number} is missing").into() };
            whole.extend_from_slice(parts.get(&number).ok_or_else(missing)?);
        }
        self.begun.remove(&id);
        Ok(whole.freeze())
    }

    fn abort(&mut self, id: u64) -> Result<()> {
        self.begun.remove(&id).map(|_| ()).ok_or_else(|| no_upload(id))
    }
}

impl SimStore {
    fn complete(&self, location: &Path, id: u64, count: usize) -> Result<PutResult> {
        let whole = self.uploads.lock().end(id, count)?;
        self.put(location, PutPayload::from_bytes(whole), PutOptions::default())
    }
}

/// One upload, as the process that makes it reaches it.
pub(super) struct InParts {
    pub(super) handle: StoreHandle,
    pub(super) location: Path,
    pub(super) id: u64,
    pub(super) parts: usize,
}

impl fmt::Debug for InParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InParts").field("id", &self.id).finish_non_exhaustive()
    }
}

#[async_trait]
impl MultipartUpload for InParts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (handle, id, number) = (self.handle.again(), self.id, self.parts);
        self.parts += 1;
        async move { handle.change(move |store| store.uploads.lock().part(id, number, data.into())).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (location, id, count) = (self.location.clone(), self.id, self.parts);
        self.handle.change(move |store| store.complete(&location, id, count)).await
    }

    async fn abort(&mut self) -> Result<()> {
        let id = self.id;
        self.handle.change(move |store| store.uploads.lock().abort(id)).await
    }
}
