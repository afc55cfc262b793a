//! Type names → [`DataType`].

use sqlparser::ast::{ArrayElemTypeDef, CharacterLength, DataType as Ast, ExactNumberInfo, ObjectName, TimezoneInfo};

use super::names::split_name;
use crate::error::{Result, SqlError, SqlState};
use crate::types::{BaseType, DataType};

/// The type that a type name means, with its modifier.
pub fn data_type(name: &Ast) -> Result<DataType> {
    let plain = |base| Ok(DataType::new(base));
    match name {
        Ast::Bool | Ast::Boolean => plain(BaseType::Bool),
        Ast::SmallInt(None) | Ast::Int2(None) => plain(BaseType::Int2),
        Ast::Int(None) | Ast::Integer(None) | Ast::Int4(None) => plain(BaseType::Int4),
        Ast::BigInt(None) | Ast::Int8(None) => plain(BaseType::Int8),
        Ast::Real | Ast::Float4 => plain(BaseType::Float4),
        Ast::DoublePrecision | Ast::Double(ExactNumberInfo::None) | Ast::Float8 => plain(BaseType::Float8),
        Ast::Float(ExactNumberInfo::None) => plain(BaseType::Float8),
        Ast::Float(ExactNumberInfo::Precision(bits)) => match bits {
            1..=24 => plain(BaseType::Float4),
            25..=53 => plain(BaseType::Float8),
            _ => Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!(
                    "precision for type float must be {}",
                    if *bits == 0 { "at least 1 bit" } else { "less than 54 bits" }
                ),
            )),
        },
        Ast::Numeric(info) | Ast::Decimal(info) | Ast::Dec(info) => numeric(info),
        Ast::Text => plain(BaseType::Text),
        Ast::Varchar(length) | Ast::CharacterVarying(length) | Ast::CharVarying(length) => {
            character(BaseType::Varchar, length.as_ref(), None)
        }
        Ast::Char(length) | Ast::Character(length) => character(BaseType::Bpchar, length.as_ref(), Some(1)),
        Ast::Bytea => plain(BaseType::Bytea),
        Ast::Date => plain(BaseType::Date),
        Ast::Time(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            fraction(BaseType::Time, *precision)
        }
        Ast::Time(..) => Err(SqlError::unsupported("type time with time zone")),
        Ast::Timestamp(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            fraction(BaseType::Timestamp, *precision)
        }
        Ast::Timestamp(precision, _) => fraction(BaseType::Timestamptz, *precision),
        Ast::Interval { fields: None, precision } => fraction(BaseType::Interval, *precision),
        Ast::Interval { .. } => Err(SqlError::unsupported("interval fields in a type name")),
        Ast::Uuid => plain(BaseType::Uuid),
        Ast::JSON => plain(BaseType::Json),
        Ast::JSONB => plain(BaseType::Jsonb),
        Ast::Regclass => plain(BaseType::Regclass),
        Ast::Array(ArrayElemTypeDef::SquareBracket(element, _) | ArrayElemTypeDef::AngleBracket(element)) => {
            Ok(DataType { array: true, ..data_type(element)? })
        }
        Ast::Custom(name, modifiers) => custom(name, modifiers),
        other => Err(SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("type \"{}\" does not exist", other.to_string().to_ascii_lowercase()),
        )),
    }
}

fn numeric(info: &ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(DataType::NUMERIC),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    if !(1..=1000).contains(&precision) {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("NUMERIC precision {precision} must be between 1 and 1000"),
        ));
    }
    if !(-1000..=1000).contains(&scale) {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("NUMERIC scale {scale} must be between -1000 and 1000"),
        ));
    }
    Ok(DataType::NUMERIC.with_modifier((((precision as i32) << 16) | (scale as i32 & 0x7ff)) + 4))
}

fn character(base: BaseType, length: Option<&CharacterLength>, default: Option<u64>) -> Result<DataType> {
    let length = match length {
        Some(CharacterLength::IntegerLength { length, .. }) => Some(*length),
        Some(CharacterLength::Max) => None,
        None => default,
    };
    let name = if base == BaseType::Varchar { "varchar" } else { "char" };
    match length {
        None => Ok(DataType::new(base)),
        Some(0) => {
            Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("length for type {name} must be at least 1")))
        }
        Some(length @ 1..=10_485_760) => Ok(DataType::new(base).with_modifier(length as i32 + 4)),
        Some(_) => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("length for type {name} cannot exceed 10485760"),
        )),
    }
}

fn fraction(base: BaseType, digits: Option<u64>) -> Result<DataType> {
    // Postgres warns above 6 and takes 6.
    Ok(DataType::new(base).with_modifier(digits.map_or(-1, |digits| digits.min(6) as i32)))
}

fn custom(name: &ObjectName, modifiers: &[String]) -> Result<DataType> {
    let quoted = name.0.last().is_some_and(|part| part.as_ident().is_some_and(|ident| ident.quote_style.is_some()));
    let (schema, mut base) = split_name(name)?;
    if schema.as_deref().is_some_and(|schema| schema != "pg_catalog") {
        return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist")));
    }
    if quoted && base == "char" {
        return Ok(DataType::INTERNAL_CHAR);
    }
    let array = base.starts_with('_');
    if array {
        base.remove(0);
    }
    let number = |at: usize| modifiers.get(at).and_then(|text| text.trim().parse::<u64>().ok());
    let found = match base.as_str() {
        "bool" => DataType::BOOL,
        "int2" => DataType::INT2,
        "int4" | "int" | "integer" => DataType::INT4,
        "int8" => DataType::INT8,
        "float4" => DataType::FLOAT4,
        "float8" => DataType::FLOAT8,
        "numeric" | "decimal" => numeric(&match (number(0), number(1)) {
            (Some(precision), Some(scale)) => ExactNumberInfo::PrecisionAndScale(precision, scale as i64),
            (Some(precision), None) => ExactNumberInfo::Precision(precision),
            _ => ExactNumberInfo::None,
        })?,
        "text" => DataType::TEXT,
        "varchar" | "bpchar" | "char" => {
            let base_type = if base == "varchar" { BaseType::Varchar } else { BaseType::Bpchar };
            let length = number(0).map(|length| CharacterLength::IntegerLength { length, unit: None });
            character(base_type, length.as_ref(), (base == "char").then_some(1))?
        }
        "name" => DataType::NAME,
        "bytea" => DataType::BYTEA,
        "date" => DataType::DATE,
        "time" => fraction(BaseType::Time, number(0))?,
        "timestamp" => fraction(BaseType::Timestamp, number(0))?,
        "timestamptz" => fraction(BaseType::Timestamptz, number(0))?,
        "interval" => fraction(BaseType::Interval, number(0))?,
        "uuid" => DataType::UUID,
        "json" => DataType::JSON,
        "jsonb" => DataType::JSONB,
        "oid" => DataType::OID,
        "regclass" => DataType::REGCLASS,
        "regtype" => DataType::REGTYPE,
        "regproc" | "regprocedure" => DataType::REGPROC,
        "regnamespace" => DataType::new(BaseType::Regnamespace),
        "regrole" => DataType::new(BaseType::Regrole),
        "xid" | "cid" | "xid8" => DataType::new(BaseType::Xid),
        "int2vector" => DataType::new(BaseType::Int2Vector),
        "oidvector" => DataType::new(BaseType::OidVector),
        "pg_node_tree" => DataType::new(BaseType::PgNodeTree),
        "pg_lsn" => DataType::PG_LSN,
        "record" => DataType::RECORD,
        "void" => DataType::VOID,
        "unknown" => DataType::UNKNOWN,
        "anyarray" => DataType::new(BaseType::AnyArray),
        _ => {
            return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist")));
        }
    };
    Ok(DataType { array, ..found })
}
