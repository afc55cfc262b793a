//! Page equality over S3's protocol and its faults: errors, resets, torn bodies, lost answers, LIST that lags behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use storage::object::{ObjectStore, RetryPolicy, S3Credentials, S3Options};

use self::s3::{Fault, Honesty, S3Server};
use super::workload::{BRANCH, Random};
use super::{Fixture, config, eventually};

#[path = "../../../tests/harness/s3/mod.rs"]
mod s3;

/// Far above what a sound request takes here.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(400);

fn open(server: &S3Server, retry: RetryPolicy) -> ObjectStore {
    let credentials = "[default]\naws_access_key_id = tester\naws_secret_access_key = secret\n";
    let options = S3Options {
        endpoint: Some(server.endpoint()),
        region: Some("us-east-1".to_owned()),
        credentials: Some(S3Credentials::parse(credentials, "default").expect("a good file")),
        request_timeout: Some(REQUEST_TIMEOUT),
    };
    ObjectStore::open_with("s3://alluvium/database", &options, retry).expect("a good URL")
}

/// One request in `one_in` meets a fault.
fn faults(seed: u64, one_in: u64) -> impl Fn(u64, &s3::Request) -> Fault + Send + Sync + 'static {
    move |number, _| {
        let mut random = Random(seed ^ number << 20);
        if random.below(one_in) != 0 {
            return Fault::None;
        }
        match random.below(8) {
            0 => Fault::Status(500),
            1 => Fault::Status(503),
            2 => Fault::Status(429),
            3 => Fault::Reset,
            4 => Fault::Slow(Duration::from_millis(20)),
            5 => Fault::Torn,
            _ => Fault::AnswerLost,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_equal_replay_over_a_faulty_s3() {
    for seed in 200..203 {
        let server = S3Server::start(Honesty::Honest, faults(seed, 8)).await;
        server.let_lists_lag(5);
        let mut fixture = Fixture::new(seed, 30);
        fixture.store = open(&server, RetryPolicy::immediate(12));
        for round in 0..4 {
            let pages = fixture.start(config()).await;
            fixture.workload.run(&fixture.log, 120);
            fixture.check(pages.client().as_ref(), 60).await;
            if round == 1 {
                pages.shutdown().await;
                fixture.log.trim();
            }
        }
    }
}

/// Requests that never end, before or after they took effect, or within their answer: given up in time, and repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_equal_replay_when_requests_never_end() {
    let hung = Arc::new(AtomicU64::new(0));
    let counted = hung.clone();
    let server = S3Server::start(Honesty::Honest, move |number, _| {
        let mut random = Random(77 ^ number << 20);
        if random.below(25) != 0 {
            return Fault::None;
        }
        counted.fetch_add(1, Ordering::SeqCst);
        match random.below(3) {
            0 => Fault::Hang,
            1 => Fault::Stall,
            _ => Fault::Slow(Duration::from_secs(3600)),
        }
    })
    .await;
    let mut fixture = Fixture::new(500, 30);
    fixture.store = open(&server, RetryPolicy::immediate(12));
    let begun = tokio::time::Instant::now();
    for round in 0..3 {
        let pages = fixture.start(config()).await;
        fixture.workload.run(&fixture.log, 80);
        fixture.check(pages.client().as_ref(), 40).await;
        if round == 1 {
            pages.shutdown().await;
            fixture.log.trim();
        }
    }
    let hung = hung.load(Ordering::SeqCst);
    assert!(hung > 0, "all requests ended");
    assert!(begun.elapsed() < Duration::from_secs(60), "{hung} of them took {:?}", begun.elapsed());
}

/// Both answer rightly, whatever becomes of the answers to their conditional PUTs; only the newer one's layers count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_owners_over_a_faulty_s3() {
    for seed in 300..303 {
        let server = S3Server::start(Honesty::Honest, faults(seed, 5)).await;
        server.let_lists_lag(9);
        let mut fixture = Fixture::new(seed, 30);
        fixture.store = open(&server, RetryPolicy::immediate(20));
        let old = fixture.start(config()).await;
        fixture.workload.run(&fixture.log, 100);
        fixture.check(old.client().as_ref(), 40).await;
        let new = fixture.start(config()).await;
        fixture.workload.run(&fixture.log, 20);
        old.freeze();
        fixture.check(new.client().as_ref(), 40).await;
        eventually("the old owner learns of the new one", async || old.is_lost()).await;
        fixture.workload.run(&fixture.log, 150);
        fixture.check(new.client().as_ref(), 100).await;
        drop(old);
        new.shutdown().await;
        let after = fixture.start(config()).await;
        fixture.check(after.client().as_ref(), 100).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_s3_holds_the_log_back_and_passes() {
    let away = Arc::new(AtomicBool::new(false));
    let decide = away.clone();
    let server = S3Server::start(Honesty::Honest, move |number, _| match decide.load(Ordering::SeqCst) {
        true if number % 2 == 0 => Fault::Status(503),
        true => Fault::Reset,
        false => Fault::None,
    })
    .await;
    let mut fixture = Fixture::new(9, 30);
    fixture.store = open(&server, RetryPolicy::none());
    let config = config();
    let pages = fixture.start(config.clone()).await;
    away.store(true, Ordering::SeqCst);
    fixture.workload.run(&fixture.log, 1500);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let held = pages.buffered_bytes();
    let most = config.frozen_bytes + 3 * config.buffer_bytes + (300 << 10);
    assert!(held <= most, "{held} bytes held, {most} allowed");
    let reached = pages.client().status(BRANCH).await.expect("status").ingested_lsn;
    assert!(reached < fixture.workload.end, "the log was read to its end although nothing could be written");
    away.store(false, Ordering::SeqCst);
    fixture.check(pages.client().as_ref(), 200).await;
    pages.shutdown().await;
}
