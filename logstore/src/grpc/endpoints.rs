//! The nodes that a client knows, and which of them it believes to lead.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proto::logstore::log_service_client::LogServiceClient;
use tonic::transport::{Channel, Endpoint};

use super::MAX_MESSAGE_BYTES;
use super::versions::{Versioned, telling};
use crate::client::LogError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A node that has stopped without closing its connections is noticed after the sum of these.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A client of one node.
pub(super) type NodeClient = LogServiceClient<Versioned<Channel>>;

/// See the module.
pub(super) struct Endpoints {
    known: Mutex<Known>,
    /// Which node the next subscription begins with: readers spread over the nodes.
    next_reader: AtomicUsize,
}

struct Known {
    addresses: Vec<String>,
    clients: BTreeMap<String, NodeClient>,
    /// Believed to lead.
    current: usize,
}

fn connect(address: &str) -> Result<NodeClient, LogError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| LogError::Invalid {
        reason: format!("{address:?} is not an address of a log node: {error}"),
    })?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20);
    Ok(LogServiceClient::new(telling(endpoint.connect_lazy())).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

impl Endpoints {
    /// To be called within a tokio runtime; connects when first used.
    pub(super) fn new(addresses: Vec<String>) -> Result<Endpoints, LogError> {
        if addresses.is_empty() {
            return Err(LogError::Invalid { reason: "no address of a log node was given".to_owned() });
        }
        let mut clients = BTreeMap::new();
        for address in &addresses {
            clients.insert(address.clone(), connect(address)?);
        }
        let known = Mutex::new(Known { addresses, clients, current: 0 });
        Ok(Endpoints { known, next_reader: AtomicUsize::new(0) })
    }

    /// The node to ask, with its address.
    pub(super) fn current(&self) -> (String, NodeClient) {
        let known = self.known.lock();
        let address = known.addresses[known.current].clone();
        let client = known.clients[&address].clone();
        (address, client)
    }

    /// Where that node listens.
    pub(super) fn current_address(&self) -> String {
        let known = self.known.lock();
        known.addresses[known.current].clone()
    }

    /// `address` does not lead: asks `leader` from now on, or the next node if none is named. Does nothing if somebody
    /// else has already moved on.
    pub(super) fn move_on(&self, address: &str, leader: Option<&str>) {
        let mut known = self.known.lock();
        if known.addresses[known.current] != address {
            return;
        }
        let Some(leader) = leader.filter(|leader| *leader != address) else {
            known.current = (known.current + 1) % known.addresses.len();
            return;
        };
        if let Some(position) = known.addresses.iter().position(|known| known == leader) {
            known.current = position;
        } else if let Ok(client) = connect(leader) {
            // A node that was added since this client was made.
            known.addresses.push(leader.to_owned());
            known.clients.insert(leader.to_owned(), client);
            known.current = known.addresses.len() - 1;
        }
    }

    /// All nodes, beginning with another one each time.
    pub(super) fn readers(&self) -> Vec<(String, NodeClient)> {
        let known = self.known.lock();
        let first = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let count = known.addresses.len();
        let rotated = (0..count).map(|offset| known.addresses[(first + offset) % count].clone());
        rotated.map(|address| (address.clone(), known.clients[&address].clone())).collect()
    }
}
