//! Type names of SQL text → [`DataType`].

use sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, DataType as Name, ExactNumberInfo, IntervalFields, ObjectName, TimezoneInfo,
};

use crate::error::{Result, SqlError, SqlState};
use crate::types::{BaseType, DataType};

/// Longest `n` of varchar(n) and char(n).
const MAX_CHARACTERS: u64 = 10_485_760;

/// The type that a name in a statement means.
pub fn resolve(name: &Name) -> Result<DataType> {
    use BaseType::*;
    let plain = |base| Ok(DataType::new(base));
    match name {
        Name::Bool | Name::Boolean => plain(Bool),
        Name::SmallInt(None) | Name::Int2(None) => plain(Int2),
        Name::Int(None) | Name::Integer(None) | Name::Int4(None) => plain(Int4),
        Name::BigInt(None) | Name::Int8(None) => plain(Int8),
        Name::Real | Name::Float4 => plain(Float4),
        Name::DoublePrecision | Name::Float8 | Name::Double(ExactNumberInfo::None) => plain(Float8),
        Name::Float(precision) => float(precision),
        Name::Numeric(info) | Name::Decimal(info) | Name::Dec(info) => numeric(info),
        Name::Text => plain(Text),
        Name::Bytea => plain(Bytea),
        Name::CharacterVarying(length) | Name::CharVarying(length) | Name::Varchar(length) => {
            characters(Varchar, "varchar", length.as_ref(), -1)
        }
        Name::Char(length) | Name::Character(length) => characters(Bpchar, "char", length.as_ref(), 5),
        Name::Date => plain(Date),
        Name::Time(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            Err(SqlError::unsupported("type time with time zone"))
        }
        Name::Time(precision, _) => with_precision(Time, "TIME", *precision),
        Name::Timestamp(precision, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            with_precision(Timestamptz, "TIMESTAMP", *precision)
        }
        Name::Timestamp(precision, _) => with_precision(Timestamp, "TIMESTAMP", *precision),
        Name::Interval { fields, precision } => interval(fields.as_ref(), *precision),
        Name::Uuid => plain(Uuid),
        Name::JSON => plain(Json),
        Name::JSONB => plain(Jsonb),
        Name::Regclass => plain(Regclass),
        Name::Array(
            ArrayElemTypeDef::SquareBracket(element, _)
            | ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::Parenthesis(element),
        ) => array(resolve(element)?),
        Name::Custom(name, modifiers) => custom(name, modifiers),
        other => Err(unknown(&other.to_string().to_lowercase())),
    }
}

fn unknown(name: &str) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"))
}

fn invalid(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// An array has the modifier of its elements; an array of arrays is the same type.
fn array(element: DataType) -> Result<DataType> {
    match element.base {
        BaseType::Void | BaseType::AnyArray => Err(unknown("array of a pseudo-type")),
        _ => Ok(DataType { array: true, ..element }),
    }
}

fn float(precision: &ExactNumberInfo) -> Result<DataType> {
    match precision {
        ExactNumberInfo::None | ExactNumberInfo::Precision(25..=53) => Ok(DataType::FLOAT8),
        ExactNumberInfo::Precision(0) => Err(invalid("precision for type float must be at least 1 bit".into())),
        ExactNumberInfo::Precision(1..=24) => Ok(DataType::FLOAT4),
        _ => Err(invalid("precision for type float must be less than 54 bits".into())),
    }
}

fn numeric(info: &ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match *info {
        ExactNumberInfo::None => return Ok(DataType::NUMERIC),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    if !(1..=1000).contains(&precision) {
        return Err(invalid(format!("NUMERIC precision {precision} must be between 1 and 1000")));
    }
    if !(-1000..=1000).contains(&scale) {
        return Err(invalid(format!("NUMERIC scale {scale} must be between -1000 and 1000")));
    }
    let modifier = ((precision as i32) << 16 | (scale as i32 & 0x7ff)) + 4;
    Ok(DataType::NUMERIC.with_modifier(modifier))
}

fn characters(base: BaseType, shown: &str, length: Option<&CharacterLength>, default: i32) -> Result<DataType> {
    let modifier = match length {
        None => default,
        Some(CharacterLength::Max) => return Err(SqlError::unsupported(format!("type {shown}(max)"))),
        Some(CharacterLength::IntegerLength { length: 0, .. }) => {
            return Err(invalid(format!("length for type {shown} must be at least 1")));
        }
        Some(CharacterLength::IntegerLength { length, .. }) if *length > MAX_CHARACTERS => {
            return Err(invalid(format!("length for type {shown} cannot exceed {MAX_CHARACTERS}")));
        }
        Some(CharacterLength::IntegerLength { length, .. }) => *length as i32 + 4,
    };
    Ok(DataType::new(base).with_modifier(modifier))
}

/// Fractional digits of a time type; more than 6 are cut to 6, as in Postgres.
fn with_precision(base: BaseType, _shown: &str, precision: Option<u64>) -> Result<DataType> {
    let modifier = precision.map_or(-1, |precision| precision.min(6) as i32);
    Ok(DataType::new(base).with_modifier(modifier))
}

/// The modifier of an interval: a mask of its fields in the upper half, fractional digits in the lower.
fn interval(fields: Option<&IntervalFields>, precision: Option<u64>) -> Result<DataType> {
    const FULL_RANGE: i32 = 0x7FFF;
    const FULL_PRECISION: i32 = 0xFFFF;
    let (year, month, day, hour, minute, second) = (1 << 2, 1 << 1, 1 << 3, 1 << 10, 1 << 11, 1 << 12);
    let mask = match fields {
        None => FULL_RANGE,
        Some(IntervalFields::Year) => year,
        Some(IntervalFields::Month) => month,
        Some(IntervalFields::Day) => day,
        Some(IntervalFields::Hour) => hour,
        Some(IntervalFields::Minute) => minute,
        Some(IntervalFields::Second) => second,
        Some(IntervalFields::YearToMonth) => year | month,
        Some(IntervalFields::DayToHour) => day | hour,
        Some(IntervalFields::DayToMinute) => day | hour | minute,
        Some(IntervalFields::DayToSecond) => day | hour | minute | second,
        Some(IntervalFields::HourToMinute) => hour | minute,
        Some(IntervalFields::HourToSecond) => hour | minute | second,
        Some(IntervalFields::MinuteToSecond) => minute | second,
    };
    let modifier = match (mask, precision) {
        (FULL_RANGE, None) => -1,
        (mask, precision) => mask << 16 | precision.map_or(FULL_PRECISION, |digits| digits.min(6) as i32),
    };
    Ok(DataType::INTERVAL.with_modifier(modifier))
}

/// Types that the parser has no word for.
fn custom(name: &ObjectName, modifiers: &[String]) -> Result<DataType> {
    let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).collect();
    let (schema, last) = match parts.as_slice() {
        [last] => (None, last),
        [schema, last] => (Some(*schema), last),
        _ => return Err(unknown(&name.to_string())),
    };
    if schema.is_some_and(|schema| !schema.value.eq_ignore_ascii_case("pg_catalog")) {
        return Err(unknown(&name.to_string()));
    }
    let quoted = last.quote_style.is_some();
    let word = if quoted { last.value.clone() } else { last.value.to_lowercase() };
    if word == "char" && quoted {
        return Ok(DataType::INTERNAL_CHAR);
    }
    let (word, is_array) = match word.strip_prefix('_') {
        Some(element) => (element.to_owned(), true),
        None => (word, false),
    };
    let number = |at: usize| -> Result<Option<i64>> {
        let parse = |text: &String| text.trim().parse().map_err(|_| invalid("type modifiers must be integers".into()));
        modifiers.get(at).map(parse).transpose()
    };
    let length = number(0)?.map(|length| CharacterLength::IntegerLength { length: length.max(0) as u64, unit: None });
    let precision = number(0)?.map(|digits| digits.max(0) as u64);
    let found = match word.as_str() {
        "varchar" => characters(BaseType::Varchar, "varchar", length.as_ref(), -1)?,
        "bpchar" => characters(BaseType::Bpchar, "bpchar", length.as_ref(), -1)?,
        "numeric" | "decimal" => numeric(&match (number(0)?, number(1)?) {
            (None, _) => ExactNumberInfo::None,
            (Some(precision), None) => ExactNumberInfo::Precision(precision.max(0) as u64),
            (Some(precision), Some(scale)) => ExactNumberInfo::PrecisionAndScale(precision.max(0) as u64, scale),
        })?,
        "time" => with_precision(BaseType::Time, "TIME", precision)?,
        "timestamp" => with_precision(BaseType::Timestamp, "TIMESTAMP", precision)?,
        "timestamptz" => with_precision(BaseType::Timestamptz, "TIMESTAMP", precision)?,
        "interval" => interval(None, precision)?,
        _ => match by_catalog_name(&word) {
            Some(_) if !modifiers.is_empty() => {
                let message = format!("type modifier is not allowed for type \"{word}\"");
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
            }
            Some(base) => DataType::new(base),
            None => return Err(unknown(&word)),
        },
    };
    if is_array { array(found) } else { Ok(found) }
}

/// A base type by its `pg_type.typname`.
pub fn by_catalog_name(name: &str) -> Option<BaseType> {
    BASE_TYPES.iter().find(|(_, known)| *known == name).map(|(base, _)| *base)
}

/// `pg_type.typname` of a base type.
pub fn catalog_name(base: BaseType) -> &'static str {
    BASE_TYPES.iter().find(|(known, _)| *known == base).map_or("unknown", |(_, name)| name)
}

/// Every base type with its `pg_type.typname`.
pub const BASE_TYPES: &[(BaseType, &str)] = &[
    (BaseType::Bool, "bool"),
    (BaseType::Bytea, "bytea"),
    (BaseType::InternalChar, "char"),
    (BaseType::Name, "name"),
    (BaseType::Int8, "int8"),
    (BaseType::Int2, "int2"),
    (BaseType::Int2Vector, "int2vector"),
    (BaseType::Int4, "int4"),
    (BaseType::Regproc, "regproc"),
    (BaseType::Text, "text"),
    (BaseType::Oid, "oid"),
    (BaseType::Xid, "xid"),
    (BaseType::OidVector, "oidvector"),
    (BaseType::Json, "json"),
    (BaseType::PgNodeTree, "pg_node_tree"),
    (BaseType::Float4, "float4"),
    (BaseType::Float8, "float8"),
    (BaseType::Unknown, "unknown"),
    (BaseType::Bpchar, "bpchar"),
    (BaseType::Varchar, "varchar"),
    (BaseType::Date, "date"),
    (BaseType::Time, "time"),
    (BaseType::Timestamp, "timestamp"),
    (BaseType::Timestamptz, "timestamptz"),
    (BaseType::Interval, "interval"),
    (BaseType::Numeric, "numeric"),
    (BaseType::Regclass, "regclass"),
    (BaseType::Regtype, "regtype"),
    (BaseType::Record, "record"),
    (BaseType::Void, "void"),
    (BaseType::AnyArray, "anyarray"),
    (BaseType::Uuid, "uuid"),
    (BaseType::PgLsn, "pg_lsn"),
    (BaseType::Jsonb, "jsonb"),
    (BaseType::Regnamespace, "regnamespace"),
    (BaseType::Regrole, "regrole"),
];
