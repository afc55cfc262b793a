//! Simple statements that differ only in their literals share a plan: literals are turned into parameters.
//!
//! Only statements where that cannot change the meaning are touched: integers and plain strings of SELECT,
//! INSERT, UPDATE and DELETE, and none with words after which a literal is more than a value (ORDER BY 1,
//! INTERVAL '1 day', numeric(10, 2) …). Everything else is planned as it is written.

/// A literal taken out of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// An integer that fits `integer`.
    Int4(i32),
    /// An integer that fits only `bigint`.
    Int8(i64),
    /// A string, its quotes undone.
    Text(String),
}

/// A statement with `$1`, `$2` … in place of its literals.
#[derive(Debug, PartialEq, Eq)]
pub struct Normalized {
    /// The statement; the types of integers are part of it, as a comment at its end.
    pub text: String,
    /// What was taken out, in order.
    pub literals: Vec<Literal>,
}

/// Longest statement that is worth a look, bytes.
const MAX_BYTES: usize = 2_000;

/// After these words a literal is not just a value, or the statement is too rich to bother.
const UNFIT_WORDS: &[&str] = &[
    "order",
    "group",
    "interval",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "cast",
    "fetch",
    "over",
    "with",
    "union",
    "intersect",
    "except",
    "numeric",
    "decimal",
    "varchar",
    "char",
    "character",
    "bit",
    "type",
    "into",
    "extract",
    "like",
    "ilike",
    "similar",
    "having",
    "window",
    "values",
    "returning",
    "distinct",
    "escape",
    "collate",
    "array",
    "create",
    "explain",
    "copy",
    "prepare",
    "execute",
    "declare",
    "for",
    "on",
    "conflict",
    "from_json",
    "nextval",
];

/// Takes the literals out of one statement; `None` when it is better left alone.
pub fn normalize(statement: &str) -> Option<Normalized> {
    let statement = statement.trim_end().trim_end_matches(';').trim();
    if statement.len() > MAX_BYTES {
        return None;
    }
    let bytes = statement.as_bytes();
    let first = statement.split(|character: char| !character.is_ascii_alphabetic()).next()?;
    let verb = ["select", "insert", "update", "delete", "begin", "commit", "end", "rollback"]
        .iter()
        .find(|verb| first.eq_ignore_ascii_case(verb))?;
    // INSERT INTO … VALUES is wanted, though INTO and VALUES are unfit elsewhere.
    let fits = |word: &str| {
        let unfit = UNFIT_WORDS.iter().any(|unfit| word.eq_ignore_ascii_case(unfit));
        !unfit || *verb == "insert" && (word.eq_ignore_ascii_case("into") || word.eq_ignore_ascii_case("values"))
    };
    let mut text = String::with_capacity(statement.len() + 16);
    let mut literals = Vec::new();
    let mut wide = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let end = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => {
                let end = end_of(bytes, at, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80);
                // E'…', U&'…', B'…' and the like are no plain strings.
                if !fits(&statement[at..end]) || matches!(bytes.get(end), Some(b'\'' | b'&')) {
                    return None;
                }
                text.push_str(&statement[at..end]);
                end
            }
            b'0'..=b'9' => {
                let end = end_of(bytes, at, |byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_');
                let number: i64 = statement[at..end].parse().ok()?;
                literals.push(match i32::try_from(number) {
                    Ok(number) => Literal::Int4(number),
                    Err(_) => {
                        wide.push_str(&format!(" {}", literals.len() + 1));
                        Literal::Int8(number)
                    }
                });
                push_parameter(&mut text, literals.len());
                end
            }
            b'\'' => {
                let (value, end) = string(statement, at)?;
                literals.push(Literal::Text(value));
                push_parameter(&mut text, literals.len());
                end
            }
            // Quoted names, parameters, dollar quotes, casts, several statements: left alone.
            b'"' | b'$' | b':' | b';' | b'[' | b'\\' | b'{' => return None,
            b'-' if bytes.get(at + 1) == Some(&b'-') => return None,
            b'/' if bytes.get(at + 1) == Some(&b'*') => return None,
            b'.' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => return None,
            _ => {
                text.push(char::from(byte));
                at + 1
            }
        };
        at = end;
    }
    if !wide.is_empty() {
        text.push_str(" /* bigint:");
        text.push_str(&wide);
        text.push_str(" */");
    }
    Some(Normalized { text, literals })
}

fn push_parameter(text: &mut String, number: usize) {
    use std::fmt::Write;
    write!(text, "${number}").expect("writing to a String cannot fail");
}

fn end_of(bytes: &[u8], start: usize, belongs: impl Fn(u8) -> bool) -> usize {
    bytes[start..].iter().position(|byte| !belongs(*byte)).map_or(bytes.len(), |length| start + length)
}

/// The string that begins at `start`, and where it ends. Strings that go on after a newline are left alone.
fn string(statement: &str, start: usize) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut rest = &statement[start + 1..];
    loop {
        let quote = rest.find('\'')?;
        value.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Some((value, statement.len() - rest.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Literal, normalize};

    #[test]
    fn literals_become_parameters() {
        let cases = [
            ("SELECT a FROM t WHERE b = 5;", "SELECT a FROM t WHERE b = $1", vec![Literal::Int4(5)]),
            (
                "UPDATE t SET a = a + -12 WHERE b = 'it''s'",
                "UPDATE t SET a = a + -$1 WHERE b = $2",
                vec![Literal::Int4(12), Literal::Text("it's".to_owned())],
            ),
            (
                "INSERT INTO t VALUES (3000000000, 1)",
                "INSERT INTO t VALUES ($1, $2) /* bigint: 1 */",
                vec![Literal::Int8(3_000_000_000), Literal::Int4(1)],
            ),
            ("SELECT t1.a FROM t1", "SELECT t1.a FROM t1", vec![]),
            ("BEGIN;", "BEGIN", vec![]),
        ];
        for (statement, text, literals) in cases {
            let normalized = normalize(statement).unwrap_or_else(|| panic!("{statement} is left alone"));
            assert_eq!((normalized.text.as_str(), normalized.literals), (text, literals), "{statement}");
        }
    }

    #[test]
    fn what_is_more_than_a_value_is_left_alone() {
        for statement in [
            "SELECT a FROM t ORDER BY 1",
            "SELECT interval '1 day'",
            "SELECT '5'::int",
            "SELECT 1.5",
            "SELECT 1e5",
            "SELECT E'a\\n'",
            "SELECT \"a\" FROM t",
            "SELECT 1 -- comment",
            "SELECT 1; SELECT 2",
            "SELECT $1",
            "CREATE TABLE t (a varchar(5))",
            "SELECT 'open",
            "SELECT 99999999999999999999",
            "INSERT INTO t VALUES (1) RETURNING a",
        ] {
            assert_eq!(normalize(statement), None, "{statement}");
        }
    }
}
