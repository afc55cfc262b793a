//! The object store over S3's protocol: every operation, races and lost answers on conditional PUT, and the refusal of
//! stores that do not honour conditions. Against our own server, and against any other that `ALLUVIUM_S3_ENDPOINT` (with a
//! bucket `alluvium`, and credentials in `AWS_*`) names.

#![allow(clippy::disallowed_methods)]

#[path = "harness/s3/mod.rs"]
mod s3;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use s3::{Fault, Honesty, S3Server};
use storage::object::{ObjectError, ObjectStore, ProbeError, RetryPolicy, S3Credentials, S3Options, SwapError};

/// Far above what a sound request takes here.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

fn open(endpoint: String, prefix: &str, retry: RetryPolicy) -> ObjectStore {
    let credentials = "[default]\naws_access_key_id = tester\naws_secret_access_key = secret\n";
    let options = S3Options {
        endpoint: Some(endpoint),
        region: Some("us-east-1".to_owned()),
        credentials: Some(S3Credentials::parse(credentials, "default").expect("a good file")),
        request_timeout: Some(REQUEST_TIMEOUT),
    };
    ObjectStore::open_with(&format!("s3://alluvium/{prefix}"), &options, retry).expect("a good URL")
}

/// Splitmix64: the same seed gives the same faults.
fn draw(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

/// One request in `one_in` meets one of the faults.
fn faults(seed: u64, one_in: u64) -> impl Fn(u64, &s3::Request) -> Fault + Send + Sync + 'static {
    move |number, _| {
        let drawn = draw(seed, number);
        if !drawn.is_multiple_of(one_in) {
            return Fault::None;
        }
        match drawn / one_in % 8 {
            0 => Fault::Status(500),
            1 => Fault::Status(503),
            2 => Fault::Status(429),
            3 => Fault::Reset,
            4 => Fault::Slow(Duration::from_millis(30)),
            5 => Fault::Torn,
            _ => Fault::AnswerLost,
        }
    }
}

async fn check_operations(store: ObjectStore) {
    let bytes = Bytes::from_static(b"0123456789");
    for key in ["a/b/one", "a/b/two", "a/b/three", "a/b/four", "a/c"] {
        store.put(key, bytes.clone()).await.expect("put");
    }
    assert_eq!(store.get("a/b/one").await, Ok(bytes));
    assert_eq!(store.get_range("a/b/one", 3..6).await, Ok(Bytes::from_static(b"345")));
    assert!(store.get_range("a/b/one", 8..12).await.is_err(), "a range past the end is refused");
    assert!(matches!(store.get("a/b/none").await, Err(ObjectError::NotFound { .. })));
    let mut listed = store.list("a/b").await.expect("list");
    listed.sort();
    assert_eq!(listed, ["a/b/four", "a/b/one", "a/b/three", "a/b/two"]);
    store.delete("a/b/one").await.expect("delete");
    store.delete("a/b/one").await.expect("deleting what is gone");
    assert!(matches!(store.get("a/b/one").await, Err(ObjectError::NotFound { .. })));

    let large: Vec<u8> = (0..20 << 20).map(|n| draw(1, n / 8) as u8).collect();
    // Several parts; a part that fails ends the upload, and the caller begins anew under another key.
    let mut trial = 0;
    let key = loop {
        trial += 1;
        let key = format!("large/{trial}");
        let mut upload = store.upload(&key);
        let mut written = Ok(());
        for part in large.chunks(1 << 20) {
            written = written.and(upload.write(part).await);
        }
        if written.is_ok() && upload.finish().await.is_ok() {
            break key;
        }
        assert!(trial < 10, "no upload succeeds");
    };
    assert!(store.get(&key).await.expect("get") == large, "parts come back in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations() {
    let server = S3Server::honest().await;
    check_operations(open(server.endpoint(), "some/database", RetryPolicy::none())).await;
    assert!(server.keys().iter().all(|key| key.starts_with("alluvium/some/database/")), "{:?}", server.keys());
    for seed in 1..4 {
        let server = S3Server::start(Honesty::Honest, faults(seed, 6)).await;
        check_operations(open(server.endpoint(), "", RetryPolicy::immediate(8))).await;
    }
    if let Ok(endpoint) = std::env::var("ALLUVIUM_S3_ENDPOINT") {
        let prefix = format!("operations-{}", std::process::id());
        check_operations(open(endpoint, &prefix, RetryPolicy::immediate(3))).await;
    }
}

/// Racers add one to a number, each as often as it can. Every swap that was told to have succeeded counts once.
async fn check_races(store: ObjectStore, racers: u64, rounds: u64) {
    let key = "counter";
    let number = |bytes: &Bytes| -> u64 {
        let text = std::str::from_utf8(bytes).expect("text");
        text.split(' ').next().expect("a number").parse().expect("a number")
    };
    let successes = Arc::new(AtomicU64::new(0));
    let mut racing = tokio::task::JoinSet::new();
    for racer in 0..racers {
        let (store, successes) = (store.clone(), successes.clone());
        racing.spawn(async move {
            for round in 0..rounds {
                let Ok(found) = store.read_versioned(key).await else { continue };
                let next = found.as_ref().map_or(1, |found| number(&found.bytes) + 1);
                let bytes = Bytes::from(format!("{next} {racer} {round}"));
                match store.swap(key, found.as_ref(), bytes).await {
                    Ok(_) => drop(successes.fetch_add(1, Ordering::SeqCst)),
                    Err(SwapError::Conflict { .. }) => {}
                    Err(error) => panic!("racer {racer}: {error}"),
                }
            }
        });
    }
    while let Some(ended) = racing.join_next().await {
        ended.expect("no racer fails");
    }
    let end = store.read_versioned(key).await.expect("readable").expect("somebody won");
    let (end, told) = (number(&end.bytes), successes.load(Ordering::SeqCst));
    // A write of ours that took effect and was then overwritten before we looked is told as a conflict: it counts in the
    // object and not among the successes. The other way round would be a lost update.
    assert!(told <= end && told > 0, "{told} told to have succeeded, {end} counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn races_lose_no_update() {
    for seed in 0..4 {
        let server = S3Server::start(Honesty::Honest, faults(seed, 4)).await;
        check_races(open(server.endpoint(), "races", RetryPolicy::immediate(40)), 4, 15).await;
    }
    if let Ok(endpoint) = std::env::var("ALLUVIUM_S3_ENDPOINT") {
        let prefix = format!("races-{}", std::process::id());
        check_races(open(endpoint, &prefix, RetryPolicy::immediate(5)), 6, 20).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dishonest_stores_are_refused() {
    let cases = [
        (Honesty::Honest, None),
        (Honesty::IgnoresConditions, Some("created once more")),
        (Honesty::IgnoresMatch, Some("who expected an older one")),
        (Honesty::Racy, Some("racers all created the same object")),
    ];
    for (honesty, complaint) in cases {
        for one_in in [u64::MAX, 5] {
            let server = S3Server::start(honesty, faults(7, one_in)).await;
            let store = open(server.endpoint(), "database", RetryPolicy::immediate(20));
            match (store.probe("probe/1").await, complaint) {
                (Ok(()), None) => {}
                (Err(ProbeError::Dishonest(reason)), Some(complaint)) => {
                    assert!(reason.contains(complaint), "{honesty:?}: {reason}");
                }
                (outcome, _) => panic!("{honesty:?}, one fault in {one_in}: {outcome:?}"),
            }
        }
    }
    let nobody = open("http://127.0.0.1:1".to_owned(), "database", RetryPolicy::none());
    assert!(matches!(nobody.probe("probe/1").await, Err(ProbeError::Object(ObjectError::Transient { .. }))));
    if let Ok(endpoint) = std::env::var("ALLUVIUM_S3_ENDPOINT") {
        let key = format!("probe/{}", std::process::id());
        open(endpoint, "database", RetryPolicy::immediate(3)).probe(&key).await.expect("an honest store");
    }
}

#[test]
fn credentials_from_a_file() {
    let text =
        "# both\n[default]\naws_access_key_id=one\naws_secret_access_key = s=1\n\n[ other ]\naws_access_key_id = two\n";
    let found = S3Credentials::parse(text, "default").expect("complete");
    assert_eq!(found.access_key_id, "one");
    assert!(!format!("{found:?}").contains("s=1"), "secrets are not shown");
    for (text, profile, complaint) in [
        (text, "other", "no aws_secret_access_key"),
        (text, "third", "no section [third]"),
        ("[default]\nsecret", "default", "line 2"),
        ("", "default", "no section [default]"),
    ] {
        let refused = S3Credentials::parse(text, profile).expect_err("incomplete");
        assert!(refused.contains(complaint), "{refused}");
    }
}
