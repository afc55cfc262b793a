//! The protocol by hand, for what no driver would send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::Program;

/// A raw protocol connection.
pub struct Raw(pub TcpStream);

impl Raw {
    /// Connected, nothing said.
    pub fn open(program: &Program) -> Raw {
        let stream = TcpStream::connect(program.address).expect("the port is open");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        Raw(stream)
    }

    /// Past start-up, at ReadyForQuery.
    pub fn ready(program: &Program) -> Raw {
        let mut raw = Raw::open(program);
        raw.send(&startup(196_608, b"user\0postgres\0database\0postgres\0\0"));
        raw.read_until(b'Z');
        raw
    }

    /// Bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        // The server may have hung up on what came before.
        let _ = self.0.write_all(bytes);
    }

    /// A message.
    pub fn message(&mut self, message_type: u8, body: &[u8]) {
        let mut frame = vec![message_type];
        frame.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        frame.extend_from_slice(body);
        self.send(&frame);
    }

    /// The next message; none when the server has closed.
    pub fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        self.0.read_exact(&mut body).ok()?;
        Some((head[0], body))
    }

    /// The body of the next message of a type.
    pub fn read_until(&mut self, message_type: u8) -> Vec<u8> {
        loop {
            let (found, body) = self.read().expect("the server goes on");
            if found == message_type {
                return body;
            }
        }
    }

    /// SQLSTATE of the next error.
    pub fn error(&mut self) -> String {
        let body = self.read_until(b'E');
        let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&b'C')).expect("a SQLSTATE");
        String::from_utf8(field[1..].to_vec()).expect("ASCII")
    }
}

/// A start-up packet of a protocol version.
pub fn startup(version: u32, parameters: &[u8]) -> Vec<u8> {
    let mut packet = (parameters.len() as u32 + 8).to_be_bytes().to_vec();
    packet.extend_from_slice(&version.to_be_bytes());
    packet.extend_from_slice(parameters);
    packet
}
