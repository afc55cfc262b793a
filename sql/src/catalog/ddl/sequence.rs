//! CREATE SEQUENCE, and the sequences behind serial and identity columns.

use sqlparser::ast::{DataType as TypeName, Expr, ObjectName, SequenceOptions, UnaryOperator, Value};

use super::CommandTag;
use super::syntax::Words;
use super::work::{QualifiedName, Work, duplicate_relation, name_parts, qualified};
use crate::catalog::object::Object;
use crate::catalog::{Oid, Relation, Sequence, SequencePosition};
use crate::error::{Result, SqlError, SqlState};
use crate::store::TableLockMode;
use crate::types::{BaseType, DataType};

/// Options of CREATE and ALTER SEQUENCE; what is `None` was not given.
#[derive(Clone, Debug, Default)]
pub(super) struct SequenceSpec {
    pub data_type: Option<DataType>,
    pub start: Option<i64>,
    pub increment: Option<i64>,
    /// `Some(None)`: NO MINVALUE.
    pub min: Option<Option<i64>>,
    pub max: Option<Option<i64>>,
    pub cache: Option<i64>,
    pub cycle: Option<bool>,
}

impl SequenceSpec {
    /// From the parser's options.
    pub fn new(data_type: Option<&TypeName>, options: &[SequenceOptions]) -> Result<Self> {
        let mut spec = Self::default();
        if let Some(name) = data_type {
            spec.data_type = Some(sequence_type(super::work::data_type(name)?)?);
        }
        for option in options {
            match option {
                SequenceOptions::IncrementBy(value, _) => spec.increment = Some(integer(value)?),
                SequenceOptions::MinValue(value) => spec.min = Some(value.as_ref().map(integer).transpose()?),
                SequenceOptions::MaxValue(value) => spec.max = Some(value.as_ref().map(integer).transpose()?),
                SequenceOptions::StartWith(value, _) => spec.start = Some(integer(value)?),
                SequenceOptions::Cache(value) => spec.cache = Some(integer(value)?),
                // The parser holds whether NO stood before CYCLE.
                SequenceOptions::Cycle(no) => spec.cycle = Some(!no),
            }
        }
        Ok(spec)
    }
}

/// Sequences count in smallint, integer or bigint.
pub(super) fn sequence_type(data_type: DataType) -> Result<DataType> {
    match data_type.base {
        BaseType::Int2 | BaseType::Int4 | BaseType::Int8 if !data_type.array => Ok(data_type),
        _ => {
            Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "sequence type must be smallint, integer, or bigint"))
        }
    }
}

/// A signed integer literal.
pub(super) fn integer(expr: &Expr) -> Result<i64> {
    fn wide(expr: &Expr) -> Option<i128> {
        match expr {
            Expr::Value(value) => match &value.value {
                Value::Number(text, _) => text.parse().ok(),
                _ => None,
            },
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => wide(expr).map(|value| -value),
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } | Expr::Nested(expr) => wide(expr),
            _ => None,
        }
    }
    let value = wide(expr)
        .ok_or_else(|| SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{expr}\"")))?;
    i64::try_from(value).map_err(|_| {
        let message = format!("value \"{value}\" is out of range for type bigint");
        SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
    })
}

fn invalid(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Applies options to a sequence (a new one has `base` none) with Postgres' defaults and checks.
pub(super) fn define(base: Option<&Sequence>, spec: &SequenceSpec) -> Result<Sequence> {
    let data_type = spec.data_type.or(base.map(|base| base.data_type)).unwrap_or(DataType::INT8);
    let (type_min, type_max) = match data_type.base {
        BaseType::Int2 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        BaseType::Int4 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    let increment = spec.increment.or(base.map(|base| base.increment)).unwrap_or(1);
    if increment == 0 {
        return Err(invalid("INCREMENT must not be zero".into()));
    }
    let (default_min, default_max) = if increment > 0 { (1, type_max) } else { (type_min, -1) };
    // A bound that was its old type's limit follows the type.
    let kept = |value: fn(&Sequence) -> i64| base.filter(|_| spec.data_type.is_none()).map(value);
    let min = spec.min.unwrap_or_else(|| kept(|base| base.min)).unwrap_or(default_min);
    let max = spec.max.unwrap_or_else(|| kept(|base| base.max)).unwrap_or(default_max);
    let shown = if data_type.base == BaseType::Int2 { "smallint" } else { "integer" };
    if max > type_max || max < type_min {
        return Err(invalid(format!("MAXVALUE ({max}) is out of range for sequence data type {shown}")));
    }
    if min < type_min || min > type_max {
        return Err(invalid(format!("MINVALUE ({min}) is out of range for sequence data type {shown}")));
    }
    if min >= max {
        return Err(invalid(format!("MINVALUE ({min}) must be less than MAXVALUE ({max})")));
    }
    let start = spec.start.or(base.map(|base| base.start)).unwrap_or(if increment > 0 { min } else { max });
    if start < min {
        return Err(invalid(format!("START value ({start}) cannot be less than MINVALUE ({min})")));
    }
    if start > max {
        return Err(invalid(format!("START value ({start}) cannot be greater than MAXVALUE ({max})")));
    }
    let cache = spec.cache.or(base.map(|base| base.cache)).unwrap_or(1);
    if cache <= 0 {
        return Err(invalid(format!("CACHE ({cache}) must be greater than zero")));
    }
    let cycle = spec.cycle.or(base.map(|base| base.cycle)).unwrap_or(false);
    let empty = Sequence {
        oid: 0,
        schema: 0,
        name: String::new(),
        owner: 0,
        data_type,
        start,
        increment,
        min,
        max,
        cache,
        cycle,
        owned_by: None,
        identity: false,
        state: 0,
        privileges: Vec::new(),
    };
    Ok(match base {
        None => empty,
        Some(base) => Sequence { data_type, start, increment, min, max, cache, cycle, ..base.clone() },
    })
}

impl Work<'_> {
    /// Creates a sequence; its name has been locked and found free.
    pub fn create_sequence(&mut self, schema: Oid, name: String, sequence: Sequence) -> Result<Oid> {
        let oid = self.allocate_oid()?;
        let (owner, state) = (self.context.role, u64::from(oid));
        self.put(Object::Sequence(Sequence { oid, schema, name, owner, state, ..sequence }))?;
        Ok(oid)
    }

    /// The sequence of a serial or identity column, before its table exists.
    pub fn create_column_sequence(
        &mut self,
        schema: Oid,
        table: (&str, Oid),
        column: (&str, usize),
        sequence: Sequence,
        identity: bool,
    ) -> Result<Oid> {
        let name = self.free_name(schema, &format!("{}_{}", table.0, column.0), "seq", &[]);
        self.lock_name(schema, &name)?;
        if self.catalog.relation_in(schema, &name).is_some() {
            return Err(duplicate_relation(&name));
        }
        self.create_sequence(schema, name, Sequence { owned_by: Some((table.1, column.1)), identity, ..sequence })
    }

    /// `OWNED BY table.column` or `OWNED BY NONE`.
    pub fn resolve_owned_by(&self, name: &ObjectName) -> Result<Option<(Oid, usize)>> {
        let mut parts = name_parts(name)?;
        if parts.len() == 1 && parts[0] == "none" {
            return Ok(None);
        }
        let column = parts.pop().unwrap_or_default();
        let Some(table) = parts.pop() else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "invalid OWNED BY option")
                .with_hint("Specify OWNED BY table.column or OWNED BY NONE."));
        };
        let name = QualifiedName { schema: parts.pop(), name: table };
        match self.find(&name)? {
            Some(Relation::Table(table)) => match table.column(&column) {
                Some(position) => Ok(Some((table.oid, position))),
                None => Err(SqlError::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{column}\" of relation \"{}\" does not exist", table.name),
                )),
            },
            Some(_) => Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("sequence cannot be owned by relation \"{name}\""),
            )),
            None => Err(super::work::undefined_relation(&name)),
        }
    }
}

/// Options in any order, as Postgres takes them, and what only ALTER has.
#[derive(Default)]
struct Clauses {
    spec: SequenceSpec,
    owned_by: Option<ObjectName>,
    /// RESTART, with a value or from the start.
    restart: Option<Option<i64>>,
}

fn clauses(words: &mut Words, altering: bool) -> Result<Clauses> {
    let mut found = Clauses::default();
    let spec = &mut found.spec;
    while !words.is_end() {
        if words.take(&["as"]) {
            let name = words.name()?;
            spec.data_type = Some(sequence_type(DataType::from_name(&name)?)?);
        } else if words.take(&["increment"]) {
            words.take(&["by"]);
            spec.increment = Some(words.integer()?);
        } else if words.take(&["no", "minvalue"]) {
            spec.min = Some(None);
        } else if words.take(&["no", "maxvalue"]) {
            spec.max = Some(None);
        } else if words.take(&["no", "cycle"]) {
            spec.cycle = Some(false);
        } else if words.take(&["minvalue"]) {
            spec.min = Some(Some(words.integer()?));
        } else if words.take(&["maxvalue"]) {
            spec.max = Some(Some(words.integer()?));
        } else if words.take(&["cycle"]) {
            spec.cycle = Some(true);
        } else if words.take(&["cache"]) {
            spec.cache = Some(words.integer()?);
        } else if words.take(&["start"]) {
            words.take(&["with"]);
            spec.start = Some(words.integer()?);
        } else if words.take(&["owned", "by"]) {
            found.owned_by = Some(words.qualified()?);
        } else if altering && words.take(&["restart"]) {
            let given = words.take(&["with"]) || words.peeks_number();
            found.restart = Some(if given { Some(words.integer()?) } else { None });
        } else {
            return Err(words.error());
        }
    }
    Ok(found)
}

/// CREATE SEQUENCE.
pub(super) fn create(work: &mut Work<'_>, words: &mut Words) -> Result<CommandTag> {
    let tag = CommandTag("CREATE SEQUENCE".into());
    let if_not_exists = words.take(&["if", "not", "exists"]);
    let name = qualified(&words.qualified()?, work)?;
    let Clauses { spec, owned_by, .. } = clauses(words, false)?;
    let sequence = define(None, &spec)?;
    let schema = work.creation_schema(&name)?;
    work.lock_name(schema, &name.name)?;
    if work.catalog.relation_in(schema, &name.name).is_some() {
        if if_not_exists {
            let message = format!("relation \"{}\" already exists, skipping", name.name);
            work.notice(SqlState::DUPLICATE_TABLE, message);
            return Ok(tag);
        }
        return Err(duplicate_relation(&name.name));
    }
    let owned_by = owned_by.map(|name| work.resolve_owned_by(&name)).transpose()?.flatten();
    work.create_sequence(schema, name.name, Sequence { owned_by, ..sequence })?;
    Ok(tag)
}

/// ALTER SEQUENCE; RENAME, OWNER TO and SET SCHEMA are every relation's.
pub(super) fn alter(work: &mut Work<'_>, name: &QualifiedName, words: &mut Words) -> Result<()> {
    let sequence = work.lock_sequence(name)?;
    let clauses = clauses(words, true)?;
    if let Some((oid, at)) = sequence.owned_by
        && sequence.identity
        && clauses.owned_by.is_some()
    {
        let table = work.catalog.table(oid).map_or("", |table| &table.name);
        let message = "cannot change ownership of identity sequence";
        let detail = format!("Sequence \"{}\" is linked to table \"{table}\" (column {}).", sequence.name, at + 1);
        return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).with_detail(detail));
    }
    work.redefine_sequence(&sequence, &clauses.spec, clauses.restart)?;
    if let Some(owner) = clauses.owned_by {
        let owned_by = work.resolve_owned_by(&owner)?;
        let changed = work.catalog.sequence(sequence.oid).map(|found| Sequence { owned_by, ..Sequence::clone(found) });
        changed.map_or(Ok(()), |changed| work.put(Object::Sequence(changed)))?;
    }
    Ok(())
}

impl Work<'_> {
    fn lock_sequence(&mut self, name: &QualifiedName) -> Result<std::sync::Arc<Sequence>> {
        match self.lock_relation(name, TableLockMode::ShareRowExclusive)? {
            Some(Relation::Sequence(sequence)) => {
                self.require_owner(sequence.owner, "sequence", &sequence.name)?;
                Ok(sequence)
            }
            Some(other) => {
                let message = format!("\"{}\" is not a sequence", other.name());
                Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message))
            }
            None => Err(super::work::undefined_relation(name)),
        }
    }

    /// Applies options to a sequence. Its position goes on where it stands, or at `restart`; either way under
    /// a new state, so that values that other sessions have cached by the old definition are not given out.
    pub fn redefine_sequence(
        &mut self,
        sequence: &Sequence,
        spec: &SequenceSpec,
        restart: Option<Option<i64>>,
    ) -> Result<()> {
        let changed = define(Some(sequence), spec)?;
        let store = self.context.manager.store();
        let standing = self.context.manager.sequences().position(&**store, self.catalog.counters(), sequence)?;
        let position = match restart {
            Some(value) => SequencePosition { last_value: value.unwrap_or(changed.start), is_called: false },
            // Not yet used: the new start counts.
            None if !standing.is_called && spec.start.is_some() => {
                SequencePosition { last_value: changed.start, is_called: false }
            }
            None => standing,
        };
        let (value, min, max) = (position.last_value, changed.min, changed.max);
        if value < min || value > max {
            let (word, bound, limit) =
                if value < min { ("less", "MINVALUE", min) } else { ("greater", "MAXVALUE", max) };
            let message = format!("RESTART value ({value}) cannot be {word} than {bound} ({limit})");
            return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        self.move_sequence(&changed, position)
    }
}
