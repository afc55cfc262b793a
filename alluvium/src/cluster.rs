//! Reaching the other tiers over the network.

use std::sync::Arc;

use logstore::grpc::RemoteLog;

/// A client of the log service at `--log`: one node or several; it finds the leader by itself.
pub fn connect_log(addresses: &[String]) -> Result<Arc<RemoteLog>, String> {
    let log = RemoteLog::new(addresses.to_vec()).map_err(|error| format!("--log: {error}"))?;
    Ok(Arc::new(log))
}
