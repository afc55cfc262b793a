//! Options about the log cluster that several subcommands share, and clients made from them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;

/// Which log cluster, and how one proves to belong to it.
#[derive(Args, Clone)]
pub struct ClusterOptions {
    /// Name of the log cluster: nodes of different clusters refuse each other.
    #[arg(long, env = "ALLUVIUM_CLUSTER_ID")]
    pub cluster_id: String,

    /// File with the secret that all nodes of the cluster share. Without it only loopback addresses are accepted.
    #[arg(long, env = "ALLUVIUM_CLUSTER_TOKEN_FILE")]
    pub cluster_token_file: Option<PathBuf>,
}

impl ClusterOptions {
    /// The secret; empty without a file, which only addresses on loopback allow.
    pub fn token<'a>(&self, addresses: impl IntoIterator<Item = &'a String>) -> Result<String, String> {
        match &self.cluster_token_file {
            Some(path) => read_token(path),
            None => match addresses.into_iter().find(|address| !is_loopback(address)) {
                None => Ok(String::new()),
                Some(address) => Err(format!(
                    "{address} is not a loopback address: log nodes need a shared secret, --cluster-token-file"
                )),
            },
        }
    }
}

fn read_token(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let token = text.trim();
    if token.len() < 16 {
        return Err(format!("the secret in {} must have at least 16 characters", path.display()));
    }
    Ok(token.to_owned())
}

/// Host of `host:port`, when it is a loopback address or `localhost`.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Reads `1=host:port,2=host:port`.
pub fn parse_peers(text: &str) -> Result<BTreeMap<u64, String>, String> {
    let mut peers = BTreeMap::new();
    for part in text.split(',') {
        let wrong = || format!("{part:?} is not of the form 1=host:port");
        let (node, address) = part.trim().split_once('=').ok_or_else(wrong)?;
        let node: u64 = node.trim().parse().map_err(|_| wrong())?;
        if peers.insert(node, check_address(address.trim())?).is_some() {
            return Err(format!("node {node} is named twice"));
        }
    }
    Ok(peers)
}

/// Reads `host:port`.
pub fn check_address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not of the form host:port")),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_loopback, parse_peers};

    #[test]
    fn peers_and_addresses() {
        let peers = parse_peers("1=127.0.0.1:7001, 2=log-2:7001").expect("well-formed");
        assert_eq!(peers.into_iter().collect::<Vec<_>>(), [(1, "127.0.0.1:7001".into()), (2, "log-2:7001".into())]);
        for wrong in ["", "1", "1=", "1=host", "1=host:0", "x=host:1", "1=a:1,1=b:1"] {
            assert!(parse_peers(wrong).is_err(), "{wrong}");
        }
        for (address, expected) in
            [("127.0.0.1:1", true), ("[::1]:1", true), ("localhost:1", true), ("10.0.0.1:1", false), ("a:1", false)]
        {
            assert_eq!(is_loopback(address), expected, "{address}");
        }
    }
}
