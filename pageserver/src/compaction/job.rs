//! Doing a rewrite: layers in, layers out, streamed with bounded memory.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use storage::layer::format::LayerIdentity;
use storage::layer::{
    LayerDescriptor, LayerEntry, LayerError, LayerKind, LayerName, LayerReader, LayerScan, RunSettings, RunWriter,
};
use storage::object::ObjectStore;
use storage::{BranchId, Lsn, PageNo};

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
        layer_target_bytes: u64,
    ) -> RunWriter<impl FnMut() -> LayerName> {
        let identity = LayerIdentity { branch: self.branch, kind, start_lsn, end_lsn };
        let shard_prefix = self.shard_prefix.to_owned();
        RunWriter::new(self.store, RunSettings { shard_prefix, identity, level, layer_target_bytes }, self.next_name)
    }

    fn check_stopped(&self) -> Result<(), JobError> {
        if (self.stopped)() { Err(JobError::Stopped) } else { Ok(()) }
    }
}

/// Layers of one run, read one after another.
struct RunScan<'a> {
    reader: &'a LayerReader,
    layers: std::slice::Iter<'a, LayerDescriptor>,
    scan: Option<LayerScan>,
    /// The branch that wrote the layer being read.
    branch: BranchId,
}

impl<'a> RunScan<'a> {
    fn new(reader: &'a LayerReader, layers: &'a [LayerDescriptor]) -> RunScan<'a> {
        RunScan { reader, layers: layers.iter(), scan: None, branch: BranchId::default() }
    }

    async fn next(&mut self) -> Result<Option<LayerEntry>, LayerError> {
        loop {
            if let Some(scan) = &mut self.scan
                && let Some(entry) = scan.next().await?
            {
                return Ok(Some(entry));
            }
            let Some(layer) = self.layers.next() else { return Ok(None) };
            self.scan = Some(self.reader.scan(layer).await?);
            self.branch = layer.branch;
        }
    }
}

/// Several runs in one order: by page, then run, then as within the run.
struct MergedScan<'a> {
    runs: Vec<RunScan<'a>>,
    heads: Vec<Option<LayerEntry>>,
    order: BinaryHeap<Reverse<(PageNo, usize)>>,
}

impl<'a> MergedScan<'a> {
    async fn new(reader: &'a LayerReader, runs: &'a [Vec<LayerDescriptor>]) -> Result<MergedScan<'a>, LayerError> {
        let runs: Vec<_> = runs.iter().map(|layers| RunScan::new(reader, layers)).collect();
        let mut merged = MergedScan { heads: vec![None; runs.len()], runs, order: BinaryHeap::new() };
        for number in 0..merged.runs.len() {
            merged.advance(number).await?;
        }
        Ok(merged)
    }

    async fn advance(&mut self, number: usize) -> Result<Option<LayerEntry>, LayerError> {
        let next = self.runs[number].next().await?;
        if let Some(entry) = &next {
            self.order.push(Reverse((entry.page, number)));
        }
        Ok(std::mem::replace(&mut self.heads[number], next))
    }

    fn peek_page(&self) -> Option<PageNo> {
        self.order.peek().map(|Reverse((page, _))| *page)
    }

    async fn next(&mut self) -> Result<Option<LayerEntry>, LayerError> {
        let Some(Reverse((_, number))) = self.order.pop() else { return Ok(None) };
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
    let mut writer = context.writer(LayerKind::Delta, 1, lsns, context.layer_target_bytes);
    let mut merged = MergedScan::new(context.reader, &job.runs).await?;
    while let Some(entry) = merged.next().await? {
        context.check_stopped()?;
        writer.push(entry.page, entry.lsn, &entry.bytes).await?;
    }
    Ok(writer.finish().await?)
}

async fn make_images(context: &JobContext<'_>, job: &Job) -> Result<Vec<LayerDescriptor>, JobError> {
    let lsns = (job.end_lsn, job.end_lsn);
    let mut writer = context.writer(LayerKind::Image, 1, lsns, context.layer_target_bytes);
    let mut merged = MergedScan::new(context.reader, &job.runs).await?;
    let mut pages = RunScan::new(context.reader, &job.base);
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
    let mut writer = context.writer(LayerKind::Delta, 0, lsns, u64::MAX);
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
