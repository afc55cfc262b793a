//! Doing a rewrite: layers in, layers out, streamed with bounded memory.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::RangeInclusive;

use storage::layer::format::LayerIdentity;
use storage::layer::{
    LayerDescriptor, LayerEntry, LayerError, LayerKind, LayerName, LayerReader, LayerScan, RunSettings, RunWriter,
};
use storage::object::ObjectStore;
use storage::{BranchId, Lsn, PageNo};

use super::plan::{ALL_PAGES, Floor};
use super::{Job, JobKind};
use crate::buffer::{BufferedRecord, RecordBuffer};
use crate::replay::{Replay, ReplayError};

/// What a job needs besides its layers.
pub struct JobContext<'a> {
    /// Where layers go.
    pub store: &'a ObjectStore,
    /// Where layers come from.
    pub reader: &'a LayerReader,
    /// The branch.
    pub branch: BranchId,
    /// See [`storage::layer::shard_prefix`].
    pub shard_prefix: &'a str,
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
        let shard_prefix = self.shard_prefix.to_owned();
        let settings = RunSettings { shard_prefix, identity, level, pages, layer_target_bytes };
        RunWriter::new(self.store, settings, self.next_name)
    }

    fn check_stopped(&self) -> Result<(), JobError> {
        if (self.stopped)() { Err(JobError::Stopped) } else { Ok(()) }
    }
}

/// Layers of one run, each as far as its pages are wanted, read one after another.
struct RunScan<'a> {
    reader: &'a LayerReader,
    layers: std::vec::IntoIter<(&'a LayerDescriptor, RangeInclusive<PageNo>)>,
    scan: Option<LayerScan>,
    /// The branch that wrote the layer being read.
    branch: BranchId,
}

impl<'a> RunScan<'a> {
    fn new(
        reader: &'a LayerReader,
        layers: impl Iterator<Item = (&'a LayerDescriptor, RangeInclusive<PageNo>)>,
    ) -> RunScan<'a> {
        let layers: Vec<_> = layers.collect();
        RunScan { reader, layers: layers.into_iter(), scan: None, branch: BranchId::default() }
    }

    async fn next(&mut self) -> Result<Option<LayerEntry>, LayerError> {
        loop {
            if let Some(scan) = &mut self.scan
                && let Some(entry) = scan.next().await?
            {
                return Ok(Some(entry));
            }
            let Some((layer, pages)) = self.layers.next() else { return Ok(None) };
            self.scan = Some(self.reader.scan(layer, pages).await?);
            self.branch = layer.branch;
        }
    }
}

/// Several runs in one order: by page, then LSN, then as within the run. (A run may have records on both sides of another's:
/// what lay between was not needed when it was merged.) Without what lies below the floors.
struct MergedScan<'a> {
    runs: Vec<RunScan<'a>>,
    heads: Vec<Option<LayerEntry>>,
    order: BinaryHeap<Reverse<(PageNo, Lsn, usize)>>,
    floors: &'a [Floor],
}

impl<'a> MergedScan<'a> {
    async fn new(reader: &'a LayerReader, job: &'a Job) -> Result<MergedScan<'a>, LayerError> {
        let scan = |layers: &'a Vec<LayerDescriptor>| {
            RunScan::new(reader, layers.iter().map(|layer| (layer, job.pages.clone())))
        };
        let runs: Vec<_> = job.runs.iter().map(scan).collect();
        let heads = vec![None; runs.len()];
        let mut merged = MergedScan { heads, runs, order: BinaryHeap::new(), floors: &job.floors };
        for number in 0..merged.runs.len() {
            merged.advance(number).await?;
        }
        Ok(merged)
    }

    /// Whether a record is still needed. Records come sorted by page, run by run.
    fn is_needed(&self, entry: &LayerEntry) -> bool {
        let floor = self.floors.partition_point(|floor| floor.last_page < entry.page);
        self.floors.get(floor).is_none_or(|floor| entry.page < floor.first_page || entry.lsn > floor.lsn)
    }

    async fn advance(&mut self, number: usize) -> Result<Option<LayerEntry>, LayerError> {
        let next = loop {
            match self.runs[number].next().await? {
                Some(entry) if !self.is_needed(&entry) => {}
                next => break next,
            }
        };
        if let Some(entry) = &next {
            self.order.push(Reverse((entry.page, entry.lsn, number)));
        }
        Ok(std::mem::replace(&mut self.heads[number], next))
    }

    fn peek_page(&self) -> Option<PageNo> {
        self.order.peek().map(|Reverse((page, ..))| *page)
    }

    async fn next(&mut self) -> Result<Option<LayerEntry>, LayerError> {
        let Some(Reverse((.., number))) = self.order.pop() else { return Ok(None) };
        self.advance(number).await
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
    while let Some(entry) = merged.next().await? {
        context.check_stopped()?;
        writer.push(entry.page, entry.lsn, &entry.bytes).await?;
    }
    Ok(writer.finish().await?)
}

async fn make_images(context: &JobContext<'_>, job: &Job) -> Result<Vec<LayerDescriptor>, JobError> {
    let lsns = (job.end_lsn, job.end_lsn);
    let mut writer = context.writer(LayerKind::Image, job.level, lsns, job.pages.clone(), context.layer_target_bytes);
    let mut merged = MergedScan::new(context.reader, job).await?;
    let tiles = job.base.iter().filter_map(|tile| Some((tile.image.as_ref()?, tile.first_page..=tile.last_page)));
    let mut pages = RunScan::new(context.reader, tiles);
    let mut old = pages.next().await?.map(|page| (pages.branch, page));
    loop {
        context.check_stopped()?;
        let page = match (old.as_ref().map(|(_, old)| old.page), merged.peek_page()) {
            (None, None) => break,
            (Some(page), None) | (None, Some(page)) => page,
            (Some(old), Some(new)) => old.min(new),
        };
        let base = old.take_if(|(_, old)| old.page == page);
        if base.is_some() {
            old = pages.next().await?.map(|page| (pages.branch, page));
        }
        match base {
            // As it is, unless an ancestor sealed it.
            Some((sealed_by, base)) if merged.peek_page() != Some(page) && sealed_by == context.branch => {
                writer.push(page, base.lsn, &base.bytes).await?;
            }
            base => {
                // One record at a time: a hot page may have more of them than fit memory.
                let base = base.as_ref().map(|(sealed_by, base)| (*sealed_by, &base.bytes[..]));
                let mut replay = Replay::new(context.branch, page, base)?;
                while merged.peek_page() == Some(page) {
                    let record = merged.next().await?.expect("just seen");
                    replay.apply(record.lsn, &record.bytes)?;
                }
                let (bytes, lsn) = replay.finish();
                writer.push(page, lsn, &bytes).await?;
            }
        }
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
    for page in pages {
        context.check_stopped()?;
        for (lsn, bytes) in buffer.records(page, None, Lsn::MAX) {
            writer.push(page, lsn, &bytes).await?;
        }
        if let Some((lsn, bytes)) = images.get(&page) {
            writer.push(page, *lsn, bytes).await?;
        }
    }
    Ok(writer.finish().await?)
}
