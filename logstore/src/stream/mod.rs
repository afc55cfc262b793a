//! What commits travel on: appends from computes and Raft's messages between nodes, as frames on plain TCP connections.
//!
//! gRPC carries everything else. For these, its tasks, queues and threads cost several times what the log itself does: a
//! frame is read, and its answer written, by the thread that owns the log.
//!
//! Both kinds of connection come to the same port ([`incoming`] tells them apart by their first byte):
//!
//! ```text
//!   caller                          node
//!     0xA1 "ALVLOG" version ───────►          who speaks no HTTP/2
//!     hello ───────────────────────►          a node: cluster, secret, number · a writer: the log node beside it · versions
//!        ◄──────────────────────────  welcome, or why not
//!     appends or Raft's messages ──►
//!        ◄──────────────────────────  answers to appends
//!     ping ────────────────────────►
//!        ◄──────────────────────────  pong     writers only: Raft has its heartbeats
//! ```

mod append;
mod connection;
mod frame;
mod incoming;
mod peers;
mod send_buffer;
#[cfg(test)]
mod tests;
mod versions;

pub(crate) use append::{Append, AppendStream, Queued};
pub(crate) use connection::Connection;
pub use incoming::incoming;
pub use peers::{Credentials, PeerTransport};
pub(crate) use versions::NODE_AND_CLIENT;
pub use versions::{CLIENT_VERSIONS, PEER_VERSIONS, Versions};

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// What a connection begins with. The first byte is none that HTTP/2 begins with, the last one is the version.
const PREFACE: [u8; 8] = [0xA1, b'A', b'L', b'V', b'L', b'O', b'G', 1];
/// For the first bytes, and for the hello and its answer.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// What was sent and not acknowledged by the other machine for so long breaks the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(4);
/// An idle connection is probed after this.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Small frames go at once, and a machine that has vanished is noticed.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    let probes = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(Duration::from_secs(2));
    socket.set_tcp_keepalive(&probes)
}
