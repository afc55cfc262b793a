//! Reaching the other tiers over the network.

use std::sync::Arc;

use logstore::grpc::RemoteLog;

use crate::shell;

/// A client of the log service at `--log`.
pub fn connect_log(addresses: &[String]) -> Result<Arc<RemoteLog>, String> {
    match addresses {
        [address] => Ok(Arc::new(RemoteLog::new(shell::endpoint(address, "--log")?))),
        _ => Err("--log takes one address: this version has a log service of one node".to_owned()),
    }
}
