//! Log nodes as processes on loopback.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use logstore::grpc::{ClusterStatus, NodeStatus, Operator, RemoteLog};

use super::ports::{free_port, listen};
use super::proxy::Wires;
use super::tier::Tier;

pub const CLUSTER: &str = "test-cluster";

/// A cluster whose nodes are killed, wiped and added by a test.
pub struct LogNodes {
    directory: PathBuf,
    ports: BTreeMap<u64, u16>,
    /// Whose addresses every node is told.
    first: Vec<u64>,
    running: BTreeMap<u64, Tier>,
    /// What lies between the nodes and whoever talks to them; none: nothing does.
    pub wires: Option<Wires>,
    /// Where nodes listen behind their wires.
    behind: BTreeMap<u64, u16>,
    /// Network namespaces that nodes run in, with their addresses there.
    pub namespaces: BTreeMap<u64, (String, String)>,
    /// What nodes away from loopback prove that they belong together by; it stands in a file too.
    pub token: String,
    /// Nodes whose data is not where the others' is.
    pub elsewhere: BTreeMap<u64, PathBuf>,
    /// More options of every node.
    pub options: Vec<String>,
}

impl LogNodes {
    /// Starts nodes 1 to `count`.
    pub fn start(directory: &Path, count: u64) -> LogNodes {
        LogNodes::start_with(directory, count, &[])
    }

    /// The same, each with further options.
    pub fn start_with(directory: &Path, count: u64, options: &[&str]) -> LogNodes {
        let mut nodes = LogNodes::new(directory, count);
        nodes.options = options.iter().map(|option| (*option).to_owned()).collect();
        nodes.start_all();
        nodes
    }

    /// Nodes 1 to `count`, not started yet.
    pub fn new(directory: &Path, count: u64) -> LogNodes {
        LogNodes {
            directory: directory.to_owned(),
            ports: (1..=count).map(|node| (node, free_port())).collect(),
            first: (1..=count).collect(),
            running: BTreeMap::new(),
            wires: None,
            behind: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            token: String::new(),
            elsewhere: BTreeMap::new(),
            options: Vec::new(),
        }
    }

    /// Starts nodes 1 to `count`, reached over wires only. They are called `log-1` and so on there.
    pub async fn start_wired(directory: &Path, count: u64) -> LogNodes {
        let mut nodes = LogNodes::new(directory, count);
        let wires = Wires::default();
        for (&node, &port) in &nodes.ports {
            let listener = listen(port).await;
            let behind = free_port();
            wires.lead(listener, &format!("log-{node}"), ([127, 0, 0, 1], behind).into());
            nodes.behind.insert(node, behind);
        }
        nodes.wires = Some(wires);
        nodes.start_all();
        nodes
    }

    /// Starts all nodes.
    pub fn start_all(&mut self) {
        for node in self.first.clone() {
            self.start_node(node);
        }
    }

    /// Those that the cluster began with.
    pub fn numbers(&self) -> Vec<u64> {
        self.first.clone()
    }

    pub fn address(&self, node: u64) -> String {
        let host = self.namespaces.get(&node).map_or("127.0.0.1", |(_, host)| host);
        format!("{host}:{}", self.ports[&node])
    }

    pub fn addresses(&self) -> Vec<String> {
        self.ports.keys().map(|&node| self.address(node)).collect()
    }

    fn data_dir(&self, node: u64) -> PathBuf {
        self.elsewhere.get(&node).cloned().unwrap_or_else(|| self.directory.join(format!("log-{node}")))
    }

    /// Starts a node on what its directory holds; one that is new gets a port.
    pub fn start_node(&mut self, node: u64) {
        self.ports.entry(node).or_insert_with(free_port);
        let mut named = self.first.clone();
        if !named.contains(&node) {
            named.push(node);
        }
        let peers: Vec<String> = named.iter().map(|&node| format!("{node}={}", self.address(node))).collect();
        let (number, peers, data) = (node.to_string(), peers.join(","), self.data_dir(node).display().to_string());
        let mut arguments = vec!["logstore", "--node-id", &number, "--cluster-id", CLUSTER, "--peers", &peers];
        arguments.extend(["--data-dir", &data, "--segment-size", "32MiB"]);
        let listen = self.behind.get(&node).map(|port| format!("127.0.0.1:{port}"));
        arguments.extend(listen.iter().flat_map(|listen| ["--listen", listen]));
        arguments.extend(self.options.iter().map(String::as_str));
        let tier = Tier::start_in(self.namespaces.get(&node).map(|(name, _)| name.as_str()), &arguments);
        if let Some(wires) = &self.wires {
            wires.name(tier.id(), &format!("log-{node}"));
        }
        self.running.insert(node, tier);
    }

    /// Gives a port to a node that will be added.
    pub fn reserve(&mut self, node: u64) -> String {
        self.ports.entry(node).or_insert_with(free_port);
        self.address(node)
    }

    pub fn kill(&mut self, node: u64) {
        self.running.remove(&node).expect("it runs").kill();
    }

    pub fn process(&self, node: u64) -> u32 {
        self.running[&node].id()
    }

    /// Nodes that run.
    pub fn tiers(&self) -> impl Iterator<Item = &Tier> {
        self.running.values()
    }

    /// Takes the disk away from a node that does not run.
    pub fn wipe(&self, node: u64) {
        assert!(!self.running.contains_key(&node), "node {node} runs");
        std::fs::remove_dir_all(self.data_dir(node)).expect("the directory is ours");
    }

    pub fn client(&self) -> RemoteLog {
        RemoteLog::new(self.addresses()).expect("addresses")
    }

    /// A client that knows only one node.
    pub fn client_of(&self, node: u64) -> RemoteLog {
        RemoteLog::new(vec![self.address(node)]).expect("an address")
    }

    pub fn operator(&self) -> Operator {
        let addresses = self.running.keys().map(|&node| self.address(node)).collect();
        Operator::new(CLUSTER.to_owned(), self.token.clone(), addresses)
    }

    /// Waits until the leader's view satisfies `wanted`.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
        let begun = Instant::now();
        loop {
            let status = self.operator().status().await;
            if let Ok(status) = &status
                && wanted(status)
            {
                return status.clone();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {status:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until exactly `nodes` vote, run and hold the whole log.
    pub async fn wait_in_sync(&self, nodes: &[u64]) -> ClusterStatus {
        let votes = |node: &NodeStatus| matches!(node.role, "leader" | "voter");
        let in_sync = |status: &ClusterStatus| {
            let ids: Vec<u64> = status.nodes.iter().map(|node| node.node_id).collect();
            ids == nodes && status.nodes.iter().all(|node| votes(node) && node.is_active && node.lag_entries == 0)
        };
        self.wait_for(&format!("nodes {nodes:?} in sync"), in_sync).await
    }
}
