//! Wires between processes that a test can cut: every link goes through a proxy, which knows who connects and lets bytes
//! through in each direction, or not.
//!
//! A cut wire loses nothing and refuses nothing: bytes stay where they are, as on a network that has gone silent, and
//! go on when it is mended. Who connects is told by the kernel: the process that owns the other end's socket.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

#[derive(Default)]
struct State {
    /// Names by process.
    names: HashMap<u32, String>,
    /// Nothing goes from the first to the second.
    cut: HashSet<(String, String)>,
}

/// All wires of a test.
#[derive(Clone, Default)]
pub struct Wires {
    state: Arc<Mutex<State>>,
}

/// What cut wires are looked at for.
const LOOK: Duration = Duration::from_millis(10);

impl Wires {
    /// Names a process, for the cuts that concern it.
    pub fn name(&self, process: u32, name: &str) {
        self.state.lock().names.insert(process, name.to_owned());
    }

    /// From now on nothing goes from one to the other.
    pub fn cut(&self, from: &str, to: &str) {
        self.state.lock().cut.insert((from.to_owned(), to.to_owned()));
    }

    /// Cuts both directions.
    pub fn part(&self, one: &str, other: &str) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Mends everything.
    pub fn mend(&self) {
        self.state.lock().cut.clear();
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        let state = self.state.lock();
        !state.cut.is_empty() && state.cut.contains(&(from.to_owned(), to.to_owned()))
    }

    /// A way to what listens, or will listen, at `to`, which is called `name`.
    pub fn lead(&self, listener: TcpListener, name: &str, to: SocketAddr) {
        let (wires, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                tokio::spawn(wires.clone().connection(stream, peer, name.clone(), to));
            }
        });
    }

    async fn connection(self, client: TcpStream, peer: SocketAddr, server: String, to: SocketAddr) {
        let caller = self.caller(peer);
        let _ = client.set_nodelay(true);
        // Even its handshake does not get through.
        while self.is_cut(&caller, &server) || self.is_cut(&server, &caller) {
            tokio::time::sleep(LOOK).await;
        }
        let Ok(upstream) = TcpStream::connect(to).await else { return };
        let _ = upstream.set_nodelay(true);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = upstream.into_split();
        tokio::spawn(self.clone().pump(from_client, to_server, caller.clone(), server.clone()));
        self.pump(from_server, to_client, server, caller).await;
    }

    async fn pump(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, sender: String, receiver: String) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = from.read(&mut buffer).await;
            while self.is_cut(&sender, &receiver) {
                tokio::time::sleep(LOOK).await;
            }
            match read {
                Ok(bytes) if bytes > 0 => {
                    if to.write_all(&buffer[..bytes]).await.is_err() {
                        return;
                    }
                }
                // The end, of whatever kind, reaches the other side as such.
                _ => return drop(to.shutdown().await),
            }
        }
    }

    /// The name of the process that connected from an address; empty for one without a name.
    fn caller(&self, peer: SocketAddr) -> String {
        let Some(inode) = inode_of(peer) else { return String::new() };
        let names = self.state.lock().names.clone();
        let wanted = format!("socket:[{inode}]");
        let owns = |process: &u32| {
            let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
            files
                .flatten()
                .any(|file| std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()))
        };
        names.iter().find(|(process, _)| owns(process)).map_or_else(String::new, |(_, name)| name.clone())
    }
}

/// The socket at a local address of a connection, as the kernel numbers it.
fn inode_of(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(v4) = address else { return None };
    // Written as the kernel does: the address's bytes as a number of this machine.
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port());
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let line = table.lines().skip(1).find(|line| line.split_whitespace().nth(1) == Some(&local))?;
    line.split_whitespace().nth(9).map(str::to_owned)
}
