//! Log, page server and compute as separate processes, which are killed and replaced under pgbench.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::path::Path;
use std::time::Duration;

use harness::cluster::Cluster;
use harness::pgbench;
use harness::s3::{Fault, Honesty, S3Server};
use harness::tier::{TestLog, Tier};
use logstore::client::LogClient;
use storage::BranchId;

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

    fn page_server(&self, id: &str, listen: &str) -> Tier {
        let data = self.directory.join(id).display().to_string();
        let fixed = ["pageserver", "--listen", listen, "--admin-listen", "127.0.0.1:0", "--memory", "64MiB"];
        let own = ["--id", id, "--log", &self.log, "--data-dir", &data];
        let store: Vec<_> = self.store.iter().map(String::as_str).collect();
        Tier::start(&[&fixed[..], &own[..], &store[..]].concat())
    }

    /// A compute with one page server, or with all that it finds.
    fn compute(&self, pages: Option<&str>) -> Tier {
        self.compute_of("main", pages)
    }

    fn compute_of(&self, branch: &str, pages: Option<&str>) -> Tier {
        let temporary = self.directory.join(format!("tmp-{branch}")).display().to_string();
        let fixed = ["compute", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--memory", "64MiB"];
        let own = ["--log", &self.log, "--temp-dir", &temporary, "--branch", branch];
        let pages: Vec<_> = pages.into_iter().flat_map(|pages| ["--pages", pages]).collect();
        Tier::start(&[&fixed[..], &own[..], &pages[..]].concat())
    }

    /// What `alluvium ctl` prints.
    fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = std::process::Command::new(harness::binary());
        command.args(["ctl", arguments[0], "--log", &self.log]).args(&arguments[1..]);
        harness::tools::succeeded("alluvium ctl", command.output().expect("the program starts"))
    }
}

/// pgbench, a page server killed meanwhile and its directory deleted, the compute killed at the end: sums hold.
async fn kill_a_page_server_under_load(places: &Places<'_>) {
    let pages = places.page_server("one", "127.0.0.1:0");
    let pages_address = pages.address("pages").to_string();
    let compute = places.compute(Some(&pages_address));
    let address = compute.address("psql");
    pgbench::initialise(address, 1);
    let load = std::thread::spawn(move || pgbench::run(address, "simple", 4, 6));
    tokio::time::sleep(Duration::from_secs(2)).await;
    pages.kill();
    std::fs::remove_dir_all(places.directory.join("one")).expect("a cache may be deleted");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let pages = places.page_server("one", &pages_address);
    let report = load.join().expect("pgbench ends well");
    assert_eq!(report.failed, 0);
    pgbench::check_sums(address, report.processed);
    // A compute with nothing in memory reads everything from the page server.
    compute.kill();
    let compute = places.compute(None);
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

/// Shards served by each server, as `ctl shard list` tells; none while a shard moves or is nobody's.
fn shards_of(places: &Places<'_>, servers: &[&str]) -> Option<Vec<usize>> {
    let listed = places.ctl(&["shard", "list"]);
    let shards: Vec<_> = listed.lines().filter(|line| line.starts_with("branch ")).collect();
    let of = |server: &str| shards.iter().filter(|line| line.ends_with(&format!(": {server}"))).count();
    let found: Vec<_> = servers.iter().map(|server| of(server)).collect();
    (found.iter().sum::<usize>() == shards.len()).then_some(found)
}

async fn wait_for_shards(places: &Places<'_>, servers: &[&str], shards: &[usize]) -> Duration {
    let begun = std::time::Instant::now();
    while shards_of(places, servers).is_none_or(|found| found != shards) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", places.ctl(&["shard", "list"]));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_of_a_killed_page_server_are_served_by_two_others() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = TestLog::start(&directory.path().join("log")).await;
    let places = Places::new(directory.path(), &log);
    let servers = ["one", "two", "three"];
    let mut running: Vec<_> = servers.iter().map(|id| places.page_server(id, "127.0.0.1:0")).collect();
    let compute = places.compute(None);
    let address = compute.address("psql");
    pgbench::initialise(address, 1);
    // Four shards on three servers, whoever came first.
    let begun = std::time::Instant::now();
    let loads = loop {
        let mut loads = shards_of(&places, &servers).unwrap_or_default();
        loads.sort_unstable();
        if loads == [1, 1, 2] {
            break loads;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", places.ctl(&["shard", "list"]));
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(loads.iter().sum::<usize>(), 4);
    let load = std::thread::spawn(move || pgbench::run(address, "prepared", 4, 10));
    tokio::time::sleep(Duration::from_secs(2)).await;
    running.remove(0).kill();
    let away = wait_for_shards(&places, &["two", "three"], &[2, 2]).await;
    eprintln!("the dead server's shards were served elsewhere after {away:?}");
    // A shard is moved while it is in use, and moved back by those who share the load evenly.
    let moved = places.ctl(&["shard", "list"]);
    let shard = moved.lines().find(|line| line.ends_with(": two")).expect("two has some");
    let shard = shard.split_whitespace().nth(3).expect("its number").trim_end_matches(':').to_owned();
    places.ctl(&["shard", "move", &shard, "three"]);
    let report = load.join().expect("pgbench ends well");
    assert_eq!(report.failed, 0);
    wait_for_shards(&places, &["two", "three"], &[2, 2]).await;
    pgbench::check_sums(address, report.processed);
    compute.kill();
    let compute = places.compute(None);
    pgbench::check_sums(compute.address("psql"), report.processed);
    assert!(away < Duration::from_secs(6), "the dead server's shards were away for {away:?}");
    compute.stop();
    running.into_iter().for_each(Tier::stop);
    log.store.shutdown();
}

/// Each of two page servers is sent its part of the log, and what both need of the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_page_servers_are_sent_half_of_the_log_each() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let servers = ["one", "two"];
    let cluster = Cluster::start(directory.path(), &servers).await;
    cluster.wait_for_shards(&servers, &[2, 2], Duration::from_secs(30)).await;
    let metrics = |name: &str| servers.map(|id| cluster.metric(&cluster.pages[id], name));
    // Each has two shards, which both tell how far they are.
    let read_to = || metrics("alluvium_pageserver_ingested_lsn").map(|sum| sum / 2.0);
    let log = cluster.log.client();
    let settled = async || {
        let begun = std::time::Instant::now();
        loop {
            let status = log.status(BranchId(1)).await.expect("the log answers");
            let (read, end) = (read_to(), status.durable_lsn.0 as f64);
            if read == [end; 2] {
                return end;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{read:?} of {end}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    // Of a stream, what was sent and what was left out; nothing is under way once all is read.
    let sent = || metrics("alluvium_pageserver_log_received_bytes_total");
    let omitted = || -> f64 {
        let of_node = |node| cluster.metric(node, "alluvium_log_filter_omitted_bytes_total");
        cluster.log.tiers().map(of_node).sum()
    };
    pgbench::initialise(cluster.address(), 1);
    let end = settled().await;
    let (total, left_out) = (sent().iter().sum::<f64>(), omitted());
    eprintln!("{end} bytes loaded, {total} sent to four shards, {left_out} left out");
    // However often a shard has moved meanwhile and read its log anew: four streams leave out three quarters each.
    let part = total / (total + left_out);
    assert!((0.23..0.3).contains(&part), "{part} of the log was sent");
    // On a busy machine a server may be taken for dead, and its shards be read by the other: then once more.
    for attempt in 0.. {
        cluster.wait_for_shards(&servers, &[2, 2], Duration::from_secs(30)).await;
        let (begin, before, omitted_before) = (settled().await, sent(), omitted());
        pgbench::initialise(cluster.address(), 1);
        let report = pgbench::run(cluster.address(), "prepared", 8, 2);
        pgbench::check_sums(cluster.address(), report.processed);
        let end = settled().await;
        let now = sent();
        let sent = [0, 1].map(|server| now[server] - before[server]);
        let streams = (sent[0] + sent[1] + omitted() - omitted_before) / (end - begin);
        let parts = sent.map(|sent| sent / (end - begin));
        eprintln!("of {} bytes {parts:.3?} were sent in {streams:.2} streams", end - begin);
        if (3.98..4.02).contains(&streams) {
            // Pages that every transaction writes lie where they lie: the parts are not quite halves.
            assert!(parts.iter().all(|part| (0.25..0.75).contains(part)), "{parts:?}");
            break;
        }
        assert!(attempt < 5, "shards keep moving");
    }
}

/// Number of rows, their sum, and what they say, in one line.
fn digest(address: std::net::SocketAddr) -> String {
    let digest = "SELECT count(*), sum(n), md5(string_agg(note, ',' ORDER BY n)) FROM notes";
    harness::tools::psql_text(address, &["-At", "-c", digest], "").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn branches_go_their_own_way() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = TestLog::start(&directory.path().join("log")).await;
    let places = Places::new(directory.path(), &log);
    let pages = [places.page_server("one", "127.0.0.1:0"), places.page_server("two", "127.0.0.1:0")];
    let main = places.compute(None);
    let run = |tier: &Tier, sql: &str| harness::tools::psql_text(tier.address("psql"), &["-At", "-c", sql], "");
    let add = |tier: &Tier, from: u32, to: u32| {
        let rows = format!("INSERT INTO notes SELECT i, 'note ' || i FROM generate_series({from}, {to}) AS i");
        run(tier, &rows)
    };
    run(&main, "CREATE TABLE notes (n int PRIMARY KEY, note text)");
    add(&main, 1, 2000);
    let first = digest(main.address("psql"));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let time = run(&main, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    add(&main, 2001, 3000);
    run(&main, "DELETE FROM notes WHERE n % 7 = 0");
    let second = digest(main.address("psql"));

    let begun = std::time::Instant::now();
    places.ctl(&["branch", "create", "now"]);
    let took = begun.elapsed();
    eprintln!("a branch was made and served within {took:?}");
    places.ctl(&["branch", "create", "before", "--time", time.trim()]);
    add(&main, 10_001, 10_100);
    let third = digest(main.address("psql"));

    let now = places.compute_of("now", None);
    let before = places.compute_of("before", None);
    assert_eq!(digest(now.address("psql")), second, "the branch made at the end");
    assert_eq!(digest(before.address("psql")), first, "the branch made of the past");
    add(&now, 20_001, 20_500);
    add(&before, 2001, 2010);
    let (of_now, of_before) = (digest(now.address("psql")), digest(before.address("psql")));
    assert_eq!(digest(main.address("psql")), third, "branches do not touch where they come from");
    // Everything again from page servers, of which one is gone.
    for tier in [main, now, before] {
        tier.kill();
    }
    let [one, two] = pages;
    one.kill();
    for (branch, expected) in [("main", third), ("now", of_now), ("before", of_before)] {
        let compute = places.compute_of(branch, None);
        assert_eq!(digest(compute.address("psql")), expected, "{branch}");
        compute.stop();
    }
    places.ctl(&["branch", "delete", "now"]);
    let listed = places.ctl(&["branch", "list"]);
    assert!(listed.contains("before") && listed.contains("main"), "{listed}");
    two.stop();
    log.store.shutdown();
}
