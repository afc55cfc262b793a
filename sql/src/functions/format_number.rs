//! `to_char` of numbers, and `to_number`.

use super::ScalarFunction;
use super::define::{float8, int8, numeric, scalar, string};
use super::format_datetime::ordinal_ending;
use crate::error::{Result, SqlError, SqlState};
use crate::types::{DataType as T, Datum, Numeric};

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("to_char", &[T::INT4, T::TEXT], T::TEXT, |_, args| to_char(&Numeric::from(int8(&args[0])?), &args[1]))
        .stable(),
    scalar("to_char", &[T::INT8, T::TEXT], T::TEXT, |_, args| to_char(&Numeric::from(int8(&args[0])?), &args[1]))
        .stable(),
    scalar("to_char", &[T::NUMERIC, T::TEXT], T::TEXT, |_, args| to_char(numeric(&args[0])?, &args[1])).stable(),
    scalar("to_char", &[T::FLOAT4, T::TEXT], T::TEXT, |_, args| {
        to_char(&Numeric::from_f32(float8(&args[0])? as f32), &args[1])
    })
    .stable(),
    scalar("to_char", &[T::FLOAT8, T::TEXT], T::TEXT, |_, args| {
        to_char(&Numeric::from_f64(float8(&args[0])?), &args[1])
    })
    .stable(),
    scalar("to_number", &[T::TEXT, T::TEXT], T::NUMERIC, |_, args| {
        to_number(string(&args[0])?, &Template::read(string(&args[1])?)?).map(Datum::Numeric)
    })
    .stable(),
];

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    /// 9, or 0 when true.
    Digit(bool),
    Point,
    /// A group separator.
    Comma,
    Sign,
    Minus,
    Plus,
    SignAt,
    Bracket,
    Currency,
    /// TH; true: upper case.
    Ordinal(bool),
    Literal(char),
}

#[derive(Default)]
struct Template {
    pieces: Vec<Piece>,
    /// Digits before and after the point.
    integer: usize,
    fraction: usize,
    /// Position among the integer digits of the first 0.
    first_zero: Option<usize>,
    /// Fraction digits up to the last 0.
    last_zero: usize,
    fill: bool,
    roman: Option<bool>,
    exponent: bool,
    /// Digits after V: the number is multiplied by that power of ten.
    multiplied: usize,
    point: bool,
}

fn syntax(message: &str) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, message)
}

impl Template {
    fn read(text: &str) -> Result<Self> {
        let mut template = Template { fill: true, ..Self::default() };
        let (mut rest, mut shifted) = (text, false);
        while let Some(first) = rest.chars().next() {
            let starts = |word: &str| rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
            let (piece, length) = match first {
                '"' => {
                    let end = rest[1..].find('"').map_or(rest.len(), |at| at + 2);
                    let inside = &rest[1..end.saturating_sub(1).max(1)];
                    template.pieces.extend(inside.chars().map(Piece::Literal));
                    rest = &rest[end..];
                    continue;
                }
                '9' | '0' => (Some(Piece::Digit(first == '0')), 1),
                '.' | 'D' | 'd' => (Some(Piece::Point), 1),
                ',' | 'G' | 'g' => (Some(Piece::Comma), 1),
                _ if starts("EEEE") => {
                    template.exponent = true;
                    (None, 4)
                }
                _ if starts("FM") => {
                    template.fill = false;
                    (None, 2)
                }
                _ if starts("MI") => (Some(Piece::Minus), 2),
                _ if starts("PL") => (Some(Piece::Plus), 2),
                _ if starts("PR") => (Some(Piece::Bracket), 2),
                _ if starts("SG") => (Some(Piece::SignAt), 2),
                'B' | 'b' => (None, 1),
                _ if starts("RN") => {
                    template.roman = Some(first == 'R');
                    (None, 2)
                }
                _ if starts("TH") => (Some(Piece::Ordinal(first == 'T')), 2),
                'S' | 's' => (Some(Piece::Sign), 1),
                'L' | 'l' => (Some(Piece::Currency), 1),
                'V' | 'v' => {
                    shifted = true;
                    (None, 1)
                }
                other => (Some(Piece::Literal(other)), other.len_utf8()),
            };
            match &piece {
                Some(Piece::Digit(zero)) if template.point => {
                    template.fraction += 1;
                    if *zero {
                        template.last_zero = template.fraction;
                    }
                }
                Some(Piece::Digit(zero)) => {
                    if *zero && template.first_zero.is_none() {
                        template.first_zero = Some(template.integer);
                    }
                    template.integer += 1;
                    template.multiplied += usize::from(shifted);
                }
                Some(Piece::Point) if template.point => return Err(syntax("multiple decimal points")),
                Some(Piece::Point) => template.point = true,
                _ => {}
            }
            template.pieces.extend(piece);
            rest = &rest[length..];
        }
        Ok(template)
    }

    fn has(&self, piece: &Piece) -> bool {
        self.pieces.contains(piece)
    }
}

fn to_char(value: &Numeric, format: &Datum) -> Result<Datum> {
    let template = Template::read(string(format)?)?;
    if let Some(upper) = template.roman {
        return roman(value, upper, template.fill).map(Datum::text);
    }
    if template.exponent {
        return exponent(value, &template);
    }
    let negative = value.signum() < 0 && !value.is_nan();
    let scaled = match template.multiplied {
        0 => value.clone(),
        digits => value.mul(&Numeric::new(10i128.pow(digits.min(30) as u32), 0))?,
    };
    let rounded = scaled.abs().round(template.fraction as i32);
    let shown = rounded.to_string();
    let (integer, fraction) = shown.split_once('.').unwrap_or((&shown, ""));
    let integer = integer.trim_start_matches('0');
    if value.is_nan() && template.pieces.iter().any(|piece| matches!(piece, Piece::Ordinal(_))) {
        return Err(SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, "\"NaN\" is not a number"));
    }
    // A zero before the point takes a place too.
    let overflow = integer.len().max(1) > template.integer;
    // What rounds to zero has no sign.
    Ok(Datum::text(print(&template, integer, fraction, negative && !rounded.is_zero(), overflow)))
}

/// The state of printing along the pieces.
struct Printer<'a> {
    out: String,
    negative: bool,
    /// Whether a sign is still to be put before the first digit.
    sign_pending: Option<&'a str>,
    started: bool,
}

impl Printer<'_> {
    fn start(&mut self) {
        if !self.started {
            self.started = true;
            if let Some(sign) = self.sign_pending.take() {
                self.out.push_str(sign);
            }
        }
    }
}

fn print(template: &Template, integer: &str, fraction: &str, negative: bool, overflow: bool) -> String {
    let sign_at = template.pieces.iter().position(|piece| *piece == Piece::Sign);
    let first_digit = template.pieces.iter().position(|piece| matches!(piece, Piece::Digit(_) | Piece::Point));
    let leading_sign = sign_at.is_some() && sign_at < first_digit;
    let bracket = template.has(&Piece::Bracket);
    let own_sign = [Piece::Minus, Piece::SignAt].iter().any(|piece| template.has(piece));
    let sign_pending = match (negative, template.fill) {
        _ if leading_sign => Some(if negative { "-" } else { "+" }),
        _ if sign_at.is_some() => None,
        (true, _) if bracket => Some("<"),
        (false, true) if bracket => Some(" "),
        _ if bracket || own_sign => None,
        (true, _) => Some("-"),
        (false, true) => Some(" "),
        (false, false) => None,
    };
    let mut printer = Printer { out: String::new(), negative, sign_pending, started: false };
    let leading = template.integer.saturating_sub(integer.len());
    let (mut position, mut place, mut after_point) = (0, 0, false);
    // In fill mode off, zeros at the end of the fraction go unless a 0 asks for them.
    let finite = !integer.starts_with(|c: char| c.is_ascii_alphabetic());
    let kept = match template.fill || overflow {
        _ if !finite && !overflow => 0,
        true => template.fraction,
        false => fraction.trim_end_matches('0').len().max(template.last_zero),
    };
    for piece in &template.pieces {
        match piece {
            Piece::Digit(_) if after_point => {
                if place < kept {
                    let digit = if overflow { "#" } else { fraction.get(place..place + 1).unwrap_or("0") };
                    printer.out.push_str(digit);
                }
                place += 1;
            }
            Piece::Digit(_) => {
                let zero = template.first_zero.is_some_and(|first| first <= position);
                if overflow {
                    printer.start();
                    printer.out.push('#');
                } else if position >= leading {
                    printer.start();
                    printer.out.push_str(&integer[position - leading..position - leading + 1]);
                } else if zero
                    || position + 1 == template.integer && (template.fraction == 0 || !template.fill && kept == 0)
                {
                    printer.start();
                    printer.out.push('0');
                } else if template.fill {
                    printer.out.push(' ');
                }
                position += 1;
            }
            Piece::Point => {
                printer.start();
                after_point = true;
                if finite || overflow {
                    printer.out.push('.');
                }
            }
            Piece::Comma => {
                let inside = printer.started;
                match (inside, template.fill) {
                    (true, _) => printer.out.push(','),
                    (false, true) => printer.out.push(' '),
                    (false, false) => {}
                }
            }
            Piece::Sign if leading_sign => {}
            Piece::Sign | Piece::SignAt => printer.out.push(if printer.negative { '-' } else { '+' }),
            Piece::Minus => match (negative, template.fill) {
                (true, _) => printer.out.push('-'),
                (false, true) => printer.out.push(' '),
                _ => {}
            },
            Piece::Plus => match (negative, template.fill) {
                (false, _) => printer.out.push('+'),
                (true, true) => printer.out.push(' '),
                _ => {}
            },
            Piece::Bracket => match (negative, template.fill) {
                (true, _) => printer.out.push('>'),
                (false, true) => printer.out.push(' '),
                _ => {}
            },
            Piece::Currency => printer.out.push(' '),
            Piece::Ordinal(upper) => {
                if !negative && !overflow && !template.point {
                    let ending = ordinal_ending(if integer.is_empty() { "0" } else { integer });
                    printer.out.push_str(&if *upper { ending.to_ascii_uppercase() } else { ending.to_owned() });
                }
            }
            Piece::Literal(character) => printer.out.push(*character),
        }
    }
    printer.out
}

fn roman(value: &Numeric, upper: bool, fill: bool) -> Result<String> {
    const DIGITS: [(&str, i64); 13] = [
        ("M", 1_000),
        ("CM", 900),
        ("D", 500),
        ("CD", 400),
        ("C", 100),
        ("XC", 90),
        ("L", 50),
        ("XL", 40),
        ("X", 10),
        ("IX", 9),
        ("V", 5),
        ("IV", 4),
        ("I", 1),
    ];
    if !value.is_finite() {
        let what = if value.is_nan() { "NaN" } else { "infinity" };
        return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, format!("cannot convert {what} to integer")));
    }
    let Some(mut rest) = value.to_i64().filter(|value| (1..=3_999).contains(value)) else { return Ok("#".repeat(15)) };
    let mut out = String::new();
    for (digit, worth) in DIGITS {
        while rest >= worth {
            out.push_str(digit);
            rest -= worth;
        }
    }
    let out = if upper { out } else { out.to_ascii_lowercase() };
    Ok(if fill { format!("{out:>15}") } else { out })
}

fn exponent(value: &Numeric, template: &Template) -> Result<Datum> {
    if !value.is_finite() {
        let (integer, fraction) = ("#".repeat(template.integer), "#".repeat(template.fraction + 4));
        return Ok(Datum::text(format!(" {integer}.{fraction}")));
    }
    let scientific = |value: &Numeric| value.leading_exponent().unwrap_or(0);
    let shift = |value: &Numeric, power: i32| -> Result<Numeric> {
        let places = template.fraction as i32;
        let factor = Numeric::parse(&format!("1e{}", power.abs()))?;
        Ok(if power > 0 { value.div(&factor)?.round(places) } else { value.mul(&factor)?.round(places) })
    };
    let mut power = scientific(value);
    let mut mantissa = shift(&value.abs(), power)?;
    if scientific(&mantissa) > 0 {
        power += 1;
        mantissa = shift(&value.abs(), power)?;
    }
    let power_sign = if power < 0 { '-' } else { '+' };
    let sign = match (value.signum() < 0, template.fill) {
        (true, _) => "-",
        (false, true) => " ",
        (false, false) => "",
    };
    Ok(Datum::text(format!("{sign}{mantissa}e{power_sign}{:02}", power.abs())))
}

/// Reads the digits, sign and point of a text where the template has theirs.
fn to_number(text: &str, template: &Template) -> Result<Numeric> {
    let (mut negative, mut digits, mut point, mut wanted) = (false, String::new(), false, 0);
    let places = template.integer + template.fraction;
    let trimmed = text.trim();
    for (index, character) in trimmed.char_indices() {
        match character {
            '-' if digits.is_empty() || index + 1 == trimmed.len() => negative = true,
            '<' => negative = true,
            '0'..='9' if wanted < places => {
                digits.push(character);
                wanted += 1;
            }
            '0'..='9' => break,
            '.' if template.point && !point => {
                digits.push('.');
                point = true;
            }
            _ => {}
        }
    }
    if !digits.bytes().any(|byte| byte.is_ascii_digit()) {
        let message = "invalid input syntax for type numeric: \" \"";
        return Err(SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message));
    }
    let value = Numeric::parse(digits.trim_end_matches('.'))?;
    let value = if negative { value.neg() } else { value };
    match template.multiplied {
        0 => Ok(value),
        shifted => value.div(&Numeric::new(10i128.pow(shifted.min(30) as u32), 0)),
    }
}
