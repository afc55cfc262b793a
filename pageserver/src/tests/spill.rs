//! The object store is away for longer than memory lasts: buffers are set aside on local disk, every page can still be had, and
//! nothing of it counts before it is in the object store.

use std::path::Path as FsPath;
use std::sync::atomic::{AtomicBool, Ordering};

use super::workload::Random;
use super::*;

/// A store that can be away.
struct Outage {
    fixture: Fixture,
    away: Arc<AtomicBool>,
    config: PageServerConfig,
    cache: tempfile::TempDir,
}

impl Outage {
    /// `lost_answers`: of the requests made while it is not away, some take effect without an answer.
    fn new(seed: u64, lost_answers: bool) -> Outage {
        let away = Arc::new(AtomicBool::new(false));
        let decide = away.clone();
        let faulty = FaultyStore::new(Arc::new(object_store::memory::InMemory::new()), move |number| {
            match decide.load(Ordering::SeqCst) {
                true => Fate::Refused,
                false if lost_answers && Random(seed ^ number << 20).below(9) == 0 => Fate::AnswerLost,
                false => Fate::Answered,
            }
        });
        let mut fixture = Fixture::new(seed, 30);
        fixture.store = ObjectStore::new(Arc::new(faulty), Path::default(), RetryPolicy::immediate(4));
        let cache = tempfile::tempdir().expect("a temporary directory");
        let mut config = config();
        config.cache_dir = Some(cache.path().to_owned());
        config.spill_disk_bytes = 64 << 20;
        // So that pages are made of records again and again.
        config.page_cache_bytes = 64 << 10;
        Outage { fixture, away, config, cache }
    }

    fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// All that is read of the log is answered, and memory stays bounded.
    async fn goes_on(&mut self, server: &PageServer) {
        let end = self.fixture.workload.end;
        eventually("the log is read to its end", async || server.ingested() == end).await;
        let most = self.config.frozen_bytes + 3 * self.config.buffer_bytes + (300 << 10);
        let held = server.buffered_bytes();
        assert!(held <= most, "{held} bytes held, {most} allowed");
        self.check_what_is_at_hand(server).await;
        for back_us in [0, 1_000_000, 10_000_000] {
            let (_, last_us) = self.fixture.workload.last_commit();
            let (time_us, client) = (last_us - back_us, server.client());
            let found = client.lsn_at(BRANCH, time_us).await.expect("times are known").expect("something was written");
            let exact = self.fixture.workload.committed(time_us).expect("something was written");
            // A mark stands for half a second of commits.
            assert!(found <= exact && exact.since(found) < 100 << 10, "{found} for {exact}");
        }
    }

    /// Pages at LSNs of the outage: what lies in the object store only is away, and said to be; everything else is right.
    async fn check_what_is_at_hand(&mut self, server: &PageServer) {
        let (durable, end) =
            (server.client().status(BRANCH).await.expect("status").durable_lsn, self.fixture.workload.end);
        let mut answered = 0;
        for _ in 0..300 {
            let workload = &mut self.fixture.workload;
            let page = workload.any_page();
            let at = Lsn(durable.0 + workload.random.below(end.0 - durable.0 + 1));
            let request = GetPage { page, at, not_modified_since: at, priority: Priority::Foreground };
            match (server.client().get_pages(BRANCH, &[request]).await.remove(0), workload.expected(page, at)) {
                (Ok(image), Some((lsn, bytes))) => {
                    assert_eq!(image.page_lsn, lsn, "page {page} as of {at}");
                    assert!(image.bytes == bytes, "page {page} as of {at} differs from replay");
                    answered += 1;
                }
                (Err(PageError::NotFound { .. }), None) => {}
                (Err(PageError::Unavailable { .. }), _) => {}
                (answer, _) => panic!("page {page} as of {at}: {answer:?}"),
            }
        }
        assert!(answered > 200, "{answered} of 300 answered");
    }

    /// Nothing is left on local disk, nor in what may be set aside.
    async fn is_over(&mut self, server: &PageServer) {
        eventually("nothing is set aside any more", async || server.spilled_buffers() == 0).await;
        assert_eq!(files(self.cache.path()), 0);
        self.fixture.check(server.client().as_ref(), 200).await;
    }

    /// What is in the object store alone is all of it.
    async fn all_is_stored(&mut self) {
        self.fixture.log.trim();
        let alone = PageServerConfig { cache_dir: None, ..self.config.clone() };
        let server = self.fixture.start(alone).await;
        self.fixture.check(server.client().as_ref(), 300).await;
        server.shutdown().await;
    }
}

/// Files of the spill with a name.
fn files(cache: &FsPath) -> usize {
    std::fs::read_dir(cache.join("spill")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_equal_replay_while_the_store_is_away_and_afterwards() {
    for (seed, lost_answers) in [(700, false), (701, true)] {
        let mut outage = Outage::new(seed, lost_answers);
        let server = outage.fixture.start(outage.config.clone()).await;
        for _ in 0..2 {
            outage.fixture.workload.run(&outage.fixture.log, 100);
            outage.fixture.check(server.client().as_ref(), 60).await;
            outage.set_away(true);
            let before = server.client().status(BRANCH).await.expect("status").durable_lsn;
            for _ in 0..3 {
                outage.fixture.workload.run(&outage.fixture.log, 300);
                outage.goes_on(&server).await;
            }
            assert!(server.spilled_buffers() > 5, "{} buffers set aside", server.spilled_buffers());
            let durable = server.client().status(BRANCH).await.expect("status").durable_lsn;
            assert!(durable.since(before) < 200 << 10, "the log is held from {before} on, {durable} was reported");
            assert_eq!(files(outage.cache.path()), 0);
            outage.set_away(false);
            // Writing goes on meanwhile.
            outage.fixture.workload.run(&outage.fixture.log, 200);
            outage.is_over(&server).await;
        }
        server.shutdown().await;
        drop(server);
        outage.all_is_stored().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_of_an_outage_reads_the_log_again() {
    for stops in [false, true] {
        let mut outage = Outage::new(710, false);
        let server = outage.fixture.start(outage.config.clone()).await;
        outage.fixture.workload.run(&outage.fixture.log, 100);
        outage.fixture.check(server.client().as_ref(), 60).await;
        outage.set_away(true);
        outage.fixture.workload.run(&outage.fixture.log, 800);
        outage.goes_on(&server).await;
        assert!(server.spilled_buffers() > 0);
        if stops {
            server.shutdown().await;
        }
        drop(server);
        assert_eq!(files(outage.cache.path()), 0);
        // As much as a log may.
        outage.fixture.log.trim();
        outage.set_away(false);
        let server = outage.fixture.start(outage.config.clone()).await;
        assert_eq!(server.spilled_buffers(), 0);
        outage.fixture.workload.run(&outage.fixture.log, 100);
        outage.is_over(&server).await;
        server.shutdown().await;
        outage.all_is_stored().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_leaves_nothing_of_what_the_old_owner_set_aside() {
    let mut outage = Outage::new(720, false);
    let old = outage.fixture.start(outage.config.clone()).await;
    outage.fixture.workload.run(&outage.fixture.log, 100);
    outage.fixture.check(old.client().as_ref(), 60).await;
    outage.set_away(true);
    outage.fixture.workload.run(&outage.fixture.log, 800);
    outage.goes_on(&old).await;
    assert!(old.spilled_buffers() > 0);
    outage.set_away(false);
    let elsewhere = PageServerConfig { cache_dir: None, ..outage.config.clone() };
    let new = outage.fixture.start(elsewhere).await;
    outage.fixture.workload.run(&outage.fixture.log, 100);
    outage.fixture.check(new.client().as_ref(), 100).await;
    eventually("the old owner learns of the new one", async || old.is_lost()).await;
    drop(old);
    outage.fixture.check(new.client().as_ref(), 200).await;
    new.shutdown().await;
    outage.all_is_stored().await;
}

/// Only the log has it then: nothing of it becomes durable, and whoever takes the shard over reads it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_on_local_disk_is_read_from_the_log_again() {
    let mut outage = Outage::new(740, false);
    let server = outage.fixture.start(outage.config.clone()).await;
    outage.fixture.workload.run(&outage.fixture.log, 100);
    outage.fixture.check(server.client().as_ref(), 60).await;
    outage.set_away(true);
    outage.fixture.workload.run(&outage.fixture.log, 600);
    outage.goes_on(&server).await;
    server.damage_spill();
    outage.set_away(false);
    eventually("the shard is given up", async || server.is_lost()).await;
    drop(server);
    outage.fixture.log.trim();
    let server = outage.fixture.start(outage.config.clone()).await;
    outage.is_over(&server).await;
    server.shutdown().await;
    outage.all_is_stored().await;
}

/// As without setting anything aside: the log is held back, and all passes. The disk is full when there is no room, or when a
/// file stands where the directory should be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_local_disk_holds_the_log_back_and_ends_nothing() {
    for no_directory in [false, true] {
        let mut outage = Outage::new(730, false);
        if no_directory {
            std::fs::write(outage.cache.path().join("spill"), b"no directory").expect("written");
        } else {
            outage.config.spill_disk_bytes = 100 << 10;
        }
        let server = outage.fixture.start(outage.config.clone()).await;
        outage.set_away(true);
        outage.fixture.workload.run(&outage.fixture.log, 2500);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let most = outage.config.frozen_bytes + 3 * outage.config.buffer_bytes + (300 << 10);
        assert!(server.buffered_bytes() <= most, "{} bytes held", server.buffered_bytes());
        assert!(server.ingested() < outage.fixture.workload.end, "the log was read to its end");
        assert_eq!(server.spilled_buffers() > 0, !no_directory);
        outage.set_away(false);
        outage.fixture.check(server.client().as_ref(), 200).await;
        assert!(!server.is_lost());
        server.shutdown().await;
        outage.all_is_stored().await;
    }
}
