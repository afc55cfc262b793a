//! INSERT.

use std::sync::Arc;

use sqlparser::ast::{self, Expr, SetExpr, Spanned, TableObject};

use super::logical::{Insert, Rel, Scan};
use super::names::{Clause, Item, ItemColumns, Level, Namespace, Scope, fold, split_name};
use super::resolve::{self, Context};
use super::scalar::Scalar;
use super::{Binder, Query};
use crate::catalog::{Relation, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::parser::{Overriding, overriding};
use crate::store::TableLockMode;
use crate::types::{DataType, Datum};

impl Binder<'_> {
    pub(super) fn insert(&mut self, insert: &ast::Insert, parent: Option<&Scope<'_>>) -> Result<Query> {
        let TableObject::TableName(name) = &insert.table else {
            return Err(SqlError::unsupported("INSERT into this kind of target"));
        };
        let table = self.target_table(name, "insert into")?;
        self.lock_table(table.oid, TableLockMode::RowExclusive);
        self.writes = true;
        let alias = insert.table_alias.as_ref().map_or_else(|| table.name.clone(), |alias| fold(&alias.alias));
        let columns = self.insert_columns(insert, &table)?;
        let overriding = overriding(insert);

        let mut given: Vec<Option<Scalar>> = vec![None; table.columns.len()];
        let input = match &insert.source {
            None => Rel::unit(),
            Some(source) => self.insert_source(insert, source, &table, &columns, overriding, parent, &mut given)?,
        };
        let mut values = Vec::with_capacity(table.columns.len());
        for (position, given) in given.into_iter().enumerate() {
            values.push(match given {
                Some(scalar) => scalar,
                None => self.default_value(&table, position)?,
            });
        }

        let row_first = self.columns.add_table(&table, &alias);
        let row = Scan { table: table.clone(), first: row_first, alias: alias.clone() };
        let excluded_first = self.columns.add_table(&table, "excluded");
        let item = Item { alias, schema: None, columns: ItemColumns::Table(row), oid: Some(table.oid) };
        let namespace = Namespace { items: vec![item], merged: None };
        let checks = self.checks(&table, &namespace)?;
        let on_conflict = match &insert.on {
            None => None,
            Some(ast::OnInsert::OnConflict(clause)) => {
                Some(self.on_conflict(clause, &table, &namespace, excluded_first, parent)?)
            }
            Some(_) => return Err(SqlError::unsupported("ON DUPLICATE KEY")),
        };
        let (returning, output) = self.returning(insert.returning.as_deref(), &namespace, parent)?;
        let insert = Insert { table, input, values, row_first, excluded_first, checks, on_conflict, returning };
        Ok(Query { rel: Rel::Insert(Box::new(insert)), output })
    }

    /// A table that rows may be written to.
    pub(super) fn target_table(&mut self, name: &ast::ObjectName, verb: &str) -> Result<Arc<Table>> {
        let (schema, relation) = split_name(name)?;
        let found = self.context.catalog.require_relation(schema.as_deref(), &relation, self.context.search_path);
        match found.map_err(|error| self.place(error, name.span()))? {
            Relation::Table(table) => Ok(table),
            Relation::System(_) => {
                let error = SqlError::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    format!("permission denied: \"{relation}\" is a system catalog"),
                );
                Err(self.place(error, name.span()))
            }
            Relation::View(_) => Err(self.place(
                SqlError::unsupported(format!("writing to a view: cannot {verb} view \"{relation}\", which")),
                name.span(),
            )),
            other => {
                let error = SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("cannot {verb} {} \"{relation}\"", other.kind_name()),
                );
                Err(self.place(error, name.span()))
            }
        }
    }

    /// Positions of the columns that values are given for.
    fn insert_columns(&self, insert: &ast::Insert, table: &Table) -> Result<Vec<usize>> {
        if insert.columns.is_empty() {
            return Ok(table.live_columns().map(|(position, _)| position).collect());
        }
        let mut columns: Vec<usize> = Vec::with_capacity(insert.columns.len());
        for name in &insert.columns {
            let (_, column) = split_name(name)?;
            let place = |error| self.place(error, name.span());
            let position = table.column(&column).ok_or_else(|| place(no_column(&column, table)))?;
            if columns.contains(&position) {
                return Err(place(SqlError::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{column}\" specified more than once"),
                )));
            }
            columns.push(position);
        }
        Ok(columns)
    }

    #[allow(clippy::too_many_arguments)]
    fn insert_source(
        &mut self,
        insert: &ast::Insert,
        source: &ast::Query,
        table: &Table,
        columns: &[usize],
        overriding: Option<Overriding>,
        parent: Option<&Scope<'_>>,
        given: &mut [Option<Scalar>],
    ) -> Result<Rel> {
        let explicit_list = !insert.columns.is_empty();
        if let SetExpr::Values(values) = source.body.as_ref()
            && source.with.is_none()
            && source.order_by.is_none()
            && source.limit_clause.is_none()
            && source.fetch.is_none()
        {
            return self.insert_values(&values.rows, table, columns, &insert.columns, overriding, parent, given);
        }
        let query = self.query(source, parent, false)?;
        let width = query.output.len();
        self.check_width(width, columns, explicit_list, source.span())?;
        let Query { mut rel, output } = query;
        for (column, position) in output.iter().zip(columns) {
            if self.ignores_given(table, *position, overriding, false)? {
                continue;
            }
            let to = table.columns[*position].data_type;
            if self.columns.infos[column.id].data_type.is_unknown() {
                self.open_definition(&mut rel, column.id, to.bare())?;
            }
            let read = self.columns.scalar(column.id);
            given[*position] = Some(self.assign(read, table, *position).map_err(|e| self.place(e, source.span()))?);
        }
        Ok(rel)
    }

    fn check_width(
        &self,
        width: usize,
        columns: &[usize],
        explicit_list: bool,
        span: sqlparser::tokenizer::Span,
    ) -> Result<()> {
        let message = if width > columns.len() {
            "INSERT has more expressions than target columns"
        } else if width < columns.len() && explicit_list {
            "INSERT has more target columns than expressions"
        } else {
            return Ok(());
        };
        Err(self.place(SqlError::new(SqlState::SYNTAX_ERROR, message), span))
    }

    #[allow(clippy::too_many_arguments)]
    fn insert_values(
        &mut self,
        rows: &[ast::Parens<Vec<Expr>>],
        table: &Table,
        columns: &[usize],
        targets: &[ast::ObjectName],
        overriding: Option<Overriding>,
        parent: Option<&Scope<'_>>,
        given: &mut [Option<Scalar>],
    ) -> Result<Rel> {
        let (namespace, level) = (Namespace::default(), Level::default());
        let scope = Scope { namespace: &namespace, parent, level: &level, clause: Clause::Values };
        let width = rows.first().map_or(0, |row| row.content.len());
        let mut bound: Vec<Vec<Scalar>> = Vec::with_capacity(rows.len());
        for row in rows {
            let span = row.content.first().map_or(sqlparser::tokenizer::Span::empty(), Spanned::span);
            if row.content.len() != width {
                let error = SqlError::new(SqlState::SYNTAX_ERROR, "VALUES lists must all be the same length");
                return Err(self.place(error, span));
            }
            self.check_width(
                width,
                columns,
                !targets.is_empty(),
                match row.content.get(columns.len()) {
                    Some(extra) => extra.span(),
                    None => targets.get(width).map_or(span, Spanned::span),
                },
            )?;
            let mut fields = Vec::with_capacity(width);
            for (expr, position) in row.content.iter().zip(columns) {
                let default = is_default(expr);
                if default || self.ignores_given(table, *position, overriding, default)? {
                    fields.push(self.default_value(table, *position)?);
                    continue;
                }
                let scalar = self.expr(expr, &scope)?;
                fields.push(self.assign(scalar, table, *position).map_err(|error| self.place(error, expr.span()))?);
            }
            bound.push(fields);
        }
        if bound.len() == 1 {
            // The usual case: no row in between.
            for (scalar, position) in bound.remove(0).into_iter().zip(columns) {
                given[*position] = Some(scalar);
            }
            return Ok(Rel::unit());
        }
        let mut ids = Vec::with_capacity(width);
        for position in &columns[..width] {
            let column = &table.columns[*position];
            let id = self.columns.add(column.data_type, &column.name);
            ids.push(id);
            given[*position] = Some(self.columns.scalar(id));
        }
        Ok(Rel::Values { rows: bound, columns: ids })
    }

    /// Whether a value given for an identity column is not to be used; an error where it must not be given.
    fn ignores_given(
        &self,
        table: &Table,
        position: usize,
        overriding: Option<Overriding>,
        default: bool,
    ) -> Result<bool> {
        let column = &table.columns[position];
        let Some(identity) = column.identity else { return Ok(false) };
        match overriding {
            Some(Overriding::User) => Ok(true),
            Some(Overriding::System) => Ok(false),
            None if identity.always && !default => Err(SqlError::new(
                SqlState::GENERATED_ALWAYS,
                format!("cannot insert a non-DEFAULT value into column \"{}\"", column.name),
            )
            .with_detail(format!("Column \"{}\" is an identity column defined as GENERATED ALWAYS.", column.name))
            .with_hint("Use OVERRIDING SYSTEM VALUE to override.")),
            None => Ok(false),
        }
    }

    /// A value for a column, by assignment cast.
    pub(super) fn assign(&mut self, scalar: Scalar, table: &Table, position: usize) -> Result<Scalar> {
        let column = &table.columns[position];
        let from = scalar.data_type();
        self.try_coerce(scalar, column.data_type, Context::Assignment)?.ok_or_else(|| {
            SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "column \"{}\" is of type {} but expression is of type {}",
                    column.name,
                    column.data_type.name(),
                    from.name()
                ),
            )
            .with_hint("You will need to rewrite or cast the expression.")
        })
    }

    /// What a column gets when no value is given.
    pub(super) fn default_value(&mut self, table: &Table, position: usize) -> Result<Scalar> {
        let column = &table.columns[position];
        if column.dropped {
            return Ok(Scalar::null(column.data_type));
        }
        if let Some(identity) = column.identity {
            let resolved = resolve::function("nextval", &[DataType::REGCLASS])?;
            let sequence = Scalar::Literal { value: Datum::Oid(identity.sequence), data_type: DataType::REGCLASS };
            let next = self.call(resolved, vec![sequence])?;
            return self.assign(next, table, position);
        }
        let Some(default) = &column.default else { return Ok(Scalar::null(column.data_type)) };
        let parsed = crate::parser::parse_expression(default)?;
        let (namespace, level) = (Namespace::default(), Level::default());
        let scope = Scope { namespace: &namespace, parent: None, level: &level, clause: Clause::Default };
        let has_source = std::mem::replace(&mut self.has_source, false);
        let bound = self.expr(&parsed, &scope);
        self.has_source = has_source;
        self.assign(bound?, table, position)
    }

    /// The table's CHECK conditions over a namespace that holds its row.
    pub(super) fn checks(&mut self, table: &Table, namespace: &Namespace) -> Result<Vec<(String, Scalar)>> {
        let mut checks = Vec::with_capacity(table.checks.len());
        for check in &table.checks {
            let parsed = crate::parser::parse_expression(&check.expression)?;
            // Only the row itself is in scope, whatever else the statement reads.
            let own = Namespace { items: namespace.items[..1].to_vec(), merged: None };
            let level = Level::default();
            let scope = Scope { namespace: &own, parent: None, level: &level, clause: Clause::Check };
            let has_source = std::mem::replace(&mut self.has_source, false);
            let bound = self.condition(&parsed, &scope, "CHECK");
            self.has_source = has_source;
            checks.push((check.name.clone(), bound?));
        }
        Ok(checks)
    }
}

/// DEFAULT in place of a value.
pub(super) fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

pub(super) fn no_column(column: &str, table: &Table) -> SqlError {
    SqlError::new(
        SqlState::UNDEFINED_COLUMN,
        format!("column \"{column}\" of relation \"{}\" does not exist", table.name),
    )
}
