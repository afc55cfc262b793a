//! The node's side of a connection: a task on the thread that owns the log.

use std::sync::Arc;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use proto::logstore as wire;
use protobuf::Message as _;
use raft::eraftpb::Message;
use storage::{BranchId, Epoch, Lsn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::frame::{FrameReader, Kind, MAX_HELLO_BYTES, MAX_PAYLOAD_BYTES, decode, put_frame, put_message};
use super::versions::{NODE_AND_CLIENT, Versions};
use super::{CLIENT_VERSIONS, Credentials, HELLO_TIMEOUT, PEER_VERSIONS, PREFACE, prepare};
use crate::client::{LogClient, LogError};
use crate::grpc::to_failure;
use crate::identity::node_id;
use crate::local::LocalClient;
use crate::writers::Writers;

/// Appends of one connection that wait for their answer; more wait in the network.
const MAX_APPENDS_IN_FLIGHT: usize = 1024;

/// A connection whose first byte says that frames will come.
pub(crate) struct Connection {
    pub(super) stream: std::net::TcpStream,
    /// What nodes have to show; none: there are no other nodes.
    pub(super) credentials: Option<Arc<Credentials>>,
}

impl Connection {
    /// Serves it to its end. To be called on the thread of the node.
    pub(crate) async fn serve(self, client: Arc<LocalClient>, writers: Arc<Writers>) {
        if let Err(error) = self.run(&client, &writers).await {
            tracing::debug!(%error, "a connection to this log node has ended");
        }
    }

    async fn run(self, client: &Arc<LocalClient>, writers: &Writers) -> std::io::Result<()> {
        let stream = TcpStream::from_std(self.stream)?;
        prepare(&stream)?;
        let (mut read, mut write) = stream.into_split();
        let hello = async {
            let mut preface = [0; PREFACE.len()];
            read.read_exact(&mut preface).await?;
            let mut frames = FrameReader::new(read, MAX_HELLO_BYTES);
            let hello = match frames.next().await? {
                Some((Kind::Hello, payload)) => decode::<wire::StreamHello>(payload)?,
                _ => return Err(std::io::Error::other("no hello")),
            };
            Ok((preface, hello, frames))
        };
        let (preface, hello, mut frames) = tokio::time::timeout(HELLO_TIMEOUT, hello).await??;
        let (spoken, accepted) = match &hello.introduction {
            _ if preface != PREFACE => {
                let spoken = PREFACE[PREFACE.len() - 1];
                (CLIENT_VERSIONS, Err(format!("this log node speaks version {spoken} of the stream protocol")))
            }
            Some(shown) => {
                let no_peers = || Err("this log node has no peers".to_owned());
                (PEER_VERSIONS, self.credentials.as_ref().map_or_else(no_peers, |own| own.check(shown)))
            }
            None => {
                let told = Versions::told(hello.version, hello.lowest_version);
                (CLIENT_VERSIONS, CLIENT_VERSIONS.check(told, NODE_AND_CLIENT))
            }
        };
        let refusal = accepted.err().unwrap_or_default();
        let answer = wire::StreamWelcome { refusal, version: spoken.newest, lowest_version: spoken.lowest };
        let mut welcome = Vec::new();
        put_message(&mut welcome, Kind::Welcome, &answer);
        write.write_all(&welcome).await?;
        if !answer.refusal.is_empty() {
            return Err(std::io::Error::other(answer.refusal));
        }
        frames.set_limit(MAX_PAYLOAD_BYTES);
        match hello.introduction {
            Some(introduction) => serve_peer(client, frames, introduction.node_id).await,
            None => serve_writer(client, frames, write, writers, &hello.near).await,
        }
    }
}

/// Raft's messages from node `sender`.
async fn serve_peer(client: &LocalClient, mut frames: FrameReader<OwnedReadHalf>, sender: u64) -> std::io::Result<()> {
    while let Some((kind, payload)) = frames.next().await? {
        if kind != Kind::Raft {
            return Err(std::io::Error::other(format!("a frame of kind {kind:?} from a log node")));
        }
        let message = Message::parse_from_bytes(&payload).map_err(std::io::Error::other)?;
        if node_id(message.from) != sender {
            return Err(std::io::Error::other("a message in another node's name"));
        }
        client.inbox.deliver(message).await;
    }
    Ok(())
}

fn put_answer(answers: &mut Vec<u8>, request_id: u64, outcome: Result<Lsn, LogError>) {
    let (end_lsn, failure) = match outcome {
        Ok(end) => (end.0, None),
        Err(error) => (0, Some(to_failure(error))),
    };
    put_message(answers, Kind::Answer, &wire::AppendResponse { request_id, end_lsn, failure });
}

/// Takes appends in order, lets them run side by side, and answers each when it is durable. Ends when the writer has gone;
/// what it sent by then goes on.
async fn serve_writer(
    client: &Arc<LocalClient>,
    mut frames: FrameReader<OwnedReadHalf>,
    mut write: OwnedWriteHalf,
    writers: &Writers,
    near: &str,
) -> std::io::Result<()> {
    let writer = writers.register(near);
    let mut running = FuturesUnordered::new();
    let mut answers = Vec::new();
    loop {
        // All frames that have come, before anything else is done: they are written as one.
        while running.len() < MAX_APPENDS_IN_FLIGHT
            && let Some((kind, payload)) = frames.buffered()?
        {
            match kind {
                Kind::Append => {
                    let append = decode::<wire::AppendRequest>(payload)?;
                    let wire::AppendRequest { request_id, branch, epoch, start_lsn, bytes } = append;
                    writer.wrote(bytes.len());
                    // Queued by the call itself, so that the order of the frames is kept.
                    let outcome = client.append(BranchId(branch), Epoch(epoch), Lsn(start_lsn), bytes);
                    running.push(outcome.map(move |outcome| (request_id, outcome)));
                }
                Kind::Ping => drop(put_frame(&mut answers, Kind::Pong, |_| true)),
                _ => return Err(std::io::Error::other(format!("a frame of kind {kind:?} from a writer"))),
            }
        }
        while let Some(Some((request_id, outcome))) = running.next().now_or_never() {
            put_answer(&mut answers, request_id, outcome);
        }
        if !answers.is_empty() {
            // A writer that takes no answers is not listened to meanwhile.
            write.write_all(&answers).await?;
            answers.clear();
        }
        let room = running.len() < MAX_APPENDS_IN_FLIGHT;
        tokio::select! {
            more = frames.fill(), if room => if !more? {
                return Ok(());
            },
            Some((request_id, outcome)) = running.next() => {
                put_answer(&mut answers, request_id, outcome);
            }
        }
    }
}
