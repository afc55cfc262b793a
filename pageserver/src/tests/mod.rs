//! Page equality and its enemies: whatever happened to buffers, layers, disks and servers, the answer for a page at an
//! LSN is what direct replay of the log gives.

mod damage;
mod fake_log;
mod filtered;
mod over_s3;
mod spill;
pub(crate) mod workload;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::path::Path;
use storage::object::faults::{Fate, FaultyStore};
use storage::object::{ObjectStore, RetryPolicy};
use storage::{Lsn, PageNo};

use self::fake_log::FakeLog;
use self::workload::{BRANCH, Workload};
use crate::admission::AdmissionSettings;
use crate::client::{GetPage, PageClient, PageError, Priority};
use crate::compaction::Retention;
use crate::config::{PageServerConfig, WallClock};
use crate::server::PageServer;

/// Small limits, so that little log makes many layers.
pub(crate) fn config() -> PageServerConfig {
    let mut config = PageServerConfig::new(BRANCH, 8 << 20);
    config.buffer_bytes = 20 << 10;
    config.frozen_bytes = 60 << 10;
    config.retry_pause = Duration::from_millis(1);
    config.wait_timeout = Duration::from_secs(20);
    config.compaction.layer_target_bytes = 16 << 10;
    // Images of a few pages each, of different ages.
    config.compaction.image_job_bytes = 40 << 10;
    config.compaction.hot_page_records = 4;
    config
}

pub(crate) struct Fixture {
    pub store: ObjectStore,
    pub log: Arc<FakeLog>,
    pub workload: Workload,
}

impl Fixture {
    pub fn new(seed: u64, page_space: u64) -> Fixture {
        let store = ObjectStore::memory(RetryPolicy::none());
        Fixture { store, log: Arc::new(FakeLog::new()), workload: Workload::new(seed, page_space) }
    }

    pub async fn start(&self, config: PageServerConfig) -> PageServer {
        PageServer::start(config, self.store.clone(), self.log.clone()).await.expect("the shard is free")
    }

    /// Random pages at random LSNs, in batches.
    pub async fn check(&mut self, client: &dyn PageClient, questions: usize) {
        check_pages(&mut self.workload, client, questions).await;
    }
}

/// Whether a client's answers are those of direct replay.
pub(crate) async fn check_pages(workload: &mut Workload, client: &dyn PageClient, questions: usize) {
    let (branch, end) = (workload.branch, workload.end);
    let horizon = client.status(branch).await.expect("status").horizon_lsn;
    let requests: Vec<_> = (0..questions)
        .map(|_| {
            let page = workload.any_page();
            let newest = workload.random.below(3) == 0;
            let at = if newest { end } else { Lsn(workload.random.below(end.0 + 1)) };
            let known = workload.random.below(2) == 0;
            let last = workload.expected(page, at).map_or(Lsn::ZERO, |(lsn, _)| lsn);
            let priority = Priority::ALL[workload.random.below(3) as usize];
            GetPage { page, at, not_modified_since: if known { last } else { at }, priority }
        })
        .collect();
    for requests in requests.chunks(17) {
        let answers = client.get_pages(branch, requests).await;
        assert_eq!(answers.len(), requests.len());
        for (request, answer) in requests.iter().zip(answers) {
            let GetPage { page, at, .. } = *request;
            match (answer, workload.expected(page, at)) {
                (Ok(image), Some((lsn, bytes))) => {
                    assert_eq!(image.page_lsn, lsn, "page {page} as of {at}");
                    assert!(image.bytes == bytes, "page {page} as of {at} differs from replay");
                }
                (Err(PageError::NotFound { .. }), None) => {}
                (Err(PageError::BelowHorizon { horizon, .. }), _) => assert!(at < horizon, "{at} {horizon}"),
                (answer, expected) => {
                    let expected = expected.map(|(lsn, _)| lsn);
                    panic!("page {page} as of {at}, horizon {horizon}: {answer:?}, expected {expected:?}");
                }
            }
        }
    }
}

/// Waits until something about a server holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..4000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

/// A shard that gets few records of a busy log holds that log back no longer than it must.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_that_goes_by_a_quiet_shard_is_let_go() {
    let mut fixture = Fixture::new(91, 40);
    let mut config = config();
    (config.buffer_bytes, config.buffer_age) = (usize::MAX, Duration::from_secs(3600));
    config.buffer_log_bytes = 4 << 10;
    let server = fixture.start(config).await;
    let client = server.client();
    for _ in 0..3 {
        fixture.workload.run(&fixture.log, 60);
        let end = fixture.workload.end;
        eventually("the log is in layers", async || {
            client.status(BRANCH).await.is_ok_and(|status| end.since(status.durable_lsn) < 4 << 10)
        })
        .await;
    }
    fixture.check(client.as_ref(), 100).await;
}

/// The wall clock jumps by an hour, forth and back: history may go earlier or later than it should, and comes back never;
/// what is answered is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_that_jumps_makes_no_answer_wrong() {
    const HOUR_US: u64 = 3_600_000_000;
    let mut fixture = Fixture::new(53, 40);
    let now = Arc::new(AtomicU64::new(5 * HOUR_US));
    let mut config = config();
    config.compaction.retention = Retention { bytes: 0, time_us: HOUR_US / 2 };
    let clock = now.clone();
    config.clock = WallClock(Arc::new(move || clock.load(Ordering::SeqCst)));
    let mut horizon = Lsn::ZERO;
    let mut server = fixture.start(config.clone()).await;
    for (round, jump_us) in
        [0, HOUR_US as i64, -(HOUR_US as i64), -(HOUR_US as i64), 0, 2 * HOUR_US as i64].into_iter().enumerate()
    {
        now.fetch_add(jump_us as u64, Ordering::SeqCst);
        fixture.workload.run(&fixture.log, 120);
        let end = fixture.workload.end;
        eventually("the log is read", async || server.ingested() == end).await;
        fixture.check(server.client().as_ref(), 150).await;
        let found = server.client().status(BRANCH).await.expect("status").horizon_lsn;
        assert!(found >= horizon && found <= end, "round {round}: the horizon goes from {horizon} to {found}");
        horizon = found;
        if round % 2 == 1 {
            server.shutdown().await;
            server = fixture.start(config.clone()).await;
            fixture.check(server.client().as_ref(), 60).await;
        }
    }
    // Whatever the clock says, what is there now can be read now.
    assert!(horizon < fixture.workload.end);
    let client = server.client();
    eventually("history is dropped", async || client.status(BRANCH).await.expect("status").horizon_lsn > Lsn::ZERO)
        .await;
    fixture.check(client.as_ref(), 100).await;
}

async fn check_equality(seed: u64) {
    let mut fixture = Fixture::new(seed, 40);
    let mut config = config();
    if seed.is_multiple_of(2) {
        config.compaction.retention.bytes = 200 << 10;
    }
    let cache = tempfile::tempdir().expect("tempdir");
    config.cache_dir = Some(cache.path().join("layers"));
    // Small enough that pieces are evicted, too.
    config.cache_disk_bytes = 300 << 10;
    let mut server = fixture.start(config.clone()).await;
    for round in 0..6 {
        fixture.workload.run(&fixture.log, 150);
        fixture.check(server.client().as_ref(), 120).await;
        match round % 3 {
            0 => server.freeze(),
            // A crash: nothing that is in memory survives.
            1 => {
                drop(server);
                if round > 3 {
                    // The old server's last pieces may still be on their way into it.
                    eventually("the cache is deleted", async || std::fs::remove_dir_all(cache.path()).is_ok()).await;
                }
                server = fixture.start(config.clone()).await;
            }
            _ => {
                server.shutdown().await;
                fixture.log.trim();
                server = fixture.start(config.clone()).await;
                let status = server.client().status(BRANCH).await.expect("status");
                assert_eq!(status.durable_lsn, fixture.workload.end, "a clean stop leaves no log to read");
            }
        }
        fixture.check(server.client().as_ref(), 120).await;
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_equal_replay() {
    for seed in 0..6 {
        check_equality(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_equal_replay_on_a_local_directory() {
    let directory = tempfile::tempdir().expect("tempdir");
    let mut fixture = Fixture::new(77, 30);
    fixture.store = ObjectStore::open(&format!("file://{}", directory.path().display()), RetryPolicy::none())
        .expect("a fresh directory opens");
    for _ in 0..3 {
        let server = fixture.start(config()).await;
        fixture.workload.run(&fixture.log, 100);
        fixture.check(server.client().as_ref(), 100).await;
        server.freeze();
        fixture.check(server.client().as_ref(), 50).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_equal_replay_over_a_faulty_store() {
    for seed in 100..103 {
        let inner = Arc::new(object_store::memory::InMemory::new());
        let mut fates = workload::Random(seed);
        let fates = parking_lot::Mutex::new(move || match fates.below(10) {
            0 => Fate::Refused,
            1 => Fate::AnswerLost,
            _ => Fate::Answered,
        });
        let faulty = FaultyStore::new(inner, move |_| (fates.lock())());
        let mut fixture = Fixture::new(seed, 30);
        fixture.store = ObjectStore::new(Arc::new(faulty), Path::default(), RetryPolicy::immediate(8));
        for round in 0..4 {
            let server = fixture.start(config()).await;
            fixture.workload.run(&fixture.log, 150);
            fixture.check(server.client().as_ref(), 60).await;
            if round == 1 {
                server.shutdown().await;
                fixture.log.trim();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_holds_the_log_back_and_passes() {
    let inner = Arc::new(object_store::memory::InMemory::new());
    let away = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let decide = away.clone();
    let faulty = FaultyStore::new(inner, move |_| {
        if decide.load(std::sync::atomic::Ordering::SeqCst) { Fate::Refused } else { Fate::Answered }
    });
    let mut fixture = Fixture::new(9, 30);
    fixture.store = ObjectStore::new(Arc::new(faulty), Path::default(), RetryPolicy::none());
    let config = config();
    let server = fixture.start(config.clone()).await;
    away.store(true, std::sync::atomic::Ordering::SeqCst);
    fixture.workload.run(&fixture.log, 1500);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let held = server.buffered_bytes();
    let most = config.frozen_bytes + 3 * config.buffer_bytes + (300 << 10);
    assert!(held <= most, "{held} bytes held, {most} allowed");
    let reached = server.client().status(BRANCH).await.expect("status").ingested_lsn;
    assert!(reached < fixture.workload.end, "the log was read to its end although nothing could be written");
    away.store(false, std::sync::atomic::Ordering::SeqCst);
    fixture.check(server.client().as_ref(), 200).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_owners() {
    let mut fixture = Fixture::new(11, 30);
    let old = fixture.start(config()).await;
    fixture.workload.run(&fixture.log, 200);
    fixture.check(old.client().as_ref(), 50).await;
    let new = fixture.start(config()).await;
    fixture.workload.run(&fixture.log, 20);
    old.freeze();
    fixture.check(new.client().as_ref(), 50).await;
    eventually("the old owner learns of the new one", async || old.is_lost()).await;
    // What the old owner wrote meanwhile must not be named, and nothing of the new one's may be deleted.
    fixture.workload.run(&fixture.log, 300);
    fixture.check(new.client().as_ref(), 200).await;
    drop(old);
    new.shutdown().await;
    let after = fixture.start(config()).await;
    fixture.check(after.client().as_ref(), 200).await;
}

/// Story (simulator, seed 1028): a log node that is cut off from the others serves its stream all the same, in which nothing comes
/// any more. A page server that had it stood still for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_in_which_nothing_comes_is_left() {
    let mut fixture = Fixture::new(13, 30);
    fixture.log.deaf.store(1, std::sync::atomic::Ordering::SeqCst);
    let server = fixture.start(config()).await;
    fixture.workload.run(&fixture.log, 50);
    fixture.check(server.client().as_ref(), 50).await;
}

/// Story (simulator, seed 101): a server that has lost its shard without knowing, and whose log the new owner has let go,
/// told clients that pages were damaged. They are served elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overtaken_owner_sends_elsewhere() {
    let mut fixture = Fixture::new(12, 30);
    // Time to be overtaken, after its stream of log has been cut.
    let slow = PageServerConfig { retry_pause: Duration::from_secs(3), ..config() };
    let old = fixture.start(PageServerConfig { wait_timeout: Duration::from_millis(100), ..slow }).await;
    fixture.workload.run(&fixture.log, 50);
    eventually("the old owner has read everything", async || old.ingested() == fixture.workload.end).await;
    let new = fixture.start(config()).await;
    fixture.workload.run(&fixture.log, 100);
    fixture.check(new.client().as_ref(), 50).await;
    new.shutdown().await;
    fixture.log.trim();
    eventually("the old owner learns of the new one", async || old.is_lost()).await;
    assert!(!old.is_stranded());
    let at = fixture.workload.end;
    let request = GetPage { page: PageNo(1), at, not_modified_since: at, priority: Priority::Foreground };
    let answer = old.client().get_pages(BRANCH, &[request]).await.remove(0);
    assert!(matches!(answer, Err(PageError::NotServed { .. })), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_stay_few_and_history_goes() {
    let mut fixture = Fixture::new(21, 60);
    let mut config = config();
    config.compaction.retention.bytes = 100 << 10;
    let server = fixture.start(config.clone()).await;
    for _ in 0..20 {
        fixture.workload.run(&fixture.log, 150);
        fixture.check(server.client().as_ref(), 20).await;
        let manifest = server.manifest().await;
        let depth = crate::compaction::depth(&manifest);
        assert!(depth <= config.compaction.max_depth, "a read may touch {depth} runs");
    }
    eventually("compaction comes to rest", async || {
        let manifest = server.manifest().await;
        let keep_from = Lsn(manifest.durable_lsn.0 - config.compaction.retention.bytes);
        crate::compaction::plan_merge(&manifest, &config.compaction, &HashSet::new()).is_none()
            && crate::compaction::plan_garbage(&manifest, keep_from).is_none()
    })
    .await;
    let manifest = server.manifest().await;
    let depth = crate::compaction::depth(&manifest);
    assert!(depth <= config.compaction.run_places, "{depth} runs at rest");
    assert!(manifest.horizon > Lsn::ZERO, "old history is dropped");
    fixture.check(server.client().as_ref(), 200).await;
    let request = GetPage { page: PageNo(1), at: Lsn(1), not_modified_since: Lsn(1), priority: Priority::Foreground };
    let answer = server.client().get_pages(BRANCH, &[request]).await.remove(0);
    assert!(matches!(answer, Err(PageError::BelowHorizon { .. })), "{answer:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn requests_that_cannot_be_answered() {
    let mut fixture = Fixture::new(31, 5);
    let mut config = config();
    config.wait_timeout = Duration::from_millis(20);
    let server = fixture.start(config).await;
    fixture.workload.run(&fixture.log, 5);
    let beyond = Lsn(fixture.workload.end.0 + 1);
    let ahead = GetPage { page: PageNo(1), at: beyond, not_modified_since: beyond, priority: Priority::Foreground };
    let never = GetPage {
        page: PageNo(999),
        at: fixture.workload.end,
        not_modified_since: fixture.workload.end,
        priority: Priority::Foreground,
    };
    let client = server.client();
    let answers = client.get_pages(BRANCH, &[ahead, never]).await;
    assert!(matches!(answers[0], Err(PageError::Behind { .. })), "{:?}", answers[0]);
    assert!(matches!(answers[1], Err(PageError::NotFound { .. })), "{:?}", answers[1]);
    let elsewhere = client.get_pages(storage::BranchId(99), &[never]).await;
    assert!(matches!(elsewhere[0], Err(PageError::Unavailable { .. })), "{:?}", elsewhere[0]);
    assert_eq!(client.get_pages(BRANCH, &[]).await, vec![]);
}

/// More than may wait are turned away at once, each priority by its own limit; the others are answered when the log comes.
#[tokio::test]
async fn an_overloaded_server_says_so() {
    let mut fixture = Fixture::new(61, 5);
    let mut config = config();
    config.admission = AdmissionSettings { most_working: 1, working: [1; 3], waiting: [3, 2, 1] };
    let server = fixture.start(config).await;
    fixture.workload.run(&fixture.log, 30);
    let client = server.client();
    for (priority, waiting) in Priority::ALL.into_iter().zip([3, 2, 1]) {
        let end = fixture.workload.end;
        let written = |page: &PageNo| fixture.workload.expected(*page, end).is_some();
        let page = (1..).map(PageNo).find(written).expect("pages were written");
        let request = |priority, at| GetPage { page, at, not_modified_since: at, priority };
        // Each counts by itself: pages that come together are one piece of work.
        let ahead = [request(priority, Lsn(end.0 + 1))];
        let mut asked = futures::future::join_all((0..5).map(|_| client.get_pages(BRANCH, &ahead)));
        let early = tokio::time::timeout(Duration::from_millis(1), &mut asked).await;
        assert!(early.is_err(), "answered before the log came: {early:?}");
        for other in Priority::ALL {
            let answer = client.get_pages(BRANCH, &[request(other, end)]).await.remove(0);
            let refused = matches!(answer, Err(PageError::Overloaded { .. }));
            assert_eq!(refused, other == priority, "{other:?} beside a queue of {priority:?}: {answer:?}");
        }
        fixture.workload.run(&fixture.log, 1);
        let answers = asked.await.concat();
        let refused = answers.iter().filter(|answer| matches!(answer, Err(PageError::Overloaded { .. }))).count();
        let given = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!((given, refused), (waiting, 5 - waiting), "{answers:?}");
    }
}

/// A compute asks for LSNs that the page server has not reached, when it knows that the page did not change since. What
/// the server makes then holds up to what it has read, not up to what it was asked for.
#[tokio::test]
async fn answers_ahead_of_the_log_do_not_outlive_it() {
    let mut fixture = Fixture::new(41, 3);
    let server = fixture.start(config()).await;
    let client = server.client();
    for _ in 0..20 {
        fixture.workload.run(&fixture.log, 3);
        let end = fixture.workload.end;
        let ahead = Lsn(end.0 + (1 << 30));
        for page in (1..=3).map(PageNo) {
            let Some((last, bytes)) = fixture.workload.expected(page, end) else { continue };
            for (at, not_modified_since) in [(end, end), (ahead, last)] {
                let request = GetPage { page, at, not_modified_since, priority: Priority::Foreground };
                let image = client.get_pages(BRANCH, &[request]).await.remove(0).expect("a page");
                assert_eq!((image.page_lsn, &image.bytes), (last, &bytes), "page {page} as of {at}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leftovers_of_earlier_owners_are_deleted() {
    let mut fixture = Fixture::new(51, 20);
    let server = fixture.start(config()).await;
    fixture.workload.run(&fixture.log, 300);
    fixture.check(server.client().as_ref(), 20).await;
    server.shutdown().await;
    // As if a rewrite had been cut off before its manifest.
    let prefix = storage::layer::shard_prefix(BRANCH, storage::ShardId(0));
    let stray = storage::layer::LayerName { generation: storage::Generation(1), sequence: 1 << 20 };
    let key = storage::layer::layer_key(&prefix, stray);
    fixture.store.put(&key, bytes::Bytes::from_static(b"half a layer")).await.expect("put");
    let server = fixture.start(config()).await;
    eventually("the stray is deleted", async || fixture.store.get(&key).await.is_err()).await;
    fixture.check(server.client().as_ref(), 100).await;
    server.shutdown().await;
}
