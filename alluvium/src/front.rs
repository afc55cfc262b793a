//! The Postgres front end of a compute: the catalog opened, clients served until told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use compute::wire::{Authentication, WireConfig};
use sql::session::Server;
use sql::store::Store;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{shell, size};

/// Options of whatever serves Postgres clients.
#[derive(Args)]
pub struct FrontArguments {
    /// Address for Postgres clients. Clients on loopback need no password; others need SCRAM-SHA-256.
    #[arg(long, env = "ALLUVIUM_LISTEN", default_value = "127.0.0.1:5432")]
    pub listen: SocketAddr,

    /// Connections at once.
    #[arg(long, env = "ALLUVIUM_MAX_CONNECTIONS", default_value_t = 500)]
    pub max_connections: usize,

    /// Disk that uncommitted writes of all transactions together may take beside the memory, such as 100GiB.
    #[arg(long, env = "ALLUVIUM_SPILL_LIMIT", default_value = "256GiB", value_parser = size::parse)]
    pub spill_limit: u64,

    /// Ask every client for a password, also on loopback.
    #[arg(long)]
    pub require_password: bool,
}

impl FrontArguments {
    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), String> {
        if self.max_connections < 10 {
            return Err("--max-connections must be at least 10".to_owned());
        }
        Ok(())
    }

    /// Threads that may block at a time: one for each connection, and the engine's own.
    pub fn blocking_threads(&self) -> usize {
        self.max_connections + 64
    }
}

/// A front end that serves clients.
pub struct Front {
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Front {
    /// Opens the catalog and serves. Sorts spill into `temporary`, which is emptied; the hash tables of all statements
    /// together may take `hash_memory_bytes`.
    pub fn start(
        arguments: &FrontArguments,
        listener: TcpListener,
        store: Arc<dyn Store>,
        temporary: PathBuf,
        hash_memory_bytes: u64,
    ) -> Result<Front, String> {
        let server = tokio::task::block_in_place(|| Server::open(store, temporary, Arc::new(shell::clock)))
            .map_err(|error| format!("cannot open the catalog: {error}"))?
            .with_hash_memory(usize::try_from(hash_memory_bytes).unwrap_or(usize::MAX));
        let (stop, stopped) = watch::channel(false);
        let authentication =
            if arguments.require_password { Authentication::ScramSha256 } else { Authentication::TrustLoopback };
        let wire = WireConfig { max_connections: arguments.max_connections, authentication, ..WireConfig::default() };
        Ok(Front { stop, serving: tokio::spawn(compute::wire::serve(listener, Arc::new(server), wire, stopped)) })
    }

    /// Ends all sessions.
    pub async fn stop(self) -> Result<(), String> {
        // Nobody receives any more only when serving has ended by itself.
        let _ = self.stop.send(true);
        self.serving.await.map_err(|error| format!("the front end ended abnormally: {error}"))
    }
}
