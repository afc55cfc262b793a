//! Messages of the client, protocol 3.0, decoded from one complete frame without copying.
//!
//! Every read is bounds-checked: a frame of any content gives a message or [`Malformed`], never a panic
//! and never an allocation larger than the frame. (The codec of the pgwire crate reads past a frame's
//! end, panics on short ones and replaces invalid UTF-8; hence this one.)

use crate::wire::limits;

/// What is wrong with a frame; the session ends with 08P01 (or 22021 for text that is not UTF-8).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The frame ends inside a field.
    #[error("insufficient data left in message")]
    Short,
    /// Bytes remain after the last field.
    #[error("invalid message format")]
    Trailing,
    /// A string has no terminating zero byte.
    #[error("invalid string in message")]
    Unterminated,
    /// A count or length that no valid message has.
    #[error("{0}")]
    Invalid(&'static str),
    /// An unknown message type.
    #[error("invalid frontend message type {0}")]
    UnknownType(u8),
    /// Text in another encoding than UTF-8; the first offending bytes.
    #[error("invalid byte sequence for encoding \"UTF8\": {0}")]
    NotUtf8(String),
}

/// A client's message. Text and values borrow from the frame.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Frontend<'a> {
    Query(&'a str),
    Parse {
        statement: &'a str,
        query: &'a str,
        parameter_types: Vec<u32>,
    },
    Bind(Bind<'a>),
    Describe {
        target: Target,
        name: &'a str,
    },
    Execute {
        portal: &'a str,
        max_rows: i32,
    },
    Close {
        target: Target,
        name: &'a str,
    },
    CopyData(&'a [u8]),
    CopyFail(&'a str),
    CopyDone,
    /// Password, SASLInitialResponse or SASLResponse: told apart by where the exchange is.
    Password(&'a [u8]),
    Flush,
    Sync,
    Terminate,
    FunctionCall,
}

/// A Bind message.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Bind<'a> {
    pub portal: &'a str,
    pub statement: &'a str,
    /// None: all text. One: for all. Else one a parameter.
    pub parameter_formats: Vec<Format>,
    pub parameters: Vec<Option<&'a [u8]>>,
    /// As `parameter_formats`, for result columns.
    pub result_formats: Vec<Format>,
}

/// Statement or portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Target {
    Statement,
    Portal,
}

pub use sql::session::Format;
use sql::table::MAX_ROW_BYTES;

/// Longest body that a message of this type may have, bytes; checked before its frame is buffered.
pub fn longest_body_bytes(message_type: u8, authenticated: bool) -> usize {
    match message_type {
        _ if !authenticated => limits::AUTHENTICATION_MESSAGE_BYTES,
        b'Q' | b'P' | b'B' | b'd' | b'F' => limits::LARGE_MESSAGE_BYTES,
        _ => limits::SMALL_MESSAGE_BYTES,
    }
}

/// The length of a value that is longer than any row may be, in a Bind message of which only the beginning has arrived:
/// it is refused by its announcement, before it takes memory. As text a `bytea` is twice as long as it is.
pub fn oversize_value(begun: &[u8]) -> Option<usize> {
    let mut fields = Fields { rest: begun };
    for _portal_and_statement in 0..2 {
        fields.text().ok()?;
    }
    let formats = fields.formats().ok()?;
    for number in 0..fields.count().ok()? {
        let Ok(length) = usize::try_from(fields.u32().ok()? as i32) else { continue };
        let format = formats.get(if formats.len() == 1 { 0 } else { number });
        let longest = if format == Some(&Format::Binary) { MAX_ROW_BYTES } else { 2 * MAX_ROW_BYTES + 2 };
        if length > longest {
            return Some(length);
        }
        fields.take(length).ok()?;
    }
    None
}

/// Decodes one frame: its type byte and its body (without the length).
pub fn decode(message_type: u8, body: &[u8]) -> Result<Frontend<'_>, Malformed> {
    let mut fields = Fields { rest: body };
    let message = match message_type {
        b'Q' => Frontend::Query(fields.text()?),
        b'P' => {
            let (statement, query) = (fields.text()?, fields.text()?);
            let count = fields.count()?;
            let parameter_types = (0..count).map(|_| fields.u32()).collect::<Result<_, _>>()?;
            Frontend::Parse { statement, query, parameter_types }
        }
        b'B' => {
            let (portal, statement) = (fields.text()?, fields.text()?);
            let parameter_formats = fields.formats()?;
            let count = fields.count()?;
            let parameters = (0..count).map(|_| fields.value()).collect::<Result<_, _>>()?;
            let result_formats = fields.formats()?;
            Frontend::Bind(Bind { portal, statement, parameter_formats, parameters, result_formats })
        }
        b'D' => Frontend::Describe { target: fields.target()?, name: fields.text()? },
        b'C' => Frontend::Close { target: fields.target()?, name: fields.text()? },
        b'E' => Frontend::Execute { portal: fields.text()?, max_rows: fields.u32()? as i32 },
        b'd' => return Ok(Frontend::CopyData(body)),
        b'p' => return Ok(Frontend::Password(body)),
        b'f' => Frontend::CopyFail(fields.text()?),
        b'F' => return Ok(Frontend::FunctionCall),
        b'c' => Frontend::CopyDone,
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'X' => Frontend::Terminate,
        unknown => return Err(Malformed::UnknownType(unknown)),
    };
    if fields.rest.is_empty() { Ok(message) } else { Err(Malformed::Trailing) }
}

/// Reads a frame's fields from the front.
pub struct Fields<'a> {
    /// What has not been read yet.
    pub rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(bytes).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(head)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*head))
    }

    /// A big-endian 32-bit number.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*head))
    }

    /// A zero-terminated string.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(Malformed::Unterminated)?;
        let text = self.take(end)?;
        self.take(1)?;
        utf8(text)
    }

    /// A number of elements, each at least two bytes long: no vector outgrows its frame.
    fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::from(self.u16()?);
        if count * 2 > self.rest.len() + 2 { Err(Malformed::Short) } else { Ok(count) }
    }

    fn formats(&mut self) -> Result<Vec<Format>, Malformed> {
        let count = self.count()?;
        (0..count)
            .map(|_| match self.u16()? {
                0 => Ok(Format::Text),
                1 => Ok(Format::Binary),
                _ => Err(Malformed::Invalid("unsupported format code")),
            })
            .collect()
    }

    fn value(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.u32()? as i32 {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| Malformed::Invalid("invalid parameter length"))?;
                self.take(length).map(Some)
            }
        }
    }

    fn target(&mut self) -> Result<Target, Malformed> {
        match self.take(1)? {
            b"S" => Ok(Target::Statement),
            b"P" => Ok(Target::Portal),
            _ => Err(Malformed::Invalid("invalid DESCRIBE or CLOSE message subtype")),
        }
    }
}

/// The bytes as text, or which bytes are not UTF-8, as Postgres words it.
pub fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|error| {
        let start = error.valid_up_to();
        let length = error.error_len().unwrap_or(bytes.len() - start).min(4);
        let shown: Vec<_> = bytes[start..start + length].iter().map(|byte| format!("0x{byte:02x}")).collect();
        Malformed::NotUtf8(shown.join(" "))
    })
}
