//! A shard of several is sent its own records only, and knows everything else as well as one that is sent all.

use std::sync::atomic::Ordering;

use storage::ShardId;
use storage::layout::ShardLayout;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_carries_to_a_shard_only_its_records() {
    let mut fixture = Fixture::new(17, 400);
    let layout = ShardLayout::new(4, 8).expect("within the limits");
    let mut shards = Vec::new();
    // Each in a store of its own.
    for shard in layout.ids() {
        let store = ObjectStore::memory(RetryPolicy::none());
        let config = PageServerConfig { layout, shard, ..config() };
        shards.push(PageServer::start(config, store, fixture.log.clone()).await.expect("the shard is free"));
    }
    fixture.workload.run(&fixture.log, 400);
    let end = fixture.workload.end;
    for server in &shards {
        eventually("the log is read", async || server.ingested() == end).await;
    }
    let sent = fixture.log.filtered_bytes.load(Ordering::SeqCst) as u64;
    assert!((end.0 / 2..end.0 * 12 / 10).contains(&sent), "{sent} bytes to four shards for a log of {}", end.0);
    let (_, last_time) = fixture.workload.last_commit();
    for time in (0..last_time + 200_000).step_by(50_000) {
        // As precise as marks are, which each shard has where its buffers begin and end.
        let precise = |time: u64| fixture.workload.committed(time);
        for server in &shards {
            let found = server.client().lsn_at(BRANCH, time).await.expect("known");
            assert!(found <= precise(time) && found >= precise(time.saturating_sub(600_000)), "{found:?} at {time}");
        }
    }
    for _ in 0..400 {
        let page = fixture.workload.any_page();
        let at = Lsn(fixture.workload.random.below(end.0 + 1));
        let ShardId(shard) = layout.shard_of(page);
        let request = GetPage { page, at, not_modified_since: at, priority: Priority::Foreground };
        let answer = shards[shard as usize].client().get_pages(BRANCH, &[request]).await.remove(0);
        match (answer, fixture.workload.expected(page, at)) {
            (Ok(image), Some((lsn, bytes))) => assert_eq!((image.page_lsn, image.bytes), (lsn, bytes), "page {page}"),
            (Err(PageError::NotFound { .. } | PageError::BelowHorizon { .. }), _) => {}
            (answer, _) => panic!("page {page} as of {at}: {answer:?}"),
        }
    }
}
