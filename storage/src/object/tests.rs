//! Every operation on every backend, swaps that race, and answers that get lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::faults::{Fate, FaultyStore};
use super::*;

fn local(directory: &tempfile::TempDir) -> ObjectStore {
    let url = format!("file://{}", directory.path().display());
    ObjectStore::open(&url, RetryPolicy::none()).expect("a fresh directory opens")
}

async fn check_operations(store: ObjectStore) {
    let bytes = Bytes::from_static(b"0123456789");
    store.put("a/b/one", bytes.clone()).await.expect("put");
    store.put("a/b/one", bytes.clone()).await.expect("put again");
    assert_eq!(store.get("a/b/one").await, Ok(bytes));
    assert_eq!(store.get_range("a/b/one", 3..6).await, Ok(Bytes::from_static(b"345")));
    assert!(store.get_range("a/b/one", 8..12).await.is_err(), "a range past the end is refused");
    assert_eq!(store.get("a/b/two").await, Err(ObjectError::NotFound { key: "a/b/two".to_owned() }));
    assert_eq!(store.list("a").await, Ok(vec!["a/b/one".to_owned()]));
    store.delete("a/b/one").await.expect("delete");
    store.delete("a/b/one").await.expect("deleting what is gone");
    assert_eq!(store.list("a").await, Ok(vec![]));

    let large = vec![7u8; 20 << 20];
    let mut upload = store.upload("large/object");
    for part in large.chunks(1 << 20) {
        upload.write(part).await.expect("write");
    }
    assert_eq!(upload.written_bytes(), large.len() as u64);
    upload.finish().await.expect("finish");
    assert!(store.get("large/object").await.expect("get") == large, "parts come back in order");

    let mut upload = store.upload("large/abandoned");
    upload.write(&large).await.expect("write");
    upload.abort().await;
    assert!(store.get("large/abandoned").await.is_err());
}

async fn check_swaps(store: ObjectStore) {
    let first = store.swap("m", None, Bytes::from_static(b"first")).await.expect("create");
    assert_eq!(store.read_versioned("m").await, Ok(Some(first.clone())));
    let conflict = store.swap("m", None, Bytes::from_static(b"rival")).await;
    assert!(matches!(conflict, Err(SwapError::Conflict { current: Some(found), .. }) if found == first));
    let second = store.swap("m", Some(&first), Bytes::from_static(b"second")).await.expect("update");
    let stale = store.swap("m", Some(&first), Bytes::from_static(b"late")).await;
    assert!(matches!(stale, Err(SwapError::Conflict { current: Some(found), .. }) if found == second));
}

#[tokio::test]
async fn operations() {
    let directory = tempfile::tempdir().expect("tempdir");
    for store in [ObjectStore::memory(RetryPolicy::none()), local(&directory)] {
        check_operations(store.clone()).await;
        check_swaps(store).await;
    }
}

/// On threads of their own, and in place.
#[test]
fn scratch_leaves_nothing_behind() {
    let runtimes = [tokio::runtime::Builder::new_multi_thread(), tokio::runtime::Builder::new_current_thread()];
    for mut runtime in runtimes {
        let directory = tempfile::tempdir().expect("tempdir");
        let scratch = Scratch::new(directory.path().join("below"));
        let work = async {
            check_operations(scratch.store()).await;
            let (store, bytes) = (scratch.store(), Bytes::from_static(b"set aside"));
            store.put("one", bytes.clone()).await.expect("put");
            // Cleared while it is used: what is open stays.
            std::fs::remove_dir_all(directory.path().join("below")).expect("it is there, and empty");
            assert_eq!(store.get("one").await, Ok(bytes.clone()));
            store.put("two", bytes.clone()).await.expect("the directory is made again");
            scratch.remove("one");
            assert!(matches!(store.get("one").await, Err(ObjectError::NotFound { .. })));
            assert_eq!(store.get("two").await, Ok(bytes));
            let named = std::fs::read_dir(directory.path().join("below")).expect("it is there").count();
            assert_eq!(named, 0, "files with a name");
        };
        runtime.build().expect("a runtime").block_on(work);
    }
}

#[test]
fn urls() {
    for url in ["", "directory", "file://relative/path", "ftp://x", "s3://", "memory://x"] {
        let opened = ObjectStore::open(url, RetryPolicy::none());
        assert!(matches!(opened, Err(ObjectError::Url { .. })), "{url:?} gave {opened:?}");
    }
    assert!(ObjectStore::open("memory://", RetryPolicy::none()).is_ok());
}

#[tokio::test]
async fn half_written_files_are_removed() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = local(&directory);
    store.put("a/b/kept", Bytes::from_static(b"1")).await.expect("put");
    let staged = directory.path().join("a/b/cut#123");
    std::fs::write(&staged, b"half").expect("write");
    let store = local(&directory);
    assert!(!staged.exists(), "a staged file outlives its writer");
    assert_eq!(store.list("a").await, Ok(vec!["a/b/kept".to_owned()]));
}

/// Several writers append to one list. What was acknowledged is in it, once; what was denied is not.
async fn check_appending(open: impl Fn(u64) -> ObjectStore, writers: u64, rounds: u64) {
    let tasks = (0..writers).map(|writer| {
        let store = open(writer);
        tokio::spawn(async move {
            let (mut acknowledged, mut denied) = (Vec::new(), Vec::new());
            for round in 0..rounds {
                for trial in 0.. {
                    let Ok(found) = store.read_versioned("list").await else { continue };
                    let name = format!("{writer}/{round}/{trial}");
                    let mut next = found.as_ref().map(|found| found.bytes.to_vec()).unwrap_or_default();
                    next.extend_from_slice(format!("{name}\n").as_bytes());
                    match store.swap("list", found.as_ref(), Bytes::from(next)).await {
                        Ok(_) => {
                            acknowledged.push(name);
                            break;
                        }
                        // Ours may have been in before the other's: then the list, which only grows, still shows it.
                        Err(SwapError::Conflict { current, .. }) => {
                            if current.is_some_and(|current| names(&current.bytes).contains(&name)) {
                                acknowledged.push(name);
                                break;
                            }
                            denied.push(name);
                        }
                        Err(_) => break,
                    }
                }
            }
            (acknowledged, denied)
        })
    });
    let mut outcomes = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        outcomes.push(task.await.expect("no panic"));
    }
    let store = open(writers);
    let found = loop {
        if let Ok(found) = store.read_versioned("list").await {
            break names(&found.expect("written").bytes);
        }
    };
    for (acknowledged, denied) in outcomes {
        for name in acknowledged {
            assert_eq!(found.iter().filter(|found| **found == name).count(), 1, "{name} in {found:?}");
        }
        for name in denied {
            assert!(!found.contains(&name), "{name} was denied and is in {found:?}");
        }
    }
}

fn names(bytes: &[u8]) -> Vec<String> {
    std::str::from_utf8(bytes).expect("text").lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn swaps_race() {
    let memory = ObjectStore::memory(RetryPolicy::none());
    check_appending(|_| memory.clone(), 4, 50).await;
    let directory = tempfile::tempdir().expect("tempdir");
    // Each writer with a handle of its own, as separate processes would have.
    check_appending(|_| local(&directory), 4, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn swaps_race_with_faults() {
    let inner: Arc<dyn object_store::ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let open = |writer: u64| {
        let state = AtomicU64::new(writer.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let faulty = FaultyStore::new(inner.clone(), move |_| {
            let mixed = state.load(Ordering::Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            state.store(mixed, Ordering::Relaxed);
            match mixed >> 33 & 7 {
                0 => Fate::Refused,
                1 => Fate::AnswerLost,
                _ => Fate::Answered,
            }
        });
        ObjectStore::new(Arc::new(faulty), Path::default(), RetryPolicy::immediate(6))
    };
    check_appending(open, 4, 60).await;
}

#[tokio::test]
async fn lost_answers_are_settled_by_reading_back() {
    let cases = [
        // (fates of the requests, trials, won)
        (vec![Fate::AnswerLost], 1, true),
        (vec![Fate::Refused], 2, true),
        (vec![Fate::AnswerLost, Fate::Refused], 2, true),
        (vec![Fate::Refused], 1, false),
    ];
    for (fates, trials, won) in cases {
        let inner = Arc::new(object_store::memory::InMemory::new());
        let decide = fates.clone();
        let faulty = FaultyStore::new(inner, move |n| *decide.get(n as usize).unwrap_or(&Fate::Answered));
        let store = ObjectStore::new(Arc::new(faulty), Path::default(), RetryPolicy::immediate(trials));
        let outcome = store.swap("m", None, Bytes::from_static(b"ours")).await;
        assert_eq!(outcome.is_ok(), won, "{fates:?}: {outcome:?}");
    }
}

/// FAULTS 6: each sync of a local store fails in turn. What was not made durable is not acknowledged, also not because it can be
/// read back; and where an object had its name already, the store gives and takes nothing more.
#[tokio::test]
async fn a_failed_sync_acknowledges_nothing() {
    /// Syncs until the one that fails, and then whether that was of a directory.
    static FAILURES: parking_lot::Mutex<(Option<u64>, Option<bool>)> = parking_lot::Mutex::new((None, None));
    fn sync(file: &std::fs::File) -> std::io::Result<()> {
        let mut failures = FAILURES.lock();
        match &mut failures.0 {
            Some(0) => {
                *failures = (None, Some(file.metadata()?.is_dir()));
                Err(std::io::Error::other("simulated fsync failure"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
    let (mut of_directories, mut of_files) = (0, 0);
    for fails_at in 0.. {
        let directory = tempfile::tempdir().expect("a directory");
        let files = DurableLocal::open_with(directory.path(), sync).expect("opens");
        let store = ObjectStore::new(Arc::new(files), Path::default(), RetryPolicy::immediate(3));
        *FAILURES.lock() = (Some(fails_at), None);
        let mut outcomes = Vec::new();
        let mut note = |is_ok: bool| outcomes.push((is_ok, FAILURES.lock().1));
        note(store.put("a/one", Bytes::from_static(b"one")).await.is_ok());
        let first = store.swap("a/manifest", None, Bytes::from_static(b"first")).await;
        note(first.is_ok());
        if let Ok(first) = first {
            note(store.swap("a/manifest", Some(&first), Bytes::from_static(b"second")).await.is_ok());
        }
        let mut upload = store.upload("b/large");
        note(upload.write(&[7; 100]).await.is_ok() && upload.finish().await.is_ok());
        note(store.get("a/one").await.is_ok());
        let Some(is_directory) = FAILURES.lock().1 else { break };
        *(if is_directory { &mut of_directories } else { &mut of_files }) += 1;
        for (position, (is_ok, failed)) in outcomes.iter().enumerate() {
            // A file that had no name yet was written anew by a retry.
            let is_ended = is_directory && failed.is_some();
            assert!(!(*is_ok && is_ended), "sync {fails_at}: call {position} was acknowledged: {outcomes:?}");
        }
        // Who opens it anew finds what is there.
        *FAILURES.lock() = (None, None);
        let again = local(&directory);
        if outcomes[0].0 {
            assert_eq!(again.get("a/one").await, Ok(Bytes::from_static(b"one")));
        }
    }
    assert!(of_directories >= 4 && of_files >= 3, "{of_directories} of directories, {of_files} of files");
}
