//! Arrays, and concatenation of text with anything.

use std::sync::Arc;

use super::super::{EvalContext, ScalarFunction, Volatility};
use super::{mistyped, operator};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Array, BaseType, DataType, Datum};

const ANY_ARRAY: DataType = DataType::new(BaseType::AnyArray);
const COMPATIBLE_ARRAY: DataType = DataType::new(BaseType::AnyCompatibleArray);
const COMPATIBLE: DataType = DataType::new(BaseType::AnyCompatible);

fn arrays<'a>(name: &str, args: &'a [Datum]) -> Result<(&'a Array, &'a Array)> {
    match args {
        [Datum::Array(left), Datum::Array(right)] => Ok((left, right)),
        _ => Err(mistyped(name, args)),
    }
}

/// NULL elements equal nothing.
fn has(array: &Array, element: &Datum) -> bool {
    !element.is_null() && array.elements.iter().any(|own| !own.is_null() && own.compare(element).is_eq())
}

fn contains(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let (left, right) = arrays("@>", args)?;
    Ok(Datum::Bool(right.elements.iter().all(|element| has(left, element))))
}

fn contained(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let (left, right) = arrays("<@", args)?;
    Ok(Datum::Bool(left.elements.iter().all(|element| has(right, element))))
}

fn overlaps(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let (left, right) = arrays("&&", args)?;
    Ok(Datum::Bool(left.elements.iter().any(|element| has(right, element))))
}

/// Array with array: of equal dimensions, or one being an element of the other's shape.
pub fn concatenate_arrays(left: &Arc<Array>, right: &Arc<Array>) -> Result<Datum> {
    if left.elements.is_empty() {
        return Ok(Datum::Array(right.clone()));
    }
    if right.elements.is_empty() {
        return Ok(Datum::Array(left.clone()));
    }
    let incompatible = || {
        SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "cannot concatenate incompatible arrays")
            .with_detail("Arrays with differing dimensions are not compatible for concatenation.")
    };
    let lengths = |dimensions: &[(u32, i32)]| dimensions.iter().map(|dimension| dimension.0).collect::<Vec<_>>();
    let (left_lengths, right_lengths) = (lengths(&left.dimensions), lengths(&right.dimensions));
    let dimensions = if left_lengths.len() == right_lengths.len() {
        if left_lengths[1..] != right_lengths[1..] {
            return Err(incompatible());
        }
        let mut dimensions = left.dimensions.clone();
        dimensions[0].0 += right_lengths[0];
        dimensions
    } else if left_lengths[1..] == right_lengths[..] {
        let mut dimensions = left.dimensions.clone();
        dimensions[0].0 += 1;
        dimensions
    } else if right_lengths[1..] == left_lengths[..] {
        let mut dimensions = right.dimensions.clone();
        dimensions[0].0 += 1;
        dimensions
    } else {
        return Err(incompatible());
    };
    let elements = left.elements.iter().chain(&right.elements).cloned().collect();
    Ok(Datum::Array(Arc::new(Array { element: left.element, dimensions, elements })))
}

fn array_with_array(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Array(left), Datum::Array(right)] => concatenate_arrays(left, right),
        // NULL is the empty array here.
        [Datum::Null, other] | [other, Datum::Null] => Ok(other.clone()),
        _ => Err(mistyped("||", args)),
    }
}

/// Adds an element at the end or the beginning of a one-dimensional array.
pub fn with_element(array: &Array, element: Datum, at_end: bool) -> Result<Datum> {
    if array.dimensions.len() > 1 {
        return Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "argument must be empty or one-dimensional array"));
    }
    let mut elements = array.elements.clone();
    let lower = array.dimensions.first().map_or(1, |dimension| dimension.1);
    if at_end {
        elements.push(element);
    } else {
        elements.insert(0, element);
    }
    let length = u32::try_from(elements.len())
        .map_err(|_| SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "array size exceeds the maximum allowed"))?;
    Ok(Datum::Array(Arc::new(Array { element: array.element, dimensions: vec![(length, lower)], elements })))
}

fn array_with_element(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Array(array), element] => with_element(array, element.clone(), true),
        [Datum::Null, _] => Ok(Datum::Null),
        _ => Err(mistyped("||", args)),
    }
}

fn element_with_array(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [element, Datum::Array(array)] => with_element(array, element.clone(), false),
        [_, Datum::Null] => Ok(Datum::Null),
        _ => Err(mistyped("||", args)),
    }
}

const fn lenient(mut function: ScalarFunction) -> ScalarFunction {
    function.strict = false;
    function.volatility = Volatility::Immutable;
    function
}

/// Array operators.
pub const OPERATORS: &[ScalarFunction] = &[
    operator("@>", &[ANY_ARRAY, ANY_ARRAY], DataType::BOOL, contains),
    operator("<@", &[ANY_ARRAY, ANY_ARRAY], DataType::BOOL, contained),
    operator("&&", &[ANY_ARRAY, ANY_ARRAY], DataType::BOOL, overlaps),
    lenient(operator("||", &[COMPATIBLE_ARRAY, COMPATIBLE_ARRAY], COMPATIBLE_ARRAY, array_with_array)),
    lenient(operator("||", &[COMPATIBLE_ARRAY, COMPATIBLE], COMPATIBLE_ARRAY, array_with_element)),
    lenient(operator("||", &[COMPATIBLE, COMPATIBLE_ARRAY], COMPATIBLE_ARRAY, element_with_array)),
];
