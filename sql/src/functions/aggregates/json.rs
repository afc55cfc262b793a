//! Aggregates that make documents: json_agg, json_object_agg and their jsonb forms.

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;

use std::sync::Arc;

use serde_json::Value;

use super::super::json_build::{to_jsonb, write_json};
use super::super::{AggregateFunction, AggregateState, EvalContext};
use super::aggregate;
use crate::error::{Result, SqlError, SqlState};
use crate::types::{BaseType, DataType, Datum, json, text};

const ANY: DataType = DataType::new(BaseType::Any);

/// json_agg: text grows as rows come; nothing seen is NULL.
#[derive(Default)]
struct List(String);

impl AggregateState for List {
    fn update(&mut self, context: &EvalContext, args: &[Datum]) -> Result<()> {
        if self.0.is_empty() {
            self.0.push('[');
        } else {
            self.0.push_str(", ");
            // Structured elements begin lines of their own.
            if matches!(args[0], Datum::Array(_) | Datum::Record(_)) {
                self.0.push_str("\n ");
            }
        }
        write_json(context, &args[0], &mut self.0);
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        if self.0.is_empty() {
            return Ok(Datum::Null);
        }
        self.0.push(']');
        Ok(Datum::Json(std::mem::take(&mut self.0).into()))
    }

    fn memory_bytes(&self) -> usize {
        64 + self.0.capacity()
    }
}

/// json_object_agg: every pair as it came, equal keys too.
#[derive(Default)]
struct Object(String);

impl AggregateState for Object {
    fn update(&mut self, context: &EvalContext, args: &[Datum]) -> Result<()> {
        let name = key(context, &args[0], "field name must not be null")?;
        self.0.push_str(if self.0.is_empty() { "{ " } else { ", " });
        json::quote(&name, &mut self.0);
        self.0.push_str(" : ");
        write_json(context, &args[1], &mut self.0);
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        if self.0.is_empty() {
            return Ok(Datum::Null);
        }
        self.0.push_str(" }");
        Ok(Datum::Json(std::mem::take(&mut self.0).into()))
    }

    fn memory_bytes(&self) -> usize {
        64 + self.0.capacity()
    }
}

fn key(context: &EvalContext, value: &Datum, problem: &str) -> Result<String> {
    match value {
        Datum::Null => Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, problem)),
        value => Ok(text::to_string(value, value.natural_type(), context)),
    }
}

/// jsonb_agg.
#[derive(Default)]
struct Elements {
    items: Option<Vec<Value>>,
    bytes: usize,
}

impl AggregateState for Elements {
    fn update(&mut self, context: &EvalContext, args: &[Datum]) -> Result<()> {
        let item = to_jsonb(context, &args[0])?;
        self.bytes += json::heap_bytes(&item);
        self.items.get_or_insert_default().push(item);
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        Ok(self.items.take().map_or(Datum::Null, |items| Datum::Jsonb(Arc::new(Value::Array(items)))))
    }

    fn memory_bytes(&self) -> usize {
        64 + self.bytes
    }
}

/// jsonb_object_agg: the last of equal keys wins.
#[derive(Default)]
struct Members {
    pairs: Option<Vec<(String, Value)>>,
    bytes: usize,
}

impl AggregateState for Members {
    fn update(&mut self, context: &EvalContext, args: &[Datum]) -> Result<()> {
        let pair = (key(context, &args[0], "field name must not be null")?, to_jsonb(context, &args[1])?);
        self.bytes += pair.0.len() + 24 + json::heap_bytes(&pair.1);
        self.pairs.get_or_insert_default().push(pair);
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        Ok(self.pairs.take().map_or(Datum::Null, |pairs| Datum::Jsonb(Arc::new(json::object(pairs)))))
    }

    fn memory_bytes(&self) -> usize {
        64 + self.bytes
    }
}

/// The signatures.
pub const AGGREGATES: &[AggregateFunction] = &[
    aggregate("json_agg", &[ANY], DataType::JSON, || Box::new(List::default())),
    aggregate("jsonb_agg", &[ANY], DataType::JSONB, || Box::new(Elements::default())),
    aggregate("json_object_agg", &[ANY, ANY], DataType::JSON, || Box::new(Object::default())),
    aggregate("jsonb_object_agg", &[ANY, ANY], DataType::JSONB, || Box::new(Members::default())),
];
