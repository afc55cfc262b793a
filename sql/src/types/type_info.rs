//! What `pg_type` says of each type, and types by name.

use super::{BaseType, DataType};
use crate::error::{Result, SqlError, SqlState};

/// Type categories as in `pg_type.typcategory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Category {
    Array = b'A' as isize,
    Boolean = b'B' as isize,
    DateTime = b'D' as isize,
    Numeric = b'N' as isize,
    Pseudo = b'P' as isize,
    String = b'S' as isize,
    Timespan = b'T' as isize,
    UserDefined = b'U' as isize,
    Unknown = b'X' as isize,
    Internal = b'Z' as isize,
}

/// One row of `pg_type`.
#[derive(Debug)]
pub struct TypeInfo {
    /// The type.
    pub base: BaseType,
    /// `typname`
    pub name: &'static str,
    /// The name in SQL, as `format_type` prints it.
    pub sql_name: &'static str,
    /// `typlen`: bytes; -1 is variable, -2 a C string.
    pub length: i16,
    /// `typcategory`
    pub category: Category,
    /// `typispreferred`
    pub preferred: bool,
    /// `typarray`; 0 is none.
    pub array_oid: u32,
}

macro_rules! types {
    ($($base:ident $name:literal $sql:literal $length:literal $category:ident $preferred:literal $array:literal)*) => {
        /// Every base type.
        pub static TYPES: &[TypeInfo] = &[
            $(TypeInfo {
                base: BaseType::$base,
                name: $name,
                sql_name: $sql,
                length: $length,
                category: Category::$category,
                preferred: $preferred,
                array_oid: $array,
            }),*
        ];

        /// Position in [`TYPES`].
        fn position(base: BaseType) -> usize {
            #[repr(usize)]
            enum Position { $($base),* }
            match base {
                $(BaseType::$base => Position::$base as usize),*
            }
        }
    };
}

types! {
    Bool "bool" "boolean" 1 Boolean true 1000
    Bytea "bytea" "bytea" -1 UserDefined false 1001
    InternalChar "char" "\"char\"" 1 Internal false 1002
    Name "name" "name" 64 String false 1003
    Int8 "int8" "bigint" 8 Numeric false 1016
    Int2 "int2" "smallint" 2 Numeric false 1005
    Int2Vector "int2vector" "int2vector" -1 Array false 1006
    Int4 "int4" "integer" 4 Numeric false 1007
    Regproc "regproc" "regproc" 4 Numeric false 1008
    Text "text" "text" -1 String true 1009
    Oid "oid" "oid" 4 Numeric true 1028
    Xid "xid" "xid" 4 UserDefined false 1011
    OidVector "oidvector" "oidvector" -1 Array false 1013
    Json "json" "json" -1 UserDefined false 199
    PgNodeTree "pg_node_tree" "pg_node_tree" -1 Internal false 0
    Float4 "float4" "real" 4 Numeric false 1021
    Float8 "float8" "double precision" 8 Numeric true 1022
    Unknown "unknown" "unknown" -2 Unknown false 0
    Bpchar "bpchar" "character" -1 String false 1014
    Varchar "varchar" "character varying" -1 String false 1015
    Date "date" "date" 4 DateTime false 1182
    Time "time" "time without time zone" 8 DateTime false 1183
    Timestamp "timestamp" "timestamp without time zone" 8 DateTime false 1115
    Timestamptz "timestamptz" "timestamp with time zone" 8 DateTime true 1185
    Interval "interval" "interval" 16 Timespan true 1187
    Numeric "numeric" "numeric" -1 Numeric false 1231
    Regclass "regclass" "regclass" 4 Numeric false 2210
    Regtype "regtype" "regtype" 4 Numeric false 2211
    Record "record" "record" -1 Pseudo false 2287
    Void "void" "void" 4 Pseudo false 0
    Any "any" "\"any\"" 4 Pseudo false 0
    AnyArray "anyarray" "anyarray" -1 Pseudo false 0
    AnyElement "anyelement" "anyelement" 4 Pseudo false 0
    Uuid "uuid" "uuid" 16 UserDefined false 2951
    PgLsn "pg_lsn" "pg_lsn" 8 UserDefined false 3221
    Jsonb "jsonb" "jsonb" -1 UserDefined false 3807
    Regnamespace "regnamespace" "regnamespace" 4 Numeric false 4090
    Regrole "regrole" "regrole" 4 Numeric false 4097
    AnyCompatible "anycompatible" "anycompatible" 4 Pseudo false 0
    AnyCompatibleArray "anycompatiblearray" "anycompatiblearray" -1 Pseudo false 0
}

impl BaseType {
    /// What `pg_type` says of it.
    pub fn info(self) -> &'static TypeInfo {
        &TYPES[position(self)]
    }

    /// Stands for other types in signatures.
    pub fn is_polymorphic(self) -> bool {
        use BaseType::*;
        matches!(self, Any | AnyArray | AnyElement | AnyCompatible | AnyCompatibleArray)
    }
}

impl DataType {
    /// `pg_type.oid`
    pub fn oid(self) -> u32 {
        if self.array { self.base.info().array_oid } else { self.base as u32 }
    }

    /// The type of an OID.
    pub fn from_oid(oid: u32) -> Option<Self> {
        TYPES.iter().find_map(|info| match oid {
            0 => None,
            _ if oid == info.base as u32 => Some(Self::new(info.base)),
            _ if oid == info.array_oid => Some(Self::array_of(info.base)),
            _ => None,
        })
    }

    /// `pg_type.typname`: `int4`, `_int4`.
    pub fn internal_name(self) -> String {
        let name = self.base.info().name;
        if self.array { format!("_{name}") } else { name.into() }
    }

    /// `pg_type.typlen`
    pub fn length(self) -> i16 {
        if self.array { -1 } else { self.base.info().length }
    }

    /// `pg_type.typcategory`
    pub fn category(self) -> Category {
        if self.array { Category::Array } else { self.base.info().category }
    }

    /// `pg_type.typispreferred`
    pub fn is_preferred(self) -> bool {
        !self.array && self.base.info().preferred
    }

    /// An untyped literal or parameter?
    pub fn is_unknown(self) -> bool {
        self.base == BaseType::Unknown && !self.array
    }

    /// The type of the elements of an array (also of the vectors of the catalog).
    pub fn element(self) -> Option<Self> {
        match (self.array, self.base) {
            (true, base) => Some(Self { array: false, base, ..self }),
            (false, BaseType::OidVector) => Some(Self::OID),
            (false, BaseType::Int2Vector) => Some(Self::INT2),
            _ => None,
        }
    }

    /// The array type over this one.
    pub fn to_array(self) -> Self {
        Self { array: true, ..self }
    }

    /// Without the modifier.
    #[must_use]
    pub fn bare(self) -> Self {
        Self { modifier: -1, ..self }
    }

    /// The name as messages show it: `format_type` without modifier.
    pub fn name(self) -> String {
        let name = self.base.info().sql_name;
        if self.array { format!("{name}[]") } else { name.into() }
    }

    /// The name with modifier, as `format_type(oid, typmod)` prints it.
    pub fn full_name(self) -> String {
        let brackets = if self.array { "[]" } else { "" };
        let info = self.base.info();
        if self.modifier < 0 {
            // char without length is written otherwise: "character" alone means char(1).
            let name = if self.base == BaseType::Bpchar && !self.array { "bpchar" } else { info.sql_name };
            return format!("{name}{brackets}");
        }
        let modifier = self.modifier;
        match self.base {
            BaseType::Varchar | BaseType::Bpchar => format!("{}({}){brackets}", info.sql_name, modifier - 4),
            BaseType::Numeric => match super::Numeric::precision_and_scale(modifier) {
                Some((precision, scale)) => format!("numeric({precision},{scale}){brackets}"),
                None => format!("numeric{brackets}"),
            },
            BaseType::Interval => format!("interval({modifier}){brackets}"),
            BaseType::Time | BaseType::Timestamp | BaseType::Timestamptz => {
                let (word, rest) = info.sql_name.split_once(' ').unwrap_or((info.sql_name, ""));
                format!("{word}({modifier}) {rest}{brackets}")
            }
            _ => format!("{}{brackets}", info.sql_name),
        }
    }

    /// The type of a name as SQL writes it: `int`, `varchar(10)`, `timestamp(3) with time zone`, `text[]`,
    /// `pg_catalog.int4`, `_int4`. 42704 when there is none.
    pub fn from_name(name: &str) -> Result<Self> {
        let unknown = || SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"));
        let quoted = name.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        if quoted == Some("char") {
            return Ok(Self::INTERNAL_CHAR);
        }
        let lower = quoted.map_or_else(|| name.trim().to_ascii_lowercase(), str::to_owned);
        let mut text = lower.strip_prefix("pg_catalog.").unwrap_or(&lower).trim();
        let mut array = false;
        while let Some(rest) = text.strip_suffix(']').and_then(|rest| {
            let open = rest.rfind('[')?;
            rest[open + 1..].trim().bytes().all(|byte| byte.is_ascii_digit()).then(|| rest[..open].trim_end())
        }) {
            (text, array) = (rest, true);
        }
        if let Some(rest) = text.strip_suffix(" array") {
            (text, array) = (rest.trim_end(), true);
        }
        let (word, arguments) = match (text.find('('), text.find(')')) {
            (Some(open), Some(close)) if open < close => {
                let numbers: Result<Vec<i32>, _> = text[open + 1..close].split(',').map(|n| n.trim().parse()).collect();
                let word = format!("{} {}", text[..open].trim(), text[close + 1..].trim());
                (word, numbers.map_err(|_| unknown())?)
            }
            _ => (text.to_owned(), Vec::new()),
        };
        let words: Vec<&str> = word.split_ascii_whitespace().collect();
        let base = base_by_name(&words.join(" ")).or_else(|| {
            let element = word.trim().strip_prefix('_')?;
            let info = TYPES.iter().find(|info| info.name == element && info.array_oid != 0)?;
            array = true;
            Some(info.base)
        });
        let base = base.ok_or_else(unknown)?;
        let mut modifier = Self::new(base).modifier_of(&arguments)?;
        if base == BaseType::Bpchar && arguments.is_empty() && words.first() != Some(&"bpchar") {
            modifier = 1 + 4;
        }
        Ok(Self { base, array, modifier })
    }

    /// The `typmod` of the numbers in parentheses after a type's name; none: -1.
    pub fn modifier_of(self, arguments: &[i32]) -> Result<i32> {
        let invalid = |message: String| Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        let name = self.base.info().name;
        match (self.base, arguments) {
            (_, []) => Ok(-1),
            (BaseType::Varchar | BaseType::Bpchar, [length]) => {
                let shown = if self.base == BaseType::Bpchar { "char" } else { name };
                match length {
                    ..1 => invalid(format!("length for type {shown} must be at least 1")),
                    10_485_761.. => invalid(format!("length for type {shown} cannot exceed 10485760")),
                    length => Ok(length + 4),
                }
            }
            (BaseType::Numeric, [precision]) => Self::NUMERIC.modifier_of(&[*precision, 0]),
            (BaseType::Numeric, [precision, scale]) => match (precision, scale) {
                (1..=1_000, -1_000..=1_000) => Ok(super::Numeric::modifier(*precision, *scale)),
                (1..=1_000, _) => invalid(format!("NUMERIC scale {scale} must be between -1000 and 1000")),
                _ => invalid(format!("NUMERIC precision {precision} must be between 1 and 1000")),
            },
            (BaseType::Time | BaseType::Timestamp | BaseType::Timestamptz | BaseType::Interval, [digits]) => {
                let shown = self.base.info().name.trim_end_matches("tz").to_ascii_uppercase();
                let zone = if self.base == BaseType::Timestamptz { " WITH TIME ZONE" } else { "" };
                match digits {
                    ..0 => invalid(format!("{shown}({digits}){zone} precision must not be negative")),
                    // Postgres lowers it with a warning.
                    digits => Ok((*digits).min(6)),
                }
            }
            _ => {
                let message = format!("type modifier is not allowed for type \"{name}\"");
                Err(SqlError::new(SqlState::SYNTAX_ERROR, message))
            }
        }
    }
}

fn base_by_name(name: &str) -> Option<BaseType> {
    Some(match name {
        "int" | "integer" => BaseType::Int4,
        "smallint" => BaseType::Int2,
        "bigint" => BaseType::Int8,
        "boolean" => BaseType::Bool,
        "real" => BaseType::Float4,
        "float" | "double precision" => BaseType::Float8,
        "decimal" | "dec" => BaseType::Numeric,
        "character varying" | "char varying" => BaseType::Varchar,
        "character" | "char" | "nchar" | "national character" => BaseType::Bpchar,
        "time without time zone" => BaseType::Time,
        "timestamp without time zone" => BaseType::Timestamp,
        "timestamp with time zone" => BaseType::Timestamptz,
        _ => return TYPES.iter().find(|info| info.name == name && info.base != BaseType::InternalChar).map(|i| i.base),
    })
}
