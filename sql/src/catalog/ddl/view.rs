//! CREATE VIEW. The query is kept as text that means the same later: relations are qualified, `*` is
//! written out, and the names of relations follow when they are renamed.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    CreateView, Expr, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, Statement, TableAlias, TableFactor, VisitMut, VisitorMut,
};

use super::CommandTag;
use super::work::{Work, identifier, name_parts, qualified, undefined_relation};
use crate::catalog::object::Object;
use crate::catalog::{Oid, Relation, View};
use crate::error::{Result, SqlError, SqlState};
use crate::parser::parse_query;
use crate::plan::OutputColumn;
use crate::store::TableLockMode;
use crate::types::DataType;

/// CREATE VIEW.
pub(super) fn create(work: &mut Work<'_>, statement: &CreateView) -> Result<CommandTag> {
    let tag = CommandTag("CREATE VIEW".into());
    if statement.materialized {
        return Err(SqlError::unsupported("a materialized view"));
    }
    if statement.temporary {
        return Err(SqlError::unsupported("a temporary view"));
    }
    if statement.options != sqlparser::ast::CreateTableOptions::None {
        return Err(SqlError::unsupported("a view with options"));
    }
    let name = qualified(&statement.name, work)?;
    let schema = work.creation_schema(&name)?;
    work.lock_name(schema, &name.name)?;
    let existing = match work.catalog.relation_in(schema, &name.name) {
        None => None,
        Some(Relation::View(view)) if statement.or_replace => {
            work.require_owner(view.owner, "view", &view.name)?;
            work.lock(view.oid, TableLockMode::AccessExclusive)?;
            Some(view)
        }
        Some(_) if statement.if_not_exists => {
            work.notice(SqlState::DUPLICATE_TABLE, format!("relation \"{}\" already exists, skipping", name.name));
            return Ok(tag);
        }
        Some(other) if statement.or_replace => {
            let message = format!("\"{}\" is not a view", other.name());
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        Some(_) => return Err(super::work::duplicate_relation(&name.name)),
    };
    let (query, dependencies) = settle(work, &statement.query)?;
    let outputs = work.query_columns(&query)?;
    let columns = name_columns(&outputs, statement)?;
    if let Some(old) = &existing {
        require_same_columns(old, &columns)?;
        if dependencies.contains(&old.oid) {
            let message = format!("infinite recursion detected in rules for relation \"{}\"", old.name);
            return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, message));
        }
    }
    let view = match existing {
        Some(old) => View { columns, query: query.to_string(), dependencies, ..View::clone(&old) },
        None => View {
            oid: work.allocate_oid()?,
            schema,
            name: name.name,
            owner: work.context.role,
            columns,
            query: query.to_string(),
            dependencies,
            privileges: Vec::new(),
        },
    };
    work.put(Object::View(view))?;
    Ok(tag)
}

/// Output columns with the names that the statement gives them.
fn name_columns(outputs: &[OutputColumn], statement: &CreateView) -> Result<Vec<(String, DataType)>> {
    if statement.columns.len() > outputs.len() {
        let message = "CREATE VIEW specifies more column names than columns";
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
    }
    let mut columns: Vec<(String, DataType)> = Vec::with_capacity(outputs.len());
    for (at, output) in outputs.iter().enumerate() {
        let name = statement.columns.get(at).map_or_else(|| output.name.clone(), |column| identifier(&column.name));
        if columns.iter().any(|(known, _)| *known == name) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        let unknown = output.data_type.is_unknown();
        columns.push((name, if unknown { DataType::TEXT } else { output.data_type }));
    }
    Ok(columns)
}

/// OR REPLACE may only add columns at the end.
fn require_same_columns(old: &View, new: &[(String, DataType)]) -> Result<()> {
    let invalid = |message: String| Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message));
    if new.len() < old.columns.len() {
        return invalid("cannot drop columns from view".into());
    }
    for ((old_name, old_type), (new_name, new_type)) in old.columns.iter().zip(new) {
        if old_name != new_name {
            return invalid(format!("cannot change name of view column \"{old_name}\" to \"{new_name}\""));
        }
        if old_type != new_type {
            let (from, to) = (old_type.full_name(), new_type.full_name());
            return invalid(format!("cannot change data type of view column \"{old_name}\" from {from} to {to}"));
        }
    }
    Ok(())
}

impl Work<'_> {
    /// Output columns of a query.
    pub fn query_columns(&self, query: &Query) -> Result<Vec<OutputColumn>> {
        let planned = self.plan_query(&Statement::Query(Box::new(query.clone())))?;
        Ok(planned.plan.columns.clone())
    }
}

/// The query with relations qualified and stars written out, and what it reads.
fn settle(work: &mut Work<'_>, query: &Query) -> Result<(Query, Vec<Oid>)> {
    let mut query = query.clone();
    let mut names = CteNames(HashSet::new());
    _ = query.visit(&mut names);
    let mut qualify = Qualify { work, ctes: names.0, dependencies: Vec::new() };
    if let ControlFlow::Break(error) = query.visit(&mut qualify) {
        return Err(error);
    }
    let dependencies = qualify.dependencies;
    for oid in &dependencies {
        work.lock(*oid, TableLockMode::AccessShare)?;
    }
    let around = Query {
        body: Box::new(SetExpr::Values(sqlparser::ast::Values {
            explicit_row: false,
            value_keyword: false,
            rows: Vec::new(),
        })),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        ..query.clone()
    };
    expand_stars(work, &mut query.body, &around)?;
    Ok((query, dependencies))
}

/// Names of all common table expressions: they are not relations of the catalog.
struct CteNames(HashSet<String>);

impl VisitorMut for CteNames {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.0.extend(tables.map(|cte| identifier(&cte.alias.name)));
        ControlFlow::Continue(())
    }
}

struct Qualify<'a, 'b> {
    work: &'a Work<'b>,
    ctes: HashSet<String>,
    dependencies: Vec<Oid>,
}

impl VisitorMut for Qualify<'_, '_> {
    type Break = SqlError;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
        match factor {
            TableFactor::Table { name, args: None, .. } => match self.qualify(name) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Qualify<'_, '_> {
    fn qualify(&mut self, name: &mut ObjectName) -> Result<()> {
        let parts = name_parts(name)?;
        if parts.len() == 1 && self.ctes.contains(&parts[0]) {
            return Ok(());
        }
        let wanted = qualified(name, self.work)?;
        let found = self.work.find(&wanted)?.ok_or_else(|| undefined_relation(&wanted))?;
        if !matches!(found, Relation::System(_)) && !self.dependencies.contains(&found.oid()) {
            self.dependencies.push(found.oid());
        }
        let schema = self.work.catalog.schema_name(found.schema()).unwrap_or_default();
        *name = quoted_name(&[schema, found.name()]);
        Ok(())
    }
}

/// A name that reads back as these identifiers.
fn quoted_name(parts: &[&str]) -> ObjectName {
    ObjectName(parts.iter().map(|part| ObjectNamePart::Identifier(quoted(part))).collect())
}

/// An identifier, in quotes where it needs them.
fn quoted(name: &str) -> Ident {
    if crate::types::text::quote_identifier(name) == name { Ident::new(name) } else { Ident::with_quote('"', name) }
}

/// Writes out the stars of a query's own select lists. Those of queries inside stay: what they add later is
/// read by nobody.
fn expand_stars(work: &Work<'_>, body: &mut SetExpr, around: &Query) -> Result<()> {
    match body {
        SetExpr::Select(select) => expand_select(work, select, around),
        SetExpr::Query(query) => expand_stars(work, &mut query.body, around),
        SetExpr::SetOperation { left, right, .. } => {
            expand_stars(work, left, around)?;
            expand_stars(work, right, around)
        }
        _ => Ok(()),
    }
}

fn expand_select(work: &Work<'_>, select: &mut Select, around: &Query) -> Result<()> {
    let is_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    if !select.projection.iter().any(is_star) {
        return Ok(());
    }
    // The columns of one star over the same FROM.
    let columns_of = |star: &SelectItem| -> Result<Vec<OutputColumn>> {
        let bare = Select {
            projection: vec![star.clone()],
            selection: None,
            having: None,
            group_by: sqlparser::ast::GroupByExpr::Expressions(Vec::new(), Vec::new()),
            distinct: None,
            ..Select::clone(select)
        };
        work.query_columns(&Query { body: Box::new(SetExpr::Select(Box::new(bare))), ..around.clone() })
    };
    let mut expanded = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let prefix: Vec<Ident> = name_parts(name)?.iter().map(|part| quoted(part)).collect();
                for column in columns_of(item)? {
                    let parts = prefix.iter().cloned().chain([quoted(&column.name)]).collect();
                    expanded.push(SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)));
                }
            }
            SelectItem::Wildcard(_) => {
                let columns = columns_of(item)?;
                let is_unique = |name: &str| columns.iter().filter(|column| column.name == name).count() == 1;
                if let Some(column) = columns.iter().find(|column| !is_unique(&column.name)) {
                    let message = format!("column \"{}\" specified more than once", column.name);
                    return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
                }
                let plain = columns.iter().map(|column| Expr::Identifier(quoted(&column.name)));
                expanded.extend(plain.map(SelectItem::UnnamedExpr));
            }
            other => expanded.push(other.clone()),
        }
    }
    select.projection = expanded;
    Ok(())
}

/// Whether a query kept as text names a column (of whatever relation).
pub(super) fn mentions(query: &str, column: &str) -> Result<bool> {
    struct Names<'a>(&'a str, bool);
    impl VisitorMut for Names<'_> {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            self.1 |= match expr {
                Expr::Identifier(ident) => identifier(ident) == self.0,
                Expr::CompoundIdentifier(parts) => parts.iter().any(|part| identifier(part) == self.0),
                _ => false,
            };
            ControlFlow::Continue(())
        }

        // USING (column) is a name, not an expression, and a star inside reads every column.
        fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
            let is_star =
                |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
            let merged = select.from.iter().flat_map(|table| &table.joins).any(|join| {
                let text = join.to_string().to_uppercase();
                text.contains(" USING(") || text.contains(" USING (") || text.contains("NATURAL ")
            });
            self.1 |= merged || select.projection.iter().any(is_star);
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(column, false);
    _ = parse_query(query)?.visit(&mut names);
    Ok(names.1)
}

/// The same query after a relation that it reads has got another name. Its columns keep the name that they
/// were written with, through an alias.
pub(super) fn rename_relation(query: &str, from: (&str, &str), to: (&str, &str)) -> Result<String> {
    struct Rename<'a> {
        from: (&'a str, &'a str),
        to: (&'a str, &'a str),
    }
    impl VisitorMut for Rename<'_> {
        type Break = SqlError;

        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
            let TableFactor::Table { name, alias, args: None, .. } = factor else { return ControlFlow::Continue(()) };
            match name_parts(name) {
                Ok(parts) if parts == [self.from.0, self.from.1] => {
                    *name = quoted_name(&[self.to.0, self.to.1]);
                    if alias.is_none() && self.from.1 != self.to.1 {
                        let (name, columns) = (quoted(self.from.1), Vec::new());
                        *alias = Some(TableAlias { explicit: true, name, columns, at: None });
                    }
                    ControlFlow::Continue(())
                }
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        }
    }
    let mut query = parse_query(query)?;
    match query.visit(&mut Rename { from, to }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(query.to_string()),
    }
}
