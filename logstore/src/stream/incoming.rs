//! A listener's connections, sorted: those with frames go to the log's thread, all others to gRPC.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::{Connection, Credentials, HELLO_TIMEOUT, PREFACE};
use crate::LogStore;

/// Connections that are looked at; further ones wait to be accepted.
const MAX_UNSORTED: usize = 256;
/// After an accept that failed: descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For `serve_with_incoming`. Connections of writers, and of nodes that know `credentials`, are served by the store itself as
/// long as it runs. Ends with the stream that it returns. To be called within a tokio runtime.
pub fn incoming(
    listener: TcpListener,
    store: &LogStore,
    credentials: Option<Credentials>,
) -> ReceiverStream<std::io::Result<TcpStream>> {
    let (others, sorted) = mpsc::channel(1);
    let adopt = store.adopter();
    let credentials = credentials.map(Arc::new);
    let unsorted = Arc::new(Semaphore::new(MAX_UNSORTED));
    tokio::spawn(async move {
        loop {
            let permit = unsorted.clone().acquire_owned().await.expect("never closed");
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = others.closed() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (others, adopt, credentials) = (others.clone(), adopt.clone(), credentials.clone());
            tokio::spawn(async move {
                let _permit = permit;
                let mut first = [0];
                // Who says nothing is let go.
                let Ok(Ok(1)) = tokio::time::timeout(HELLO_TIMEOUT, stream.peek(&mut first)).await else { return };
                if first[0] == PREFACE[0] {
                    match stream.into_std() {
                        Ok(stream) => adopt(Connection { stream, credentials }),
                        Err(error) => tracing::debug!(%error, "a connection cannot be handed over"),
                    }
                } else {
                    let _ = stream.set_nodelay(true);
                    let _ = others.send(Ok(stream)).await;
                }
            });
        }
    });
    ReceiverStream::new(sorted)
}
