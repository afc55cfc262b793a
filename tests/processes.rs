//! Log, page server and compute as separate processes, which are killed and replaced under pgbench.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::path::Path;
use std::time::Duration;

use harness::pgbench;
use harness::s3::{Fault, Honesty, S3Server};
use harness::tier::{TestLog, Tier};

/// What the tiers of a test share.
struct Places<'a> {
    directory: &'a Path,
    log: String,
    /// Options that name the object store.
    store: Vec<String>,
}

impl<'a> Places<'a> {
    fn new(directory: &'a Path, log: &TestLog) -> Places<'a> {
        let store = vec!["--store".to_owned(), format!("file://{}", directory.join("objects").display())];
        Places { directory, log: log.address.to_string(), store }
    }

    fn on_s3(directory: &'a Path, log: &TestLog, server: &S3Server) -> Places<'a> {
        let credentials = directory.join("credentials");
        std::fs::write(&credentials, "[default]\naws_access_key_id = tester\naws_secret_access_key = secret\n")
            .expect("the directory can be written");
        let credentials = credentials.display().to_string();
        let endpoint = server.endpoint();
        let store = ["--store", "s3://alluvium/database", "--store-endpoint", &endpoint, "--store-region", "us-east-1"];
        let store = [&store[..], &["--store-credentials", &credentials]].concat();
        let store = store.into_iter().map(str::to_owned).collect();
        Places { directory, log: log.address.to_string(), store }
    }

    fn page_server(&self, listen: &str) -> Tier {
        let data = self.directory.join("pageserver").display().to_string();
        let fixed = ["pageserver", "--listen", listen, "--admin-listen", "127.0.0.1:0", "--memory", "64MiB"];
        let own = ["--log", &self.log, "--data-dir", &data];
        let store: Vec<_> = self.store.iter().map(String::as_str).collect();
        Tier::start(&[&fixed[..], &own[..], &store[..]].concat())
    }

    fn compute(&self, pages: &str) -> Tier {
        let temporary = self.directory.join("tmp").display().to_string();
        let fixed = ["compute", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--memory", "64MiB"];
        let own = ["--log", &self.log, "--pages", pages, "--temp-dir", &temporary];
        Tier::start(&[&fixed[..], &own[..]].concat())
    }
}

/// pgbench, a page server killed meanwhile and its directory deleted, the compute killed at the end: sums hold.
async fn kill_a_page_server_under_load(places: &Places<'_>) {
    let pages = places.page_server("127.0.0.1:0");
    let pages_address = pages.address("pages").to_string();
    let compute = places.compute(&pages_address);
    let address = compute.address("psql");
    pgbench::initialise(address, 1);
    let load = std::thread::spawn(move || pgbench::run(address, "simple", 4, 6));
    tokio::time::sleep(Duration::from_secs(2)).await;
    pages.kill();
    std::fs::remove_dir_all(places.directory.join("pageserver")).expect("a cache may be deleted");
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_server_killed_under_load_comes_back_from_object_store_and_log() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = TestLog::start(&directory.path().join("log")).await;
    kill_a_page_server_under_load(&Places::new(directory.path(), &log)).await;
    log.store.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_on_a_faulty_s3() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = TestLog::start(&directory.path().join("log")).await;
    let server = S3Server::start(Honesty::Honest, |number, _| match number % 60 {
        7 => Fault::Status(503),
        17 => Fault::Reset,
        27 | 37 => Fault::AnswerLost,
        47 => Fault::Torn,
        57 => Fault::Status(429),
        _ => Fault::None,
    })
    .await;
    kill_a_page_server_under_load(&Places::on_s3(directory.path(), &log, &server)).await;
    assert!(server.keys().iter().any(|key| key.ends_with("/manifest")), "{:?}", server.keys());
    log.store.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ignores_conditions_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = TestLog::start(&directory.path().join("log")).await;
    let server = S3Server::start(Honesty::IgnoresConditions, |_, _| Fault::None).await;
    let places = Places::on_s3(directory.path(), &log, &server);
    let mut command = std::process::Command::new(harness::binary());
    command.args(["pageserver", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log", &places.log]);
    let ended = command.args(&places.store).arg("--data-dir").arg(directory.path().join("pageserver")).output();
    let ended = ended.expect("the program starts");
    let complaint = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "it must not serve");
    assert!(complaint.contains("s3://alluvium/database"), "{complaint}");
    assert!(complaint.contains("conditional PUT is not honoured"), "{complaint}");
    log.store.shutdown();
}
