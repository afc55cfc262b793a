//! Readers: they ask for pages at LSNs, of whoever serves them or of one server whatever it believes to serve, and compare every
//! answer with the oracle (checker P).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pageserver::client::{GetPage, PageClient, PageError, PageImage, Priority};
use storage::btree::TreeError;
use storage::page::Page;
use storage::{BranchId, Lsn, PageNo};

use super::Plane;
use super::servers::connect;
use super::tables::{Fetched, check};
use crate::world::MAIN;

/// Pages asked for at a time, at most.
const BATCH: u64 = 5;

/// Reads at random until the end.
pub async fn read(plane: Arc<Plane>) {
    let sim = plane.sim.clone();
    loop {
        let pause = sim.random(|random| random.between(5, 80));
        sim.sleep(pause).await;
        let branches = plane.live_branches();
        let Some(branch) = sim.random(|random| random.one_of(&branches)) else { continue };
        let requests = plane.requests(branch);
        if sim.random(|random| random.percent(8)) {
            plane.check_tables(branch).await;
            continue;
        }
        let servers: Vec<u64> = plane.servers.lock().keys().copied().collect();
        let direct = sim.random(|random| if random.percent(40) { random.one_of(&servers) } else { None });
        let answers = match direct {
            Some(id) => {
                let client = connect(Arc::downgrade(&plane), plane.client.clone(), &id.to_string());
                client.get_pages(branch, &requests).await
            }
            None => plane.pages.get_pages(branch, &requests).await,
        };
        for (request, answer) in requests.iter().zip(answers) {
            plane.compare(branch, request, &answer);
        }
    }
}

impl Plane {
    /// Requests that a compute might make: `not_modified_since` is anything between the page's last change and `at`.
    fn requests(&self, branch: BranchId) -> Vec<GetPage> {
        self.sim.with(|world| {
            let oracle = &world.oracles[&branch];
            let random = &mut world.random;
            let recent = random.percent(50);
            let ends = oracle.ends();
            let skip = if recent { ends.len().saturating_sub(20) } else { 0 };
            let at = match random.one_of(&ends[skip..]) {
                // Also between the ends of batches.
                Some(at) if random.percent(10) => Lsn(at.0.saturating_sub(1)),
                Some(at) => at,
                // Nothing has been committed: beyond the end nobody knows what was modified.
                None => oracle.known_until(),
            };
            let count = random.between(1, BATCH);
            (0..count)
                .map(|_| {
                    let page = PageNo(random.below(oracle.page_space() + 2));
                    let last = oracle.page(page, at).map_or(Lsn::ZERO, |(lsn, _)| lsn);
                    // Of what is not known yet nobody can say that it has not changed.
                    let is_known = at <= oracle.known_until();
                    let not_modified_since = if !is_known || random.percent(50) {
                        at
                    } else {
                        Lsn(random.between(last.0, at.0.max(last.0)))
                    };
                    let priority = random.one_of(&Priority::ALL).expect("there are priorities");
                    GetPage { page, at, not_modified_since, priority }
                })
                .collect()
        })
    }

    /// True if there was an answer. A wrong one ends the run.
    fn compare(&self, branch: BranchId, request: &GetPage, answer: &Result<PageImage, PageError>) -> bool {
        let GetPage { page, at, .. } = *request;
        let (expected, last, retention) = self.sim.with(|world| {
            let oracle = &world.oracles[&branch];
            let retention = world.options.pages.as_ref().map_or(0, |pages| pages.retention_bytes);
            (oracle.page(page, at), oracle.known_until(), retention)
        });
        match answer {
            Ok(image) => {
                let found = Page::open(&image.bytes, branch, page);
                let found = found.unwrap_or_else(|damage| panic!("branch {branch} page {page} at {at}: {damage}"));
                let Some((lsn, expected)) = expected else {
                    panic!(
                        "branch {branch} page {page} at {at}: the log knows nothing of it; answered as of {}",
                        image.page_lsn
                    );
                };
                assert_eq!(image.page_lsn, lsn, "branch {branch} page {page} at {at}: the last record's LSN");
                assert!(
                    found.bytes() == expected.bytes(),
                    "branch {branch} page {page} at {at}: not what replay of the log gives"
                );
            }
            Err(PageError::NotFound { .. }) => {
                let lsn = expected.map(|(lsn, _)| lsn);
                assert_eq!(lsn, None, "branch {branch} page {page} at {at}: said not to exist");
            }
            Err(PageError::BelowHorizon { horizon, .. }) => {
                assert!(at < *horizon, "branch {branch} page {page} at {at} lies above the horizon {horizon}");
                if branch == MAIN {
                    let kept = horizon.0 + retention <= last.0;
                    assert!(kept, "history before {horizon} is gone, although the log ends at {last}");
                }
            }
            Err(error) => {
                assert!(error.is_transient(), "branch {branch} page {page} at {at}: {error}");
                return false;
            }
        }
        self.sim.note("page", &[branch.0, page.0, at.0, u64::from(answer.is_ok())]);
        self.compared.fetch_add(1, Ordering::Relaxed);
        true
    }
}

impl Plane {
    /// Reads a whole database as of one LSN from the page servers, and checks it. Gives up when a page cannot be had.
    async fn check_tables(&self, branch: BranchId) {
        let at = self.sim.with(|world| {
            let tables = world.options.pages.as_ref().is_some_and(|pages| pages.tables);
            tables.then(|| world.random.one_of(world.oracles[&branch].ends())).flatten()
        });
        let Some(at) = at else { return };
        let mut pages = Fetched::default();
        loop {
            match check(&pages, &format!("branch {branch} at {at}")) {
                Ok(_) => break,
                Err(TreeError::NotResident { page }) => {
                    let request = GetPage { page, at, not_modified_since: at, priority: Priority::Background };
                    let answer = self.pages.get_pages(branch, &[request]).await.pop().expect("one answer");
                    self.compare(branch, &request, &answer);
                    let Ok(image) = answer else { return };
                    let page_bytes = Page::open(&image.bytes, branch, page).expect("it was compared");
                    pages.0.insert(page, page_bytes);
                }
                Err(error) => panic!("branch {branch} at {at}: {error}"),
            }
        }
        self.databases.fetch_add(1, Ordering::Relaxed);
    }
}

/// Every page of every live branch, at its end and at some LSNs before, until all have been answered.
pub async fn read_everything(plane: &Plane, deadline: u64) {
    for branch in plane.live_branches() {
        let (lsns, space) = plane.sim.with(|world| {
            world.look_at(branch);
            let oracle = &world.oracles[&branch];
            let mut lsns = vec![oracle.last_batch(), oracle.begin];
            for _ in 0..4 {
                lsns.extend(world.random.one_of(oracle.ends()));
            }
            (lsns, oracle.page_space())
        });
        for at in lsns {
            let pages = (0..space + 2).map(PageNo);
            let whole = |page| GetPage { page, at, not_modified_since: at, priority: Priority::Foreground };
            let mut left: Vec<_> = pages.map(whole).collect();
            while !left.is_empty() {
                let answers = plane.pages.get_pages(branch, &left).await;
                let mut open = Vec::new();
                let mut reason = None;
                for (request, answer) in left.iter().zip(&answers) {
                    if !plane.compare(branch, request, answer) {
                        reason = answer.as_ref().err().cloned();
                        open.push(*request);
                    }
                }
                left = open;
                if !left.is_empty() {
                    assert!(plane.sim.now() < deadline, "branch {branch} at {at} cannot be read: {reason:?}");
                    plane.sim.sleep(100).await;
                }
            }
        }
    }
}
