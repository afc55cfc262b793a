//! Tiers as processes of their own, and a log service in the test's process for them to talk to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use logstore::filter::Filtering;
use logstore::grpc::LogServer;
use logstore::{LogStore, LogStoreConfig};
use pageserver::stream_filter::PageFiltering;

/// How long a start may take before the test gives up.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Starts a subcommand, in a network namespace or not, and waits for nothing.
pub fn spawn(namespace: Option<&str>, arguments: &[&str]) -> Child {
    let mut command = match namespace {
        // It becomes the program, and keeps its process number.
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace, &super::binary()]);
            command
        }
        None => Command::new(super::binary()),
    };
    command
        .args(arguments)
        .env("ALLUVIUM_LOG", std::env::var("ALLUVIUM_LOG").unwrap_or_else(|_| "warn".to_owned()))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the program starts")
}

/// A running `alluvium <tier>`; killed when dropped.
pub struct Tier {
    child: Child,
    /// What its banner told: `pages`, `psql`, `watch` and so on.
    told: HashMap<String, String>,
}

impl Tier {
    /// Starts a subcommand and waits until its banner has told where its health can be asked for.
    pub fn start(arguments: &[&str]) -> Tier {
        Tier::start_in(None, arguments)
    }

    /// The same in a network namespace.
    pub fn start_in(namespace: Option<&str>, arguments: &[&str]) -> Tier {
        Tier::of(spawn(namespace, arguments), &format!("{arguments:?}"))
    }

    /// A process that [`spawn`] has started, once its banner was read.
    pub fn of(mut child: Child, name: &str) -> Tier {
        let begun = Instant::now();
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut told = HashMap::new();
        while !told.contains_key("watch") {
            let Some(line) = lines.next() else {
                panic!("{name} ended before it was ready: {:?}", child.wait());
            };
            let line = line.expect("the banner is text");
            let mut words = line.split_whitespace();
            if let (Some(what), Some(value), None) = (words.next(), words.next(), words.next()) {
                told.insert(what.to_owned(), value.to_owned());
            }
            assert!(begun.elapsed() < START_LIMIT, "no banner of {name} in {START_LIMIT:?}");
        }
        // Keeps the pipe open: the program must not fail when it prints.
        std::thread::spawn(move || lines.for_each(drop));
        Tier { child, told }
    }

    /// An address that the banner told.
    pub fn address(&self, name: &str) -> SocketAddr {
        let told = &self.told[name];
        let address = told.trim_start_matches("http://").trim_start_matches("postgresql://postgres@");
        let address = address.split('/').next().expect("split gives one part");
        address.parse().unwrap_or_else(|_| panic!("{name} told {told:?}"))
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

    /// SIGTERM; asserts a clean end.
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
            assert!(begun.elapsed() < Duration::from_secs(20), "did not stop in 20 s");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Tier {
    fn drop(&mut self) {
        // A test that panicked must not leave a server behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A log service of one node in the test's own process, reached over the network like any other.
pub struct TestLog {
    pub store: LogStore,
    /// Where it listens.
    pub address: SocketAddr,
}

impl TestLog {
    pub async fn start(directory: &Path) -> TestLog {
        let store = LogStore::open(LogStoreConfig::new(directory)).expect("the log opens");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let filtering: Arc<dyn Filtering> = Arc::new(PageFiltering);
        let service = LogServer::service(store.client(), store.metadata(), Some(filtering));
        let serving = tonic::transport::Server::builder().add_service(service);
        let incoming = logstore::stream::incoming(listener, &store, None);
        tokio::spawn(async move { serving.serve_with_incoming(incoming).await });
        TestLog { store, address }
    }
}
