//! An object store that fails on purpose, for tests and simulations: requests that are refused, and requests that are
//! done although their answer gets lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Done and answered.
    Answered,
    /// Not done.
    Refused,
    /// Done; the caller learns of an error.
    AnswerLost,
}

type Decide = dyn Fn(u64) -> Fate + Send + Sync;

/// Passes requests on or not, as a function of their number says.
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    decide: Box<Decide>,
    requests: AtomicU64,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

fn outage() -> Error {
    Error::Generic { store: "FaultyStore", source: "injected fault".into() }
}

impl FaultyStore {
    /// `decide` is given the number of the request, counted from zero.
    pub fn new(inner: Arc<dyn ObjectStore>, decide: impl Fn(u64) -> Fate + Send + Sync + 'static) -> FaultyStore {
        FaultyStore { inner, decide: Box::new(decide), requests: AtomicU64::new(0) }
    }

    fn fate(&self) -> Fate {
        (self.decide)(self.requests.fetch_add(1, Ordering::Relaxed))
    }

    fn answer<T>(fate: Fate, outcome: Result<T>) -> Result<T> {
        if fate == Fate::AnswerLost { Err(outage()) } else { outcome }
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.fate() {
            Fate::Refused => Err(outage()),
            fate => FaultyStore::answer(fate, self.inner.put_opts(location, payload, options).await),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.fate() {
            Fate::Answered => self.inner.put_multipart_opts(location, options).await,
            Fate::Refused | Fate::AnswerLost => Err(outage()),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fate() {
            Fate::Answered => self.inner.get_opts(location, options).await,
            Fate::Refused | Fate::AnswerLost => Err(outage()),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.fate() {
            Fate::Refused => futures::stream::once(async { Err(outage()) }).boxed(),
            fate => self.inner.delete_stream(locations).map(move |done| FaultyStore::answer(fate, done)).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
