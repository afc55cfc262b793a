//! Layers made by the book, and layers that miss something.

use std::sync::atomic::{AtomicU64, Ordering};

use storage::layer::format::LayerIdentity;
use storage::layer::{LayerCache, LayerDescriptor, LayerKind, LayerName, LayerReader, RunSettings, RunWriter};
use storage::layout::ShardLayout;
use storage::object::{ObjectStore, RetryPolicy};
use storage::record::{Record, RedoOp};
use storage::{BranchId, Generation, Lsn, PageNo, ShardId, TreeId};

use super::super::{ALL_PAGES, Floor, Job, JobContext, JobKind, Tile, run_job};
use super::compare_samples;

const BRANCH: BranchId = BranchId(4);
/// More than a block holds.
const PAGES: u64 = 4000;

struct Workshop {
    store: ObjectStore,
    reader: LayerReader,
    sequence: AtomicU64,
}

impl Workshop {
    fn new() -> Workshop {
        let store = ObjectStore::memory(RetryPolicy::none());
        let reader = LayerReader::new(store.clone(), LayerCache::new(0, 1 << 20));
        Workshop { store, reader, sequence: AtomicU64::new(0) }
    }

    fn next_name(&self) -> LayerName {
        LayerName { generation: Generation(1), sequence: self.sequence.fetch_add(1, Ordering::Relaxed) }
    }

    async fn write(
        &self,
        kind: LayerKind,
        lsns: (u64, u64),
        entries: &[(PageNo, Lsn, Vec<u8>)],
    ) -> Vec<LayerDescriptor> {
        let identity = LayerIdentity { branch: BRANCH, kind, start_lsn: Lsn(lsns.0), end_lsn: Lsn(lsns.1) };
        let settings =
            RunSettings { shard: ShardId(0), identity, level: 1, pages: ALL_PAGES, layer_target_bytes: 8 << 10 };
        let mut writer = RunWriter::new(&self.store, settings, || self.next_name());
        for (page, lsn, bytes) in entries {
            writer.push(*page, *lsn, bytes).await.expect("written");
        }
        writer.finish().await.expect("written")
    }

    /// A page made anew at one of its records' LSNs, for every page.
    async fn run(&self, lsns: (u64, u64)) -> Vec<LayerDescriptor> {
        let entry = |page: u64| {
            let tree = TreeId(PageNo(lsns.1));
            let mut bytes = Vec::new();
            let op = RedoOp::Format { level: 0, flags: 0, tree, prefix: b"a prefix" };
            Record { page: PageNo(page), op }.encode(&mut bytes);
            (PageNo(page), Lsn(lsns.0 + 1 + page % (lsns.1 - lsns.0)), bytes)
        };
        self.write(LayerKind::Delta, lsns, &(1..=PAGES).map(entry).collect::<Vec<_>>()).await
    }

    async fn job(&self, kind: JobKind, floor: Option<u64>) -> Job {
        let all = |lsn: u64| Floor { first_page: PageNo(0), last_page: PageNo(u64::MAX), lsn: Lsn(lsn) };
        let none = Tile { first_page: PageNo(0), last_page: PageNo(u64::MAX), image: None };
        Job {
            kind,
            pages: ALL_PAGES,
            runs: vec![self.run((10, 20)).await, self.run((20, 30)).await],
            base: if kind == JobKind::Image { vec![none] } else { Vec::new() },
            floors: floor.map(all).into_iter().collect(),
            holds: (ShardId(0), ShardLayout::SINGLE),
            start_lsn: Lsn(10),
            end_lsn: Lsn(30),
            level: 2,
        }
    }

    async fn made(&self, job: &Job) -> Vec<LayerDescriptor> {
        let next_name = || self.next_name();
        let context = JobContext {
            store: &self.store,
            reader: &self.reader,
            branch: BRANCH,
            shard: ShardId(0),
            layer_target_bytes: 8 << 10,
            next_name: &next_name,
            stopped: &|| false,
        };
        run_job(&context, job).await.expect("done")
    }

    async fn entries(&self, layers: &[LayerDescriptor]) -> Vec<(PageNo, Lsn, Vec<u8>)> {
        let mut entries = Vec::new();
        for layer in layers {
            let mut scan = self.reader.scan(layer, ALL_PAGES).await.expect("read");
            while let Some(entry) = scan.next().await.expect("read") {
                entries.push((entry.page, entry.lsn, entry.bytes.to_vec()));
            }
        }
        entries
    }

    /// How many of some samples find fault with layers.
    async fn found(&self, job: &Job, made: &[LayerDescriptor]) -> usize {
        let mut found = 0;
        for seed in 0..20 {
            found += usize::from(compare_samples(&self.reader, BRANCH, job, made, seed).await.is_err());
        }
        found
    }
}

#[tokio::test]
async fn what_is_missing_is_found() {
    for (kind, floor) in [(JobKind::Merge, None), (JobKind::Merge, Some(15)), (JobKind::Image, None)] {
        let workshop = Workshop::new();
        let job = workshop.job(kind, floor).await;
        let made = workshop.made(&job).await;
        assert!(made.len() > 1, "{made:?}");
        assert_eq!(workshop.found(&job, &made).await, 0, "{kind:?} {floor:?}: as it should be");
        let (layers, lsns) = match kind {
            JobKind::Merge => (LayerKind::Delta, (10, 30)),
            JobKind::Image => (LayerKind::Image, (30, 30)),
        };
        let right = workshop.entries(&made).await;
        // Cut short; every third entry left out, or another one's bytes; all LSNs wrong.
        let last = right.last().expect("some").0;
        let short: Vec<_> = right.iter().filter(|(page, ..)| *page < last).cloned().collect();
        let thinned: Vec<_> =
            right.iter().enumerate().filter(|(number, _)| number % 3 != 1).map(|(_, entry)| entry.clone()).collect();
        let mut mixed = right.clone();
        for number in (1..mixed.len()).step_by(3) {
            mixed[number].2 = right[number - 1].2.clone();
        }
        let shifted: Vec<_> = right.iter().map(|(page, lsn, bytes)| (*page, Lsn(lsn.0 - 1), bytes.clone())).collect();
        for (what, entries, least) in
            [("cut short", short, 20), ("thinned", thinned, 10), ("mixed", mixed, 10), ("shifted", shifted, 20)]
        {
            let forged = workshop.write(layers, lsns, &entries).await;
            let found = workshop.found(&job, &forged).await;
            assert!(found >= least, "{kind:?} {floor:?}, {what}: {found} of 20 samples found it");
        }
    }
}
