//! A writer's connection to one node, with its appends under way. When it ends, everything unanswered is answered as unknown.
//!
//! Appends may be under way side by side, and are sent in the order of the calls. An append is written to the socket by the
//! call itself; a task connects, writes what the socket did not take, and hands out answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::logstore as wire;
use storage::{BranchId, Epoch, Lsn};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::frame::{FrameReader, Kind, MAX_PAYLOAD_BYTES, decode, put_frame, put_message};
use super::peers::greet;
use super::send_buffer::SendBuffer;
use super::{CLIENT_VERSIONS, CONNECT_TIMEOUT, HELLO_TIMEOUT, prepare};
use crate::client::LogError;
use crate::grpc::from_failure;

/// Appends that are not answered yet hold this much together; more wait for their turn.
const IN_FLIGHT_BYTES: usize = 64 << 20;
/// An append counts for at least this much.
const LEAST_BYTES: usize = 4 << 10;
/// While appends wait, the node is asked this often whether it lives.
const PING_EVERY: Duration = Duration::from_secs(1);
/// It does not, when nothing has come for so long, and a large append has not moved.
const SILENCE: Duration = Duration::from_secs(3);

type Outcome = Result<Lsn, LogError>;

/// What is appended.
#[derive(Clone)]
pub(crate) struct Append {
    pub(crate) branch: BranchId,
    pub(crate) epoch: Epoch,
    pub(crate) start_lsn: Lsn,
    pub(crate) bytes: Bytes,
}

impl Append {
    fn permits(&self) -> u32 {
        (self.bytes.len().clamp(LEAST_BYTES, IN_FLIGHT_BYTES) / LEAST_BYTES) as u32
    }
}

/// See the module.
#[derive(Clone)]
pub(crate) struct AppendStream {
    shared: Arc<Shared>,
    /// Whoever waits for an answer holds one, too.
    _task: Arc<Task>,
}

/// The task ends with the last handle.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    address: String,
    state: Mutex<State>,
    room: Arc<Semaphore>,
    /// There is something that only the task can do.
    help: Notify,
}

struct State {
    buffer: SendBuffer,
    /// Unanswered appends by request id.
    waiting: HashMap<u64, (oneshot::Sender<Outcome>, OwnedSemaphorePermit)>,
    /// What is not answered by then never will be.
    ended: Option<LogError>,
    /// When the socket last took some of what it had not taken at once: a large append is on its way.
    moved: Instant,
}

/// An append that has been queued, or could not be.
pub(crate) struct Queued {
    stream: AppendStream,
    request_id: u64,
    /// There was no room for it yet.
    unsent: Option<(Append, oneshot::Sender<Outcome>)>,
    outcome: oneshot::Receiver<Outcome>,
}

fn broken() -> LogError {
    LogError::Unavailable { reason: "the connection to the log service ended before the answer".into() }
}

impl AppendStream {
    pub(crate) fn open(address: String, near: String, runtime: &Handle) -> AppendStream {
        let state =
            State { buffer: SendBuffer::default(), waiting: HashMap::new(), ended: None, moved: Instant::now() };
        let room = Arc::new(Semaphore::new(IN_FLIGHT_BYTES / LEAST_BYTES));
        let shared = Arc::new(Shared { address, state: Mutex::new(state), room, help: Notify::new() });
        let served = shared.clone();
        let task = runtime.spawn(async move {
            let error = match served.serve(near).await {
                Ok(()) => broken(),
                Err(error) => {
                    if error.kind() == std::io::ErrorKind::PermissionDenied {
                        tracing::warn!(node = served.address, reason = %error, "a log node takes no appends from us");
                    }
                    LogError::Unavailable { reason: format!("{}: {error}", served.address) }
                }
            };
            served.end(error);
        });
        AppendStream { shared, _task: Arc::new(Task(task.abort_handle())) }
    }

    pub(crate) fn address(&self) -> &str {
        &self.shared.address
    }

    pub(crate) fn is_open(&self) -> bool {
        self.shared.state.lock().ended.is_none()
    }

    /// Queues an append now if there is room, so that the order of the calls is kept.
    pub(crate) fn queue(&self, request_id: u64, append: &Append) -> Queued {
        let (answer, outcome) = oneshot::channel();
        let unsent = match self.shared.room.clone().try_acquire_many_owned(append.permits()) {
            Ok(permit) => {
                self.shared.send(request_id, append, answer, permit);
                None
            }
            Err(_) => Some((append.clone(), answer)),
        };
        Queued { stream: self.clone(), request_id, unsent, outcome }
    }
}

impl Queued {
    /// The node that was asked.
    pub(crate) fn address(&self) -> String {
        self.stream.shared.address.clone()
    }

    pub(crate) async fn outcome(self) -> Outcome {
        let shared = &self.stream.shared;
        if let Some((append, answer)) = self.unsent {
            // Closed when the stream has ended: then it is known why.
            let permit = shared.room.clone().acquire_many_owned(append.permits()).await;
            let permit = permit.map_err(|_| shared.state.lock().ended.clone().unwrap_or_else(broken))?;
            shared.send(self.request_id, &append, answer, permit);
        }
        self.outcome.await.unwrap_or_else(|_| Err(broken()))
    }
}

impl Shared {
    fn send(&self, request_id: u64, append: &Append, answer: oneshot::Sender<Outcome>, permit: OwnedSemaphorePermit) {
        let Append { branch, epoch, start_lsn, bytes } = append.clone();
        let request =
            wire::AppendRequest { request_id, branch: branch.0, epoch: epoch.0, start_lsn: start_lsn.0, bytes };
        let mut state = self.state.lock();
        if let Some(ended) = &state.ended {
            let _ = answer.send(Err(ended.clone()));
            return;
        }
        if !state.buffer.add(&self.help, |frames| put_message(frames, Kind::Append, &request)) {
            let reason = format!("an append of {} bytes is too long", append.bytes.len());
            let _ = answer.send(Err(LogError::Invalid { reason }));
            return;
        }
        state.waiting.insert(request_id, (answer, permit));
    }

    fn end(&self, error: LogError) {
        let waiting = {
            let mut state = self.state.lock();
            state.ended = Some(error.clone());
            state.buffer.detach();
            std::mem::take(&mut state.waiting)
        };
        self.room.close();
        for (answer, _) in waiting.into_values() {
            let _ = answer.send(Err(error.clone()));
        }
    }

    async fn connect(&self, near: String) -> std::io::Result<TcpStream> {
        let mut stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await??;
        prepare(&stream)?;
        let (version, lowest_version) = (CLIENT_VERSIONS.newest, CLIENT_VERSIONS.lowest);
        let hello = wire::StreamHello { introduction: None, near, version, lowest_version };
        greet(&mut stream, &hello).await?;
        Ok(stream)
    }

    /// Returns when the connection has ended.
    async fn serve(&self, near: String) -> std::io::Result<()> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT + HELLO_TIMEOUT, self.connect(near)).await??;
        let (read, write) = stream.into_split();
        let write = Arc::new(write);
        self.state.lock().buffer.attach(write.clone());
        tokio::select! {
            ended = self.receive(read) => ended,
            ended = self.help(&write) => ended,
        }
    }

    /// Writes what the socket has not taken at once.
    async fn help(&self, write: &OwnedWriteHalf) -> std::io::Result<()> {
        loop {
            let all_written = {
                let mut state = self.state.lock();
                let before = state.buffer.unwritten_bytes();
                let all_written = state.buffer.write()?;
                if all_written || state.buffer.unwritten_bytes() < before {
                    state.moved = Instant::now();
                }
                all_written
            };
            if all_written {
                self.help.notified().await;
            } else {
                write.writable().await?;
            }
        }
    }

    /// Hands out answers.
    async fn receive(&self, read: OwnedReadHalf) -> std::io::Result<()> {
        let mut frames = FrameReader::new(read, MAX_PAYLOAD_BYTES);
        let mut look = tokio::time::interval(PING_EVERY);
        let mut heard = Instant::now();
        loop {
            let mut answered = Vec::new();
            while let Some((kind, payload)) = frames.buffered()? {
                if kind == Kind::Answer {
                    answered.push(decode::<wire::AppendResponse>(payload)?);
                }
            }
            if !answered.is_empty() {
                self.answered(answered);
            }
            tokio::select! {
                more = frames.fill() => {
                    if !more? {
                        return Ok(());
                    }
                    heard = Instant::now();
                }
                _ = look.tick() => {
                    let mut state = self.state.lock();
                    if state.waiting.is_empty() {
                        heard = Instant::now();
                    } else if heard.max(state.moved).elapsed() >= SILENCE {
                        return Err(std::io::ErrorKind::TimedOut.into());
                    } else if state.buffer.is_empty() {
                        state.buffer.add(&self.help, |frames| put_frame(frames, Kind::Ping, |_| true));
                    }
                }
            }
        }
    }

    fn answered(&self, answers: Vec<wire::AppendResponse>) {
        let mut state = self.state.lock();
        let answers: Vec<_> = answers
            .into_iter()
            .filter_map(|answer| Some((state.waiting.remove(&answer.request_id)?, answer)))
            .collect();
        drop(state);
        for ((waiter, _), answer) in answers {
            let outcome = answer.failure.map_or(Ok(Lsn(answer.end_lsn)), |failure| Err(from_failure(failure)));
            let _ = waiter.send(outcome);
        }
    }
}
