//! Building the rows of system views by column name, and declaring the views.

use std::sync::Arc;

use crate::types::{Array, BaseType, DataType, Datum, Row};

/// Column types of the declarations, besides those of [`DataType`].
pub(super) mod column {
    use crate::types::{BaseType, DataType};

    pub const BOOL: DataType = DataType::BOOL;
    pub const BYTEA: DataType = DataType::BYTEA;
    pub const FLOAT4: DataType = DataType::FLOAT4;
    pub const FLOAT8: DataType = DataType::FLOAT8;
    pub const INT2: DataType = DataType::INT2;
    pub const INT4: DataType = DataType::INT4;
    pub const INT8: DataType = DataType::INT8;
    pub const INTERNAL_CHAR: DataType = DataType::INTERNAL_CHAR;
    pub const INTERVAL: DataType = DataType::INTERVAL;
    pub const NAME: DataType = DataType::NAME;
    pub const OID: DataType = DataType::OID;
    pub const PG_LSN: DataType = DataType::PG_LSN;
    pub const REGPROC: DataType = DataType::REGPROC;
    pub const REGTYPE: DataType = DataType::REGTYPE;
    pub const TEXT: DataType = DataType::TEXT;
    pub const TIMESTAMPTZ: DataType = DataType::TIMESTAMPTZ;
    pub const VARCHAR: DataType = DataType::VARCHAR;
    pub const ANY_ARRAY: DataType = DataType::new(BaseType::AnyArray);
    pub const INT2_VECTOR: DataType = DataType::new(BaseType::Int2Vector);
    pub const NODE_TREE: DataType = DataType::new(BaseType::PgNodeTree);
    pub const OID_VECTOR: DataType = DataType::new(BaseType::OidVector);
    pub const XID: DataType = DataType::new(BaseType::Xid);
    pub const CHAR_ARRAY: DataType = DataType::array_of(BaseType::InternalChar);
    pub const FLOAT4_ARRAY: DataType = DataType::array_of(BaseType::Float4);
    pub const INT2_ARRAY: DataType = DataType::array_of(BaseType::Int2);
    pub const NAME_ARRAY: DataType = DataType::array_of(BaseType::Name);
    pub const OID_ARRAY: DataType = DataType::array_of(BaseType::Oid);
    pub const REGTYPE_ARRAY: DataType = DataType::array_of(BaseType::Regtype);
    pub const TEXT_ARRAY: DataType = DataType::array_of(BaseType::Text);
}

/// OIDs below are tables of Postgres' catalog, whose columns are mostly NOT NULL; above are views.
const FIRST_VIEW_OID: u32 = 10_000;

/// Rows under construction.
pub(super) struct Rows {
    columns: &'static [(&'static str, DataType)],
    template: Row,
    rows: Vec<Row>,
}

impl Rows {
    /// Columns not given later are NULL in views; in catalog tables zero, false or empty unless of a type
    /// that stands last in a catalog table and may be NULL there.
    pub fn new(oid: u32, columns: &'static [(&'static str, DataType)]) -> Self {
        let empty = |(_, data_type): &(&str, DataType)| match data_type.base {
            _ if oid >= FIRST_VIEW_OID || data_type.array => Datum::Null,
            BaseType::Bool => Datum::Bool(false),
            BaseType::Int2 => Datum::Int2(0),
            BaseType::Int4 => Datum::Int4(0),
            BaseType::Int8 => Datum::Int8(0),
            BaseType::Float4 => Datum::Float4(0.0),
            BaseType::Oid | BaseType::Regproc | BaseType::Xid => Datum::Oid(0),
            BaseType::Name | BaseType::InternalChar => Datum::text(""),
            _ => Datum::Null,
        };
        Self { columns, template: columns.iter().map(empty).collect(), rows: Vec::new() }
    }

    /// Adds a row; see [`row!`].
    pub fn add(&mut self, values: impl IntoIterator<Item = (&'static str, Datum)>) {
        let mut row = self.template.clone();
        let mut at = 0;
        for (name, value) in values {
            // Values mostly come in the columns' order.
            let found = (at..self.columns.len()).chain(0..at).find(|at| self.columns[*at].0 == name);
            at = found.unwrap_or_else(|| panic!("there is no column {name}"));
            row[at] = value;
        }
        self.rows.push(row);
    }

    pub fn finish(self) -> Vec<Row> {
        self.rows
    }
}

/// Adds a row: `row!(rows, relname: name, relnatts: 3i16)`.
macro_rules! row {
    ($rows:expr, $($column:ident: $value:expr),* $(,)?) => {
        $rows.add([$((stringify!($column), $crate::catalog::system::rows::ToDatum::to_datum($value))),*])
    };
}

/// Declares system views: `oid name = function { column: TYPE, … }`.
macro_rules! system_views {
    ($schema:literal $($oid:literal $name:ident = $fill:path { $($column:ident: $type:ident),* $(,)? })*) => {
        pub(super) static VIEWS: &[$crate::catalog::system::SystemView] = &[$({
            const COLUMNS: &[(&str, $crate::types::DataType)] =
                &[$((stringify!($column), $crate::catalog::system::rows::column::$type)),*];
            $crate::catalog::system::SystemView {
                oid: $oid,
                schema: $schema,
                name: stringify!($name),
                columns: COLUMNS,
                rows: |context| {
                    let mut rows = $crate::catalog::system::rows::Rows::new($oid, COLUMNS);
                    $fill(context, &mut rows)?;
                    Ok(rows.finish())
                },
            }
        }),*];
    };
}

pub(super) use {row, system_views};

/// Values of system views.
pub(super) trait ToDatum {
    fn to_datum(self) -> Datum;
}

impl ToDatum for Datum {
    fn to_datum(self) -> Datum {
        self
    }
}

impl ToDatum for &str {
    fn to_datum(self) -> Datum {
        Datum::text(self)
    }
}

macro_rules! to_datum {
    ($($type:ty => $make:expr),* $(,)?) => {
        $(impl ToDatum for $type {
            fn to_datum(self) -> Datum {
                $make(self)
            }
        })*
    };
}

to_datum! {
    String => |text: String| Datum::Text(Arc::from(text)),
    &String => |text: &String| Datum::text(text),
    bool => Datum::Bool,
    i16 => Datum::Int2,
    i32 => Datum::Int4,
    i64 => Datum::Int8,
    f32 => Datum::Float4,
    f64 => Datum::Float8,
    u32 => Datum::Oid,
}

impl<T: ToDatum> ToDatum for Option<T> {
    fn to_datum(self) -> Datum {
        self.map_or(Datum::Null, ToDatum::to_datum)
    }
}

/// An array of one dimension; the vectors of the catalog begin at 0.
fn array(element: DataType, lower_bound: i32, elements: Vec<Datum>) -> Datum {
    let dimensions = if elements.is_empty() { Vec::new() } else { vec![(elements.len() as u32, lower_bound)] };
    Datum::Array(Arc::new(Array { element, dimensions, elements }))
}

/// `text[]`
pub(super) fn text_array<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Datum {
    array(DataType::TEXT, 1, items.into_iter().map(Datum::text).collect())
}

/// `oid[]`
pub(super) fn oid_array(items: impl IntoIterator<Item = u32>) -> Datum {
    array(DataType::OID, 1, items.into_iter().map(Datum::Oid).collect())
}

/// `regtype[]`
pub(super) fn regtype_array(items: impl IntoIterator<Item = u32>) -> Datum {
    array(DataType::REGTYPE, 1, items.into_iter().map(Datum::Oid).collect())
}

/// `int2[]`
pub(super) fn int2_array(items: impl IntoIterator<Item = i16>) -> Datum {
    array(DataType::INT2, 1, items.into_iter().map(Datum::Int2).collect())
}

/// `float4[]`
pub(super) fn float4_array(items: impl IntoIterator<Item = f32>) -> Datum {
    array(DataType::FLOAT4, 1, items.into_iter().map(Datum::Float4).collect())
}

/// `int2vector`
pub(super) fn int2_vector(items: impl IntoIterator<Item = i16>) -> Datum {
    array(DataType::INT2, 0, items.into_iter().map(Datum::Int2).collect())
}

/// `oidvector`
pub(super) fn oid_vector(items: impl IntoIterator<Item = u32>) -> Datum {
    array(DataType::OID, 0, items.into_iter().map(Datum::Oid).collect())
}

/// NULL instead of an empty list.
pub(super) fn text_array_or_null<T: AsRef<str>>(items: &[T]) -> Datum {
    if items.is_empty() { Datum::Null } else { text_array(items) }
}
