//! A branch that begins at an LSN, over a log that counts from zero.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use storage::{BranchId, Epoch, Lsn};

use crate::client::{LogClient, LogError};
use crate::shifted::ShiftedLog;
use crate::{LogStore, LogStoreConfig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_become_lsns() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = LogStore::open(LogStoreConfig::new(directory.path())).expect("open");
    let (branch, root, begin) = (BranchId(7), BranchId(1), Lsn(1000));
    let log = Arc::new(ShiftedLog::new(store.client(), [(branch, begin)]));
    assert_eq!(log.status(branch).await.expect("status").durable_lsn, begin);
    log.report_consumer(branch, "reader", begin).await.expect("reported");
    let grant = log.acquire_epoch(branch).await.expect("epoch");
    assert_eq!((grant.epoch, grant.end_lsn), (Epoch(1), begin));
    let end = log.append(branch, grant.epoch, begin, Bytes::from_static(b"0123456789")).await.expect("appended");
    assert_eq!(end, Lsn(1010));
    let gap = log.append(branch, grant.epoch, Lsn(1020), Bytes::from_static(b"x")).await;
    assert!(matches!(gap, Err(LogError::Gap { end_lsn: Lsn(1010), start_lsn: Lsn(1020), .. })), "{gap:?}");
    let mut chunks = log.subscribe(branch, begin).await.expect("subscribed");
    let chunk = chunks.next().await.expect("a chunk").expect("readable");
    assert_eq!((chunk.start_lsn, &chunk.bytes[..]), (begin, &b"0123456789"[..]));
    log.report_consumer(branch, "reader", Lsn(1005)).await.expect("reported");
    log.report_consumer(branch, "reader", Lsn::MAX).await.expect("forgotten");
    // Others are as they were.
    let grant = log.acquire_epoch(root).await.expect("epoch");
    assert_eq!(grant.end_lsn, Lsn::ZERO);
    store.shutdown();
}
