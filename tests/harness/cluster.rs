//! Whole clusters of processes: log nodes, page servers and a compute, on an object store, killed, paused and
//! parted by tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::log_nodes::LogNodes;
use super::ports::free_port;
use super::proxy::Wires;
use super::s3::S3Server;
use super::tier::Tier;
use super::{binary, tools};

/// A running cluster. Its compute keeps its port over restarts, so that clients find it again.
pub struct Cluster<'a> {
    pub directory: &'a Path,
    pub log: LogNodes,
    /// Options that name the object store.
    store: Vec<String>,
    pub pages: BTreeMap<String, Tier>,
    pub compute: Option<Tier>,
    psql: SocketAddr,
    /// More options of computes.
    pub compute_options: Vec<String>,
    /// More options of page servers.
    pub page_options: Vec<String>,
    /// Where the processes of the cluster meet; none: they meet directly.
    pub wires: Option<Wires>,
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl<'a> Cluster<'a> {
    /// Log nodes in sync, nothing else yet, and objects in a local directory.
    pub async fn of_log(directory: &'a Path, log: LogNodes) -> Cluster<'a> {
        let nodes: Vec<u64> = log.numbers();
        log.wait_in_sync(&nodes).await;
        let store = vec!["--store".to_owned(), format!("file://{}", directory.join("objects").display())];
        Cluster {
            directory,
            wires: log.wires.clone(),
            log,
            store,
            pages: BTreeMap::new(),
            compute: None,
            psql: local(free_port()),
            compute_options: Vec::new(),
            page_options: Vec::new(),
        }
    }

    /// Three log nodes, page servers of these names, and a compute.
    pub async fn start(directory: &'a Path, servers: &[&str]) -> Cluster<'a> {
        let mut cluster = Cluster::of_log(directory, LogNodes::start(directory, 3)).await;
        servers.iter().for_each(|id| cluster.start_pages(id));
        cluster.start_compute();
        cluster
    }

    /// Objects are on that server from now on.
    pub fn on_s3(&mut self, server: &S3Server) {
        let credentials = self.directory.join("credentials");
        std::fs::write(&credentials, "[default]\naws_access_key_id = tester\naws_secret_access_key = secret\n")
            .expect("the directory can be written");
        let options = ["--store", "s3://alluvium/database", "--store-region", "us-east-1", "--store-endpoint"];
        self.store = options.iter().map(|option| (*option).to_owned()).collect();
        self.store.extend([server.endpoint(), "--store-credentials".to_owned(), credentials.display().to_string()]);
    }

    fn name(&self, tier: &Tier, name: &str) {
        if let Some(wires) = &self.wires {
            wires.name(tier.id(), name);
        }
    }

    /// Starts a page server, on what its directory holds.
    pub fn start_pages(&mut self, id: &str) {
        let (data, log) = (self.directory.join(id).display().to_string(), self.log.addresses().join(","));
        let memory = if self.page_options.iter().any(|option| option == "--memory") { "" } else { "64MiB" };
        let fixed = ["pageserver", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let own = ["--id", id, "--log", &log, "--data-dir", &data];
        let mut arguments = [&fixed[..], &own[..]].concat();
        if !memory.is_empty() {
            arguments.extend(["--memory", memory]);
        }
        arguments.extend(self.store.iter().chain(&self.page_options).map(String::as_str));
        let tier = Tier::start(&arguments);
        self.name(&tier, id);
        self.pages.insert(id.to_owned(), tier);
    }

    /// Starts a compute of the main branch beside the one that may run, somewhere.
    pub fn another_compute(&self, listen: &str, directory: &str) -> Tier {
        self.compute_of("main", listen, directory)
    }

    /// Starts a compute of a branch.
    pub fn compute_of(&self, branch: &str, listen: &str, directory: &str) -> Tier {
        let (data, log) = (self.directory.join(directory).display().to_string(), self.log.addresses().join(","));
        let fixed = ["compute", "--listen", listen, "--admin-listen", "127.0.0.1:0", "--branch", branch];
        let own = ["--log", &log, "--temp-dir", &data];
        let mut arguments = [&fixed[..], &own[..]].concat();
        if !self.compute_options.iter().any(|option| option == "--memory") {
            arguments.extend(["--memory", "64MiB"]);
        }
        arguments.extend(self.compute_options.iter().map(String::as_str));
        let tier = Tier::start(&arguments);
        self.name(&tier, directory);
        tier
    }

    /// Starts the compute, at the address where it always is.
    pub fn start_compute(&mut self) {
        self.compute = Some(self.another_compute(&self.psql.to_string(), "compute"));
    }

    /// Where the compute listens.
    pub fn address(&self) -> SocketAddr {
        self.psql
    }

    pub fn kill_compute(&mut self) {
        self.compute.take().expect("it runs").kill();
    }

    pub fn kill_pages(&mut self, id: &str) {
        self.pages.remove(id).expect("it runs").kill();
    }

    /// What psql prints for a statement.
    pub fn query(&self, sql: &str) -> String {
        query(self.psql, sql)
    }

    /// What `alluvium ctl` prints.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = std::process::Command::new(binary());
        command.args(["ctl", arguments[0], "--log", &self.log.addresses().join(",")]).args(&arguments[1..]);
        tools::succeeded("alluvium ctl", command.output().expect("the program starts"))
    }

    /// Waits until `servers`, and nobody else, have so many shards each; answers how long it took.
    pub async fn wait_for_shards(&self, servers: &[&str], shards: &[usize], within: Duration) -> Duration {
        let begun = Instant::now();
        loop {
            let listed = self.ctl(&["shard", "list"]);
            let lines: Vec<_> = listed.lines().filter(|line| line.starts_with("branch ")).collect();
            let of = |server: &&str| lines.iter().filter(|line| line.ends_with(&format!(": {server}"))).count();
            let found: Vec<_> = servers.iter().map(of).collect();
            if found == shards && found.iter().sum::<usize>() == lines.len() {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < within, "{servers:?} do not get {shards:?} in {within:?}:\n{listed}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A metric of a process, summed over its labels; zero where there is none.
    pub fn metric(&self, tier: &Tier, name: &str) -> f64 {
        metric(tier, name)
    }
}

/// What psql prints for a statement.
pub fn query(address: SocketAddr, sql: &str) -> String {
    tools::psql_text(address, &["-At", "-c", sql], "").trim().to_owned()
}

/// The text of `/metrics`, `/healthz` or `/v1/status`.
pub fn admin_get(tier: &Tier, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(tier.address("watch")).expect("the admin port is open");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is text");
    answer
}

/// A metric of a process, summed over its labels; zero where there is none.
pub fn metric(tier: &Tier, name: &str) -> f64 {
    let text = admin_get(tier, "/metrics");
    let lines = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).filter(|value| !value.is_nan()).sum()
}

/// Sends a signal to a process of the test's own.
pub fn signal(process: u32, signal: libc::c_int) {
    // SAFETY: the caller names a process that it started and has not waited for.
    let sent = unsafe { libc::kill(process as libc::pid_t, signal) };
    assert_eq!(sent, 0, "signal {signal} is delivered to {process}");
}
