//! Starts the real program on a directory and a free port, and ends it, gently or not.

#![allow(dead_code)]

pub mod cluster;
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

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Config, NoTls};

/// A running `alluvium dev`.
pub struct Program {
    child: Child,
    /// Where it listens for Postgres clients.
    pub address: SocketAddr,
    /// Where it serves `/metrics` and `/healthz`.
    pub admin: SocketAddr,
    /// From start to readiness.
    pub started_in: Duration,
}

/// How long a start may take before the test gives up.
const START_LIMIT: Duration = Duration::from_secs(60);

impl Program {
    /// Starts it on a data directory and waits until it is ready.
    pub fn start(data_dir: &Path) -> Program {
        Self::start_with(data_dir, &[])
    }

    /// The same, with more arguments.
    pub fn start_with(data_dir: &Path, arguments: &[&str]) -> Program {
        let begun = Instant::now();
        let mut child = spawn(data_dir, arguments);
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (mut address, mut admin) = (None, None);
        for line in lines.by_ref() {
            let line = line.expect("the banner is text");
            if let Some(rest) = line.split("postgresql://postgres@").nth(1) {
                address = rest.split('/').next().and_then(|address| address.parse().ok());
            }
            if let Some(rest) = line.split("watch  http://").nth(1) {
                admin = rest.split('/').next().and_then(|address| address.parse().ok());
                break;
            }
            assert!(begun.elapsed() < START_LIMIT, "no banner in {START_LIMIT:?}");
        }
        // Keeps the pipe open: the program must not fail when it prints.
        std::thread::spawn(move || lines.for_each(drop));
        let (Some(address), Some(admin)) = (address, admin) else {
            let status = child.wait();
            panic!("the program ended before it was ready: {status:?}");
        };
        Program { child, address, admin, started_in: begun.elapsed() }
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
        self.child.id()
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// SIGTERM; asserts a clean end within ten seconds.
    pub fn stop(mut self) {
        // SAFETY: sends a signal to a process that this value owns and has not waited for.
        let sent = unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        assert_eq!(sent, 0, "SIGTERM is delivered");
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                assert!(status.success(), "ended with {status}");
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(15), "did not stop in 15 s");
            std::thread::sleep(Duration::from_millis(20));
        }
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
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(self.admin).expect("the admin port is open");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is text");
        answer
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A test that panicked must not leave a server behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(data_dir: &Path, arguments: &[&str]) -> Child {
    // Small, so that tests meet eviction; large loads ask for more.
    let memory = std::env::var("ALLUVIUM_TEST_MEMORY").unwrap_or_else(|_| "256MiB".to_owned());
    let memory: &[&str] = if arguments.contains(&"--memory") { &[] } else { &["--memory", &memory] };
    Command::new(binary())
        .args(["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir)
        .args(memory)
        .args(arguments)
        .env("ALLUVIUM_LOG", std::env::var("ALLUVIUM_LOG").unwrap_or_else(|_| "warn".to_owned()))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the program starts")
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
