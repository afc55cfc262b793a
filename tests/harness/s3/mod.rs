//! An S3 server of our own, in memory, that misbehaves on request: errors, resets, lost answers, torn bodies, slowness,
//! LIST that lags behind, and conditions that are not honoured.
//!
//! It speaks what `object_store` needs: objects, ranges, conditional PUT, multipart uploads, LIST and bulk deletion, in
//! path style, without looking at signatures. Used by the tests of several crates.

#![allow(dead_code)]

mod contents;
mod http;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub use contents::Honesty;
use contents::{Contents, serve};
pub use http::Request;
use http::{Answer, read_request, write_answer};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Done and answered.
    None,
    /// Not done; answered with this status (500, 503, 429 and so on).
    Status(u16),
    /// Not done; the connection is reset.
    Reset,
    /// Done; the connection is reset before the answer.
    AnswerLost,
    /// Done; half of the answer's body is sent, then the connection is reset.
    Torn,
    /// Done and answered after this long.
    Slow(Duration),
    /// Not done, and never answered; the connection stays open.
    Hang,
    /// Done; half of the answer's body is sent, and nothing more, with the connection open.
    Stall,
}

type Decide = dyn Fn(u64, &Request) -> Fault + Send + Sync;

struct Shared {
    contents: Contents,
    decide: Box<Decide>,
    requests: AtomicU64,
}

/// A running server; ends when dropped.
pub struct S3Server {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl S3Server {
    /// `decide` is given the number of the request, counted from zero, and the request.
    pub async fn start(honesty: Honesty, decide: impl Fn(u64, &Request) -> Fault + Send + Sync + 'static) -> S3Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let contents = Contents::new(honesty);
        let shared = Arc::new(Shared { contents, decide: Box::new(decide), requests: AtomicU64::new(0) });
        let serving = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, serving.clone()));
            }
        });
        S3Server { address, shared, accepting }
    }

    /// Never misbehaves.
    pub async fn honest() -> S3Server {
        S3Server::start(Honesty::Honest, |_, _| Fault::None).await
    }

    /// For `S3Options::endpoint` and `--store-endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// LIST answers what there was so many changes ago.
    pub fn let_lists_lag(&self, changes: usize) {
        self.shared.contents.let_lists_lag(changes);
    }

    /// Keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        self.shared.contents.keys()
    }

    /// Flips a bit of a stored object.
    pub fn flip_bit(&self, key: &str, bit: usize) {
        self.shared.contents.flip_bit(key, bit);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Makes the kernel send a reset instead of an orderly end.
fn reset(stream: TcpStream) {
    // What cannot be reset is closed, which is a fault as well.
    let _ = stream.set_zero_linger();
    drop(stream);
}

async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    // Head and body go in two writes: without this the second waits for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let mut unread = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut unread).await {
        let number = shared.requests.fetch_add(1, Ordering::Relaxed);
        let fault = (shared.decide)(number, &request);
        match fault {
            Fault::Status(status) => {
                if write_answer(&mut stream, &request, &Answer::error(status, "InjectedFault"), false).await.is_err() {
                    return;
                }
                continue;
            }
            Fault::Reset => return reset(stream),
            Fault::Hang => return std::future::pending().await,
            Fault::Slow(wait) => tokio::time::sleep(wait).await,
            Fault::None | Fault::AnswerLost | Fault::Torn | Fault::Stall => {}
        }
        let answer = serve(&shared.contents, &request).await;
        if fault == Fault::AnswerLost {
            return reset(stream);
        }
        let torn = matches!(fault, Fault::Torn | Fault::Stall);
        let written = write_answer(&mut stream, &request, &answer, torn).await;
        if written.is_ok() && fault == Fault::Stall {
            return std::future::pending().await;
        }
        if written.is_err() || torn {
            return reset(stream);
        }
    }
}
