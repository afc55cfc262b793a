//! Date and time input cut into tokens.

/// A token of a date, time or timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Digits alone.
    Number(String),
    /// Digits, point, digits.
    Decimal(String),
    /// Digits with colons, and a fraction.
    Time(String),
    /// Parts joined by `-`, `/` or `.`; lower case.
    Date(Vec<String>),
    /// Letters, lower case; zone names with their digits and punctuation.
    Word(String),
    /// A sign and what follows: a zone offset (digits and colons) or a signed word.
    Signed(char, String),
}

/// Cuts the text; `None` when a character belongs to no token.
pub(super) fn tokenize(text: &str) -> Option<Vec<Token>> {
    if !text.is_ascii() {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let mut rest = lower.as_str();
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c', ',']);
        let Some(first) = rest.chars().next() else { return Some(tokens) };
        let (token, length) = match first {
            '0'..='9' => number(rest)?,
            'a'..='z' => word(rest),
            '+' | '-' => {
                let after = rest[1..].trim_start_matches(' ');
                let skipped = rest.len() - after.len();
                let taken = match after.chars().next()? {
                    '0'..='9' => span(after, |c| c.is_ascii_digit() || c == ':'),
                    'a'..='z' => span(after, |c| c.is_ascii_lowercase()),
                    _ => return None,
                };
                (Token::Signed(first, after[..taken].to_owned()), skipped + taken)
            }
            _ => return None,
        };
        tokens.push(token);
        rest = &rest[length..];
    }
}

fn span(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

fn word(text: &str) -> (Token, usize) {
    let letters = span(text, |c| c.is_ascii_lowercase());
    // A month name may begin a date: jan-08-1999.
    if let Some(separator @ '-') = text[letters..].chars().next()
        && text[letters + 1..].starts_with(|c: char| c.is_ascii_digit())
        && super::parse::month_of(&text[..letters]).is_some()
    {
        let length = span(text, |c| c.is_ascii_alphanumeric() || c == separator);
        return (Token::Date(text[..length].split(separator).map(str::to_owned).collect()), length);
    }
    let length = match text[letters..].starts_with(['/', '_']) {
        // Zone names: america/new_york, etc/gmt+5.
        true => span(text, |c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+')),
        false => letters,
    };
    let length = if text[length..].starts_with('.') { length + 1 } else { length };
    (Token::Word(text[..length].trim_end_matches('.').to_owned()), length)
}

fn number(text: &str) -> Option<(Token, usize)> {
    let digits = span(text, |c| c.is_ascii_digit());
    let mut after = text[digits..].chars();
    match (after.next(), after.next()) {
        (Some(':'), _) => {
            let length = span(text, |c| c.is_ascii_digit() || matches!(c, ':' | '.'));
            Some((Token::Time(text[..length].to_owned()), length))
        }
        (Some(separator @ ('-' | '/' | '.')), Some(next)) if next.is_ascii_alphanumeric() => {
            let letters_allowed = separator != '.';
            let belongs = |c: char| c.is_ascii_digit() || c == separator || letters_allowed && c.is_ascii_lowercase();
            let mut length = span(text, belongs);
            // 1999-01-08t04:05 : the letter belongs to the time.
            if let Some(at) = text[..length].rfind('t')
                && text[at + 1..].starts_with(|c: char| c.is_ascii_digit())
                && text[..at].ends_with(|c: char| c.is_ascii_digit())
            {
                length = at;
            }
            let mut parts: Vec<String> = text[..length].split(separator).map(str::to_owned).collect();
            // A zone glued to a date: 1999-01-08z.
            if let Some(last) = parts.last_mut() {
                let digits = span(last, |c| c.is_ascii_digit());
                if digits > 0 && digits < last.len() {
                    length -= last.len() - digits;
                    last.truncate(digits);
                }
            }
            if separator == '.' && parts.len() == 2 {
                return Some((Token::Decimal(text[..length].to_owned()), length));
            }
            Some((Token::Date(parts), length))
        }
        (Some('.'), _) => Some((Token::Decimal(text[..=digits].to_owned()), digits + 1)),
        _ => Some((Token::Number(text[..digits].to_owned()), digits)),
    }
}
