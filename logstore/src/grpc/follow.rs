//! A subscription that outlives the node it reads from: any node serves committed chunks, so when one goes away the
//! stream goes on at another, from where it was.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{StreamExt, unfold};
use proto::logstore as wire;
use storage::{BranchId, Epoch, Lsn};
use tokio::time::Instant;
use tonic::Streaming;

use super::attempts::Attempts;
use super::convert::{from_failure, unavailable};
use super::endpoints::Endpoints;
use crate::client::{LogChunk, LogError};
use crate::filter::{FilteredChunk, Pieces, StreamFilter, StreamPiece};

pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(20);
pub(super) const LAST_PAUSE: Duration = Duration::from_millis(500);
/// A stream that stood this long counts as a success, also if nothing was written meanwhile.
const STOOD: Duration = Duration::from_secs(5);

struct Follower {
    endpoints: Arc<Endpoints>,
    branch: BranchId,
    filter: Option<StreamFilter>,
    position: Lsn,
    attempts: Attempts,
    stream: Option<Streaming<wire::SubscribeResponse>>,
    connected: Instant,
    ended: bool,
}

/// What `branch` holds from `from_lsn` on, or what `filter` wants of it. Gives up once no node has answered for `patience`.
pub(super) async fn follow(
    endpoints: Arc<Endpoints>,
    branch: BranchId,
    from_lsn: Lsn,
    filter: Option<StreamFilter>,
    patience: Duration,
) -> Result<Pieces, LogError> {
    let mut follower = Follower {
        endpoints,
        branch,
        filter,
        position: from_lsn,
        attempts: Attempts::new(patience, FIRST_PAUSE, LAST_PAUSE),
        stream: None,
        connected: Instant::now(),
        ended: false,
    };
    follower.connect().await?;
    let stream = unfold(follower, |mut follower| async move {
        if follower.ended {
            return None;
        }
        let next = follower.next().await;
        follower.ended = next.is_err();
        Some((next, follower))
    });
    Ok(stream.boxed())
}

impl Follower {
    /// Finds a node that takes the subscription. One that has trimmed the position may only be younger than others.
    async fn connect(&mut self) -> Result<(), LogError> {
        let deadline = self.attempts.deadline();
        loop {
            let (mut refused, mut unreachable) = (None, None);
            let (filter, filter_base_lsn) = match &self.filter {
                Some(filter) => (filter.bytes.clone(), filter.base_lsn.0),
                None => Default::default(),
            };
            for (_, mut client) in self.endpoints.readers() {
                let (branch, from_lsn, filter) = (self.branch.0, self.position.0, filter.clone());
                let request = wire::SubscribeRequest { branch, from_lsn, filter, filter_base_lsn };
                let subscribed = tokio::time::timeout_at(deadline, async {
                    let mut stream =
                        client.subscribe(request).await.map_err(|status| unavailable(&status))?.into_inner();
                    // The first message says whether the position can be read.
                    let first = stream.message().await.map_err(|status| unavailable(&status))?.unwrap_or_default();
                    first.failure.map_or(Ok(stream), |failure| Err(from_failure(failure)))
                });
                match subscribed.await {
                    Ok(Ok(stream)) => {
                        self.stream = Some(stream);
                        self.connected = Instant::now();
                        return Ok(());
                    }
                    Ok(Err(error @ (LogError::Unavailable { .. } | LogError::Corrupt { .. }))) => {
                        unreachable = Some(error);
                    }
                    Ok(Err(error)) => refused = Some(error),
                    Err(_) => {}
                }
            }
            match (refused, unreachable) {
                (Some(refused), None) => return Err(refused),
                (refused, unreachable) => {
                    let silent = || LogError::Unavailable { reason: "no log node answers".to_owned() };
                    self.attempts.pause(refused.or(unreachable).unwrap_or_else(silent)).await?;
                }
            }
        }
    }

    async fn next(&mut self) -> Result<StreamPiece, LogError> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.connect().await?;
                continue;
            };
            let ended = match stream.message().await {
                Ok(Some(wire::SubscribeResponse { start_lsn, epoch, bytes, filtered_end_lsn, failure: None })) => {
                    let (start_lsn, end_lsn, epoch) = (Lsn(start_lsn), Lsn(filtered_end_lsn), Epoch(epoch));
                    let piece = match filtered_end_lsn {
                        0 => StreamPiece::Whole(LogChunk { start_lsn, epoch, bytes }),
                        _ => StreamPiece::Filtered(FilteredChunk { start_lsn, end_lsn, epoch, bytes }),
                    };
                    self.position = piece.end_lsn();
                    self.attempts.succeeded();
                    return Ok(piece);
                }
                Ok(Some(wire::SubscribeResponse { failure: Some(failure), .. })) => match from_failure(failure) {
                    // Trimmed under a slow reader: another node may still have it.
                    error @ (LogError::Unavailable { .. } | LogError::Corrupt { .. } | LogError::Trimmed { .. }) => {
                        error
                    }
                    error => return Err(error),
                },
                Ok(None) => LogError::Unavailable { reason: "the log node has gone away".to_owned() },
                Err(status) => unavailable(&status),
            };
            self.stream = None;
            if self.connected.elapsed() >= STOOD {
                self.attempts.succeeded();
            }
            self.attempts.pause(ended).await?;
        }
    }
}
