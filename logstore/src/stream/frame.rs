//! Frames: `length u32 LE · CRC-32 u32 LE over kind and payload · kind u8 · payload`. The length counts kind and payload.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest payload: an append at its limit, or a snapshot, with room for its framing.
pub(super) const MAX_PAYLOAD_BYTES: usize = crate::grpc::MAX_MESSAGE_BYTES;
/// Before the sender is known.
pub(super) const MAX_HELLO_BYTES: usize = 16 << 10;
const HEADER_BYTES: usize = 8;
/// Read at a time, at least.
const READ_BYTES: usize = 64 << 10;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// `StreamHello`.
    Hello = 1,
    /// `StreamWelcome`.
    Welcome = 2,
    /// A message in raft-rs's own encoding.
    Raft = 3,
    /// `AppendRequest`.
    Append = 4,
    /// `AppendResponse`.
    Answer = 5,
    /// Nothing; asks for a [`Kind::Pong`].
    Ping = 6,
    /// Nothing.
    Pong = 7,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        [Kind::Hello, Kind::Welcome, Kind::Raft, Kind::Append, Kind::Answer, Kind::Ping, Kind::Pong]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

fn invalid(reason: impl Into<String>) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, reason.into())
}

/// Adds a frame, whose payload `write` adds, to `buffer`. Takes it back when it cannot be written or is too long.
pub(super) fn put_frame(buffer: &mut Vec<u8>, kind: Kind, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER_BYTES]);
    buffer.push(kind as u8);
    let body = start + HEADER_BYTES;
    if !write(buffer) || buffer.len() - body > MAX_PAYLOAD_BYTES {
        buffer.truncate(start);
        return false;
    }
    let length = u32::try_from(buffer.len() - body).expect("the limit lies far below 4 GiB");
    let crc = crc32fast::hash(&buffer[body..]);
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    buffer[start + 4..body].copy_from_slice(&crc.to_le_bytes());
    true
}

/// [`put_frame`] of a message.
pub(super) fn put_message(buffer: &mut Vec<u8>, kind: Kind, message: &impl Message) -> bool {
    buffer.reserve(HEADER_BYTES + 1 + message.encoded_len());
    put_frame(buffer, kind, |buffer| message.encode(buffer).is_ok())
}

/// A message in a frame's payload.
pub(super) fn decode<M: Message + Default>(payload: Bytes) -> std::io::Result<M> {
    M::decode(payload).map_err(|error| invalid(format!("a frame's message does not decode: {error}")))
}

/// Cuts what comes into frames.
pub(super) struct FrameReader<R> {
    from: R,
    buffer: BytesMut,
    limit_bytes: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Takes payloads of up to `limit_bytes`.
    pub(super) fn new(from: R, limit_bytes: usize) -> FrameReader<R> {
        FrameReader { from, buffer: BytesMut::new(), limit_bytes }
    }

    pub(super) fn set_limit(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
    }

    /// A frame that has arrived whole, without waiting.
    pub(super) fn buffered(&mut self) -> std::io::Result<Option<(Kind, Bytes)>> {
        if self.buffer.len() < HEADER_BYTES {
            return Ok(None);
        }
        let number = |at: usize| u32::from_le_bytes(self.buffer[at..at + 4].try_into().expect("four bytes"));
        let (length, crc) = (number(0) as usize, number(4));
        if length == 0 || length > self.limit_bytes + 1 {
            return Err(invalid(format!("a frame of {length} bytes")));
        }
        if self.buffer.len() < HEADER_BYTES + length {
            // Room grows with what comes, not with what is announced.
            return Ok(None);
        }
        let mut body = self.buffer.split_to(HEADER_BYTES + length).freeze();
        body.advance(HEADER_BYTES);
        if crc32fast::hash(&body) != crc {
            return Err(invalid("a frame's checksum does not match"));
        }
        let kind = Kind::of(body.get_u8()).ok_or_else(|| invalid("a frame of unknown kind"))?;
        Ok(Some((kind, body)))
    }

    /// Waits until more has come; false at the end of the stream. Nothing is lost when the wait is given up.
    pub(super) async fn fill(&mut self) -> std::io::Result<bool> {
        self.buffer.reserve(READ_BYTES.min(self.limit_bytes + HEADER_BYTES + 1));
        let count = self.from.read_buf(&mut self.buffer).await?;
        if count == 0 && !self.buffer.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count > 0)
    }

    /// The next frame; none at the end of the stream. Nothing is lost when the wait is given up.
    pub(super) async fn next(&mut self) -> std::io::Result<Option<(Kind, Bytes)>> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
        let mut buffer = b"before".to_vec();
        let put = put_frame(&mut buffer, kind, |buffer| {
            buffer.extend_from_slice(payload);
            true
        });
        assert!(put && buffer.starts_with(b"before"));
        buffer.split_off(6)
    }

    /// What a reader makes of bytes that come in pieces of `piece` bytes: frames, and how it ends.
    async fn read(bytes: &[u8], piece: usize, limit_bytes: usize) -> (Vec<(Kind, Bytes)>, Result<(), String>) {
        let (mut sender, receiver) = tokio::io::duplex(piece);
        let bytes = bytes.to_vec();
        let sending = tokio::spawn(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut sender, &bytes).await;
        });
        let mut reader = FrameReader::new(receiver, limit_bytes);
        let mut frames = Vec::new();
        let ended = loop {
            match reader.next().await {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.to_string()),
            }
        };
        drop(reader);
        sending.await.expect("sent");
        (frames, ended)
    }

    #[tokio::test]
    async fn frames_come_back_however_they_are_cut() {
        let payloads: [&[u8]; 4] = [b"", b"x", &[7; 300], &[9; 70_000]];
        let kinds = [Kind::Ping, Kind::Append, Kind::Raft, Kind::Answer];
        let bytes: Vec<u8> = kinds.iter().zip(payloads).flat_map(|(kind, payload)| frame(*kind, payload)).collect();
        for piece in [1, 2, 7, 64, 4096, 1 << 20] {
            let (frames, ended) = read(&bytes, piece, 70_000).await;
            let expected: Vec<_> = kinds.iter().zip(payloads).map(|(kind, it)| (*kind, Bytes::from(it))).collect();
            assert!(frames == expected && ended.is_ok(), "pieces of {piece}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn damage_is_told() {
        let good = frame(Kind::Append, b"some payload");
        for position in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[position] ^= 1 << bit;
                let (frames, ended) = read(&bad, 1 << 20, 100).await;
                assert!(frames.is_empty() && ended.is_err(), "bit {bit} of byte {position}: {frames:?}");
            }
        }
        for length in 1..good.len() {
            let (frames, ended) = read(&good[..length], 1 << 20, 100).await;
            assert!(frames.is_empty() && ended.is_err(), "cut after {length} bytes");
        }
        let (frames, ended) = read(&good, 1 << 20, 11).await;
        assert!(frames.is_empty() && ended.is_err(), "one byte too long");
        assert_eq!(read(&good, 1 << 20, 12).await.0.len(), 1);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing() {
        let mut buffer = b"before".to_vec();
        assert!(!put_frame(&mut buffer, Kind::Raft, |buffer| {
            buffer.push(1);
            false
        }));
        assert_eq!(buffer, b"before");
    }
}
