//! Watching metadata keys at any node: whole states of a prefix, never going back, whichever node they come from.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt, unfold};
use proto::logstore as wire;
use tonic::Streaming;

use super::attempts::Attempts;
use super::convert::{from_failure, from_value, unavailable};
use super::endpoints::Endpoints;
use super::follow::{FIRST_PAUSE, LAST_PAUSE};
use crate::client::{LogError, MetadataSnapshot};

struct Watcher {
    endpoints: Arc<Endpoints>,
    prefix: String,
    attempts: Attempts,
    stream: Option<Streaming<wire::WatchResponse>>,
    last: Option<MetadataSnapshot>,
    ended: bool,
}

/// The states of `prefix`, the present one first. Gives up once no node has answered for `patience`.
pub(super) fn watch(
    endpoints: Arc<Endpoints>,
    prefix: String,
    patience: Duration,
) -> BoxStream<'static, Result<MetadataSnapshot, LogError>> {
    let watcher = Watcher {
        endpoints,
        prefix,
        attempts: Attempts::new(patience, FIRST_PAUSE, LAST_PAUSE),
        stream: None,
        last: None,
        ended: false,
    };
    let stream = unfold(watcher, |mut watcher| async move {
        if watcher.ended {
            return None;
        }
        let next = watcher.next().await;
        watcher.ended = next.is_err();
        Some((next, watcher))
    });
    stream.boxed()
}

impl Watcher {
    async fn next(&mut self) -> Result<MetadataSnapshot, LogError> {
        loop {
            match self.receive().await {
                Ok(snapshot) => {
                    self.attempts.succeeded();
                    // A node that lags shows what is past; one that was asked anew shows what is known.
                    let is_news = self
                        .last
                        .as_ref()
                        .is_none_or(|last| snapshot.index >= last.index && snapshot.values != last.values);
                    if is_news {
                        self.last = Some(snapshot.clone());
                        return Ok(snapshot);
                    }
                }
                Err(error @ LogError::Unavailable { .. }) => {
                    self.stream = None;
                    self.attempts.pause(error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn receive(&mut self) -> Result<MetadataSnapshot, LogError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let Some((_, mut client)) = self.endpoints.readers().into_iter().next() else {
                    return Err(LogError::Unavailable { reason: "no log node is known".to_owned() });
                };
                let request = wire::WatchRequest { prefix: self.prefix.clone() };
                let opened = tokio::time::timeout(self.attempts.patience, client.watch(request)).await;
                let opened =
                    opened.map_err(|_| LogError::Unavailable { reason: "a log node does not answer".to_owned() })?;
                self.stream.insert(opened.map_err(|status| unavailable(&status))?.into_inner())
            }
        };
        match stream.message().await {
            Ok(Some(wire::WatchResponse { failure: Some(failure), .. })) => Err(from_failure(failure)),
            Ok(Some(wire::WatchResponse { index, values, .. })) => {
                Ok(MetadataSnapshot { index, values: values.into_iter().map(from_value).collect() })
            }
            Ok(None) => Err(LogError::Unavailable { reason: "the log node has gone away".to_owned() }),
            Err(status) => Err(unavailable(&status)),
        }
    }
}
