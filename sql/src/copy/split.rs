//! Lines out of a byte stream, and fields out of a line.

use std::borrow::Cow;

use memchr::{memchr2, memchr3};

use super::{CopyFormat, CopyOptions, MAX_LINE_BYTES};
use crate::error::{Result, SqlError, SqlState};

/// How lines end; the first line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    Newline,
    CarriageReturn,
    Both,
}

/// Bytes that are not yet whole lines.
pub(super) struct Lines {
    pending: Vec<u8>,
    /// Where the first unread line begins in `pending`.
    start: usize,
    /// Up to here the unread line has been looked at.
    scanned: usize,
    /// csv: the place reached lies inside quotes.
    quoted: bool,
    /// The byte before was an unescaped backslash (text) or, inside quotes, an escape (csv).
    escaped: bool,
    end: Option<LineEnd>,
    format: CopyFormat,
    quote: u8,
    escape: u8,
}

pub(super) fn bad_format(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

impl Lines {
    pub(super) fn new(options: &CopyOptions) -> Self {
        Self {
            pending: Vec::new(),
            start: 0,
            scanned: 0,
            quoted: false,
            escaped: false,
            end: None,
            format: options.format,
            quote: options.quote,
            escape: options.escape,
        }
    }

    /// Adds bytes behind those that wait.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.start > 0 {
            self.pending.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        if self.pending.len() + bytes.len() > MAX_LINE_BYTES {
            let message = format!("a line of COPY data is longer than {MAX_LINE_BYTES} bytes");
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole line, as a range of [`Lines::bytes`], without its end. With `last`, what is left counts
    /// as a line.
    pub(super) fn next(&mut self, last: bool) -> Result<Option<std::ops::Range<usize>>> {
        let found = if self.format == CopyFormat::Csv { self.find_csv_end()? } else { self.find_text_end(last)? };
        let (line, next) = match found {
            Some((end, length)) => (self.start..end, end + length),
            None if !last || self.start == self.pending.len() => return Ok(None),
            None if self.quoted => return Err(bad_format("unterminated CSV quoted field")),
            None => {
                let mut end = self.pending.len();
                // A carriage return could have been half of an end.
                if self.end == Some(LineEnd::Both) && self.pending[self.start..].ends_with(b"\r") {
                    end -= 1;
                }
                (self.start..end, self.pending.len())
            }
        };
        self.start = next;
        self.scanned = next;
        self.escaped = false;
        Ok(Some(line))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.pending
    }

    /// Where the line ends and how long its end is.
    fn find_text_end(&mut self, last: bool) -> Result<Option<(usize, usize)>> {
        while self.scanned < self.pending.len() {
            let rest = &self.pending[self.scanned..];
            if self.escaped {
                self.escaped = false;
                self.scanned += 1;
                continue;
            }
            let Some(skip) = memchr3(b'\n', b'\r', b'\\', rest) else {
                self.scanned = self.pending.len();
                break;
            };
            let at = self.scanned + skip;
            match self.pending[at] {
                b'\\' => {
                    self.escaped = true;
                    self.scanned = at + 1;
                }
                b'\n' if self.end == Some(LineEnd::CarriageReturn) => {
                    return Err(
                        bad_format("literal newline found in data").with_hint("Use \"\\n\" to represent newline.")
                    );
                }
                b'\n' if self.end == Some(LineEnd::Both) => {
                    return Err(
                        bad_format("literal newline found in data").with_hint("Use \"\\n\" to represent newline.")
                    );
                }
                b'\n' => {
                    self.end = Some(LineEnd::Newline);
                    return Ok(Some((at, 1)));
                }
                _ => match self.carriage_return(at, last)? {
                    Some(length) => return Ok(Some((at, length))),
                    None => {
                        self.scanned = at;
                        return Ok(None);
                    }
                },
            }
        }
        Ok(None)
    }

    /// Length of the line end that begins with the carriage return at `at`; `None`: more bytes are needed.
    fn carriage_return(&mut self, at: usize, last: bool) -> Result<Option<usize>> {
        let literal = || {
            bad_format("literal carriage return found in data").with_hint("Use \"\\r\" to represent carriage return.")
        };
        let followed = match self.pending.get(at + 1) {
            Some(next) => *next == b'\n',
            None if last => false,
            None => return Ok(None),
        };
        match (self.end, followed) {
            (Some(LineEnd::Newline), _) => Err(literal()),
            (Some(LineEnd::Both), false) if !last => Err(literal()),
            (Some(LineEnd::CarriageReturn), _) | (None, false) => {
                self.end = Some(LineEnd::CarriageReturn);
                Ok(Some(1))
            }
            (_, true) => {
                self.end = Some(LineEnd::Both);
                Ok(Some(2))
            }
            (_, false) => Ok(Some(1)),
        }
    }

    fn find_csv_end(&mut self) -> Result<Option<(usize, usize)>> {
        while self.scanned < self.pending.len() {
            let rest = &self.pending[self.scanned..];
            // The bytes that matter, and after an escape whichever comes.
            let skip = match (self.quoted, self.escaped) {
                (true, true) => Some(0),
                (true, false) => memchr2(self.quote, self.escape, rest),
                (false, _) => memchr2(self.quote, b'\n', rest),
            };
            let Some(skip) = skip else {
                self.scanned = self.pending.len();
                break;
            };
            let at = self.scanned + skip;
            let byte = self.pending[at];
            self.scanned = at + 1;
            if self.quoted {
                if self.escaped {
                    // Whatever stands behind an escape, a quote included, is data.
                    self.escaped = false;
                    if byte == self.quote || byte == self.escape {
                        continue;
                    }
                }
                if byte == self.escape && self.escape != self.quote {
                    self.escaped = true;
                } else if byte == self.quote {
                    // A doubled quote closes and opens again: the same for finding the end.
                    self.quoted = false;
                }
            } else if byte == self.quote {
                self.quoted = true;
            } else if byte == b'\n' {
                let carriage = at > self.start && self.pending[at - 1] == b'\r';
                self.end.get_or_insert(if carriage { LineEnd::Both } else { LineEnd::Newline });
                return Ok(Some(if carriage { (at - 1, 2) } else { (at, 1) }));
            }
        }
        Ok(None)
    }
}

/// A field: where it stands among the unescaped bytes, or NULL.
pub(super) type Field<'a> = Option<Cow<'a, [u8]>>;

/// Fields of a line in text format.
pub(super) fn split_text<'a>(line: &'a [u8], options: &CopyOptions, fields: &mut Vec<Field<'a>>) {
    fields.clear();
    let mut start = 0;
    let mut escaped = false;
    let mut at = 0;
    let mut finish = |raw: &'a [u8], escaped: bool| {
        // NULL is recognised before escapes are resolved.
        fields.push(if raw == options.null.as_bytes() {
            None
        } else if escaped {
            Some(Cow::Owned(unescape(raw)))
        } else {
            Some(Cow::Borrowed(raw))
        });
    };
    while let Some(skip) = line.get(at..).and_then(|rest| memchr2(b'\\', options.delimiter, rest)) {
        at += skip;
        if line[at] == b'\\' {
            // Whatever follows it is data.
            escaped = true;
            at += 2;
            continue;
        }
        finish(&line[start..at], escaped);
        at += 1;
        start = at;
        escaped = false;
    }
    finish(&line[start..], escaped);
}

/// Resolves backslash sequences.
fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some(escape) = bytes.next() else {
            out.push(b'\\');
            break;
        };
        match escape {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0C),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(0x0B),
            b'0'..=b'7' => {
                let mut value = u32::from(escape - b'0');
                for _ in 0..2 {
                    let Some(digit) = bytes.next_if(|byte| matches!(byte, b'0'..=b'7')) else { break };
                    value = value * 8 + u32::from(digit - b'0');
                }
                out.push(value as u8);
            }
            b'x' if bytes.peek().is_some_and(u8::is_ascii_hexdigit) => {
                let mut value = 0;
                for _ in 0..2 {
                    let Some(digit) = bytes.next_if(u8::is_ascii_hexdigit) else { break };
                    value = value * 16 + char::from(digit).to_digit(16).unwrap_or(0);
                }
                out.push(value as u8);
            }
            other => out.push(other),
        }
    }
    out
}

/// Fields of a line in csv format. Also tells of each whether it was quoted.
pub(super) fn split_csv<'a>(
    line: &'a [u8],
    options: &CopyOptions,
    fields: &mut Vec<Field<'a>>,
    was_quoted: &mut Vec<bool>,
) -> Result<()> {
    fields.clear();
    was_quoted.clear();
    let mut at = 0;
    loop {
        let start = at;
        let plain = memchr2(options.delimiter, options.quote, &line[at..]);
        let stop = plain.map_or(line.len(), |skip| at + skip);
        if stop == line.len() || line[stop] == options.delimiter {
            fields.push(Some(Cow::Borrowed(&line[start..stop])));
            was_quoted.push(false);
            if stop == line.len() {
                return Ok(());
            }
            at = stop + 1;
            continue;
        }
        let mut value = line[start..stop].to_vec();
        at = stop;
        let mut inside = false;
        loop {
            let Some(&byte) = line.get(at) else {
                if inside {
                    return Err(bad_format("unterminated CSV quoted field"));
                }
                fields.push(Some(Cow::Owned(value)));
                was_quoted.push(true);
                return Ok(());
            };
            at += 1;
            if !inside {
                if byte == options.delimiter {
                    break;
                }
                if byte == options.quote {
                    inside = true;
                } else {
                    value.push(byte);
                }
                continue;
            }
            let next = line.get(at).copied();
            if byte == options.escape && next.is_some_and(|next| next == options.quote || next == options.escape) {
                value.extend(next);
                at += 1;
            } else if byte == options.quote {
                inside = false;
            } else {
                value.push(byte);
            }
        }
        fields.push(Some(Cow::Owned(value)));
        was_quoted.push(true);
    }
}
