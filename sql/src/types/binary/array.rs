//! Arrays: number of dimensions i32, whether there are NULLs i32, element type OID, (length i32, lower bound
//! i32)*, then each element's length (-1 is NULL) and bytes. Records: column count, then OID, length, bytes.

use std::sync::Arc;

use super::malformed;
use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;
use crate::types::{Array, DataType, Datum};

pub(super) fn decode(bytes: &[u8], data_type: DataType, context: &EvalContext) -> Result<Datum> {
    let element = data_type.element().unwrap_or(data_type);
    let mut rest = bytes;
    let mut next = || -> Result<i32> {
        let (head, after) = rest.split_first_chunk().ok_or_else(|| malformed(data_type))?;
        rest = after;
        Ok(i32::from_be_bytes(*head))
    };
    let count = next()?;
    if !(0..=6).contains(&count) {
        let message = format!("invalid number of dimensions: {count}");
        return Err(SqlError::new(SqlState::INVALID_BINARY_REPRESENTATION, message));
    }
    next()?;
    let oid = next()? as u32;
    if oid != element.oid() {
        let message = format!("binary data has array element type {oid} instead of expected {}", element.oid());
        return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message));
    }
    let mut dimensions = Vec::new();
    let mut total = u64::from(count > 0);
    for _ in 0..count {
        let (length, lower) = (next()?, next()?);
        let length = u32::try_from(length).map_err(|_| malformed(data_type))?;
        total = total.saturating_mul(length.into());
        dimensions.push((length, lower));
    }
    if total > (rest.len() / 4) as u64 {
        return Err(malformed(data_type));
    }
    let mut elements = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(|| malformed(data_type))?;
        rest = after;
        elements.push(match i32::from_be_bytes(*length) {
            -1 => Datum::Null,
            length => {
                let length = usize::try_from(length).map_err(|_| malformed(data_type))?;
                let (value, after) = rest.split_at_checked(length).ok_or_else(|| malformed(data_type))?;
                rest = after;
                super::decode(value, element.bare(), context)?
            }
        });
    }
    if !rest.is_empty() {
        return Err(malformed(data_type));
    }
    if elements.is_empty() {
        dimensions.clear();
    }
    Ok(Datum::Array(Arc::new(Array { element, dimensions, elements })))
}

pub(super) fn encode(array: &Array, element: DataType, context: &EvalContext, out: &mut Vec<u8>) {
    let mut put = |value: i32| out.extend_from_slice(&value.to_be_bytes());
    put(array.dimensions.len() as i32);
    put(array.elements.iter().any(Datum::is_null).into());
    put(element.oid() as i32);
    for (length, lower) in &array.dimensions {
        put(*length as i32);
        put(*lower);
    }
    array.elements.iter().for_each(|item| encode_item(item, element, context, out));
}

fn encode_item(item: &Datum, data_type: DataType, context: &EvalContext, out: &mut Vec<u8>) {
    if item.is_null() {
        return out.extend_from_slice(&(-1i32).to_be_bytes());
    }
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    super::encode(item, data_type, context, out);
    let length = (out.len() - at - 4) as i32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

pub(super) fn encode_record(items: &[Datum], context: &EvalContext, out: &mut Vec<u8>) {
    out.extend_from_slice(&(items.len() as i32).to_be_bytes());
    for item in items {
        let data_type = item.natural_type();
        out.extend_from_slice(&data_type.oid().to_be_bytes());
        encode_item(item, data_type, context, out);
    }
}
