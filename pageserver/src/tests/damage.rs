//! Flipped bits: in the cache on local disk they cost a fetch, in the object store they are told, never shown as a page.

use bytes::Bytes;
use storage::{Lsn, PageNo};

use super::workload::{BRANCH, Random};
use super::{Fixture, config, eventually};
use crate::PageServer;
use crate::client::{GetPage, PageError, Priority};
use crate::scrub::ScrubReport;

async fn scrub(server: &PageServer) -> ScrubReport {
    server.scrub(u64::MAX).await.expect("the check ends")
}

/// A shard with layers of all kinds, stopped.
async fn written(seed: u64) -> Fixture {
    let mut fixture = Fixture::new(seed, 30);
    let server = fixture.start(config()).await;
    for _ in 0..3 {
        fixture.workload.run(&fixture.log, 120);
        fixture.check(server.client().as_ref(), 20).await;
    }
    server.shutdown().await;
    fixture
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_shard_has_no_damage() {
    let mut fixture = written(400).await;
    let server = fixture.start(config()).await;
    let report = scrub(&server).await;
    assert_eq!((report.damages, report.damaged), (0, Vec::new()));
    assert!(report.layers > 0 && report.pages >= 20 && report.bytes > 0, "{} {}", report.layers, report.pages);
    // While it is changed, too.
    let (checked, ()) = tokio::join!(scrub(&server), async {
        for _ in 0..5 {
            fixture.workload.run(&fixture.log, 60);
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(checked.damaged, Vec::<String>::new());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_objects_are_named_and_never_shown() {
    let mut random = Random(5);
    for seed in 410..416 {
        let fixture = written(seed).await;
        let server = fixture.start(config()).await;
        let layers = server.manifest().await.layers;
        server.shutdown().await;
        let layer = &layers[random.below(layers.len() as u64) as usize];
        let prefix = storage::layer::shard_prefix(BRANCH, storage::ShardId(0));
        let key = storage::layer::layer_key(&prefix, layer.name);
        let mut bytes = fixture.store.get(&key).await.expect("it was written").to_vec();
        let at = storage::layer::format::HEAD_BYTES as u64;
        let byte = (at + random.below(bytes.len() as u64 - at)) as usize;
        bytes[byte] ^= 1 << random.below(8);
        fixture.store.delete(&key).await.expect("deleted");
        fixture.store.put(&key, Bytes::from(bytes)).await.expect("put");

        let mut config = config();
        // Rewrites would meet the damage, and repeat themselves: here readers are to.
        (config.compaction.run_places, config.compaction.run_trigger) = (usize::MAX - 1, usize::MAX);
        config.compaction.layer_target_bytes = u64::MAX;
        let server = fixture.start(config).await;
        let report = scrub(&server).await;
        assert!(report.damages > 0, "byte {byte} of {key} was not missed");
        assert!(report.damaged.iter().any(|damage| damage.contains(&key)), "{:?} does not name {key}", report.damaged);
        assert!(!server.problems().is_empty(), "the operator is told");
        let end = fixture.workload.end;
        for at in [end, Lsn(end.0 / 2)] {
            for page in (1..=30).map(PageNo) {
                let request = GetPage { page, at, not_modified_since: at, priority: Priority::Foreground };
                match (
                    server.client().get_pages(BRANCH, &[request]).await.remove(0),
                    fixture.workload.expected(page, at),
                ) {
                    (Ok(image), Some((lsn, bytes))) => assert_eq!((image.page_lsn, image.bytes), (lsn, bytes)),
                    (Err(PageError::NotFound { .. }), None) => {}
                    (Err(PageError::BelowHorizon { .. }), _) => {}
                    (Err(PageError::Damaged { reason, .. }), _) => assert!(reason.contains(&key), "{reason}"),
                    (answer, expected) => panic!("page {page} as of {at}: {answer:?}, expected {expected:?}"),
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_cache_is_mended_from_the_object_store() {
    let mut fixture = written(420).await;
    let directory = tempfile::tempdir().expect("tempdir");
    let mut config = config();
    config.cache_dir = Some(directory.path().to_owned());
    let server = fixture.start(config.clone()).await;
    fixture.check(server.client().as_ref(), 200).await;
    server.shutdown().await;
    let (mut damaged, mut random) = (0, Random(6));
    for file in std::fs::read_dir(directory.path()).expect("the cache") {
        let path = file.expect("a file").path();
        let mut bytes = std::fs::read(&path).expect("a piece");
        let byte = random.below(bytes.len() as u64) as usize;
        bytes[byte] ^= 1 << random.below(8);
        std::fs::write(&path, bytes).expect("written back");
        damaged += 1;
    }
    assert!(damaged > 0, "nothing was in the cache");
    let server = fixture.start(config).await;
    fixture.check(server.client().as_ref(), 200).await;
    eventually("repairs are counted", async || server.cache_repairs() > 0).await;
    assert!(server.problems().is_empty(), "{:?}", server.problems());
    server.shutdown().await;
}
