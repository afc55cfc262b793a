//! Array functions.

use std::sync::Arc;

use super::define::{array, int4, scalar, string};
use super::{EvalContext, FunctionRows, ScalarFunction, TableFunction, concatenate_arrays, with_element};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Array, BaseType, DataType as T, Datum, text};

const ANY: T = T::new(BaseType::AnyArray);
const ARRAY: T = T::new(BaseType::AnyCompatibleArray);
const ELEMENT: T = T::new(BaseType::AnyCompatible);
const TEXTS: T = T::array_of(BaseType::Text);

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("array_length", &[ANY, T::INT4], T::INT4, |_, args| {
        Ok(dimension(args)?.map_or(Datum::Null, |(length, _)| Datum::Int4(length as i32)))
    }),
    scalar("array_lower", &[ANY, T::INT4], T::INT4, |_, args| {
        Ok(dimension(args)?.map_or(Datum::Null, |(_, lower)| Datum::Int4(lower)))
    }),
    scalar("array_upper", &[ANY, T::INT4], T::INT4, |_, args| {
        Ok(dimension(args)?.map_or(Datum::Null, |(length, lower)| Datum::Int4(lower + length as i32 - 1)))
    }),
    scalar("array_ndims", &[ANY], T::INT4, |_, args| match array(&args[0])?.dimensions.len() {
        0 => Ok(Datum::Null),
        count => Ok(Datum::Int4(count as i32)),
    }),
    scalar("array_dims", &[ANY], T::TEXT, |_, args| {
        let dimensions = &array(&args[0])?.dimensions;
        let shown = dimensions.iter().map(|(length, lower)| format!("[{lower}:{}]", lower + *length as i32 - 1));
        Ok(if dimensions.is_empty() { Datum::Null } else { Datum::text(shown.collect::<String>()) })
    }),
    scalar("cardinality", &[ANY], T::INT4, |_, args| Ok(Datum::Int4(array(&args[0])?.elements.len() as i32))),
    scalar("array_append", &[ARRAY, ELEMENT], ARRAY, |_, args| add(&args[0], &args[1], true)).nullable(),
    scalar("array_prepend", &[ELEMENT, ARRAY], ARRAY, |_, args| add(&args[1], &args[0], false)).nullable(),
    scalar("array_cat", &[ARRAY, ARRAY], ARRAY, |_, args| match (&args[0], &args[1]) {
        (Datum::Null, other) | (other, Datum::Null) => Ok(other.clone()),
        (Datum::Array(left), Datum::Array(right)) => concatenate_arrays(left, right),
        _ => Err(super::define::unexpected(&args[0])),
    })
    .nullable(),
    scalar("array_position", &[ARRAY, ELEMENT], T::INT4, |_, args| position(args)).nullable(),
    scalar("array_position", &[ARRAY, ELEMENT, T::INT4], T::INT4, |_, args| position(args)).nullable(),
    scalar("array_positions", &[ARRAY, ELEMENT], T::array_of(BaseType::Int4), |_, args| {
        if args[0].is_null() {
            return Ok(Datum::Null);
        }
        let from = array(&args[0])?;
        let lower = one_dimension(from)?;
        let found = from.elements.iter().enumerate().filter(|(_, item)| same(item, &args[1]));
        let found = found.map(|(index, _)| Datum::Int4(lower + index as i32)).collect();
        Ok(Datum::Array(Arc::new(Array::one_dimensional(T::INT4, found))))
    })
    .nullable(),
    scalar("array_remove", &[ARRAY, ELEMENT], ARRAY, |_, args| {
        if args[0].is_null() {
            return Ok(Datum::Null);
        }
        let from = array(&args[0])?;
        if from.dimensions.len() > 1 {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "removing elements from multidimensional arrays is not supported",
            ));
        }
        let kept: Vec<Datum> = from.elements.iter().filter(|item| !same(item, &args[1])).cloned().collect();
        let lower = from.dimensions.first().map_or(1, |dimension| dimension.1);
        let dimensions = if kept.is_empty() { Vec::new() } else { vec![(kept.len() as u32, lower)] };
        Ok(Datum::Array(Arc::new(Array { element: from.element, dimensions, elements: kept })))
    })
    .nullable(),
    scalar("array_replace", &[ARRAY, ELEMENT, ELEMENT], ARRAY, |_, args| {
        if args[0].is_null() {
            return Ok(Datum::Null);
        }
        let from = array(&args[0])?;
        let change = |item: &Datum| if same(item, &args[1]) { args[2].clone() } else { item.clone() };
        let elements = from.elements.iter().map(change).collect();
        Ok(Datum::Array(Arc::new(Array { element: from.element, dimensions: from.dimensions.clone(), elements })))
    })
    .nullable(),
    scalar("trim_array", &[ANY, T::INT4], ANY, |_, args| {
        let (from, count) = (array(&args[0])?, int4(&args[1])?);
        let length = from.dimensions.first().map_or(0, |dimension| dimension.0);
        let Some(kept) = u32::try_from(count).ok().and_then(|count| length.checked_sub(count)) else {
            let message = format!("number of elements to trim must be between 0 and {length}");
            return Err(SqlError::new(SqlState::ARRAY_ELEMENT_ERROR, message));
        };
        let row = from.elements.len() / (length.max(1) as usize);
        let mut dimensions = if kept == 0 { Vec::new() } else { from.dimensions.clone() };
        if let Some(first) = dimensions.first_mut() {
            *first = (kept, 1);
        }
        let elements = from.elements[..kept as usize * row].to_vec();
        Ok(Datum::Array(Arc::new(Array { element: from.element, dimensions, elements })))
    }),
    scalar("array_fill", &[T::new(BaseType::AnyElement), T::array_of(BaseType::Int4)], ANY, |_, args| {
        if args[1].is_null() {
            let message = "dimension array or low bound array cannot be null";
            return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, message));
        }
        let lengths: Result<Vec<i32>> = array(&args[1])?.elements.iter().map(int4).collect();
        let dimensions: Vec<(u32, i32)> = lengths?.into_iter().map(|length| (length.max(0) as u32, 1)).collect();
        let total = dimensions.iter().fold(1u64, |total, (length, _)| total.saturating_mul((*length).into()));
        if total > 1 << 27 || dimensions.len() > 6 {
            let message = "array size exceeds the maximum allowed (134217727)";
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
        }
        let dimensions = if total == 0 { Vec::new() } else { dimensions };
        let total = if dimensions.is_empty() { 0 } else { total };
        let elements = vec![args[0].clone(); total as usize];
        Ok(Datum::Array(Arc::new(Array { element: args[0].natural_type(), dimensions, elements })))
    })
    .nullable(),
    scalar("array_to_string", &[ANY, T::TEXT], T::TEXT, join).nullable().stable(),
    scalar("array_to_string", &[ANY, T::TEXT, T::TEXT], T::TEXT, join).nullable().stable(),
    scalar("string_to_array", &[T::TEXT, T::TEXT], TEXTS, |_, args| cut(args)).nullable(),
    scalar("string_to_array", &[T::TEXT, T::TEXT, T::TEXT], TEXTS, |_, args| cut(args)).nullable(),
];

/// The set-returning ones.
pub static TABLE_FUNCTIONS: &[TableFunction] = &[
    TableFunction {
        name: "unnest",
        args: &[ANY],
        columns: &[("unnest", T::new(BaseType::AnyElement))],
        open: |_, args| match &args[0] {
            Datum::Array(from) => {
                let from = from.clone();
                Ok(Box::new((0..from.elements.len()).map(move |index| Ok(vec![from.elements[index].clone()]))))
            }
            _ => Ok(Box::new(std::iter::empty())),
        },
    },
    TableFunction {
        name: "generate_subscripts",
        args: &[ANY, T::INT4],
        columns: &[("generate_subscripts", T::INT4)],
        open: |_, args| {
            if args.iter().any(Datum::is_null) {
                return Ok(Box::new(std::iter::empty()));
            }
            let (length, lower) = dimension(args)?.unwrap_or((0, 1));
            Ok(Box::new((0..length as i32).map(move |index| Ok(vec![Datum::Int4(lower + index)]))))
        },
    },
    TableFunction {
        name: "string_to_table",
        args: &[T::TEXT, T::TEXT],
        columns: &[("string_to_table", T::TEXT)],
        open: cut_to_table,
    },
    TableFunction {
        name: "string_to_table",
        args: &[T::TEXT, T::TEXT, T::TEXT],
        columns: &[("string_to_table", T::TEXT)],
        open: cut_to_table,
    },
];

fn cut_to_table(_: &EvalContext, args: &[Datum]) -> Result<FunctionRows> {
    let parts = match cut(args)? {
        Datum::Array(parts) => parts.elements.clone(),
        _ => Vec::new(),
    };
    Ok(Box::new(parts.into_iter().map(|part| Ok(vec![part]))))
}

/// Length and lower bound of the dimension that the second argument names.
fn dimension(args: &[Datum]) -> Result<Option<(u32, i32)>> {
    let (from, wanted) = (array(&args[0])?, int4(&args[1])?);
    Ok(usize::try_from(wanted - 1).ok().and_then(|wanted| from.dimensions.get(wanted).copied()))
}

/// NULL is the same as NULL here.
fn same(a: &Datum, b: &Datum) -> bool {
    a.compare(b).is_eq()
}

fn add(to: &Datum, element: &Datum, at_end: bool) -> Result<Datum> {
    match to {
        Datum::Null => {
            Ok(Datum::Array(Arc::new(Array::one_dimensional(element.natural_type(), vec![element.clone()]))))
        }
        to => with_element(array(to)?, element.clone(), at_end),
    }
}

/// The lower bound of an array that must have one dimension.
fn one_dimension(from: &Array) -> Result<i32> {
    match from.dimensions.as_slice() {
        [] => Ok(1),
        [(_, lower)] => Ok(*lower),
        _ => Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "searching for elements in multidimensional arrays is not supported",
        )),
    }
}

fn position(args: &[Datum]) -> Result<Datum> {
    if args[0].is_null() {
        return Ok(Datum::Null);
    }
    let from = array(&args[0])?;
    let lower = one_dimension(from)?;
    let start = match args.get(2) {
        None => lower,
        Some(Datum::Null) => {
            return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "initial position must not be null"));
        }
        Some(start) => int4(start)?,
    };
    let skipped = (i64::from(start) - i64::from(lower)).max(0) as usize;
    let found = from.elements.iter().skip(skipped).position(|item| same(item, &args[1]));
    Ok(found.map_or(Datum::Null, |index| Datum::Int4(lower + (skipped + index) as i32)))
}

fn join(context: &EvalContext, args: &[Datum]) -> Result<Datum> {
    if args[0].is_null() || args[1].is_null() {
        return Ok(Datum::Null);
    }
    let (from, separator) = (array(&args[0])?, string(&args[1])?);
    let null = match args.get(2) {
        None | Some(Datum::Null) => None,
        Some(text) => Some(string(text)?),
    };
    let shown = |item: &Datum| match item {
        Datum::Null => null.map(str::to_owned),
        item => Some(text::to_string(item, from.element, context)),
    };
    Ok(Datum::text(from.elements.iter().filter_map(shown).collect::<Vec<_>>().join(separator)))
}

fn cut(args: &[Datum]) -> Result<Datum> {
    if args[0].is_null() {
        return Ok(Datum::Null);
    }
    let from = string(&args[0])?;
    let null = match args.get(2) {
        None | Some(Datum::Null) => None,
        Some(text) => Some(string(text)?),
    };
    let parts: Vec<String> = match &args[1] {
        _ if from.is_empty() => Vec::new(),
        Datum::Null => from.chars().map(String::from).collect(),
        separator => match string(separator)? {
            "" => vec![from.to_owned()],
            separator => from.split(separator).map(str::to_owned).collect(),
        },
    };
    let part = |part: String| if null == Some(part.as_str()) { Datum::Null } else { Datum::text(part) };
    let parts = parts.into_iter().map(part).collect();
    Ok(Datum::Array(Arc::new(Array::one_dimensional(T::TEXT, parts))))
}

/// `a[1:2]`: the array, then for each bound its value and whether it was given.
static SLICE: ScalarFunction = scalar("array slice", &[ANY, T::INT4], ANY, |_, args| slice(args)).variadic().nullable();

/// What the binder makes of a slice; no call by name reaches it.
pub(crate) fn slice_function() -> &'static ScalarFunction {
    &SLICE
}

fn slice(args: &[Datum]) -> Result<Datum> {
    let Datum::Array(array) = &args[0] else { return Ok(Datum::Null) };
    let empty = || Ok(Datum::Array(Arc::new(Array { element: array.element, dimensions: vec![], elements: vec![] })));
    let bounds = args[1..].chunks_exact(4);
    let wanted = bounds.len();
    // First and last position in each dimension, from 0.
    let mut ranges: Vec<(usize, usize)> = Vec::with_capacity(array.dimensions.len());
    let mut nothing = wanted > array.dimensions.len() || array.dimensions.is_empty();
    for (at, bounds) in bounds.enumerate() {
        let value = |bound: usize| match (&bounds[bound], &bounds[bound + 1]) {
            (_, Datum::Int4(0)) => Ok(None),
            (Datum::Int4(value), _) => Ok(Some(i64::from(*value))),
            _ => Err(()),
        };
        let (Ok(lower), Ok(upper)) = (value(0), value(2)) else { return Ok(Datum::Null) };
        let Some((length, first)) = array.dimensions.get(at) else { continue };
        let (first, last) = (i64::from(*first), i64::from(*first) + i64::from(*length) - 1);
        let (lower, upper) = (lower.unwrap_or(first).max(first), upper.unwrap_or(last).min(last));
        nothing |= lower > upper;
        ranges.push(((lower - first).max(0) as usize, (upper - first).max(0) as usize));
    }
    if nothing {
        return empty();
    }
    ranges.extend(array.dimensions[wanted..].iter().map(|(length, _)| (0, *length as usize - 1)));
    let inside = |number: usize| {
        let mut rest = number;
        array.dimensions.iter().zip(&ranges).rev().all(|((length, _), (first, last))| {
            let place = rest % *length as usize;
            rest /= *length as usize;
            (*first..=*last).contains(&place)
        })
    };
    let elements = array.elements.iter().enumerate().filter(|(number, _)| inside(*number));
    let elements = elements.map(|(_, element)| element.clone()).collect();
    let dimensions = ranges.iter().map(|(first, last)| ((last - first + 1) as u32, 1)).collect();
    Ok(Datum::Array(Arc::new(Array { element: array.element, dimensions, elements })))
}
