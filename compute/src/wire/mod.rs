//! The Postgres front end: listener, start-up, connections.
//!
//! ```text
//! accept → startup (limits, SCRAM or trust) → Server::connect → Connection::run
//! ```
//!
//! The protocol is version 3.0. Frames are decoded by our own `frontend` module (why: see there); the SCRAM
//! exchange is pgwire's.

mod backend;
mod client_gone;
mod connection;
mod frontend;
mod limits;
mod rows;
mod startup;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use parking_lot::Mutex;
use rand::Rng;
use sql::error::{SqlError, SqlState};
use sql::session::{ConnectionRequest, Server, Severity};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use client_gone::{SharedStream, Watchers};
use connection::{Connection, End};
use startup::{Opening, OpeningError, Startup};

/// Who may connect without a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Every role from a loopback address, whatever it says; others by SCRAM-SHA-256.
    TrustLoopback,
    /// SCRAM-SHA-256 for all.
    ScramSha256,
}

/// How the front end serves.
#[derive(Clone, Debug)]
pub struct WireConfig {
    /// Connections at once.
    pub max_connections: usize,
    /// Of these, kept free for superusers.
    pub reserved_connections: usize,
    /// Who needs a password.
    pub authentication: Authentication,
}

impl Default for WireConfig {
    fn default() -> Self {
        Self { max_connections: 500, reserved_connections: 3, authentication: Authentication::ScramSha256 }
    }
}

/// Connections that are being opened at once. One more costs the oldest of them its place: a flood of connections
/// that say nothing must not keep those out that do.
const OPENING_CONNECTIONS: usize = 500;

struct Front {
    server: Arc<Server>,
    config: WireConfig,
    sessions: AtomicUsize,
    opening: Openings,
    watchers: Watchers,
}

/// Connections that are being opened, oldest first.
#[derive(Default)]
struct Openings {
    queue: Mutex<VecDeque<Arc<Notify>>>,
}

/// A place among them, given back when dropped.
struct Opened<'a> {
    openings: &'a Openings,
    /// Tells that the place has gone to another.
    displaced: Arc<Notify>,
}

impl Openings {
    fn take(&self) -> Opened<'_> {
        let displaced = Arc::new(Notify::new());
        let mut queue = self.queue.lock();
        if queue.len() >= OPENING_CONNECTIONS
            && let Some(oldest) = queue.pop_front()
        {
            oldest.notify_one();
        }
        queue.push_back(displaced.clone());
        Opened { openings: self, displaced }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.openings.queue.lock().retain(|other| !Arc::ptr_eq(other, &self.displaced));
    }
}

/// A counted place, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(counter: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let taken = counter.fetch_add(1, Ordering::AcqRel);
        let place = Place(counter);
        (taken < limit).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Serves connections until `stop` turns true; then ends all sessions and waits for them.
pub async fn serve(listener: TcpListener, server: Arc<Server>, config: WireConfig, mut stop: watch::Receiver<bool>) {
    let front = Arc::new(Front {
        server,
        config,
        sessions: AtomicUsize::new(0),
        opening: Openings::default(),
        watchers: Watchers::default(),
    });
    let watching = {
        let front = front.clone();
        tokio::spawn(async move { front.watchers.watch().await })
    };
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            () = asked_to_stop(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // Answers are written in one piece; waiting for more only delays them.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "connection lost before it began");
                        continue;
                    }
                    let front = front.clone();
                    connections.spawn(async move { front.connection(stream, peer).await });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: let some connections end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    watching.abort();
    front.server.activity.terminate_all();
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.is_err() {
        tracing::warn!("sessions did not end in 10 s; they are cut off");
    }
}

/// Resolves when `stop` turns true, or when nobody can turn it any more.
async fn asked_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Front {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let mut stream = SharedStream::new(stream);
        let mut input = BytesMut::with_capacity(limits::IDLE_BUFFER_BYTES / 4);
        let opening = self.opening.take();
        let opened = tokio::select! {
            opened = tokio::time::timeout(limits::AUTHENTICATION_TIMEOUT, self.open(&mut stream, &mut input, peer)) => {
                opened
            }
            () = opening.displaced.notified() => {
                return tracing::debug!(%peer, "connection gave its place to another before it had authenticated");
            }
        };
        drop(opening);
        let (connection_output, session, _place) = match opened {
            Ok(Ok(Some(opened))) => opened,
            Ok(Ok(None)) => return,
            Ok(Err(OpeningError::Tell(error))) => {
                tracing::debug!(%peer, %error, "connection refused");
                return tell_fatal(&mut stream, &error).await;
            }
            Ok(Err(OpeningError::Io(error))) => return tracing::debug!(%peer, %error, "connection lost"),
            Err(_) => return tracing::debug!(%peer, "connection did not authenticate in time"),
        };
        let watched = self.watchers.add(stream.clone(), session.context().interrupt.clone());
        match Connection::new(stream, input, connection_output, session, Some(watched)).run().await {
            End::Closed => tracing::debug!(%peer, "connection closed"),
            End::Io(error) => tracing::debug!(%peer, %error, "connection lost"),
            End::Fatal(error) => tracing::info!(%peer, %error, "connection ended"),
        }
    }

    /// From the first byte to an authenticated session, with what has to be written first.
    async fn open<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        input: &mut BytesMut,
        peer: SocketAddr,
    ) -> Result<Option<(Vec<u8>, sql::session::Session, Place<'_>)>, OpeningError> {
        let startup = match startup::open(stream, input).await? {
            Opening::Startup(startup) => startup,
            Opening::Cancel { process, secret } => {
                self.server.activity.cancel(process, secret);
                return Ok(None);
            }
            Opening::Closed => return Ok(None),
        };
        if startup.minor_version > 0 || !startup.unknown_options.is_empty() {
            let mut out = Vec::new();
            backend::negotiate_protocol_version(&mut out, &startup.unknown_options);
            stream.write_all(&out).await?;
        }
        let trusted = self.config.authentication == Authentication::TrustLoopback && peer.ip().is_loopback();
        if !trusted {
            let verifier = self.server.verifier(&startup.user)?;
            startup::authenticate_scram(stream, input, &startup.user, verifier.as_deref()).await?;
        }
        let Startup { user, database, settings, .. } = startup;
        let limit = if self.server.is_superuser(&user)? {
            self.config.max_connections
        } else {
            self.config.max_connections - self.config.reserved_connections
        };
        let place = Place::take(&self.sessions, limit)
            .ok_or_else(|| SqlError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already"))?;
        #[expect(clippy::disallowed_methods, reason = "a secret must not repeat, also not in tests")]
        let secret = rand::rng().random();
        let request = ConnectionRequest { user, database, settings, client: peer.to_string(), secret };
        let server = &self.server;
        let session = tokio::task::block_in_place(|| server.connect(request))?;

        let mut out = Vec::with_capacity(1024);
        backend::authentication_ok(&mut out);
        for (name, value) in session.context().settings.lock().reports() {
            backend::parameter_status(&mut out, name, value);
        }
        backend::backend_key_data(&mut out, session.context().activity.process, secret);
        Ok(Some((out, session, place)))
    }
}

async fn tell_fatal<S: AsyncWrite + Unpin>(stream: &mut S, error: &SqlError) {
    let mut out = Vec::new();
    backend::error(&mut out, Severity::Fatal, error);
    // The client may be gone: then nobody is left to tell.
    let _ = stream.write_all(&out).await;
    let _ = stream.shutdown().await;
}
