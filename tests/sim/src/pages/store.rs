//! The simulated object store, as one process reaches it. A request takes time on its way there and back; it may be
//! refused, its answer lost, or so slow that nobody waits for it any more: it takes effect all the same, also when the
//! process that sent it has ended. What it holds is watched by [`super::watch::StoreWatch`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use storage::object::RetryPolicy;
use tokio::sync::oneshot;

use super::process::Process;
use super::uploads::{InParts, Uploads};
use super::watch::StoreWatch;
use crate::simulation::Sim;
use crate::trimming::PieceKey;

/// The store, as partitions know it.
pub const STORE: u64 = 1_000;
/// How long a request is waited for.
const TIMEOUT: Duration = Duration::from_secs(2);

/// All objects.
pub struct SimStore {
    sim: Arc<Sim>,
    inner: InMemory,
    pub watch: Mutex<StoreWatch>,
    pub(super) uploads: Mutex<Uploads>,
    part_bytes: usize,
    /// Answers nobody until then.
    away_until: AtomicU64,
}

pub(super) fn outage(reason: &'static str) -> Error {
    Error::Generic { store: "simulated", source: reason.into() }
}

/// What the memory store does, it does at once.
fn at_once<T>(done: impl Future<Output = T>) -> T {
    done.now_or_never().expect("a store in memory does not wait")
}

impl SimStore {
    /// The run's, if it has one.
    pub fn of(sim: &Arc<Sim>) -> Option<Arc<SimStore>> {
        let (shards, part_bytes) = sim.with(|world| {
            let part_bytes = world.options.store.as_ref()?.part_bytes;
            world.others.push(STORE);
            Some((world.options.pages.as_ref().map_or(1, |pages| pages.shards), part_bytes))
        })?;
        let watch = Mutex::new(StoreWatch::new(shards));
        let (inner, uploads, away_until) = (InMemory::new(), Mutex::default(), AtomicU64::new(0));
        Some(Arc::new(SimStore { sim: sim.clone(), inner, watch, uploads, part_bytes, away_until }))
    }

    pub fn away_until(&self, time: u64) {
        self.away_until.store(time, Ordering::Relaxed);
    }

    /// As a process reaches it, with the wrapper that all use.
    pub fn client(self: &Arc<SimStore>, process: &Arc<Process>) -> storage::object::ObjectStore {
        let handle = StoreHandle { store: self.clone(), process: process.clone() };
        let sim = self.sim.clone();
        let jitter = move || sim.random(|random| random.below(1_000)) as f64 / 1_000.0;
        let retry = RetryPolicy::exponential(4, Duration::from_millis(50), Duration::from_secs(1), jitter);
        let store = storage::object::ObjectStore::new(Arc::new(handle), Path::default(), retry);
        store.with_part_bytes(self.part_bytes)
    }

    pub(super) fn put(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let bytes: bytes::Bytes = payload.clone().into();
        let now = self.sim.now();
        // Refused conditions change nothing.
        let put = at_once(self.inner.put_opts(location, payload, options))?;
        self.sim.note("put", &[crc32fast::hash(location.as_ref().as_bytes()).into(), bytes.len() as u64]);
        self.watch.lock().put(now, location.as_ref(), &bytes);
        if let Some(key) = PieceKey::parse(location.as_ref()) {
            self.sim.with(|world| world.archived(&key, bytes));
        }
        Ok(put)
    }

    fn delete(&self, location: &Path) -> Result<Path> {
        let now = self.sim.now();
        self.sim.note("delete", &[crc32fast::hash(location.as_ref().as_bytes()).into()]);
        self.watch.lock().delete(now, location.as_ref());
        if let Some(key) = PieceKey::parse(location.as_ref()) {
            self.sim.with(|world| world.trimming.dropped(&key));
        }
        let one = futures::stream::once(std::future::ready(Ok(location.clone()))).boxed();
        let mut deleted = self.inner.delete_stream(one);
        match at_once(deleted.next()) {
            Some(done) => done,
            None => Ok(location.clone()),
        }
    }

    /// What a LIST shows: at times what was there a while ago.
    fn list(&self, prefix: Option<&Path>, lag_ms: u64) -> Vec<ObjectMeta> {
        let (known, deleted) = self.watch.lock().changed_since(self.sim.now().saturating_sub(lag_ms));
        let found: Vec<_> = at_once(self.inner.list(prefix).collect());
        let found: Vec<ObjectMeta> = found.into_iter().filter_map(Result::ok).collect();
        let pattern = found.first().cloned();
        let mut shown: Vec<_> = found.into_iter().filter(|object| !known.contains(object.location.as_ref())).collect();
        let below = prefix.map_or_else(String::new, |prefix| format!("{prefix}/"));
        for key in deleted.into_iter().filter(|key| key.starts_with(&below)) {
            shown.extend(pattern.iter().map(|like| ObjectMeta { location: Path::from(key.as_str()), ..like.clone() }));
        }
        shown
    }
}

/// See the module.
pub(super) struct StoreHandle {
    pub(super) store: Arc<SimStore>,
    process: Arc<Process>,
}

impl fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreHandle").finish_non_exhaustive()
    }
}

impl fmt::Display for StoreHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated object store")
    }
}

/// What becomes of a request.
struct Fate {
    there_ms: u64,
    back_ms: u64,
    refused: bool,
    lost: bool,
}

impl StoreHandle {
    /// Another one of the same process.
    pub(super) fn again(&self) -> StoreHandle {
        StoreHandle { store: self.store.clone(), process: self.process.clone() }
    }

    fn fate(&self) -> Fate {
        self.store.sim.with(|world| {
            let reachable = world.links.carry(self.process.id, STORE) && world.links.carry(STORE, self.process.id);
            let options = world.options.store.as_ref().expect("there is an object store");
            let (low, high) = options.ms;
            let (refused, lost, late) = (options.refused, options.lost_answers, options.late);
            let faulty = world.faulty;
            let random = &mut world.random;
            let mut there_ms = random.between(low, high);
            if faulty && random.percent(late) {
                there_ms = random.between(500, 6_000);
            }
            Fate {
                there_ms,
                back_ms: random.between(low, high),
                refused: !reachable || (faulty && random.percent(refused)),
                lost: faulty && random.percent(lost),
            }
        })
    }

    async fn request<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&SimStore) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Fate { there_ms, back_ms, refused, lost } = self.fate();
        let store = self.store.clone();
        let (reply, answer) = oneshot::channel();
        // Apart from the process: what is on its way arrives.
        tokio::spawn(async move {
            store.sim.sleep(there_ms).await;
            let away = store.sim.now() < store.away_until.load(Ordering::Relaxed);
            let done = if refused || away { Err(outage("refused")) } else { effect(&store) };
            store.sim.sleep(back_ms).await;
            // Nobody may be waiting any more.
            let _ = reply.send(if lost { Err(outage("the answer was lost")) } else { done });
        });
        match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(Ok(done)) => done,
            _ => Err(outage("no answer in time")),
        }
    }

    async fn read<T: Send + 'static>(&self, effect: impl FnOnce(&SimStore) -> Result<T> + Send + 'static) -> Result<T> {
        self.process.gate().await;
        let done = self.request(effect).await;
        self.process.gate().await;
        done
    }

    /// A request that changes something: before and after it the process may end.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&SimStore) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.process.point().await;
        let done = self.request(effect).await;
        self.process.point().await;
        done
    }
}

#[async_trait]
impl ObjectStore for StoreHandle {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let location = location.clone();
        self.change(move |store| store.put(&location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let id = self.change(|store| Ok(store.uploads.lock().begin())).await?;
        self.store.sim.count("UploadInParts");
        Ok(Box::new(InParts { handle: self.again(), location: location.clone(), id, parts: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let location = location.clone();
        self.read(move |store| at_once(store.inner.get_opts(&location, options))).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let handle = Arc::new(self.again());
        locations
            .then(move |location| {
                let handle = handle.clone();
                async move {
                    let location = location?;
                    handle.change(move |store| store.delete(&location)).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (handle, prefix) = (self.again(), prefix.cloned());
        let listing = async move {
            let lag_ms = handle.store.sim.with(|world| {
                let stale = world.faulty && world.options.store.as_ref().is_some_and(|store| store.stale_list);
                if stale && world.random.percent(60) { world.random.below(6_000) } else { 0 }
            });
            handle.read(move |store| Ok(store.list(prefix.as_ref(), lag_ms))).await
        };
        futures::stream::once(listing)
            .flat_map(|found| match found {
                Ok(objects) => futures::stream::iter(objects.into_iter().map(Ok)).boxed(),
                Err(error) => futures::stream::once(std::future::ready(Err(error))).boxed(),
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, _prefix: Option<&Path>) -> Result<ListResult> {
        Err(outage("lists with a delimiter are not simulated"))
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(outage("copies are not simulated"))
    }
}
