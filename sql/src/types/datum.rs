//! [`Datum`]: one SQL value in memory.

use std::sync::Arc;

use bytes::Bytes;

use super::DataType;
use super::numeric::Numeric;

/// A value. Which [`DataType`] it has is known from the plan; the variant tells its representation.
#[derive(Clone, Debug, Default)]
pub enum Datum {
    /// SQL NULL, of any type.
    #[default]
    Null,
    /// bool
    Bool(bool),
    /// int2
    Int2(i16),
    /// int4
    Int4(i32),
    /// int8
    Int8(i64),
    /// float4
    Float4(f32),
    /// float8
    Float8(f64),
    /// numeric, exact, of any precision and scale
    Numeric(Numeric),
    /// text, varchar, name, "char", unknown
    Text(Arc<str>),
    /// char(n), blank-padded as stored; compares without its trailing blanks
    Bpchar(Arc<str>),
    /// bytea
    Bytea(Bytes),
    /// date: days since 2000-01-01; `i32::MIN` and `i32::MAX` are the infinities
    Date(i32),
    /// time: microseconds since midnight
    Time(i64),
    /// timestamp: microseconds since 2000-01-01; `i64::MIN` and `i64::MAX` are the infinities
    Timestamp(i64),
    /// timestamptz: microseconds since 2000-01-01 00:00 UTC; infinities as timestamp
    Timestamptz(i64),
    /// interval
    Interval(Arc<Interval>),
    /// uuid
    Uuid(Arc<[u8; 16]>),
    /// json: the text as given
    Json(Arc<str>),
    /// jsonb: keys sorted and unique as Postgres keeps them
    Jsonb(Arc<serde_json::Value>),
    /// oid, regclass, regtype, regproc, xid …
    Oid(u32),
    /// pg_lsn
    PgLsn(u64),
    /// an array
    Array(Arc<Array>),
    /// an anonymous composite
    Record(Arc<[Datum]>),
}

/// interval: months, days and microseconds apart, as Postgres keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub microseconds: i64,
}

/// An array of any dimension, row-major.
#[derive(Clone, Debug)]
pub struct Array {
    /// Type of the elements.
    pub element: DataType,
    /// Length and lower bound of each dimension; empty for the empty array.
    pub dimensions: Vec<(u32, i32)>,
    /// The elements.
    pub elements: Vec<Datum>,
}

/// A row of values.
pub type Row = Vec<Datum>;

impl Datum {
    /// A text value.
    pub fn text(text: impl AsRef<str>) -> Self {
        Datum::Text(Arc::from(text.as_ref()))
    }

    /// Whether it is SQL NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// The type that a value of this representation has when nothing else is known of it.
    pub fn natural_type(&self) -> DataType {
        match self {
            Datum::Null => DataType::UNKNOWN,
            Datum::Bool(_) => DataType::BOOL,
            Datum::Int2(_) => DataType::INT2,
            Datum::Int4(_) => DataType::INT4,
            Datum::Int8(_) => DataType::INT8,
            Datum::Float4(_) => DataType::FLOAT4,
            Datum::Float8(_) => DataType::FLOAT8,
            Datum::Numeric(_) => DataType::NUMERIC,
            Datum::Text(_) => DataType::TEXT,
            Datum::Bpchar(_) => DataType::BPCHAR,
            Datum::Bytea(_) => DataType::BYTEA,
            Datum::Date(_) => DataType::DATE,
            Datum::Time(_) => DataType::TIME,
            Datum::Timestamp(_) => DataType::TIMESTAMP,
            Datum::Timestamptz(_) => DataType::TIMESTAMPTZ,
            Datum::Interval(_) => DataType::INTERVAL,
            Datum::Uuid(_) => DataType::UUID,
            Datum::Json(_) => DataType::JSON,
            Datum::Jsonb(_) => DataType::JSONB,
            Datum::Oid(_) => DataType::OID,
            Datum::PgLsn(_) => DataType::PG_LSN,
            Datum::Array(array) => array.element.to_array(),
            Datum::Record(_) => DataType::RECORD,
        }
    }
}

impl Array {
    /// A one-dimensional array, subscripts from 1.
    pub fn one_dimensional(element: DataType, elements: Vec<Datum>) -> Self {
        let dimensions = if elements.is_empty() { Vec::new() } else { vec![(elements.len() as u32, 1)] };
        Self { element, dimensions, elements }
    }
}
