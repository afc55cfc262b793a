//! What the binder asks of [`crate::functions`] and [`crate::types`].

pub(super) use crate::functions::Resolved as ResolvedOf;
use crate::functions::{
    AggregateFunction, EvalContext, ScalarFunction, TableFunction, registry, resolve_aggregate, resolve_function,
    resolve_operator, resolve_table_function,
};
pub(super) use crate::types::cast::CastContext as Context;
pub(super) use crate::types::cast::{can_cast, cast};

use super::scalar::Scalar;
use crate::error::{Result, SqlError, SqlState};
use crate::types::{BaseType, Category, DataType, Datum, text};

/// A resolved scalar call.
pub(super) type Resolved = ResolvedOf<ScalarFunction>;

/// A resolved set-returning call.
pub(super) struct ResolvedTable {
    pub function: &'static TableFunction,
    pub args: Vec<DataType>,
    /// Types of the output columns, polymorphic ones decided.
    pub columns: Vec<DataType>,
}

pub(super) fn function(name: &str, args: &[DataType]) -> Result<Resolved> {
    resolve_function(name, args)
}

pub(super) fn operator(symbol: &str, left: Option<DataType>, right: DataType) -> Result<Resolved> {
    resolve_operator(symbol, left, right)
}

pub(super) fn aggregate(name: &str, args: &[DataType]) -> Result<ResolvedOf<AggregateFunction>> {
    resolve_aggregate(name, args).unwrap_or_else(|| {
        Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("aggregate function {name} does not exist")))
    })
}

pub(super) fn is_aggregate(name: &str) -> bool {
    !registry::aggregates(name).is_empty()
}

pub(super) fn is_window_function(name: &str) -> bool {
    super::window::plain_function(name).is_some()
}

/// `None` when no set-returning function has the name.
pub(super) fn table_function(name: &str, args: &[DataType]) -> Result<Option<ResolvedTable>> {
    let Some(resolved) = resolve_table_function(name, args) else { return Ok(None) };
    let resolved = resolved?;
    let columns = resolved.function.columns.iter().map(|(_, data_type)| match data_type.base.is_polymorphic() {
        true => resolved.result,
        false => *data_type,
    });
    let columns = columns.collect();
    Ok(Some(ResolvedTable { function: resolved.function, args: resolved.args, columns }))
}

pub(super) fn parse_text(value: &str, to: DataType, eval: &EvalContext) -> Result<Datum> {
    text::parse(value, to, eval)
}

/// A numeric literal: the smallest of integer, bigint and numeric that holds it.
pub(super) fn number(digits: &str, eval: &EvalContext) -> Result<Scalar> {
    let plain = digits.replace('_', "");
    if let Ok(value) = plain.parse::<i32>() {
        return Ok(Scalar::Literal { value: Datum::Int4(value), data_type: DataType::INT4 });
    }
    if let Ok(value) = plain.parse::<i64>() {
        return Ok(Scalar::Literal { value: Datum::Int8(value), data_type: DataType::INT8 });
    }
    let value = text::parse(&plain, DataType::NUMERIC, eval)?;
    Ok(Scalar::Literal { value, data_type: DataType::NUMERIC })
}

/// Whether a value of one type already is one of the other, in the same representation.
pub(super) fn is_relabelling(from: DataType, to: DataType) -> bool {
    if from.same_type(to) || is_polymorphic(to) {
        return true;
    }
    // The vectors of the system catalog are arrays under another name.
    match (from.array, from.base, to.array, to.base) {
        (false, BaseType::Int2Vector, true, BaseType::Int2) | (false, BaseType::OidVector, true, BaseType::Oid) => {
            return true;
        }
        _ => {}
    }
    if from.array != to.array {
        return false;
    }
    let text = |data_type: DataType| matches!(data_type.base, BaseType::Text | BaseType::Varchar | BaseType::Name);
    let oid = |data_type: DataType| {
        matches!(
            data_type.base,
            BaseType::Oid
                | BaseType::Regclass
                | BaseType::Regtype
                | BaseType::Regproc
                | BaseType::Regnamespace
                | BaseType::Regrole
        )
    };
    text(from) && matches!(to.base, BaseType::Text | BaseType::Varchar) || oid(from) && to.base == BaseType::Oid
}

pub(super) fn is_polymorphic(data_type: DataType) -> bool {
    data_type.base.is_polymorphic()
}

/// Whether a conversion depends on nothing but the value: not on time zone or date style, not on names.
pub(super) fn cast_is_immutable(from: DataType, to: DataType) -> bool {
    let plain = |data_type: DataType| {
        matches!(data_type.category(), Category::Numeric | Category::String | Category::Boolean)
            && !matches!(
                data_type.base,
                BaseType::Regclass | BaseType::Regtype | BaseType::Regproc | BaseType::Regnamespace | BaseType::Regrole
            )
            && !data_type.array
            || matches!(data_type.base, BaseType::Uuid | BaseType::Bytea)
    };
    let clock =
        |data_type: DataType| matches!(data_type.base, BaseType::Date | BaseType::Timestamp) && !data_type.array;
    plain(from) && plain(to) || clock(from) && clock(to)
}

/// The type whose name a call of one argument may be a cast to.
pub(super) fn type_of_call(name: &str) -> Option<DataType> {
    DataType::from_name(name).ok().filter(|data_type| data_type.modifier < 0)
}

/// The `=` of the operands of a comparison.
pub(crate) fn equal_operator(other: &'static ScalarFunction) -> Option<&'static ScalarFunction> {
    let [left, right] = other.args else { return None };
    resolve_operator("=", Some(*left), *right).ok().map(|resolved| resolved.function)
}

/// The sum of two bigints.
pub(crate) fn add_int8(left: &Scalar, right: &Scalar, eval: &EvalContext) -> Option<Scalar> {
    let resolved = resolve_operator("+", Some(DataType::INT8), DataType::INT8).ok()?;
    let call = Scalar::Call {
        function: resolved.function,
        args: vec![left.clone(), right.clone()],
        data_type: DataType::INT8,
    };
    Some(super::constant::fold(call, eval))
}

/// `unnest` of an array type.
pub(crate) fn unnest(array: DataType) -> Result<&'static TableFunction> {
    match resolve_table_function("unnest", &[array]) {
        Some(resolved) => resolved.map(|resolved| resolved.function),
        None => Err(SqlError::unsupported("unnest")),
    }
}
