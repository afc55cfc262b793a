//! COPY FROM: bytes become rows of a table.

use std::borrow::Cow;
use std::sync::Arc;

use super::binary::BinaryReader;
use super::split::{Field, Lines, bad_format, split_csv, split_text};
use super::{CopyFormat, CopyOptions};
use crate::catalog::Table;
use crate::error::{Result, SqlError, SqlState};
use crate::executor::{Code, Context, ExecContext, compile_scalars};
use crate::plan::Expr;
use crate::table::{
    ForeignKeyAccess, LoadFailure, RowBatch, TableAccess, TableLoader, check_not_null, check_violation,
};
use crate::types::{DataType, Datum, Row, text};

/// Longest piece of data shown in an error's context, bytes.
const SHOWN_BYTES: usize = 100;

/// Where COPY FROM puts its rows.
#[derive(Clone, Debug)]
pub struct CopyTarget {
    /// Into.
    pub table: Arc<Table>,
    /// Positions in [`Table::columns`] of the fields, in their order.
    pub columns: Vec<usize>,
    /// For every column of the table (dropped ones included) its value over a row of the fields, as in
    /// [`crate::plan::Insert::values`]: the field, or the default.
    pub values: Vec<Expr>,
    /// CHECK conditions with their names, over a table row.
    pub checks: Vec<(String, Expr)>,
    /// Foreign keys of the table.
    pub references: Vec<Arc<ForeignKeyAccess>>,
}

impl CopyTarget {
    /// The target of an INSERT of one row of parameters into the same columns, as the planner has bound it.
    pub fn of_insert(insert: &crate::plan::Insert, columns: Vec<usize>) -> Self {
        let values = insert.values.iter().cloned().map(field_of_parameter).collect();
        let (table, checks) = (Arc::clone(&insert.table), insert.checks.clone());
        Self { table, columns, values, checks, references: insert.references.clone() }
    }
}

/// The parameters of the INSERT are the fields of the line. They stand alone or under coercions to their
/// column's type; defaults hold none.
fn field_of_parameter(expr: Expr) -> Expr {
    match expr {
        Expr::Parameter { index, data_type } => Expr::Column { index, data_type },
        Expr::Cast { expr, to, explicit } => Expr::Cast { expr: Box::new(field_of_parameter(*expr)), to, explicit },
        other => other,
    }
}

/// A running COPY FROM. Its statement must have begun, and ends after [`CopyIn::finish`].
pub struct CopyIn {
    source: Source,
    sink: Sink,
}

enum Source {
    Lines(Lines),
    Binary(BinaryReader),
}

/// A column as fields of it are read.
pub(super) struct FieldColumn {
    pub(super) name: String,
    pub(super) data_type: DataType,
    force_not_null: bool,
    force_null: bool,
}

/// Where a column's value comes from.
enum Value {
    /// The field at this position, which no other column takes.
    Field(usize),
    Computed(Code),
}

/// Where rows go.
enum Target {
    /// Into a table that nobody else sees and that is empty.
    Loader(Box<TableLoader>),
    /// Together with others.
    Batch(Box<RowBatch>),
    /// One by one: later rows may refer to earlier ones.
    Table,
}

/// Everything behind the splitting into lines.
struct Sink {
    access: Arc<TableAccess>,
    columns: Vec<FieldColumn>,
    options: CopyOptions,
    context: Context,
    values: Vec<Value>,
    checks: Vec<(String, Code)>,
    references: Vec<Arc<ForeignKeyAccess>>,
    target: Target,
    header: bool,
    /// The end marker has been met; what follows is ignored.
    ended: bool,
    line_number: u64,
    rows: u64,
    /// Values of the fields.
    fields: Row,
    row: Row,
    was_quoted: Vec<bool>,
}

impl CopyIn {
    /// Starts. The caller holds the table lock (ROW EXCLUSIVE) and has checked privileges.
    pub fn begin(target: CopyTarget, options: CopyOptions, context: ExecContext) -> Result<Self> {
        let names: Vec<&str> = target.columns.iter().map(|column| &*target.table.columns[*column].name).collect();
        let force_not_null = options.force_not_null.resolve("FORCE_NOT_NULL", &names)?;
        let force_null = options.force_null.resolve("FORCE_NULL", &names)?;
        let columns = target.columns.iter().enumerate().map(|(field, column)| FieldColumn {
            name: target.table.columns[*column].name.clone(),
            data_type: target.table.columns[*column].data_type,
            force_not_null: force_not_null[field],
            force_null: force_null[field],
        });
        let access = Arc::new(TableAccess::new(&target.table));
        let (work_mem, directory) = (context.work_mem_bytes, Arc::clone(&context.temporary_directory));
        // Rows loaded in bulk are not found by rows that refer to them.
        let own = target.references.iter().any(|reference| reference.parent().oid == target.table.oid);
        let loader = || TableLoader::begin(&access, &*context.transaction, work_mem, &directory);
        let rows = match (!own).then(loader) {
            None => Target::Table,
            Some(None) => Target::Batch(Box::new(RowBatch::new(&access))),
            Some(Some(loader)) => Target::Loader(Box::new(loader)),
        };
        let (names, checks): (Vec<String>, Vec<Expr>) = target.checks.into_iter().unzip();
        let mut exprs = target.values;
        let width = exprs.len();
        exprs.extend(checks);
        let (mut codes, context) = compile_scalars(&exprs, context)?;
        let checks = names.into_iter().zip(codes.split_off(width)).collect();
        let values = exprs.iter().zip(codes).map(|(expr, code)| match expr {
            Expr::Column { index, .. } => Value::Field(*index),
            _ => Value::Computed(code),
        });
        let values: Vec<Value> = values.collect();
        let source = match options.format {
            CopyFormat::Binary => Source::Binary(BinaryReader::default()),
            CopyFormat::Text | CopyFormat::Csv => Source::Lines(Lines::new(&options)),
        };
        let sink = Sink {
            columns: columns.collect(),
            access,
            header: options.header,
            options,
            context,
            values,
            checks,
            references: target.references,
            target: rows,
            ended: false,
            line_number: 0,
            rows: 0,
            fields: Row::new(),
            row: Row::new(),
            was_quoted: Vec::new(),
        };
        Ok(Self { source, sink })
    }

    /// Number of fields in a row.
    pub fn columns(&self) -> usize {
        self.sink.columns.len()
    }

    /// Takes the next bytes, cut anywhere. After an error the statement must be discarded.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.sink.ended {
            return Ok(());
        }
        match &mut self.source {
            Source::Lines(lines) => {
                lines.push(bytes).map_err(|error| self.sink.at_next_line(error))?;
                self.sink.take_lines(lines, false)
            }
            Source::Binary(reader) => {
                reader.push(bytes).map_err(|error| self.sink.at_next_line(error))?;
                self.sink.take_tuples(reader)
            }
        }
    }

    /// All bytes have come: finishes and answers the number of rows.
    pub fn finish(mut self) -> Result<u64> {
        match &mut self.source {
            Source::Lines(lines) if !self.sink.ended => self.sink.take_lines(lines, true)?,
            Source::Binary(reader) => reader.finish().map_err(|error| self.sink.at_next_line(error))?,
            Source::Lines(_) => {}
        }
        let context = self.sink.context.write_context();
        match std::mem::replace(&mut self.sink.target, Target::Table) {
            // A header is a line, and no row.
            Target::Loader(loader) => {
                let lines = u64::from(self.sink.options.header);
                loader.finish(context).map_err(|failure| self.sink.at_end(failure, lines))?;
            }
            Target::Batch(mut batch) => batch.flush(context).map_err(|failure| self.sink.at_end(failure, 0))?,
            Target::Table => {}
        }
        self.sink.context.finish_references()?;
        Ok(self.sink.rows)
    }
}

impl Sink {
    fn take_lines(&mut self, lines: &mut Lines, last: bool) -> Result<()> {
        while !self.ended {
            let Some(range) = lines.next(last).map_err(|error| self.at_next_line(error))? else { break };
            self.context.poll()?;
            self.line_number += 1;
            let line = &lines.bytes()[range];
            if std::mem::take(&mut self.header) {
                continue;
            }
            if line == b"\\." {
                self.ended = true;
                break;
            }
            self.take_line(line)?;
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) -> Result<()> {
        let mut fields: Vec<Field<'_>> = Vec::with_capacity(self.columns.len());
        let mut was_quoted = std::mem::take(&mut self.was_quoted);
        let csv = self.options.format == CopyFormat::Csv;
        if csv {
            split_csv(line, &self.options, &mut fields, &mut was_quoted).map_err(|error| self.in_line(error, line))?;
        } else {
            split_text(line, &self.options, &mut fields);
        }
        if fields.len() > self.columns.len() {
            let empty = self.columns.is_empty() && line.is_empty();
            if !empty {
                return Err(self.in_line(bad_format("extra data after last expected column"), line));
            }
        }
        let mut values = std::mem::take(&mut self.fields);
        values.clear();
        for (position, column) in self.columns.iter().enumerate() {
            let Some(field) = fields.get_mut(position) else {
                let message = format!("missing data for column \"{}\"", column.name);
                return Err(self.in_line(bad_format(message), line));
            };
            let mut field = field.take();
            if csv && let Some(bytes) = &field {
                let may_be_null = if was_quoted[position] { column.force_null } else { !column.force_not_null };
                if may_be_null && **bytes == *self.options.null.as_bytes() {
                    field = None;
                }
            }
            let value = self.parse_field(column, field.as_ref())?;
            values.push(value);
        }
        self.fields = values;
        self.was_quoted = was_quoted;
        self.insert().map_err(|error| self.in_line(error, line))
    }

    fn parse_field(&self, column: &FieldColumn, field: Option<&Cow<'_, [u8]>>) -> Result<Datum> {
        let Some(bytes) = field else { return Ok(Datum::Null) };
        let parsed = match std::str::from_utf8(bytes) {
            Ok(value) => text::parse(value, column.data_type, self.context.eval()),
            Err(error) => Err(invalid_utf8(bytes, error)),
        };
        parsed.map_err(|error| {
            let place = format!("{}, column {}: \"{}\"", self.place(), column.name, shown(bytes));
            with_context(error, place)
        })
    }

    fn take_tuples(&mut self, reader: &mut BinaryReader) -> Result<()> {
        while reader.next_tuple(self.columns.len()).map_err(|error| self.at_next_line(error))? {
            self.context.poll()?;
            self.line_number += 1;
            self.fields.clear();
            for (position, column) in self.columns.iter().enumerate() {
                let value = reader.field(position).map_or(Ok(Datum::Null), |bytes| {
                    crate::types::binary::decode(bytes, column.data_type, self.context.eval())
                });
                let place = || format!("{}, column {}", self.place(), column.name);
                self.fields.push(value.map_err(|error| with_context(error, place()))?);
            }
            self.insert().map_err(|error| with_context(error, self.place()))?;
        }
        self.ended = reader.ended();
        Ok(())
    }

    /// Makes a row of the fields and inserts it.
    fn insert(&mut self) -> Result<()> {
        let table = self.access.table();
        self.row.clear();
        for value in &self.values {
            let value = match value {
                Value::Field(position) => std::mem::replace(&mut self.fields[*position], Datum::Null),
                Value::Computed(code) => code.eval(&self.fields, &self.context)?,
            };
            self.row.push(value);
        }
        check_not_null(table, &self.row, self.context.eval())?;
        for (name, check) in &self.checks {
            if check.logic(&self.row, &self.context)? == Some(false) {
                return Err(check_violation(table, name, &self.row, self.context.eval()));
            }
        }
        let context = self.context.write_context();
        match &mut self.target {
            Target::Loader(loader) => loader.push(context, &self.row)?,
            Target::Batch(batch) => {
                let pushed = batch.push(context, &self.row, self.line_number);
                pushed.map_err(|failure| self.in_row(failure, 0))?;
            }
            Target::Table => _ = self.access.insert(context, &self.row)?,
        }
        self.context.refer(&self.references, None, &self.row)?;
        self.rows += 1;
        Ok(())
    }

    fn place(&self) -> String {
        format!("COPY {}, line {}", self.access.table().name, self.line_number)
    }

    /// An error of a row that had been taken before.
    #[cold]
    fn in_row(&self, failure: LoadFailure, lines_before: u64) -> SqlError {
        let Some(row) = failure.row else { return failure.error };
        with_context(failure.error, format!("COPY {}, line {}", self.access.table().name, row + lines_before))
    }

    /// An error when all lines have been taken.
    #[cold]
    fn at_end(&self, failure: LoadFailure, lines_before: u64) -> SqlError {
        with_context(self.in_row(failure, lines_before), format!("COPY {}", self.access.table().name))
    }

    /// An error of the line under way.
    #[cold]
    fn in_line(&self, error: SqlError, line: &[u8]) -> SqlError {
        // By the time Postgres meets a duplicate it does not have the line any more.
        let place = match error.state() {
            SqlState::UNIQUE_VIOLATION => self.place(),
            _ => format!("{}: \"{}\"", self.place(), shown(line)),
        };
        with_context(error, place)
    }

    /// An error before a line was complete.
    #[cold]
    fn at_next_line(&self, error: SqlError) -> SqlError {
        let place = format!("COPY {}, line {}", self.access.table().name, self.line_number + 1);
        with_context(error, place)
    }
}

fn with_context(error: SqlError, place: String) -> SqlError {
    if error.fields().context.is_some() { error } else { error.with_context(place) }
}

/// Data as an error's context shows it: cut, and with what is not UTF-8 replaced.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.len() <= SHOWN_BYTES {
        return text.into_owned();
    }
    let mut end = SHOWN_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}

#[cold]
fn invalid_utf8(bytes: &[u8], error: std::str::Utf8Error) -> SqlError {
    let start = error.valid_up_to();
    // Postgres shows as many bytes as the first one announces.
    let announced = match bytes[start] {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF7 => 4,
        _ => 1,
    };
    let sequence = &bytes[start..(start + announced).min(bytes.len())];
    let hex: Vec<String> = sequence.iter().map(|byte| format!("0x{byte:02x}")).collect();
    let message = format!("invalid byte sequence for encoding \"UTF8\": {}", hex.join(" "));
    SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message)
}
