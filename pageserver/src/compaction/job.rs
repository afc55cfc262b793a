//! Doing a rewrite: layers in, layers out, streamed with bounded memory.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use storage::beside::runs_alone;
use storage::layer::format::LayerIdentity;
use storage::layer::{
    LayerDescriptor, LayerError, LayerKind, LayerName, LayerReader, LayerScan, RunSettings, RunWriter,
};
use storage::object::ObjectStore;
use storage::{BranchId, Lsn, PageNo, ShardId};

use super::plan::ALL_PAGES;
use super::{Job, JobKind};
use crate::buffer::{BufferedRecord, RecordBuffer, RecordCopy};
use crate::replay::{Replay, ReplayError};

/// What a job needs besides its layers.
pub struct JobContext<'a> {
    /// Where layers go.
    pub store: &'a ObjectStore,
    /// Where layers come from.
    pub reader: &'a LayerReader,
    /// The branch.
    pub branch: BranchId,
    /// The shard.
    pub shard: ShardId,
    /// See [`super::CompactionSettings::layer_target_bytes`].
    pub layer_target_bytes: u64,
    /// Names never used before.
    pub next_name: &'a (dyn Fn() -> LayerName + Send + Sync),
    /// Asked between pages: give up?
    pub stopped: &'a (dyn Fn() -> bool + Send + Sync),
}

/// Why a job made nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Repeat it, unless a layer is damaged.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// XX001: records and pages do not fit each other.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A broken invariant, already printed. Repeating the job may give the same.
    #[error("the rewrite panicked: {0}")]
    Panicked(String),
    /// The server stops.
    #[error("stopped")]
    Stopped,
}

impl JobContext<'_> {
    fn writer(
        &self,
        kind: LayerKind,
        level: u8,
        (start_lsn, end_lsn): (Lsn, Lsn),
        pages: RangeInclusive<PageNo>,
        layer_target_bytes: u64,
    ) -> RunWriter<impl FnMut() -> LayerName> {
        let identity = LayerIdentity { branch: self.branch, kind, start_lsn, end_lsn };
        let settings = RunSettings { shard: self.shard, identity, level, pages, layer_target_bytes };
        RunWriter::new(self.store, settings, self.next_name)
    }

    fn check_stopped(&self) -> Result<(), JobError> {
        if (self.stopped)() { Err(JobError::Stopped) } else { Ok(()) }
    }
}

/// Layers of one run, each as far as its pages are wanted, read one after another.
pub(super) struct RunScan<'a> {
    reader: &'a LayerReader,
    layers: std::vec::IntoIter<(&'a LayerDescriptor, RangeInclusive<PageNo>)>,
    scan: Option<LayerScan>,
    /// The branch that wrote the layer being read.
    branch: BranchId,
}

impl<'a> RunScan<'a> {
    /// At its first entry.
    pub(super) async fn new(
        reader: &'a LayerReader,
        layers: impl Iterator<Item = (&'a LayerDescriptor, RangeInclusive<PageNo>)>,
    ) -> Result<RunScan<'a>, LayerError> {
        let layers: Vec<_> = layers.collect();
        let mut run = RunScan { reader, layers: layers.into_iter(), scan: None, branch: BranchId::default() };
        run.advance().await?;
        Ok(run)
    }

    /// The entry at hand; none at the end.
    pub(super) fn head(&self) -> Option<(PageNo, Lsn, &[u8])> {
        self.scan.as_ref()?.head()
    }

    /// Goes on, if that takes no waiting; false otherwise.
    fn step(&mut self) -> Result<bool, LayerError> {
        self.scan.as_mut().map_or(Ok(false), LayerScan::step)
    }

    pub(super) async fn advance(&mut self) -> Result<(), LayerError> {
        loop {
            if let Some(scan) = &mut self.scan {
                scan.advance().await?;
                if scan.head().is_some() {
                    return Ok(());
                }
            }
            let Some((layer, pages)) = self.layers.next() else { return Ok(()) };
            self.scan = Some(self.reader.scan(layer, pages).await?);
            self.branch = layer.branch;
        }
    }
}

/// Several runs in one order: by page, then LSN, then as within the run. (A run may have records on both sides of another's:
/// what lay between was not needed when it was merged.) Without what lies below the floors.
pub(super) struct MergedScan<'a> {
    /// Few: the least is found by looking at each.
    runs: Vec<RunScan<'a>>,
    job: &'a Job,
    /// The run whose entry is at hand.
    least: Option<usize>,
    /// The first entry of the other runs: as long as the least run stays below it, nobody else need be looked at.
    next: Option<(PageNo, Lsn, usize)>,
    /// A page, and what of it is needed: records above an LSN, all, or nothing.
    wanted: (PageNo, Above),
}

#[derive(Clone, Copy, Debug)]
enum Above {
    Lsn(Lsn),
    All,
    Nothing,
}

impl<'a> MergedScan<'a> {
    /// At its first entry.
    pub(super) async fn new(reader: &'a LayerReader, job: &'a Job) -> Result<MergedScan<'a>, LayerError> {
        let mut runs = Vec::with_capacity(job.runs.len());
        for layers in &job.runs {
            runs.push(RunScan::new(reader, layers.iter().map(|layer| (layer, job.pages.clone()))).await?);
        }
        let wanted = (PageNo(0), MergedScan::wanted(job, PageNo(0)));
        let mut merged = MergedScan { runs, job, least: None, next: None, wanted };
        merged.find_least();
        if !merged.is_needed() {
            merged.advance().await?;
        }
        Ok(merged)
    }

    fn wanted(job: &Job, page: PageNo) -> Above {
        let floor = job.floors.partition_point(|floor| floor.last_page < page);
        match job.floors.get(floor) {
            _ if !job.holds(page) => Above::Nothing,
            Some(floor) if floor.first_page <= page => Above::Lsn(floor.lsn),
            _ => Above::All,
        }
    }

    /// Whether the entry at hand is still needed; true at the end.
    fn is_needed(&mut self) -> bool {
        let Some((page, lsn)) = self.head().map(|(page, lsn, _)| (page, lsn)) else { return true };
        if self.wanted.0 != page {
            self.wanted = (page, MergedScan::wanted(self.job, page));
        }
        match self.wanted.1 {
            Above::Lsn(floor) => lsn > floor,
            Above::All => true,
            Above::Nothing => false,
        }
    }

    fn place(&self, number: usize) -> Option<(PageNo, Lsn, usize)> {
        self.runs[number].head().map(|(page, lsn, _)| (page, lsn, number))
    }

    fn find_least(&mut self) {
        let (mut least, mut next) = (None, None);
        for place in (0..self.runs.len()).filter_map(|number| self.place(number)) {
            if least.is_none_or(|least| place < least) {
                (least, next) = (Some(place), least);
            } else if next.is_none_or(|next| place < next) {
                next = Some(place);
            }
        }
        (self.least, self.next) = (least.map(|(.., number)| number), next);
    }

    /// Goes on to the next needed entry as far as that takes no waiting. False: [`MergedScan::advance`] does the rest.
    fn try_advance(&mut self) -> Result<bool, LayerError> {
        loop {
            let Some(least) = self.least else { return Ok(true) };
            if !self.runs[least].step()? {
                return Ok(false);
            }
            let ahead = self.place(least).is_some_and(|place| self.next.is_none_or(|next| place < next));
            if !ahead {
                self.find_least();
            }
            if self.is_needed() {
                return Ok(true);
            }
        }
    }

    /// Goes on to the next needed entry.
    pub(super) async fn advance(&mut self) -> Result<(), LayerError> {
        if self.try_advance()? { Ok(()) } else { self.advance_further().await }
    }

    /// After [`MergedScan::try_advance`] had to stop: fetches what the least run goes on with.
    async fn advance_further(&mut self) -> Result<(), LayerError> {
        loop {
            if let Some(least) = self.least {
                self.runs[least].advance().await?;
                self.find_least();
            }
            if self.is_needed() || self.try_advance()? {
                return Ok(());
            }
        }
    }

    /// The entry at hand; none at the end.
    pub(super) fn head(&self) -> Option<(PageNo, Lsn, &[u8])> {
        self.runs[self.least?].head()
    }

    fn head_page(&self) -> Option<PageNo> {
        self.head().map(|(page, ..)| page)
    }
}

/// Does work beside the runtime's tasks. Rewriting is mostly computation: on a thread of its own it leaves the runtime's to
/// readers. On a runtime with one thread it runs in place.
pub async fn apart<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T, JobError>
where
    F: Future<Output = Result<T, JobError>>,
    T: Send + 'static,
{
    if runs_alone() {
        return work().await;
    }
    let runtime = tokio::runtime::Handle::current();
    match tokio::task::spawn_blocking(move || runtime.block_on(work())).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => Err(JobError::Panicked(error.to_string())),
        Err(_) => Err(JobError::Stopped),
    }
}

/// Runs a job. Its layers are durable afterwards and wait for a manifest to name them.
pub async fn run_job(context: &JobContext<'_>, job: &Job) -> Result<Vec<LayerDescriptor>, JobError> {
    match job.kind {
        JobKind::Merge => merge_runs(context, job).await,
        JobKind::Image => make_images(context, job).await,
    }
}

async fn merge_runs(context: &JobContext<'_>, job: &Job) -> Result<Vec<LayerDescriptor>, JobError> {
    let lsns = (job.start_lsn, job.end_lsn);
    let mut writer = context.writer(LayerKind::Delta, job.level, lsns, job.pages.clone(), context.layer_target_bytes);
    let mut merged = MergedScan::new(context.reader, job).await?;
    let mut last = None;
    while let Some((page, lsn, bytes)) = merged.head() {
        if last.replace(page) != Some(page) {
            context.check_stopped()?;
        }
        if !writer.try_push(page, lsn, bytes) {
            writer.push(page, lsn, bytes).await?;
        }
        if !merged.try_advance()? {
            merged.advance_further().await?;
        }
    }
    Ok(writer.finish().await?)
}

/// The pages of an image job as of its end, one after another.
pub struct MadePages<'a> {
    branch: BranchId,
    job: &'a Job,
    records: MergedScan<'a>,
    images: RunScan<'a>,
}

impl<'a> MadePages<'a> {
    /// Before the first.
    pub async fn new(reader: &'a LayerReader, branch: BranchId, job: &'a Job) -> Result<MadePages<'a>, LayerError> {
        let records = MergedScan::new(reader, job).await?;
        let tiles = job.base.iter().filter_map(|tile| Some((tile.image.as_ref()?, tile.first_page..=tile.last_page)));
        Ok(MadePages { branch, job, records, images: RunScan::new(reader, tiles).await? })
    }

    /// The next page, sealed by the branch, with its LSN; none at the end.
    pub async fn next(&mut self) -> Result<Option<(PageNo, Lsn, Bytes)>, JobError> {
        while self.images.head().is_some_and(|(page, ..)| !self.job.holds(page)) {
            self.images.advance().await?;
        }
        let old_page = self.images.head().map(|(page, ..)| page);
        let page = match (old_page, self.records.head_page()) {
            (None, None) => return Ok(None),
            (Some(page), None) | (None, Some(page)) => page,
            (Some(old), Some(new)) => old.min(new),
        };
        let base = self.images.head().filter(|(old, ..)| *old == page);
        let (lsn, bytes) = match base {
            // As it is, unless an ancestor sealed it.
            Some((_, lsn, bytes)) if self.records.head_page() != Some(page) && self.images.branch == self.branch => {
                (lsn, Bytes::copy_from_slice(bytes))
            }
            base => {
                // One record at a time: a hot page may have more of them than fit memory.
                let base = base.map(|(.., bytes)| (self.images.branch, bytes));
                let mut replay = Replay::new(self.branch, page, base)?;
                while let Some((_, lsn, record)) = self.records.head().filter(|(next, ..)| *next == page) {
                    replay.apply(lsn, record)?;
                    if !self.records.try_advance()? {
                        self.records.advance_further().await?;
                    }
                }
                let (bytes, lsn) = replay.finish();
                (lsn, bytes)
            }
        };
        if old_page == Some(page) {
            self.images.advance().await?;
        }
        Ok(Some((page, lsn, bytes)))
    }
}

async fn make_images(context: &JobContext<'_>, job: &Job) -> Result<Vec<LayerDescriptor>, JobError> {
    let lsns = (job.end_lsn, job.end_lsn);
    let mut writer = context.writer(LayerKind::Image, job.level, lsns, job.pages.clone(), context.layer_target_bytes);
    let mut pages = MadePages::new(context.reader, context.branch, job).await?;
    while let Some((page, lsn, bytes)) = pages.next().await? {
        context.check_stopped()?;
        writer.push(page, lsn, &bytes).await?;
    }
    Ok(writer.finish().await?)
}

/// Writes a frozen buffer as one layer of level 0; none if it holds no record. A page's `images` entry is a record that
/// changes nothing and follows the page's own: readers need not look at what comes before it.
pub async fn write_buffer(
    context: &JobContext<'_>,
    buffer: &RecordBuffer,
    images: &HashMap<PageNo, BufferedRecord>,
) -> Result<Vec<LayerDescriptor>, JobError> {
    let lsns = (buffer.start_lsn(), buffer.end_lsn());
    let pages = buffer.pages();
    if pages.is_empty() {
        return Ok(Vec::new());
    }
    let mut writer = context.writer(LayerKind::Delta, 0, lsns, ALL_PAGES, u64::MAX);
    let mut copy = RecordCopy::default();
    for page in pages {
        context.check_stopped()?;
        buffer.copy_records(page, &mut copy);
        for (lsn, bytes) in copy.records() {
            if !writer.try_push(page, lsn, bytes) {
                writer.push(page, lsn, bytes).await?;
            }
        }
        if let Some((lsn, bytes)) = images.get(&page) {
            writer.push(page, *lsn, bytes).await?;
        }
    }
    Ok(writer.finish().await?)
}
