//! The total order of values, as PostgreSQL's default btree operator classes have it, and hashing to match.
//!
//! NULL comes after every value (NULLS LAST); NaN after every number. Text compares by bytes, that is in the
//! C collation. char(n) compares without trailing blanks, interval by its length with months of 30 days.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use super::{Array, Datum, Interval, Numeric, json};

impl Interval {
    /// Length in microseconds, a month being 30 days and a day 24 hours: what comparisons go by.
    pub fn span_us(&self) -> i128 {
        const DAY_US: i128 = 86_400_000_000;
        i128::from(self.months) * 30 * DAY_US + i128::from(self.days) * DAY_US + i128::from(self.microseconds)
    }
}

impl Datum {
    /// Compares two values of one type. Integers of different widths, and numbers of different types, compare
    /// by value; other mixtures by representation, which is stable but means nothing.
    pub fn compare(&self, other: &Self) -> Ordering {
        use Datum::*;
        match (self, other) {
            (Int4(a), Int4(b)) => a.cmp(b),
            (Int8(a), Int8(b)) => a.cmp(b),
            (Text(a), Text(b)) | (Json(a), Json(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Null, Null) => Ordering::Equal,
            (Null, _) => Ordering::Greater,
            (_, Null) => Ordering::Less,
            (Bool(a), Bool(b)) => a.cmp(b),
            (Int2(a), Int2(b)) => a.cmp(b),
            (Float4(a), Float4(b)) => compare_floats(f64::from(*a), f64::from(*b)),
            (Float8(a), Float8(b)) => compare_floats(*a, *b),
            (Numeric(a), Numeric(b)) => a.cmp(b),
            (Bpchar(a), Bpchar(b)) => without_blanks(a).cmp(without_blanks(b)),
            (Bytea(a), Bytea(b)) => a.cmp(b),
            (Date(a), Date(b)) => a.cmp(b),
            (Time(a), Time(b)) | (Timestamp(a), Timestamp(b)) | (Timestamptz(a), Timestamptz(b)) => a.cmp(b),
            (Interval(a), Interval(b)) => a.span_us().cmp(&b.span_us()),
            (Uuid(a), Uuid(b)) => a.cmp(b),
            (Jsonb(a), Jsonb(b)) => json::compare(a, b),
            (Oid(a), Oid(b)) => a.cmp(b),
            (PgLsn(a), PgLsn(b)) => a.cmp(b),
            (Array(a), Array(b)) => compare_arrays(a, b),
            (Record(a), Record(b)) => compare_lists(a, b),
            _ => self.compare_mixed(other),
        }
    }

    #[cold]
    fn compare_mixed(&self, other: &Self) -> Ordering {
        if let (Some(a), Some(b)) = (self.as_i64(), other.as_i64()) {
            return a.cmp(&b);
        }
        match (self, other) {
            (Datum::Float4(_) | Datum::Float8(_), _) | (_, Datum::Float4(_) | Datum::Float8(_)) => {
                if let (Some(a), Some(b)) = (self.as_f64(), other.as_f64()) {
                    return compare_floats(a, b);
                }
            }
            _ => {
                if let (Some(a), Some(b)) = (self.as_numeric(), other.as_numeric()) {
                    return a.cmp(&b);
                }
            }
        }
        if let (Datum::Bpchar(a) | Datum::Text(a), Datum::Bpchar(b) | Datum::Text(b)) = (self, other) {
            return without_blanks(a).cmp(without_blanks(b));
        }
        self.rank().cmp(&other.rank())
    }

    fn rank(&self) -> u8 {
        use Datum::*;
        match self {
            Bool(_) => 1,
            Int2(_) | Int4(_) | Int8(_) | Oid(_) => 2,
            Float4(_) | Float8(_) => 3,
            Numeric(_) => 4,
            Text(_) | Bpchar(_) => 5,
            Bytea(_) => 6,
            Date(_) => 7,
            Time(_) => 8,
            Timestamp(_) => 9,
            Timestamptz(_) => 10,
            Interval(_) => 11,
            Uuid(_) => 12,
            Json(_) => 13,
            Jsonb(_) => 14,
            PgLsn(_) => 15,
            Array(_) => 16,
            Record(_) => 17,
            Null => 18,
        }
    }

    /// The value of an integer (or OID) of any width.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Datum::Int2(value) => Some((*value).into()),
            Datum::Int4(value) => Some((*value).into()),
            Datum::Int8(value) => Some(*value),
            Datum::Oid(value) => Some((*value).into()),
            _ => None,
        }
    }

    /// The value of any number, as the nearest double.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Datum::Float4(value) => Some((*value).into()),
            Datum::Float8(value) => Some(*value),
            Datum::Numeric(value) => Some(value.to_f64()),
            _ => self.as_i64().map(|value| value as f64),
        }
    }

    /// The value of an integer or numeric.
    pub fn as_numeric(&self) -> Option<Numeric> {
        match self {
            Datum::Numeric(value) => Some(value.clone()),
            _ => self.as_i64().map(Numeric::from),
        }
    }

    /// The characters of any string type.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Datum::Text(text) | Datum::Bpchar(text) | Datum::Json(text) => Some(text),
            _ => None,
        }
    }

    /// Rough bytes held beyond the value itself, for memory limits.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Datum::Text(text) | Datum::Bpchar(text) | Datum::Json(text) => text.len() + 16,
            Datum::Bytea(bytes) => bytes.len() + 32,
            Datum::Interval(_) | Datum::Uuid(_) => 32,
            Datum::Jsonb(value) => json::heap_bytes(value),
            Datum::Array(array) => {
                64 + array.elements.iter().map(|item| size_of::<Datum>() + item.heap_bytes()).sum::<usize>()
            }
            Datum::Record(items) => 16 + items.iter().map(|item| size_of::<Datum>() + item.heap_bytes()).sum::<usize>(),
            _ => 0,
        }
    }
}

/// The bytes of a char(n) that count in comparisons.
pub fn without_blanks(text: &str) -> &[u8] {
    text.trim_end_matches(' ').as_bytes()
}

/// NaN equals itself and is the greatest; -0 equals 0.
pub fn compare_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

fn compare_lists(a: &[Datum], b: &[Datum]) -> Ordering {
    let difference = a.iter().zip(b).map(|(a, b)| a.compare(b)).find(|order| order.is_ne());
    difference.unwrap_or_else(|| a.len().cmp(&b.len()))
}

fn compare_arrays(a: &Array, b: &Array) -> Ordering {
    compare_lists(&a.elements, &b.elements)
        .then_with(|| a.dimensions.len().cmp(&b.dimensions.len()))
        .then_with(|| a.dimensions.cmp(&b.dimensions))
}

impl PartialEq for Datum {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other).is_eq()
    }
}

impl Eq for Datum {}

impl PartialOrd for Datum {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Datum {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compare(other)
    }
}

/// Equal values of one type (or of integer types) hash alike.
impl Hash for Datum {
    fn hash<H: Hasher>(&self, state: &mut H) {
        use Datum::*;
        match self {
            Null => state.write_u8(0),
            Bool(value) => state.write_u8(1 + u8::from(*value)),
            Int2(value) => state.write_i64((*value).into()),
            Int4(value) => state.write_i64((*value).into()),
            Int8(value) => state.write_i64(*value),
            Oid(value) => state.write_i64((*value).into()),
            Float4(value) => hash_float((*value).into(), state),
            Float8(value) => hash_float(*value, state),
            Numeric(value) => value.hash(state),
            Text(value) | Json(value) => state.write(value.as_bytes()),
            Bpchar(value) => state.write(without_blanks(value)),
            Bytea(value) => state.write(value),
            Date(value) => state.write_i64((*value).into()),
            Time(value) | Timestamp(value) | Timestamptz(value) => state.write_i64(*value),
            Interval(value) => state.write_i128(value.span_us()),
            Uuid(value) => state.write(value.as_slice()),
            Jsonb(value) => json::hash(value, state),
            PgLsn(value) => state.write_u64(*value),
            Array(value) => value.elements.hash(state),
            Record(value) => value.hash(state),
        }
    }
}

fn hash_float<H: Hasher>(value: f64, state: &mut H) {
    let value = if value.is_nan() { f64::NAN.abs() } else { value + 0.0 };
    state.write_u64(value.to_bits());
}
