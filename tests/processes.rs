//! Log, page server and compute as separate processes, which are killed and replaced under pgbench.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::path::Path;
use std::time::Duration;

use harness::pgbench;
use harness::tier::{TestLog, Tier};

/// What the tiers of a test share.
struct Places<'a> {
    directory: &'a Path,
    log: String,
}

impl Places<'_> {
    fn page_server(&self, listen: &str) -> Tier {
        let store = format!("file://{}", self.directory.join("objects").display());
        let data = self.directory.join("pageserver").display().to_string();
        let fixed = ["pageserver", "--listen", listen, "--admin-listen", "127.0.0.1:0", "--memory", "64MiB"];
        let own = ["--log", &self.log, "--store", &store, "--data-dir", &data];
        Tier::start(&[&fixed[..], &own[..]].concat())
    }

    fn compute(&self, pages: &str) -> Tier {
        let temporary = self.directory.join("tmp").display().to_string();
        let fixed = ["compute", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--memory", "64MiB"];
        let own = ["--log", &self.log, "--pages", pages, "--temp-dir", &temporary];
        Tier::start(&[&fixed[..], &own[..]].concat())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_server_killed_under_load_comes_back_from_object_store_and_log() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = TestLog::start(&directory.path().join("log")).await;
    let places = Places { directory: directory.path(), log: log.address.to_string() };
    let pages = places.page_server("127.0.0.1:0");
    let pages_address = pages.address("pages").to_string();
    let compute = places.compute(&pages_address);
    let address = compute.address("psql");
    pgbench::initialise(address, 1);
    let load = std::thread::spawn(move || pgbench::run(address, "simple", 4, 6));
    tokio::time::sleep(Duration::from_secs(2)).await;
    pages.kill();
    std::fs::remove_dir_all(directory.path().join("pageserver")).expect("a cache may be deleted");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let pages = places.page_server(&pages_address);
    let report = load.join().expect("pgbench ends well");
    assert_eq!(report.failed, 0);
    pgbench::check_sums(address, report.processed);
    // A compute with nothing in memory reads everything from the page server.
    compute.kill();
    let compute = places.compute(&pages_address);
    pgbench::check_sums(compute.address("psql"), report.processed);
    compute.stop();
    pages.stop();
    log.store.shutdown();
}
