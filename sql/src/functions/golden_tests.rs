//! Functions and operators compared with PostgreSQL's answers.

use super::{resolve_function, resolve_operator};
use crate::error::Result;
use crate::types::cast::{apply_modifier, cast};
use crate::types::{DataType, Datum, golden, text};

#[test]
fn calls_answer_as_in_postgres() {
    let context = golden::context();
    let argument = |field: &&str| -> Result<(Datum, DataType)> {
        let (name, value) = field.split_once(':').expect("type:value");
        let data_type = DataType::from_name(name)?;
        if value == "<NULL>" {
            return Ok((Datum::Null, data_type));
        }
        let value = text::parse(value, data_type.bare(), &context)?;
        Ok((apply_modifier(value, data_type, true)?, data_type))
    };
    golden::check(include_str!("golden/calls.tsv"), |fields| {
        let arguments: Result<Vec<(Datum, DataType)>> = fields[1..].iter().map(argument).collect();
        let arguments = arguments?;
        let types: Vec<DataType> = arguments.iter().map(|argument| argument.1).collect();
        let call = match (fields[0].strip_prefix("op:"), types.as_slice()) {
            (Some(symbol), [left, right]) => resolve_operator(symbol, Some(*left), *right)?,
            (Some(symbol), [right]) => resolve_operator(symbol, None, *right)?,
            _ => resolve_function(fields[0], &types)?,
        };
        let mut values = Vec::new();
        for ((value, from), to) in arguments.iter().zip(&call.args) {
            values.push(cast(value, *from, to.bare(), false, &context)?);
        }
        if call.function.strict && values.iter().any(Datum::is_null) {
            return Ok(None);
        }
        let result = (call.function.eval)(&context, &values)?;
        Ok((!result.is_null()).then(|| text::to_string(&result, call.result, &context)))
    });
}
