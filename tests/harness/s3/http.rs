//! As much of HTTP/1.1 as an S3 client speaks: requests with a length, answers with a length, connections kept alive.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A whole request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Decoded, with the bucket before the first slash.
    pub path: String,
    /// Decoded.
    pub query: HashMap<String, String>,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Bytes,
}

/// An answer to be sent.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Answer {
    pub fn new(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Bytes::new() }
    }

    pub fn error(status: u16, code: &str) -> Answer {
        Answer::new(status).xml(&format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"))
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(self, body: Bytes) -> Answer {
        Answer { body, ..self }
    }

    pub fn xml(self, text: &str) -> Answer {
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}");
        self.header("Content-Type", "application/xml").body(Bytes::from(text))
    }
}

/// `%2F` and the like made characters again.
fn decode(text: &str) -> String {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).expect("keys are text")
}

/// The next request of a connection; none when it has ended. `unread` holds what came behind the request before.
pub async fn read_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Request> {
    let head_end = loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(unread).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(unread[..head_end].to_vec()).ok()?;
    unread.drain(..head_end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?);
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a number"));
    assert!(!headers.contains_key("transfer-encoding"), "bodies come with their length");
    while unread.len() < length {
        if stream.read_buf(unread).await.ok()? == 0 {
            return None;
        }
    }
    let body = Bytes::from(unread.drain(..length).collect::<Vec<_>>());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    Some(Request { method, path: decode(path.trim_start_matches('/')), query, headers, body })
}

/// Sends an answer; half of its body when `torn`.
pub async fn write_answer(
    stream: &mut TcpStream,
    request: &Request,
    answer: &Answer,
    torn: bool,
) -> std::io::Result<()> {
    use std::fmt::Write;
    let mut head = format!("HTTP/1.1 {} -\r\n", answer.status);
    for (name, value) in &answer.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "Content-Length: {}\r\n\r\n", answer.body.len());
    stream.write_all(head.as_bytes()).await?;
    if request.method != "HEAD" {
        let sent = if torn { answer.body.len() / 2 } else { answer.body.len() };
        stream.write_all(&answer.body[..sent]).await?;
    }
    stream.flush().await
}
