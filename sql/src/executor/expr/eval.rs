//! Evaluation of [`Code`].

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Arithmetic, Code, compare};
use crate::error::{Result, SqlError, SqlState};
use crate::executor::Context;
use crate::functions::ScalarFunction;
use crate::types::{Array, DataType, Datum, cast};

impl Code {
    /// The value over an input row.
    pub(crate) fn eval(&self, row: &[Datum], cx: &Context) -> Result<Datum> {
        match self {
            Code::Literal(value) => Ok(value.clone()),
            Code::Column(index) => Ok(row[*index].clone()),
            Code::Parameter(index) => cx.parameter(*index).cloned(),
            Code::Outer { depth, index } => Ok(cx.outer(*depth, *index)),
            Code::Arithmetic { operation, function, left, right } => {
                let (mut left_value, mut right_value) = (Datum::Null, Datum::Null);
                let left = left.operand(row, cx, &mut left_value)?;
                let right = right.operand(row, cx, &mut right_value)?;
                if left.is_null() || right.is_null() {
                    return Ok(Datum::Null);
                }
                match operation.apply(left, right) {
                    Some(value) => Ok(value),
                    None => (function.eval)(cx.eval(), &[left.clone(), right.clone()]),
                }
            }
            Code::Call { function, args } => {
                let mut values: SmallVec<[Datum; 4]> = SmallVec::new();
                let mut null = false;
                // All of them, also behind a NULL: their errors are the call's.
                for arg in args {
                    let value = arg.eval(row, cx)?;
                    null |= value.is_null();
                    values.push(value);
                }
                if null && function.strict {
                    return Ok(Datum::Null);
                }
                call(function, &values, cx)
            }
            Code::Cast { inner, from, to, explicit } => {
                let value = inner.eval(row, cx)?;
                if value.is_null() {
                    return Ok(Datum::Null);
                }
                cast::cast(&value, *from, *to, *explicit, cx.eval())
            }
            Code::Case { branches, otherwise } => {
                for (condition, result) in branches {
                    if condition.test(row, cx)? {
                        return result.eval(row, cx);
                    }
                }
                otherwise.as_ref().map_or(Ok(Datum::Null), |otherwise| otherwise.eval(row, cx))
            }
            Code::Coalesce(args) => {
                for arg in args {
                    let value = arg.eval(row, cx)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Ok(Datum::Null)
            }
            Code::Extremum { args, greatest } => {
                let mut best = Datum::Null;
                for arg in args {
                    let value = arg.eval(row, cx)?;
                    let better = !value.is_null()
                        && (best.is_null() || {
                            let order = compare(&value, &best);
                            if *greatest { order.is_gt() } else { order.is_lt() }
                        });
                    if better {
                        best = value;
                    }
                }
                Ok(best)
            }
            Code::Array { elements, element_type } => {
                let values = elements.iter().map(|element| element.eval(row, cx)).collect::<Result<Vec<_>>>()?;
                array_of(values, *element_type)
            }
            Code::Subscript { array, indexes } => subscript(array, indexes, row, cx),
            Code::Record(fields) => {
                let fields = fields.iter().map(|field| field.eval(row, cx)).collect::<Result<Vec<_>>>()?;
                Ok(Datum::Record(fields.into()))
            }
            Code::Subquery(subquery) => subquery.eval(row, cx),
            Code::Compare { .. }
            | Code::And(_)
            | Code::Or(_)
            | Code::Not(_)
            | Code::IsNull { .. }
            | Code::BooleanTest { .. }
            | Code::Distinct { .. }
            | Code::InList { .. }
            | Code::InConstants { .. }
            | Code::Quantified { .. } => Ok(self.logic(row, cx)?.map_or(Datum::Null, Datum::Bool)),
        }
    }

    /// Whether a predicate is true (not false, not NULL).
    #[inline]
    pub(crate) fn test(&self, row: &[Datum], cx: &Context) -> Result<bool> {
        Ok(self.logic(row, cx)? == Some(true))
    }

    /// A predicate's value; `None` is NULL.
    pub(crate) fn logic(&self, row: &[Datum], cx: &Context) -> Result<Option<bool>> {
        match self {
            Code::Compare { comparison, left, right } => {
                let (mut left_value, mut right_value) = (Datum::Null, Datum::Null);
                let left = left.operand(row, cx, &mut left_value)?;
                let right = right.operand(row, cx, &mut right_value)?;
                if left.is_null() || right.is_null() {
                    return Ok(None);
                }
                Ok(Some(comparison.holds(compare(left, right))))
            }
            Code::And(args) => junction(args, false, row, cx),
            Code::Or(args) => junction(args, true, row, cx),
            Code::Not(inner) => Ok(inner.logic(row, cx)?.map(|value| !value)),
            Code::IsNull { inner, negated } => {
                let mut value = Datum::Null;
                let value = inner.operand(row, cx, &mut value)?;
                // A record IS NULL when all its fields are, and IS NOT NULL when none is.
                let answer = match value {
                    Datum::Record(fields) if *negated => !fields.iter().any(Datum::is_null),
                    Datum::Record(fields) => fields.iter().all(Datum::is_null),
                    value => value.is_null() != *negated,
                };
                Ok(Some(answer))
            }
            Code::BooleanTest { inner, value, negated } => {
                Ok(Some((inner.logic(row, cx)? == Some(*value)) != *negated))
            }
            Code::Distinct { left, right, negated } => {
                let left = left.eval(row, cx)?;
                let right = right.eval(row, cx)?;
                Ok(Some((left == right) == *negated))
            }
            Code::InList { inner, list, negated } => {
                let value = inner.eval(row, cx)?;
                let mut answer = Some(false);
                for item in list {
                    let item = item.eval(row, cx)?;
                    if value.is_null() || item.is_null() {
                        answer = None;
                    } else if compare(&value, &item).is_eq() {
                        answer = Some(true);
                        break;
                    }
                }
                Ok(answer.map(|found| found != *negated))
            }
            Code::InConstants { inner, list, negated } => {
                Ok(list.contains(inner.eval(row, cx)?).map(|found| found != *negated))
            }
            Code::Quantified { inner, operator, array, all } => {
                let value = inner.eval(row, cx)?;
                let Datum::Array(array) = array.eval(row, cx)? else { return Ok(None) };
                quantified(&value, operator, &array.elements, *all, cx)
            }
            _ => match self.eval(row, cx)? {
                Datum::Bool(value) => Ok(Some(value)),
                Datum::Null => Ok(None),
                other => Err(SqlError::internal(format!("a predicate gave {other:?}"))),
            },
        }
    }

    /// The value, borrowed where it stands already; `scratch` holds it otherwise.
    #[inline]
    pub(crate) fn operand<'a>(
        &'a self,
        row: &'a [Datum],
        cx: &'a Context,
        scratch: &'a mut Datum,
    ) -> Result<&'a Datum> {
        match self {
            Code::Column(index) => Ok(&row[*index]),
            Code::Literal(value) => Ok(value),
            Code::Parameter(index) => cx.parameter(*index),
            _ => {
                *scratch = self.eval(row, cx)?;
                Ok(scratch)
            }
        }
    }
}

/// AND (`decisive` false) or OR (`decisive` true).
#[inline]
fn junction(args: &[Code], decisive: bool, row: &[Datum], cx: &Context) -> Result<Option<bool>> {
    let mut answer = Some(!decisive);
    for arg in args {
        match arg.logic(row, cx)? {
            Some(value) if value == decisive => return Ok(Some(decisive)),
            Some(_) => {}
            None => answer = None,
        }
    }
    Ok(answer)
}

/// Calls a function; NULL arguments of strict ones have been dealt with.
pub(super) fn call(function: &'static ScalarFunction, args: &[Datum], cx: &Context) -> Result<Datum> {
    if function.session {
        return cx.eval().session.call(function, args, cx.eval());
    }
    (function.eval)(cx.eval(), args)
}

/// Calls an operator whose answer is a boolean.
pub(super) fn call_predicate(
    operator: &'static ScalarFunction,
    left: &Datum,
    right: &Datum,
    cx: &Context,
) -> Result<Option<bool>> {
    if operator.strict && (left.is_null() || right.is_null()) {
        return Ok(None);
    }
    match call(operator, &[left.clone(), right.clone()], cx)? {
        Datum::Bool(value) => Ok(Some(value)),
        Datum::Null => Ok(None),
        other => Err(SqlError::internal(format!("operator {} gave {other:?}", operator.name))),
    }
}

/// `value operator ANY (elements)`, or ALL.
fn quantified(
    value: &Datum,
    operator: &'static ScalarFunction,
    elements: &[Datum],
    all: bool,
    cx: &Context,
) -> Result<Option<bool>> {
    let mut answer = Some(all);
    for element in elements {
        match call_predicate(operator, value, element, cx)? {
            Some(holds) if holds != all => return Ok(Some(!all)),
            Some(_) => {}
            None => answer = None,
        }
    }
    Ok(answer)
}

impl Arithmetic {
    pub(crate) fn of_symbol(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "+" => Arithmetic::Add,
            "-" => Arithmetic::Subtract,
            "*" => Arithmetic::Multiply,
            _ => return None,
        })
    }

    /// `None`: not one of the fast cases, or out of range.
    #[inline]
    fn apply(self, left: &Datum, right: &Datum) -> Option<Datum> {
        match (left, right) {
            (Datum::Int4(a), Datum::Int4(b)) => match self {
                Arithmetic::Add => a.checked_add(*b),
                Arithmetic::Subtract => a.checked_sub(*b),
                Arithmetic::Multiply => a.checked_mul(*b),
            }
            .map(Datum::Int4),
            (Datum::Int8(a), Datum::Int8(b)) => match self {
                Arithmetic::Add => a.checked_add(*b),
                Arithmetic::Subtract => a.checked_sub(*b),
                Arithmetic::Multiply => a.checked_mul(*b),
            }
            .map(Datum::Int8),
            (Datum::Float8(a), Datum::Float8(b)) => {
                let value = match self {
                    Arithmetic::Add => a + b,
                    Arithmetic::Subtract => a - b,
                    Arithmetic::Multiply => a * b,
                };
                // Zero may be an underflow, which is an error too.
                (value.is_finite() && (value != 0.0 || self != Arithmetic::Multiply)).then_some(Datum::Float8(value))
            }
            _ => None,
        }
    }
}

/// ARRAY[…]: elements that are arrays make one of a dimension more.
pub(super) fn array_of(values: Vec<Datum>, element: DataType) -> Result<Datum> {
    let Some(Datum::Array(first)) = values.iter().find(|value| matches!(value, Datum::Array(_))) else {
        let dimensions = if values.is_empty() { Vec::new() } else { vec![(values.len() as u32, 1)] };
        return Ok(Datum::Array(Arc::new(Array { element, dimensions, elements: values })));
    };
    let mut dimensions = vec![(values.len() as u32, 1)];
    dimensions.extend(&first.dimensions);
    let inner = first.dimensions.clone();
    let mut elements = Vec::new();
    for value in values {
        match value {
            Datum::Array(array) if array.dimensions == inner => elements.extend(array.elements.iter().cloned()),
            _ => {
                let message = "multidimensional arrays must have array expressions with matching dimensions";
                return Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message));
            }
        }
    }
    if elements.is_empty() {
        dimensions.clear();
    }
    Ok(Datum::Array(Arc::new(Array { element, dimensions, elements })))
}

/// `array[index, …]`: NULL outside the bounds, or with another number of indexes than dimensions.
fn subscript(array: &Code, indexes: &[Code], row: &[Datum], cx: &Context) -> Result<Datum> {
    let value = array.eval(row, cx)?;
    let mut positions: SmallVec<[i64; 4]> = SmallVec::new();
    for index in indexes {
        match index.eval(row, cx)? {
            Datum::Int4(index) => positions.push(i64::from(index)),
            Datum::Int8(index) => positions.push(index),
            Datum::Int2(index) => positions.push(i64::from(index)),
            Datum::Null => return Ok(Datum::Null),
            other => return Err(SqlError::internal(format!("array subscript {other:?}"))),
        }
    }
    match value {
        Datum::Array(array) => {
            if positions.len() != array.dimensions.len() {
                return Ok(Datum::Null);
            }
            let mut at = 0;
            for (position, (length, lower)) in positions.iter().zip(&array.dimensions) {
                let offset = position - i64::from(*lower);
                if offset < 0 || offset >= i64::from(*length) {
                    return Ok(Datum::Null);
                }
                at = at * i64::from(*length) + offset;
            }
            Ok(array.elements[at as usize].clone())
        }
        Datum::Null => Ok(Datum::Null),
        other => Err(SqlError::internal(format!("subscript of {other:?}"))),
    }
}
