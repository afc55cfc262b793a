//! Partitions of real networks: log nodes in network namespaces, which lose packets or their cable (FAULTS 9). What a
//! cut wire keeps and sends on when it is mended (`tests/faults_network.rs`) is lost here.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::time::Duration;

use harness::cluster::Cluster;
use harness::log_nodes::LogNodes;
use harness::namespaces::Network;
use harness::writers::{self, Writers};

/// From a partition until the majority acknowledges. The design asks for 10 s.
const MAJORITY_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 25 } else { 10 });

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_lose_packets_or_their_cable() {
    let network = match Network::new(3) {
        Ok(network) => network,
        Err(reason) => {
            println!("SKIPPED: no network namespaces can be made here: {reason}");
            return;
        }
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = LogNodes::new(directory.path(), 3);
    nodes.token = "a secret of the test's own".to_owned();
    let token = directory.path().join("token");
    std::fs::write(&token, &nodes.token).expect("the directory can be written");
    nodes.options = vec!["--cluster-token-file".to_owned(), token.display().to_string()];
    nodes.namespaces = (1..=3).map(|node| (node, (network.name(node), network.host(node)))).collect();
    nodes.start_all();
    let mut cluster = Cluster::of_log(directory.path(), nodes).await;
    cluster.start_pages("one");
    cluster.start_compute();
    let address = cluster.address();
    writers::prepare(address).await;
    let writers = Writers::start(address, 4);
    for case in ["leader unplugged", "follower unplugged", "leader cannot send", "leader cannot hear"] {
        writers.wait_for_more(20, MAJORITY_WITHIN).await;
        let leader = cluster.log.wait_in_sync(&[1, 2, 3]).await.leader;
        let alone = if case.starts_with("leader") { leader } else { leader % 3 + 1 };
        let change = |cut: bool| {
            for other in (1..=3).filter(|node| *node != alone) {
                match case {
                    "leader cannot send" => network.lose(alone, other, cut),
                    "leader cannot hear" => network.lose(other, alone, cut),
                    _ => network.plug(alone, !cut),
                }
            }
        };
        change(true);
        let gone_on = writers.wait_for_more(10, MAJORITY_WITHIN).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        change(false);
        cluster.log.wait_in_sync(&[1, 2, 3]).await;
        println!("{case}: ten writes within {gone_on:?}; in sync again");
    }
    let seen = writers.check(address).await;
    println!("{seen:?}");
    assert_eq!(seen.denied, 0);
    assert_eq!(cluster.query("SELECT * FROM alluvium_check()"), "");
}
