//! Starts the real program on a directory and a free port, and ends it, gently or not.

#![allow(dead_code)]

pub mod cluster;
pub mod lists;
pub mod log_nodes;
pub mod namespaces;
pub mod pgbench;
pub mod ports;
pub mod postgres;
pub mod proxy;
pub mod random;
pub mod raw;
pub mod s3;
pub mod small_disk;
pub mod tier;
pub mod tools;
pub mod writers;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use tier::Tier;
use tokio_postgres::{Client, Config, NoTls};

/// A running `alluvium dev`.
pub struct Program {
    tier: Tier,
    /// Where it listens for Postgres clients.
    pub address: SocketAddr,
    /// Where it serves `/metrics` and `/healthz`.
    pub admin: SocketAddr,
    /// From start to readiness.
    pub started_in: Duration,
}

impl Program {
    /// Starts it on a data directory and waits until it is ready.
    pub fn start(data_dir: &Path) -> Program {
        Self::start_with(data_dir, &[])
    }

    /// The same, with more arguments.
    pub fn start_with(data_dir: &Path, arguments: &[&str]) -> Program {
        let begun = Instant::now();
        let tier = Tier::of(spawn(data_dir, arguments), &format!("dev {arguments:?}"));
        let (address, admin) = (tier.address("psql"), tier.address("watch"));
        Program { tier, address, admin, started_in: begun.elapsed() }
    }

    /// Starts it with that `--memory`.
    pub fn start_within(data_dir: &Path, memory: &str) -> Program {
        Self::start_with(data_dir, &["--memory", memory])
    }

    /// Starts it and kills it so long afterwards, ready or not.
    pub fn start_and_kill(data_dir: &Path, after: Duration) {
        let mut child = spawn(data_dir, &[]);
        std::thread::sleep(after);
        child.kill().expect("the process is ours");
        child.wait().expect("the process is ours");
    }

    /// What `alluvium_check()` finds, one problem a line; empty when all is sound.
    pub fn check(&self) -> String {
        tools::psql_text(self.address, &["-At", "-c", "SELECT * FROM alluvium_check()"], "")
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.tier.id()
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(self) {
        self.tier.kill();
    }

    /// SIGTERM; asserts a clean end.
    pub fn stop(self) {
        self.tier.stop();
    }

    /// Connection settings for database `postgres` as role `postgres`.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host(self.address.ip().to_string()).port(self.address.port()).user("postgres").dbname("postgres");
        config
    }

    /// A connected client, driven in the background.
    pub async fn connect(&self) -> Client {
        connect(&self.config()).await
    }

    /// The text of `/metrics` or `/healthz`.
    pub fn admin_get(&self, path: &str) -> String {
        cluster::admin_get(&self.tier, path)
    }
}

fn spawn(data_dir: &Path, arguments: &[&str]) -> Child {
    // Small, so that tests meet eviction; large loads ask for more.
    let memory = std::env::var("ALLUVIUM_TEST_MEMORY").unwrap_or_else(|_| "256MiB".to_owned());
    let memory: &[&str] = if arguments.contains(&"--memory") { &[] } else { &["--memory", &memory] };
    let data_dir = data_dir.to_str().expect("paths of tests are text");
    let fixed = ["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", data_dir];
    tier::spawn(None, &[&fixed[..], memory, arguments].concat())
}

/// The program under test: this build's, or the one that `ALLUVIUM_BINARY` names (a release build, say).
pub fn binary() -> String {
    std::env::var("ALLUVIUM_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_alluvium").to_owned())
}

/// Connects; panics with the server's error if it refuses.
pub async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("the server accepts the connection");
    tokio::spawn(connection);
    client
}

/// SQLSTATE of a failed statement.
pub fn state<T: std::fmt::Debug>(result: Result<T, tokio_postgres::Error>) -> String {
    let error = result.expect_err("the statement must fail");
    error.code().unwrap_or_else(|| panic!("not an error of the server: {error}")).code().to_owned()
}
