//! One client's connection after authentication: reads messages, drives the session, writes answers.
//!
//! Answers are collected in one buffer and written when the client's messages have been worked off (or
//! the buffer is full), so that a pipeline costs one read and one write. A commit is awaited before the
//! message that tells of it enters the buffer.
//!
//! Statements run on the connection's task. Those that may run long enter a blocking section, so that
//! other connections go on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use sql::error::{Result, SqlError, SqlState};
use sql::parser::ParsedStatement;
use sql::plan::OutputColumn;
use sql::session::{ActivityState, Fetched, Session, Severity, TransactionStatus};
use sql::store::{Interrupt, InterruptReason};
use sql::table::MAX_ROW_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::client_gone::{self, Watched};
use super::frontend::{self, Bind, Frontend, Malformed, Target};
use super::rows::Rows;
use super::{backend, limits};
use crate::blocking::interruptible;

/// Why a connection ended.
#[derive(Debug)]
pub enum End {
    /// The client said goodbye or closed the socket.
    Closed,
    /// The socket failed.
    Io(std::io::Error),
    /// The client was told why (FATAL).
    Fatal(SqlError),
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        End::Io(error)
    }
}

/// What goes on between messages.
enum Mode {
    /// Ordinary.
    Ready,
    /// An extended-protocol message failed: everything up to Sync is dropped.
    SkipToSync,
    /// COPY FROM STDIN is taking data; `simple` if a Query message began it.
    CopyIn { simple: bool },
}

/// A connection with its session.
pub struct Connection<S> {
    stream: S,
    input: BytesMut,
    output: Vec<u8>,
    session: Session,
    mode: Mode,
    /// Statements of the current Query message that have not run yet.
    script: VecDeque<ParsedStatement>,
    /// Woken when the session is cancelled or terminated.
    interrupted: Arc<Notify>,
    hooks: Hooks,
}

/// What surrounds everything that a session runs.
struct Hooks {
    interrupt: Arc<Interrupt>,
    watched: Option<Arc<Watched>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection whose start-up is over; `output` holds what has not been written of it.
    pub fn new(stream: S, input: BytesMut, output: Vec<u8>, session: Session, watched: Option<Arc<Watched>>) -> Self {
        let interrupted = Arc::new(Notify::new());
        let notify = interrupted.clone();
        let interrupt = session.context().interrupt.clone();
        interrupt.set_idle_waker(Box::new(move || notify.notify_one()));
        let (mode, script) = (Mode::Ready, VecDeque::new());
        Self { stream, input, output, session, mode, script, interrupted, hooks: Hooks { interrupt, watched } }
    }

    /// Serves the client until either side ends it.
    pub async fn run(mut self) -> End {
        self.ready();
        loop {
            match self.serve_one().await {
                Ok(()) => {}
                Err(End::Fatal(error)) => {
                    // The client may be gone already: then nobody is left to tell.
                    backend::error(&mut self.output, Severity::Fatal, &error);
                    let _ = self.flush().await;
                    return End::Fatal(error);
                }
                Err(end) => return end,
            }
        }
    }

    /// Reads and answers one message.
    async fn serve_one(&mut self) -> Result<(), End> {
        let (message_type, body_bytes) = self.next_frame().await?;
        if message_type == b'd'
            && let Mode::CopyIn { simple } = self.mode
        {
            return self.take_copy_data(simple).await;
        }
        // The frame is taken out of the buffer for as long as its message borrows from it.
        let mut frame = std::mem::take(&mut self.input);
        let result = match frontend::decode(message_type, &frame[5..5 + body_bytes]) {
            Ok(message) => self.handle(message).await,
            Err(malformed) => Err(End::Fatal(malformed_error(&malformed))),
        };
        frame.advance(5 + body_bytes);
        if frame.is_empty() && frame.capacity() > limits::IDLE_BUFFER_BYTES {
            frame = BytesMut::new();
        }
        self.input = frame;
        result
    }

    /// Waits until a whole frame is buffered: its type and the length of its body.
    async fn next_frame(&mut self) -> Result<(u8, usize), End> {
        loop {
            match arrived(&self.input)? {
                Arrived::Whole(message_type, body_bytes) => return Ok((message_type, body_bytes)),
                // A frame that is still arriving takes memory as it arrives, not as it is announced.
                Arrived::Part { missing_bytes } => {
                    if missing_bytes > limits::LARGE_VALUE_BYTES
                        && self.input[0] == b'B'
                        && let Some(value_bytes) = frontend::oversize_value(&self.input[5..])
                    {
                        self.refuse_value(value_bytes, missing_bytes).await?;
                        continue;
                    }
                    let least = match self.mode {
                        Mode::CopyIn { .. } => limits::COPY_READ_BYTES,
                        Mode::Ready | Mode::SkipToSync => limits::IDLE_BUFFER_BYTES / 4,
                    };
                    self.input.reserve(missing_bytes.clamp(least, 1024 * 1024));
                }
            }
            self.flush().await?;
            self.read_some().await?;
        }
    }

    /// Passes over the rest of a message with a value that no row can hold, and fails its statement.
    async fn refuse_value(&mut self, value_bytes: usize, missing_bytes: usize) -> Result<(), End> {
        self.input = BytesMut::new();
        let mut left = missing_bytes;
        while left > 0 {
            self.input.reserve(limits::COPY_READ_BYTES);
            self.read_some().await?;
            let passed = left.min(self.input.len());
            self.input.advance(passed);
            left -= passed;
        }
        match self.mode {
            Mode::SkipToSync => Ok(()),
            Mode::CopyIn { .. } => Err(End::Fatal(violation("unexpected message type during COPY from stdin"))),
            Mode::Ready => {
                let text = format!("value of {value_bytes} bytes exceeds the limit of {MAX_ROW_BYTES} bytes");
                self.tell_error(&SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, text))?;
                self.session.statement_failed();
                self.mode = Mode::SkipToSync;
                Ok(())
            }
        }
    }

    /// Waits for bytes, a timeout, or the end of the session.
    async fn read_some(&mut self) -> Result<(), End> {
        let (limit_ms, error) = self.idle_limit();
        let idle = async {
            match limit_ms {
                0 => std::future::pending().await,
                limit_ms => tokio::time::sleep(Duration::from_millis(limit_ms)).await,
            }
        };
        tokio::select! {
            biased;
            read = self.stream.read_buf(&mut self.input) => match read? {
                0 => Err(End::Closed),
                _ => Ok(()),
            },
            () = self.interrupted.notified() => match self.session.context().interrupt.reason() {
                Some(InterruptReason::Shutdown) => Err(End::Fatal(shutdown_error())),
                Some(InterruptReason::ClientGone) => Err(End::Closed),
                // A cancel that came too late for its statement.
                _ => {
                    self.session.context().interrupt.clear();
                    Ok(())
                }
            },
            () = idle => Err(End::Fatal(error)),
        }
    }

    /// Milliseconds that the client may stay silent now (0 is for ever), and what it is told then.
    fn idle_limit(&self) -> (u64, SqlError) {
        let settings = self.session.context().settings.lock();
        match self.session.transaction_status() {
            TransactionStatus::Idle => (
                settings.typed().idle_session_timeout_ms,
                SqlError::new(SqlState("57P05"), "terminating connection due to idle-session timeout"),
            ),
            TransactionStatus::InTransaction | TransactionStatus::Failed => (
                settings.typed().idle_in_transaction_session_timeout_ms,
                SqlError::new(
                    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                    "terminating connection due to idle-in-transaction timeout",
                ),
            ),
        }
    }

    async fn handle(&mut self, message: Frontend<'_>) -> Result<(), End> {
        match self.mode {
            Mode::SkipToSync if !matches!(message, Frontend::Sync | Frontend::Terminate) => return Ok(()),
            Mode::CopyIn { simple } => return self.handle_copy(message, simple).await,
            _ => {}
        }
        match message {
            Frontend::Query(text) => self.query(text).await,
            Frontend::Sync => {
                self.mode = Mode::Ready;
                if let Err(error) = self.end_group().await {
                    self.tell_error(&error)?;
                    self.session.statement_failed();
                }
                self.ready();
                Ok(())
            }
            Frontend::Flush => self.flush().await,
            Frontend::Terminate => Err(End::Closed),
            // Left over from a COPY that failed.
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => Ok(()),
            Frontend::Password(_) => Err(End::Fatal(violation("unexpected password message"))),
            Frontend::FunctionCall => {
                self.tell_error(&SqlError::unsupported("the function call protocol"))?;
                self.session.statement_failed();
                self.ready();
                Ok(())
            }
            extended => {
                if let Err(error) = self.extended(extended).await {
                    self.tell_error(&error)?;
                    self.session.statement_failed();
                    self.mode = Mode::SkipToSync;
                }
                Ok(())
            }
        }
    }

    /// Parse, Bind, Describe, Execute, Close.
    async fn extended(&mut self, message: Frontend<'_>) -> Result<()> {
        match message {
            Frontend::Parse { statement, query, parameter_types } => {
                self.begin_activity(query);
                let session = &mut self.session;
                self.hooks.run(true, || session.prepare(statement, query, &parameter_types))?;
                backend::parse_complete(&mut self.output);
            }
            Frontend::Bind(Bind { portal, statement, parameter_formats, parameters, result_formats }) => {
                self.session.bind(portal, statement, &parameter_formats, &parameters, &result_formats)?;
                backend::bind_complete(&mut self.output);
            }
            Frontend::Describe { target: Target::Statement, name } => {
                let described = self.session.describe_statement(name)?;
                backend::parameter_description(&mut self.output, &described.parameters);
                match &described.columns {
                    Some(columns) => backend::row_description(&mut self.output, columns, &[]),
                    None => backend::no_data(&mut self.output),
                }
            }
            Frontend::Describe { target: Target::Portal, name } => match self.session.describe_portal(name)? {
                Some((columns, formats)) => backend::row_description(&mut self.output, &columns, &formats),
                None => backend::no_data(&mut self.output),
            },
            Frontend::Close { target: Target::Statement, name } => {
                self.session.close_statement(name);
                backend::close_complete(&mut self.output);
            }
            Frontend::Close { target: Target::Portal, name } => {
                self.session.close_portal(name);
                backend::close_complete(&mut self.output);
            }
            Frontend::Execute { portal, max_rows } => {
                self.begin_portal_activity(portal);
                let mut limit = u64::try_from(max_rows).ok().filter(|rows| *rows > 0).unwrap_or(u64::MAX);
                let _timer = self.statement_timer();
                loop {
                    let quick = self.session.is_quick(portal);
                    let (session, output) = (&mut self.session, &mut self.output);
                    let fetched =
                        self.hooks.run(quick, || session.fetch(portal, &mut limit, &mut Rows::new(output)))?;
                    match fetched {
                        Fetched::Paused => self.flush_rows().await?,
                        Fetched::Suspended => {
                            backend::portal_suspended(&mut self.output);
                            break;
                        }
                        Fetched::Empty => {
                            backend::empty_query(&mut self.output);
                            break;
                        }
                        Fetched::Complete(tag) => {
                            self.await_commit().await?;
                            self.complete(&tag);
                            break;
                        }
                        Fetched::CopyIn { columns, binary } => {
                            backend::copy_response(&mut self.output, b'G', columns, binary);
                            self.mode = Mode::CopyIn { simple: false };
                            break;
                        }
                        Fetched::CopyOut { columns, binary } => {
                            backend::copy_response(&mut self.output, b'H', columns, binary);
                            let tag = self.copy_out().await?;
                            self.complete(&tag);
                            break;
                        }
                    }
                }
            }
            _ => unreachable!("only messages of the extended protocol come here"),
        }
        Ok(())
    }

    /// A Query message.
    async fn query(&mut self, text: &str) -> Result<(), End> {
        self.begin_activity(text);
        let session = &mut self.session;
        match self.hooks.run(true, || session.run_repeated(text)) {
            Ok(Some(columns)) => {
                let done = self.run_scripted(columns).await;
                return self.after_statement(done);
            }
            Ok(None) => {}
            Err(error) => return self.after_statement(Err(error)),
        }
        match self.session.parse_script(text) {
            Ok(statements) if statements.is_empty() => {
                backend::empty_query(&mut self.output);
                self.ready();
                Ok(())
            }
            Ok(statements) => {
                self.script = statements.into();
                self.run_script().await
            }
            Err(error) => {
                self.tell_error(&error)?;
                self.session.statement_failed();
                self.ready();
                Ok(())
            }
        }
    }

    /// Runs what is left of the script; it pauses when a COPY FROM STDIN begins.
    async fn run_script(&mut self) -> Result<(), End> {
        while let Some(statement) = self.script.pop_front() {
            let session = &mut self.session;
            let started = self.hooks.run(true, || session.run_statement(statement));
            let done = match started {
                Ok(columns) => self.run_scripted(columns).await,
                Err(error) => Err(error),
            };
            if !matches!(done, Ok(true)) || self.script.is_empty() {
                return self.after_statement(done);
            }
        }
        self.ready();
        Ok(())
    }

    /// Ends a Query message after its last statement, or after one that failed; not when COPY data follows.
    fn after_statement(&mut self, done: Result<bool>) -> Result<(), End> {
        match done {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => {
                self.script.clear();
                self.tell_error(&error)?;
                self.session.statement_failed();
            }
        }
        self.ready();
        Ok(())
    }

    /// Runs a statement of a script that has been prepared. False: it takes COPY data now.
    async fn run_scripted(&mut self, columns: Option<Arc<[OutputColumn]>>) -> Result<bool> {
        let _timer = self.statement_timer();
        if let Some(columns) = columns {
            backend::row_description(&mut self.output, &columns, &[]);
        }
        loop {
            let quick = self.session.simple_is_quick();
            let (session, output) = (&mut self.session, &mut self.output);
            match self.hooks.run(quick, || session.fetch_simple(&mut Rows::new(output)))? {
                Fetched::Paused => self.flush_rows().await?,
                Fetched::Complete(tag) => {
                    self.complete_scripted(&tag).await?;
                    return Ok(true);
                }
                Fetched::CopyIn { columns, binary } => {
                    backend::copy_response(&mut self.output, b'G', columns, binary);
                    self.mode = Mode::CopyIn { simple: true };
                    return Ok(false);
                }
                Fetched::CopyOut { columns, binary } => {
                    backend::copy_response(&mut self.output, b'H', columns, binary);
                    let tag = self.copy_out().await?;
                    self.complete_scripted(&tag).await?;
                    return Ok(true);
                }
                Fetched::Empty | Fetched::Suspended => {
                    return Err(SqlError::internal("a simple statement was suspended"));
                }
            }
        }
    }

    async fn complete_scripted(&mut self, tag: &str) -> Result<()> {
        self.session.close_simple();
        if self.script.is_empty() {
            self.end_group().await?;
        } else {
            self.await_commit().await?;
        }
        self.complete(tag);
        Ok(())
    }

    /// Messages while COPY FROM STDIN takes data.
    async fn handle_copy(&mut self, message: Frontend<'_>, simple: bool) -> Result<(), End> {
        let session = &mut self.session;
        let result = match message {
            Frontend::CopyData(_) => unreachable!("taken by `take_copy_data`"),
            Frontend::CopyDone => self.hooks.run(false, || session.copy_done()).map(Some),
            Frontend::CopyFail(reason) => Err(session.copy_fail(reason)),
            // Ignored during COPY, as in Postgres: drivers pipeline them behind Execute.
            Frontend::Flush | Frontend::Sync => return Ok(()),
            Frontend::Terminate => return Err(End::Closed),
            _ => Err(violation("unexpected message type during COPY from stdin")),
        };
        match result {
            Ok(None) => Ok(()),
            Ok(Some(tag)) => {
                self.mode = Mode::Ready;
                if !simple {
                    self.complete(&tag);
                    return Ok(());
                }
                if let Err(error) = self.complete_scripted(&tag).await {
                    self.script.clear();
                    self.tell_error(&error)?;
                    self.session.statement_failed();
                }
                self.run_script().await
            }
            Err(error) => self.copy_failed(&error, simple),
        }
    }

    fn copy_failed(&mut self, error: &SqlError, simple: bool) -> Result<(), End> {
        self.script.clear();
        self.tell_error(error)?;
        self.session.statement_failed();
        if simple {
            self.mode = Mode::Ready;
            self.ready();
        } else {
            self.mode = Mode::SkipToSync;
        }
        Ok(())
    }

    /// All CopyData messages that have arrived, in one blocking section: clients may send a message a row.
    async fn take_copy_data(&mut self, simple: bool) -> Result<(), End> {
        let (session, input) = (&mut self.session, &mut self.input);
        let taken = self.hooks.run(false, || {
            // Another message, one that is still arriving, or a bad one: the next round looks at it.
            while let Ok(Arrived::Whole(b'd', body_bytes)) = arrived(input) {
                session.copy_data(&input[5..5 + body_bytes])?;
                input.advance(5 + body_bytes);
            }
            Ok(())
        });
        if self.input.is_empty() && self.input.capacity() > 4 * limits::COPY_READ_BYTES {
            self.input = BytesMut::new();
        }
        match taken {
            Ok(()) => Ok(()),
            Err(error) => self.copy_failed(&error, simple),
        }
    }

    /// Streams COPY TO STDOUT; the command tag.
    async fn copy_out(&mut self) -> Result<String> {
        loop {
            let (session, output) = (&mut self.session, &mut self.output);
            let tag = self.hooks.run(false, || {
                session.copy_out(&mut |line: &[u8]| {
                    backend::message(output, b'd', |out| out.extend_from_slice(line));
                    output.len() < limits::OUTPUT_FLUSH_BYTES
                })
            })?;
            if let Some(tag) = tag {
                backend::copy_done(&mut self.output);
                self.await_commit().await?;
                return Ok(tag);
            }
            self.flush_rows().await?;
        }
    }

    /// Commits an implicit transaction and awaits it.
    async fn end_group(&mut self) -> Result<()> {
        let quick = self.session.commit_is_quick();
        let session = &mut self.session;
        self.hooks.run(quick, || session.end_statement_group())?;
        self.await_commit().await
    }

    /// Awaits the durability of a commit that the client is about to hear of.
    async fn await_commit(&mut self) -> Result<()> {
        let Some(lsn) = self.session.take_commit_lsn() else { return Ok(()) };
        let durable = self.session.context().server.store.wait_durable(lsn);
        let interrupt = &self.hooks.interrupt;
        let _running = client_gone::running(self.hooks.watched.as_ref());
        tokio::select! {
            biased;
            durable = durable => durable,
            // Cancels and timeouts come too late: the commit has happened, only its durability is open.
            () = async {
                while !interrupt.ends_session() {
                    self.interrupted.notified().await;
                }
            } => Err(SqlError::new(
                SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
                "the session was ended before its commit was known to be durable",
            )),
        }
    }

    fn complete(&mut self, tag: &str) {
        self.tell_notices();
        backend::command_complete(&mut self.output, tag);
    }

    fn tell_notices(&mut self) {
        for notice in self.session.take_notices() {
            backend::notice(&mut self.output, notice.severity, &notice.fields);
        }
    }

    /// Tells the client of an error. Those after which the session cannot go on end it.
    fn tell_error(&mut self, error: &SqlError) -> Result<(), End> {
        self.tell_notices();
        match error.state() {
            _ if self.hooks.interrupt.reason() == Some(InterruptReason::ClientGone) => Err(End::Closed),
            SqlState::ADMIN_SHUTDOWN | SqlState::TRANSACTION_RESOLUTION_UNKNOWN => Err(End::Fatal(error.clone())),
            _ => {
                backend::error(&mut self.output, Severity::Error, error);
                Ok(())
            }
        }
    }

    /// Tells the client that it may go on.
    fn ready(&mut self) {
        self.tell_notices();
        let context = self.session.context();
        let changed = {
            let mut settings = context.settings.lock();
            if settings.has_changed_reports() { settings.take_changed_reports() } else { Vec::new() }
        };
        let status = self.session.transaction_status();
        context.activity.now.lock().state = match status {
            TransactionStatus::Idle => ActivityState::Idle,
            TransactionStatus::InTransaction => ActivityState::IdleInTransaction,
            TransactionStatus::Failed => ActivityState::IdleInTransactionAborted,
        };
        for (name, value) in changed {
            backend::parameter_status(&mut self.output, name, &value);
        }
        backend::ready_for_query(&mut self.output, status);
    }

    fn begin_activity(&mut self, query: &str) {
        self.forget_late_cancel();
        self.session.context().begin_activity(query);
    }

    /// A cancel or a timeout meant for the statement before must not hit this one.
    fn forget_late_cancel(&self) {
        self.hooks.interrupt.clear();
    }

    fn begin_portal_activity(&mut self, portal: &str) {
        self.forget_late_cancel();
        self.session.context().begin_activity(self.session.portal_text(portal));
    }

    /// Raises the statement timeout, if one is set, unless dropped before.
    fn statement_timer(&self) -> Option<StatementTimer> {
        let context = self.session.context();
        let limit_ms = context.settings.lock().typed().statement_timeout_ms;
        (limit_ms > 0).then(|| {
            let interrupt = context.interrupt.clone();
            StatementTimer(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(limit_ms)).await;
                interrupt.raise(InterruptReason::StatementTimeout);
            }))
        })
    }

    async fn flush(&mut self) -> Result<(), End> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.output.clear();
            if self.output.capacity() > 4 * limits::OUTPUT_FLUSH_BYTES {
                self.output = Vec::new();
            }
        }
        Ok(())
    }

    /// Writes result rows out. A client that has gone ends the statement; the next read ends the session.
    async fn flush_rows(&mut self) -> Result<()> {
        let interrupt = self.session.context().interrupt.clone();
        tokio::select! {
            flushed = self.flush() => flushed.map_err(|_| {
                SqlError::new(SqlState::CONNECTION_FAILURE, "connection to client lost")
            }),
            () = async {
                // A client that does not read must not hold its snapshot against a shutdown.
                while !interrupt.ends_session() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            } => Err(shutdown_error()),
        }
    }
}

/// What stands at the beginning of the input.
enum Arrived {
    /// A frame: its type and the length of its body.
    Whole(u8, usize),
    /// The beginning of one, or nothing.
    Part { missing_bytes: usize },
}

fn arrived(input: &[u8]) -> Result<Arrived, End> {
    let Some((&[message_type, ref length @ ..], rest)) = input.split_first_chunk::<5>() else {
        return Ok(Arrived::Part { missing_bytes: 5 - input.len() });
    };
    let length = i32::from_be_bytes(*length);
    let longest = frontend::longest_body_bytes(message_type, true);
    let body_bytes = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
    match body_bytes.filter(|bytes| *bytes <= longest) {
        None => Err(End::Fatal(bad_length(message_type, length, longest))),
        Some(bytes) if rest.len() >= bytes => Ok(Arrived::Whole(message_type, bytes)),
        Some(bytes) => Ok(Arrived::Part { missing_bytes: bytes - rest.len() }),
    }
}

struct StatementTimer(tokio::task::JoinHandle<()>);

impl Drop for StatementTimer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Hooks {
    /// Runs on this thread, telling the runtime first when it may take long. Until it is done, interrupts end its
    /// waits, and the client is watched.
    fn run<T>(&self, quick: bool, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let _running = client_gone::running(self.watched.as_ref());
        let work = || {
            let _scope = interruptible(&self.interrupt);
            guarded(work)
        };
        if quick { work() } else { tokio::task::block_in_place(work) }
    }
}

/// A panic costs its statement, not the server: the session rolls back and answers XX000.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown");
        tracing::error!(reason, "a statement panicked");
        Err(SqlError::internal(format!("statement failed on a broken invariant: {reason}"))
            .with_hint("This is a defect of the server. The transaction has been rolled back."))
    })
}

fn violation(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, message)
}

fn shutdown_error() -> SqlError {
    SqlError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

fn malformed_error(malformed: &Malformed) -> SqlError {
    match malformed {
        Malformed::NotUtf8(_) => SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, malformed.to_string()),
        _ => violation(malformed.to_string()),
    }
}

fn bad_length(message_type: u8, length: i32, longest: usize) -> SqlError {
    let known = b"QPBDECdpfFcHSX".contains(&message_type);
    if !known {
        return violation(Malformed::UnknownType(message_type).to_string());
    }
    if usize::try_from(length).is_ok_and(|length| length > longest) {
        return SqlError::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            format!("message of {length} bytes exceeds the limit of {longest} bytes"),
        );
    }
    violation("invalid message length")
}
