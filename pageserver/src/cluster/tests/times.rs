//! Times are looked up where they are known: a page server that lags does not know the last commits before one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use storage::layout::ShardLayout;
use storage::{BranchId, Lsn};
use uuid::Uuid;

use super::servers::Metadata;
use crate::client::{GetPage, PageClient, PageError, PageImage, PageServerStatus};
use crate::cluster::branches::find_time;
use crate::cluster::directory::Directory;
use crate::cluster::record::{BranchRecord, Placement, ServerRecord};
use crate::cluster::routes::RoutedPages;

const BRANCH: BranchId = BranchId(1);

/// How far each server has read the log, by address; `None`: it is dead. A commit every ten bytes, at LSN × 1000 µs.
type Reached = Arc<Mutex<HashMap<String, Option<u64>>>>;

struct Server {
    address: String,
    reached: Reached,
}

impl Server {
    fn reached(&self) -> Result<u64, PageError> {
        let dead = || PageError::Unavailable { reason: format!("{} is dead", self.address) };
        self.reached.lock().get(&self.address).copied().flatten().ok_or_else(dead)
    }
}

#[async_trait]
impl PageClient for Server {
    async fn get_pages(&self, _: BranchId, _: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        Vec::new()
    }

    async fn lsn_at(&self, _: BranchId, time_us: u64) -> Result<Option<Lsn>, PageError> {
        let before = (time_us / 1000).min(self.reached()?);
        Ok((before >= 10).then_some(Lsn(before / 10 * 10)))
    }

    async fn status(&self, _: BranchId) -> Result<PageServerStatus, PageError> {
        Ok(PageServerStatus { ingested_lsn: Lsn(self.reached()?), ..PageServerStatus::default() })
    }
}

async fn routed(reached: &Reached) -> RoutedPages {
    let directory = Directory::new(Arc::new(Metadata::default()));
    let addresses = ["first:1", "second:1"];
    let placement = |address: &str| Placement { owner: address.to_owned(), moving_to: String::new() };
    let layout = ShardLayout::new(2, 16).expect("within the limits");
    let record =
        BranchRecord { placements: addresses.map(placement).into(), ..BranchRecord::new(BRANCH, "main", layout) };
    directory.change_branch(BRANCH, &|_| Ok(Some(record.clone()))).await.expect("room");
    for address in addresses {
        let server = ServerRecord { incarnation: Uuid::nil(), beat: 1, address: address.to_owned() };
        directory.change_server(address, &|_| Ok(Some(server.clone()))).await.expect("room");
    }
    let reached = reached.clone();
    RoutedPages::new(directory, move |address| {
        Arc::new(Server { address: address.to_owned(), reached: reached.clone() })
    })
}

#[tokio::test]
async fn a_time_is_found_by_whoever_has_read_that_far() {
    let reached = |first: Option<u64>, second: Option<u64>| {
        Arc::new(Mutex::new(HashMap::from([("first:1".to_owned(), first), ("second:1".to_owned(), second)])))
    };
    let check = async |first: u64, second: u64, time_us: u64, expected: Option<u64>| {
        let pages = routed(&reached(Some(first), Some(second))).await;
        let found = find_time(&pages, BRANCH, time_us, Lsn(200)).await.expect("known");
        assert_eq!(found.map(|lsn| lsn.0), expected, "{first} and {second} read, time {time_us}");
    };
    // Whichever of the two lags, and for times before, within and after what it knows.
    for (first, second) in [(40, 200), (200, 40), (200, 200)] {
        check(first, second, 5_000, None).await;
        check(first, second, 31_000, Some(30)).await;
        check(first, second, 155_000, Some(150)).await;
    }
    check(200, 200, 999_000_000, Some(200)).await;
    // Nobody knows yet: it waits until somebody has read on.
    let state = reached(Some(40), Some(100));
    let pages = routed(&state).await;
    let later = state.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        later.lock().insert("first:1".to_owned(), Some(160));
    });
    let begun = tokio::time::Instant::now();
    assert_eq!(find_time(&pages, BRANCH, 145_000, Lsn(200)).await.expect("known"), Some(Lsn(140)));
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    // One that does not answer may be the one that knows.
    state.lock().insert("first:1".to_owned(), None);
    assert!(pages.lsn_at(BRANCH, 145_000).await.is_err());
}

/// Gives what each call in turn has read of the log; the last one's for ever.
#[derive(Default)]
struct Changing {
    reached: Mutex<Vec<u64>>,
}

impl Changing {
    fn server(&self) -> Server {
        let mut reached = self.reached.lock();
        let now = if reached.len() > 1 { reached.remove(0) } else { reached[0] };
        let address = String::new();
        Server { reached: Arc::new(Mutex::new(HashMap::from([(address.clone(), Some(now))]))), address }
    }
}

#[async_trait]
impl PageClient for Changing {
    async fn get_pages(&self, _: BranchId, _: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        Vec::new()
    }

    async fn lsn_at(&self, branch: BranchId, time_us: u64) -> Result<Option<Lsn>, PageError> {
        self.server().lsn_at(branch, time_us).await
    }

    async fn status(&self, branch: BranchId) -> Result<PageServerStatus, PageError> {
        self.server().status(branch).await
    }
}

/// Who takes a shard over begins with what its manifest knows. The calls are status, latest, found, status, latest.
#[tokio::test]
async fn a_time_is_not_looked_up_by_a_server_that_knows_less_than_the_one_before() {
    let check = async |reached: &[u64]| {
        let pages = Changing { reached: Mutex::new(reached.to_vec()) };
        let found = find_time(&pages, BRANCH, 145_000, Lsn(200)).await.expect("known");
        assert_eq!(found, Some(Lsn(140)), "{reached:?}");
    };
    check(&[200]).await;
    // It is taken over after each of the calls.
    for calls in 1..5 {
        check(&[vec![200; calls], vec![40; 5 - calls], vec![200]].concat()).await;
    }
    check(&[100, 100, 100, 200, 200]).await;
}
