//! Doing a conversion.

use std::sync::Arc;

use serde_json::Value;

use super::{CastContext, apply_modifier, cast_context};
use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;
use crate::types::datetime::{
    DAY_US, HOUR_US, MAX_TIMESTAMP_US, MIN_TIMESTAMP_US, local_from_utc, timestamp_from_parts, utc_from_local,
};
use crate::types::{Array, BaseType, DataType, Datum, Interval, Numeric, json, text};

/// Converts a value from one type to another and fits it to the other's modifier. `explicit`: CAST syntax, which
/// cuts text that is too long. NULL stays NULL.
pub fn cast(value: &Datum, from: DataType, to: DataType, explicit: bool, context: &EvalContext) -> Result<Datum> {
    if value.is_null() {
        return Ok(Datum::Null);
    }
    let converted = if from.same_type(to) { value.clone() } else { convert(value, from, to, explicit, context)? };
    if to.modifier < 0 || from == to { Ok(converted) } else { apply_modifier(converted, to, explicit) }
}

#[cold]
fn out_of_range(to: DataType) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{} out of range", to.name()))
}

fn convert(value: &Datum, from: DataType, to: DataType, explicit: bool, context: &EvalContext) -> Result<Datum> {
    use BaseType as B;
    if from.array && to.array {
        let Datum::Array(array) = value else { return Err(impossible(value, to)) };
        let (source, target) = (from.element().unwrap_or(from), to.element().unwrap_or(to));
        let elements: Result<Vec<Datum>> =
            array.elements.iter().map(|item| cast(item, source, target.bare(), explicit, context)).collect();
        let array = Array { element: target, dimensions: array.dimensions.clone(), elements: elements? };
        return Ok(Datum::Array(Arc::new(array)));
    }
    if from.array || to.array || from.base == B::Unknown {
        return through_text(value, from, to, context);
    }
    match to.base {
        B::Int2 | B::Int4 | B::Int8 => to_integer(value, from, to, context),
        B::Float4 => match to_number(value, from) {
            Some(Datum::Numeric(number)) => narrow(number.to_f64(), !number.is_finite(), Some(&number)),
            Some(Datum::Float8(number)) => narrow(number, number.is_infinite(), None),
            Some(number) => number.as_i64().map(|n| Datum::Float4(n as f32)).ok_or_else(|| impossible(value, to)),
            None => from_json_or_text(value, from, to, context),
        },
        B::Float8 => match to_number(value, from) {
            Some(Datum::Numeric(number)) => {
                let double = number.to_f64();
                if number.is_finite() && (double.is_infinite() || double == 0.0 && !number.is_zero()) {
                    let message = format!("\"{number}\" is out of range for type double precision");
                    return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
                }
                Ok(Datum::Float8(double))
            }
            Some(number) => number.as_f64().map(Datum::Float8).ok_or_else(|| impossible(value, to)),
            None => from_json_or_text(value, from, to, context),
        },
        B::Numeric => match value {
            Datum::Float4(value) => Ok(Datum::Numeric(Numeric::from_f32(*value))),
            Datum::Float8(value) => Ok(Datum::Numeric(Numeric::from_f64(*value))),
            Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) => {
                value.as_numeric().map(Datum::Numeric).ok_or_else(|| impossible(value, to))
            }
            _ => from_json_or_text(value, from, to, context),
        },
        B::Bool => match value {
            Datum::Int4(value) => Ok(Datum::Bool(*value != 0)),
            _ => from_json_or_text(value, from, to, context),
        },
        B::Text | B::Varchar | B::Bpchar | B::Name | B::InternalChar => to_string(value, from, to, context),
        B::Oid | B::Regproc | B::Regclass | B::Regtype | B::Regnamespace | B::Regrole => match value {
            Datum::Oid(_) => Ok(value.clone()),
            Datum::Int2(value) => Ok(Datum::Oid(i32::from(*value) as u32)),
            Datum::Int4(value) => Ok(Datum::Oid(*value as u32)),
            Datum::Int8(value) => u32::try_from(*value)
                .map(Datum::Oid)
                .map_err(|_| SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "OID out of range")),
            _ => through_text(value, from, to, context),
        },
        B::Date | B::Time | B::Timestamp | B::Timestamptz | B::Interval => to_time(value, from, to, context),
        B::Json => match value {
            Datum::Jsonb(document) => {
                let mut text = String::new();
                json::format(document, &mut text);
                Ok(Datum::Json(text.into()))
            }
            _ => through_text(value, from, to, context),
        },
        B::Any | B::AnyElement | B::AnyCompatible => Ok(value.clone()),
        _ => through_text(value, from, to, context),
    }
}

fn impossible(value: &Datum, to: DataType) -> SqlError {
    cannot_cast(value.natural_type(), to)
}

/// 42846.
pub(super) fn cannot_cast(from: DataType, to: DataType) -> SqlError {
    SqlError::new(SqlState::CANNOT_COERCE, format!("cannot cast type {} to {}", from.name(), to.name()))
}

fn through_text(value: &Datum, from: DataType, to: DataType, context: &EvalContext) -> Result<Datum> {
    let known = from.same_type(to) || from.is_unknown() || cast_context(from, to) <= Some(CastContext::Explicit);
    if !known || cast_context(from, to).is_none() && !from.is_unknown() {
        return Err(cannot_cast(from, to));
    }
    match value.as_str() {
        Some(text) => text::parse(text, to.bare(), context),
        None => text::parse(&text::to_string(value, from, context), to.bare(), context),
    }
}

/// The number in a value of a numeric type.
fn to_number(value: &Datum, from: DataType) -> Option<Datum> {
    match (value, from.base) {
        (Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) | Datum::Float8(_) | Datum::Numeric(_), _) => {
            Some(value.clone())
        }
        (Datum::Float4(value), _) => Some(Datum::Float8((*value).into())),
        _ => None,
    }
}

fn narrow(double: f64, infinite: bool, number: Option<&Numeric>) -> Result<Datum> {
    let single = double as f32;
    let problem = match () {
        () if single.is_infinite() && !infinite => "overflow",
        () if single == 0.0 && double != 0.0 => "underflow",
        () => return Ok(Datum::Float4(single)),
    };
    let message = match number {
        Some(number) => format!("\"{number}\" is out of range for type real"),
        None => format!("value out of range: {problem}"),
    };
    Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message))
}

fn to_integer(value: &Datum, from: DataType, to: DataType, context: &EvalContext) -> Result<Datum> {
    let whole = match value {
        Datum::Float4(value) => float_to_i64((*value).into(), to)?,
        Datum::Float8(value) => float_to_i64(*value, to)?,
        Datum::Numeric(value) => {
            if !value.is_finite() {
                let what = if value.is_nan() { "NaN" } else { "infinity" };
                let message = format!("cannot convert {what} to {}", to.name());
                return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
            }
            value.to_i64().ok_or_else(|| out_of_range(to))?
        }
        Datum::Bool(value) => i64::from(*value),
        Datum::Text(text) if from.base == BaseType::InternalChar => {
            text.chars().next().map_or(0, |c| c as u32 as u8 as i8).into()
        }
        Datum::Oid(oid) if to.base == BaseType::Int4 => i64::from(*oid as i32),
        other => match other.as_i64() {
            Some(value) => value,
            None => return from_json_or_text(value, from, to, context),
        },
    };
    match to.base {
        BaseType::Int2 => i16::try_from(whole).map(Datum::Int2).map_err(|_| out_of_range(to)),
        BaseType::Int4 => i32::try_from(whole).map(Datum::Int4).map_err(|_| out_of_range(to)),
        _ => Ok(Datum::Int8(whole)),
    }
}

/// Rounds halves to even, as rint does.
fn float_to_i64(value: f64, to: DataType) -> Result<i64> {
    let rounded = value.round_ties_even();
    // 2^63 itself is out; every double below it fits.
    if rounded.is_nan() || !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded) {
        return Err(out_of_range(to));
    }
    Ok(rounded as i64)
}

/// A scalar of a jsonb, or anything by way of its text.
fn from_json_or_text(value: &Datum, from: DataType, to: DataType, context: &EvalContext) -> Result<Datum> {
    let Datum::Jsonb(document) = value else { return through_text(value, from, to, context) };
    let kind = match (&**document, to.base) {
        (Value::Bool(value), BaseType::Bool) => return Ok(Datum::Bool(*value)),
        (Value::Number(number), target) if target != BaseType::Bool => {
            let number = Datum::Numeric(json::to_numeric(number));
            return cast(&number, DataType::NUMERIC, to.bare(), true, context);
        }
        (Value::Null, _) => "null",
        (Value::Bool(_), _) => "boolean",
        (Value::Number(_), _) => "numeric",
        (Value::String(_), _) => "string",
        (Value::Array(_), _) => "array",
        (Value::Object(_), _) => "object",
    };
    let message = format!("cannot cast jsonb {kind} to type {}", to.name());
    Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message))
}

fn to_string(value: &Datum, from: DataType, to: DataType, context: &EvalContext) -> Result<Datum> {
    let text: Arc<str> = match value {
        // char(n) loses its padding, but not on the way to char(n).
        Datum::Bpchar(text) if to.base != BaseType::Bpchar => text.trim_end_matches(' ').into(),
        Datum::Text(text) | Datum::Bpchar(text) | Datum::Json(text) => text.clone(),
        Datum::Bool(value) => if *value { "true" } else { "false" }.into(),
        Datum::Int4(value) if to.base == BaseType::InternalChar => {
            let code = i8::try_from(*value)
                .map_err(|_| SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "\"char\" out of range"))?;
            if code == 0 { "".into() } else { char::from(code as u8).to_string().into() }
        }
        _ => text::to_string(value, from, context).into(),
    };
    Ok(match to.base {
        BaseType::Bpchar => Datum::Bpchar(text),
        BaseType::Name => Datum::Text(text::truncate_name(&text).into()),
        BaseType::InternalChar => Datum::Text(text.chars().take(1).collect::<String>().into()),
        _ => Datum::Text(text),
    })
}

fn timestamp_out_of_range() -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp out of range")
}

fn to_time(value: &Datum, from: DataType, to: DataType, context: &EvalContext) -> Result<Datum> {
    use BaseType as B;
    let zone = &context.time_zone;
    let is_finite = |us: i64| us != i64::MIN && us != i64::MAX;
    let in_range = |us: i64| match us {
        MIN_TIMESTAMP_US..=MAX_TIMESTAMP_US => Ok(us),
        _ => Err(timestamp_out_of_range()),
    };
    let local = |us: i64| if is_finite(us) { local_from_utc(zone, us) } else { us };
    let utc = |us: i64| if is_finite(us) { in_range(utc_from_local(zone, us)) } else { Ok(us) };
    let midnight = |days: i32| match days {
        i32::MIN => Ok(i64::MIN),
        i32::MAX => Ok(i64::MAX),
        days => timestamp_from_parts(days.into(), 0)
            .ok_or_else(|| SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range for timestamp")),
    };
    let day_of = |us: i64| match us {
        i64::MIN => i32::MIN,
        i64::MAX => i32::MAX,
        us => us.div_euclid(DAY_US) as i32,
    };
    Ok(match (value, to.base) {
        (Datum::Date(days), B::Timestamp) => Datum::Timestamp(midnight(*days)?),
        (Datum::Date(days), B::Timestamptz) => Datum::Timestamptz(utc(midnight(*days)?)?),
        (Datum::Timestamp(us), B::Timestamptz) => Datum::Timestamptz(utc(*us)?),
        (Datum::Timestamp(us), B::Date) => Datum::Date(day_of(*us)),
        (Datum::Timestamp(us), B::Time) if is_finite(*us) => Datum::Time(us.rem_euclid(DAY_US)),
        (Datum::Timestamptz(us), B::Timestamp) => Datum::Timestamp(local(*us)),
        (Datum::Timestamptz(us), B::Date) => Datum::Date(day_of(local(*us))),
        (Datum::Timestamptz(us), B::Time) if is_finite(*us) => Datum::Time(local(*us).rem_euclid(DAY_US)),
        (Datum::Timestamp(_) | Datum::Timestamptz(_), B::Time) => Datum::Null,
        (Datum::Time(us), B::Interval) => Datum::Interval(Arc::new(Interval { months: 0, days: 0, microseconds: *us })),
        (Datum::Interval(interval), B::Time) => Datum::Time(interval.microseconds.rem_euclid(24 * HOUR_US)),
        _ => return through_text(value, from, to, context),
    })
}
