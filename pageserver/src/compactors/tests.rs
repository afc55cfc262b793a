//! Rewrites by workers that do what they should, and by some that do not: pages stay what direct replay gives, and nothing is
//! left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use storage::layer::{LayerDescriptor, LayerKind, LayerName, layer_key, shard_prefix};
use storage::layout::ShardLayout;
use storage::object::ObjectStore;
use storage::{BranchId, Generation, Lsn, PageNo, ShardId};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};

use super::*;
use crate::compaction::{ALL_PAGES, Floor, JobKind, Tile};
use crate::config::PageServerConfig;
use crate::grpc::{GrpcJobs, JobService};
use crate::server::PageServer;
use crate::tests::workload::{BRANCH, Random};
use crate::tests::{Fixture, config, eventually};

/// What becomes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    /// Done.
    Honest,
    /// Taken, never heard of again; an object is left behind.
    Vanishes,
    /// Done, but told only after the lease is over.
    TooLate,
    /// Told to be impossible.
    Fails,
    /// One image less than were made. (What is missing of records only samples tell: `compaction/sample/tests.rs`.)
    Withholds,
    /// A layer that does not exist.
    Invents,
}

const CONDUCTS: [Conduct; 6] =
    [Conduct::Honest, Conduct::Vanishes, Conduct::TooLate, Conduct::Fails, Conduct::Withholds, Conduct::Invents];

/// Stands between a worker and the server, and spoils what the worker does.
struct Spoiled {
    offers: Arc<Offers>,
    store: ObjectStore,
    conduct: Mutex<Box<dyn FnMut() -> Conduct + Send>>,
    now: Mutex<Conduct>,
    counts: [AtomicUsize; CONDUCTS.len()],
    accepted: AtomicUsize,
}

impl Spoiled {
    fn new(offers: Arc<Offers>, store: ObjectStore, conduct: impl FnMut() -> Conduct + Send + 'static) -> Arc<Spoiled> {
        Arc::new(Spoiled {
            offers,
            store,
            conduct: Mutex::new(Box::new(conduct)),
            now: Mutex::new(Conduct::Honest),
            counts: Default::default(),
            accepted: AtomicUsize::new(0),
        })
    }

    fn count(&self, conduct: Conduct) -> usize {
        self.counts[CONDUCTS.iter().position(|other| *other == conduct).expect("all are listed")].load(Ordering::SeqCst)
    }
}

#[async_trait]
impl JobSource for Spoiled {
    async fn take(&self, worker: &str) -> Result<Option<Assignment>, SourceError> {
        let Some(assignment) = self.offers.take(worker).await? else { return Ok(None) };
        let conduct = (self.conduct.lock())();
        *self.now.lock() = conduct;
        let place = CONDUCTS.iter().position(|other| *other == conduct).expect("all are listed");
        self.counts[place].fetch_add(1, Ordering::SeqCst);
        if conduct == Conduct::Vanishes {
            let prefix = shard_prefix(assignment.lease.branch, assignment.lease.shard);
            let key = layer_key(&prefix, assignment.name(7).expect("there are more"));
            self.store.put(&key, Bytes::from_static(b"half a layer")).await.map_err(|e| SourceError(e.to_string()))?;
            return Err(SourceError("killed".to_owned()));
        }
        Ok(Some(assignment))
    }

    async fn renew(&self, lease: LeaseId) -> Result<bool, SourceError> {
        self.offers.renew(lease).await
    }

    async fn finish(&self, lease: LeaseId, outcome: Result<Vec<LayerDescriptor>, String>) -> Result<bool, SourceError> {
        let conduct = *self.now.lock();
        let outcome = match (conduct, outcome) {
            (Conduct::Fails, _) => Err("out of patience".to_owned()),
            (Conduct::Withholds, Ok(mut layers)) => {
                layers.pop_if(|layer| layer.kind == LayerKind::Image);
                Ok(layers)
            }
            (Conduct::Invents, Ok(mut layers)) => {
                layers.iter_mut().for_each(|layer| layer.name.sequence += 1000);
                Ok(layers)
            }
            (Conduct::TooLate, outcome) => {
                tokio::time::sleep(offers::LEASE + Duration::from_millis(1)).await;
                outcome
            }
            (_, outcome) => outcome,
        };
        let taken = self.offers.finish(lease, outcome).await?;
        assert!(conduct != Conduct::TooLate || !taken, "what came too late was taken");
        self.accepted.fetch_add(usize::from(taken), Ordering::SeqCst);
        Ok(taken)
    }

    async fn list(&self) -> Result<(Vec<WorkerSeen>, Vec<OfferSeen>), SourceError> {
        self.offers.list().await
    }
}

/// Always the same ones.
struct Fixed(Vec<Arc<dyn JobSource>>);

impl JobSources for Fixed {
    fn sources(&self) -> Vec<Arc<dyn JobSource>> {
        self.0.clone()
    }
}

fn with_offers() -> (PageServerConfig, Arc<Offers>) {
    let offers = Arc::new(Offers::default());
    let sweep_pause = Duration::from_millis(100);
    // Flushes wait while jobs are lost.
    let wait_timeout = Duration::from_secs(600);
    (PageServerConfig { offers: Some(offers.clone()), sweep_pause, wait_timeout, ..config() }, offers)
}

/// Objects below the shard's layers that neither the manifest names nor a job may be writing.
async fn strays(server: &PageServer, store: &ObjectStore) -> Vec<String> {
    let prefix = shard_prefix(BRANCH, ShardId(0));
    let listed = store.list(&format!("{prefix}/layers")).await.expect("listed");
    let manifest = server.manifest().await;
    let named: Vec<_> = manifest
        .layers
        .iter()
        .map(|layer| layer.name)
        .chain(manifest.garbage.iter().copied())
        .map(|name| layer_key(&prefix, name))
        .collect();
    listed.into_iter().filter(|key| !named.contains(key)).collect()
}

async fn under_workers(seed: u64, conduct: impl FnMut() -> Conduct + Send + 'static) -> Arc<Spoiled> {
    let mut fixture = Fixture::new(seed, 40);
    let (mut config, offers) = with_offers();
    config.compaction.retention.bytes = 150 << 10;
    let spoiled = Spoiled::new(offers, fixture.store.clone(), conduct);
    let worker = Arc::new(Worker::new("w".to_owned(), fixture.store.clone()));
    let (stop, stopped) = watch::channel(false);
    let sources = Arc::new(Fixed(vec![spoiled.clone()]));
    let running = tokio::spawn(worker.run(0, sources, stopped));
    let server = fixture.start(config.clone()).await;
    for _ in 0..12 {
        // Time for jobs that are lost to be missed.
        tokio::time::sleep(Duration::from_secs(2)).await;
        fixture.workload.run(&fixture.log, 150);
        fixture.check(server.client().as_ref(), 60).await;
    }
    eventually("everything is flushed", async || {
        server.freeze();
        server.manifest().await.durable_lsn == fixture.workload.end
    })
    .await;
    let all = server.manifest().await;
    assert!(crate::compaction::depth(&all) <= config.compaction.max_depth, "{all:?}");
    fixture.check(server.client().as_ref(), 200).await;
    stop.send_replace(true);
    running.await.expect("the worker ends");
    // Leases of the last jobs run out, and what they left is looked for.
    eventually("nothing is left behind", async || strays(&server, &fixture.store).await.is_empty()).await;
    fixture.check(server.client().as_ref(), 100).await;
    server.shutdown().await;
    spoiled
}

#[tokio::test(start_paused = true)]
async fn workers_do_the_rewriting() {
    let spoiled = under_workers(5, || Conduct::Honest).await;
    let done = spoiled.accepted.load(Ordering::SeqCst);
    assert!(done > 5 && done == spoiled.count(Conduct::Honest), "{done} jobs");
}

#[tokio::test(start_paused = true)]
async fn whatever_workers_do_pages_stay_right() {
    let mut seen = [0; CONDUCTS.len()];
    for seed in 0..6 {
        let mut random = Random(seed);
        let spoiled = under_workers(seed, move || CONDUCTS[random.below(CONDUCTS.len() as u64) as usize]).await;
        CONDUCTS.iter().zip(&mut seen).for_each(|(conduct, seen)| *seen += spoiled.count(*conduct));
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?} of {CONDUCTS:?}");
}

/// The server does everything itself as long as it hears of no worker.
#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_that_is_not_there() {
    let mut fixture = Fixture::new(8, 40);
    let (config, offers) = with_offers();
    let server = fixture.start(config).await;
    for _ in 0..5 {
        fixture.workload.run(&fixture.log, 150);
        fixture.check(server.client().as_ref(), 40).await;
        let (workers, jobs) = offers.list().await.expect("listed");
        assert!(workers.is_empty() && jobs.is_empty(), "{workers:?} {jobs:?}");
    }
    server.shutdown().await;
}

fn layer(kind: LayerKind, name: u64, pages: (u64, u64), lsns: (u64, u64)) -> LayerDescriptor {
    LayerDescriptor {
        branch: BRANCH,
        shard: ShardId(0),
        name: LayerName { generation: Generation(3), sequence: name },
        kind,
        level: 1,
        first_page: PageNo(pages.0),
        last_page: PageNo(pages.1),
        start_lsn: Lsn(lsns.0),
        end_lsn: Lsn(lsns.1),
        visible_lsn: Lsn(lsns.1),
        size_bytes: 1000,
        entries: 10,
    }
}

fn lease(first: u64) -> LeaseId {
    let first_name = LayerName { generation: Generation(3), sequence: first };
    LeaseId { branch: BRANCH, shard: ShardId(0), first_name }
}

fn assigned(kind: JobKind, first: u64) -> Assignment {
    let run = |number: u64| vec![layer(LayerKind::Delta, number, (1, 90), (number * 10, number * 10 + 10))];
    let tile = |first: u64, last: u64, image| Tile { first_page: PageNo(first), last_page: PageNo(last), image };
    let image = layer(LayerKind::Image, 9, (1, 50), (5, 5));
    let job = Job {
        kind,
        pages: if kind == JobKind::Merge { ALL_PAGES } else { PageNo(1)..=PageNo(100) },
        runs: vec![run(1), run(2)],
        base: if kind == JobKind::Merge { vec![] } else { vec![tile(1, 50, Some(image)), tile(51, 100, None)] },
        floors: vec![],
        holds: (ShardId(0), ShardLayout::SINGLE),
        start_lsn: Lsn(10),
        end_lsn: Lsn(30),
        level: 1,
    };
    Assignment { lease: lease(first), job, layer_target_bytes: 64 << 20, names: 16 }
}

#[test]
fn what_comes_back_is_checked() {
    let (merge, image) = (assigned(JobKind::Merge, 100), assigned(JobKind::Image, 100));
    let delta = |name, pages| layer(LayerKind::Delta, name, pages, (10, 30));
    let made = |name, pages| layer(LayerKind::Image, name, pages, (30, 30));
    let other = |change: fn(&mut LayerDescriptor)| {
        let mut changed = [delta(100, (1, 50)), delta(101, (51, 90))];
        change(&mut changed[1]);
        changed.to_vec()
    };
    // Of the first run, records may be left out; of the second none.
    let mut with_floor = assigned(JobKind::Merge, 100);
    with_floor.job.floors = vec![Floor { first_page: PageNo(0), last_page: PageNo(u64::MAX), lsn: Lsn(20) }];
    let mut elsewhere = with_floor.clone();
    elsewhere.job.floors[0].first_page = PageNo(91);
    let entries = |first: u64, second: u64| {
        let mut layers = other(|_| {});
        (layers[0].entries, layers[1].entries) = (first, second);
        layers
    };
    let cases: Vec<(&str, &Assignment, Vec<LayerDescriptor>, bool)> = vec![
        ("some left out", &with_floor, entries(5, 6), true),
        ("all that may be left out", &with_floor, entries(4, 6), true),
        ("more left out", &with_floor, entries(4, 5), false),
        ("nothing may be left out", &elsewhere, entries(10, 9), false),
        ("nothing is left out", &elsewhere, entries(10, 10), true),
        ("a merge", &merge, other(|_| {}), true),
        ("records lost", &merge, vec![delta(100, (1, 90))], false),
        ("records gained", &merge, other(|layer| layer.entries = 11), false),
        ("nothing", &merge, vec![], false),
        ("a name below", &merge, other(|layer| layer.name.sequence = 99), false),
        ("a name above", &merge, other(|layer| layer.name.sequence = 116), false),
        ("another generation", &merge, other(|layer| layer.name.generation = Generation(4)), false),
        ("a name twice", &merge, other(|layer| layer.name.sequence = 100), false),
        ("another branch", &merge, other(|layer| layer.branch = BranchId(77)), false),
        ("another shard", &merge, other(|layer| layer.shard = ShardId(1)), false),
        ("another kind", &merge, other(|layer| layer.kind = LayerKind::Image), false),
        ("another level", &merge, other(|layer| layer.level = 2), false),
        ("other LSNs", &merge, other(|layer| layer.start_lsn = Lsn(11)), false),
        ("seen in part", &merge, other(|layer| layer.visible_lsn = Lsn(29)), false),
        ("overlapping pages", &merge, other(|layer| layer.first_page = PageNo(50)), false),
        ("pages backwards", &merge, other(|layer| layer.last_page = PageNo(2)), false),
        ("images", &image, vec![made(100, (1, 40)), made(101, (41, 100))], true),
        ("one image", &image, vec![made(100, (1, 100))], true),
        ("no images", &image, vec![], false),
        ("a gap", &image, vec![made(100, (1, 40)), made(101, (42, 100))], false),
        ("begins late", &image, vec![made(100, (2, 100))], false),
        ("ends early", &image, vec![made(100, (1, 99))], false),
        ("ends late", &image, vec![made(100, (1, 101))], false),
    ];
    for (what, assignment, layers, fine) in cases {
        let found = check(assignment, &layers);
        assert_eq!(found.is_ok(), fine, "{what}: {found:?}");
    }
}

/// Offers as they are taken, renewed, finished and lost, by the clock.
#[tokio::test(start_paused = true)]
async fn leases() {
    let offers = Arc::new(Offers::default());
    let offer = |assignment: Assignment| {
        let offers = offers.clone();
        tokio::spawn(async move { offers.hand_over(assignment).await })
    };
    let settle = || tokio::time::sleep(Duration::from_millis(1));
    let take = async || offers.take("w").await.expect("asked").map(|taken| taken.lease);
    assert_eq!(offers.hand_over(assigned(JobKind::Merge, 0)).await, Handed::Nobody, "no worker is about");
    assert_eq!(take().await, None);
    // Merges first, then in the order of their coming.
    let images = offer(assigned(JobKind::Image, 1));
    settle().await;
    let merges = [offer(assigned(JobKind::Merge, 2)), offer(assigned(JobKind::Merge, 3))];
    settle().await;
    for expected in [Some(lease(2)), Some(lease(1)), None] {
        if expected == Some(lease(1)) {
            assert_eq!(take().await, Some(lease(3)));
        }
        assert_eq!(take().await, expected);
    }
    // Kept for as long as it is renewed.
    for _ in 0..10 {
        tokio::time::sleep(offers::LEASE * 9 / 10).await;
        assert_eq!(offers.renew(lease(1)).await, Ok(true));
    }
    let [second, third] = merges;
    assert_eq!(second.await.expect("ended"), Handed::Lost);
    assert_eq!(third.await.expect("ended"), Handed::Lost);
    assert_eq!(offers.renew(lease(2)).await, Ok(false));
    assert_eq!(offers.finish(lease(2), Ok(vec![])).await, Ok(false));
    let made = vec![layer(LayerKind::Image, 1, (1, 100), (30, 30))];
    assert_eq!(offers.finish(lease(1), Ok(made.clone())).await, Ok(true));
    assert_eq!(offers.finish(lease(1), Ok(made.clone())).await, Ok(false), "once is enough");
    assert_eq!(images.await.expect("ended"), Handed::Done(made));
    // Nobody takes it, although somebody is about.
    let hears = async {
        loop {
            assert_eq!(take().await, Some(lease(4)));
            assert_eq!(offers.renew(lease(4)).await, Ok(true));
            tokio::time::sleep(Duration::from_secs(1)).await;
            while offers.renew(lease(4)).await == Ok(true) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    let busy = offer(assigned(JobKind::Merge, 4));
    settle().await;
    let waits = async {
        settle().await;
        offers.hand_over(assigned(JobKind::Merge, 5)).await
    };
    let begun = tokio::time::Instant::now();
    tokio::select! {
        () = hears => unreachable!(),
        outcome = waits => assert_eq!(outcome, Handed::Nobody),
    }
    assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(offers.finish(lease(4), Err("no".to_owned())).await, Ok(true));
    assert_eq!(busy.await.expect("ended"), Handed::Failed("no".to_owned()));
    // Who no longer waits takes the job back.
    let dropped = offer(assigned(JobKind::Merge, 6));
    assert_eq!(take().await, None);
    settle().await;
    dropped.abort();
    let _ = dropped.await;
    assert_eq!(offers.list().await.expect("listed").1, vec![]);
}

#[tokio::test]
async fn jobs_travel_over_a_socket() {
    let offers = Arc::new(Offers::default());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let service = JobService::new(offers.clone());
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let jobs = GrpcJobs::new(endpoint.connect_lazy(), Duration::from_secs(5));
    assert_eq!(jobs.take("one").await, Ok(None));
    for kind in [JobKind::Merge, JobKind::Image] {
        let mut assignment = assigned(kind, 7);
        assignment.job.floors = vec![Floor { first_page: PageNo(0), last_page: PageNo(u64::MAX), lsn: Lsn(4) }];
        for outcome in [Ok(vec![layer(LayerKind::Delta, 7, (1, 2), (3, 4))]), Err("no room".to_owned())] {
            let (offers, offered) = (offers.clone(), assignment.clone());
            let handed = tokio::spawn(async move { offers.hand_over(offered).await });
            let mut taken = None;
            while taken.is_none() {
                taken = jobs.take("one").await.expect("asked");
            }
            assert_eq!(taken.as_ref(), Some(&assignment));
            assert_eq!(jobs.renew(lease(7)).await, Ok(true));
            assert_eq!(jobs.renew(lease(8)).await, Ok(false));
            let (workers, listed) = jobs.list().await.expect("listed");
            assert_eq!((workers.len(), workers[0].name.as_str()), (1, "one"));
            let expected = OfferSeen {
                lease: lease(7),
                kind,
                input_bytes: assignment.input_bytes(),
                age_ms: listed[0].age_ms,
                worker: "one".to_owned(),
            };
            assert_eq!(listed, [expected]);
            assert_eq!(jobs.finish(lease(7), outcome.clone()).await, Ok(true));
            let expected = outcome.map_or_else(Handed::Failed, Handed::Done);
            assert_eq!(handed.await.expect("ended"), expected);
        }
    }
    let mut raw =
        proto::compaction::compaction_service_client::CompactionServiceClient::connect(format!("http://{address}"))
            .await
            .expect("connects");
    let other = proto::compaction::TakeJobRequest { worker: "one".to_owned(), version: VERSION + 1 };
    assert_eq!(raw.take_job(other).await.expect_err("refused").code(), tonic::Code::FailedPrecondition);
    let nameless = proto::compaction::TakeJobRequest { worker: String::new(), version: VERSION };
    assert_eq!(raw.take_job(nameless).await.expect_err("refused").code(), tonic::Code::InvalidArgument);
    let nothing = proto::compaction::RenewLeaseRequest { lease: None };
    assert_eq!(raw.renew_lease(nothing).await.expect_err("refused").code(), tonic::Code::InvalidArgument);
}
