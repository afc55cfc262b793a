//! Objects on local disk that nobody else sees and nothing outlives: files without a name once they are open.
//!
//! So nothing is left behind however the process ends, a directory that is cleared meanwhile takes nothing away, and an object's
//! room is given back when its last reader is gone. Nothing is synced: what is here must be somewhere else, too.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;

use super::{ObjectStore, RetryPolicy};
use crate::beside::beside;

/// An object's file.
#[derive(Clone, Debug)]
struct Object {
    file: Arc<File>,
    bytes: u64,
}

/// A store of such objects, for as long as this value and its clones live. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Scratch {
    directory: Arc<PathBuf>,
    objects: Arc<Mutex<HashMap<Path, Object>>>,
}

impl fmt::Display for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scratch({})", self.directory.display())
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::Generic { store: "Scratch", source: error.into() }
}

fn unsupported(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "Scratch".to_owned() }
}

async fn off_task<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T> {
    let stopped = || std::io::Error::other("the runtime ends");
    beside(work).await.unwrap_or_else(|| Err(stopped())).map_err(failed)
}

/// A file without a name.
fn nameless(directory: &std::path::Path) -> std::io::Result<File> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    std::fs::create_dir_all(directory)?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!("scratch-{}-{number}.tmp", std::process::id()));
    // One of that name was left by a process that ended between the two calls.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

impl Scratch {
    /// With files in a directory, which is made when the first is needed.
    pub fn new(directory: impl Into<PathBuf>) -> Scratch {
        Scratch { directory: Arc::new(directory.into()), objects: Arc::default() }
    }

    /// The objects as a store.
    pub fn store(&self) -> ObjectStore {
        ObjectStore::new(Arc::new(self.clone()), Path::default(), RetryPolicy::none())
    }

    /// Lets an object go, at once.
    pub fn remove(&self, key: &str) {
        self.objects.lock().remove(&Path::from(key));
    }

    fn object(&self, location: &Path) -> Result<Object> {
        let missing = || Error::NotFound { path: location.to_string(), source: "no such object".into() };
        self.objects.lock().get(location).cloned().ok_or_else(missing)
    }
}

fn meta(location: &Path, bytes: u64) -> ObjectMeta {
    let (location, last_modified) = (location.clone(), Default::default());
    ObjectMeta { location, last_modified, size: bytes, e_tag: None, version: None }
}

#[async_trait]
impl object_store::ObjectStore for Scratch {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if !matches!(options.mode, PutMode::Overwrite) {
            return Err(unsupported("conditional put"));
        }
        let mut upload = self.put_multipart_opts(location, PutMultipartOptions::default()).await?;
        upload.put_part(payload).await?;
        upload.complete().await
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let directory = self.directory.clone();
        let file = Arc::new(off_task(move || nameless(&directory)).await?);
        Ok(Box::new(ScratchUpload {
            location: location.clone(),
            object: Object { file, bytes: 0 },
            scratch: self.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Object { file, bytes } = self.object(location)?;
        let range = match options.range {
            Some(range) => {
                range.as_range(bytes).map_err(|error| Error::Generic { store: "Scratch", source: error.into() })?
            }
            None => 0..bytes,
        };
        let (offset, length) = (range.start, usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        let read = beside(move || {
            let mut content = vec![0; length];
            file.read_exact_at(&mut content, offset).map(|()| Bytes::from(content))
        });
        // There is no other place to ask: what cannot be read is gone.
        let gone = |source: std::io::Error| Error::NotFound { path: location.to_string(), source: source.into() };
        let content = match read.await {
            Some(content) => content.map_err(gone)?,
            None => return Err(failed(std::io::Error::other("the runtime ends"))),
        };
        let stream = futures::stream::once(std::future::ready(Ok(content))).boxed();
        let (payload, attributes) = (GetResultPayload::Stream(stream), Default::default());
        Ok(GetResult { payload, meta: meta(location, bytes), range, attributes })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let objects = self.objects.clone();
        let remove = move |location: Result<Path>| {
            let location = location?;
            objects.lock().remove(&location);
            Ok(location)
        };
        locations.map(remove).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let below = |location: &Path| prefix.is_none_or(|prefix| location.prefix_matches(prefix));
        let objects = self.objects.lock();
        let mut found: Vec<_> = objects.iter().filter(|(location, _)| below(location)).collect();
        found.sort_by_key(|(location, _)| *location);
        let found: Vec<_> = found.into_iter().map(|(location, object)| Ok(meta(location, object.bytes))).collect();
        futures::stream::iter(found).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(unsupported("list with delimiter"))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut found = Vec::with_capacity(ranges.len());
        for range in ranges {
            found
                .push(self.get_opts(location, GetOptions::new().with_range(Some(range.clone()))).await?.bytes().await?);
        }
        Ok(found)
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(unsupported("copy"))
    }
}

/// An object being written.
#[derive(Debug)]
struct ScratchUpload {
    location: Path,
    object: Object,
    scratch: Scratch,
}

#[async_trait]
impl MultipartUpload for ScratchUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (file, mut offset) = (self.object.file.clone(), self.object.bytes);
        self.object.bytes += data.content_length() as u64;
        Box::pin(off_task(move || {
            for piece in data.iter() {
                file.write_all_at(piece, offset)?;
                offset += piece.len() as u64;
            }
            Ok(())
        }))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.scratch.objects.lock().insert(self.location.clone(), self.object.clone());
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}
