//! Aggregates that keep what they see: string_agg, array_agg.

use std::sync::Arc;

use super::super::operators::mistyped;
use super::super::{AggregateFunction, AggregateState, EvalContext};
use super::aggregate;
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Array, BaseType, DataType, Datum};

/// Longest result, bytes; as for any value.
const MAX_RESULT_BYTES: usize = 256 << 20;

fn too_long() -> SqlError {
    SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("aggregate result exceeds {MAX_RESULT_BYTES} bytes"))
}

/// string_agg of text or bytea: a value's own delimiter stands before it, except the first's.
#[derive(Default)]
struct Concatenation {
    bytes: Option<Vec<u8>>,
    binary: bool,
}

impl AggregateState for Concatenation {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        fn bytes(value: &Datum) -> Option<&[u8]> {
            match value {
                Datum::Bytea(bytes) => Some(bytes),
                other => other.as_str().map(str::as_bytes),
            }
        }
        if args[0].is_null() {
            return Ok(());
        }
        let value = bytes(&args[0]).ok_or_else(|| mistyped("string_agg", args))?;
        match &mut self.bytes {
            None => self.bytes = Some(value.to_vec()),
            Some(so_far) => {
                so_far.extend_from_slice(bytes(&args[1]).unwrap_or_default());
                so_far.extend_from_slice(value);
                if so_far.len() > MAX_RESULT_BYTES {
                    return Err(too_long());
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        Ok(match self.bytes.take() {
            None => Datum::Null,
            Some(bytes) if self.binary => Datum::Bytea(bytes.into()),
            Some(bytes) => Datum::text(String::from_utf8(bytes).expect("a concatenation of texts is text")),
        })
    }

    fn memory_bytes(&self) -> usize {
        64 + self.bytes.as_ref().map_or(0, Vec::capacity)
    }
}

/// array_agg; NULLs are kept. The element type is filled in from the values, or by the executor's cast to
/// the call's type when all are NULL.
#[derive(Default)]
struct Elements {
    elements: Vec<Datum>,
    bytes: usize,
}

impl AggregateState for Elements {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        self.bytes += std::mem::size_of::<Datum>() + args[0].heap_bytes();
        if self.bytes > MAX_RESULT_BYTES {
            return Err(too_long());
        }
        self.elements.push(args[0].clone());
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        if self.elements.is_empty() {
            return Ok(Datum::Null);
        }
        let elements = std::mem::take(&mut self.elements);
        let element = elements.iter().find(|value| !value.is_null()).map_or(DataType::TEXT, Datum::natural_type);
        let length = u32::try_from(elements.len()).map_err(|_| too_long())?;
        Ok(Datum::Array(Arc::new(Array { element, dimensions: vec![(length, 1)], elements })))
    }

    fn memory_bytes(&self) -> usize {
        64 + self.bytes
    }
}

/// array_agg of arrays: one dimension more.
#[derive(Default)]
struct Arrays {
    arrays: Vec<Arc<Array>>,
}

impl AggregateState for Arrays {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        let invalid = |message: &str| Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message));
        match &args[0] {
            Datum::Null => invalid("cannot accumulate null arrays"),
            Datum::Array(array) if array.elements.is_empty() => invalid("cannot accumulate empty arrays"),
            Datum::Array(array) => {
                if self.arrays.first().is_some_and(|first| first.dimensions != array.dimensions) {
                    return invalid("cannot accumulate arrays of different dimensionality");
                }
                self.arrays.push(array.clone());
                Ok(())
            }
            _ => Err(mistyped("array_agg", args)),
        }
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        let Some(first) = self.arrays.first().cloned() else { return Ok(Datum::Null) };
        let length = u32::try_from(self.arrays.len()).map_err(|_| too_long())?;
        let dimensions = [(length, 1)].into_iter().chain(first.dimensions.iter().copied()).collect();
        let elements = self.arrays.drain(..).flat_map(|array| array.elements.clone()).collect();
        Ok(Datum::Array(Arc::new(Array { element: first.element, dimensions, elements })))
    }
}

const ELEMENT: DataType = DataType::new(BaseType::AnyElement);
const ARRAY: DataType = DataType::new(BaseType::AnyArray);

/// The aggregates of this file.
pub const AGGREGATES: &[AggregateFunction] = &[
    aggregate("string_agg", &[DataType::TEXT, DataType::TEXT], DataType::TEXT, || Box::new(Concatenation::default())),
    aggregate("string_agg", &[DataType::BYTEA, DataType::BYTEA], DataType::BYTEA, || {
        Box::new(Concatenation { binary: true, ..Concatenation::default() })
    }),
    aggregate("array_agg", &[ARRAY], ARRAY, || Box::new(Arrays::default())),
    aggregate("array_agg", &[ELEMENT], ARRAY, || Box::new(Elements::default())),
];
