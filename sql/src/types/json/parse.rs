//! Reading JSON text: one recursive descent for json (which only validates) and jsonb (which builds).

use serde_json::Value;

use super::{MAX_DEPTH, number, object};
use crate::error::{Result, SqlError, SqlState};
use crate::types::Numeric;

/// Checks that the text is one JSON document.
pub fn validate(text: &str) -> Result<()> {
    Parser { text, at: 0, kind: "json" }.document::<false>().map(drop)
}

/// Reads a document as jsonb keeps it.
pub fn parse_jsonb(text: &str) -> Result<Value> {
    Parser { text, at: 0, kind: "json" }.document::<true>()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    kind: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Punctuation(u8),
    String,
    Number,
    True,
    False,
    Null,
    End,
}

#[derive(Clone, Copy)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

impl Parser<'_> {
    fn document<const BUILD: bool>(&mut self) -> Result<Value> {
        let token = self.next()?;
        let value = self.value::<BUILD>(token, 0)?;
        let rest = self.next()?;
        match rest.kind {
            Kind::End => Ok(value),
            _ => Err(self.unexpected("end of input", rest)),
        }
    }

    fn value<const BUILD: bool>(&mut self, token: Token, depth: usize) -> Result<Value> {
        if depth > MAX_DEPTH {
            let error = SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded");
            return Err(error.with_detail(format!("JSON documents may be nested {MAX_DEPTH} levels deep.")));
        }
        let text = &self.text[token.start..token.end];
        match token.kind {
            Kind::True => Ok(Value::Bool(true)),
            Kind::False => Ok(Value::Bool(false)),
            Kind::Null => Ok(Value::Null),
            Kind::Number if BUILD => Ok(number(&Numeric::parse(text)?)),
            Kind::Number => Ok(Value::Null),
            Kind::String if BUILD => self.unescape(token).map(Value::String),
            Kind::String => Ok(Value::Null),
            Kind::Punctuation(b'[') => self.array::<BUILD>(depth),
            Kind::Punctuation(b'{') => self.object::<BUILD>(depth),
            _ => Err(self.unexpected("JSON value", token)),
        }
    }

    fn array<const BUILD: bool>(&mut self, depth: usize) -> Result<Value> {
        let mut items = Vec::new();
        let mut token = self.next()?;
        if token.kind == Kind::Punctuation(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            let item = self.value::<BUILD>(token, depth + 1)?;
            if BUILD {
                items.push(item);
            }
            token = self.next()?;
            match token.kind {
                Kind::Punctuation(b']') => return Ok(Value::Array(items)),
                Kind::Punctuation(b',') => token = self.next()?,
                _ => return Err(self.unexpected("\",\" or \"]\"", token)),
            }
        }
    }

    fn object<const BUILD: bool>(&mut self, depth: usize) -> Result<Value> {
        let mut pairs = Vec::new();
        let mut token = self.next()?;
        if token.kind == Kind::Punctuation(b'}') {
            return Ok(object(pairs));
        }
        let mut expected = "string or \"}\"";
        loop {
            if token.kind != Kind::String {
                return Err(self.unexpected(expected, token));
            }
            expected = "string";
            let key = if BUILD { self.unescape(token)? } else { String::new() };
            token = self.next()?;
            if token.kind != Kind::Punctuation(b':') {
                return Err(self.unexpected("\":\"", token));
            }
            token = self.next()?;
            let item = self.value::<BUILD>(token, depth + 1)?;
            if BUILD {
                pairs.push((key, item));
            }
            token = self.next()?;
            match token.kind {
                Kind::Punctuation(b'}') => return Ok(object(pairs)),
                Kind::Punctuation(b',') => token = self.next()?,
                _ => return Err(self.unexpected("\",\" or \"}\"", token)),
            }
        }
    }

    fn next(&mut self) -> Result<Token> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        let start = self.at;
        let Some(&first) = bytes.get(start) else { return Ok(Token { kind: Kind::End, start, end: start }) };
        let kind = match first {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => {
                self.at += 1;
                Kind::Punctuation(first)
            }
            b'"' => {
                self.string()?;
                Kind::String
            }
            b'-' | b'0'..=b'9' => {
                self.at = word_end(bytes, start, true);
                if !is_number(&bytes[start..self.at]) {
                    return Err(self.invalid_token(start));
                }
                Kind::Number
            }
            _ => {
                self.at = word_end(bytes, start, false);
                match &self.text[start..self.at] {
                    "true" => Kind::True,
                    "false" => Kind::False,
                    "null" => Kind::Null,
                    _ => return Err(self.invalid_token(start)),
                }
            }
        };
        Ok(Token { kind, start, end: self.at })
    }

    /// Steps over a string literal, checking its escapes.
    fn string(&mut self) -> Result<()> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut at = start + 1;
        loop {
            match bytes.get(at) {
                None => return Err(self.invalid_token_to(start, bytes.len())),
                Some(b'"') => break,
                Some(&byte) if byte < 0x20 => {
                    let detail = format!("Character with value 0x{byte:02x} must be escaped.");
                    return Err(self.error(detail, at));
                }
                Some(b'\\') => match bytes.get(at + 1) {
                    None => return Err(self.invalid_token_to(start, bytes.len())),
                    Some(b'u') => {
                        let digits = bytes.get(at + 2..at + 6);
                        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                            let hex = |byte: &&u8| byte.is_ascii_hexdigit();
                            let seen = bytes[at + 2..].iter().take(4).take_while(hex).count();
                            let detail = "\"\\u\" must be followed by four hexadecimal digits.";
                            return Err(self.error(detail.into(), at + 2 + seen + 1));
                        }
                        at += 6;
                    }
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                    Some(_) => {
                        let escaped = self.text[at + 1..].chars().next().unwrap_or(' ');
                        let detail = format!("Escape sequence \"\\{escaped}\" is invalid.");
                        return Err(self.error(detail, at + 1 + escaped.len_utf8()));
                    }
                },
                Some(_) => at += 1,
            }
        }
        self.at = at + 1;
        Ok(())
    }

    /// The characters of a string literal that [`Parser::string`] has checked.
    fn unescape(&self, token: Token) -> Result<String> {
        let mut rest = &self.text[token.start + 1..token.end - 1];
        let mut out = String::with_capacity(rest.len());
        while let Some(at) = rest.find('\\') {
            out.push_str(&rest[..at]);
            let escaped = rest.as_bytes()[at + 1];
            rest = &rest[at + 2..];
            out.push(match escaped {
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => {
                    let (character, used) = self.unicode_escape(rest, token)?;
                    rest = &rest[used..];
                    character
                }
                other => other.into(),
            });
        }
        out.push_str(rest);
        Ok(out)
    }

    fn unicode_escape(&self, rest: &str, token: Token) -> Result<(char, usize)> {
        let unit = |text: &str| text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let first = unit(rest).unwrap_or(0);
        if first == 0 {
            let error = SqlError::new(SqlState::UNTRANSLATABLE_CHARACTER, "unsupported Unicode escape sequence");
            let error = error.with_detail("\\u0000 cannot be converted to text.");
            return Err(error.with_context(self.context(token.end)));
        }
        match first {
            0xD800..0xDC00 => {
                let second =
                    rest[4..].strip_prefix("\\u").and_then(unit).filter(|unit| (0xDC00..0xE000).contains(unit));
                let Some(second) = second else {
                    let detail = "Unicode low surrogate must follow a high surrogate.";
                    return Err(self.error(detail.into(), token.end));
                };
                let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                Ok((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 10))
            }
            0xDC00..0xE000 => {
                let detail = "Unicode low surrogate must follow a high surrogate.";
                Err(self.error(detail.into(), token.end))
            }
            code => Ok((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 4)),
        }
    }

    #[cold]
    fn invalid_token(&self, start: usize) -> SqlError {
        self.invalid_token_to(start, self.at)
    }

    #[cold]
    fn invalid_token_to(&self, start: usize, end: usize) -> SqlError {
        self.error(format!("Token \"{}\" is invalid.", &self.text[start..end]), end)
    }

    #[cold]
    fn unexpected(&self, expected: &str, found: Token) -> SqlError {
        if found.kind == Kind::End {
            return self.error("The input string ended unexpectedly.".into(), found.end);
        }
        let found_text = &self.text[found.start..found.end];
        self.error(format!("Expected {expected}, but found \"{found_text}\"."), found.end)
    }

    #[cold]
    fn error(&self, detail: String, end: usize) -> SqlError {
        let message = format!("invalid input syntax for type {}", self.kind);
        let error = SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message).with_detail(detail);
        error.with_context(self.context(end))
    }

    /// Postgres shows the line up to the error, at most 50 bytes of it.
    fn context(&self, end: usize) -> String {
        let mut end = end.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        let before = &self.text[..end];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let mut start = line_start.max(end.saturating_sub(50));
        while !self.text.is_char_boundary(start) {
            start += 1;
        }
        let head = if start > line_start { "..." } else { "" };
        let tail = if self.text[end..].is_empty() || self.text[end..].starts_with(['\n', '\r']) { "" } else { "..." };
        format!("JSON data, line {line}: {head}{}{tail}", &self.text[start..end])
    }
}

fn word_end(bytes: &[u8], start: usize, number: bool) -> usize {
    let belongs = |byte: &u8| {
        byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80 || number && matches!(byte, b'-' | b'+' | b'.')
    };
    let length = bytes[start..].iter().take_while(|byte| belongs(byte)).count();
    start + length.max(1)
}

fn is_number(token: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = token.strip_prefix(b"-").unwrap_or(token);
    let integer = digits(rest);
    if integer == 0 || integer > 1 && rest[0] == b'0' {
        return false;
    }
    rest = &rest[integer..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or(rest.strip_prefix(b"E")) {
        let exponent = exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
        let count = digits(exponent);
        return count > 0 && count == exponent.len();
    }
    rest.is_empty()
}
