//! FROM: tables, views, CTEs, subqueries, functions, joins.

use std::sync::Arc;

use sqlparser::ast::{
    self, JoinConstraint, JoinOperator, ObjectName, Spanned, TableAlias, TableFactor, TableWithJoins,
};

use super::Binder;
use super::logical::{Rel, Scan};
use super::names::{Clause, Item, ItemColumns, Level, Namespace, Scope, fold, split_name};
use super::resolve;
use super::scalar::{ColumnId, Scalar};
use crate::catalog::{Relation, View};
use crate::error::{Result, SqlError, SqlState};
use crate::plan::JoinKind;
use crate::store::TableLockMode;
use crate::types::DataType;

impl Binder<'_> {
    /// A FROM list.
    pub(super) fn from(&mut self, tables: &[TableWithJoins], parent: Option<&Scope<'_>>) -> Result<(Rel, Namespace)> {
        let mut rel: Option<Rel> = None;
        let mut namespace = Namespace::default();
        for table in tables {
            let level = Level::default();
            let earlier = namespace.clone();
            let around = Scope { namespace: &earlier, parent, level: &level, clause: Clause::From };
            let (right, names) =
                self.joins(table, if earlier.items.is_empty() { parent } else { Some(&around) }, parent)?;
            namespace.join(names)?;
            rel = Some(match rel {
                None => right,
                Some(left) => {
                    Rel::Join { kind: JoinKind::Inner, left: Box::new(left), right: Box::new(right), on: Vec::new() }
                }
            });
        }
        Ok((rel.unwrap_or_else(Rel::unit), namespace))
    }

    /// One FROM entry with its joins. `lateral` is what LATERAL entries see besides the joins' left sides,
    /// `parent` what ordinary ones see.
    fn joins(
        &mut self,
        table: &TableWithJoins,
        lateral: Option<&Scope<'_>>,
        parent: Option<&Scope<'_>>,
    ) -> Result<(Rel, Namespace)> {
        let (mut rel, mut names) = self.factor(&table.relation, lateral, parent)?;
        for join in &table.joins {
            let (kind, constraint) = match &join.join_operator {
                JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (JoinKind::Inner, Some(constraint)),
                JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                    (JoinKind::Left, Some(constraint))
                }
                JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
                    (JoinKind::Right, Some(constraint))
                }
                JoinOperator::FullOuter(constraint) => (JoinKind::Full, Some(constraint)),
                JoinOperator::CrossJoin(_) => (JoinKind::Inner, None),
                _ => return Err(SqlError::unsupported("this kind of join")),
            };
            let level = Level::default();
            let left_names = names.clone();
            let around = Scope { namespace: &left_names, parent: lateral, level: &level, clause: Clause::From };
            let (right, right_names) = self.factor(&join.relation, Some(&around), parent)?;
            let (on, joined) = self.join_condition(kind, constraint, names, right_names, parent)?;
            names = joined;
            rel = Rel::Join { kind, left: Box::new(rel), right: Box::new(right), on };
        }
        Ok((rel, names))
    }

    fn join_condition(
        &mut self,
        kind: JoinKind,
        constraint: Option<&JoinConstraint>,
        left: Namespace,
        right: Namespace,
        parent: Option<&Scope<'_>>,
    ) -> Result<(Vec<Scalar>, Namespace)> {
        let shared: Vec<String> = match constraint {
            Some(JoinConstraint::Using(columns)) => {
                columns.iter().map(|column| Ok(split_name(column)?.1)).collect::<Result<_>>()?
            }
            Some(JoinConstraint::Natural) => {
                let right_names: Vec<String> = right.visible().into_iter().map(|(name, _)| name).collect();
                let left_names = left.visible().into_iter().map(|(name, _)| name);
                left_names.filter(|name| right_names.contains(name)).collect()
            }
            _ => Vec::new(),
        };
        let mut on = Vec::new();
        let mut merged = Vec::new();
        for name in &shared {
            let missing = |side: &str| {
                SqlError::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{name}\" specified in USING clause does not exist in {side} table"),
                )
            };
            let from_left = left.column(name)?.ok_or_else(|| missing("left"))?;
            let from_right = right.column(name)?.ok_or_else(|| missing("right"))?;
            on.push(self.operator("=", from_left.clone(), from_right.clone())?);
            let (mut pair, data_type) = self.unify(vec![from_left, from_right], "JOIN/USING")?;
            let from_right = pair.pop().expect("two columns");
            let from_left = pair.pop().expect("two columns");
            merged.push((
                name.clone(),
                match kind {
                    JoinKind::Right => from_right,
                    JoinKind::Full => Scalar::Coalesce { args: vec![from_left, from_right], data_type },
                    _ => from_left,
                },
            ));
        }
        let mut names = left;
        if !merged.is_empty() {
            for (name, scalar) in names.visible().into_iter().chain(right.visible()) {
                if !shared.contains(&name) {
                    merged.push((name, scalar));
                }
            }
        }
        names.join(right)?;
        if !merged.is_empty() {
            names.merged = Some(merged);
        }
        if let Some(JoinConstraint::On(condition)) = constraint {
            let level = Level::default();
            let scope = Scope { namespace: &names, parent, level: &level, clause: Clause::On };
            on = self.conjuncts(condition, &scope, "JOIN/ON")?;
        }
        Ok((on, names))
    }

    fn factor(
        &mut self,
        factor: &TableFactor,
        lateral: Option<&Scope<'_>>,
        parent: Option<&Scope<'_>>,
    ) -> Result<(Rel, Namespace)> {
        match factor {
            TableFactor::Table { name, alias, args: None, with_ordinality: false, sample: None, .. } => {
                self.relation(name, alias.as_ref())
            }
            TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
                self.function_in_from(name, &args.args, *with_ordinality, alias.as_ref(), lateral)
            }
            TableFactor::Function { name, args, with_ordinality, alias, .. } => {
                self.function_in_from(name, args, *with_ordinality, alias.as_ref(), lateral)
            }
            TableFactor::UNNEST { alias, array_exprs, with_ordinality, with_offset: false, .. } => {
                let args: Vec<_> = array_exprs
                    .iter()
                    .map(|expr| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr.clone())))
                    .collect();
                let name = ObjectName::from(vec![ast::Ident::new("unnest")]);
                self.function_in_from(&name, &args, *with_ordinality, alias.as_ref(), lateral)
            }
            TableFactor::Derived { lateral: is_lateral, subquery, alias, sample: None } => {
                let around = if *is_lateral { lateral } else { parent };
                let Some(alias) = alias else {
                    let error = SqlError::new(SqlState::SYNTAX_ERROR, "subquery in FROM must have an alias")
                        .with_hint("For example, FROM (SELECT ...) [AS] foo.");
                    return Err(self.place_parenthesis(error, subquery.span()));
                };
                let query = self.nested(|binder| binder.query(subquery, around, true))?;
                let columns: Vec<_> = query.output.into_iter().map(|o| (o.name, self.columns.scalar(o.id))).collect();
                Ok((query.rel, self.listed(fold(&alias.name), None, columns, Some(alias))?))
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let (rel, names) = self.joins(table_with_joins, lateral, parent)?;
                match alias {
                    None => Ok((rel, names)),
                    Some(alias) => {
                        let names = self.listed(fold(&alias.name), None, names.visible(), Some(alias))?;
                        Ok((rel, names))
                    }
                }
            }
            TableFactor::Table { sample: Some(_), .. } => Err(SqlError::unsupported("TABLESAMPLE")),
            _ => Err(SqlError::unsupported("this kind of FROM item")),
        }
    }

    /// A namespace of one entry with these columns, renamed by the alias' column list.
    pub(super) fn listed(
        &self,
        name: String,
        schema: Option<String>,
        mut columns: Vec<(String, Scalar)>,
        alias: Option<&TableAlias>,
    ) -> Result<Namespace> {
        if let Some(alias) = alias {
            if alias.columns.len() > columns.len() {
                let error = SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    format!(
                        "table \"{name}\" has {} columns available but {} columns specified",
                        columns.len(),
                        alias.columns.len()
                    ),
                );
                return Err(self.place(error, alias.name.span));
            }
            for (column, renamed) in columns.iter_mut().zip(&alias.columns) {
                column.0 = fold(&renamed.name);
            }
        }
        let item = Item { alias: name, schema, columns: ItemColumns::Listed(Arc::from(columns)), oid: None };
        Ok(Namespace { items: vec![item], merged: None })
    }

    /// A relation by name: CTE, table, view or system view.
    fn relation(&mut self, name: &ObjectName, alias: Option<&TableAlias>) -> Result<(Rel, Namespace)> {
        let (schema, relation_name) = split_name(name)?;
        if schema.is_none()
            && let Some(found) = self.cte_reference(&relation_name)?
        {
            let (rel, columns) = found;
            let visible = alias.map_or(relation_name, |alias| fold(&alias.name));
            return Ok((rel, self.listed(visible, None, columns, alias)?));
        }
        let found = self.context.catalog.require_relation(schema.as_deref(), &relation_name, self.context.search_path);
        let found = found.map_err(|error| self.place(error, name.span()))?;
        let visible = alias.map_or_else(|| relation_name.clone(), |alias| fold(&alias.name));
        match found {
            Relation::Table(table) => {
                self.lock_table(table.oid, TableLockMode::AccessShare);
                let schema = alias.is_none().then(|| self.schema_of(table.schema)).flatten();
                let first = self.columns.add_table(&table, &visible);
                let scan = Scan { table, first, alias: visible.clone() };
                let item = Item {
                    alias: visible.clone(),
                    schema: schema.clone(),
                    columns: ItemColumns::Table(scan.clone()),
                    oid: Some(scan.table.oid),
                };
                if alias.is_some_and(|alias| !alias.columns.is_empty()) {
                    let mut columns = Vec::new();
                    item.for_each_column(&mut |name, scalar| columns.push((name.to_owned(), scalar)));
                    return Ok((Rel::Scan(scan), self.listed(visible, schema, columns, alias)?));
                }
                Ok((Rel::Scan(scan), Namespace { items: vec![item], merged: None }))
            }
            Relation::System(view) => {
                self.depends_on(view.oid);
                let ids: Vec<ColumnId> =
                    view.columns.iter().map(|(name, data_type)| self.columns.add(*data_type, name)).collect();
                let columns =
                    view.columns.iter().zip(&ids).map(|((name, _), id)| ((*name).to_owned(), self.columns.scalar(*id)));
                let columns = columns.collect();
                let schema = alias.is_none().then(|| view.schema.to_owned());
                let rel = Rel::System { view, columns: ids, alias: visible.clone() };
                let mut names = self.listed(visible, schema, columns, alias)?;
                names.items[0].oid = Some(view.oid);
                Ok((rel, names))
            }
            Relation::View(view) => {
                let schema = alias.is_none().then(|| self.schema_of(view.schema)).flatten();
                let (rel, columns) = self.view(&view)?;
                Ok((rel, self.listed(visible, schema, columns, alias)?))
            }
            Relation::Sequence(_) => Err(SqlError::unsupported("reading a sequence as a relation")),
            Relation::Index(_) => {
                let error =
                    SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("cannot open relation \"{relation_name}\""))
                        .with_detail("This operation is not supported for indexes.");
                Err(self.place(error, name.span()))
            }
        }
    }

    fn schema_of(&self, oid: u32) -> Option<String> {
        self.context.catalog.schema_name(oid).map(str::to_owned)
    }

    /// A view, expanded in place.
    fn view(&mut self, view: &View) -> Result<(Rel, Vec<(String, Scalar)>)> {
        if self.views.contains(&view.oid) {
            return Err(SqlError::new(
                SqlState::INVALID_OBJECT_DEFINITION,
                format!("infinite recursion detected in rules for relation \"{}\"", view.name),
            ));
        }
        self.depends_on(view.oid);
        let parsed = crate::parser::parse_query(&view.query)?;
        let outside = std::mem::take(&mut self.ctes);
        let has_source = std::mem::replace(&mut self.has_source, false);
        self.views.push(view.oid);
        let query = self.nested(|binder| binder.query(&parsed, None, true));
        self.views.pop();
        self.has_source = has_source;
        self.ctes = outside;
        let query = query?;
        let columns = view.columns.iter().zip(&query.output);
        let columns = columns.map(|((name, _), output)| (name.clone(), self.columns.scalar(output.id))).collect();
        Ok((query.rel, columns))
    }

    /// A function in FROM.
    fn function_in_from(
        &mut self,
        name: &ObjectName,
        args: &[ast::FunctionArg],
        ordinality: bool,
        alias: Option<&TableAlias>,
        lateral: Option<&Scope<'_>>,
    ) -> Result<(Rel, Namespace)> {
        let (schema, function_name) = split_name(name)?;
        if schema.as_deref().is_some_and(|schema| schema != "pg_catalog") {
            return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name} does not exist")));
        }
        if alias.is_some_and(|alias| alias.columns.iter().any(|column| column.data_type.is_some())) {
            return Err(SqlError::unsupported("a column definition list for a function in FROM"));
        }
        let (empty, level) = (Namespace::default(), Level::default());
        let scope = match lateral {
            Some(lateral) => lateral.in_clause(Clause::From),
            None => Scope { namespace: &empty, parent: None, level: &level, clause: Clause::From },
        };
        let mut bound = Vec::with_capacity(args.len());
        for arg in args {
            match arg {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => bound.push(self.expr(expr, &scope)?),
                _ => return Err(SqlError::unsupported("named or starred arguments of a function in FROM")),
            }
        }
        let visible = alias.map_or_else(|| function_name.clone(), |alias| fold(&alias.name));
        let types: Vec<DataType> = bound.iter().map(Scalar::data_type).collect();
        let Some(resolved) =
            resolve::table_function(&function_name, &types).map_err(|error| self.place(error, name.span()))?
        else {
            if ordinality {
                return Err(SqlError::unsupported("WITH ORDINALITY on a scalar function"));
            }
            let resolved = resolve::function(&function_name, &types).map_err(|error| self.place(error, name.span()))?;
            let call = self.call(resolved, bound)?;
            let id = self.columns.add(call.data_type(), &visible);
            let columns = vec![(visible.clone(), self.columns.scalar(id))];
            let rel = Rel::Values { rows: vec![vec![call]], columns: vec![id] };
            return Ok((rel, self.listed(visible, None, columns, alias)?));
        };
        let mut args = Vec::with_capacity(bound.len());
        for (position, arg) in bound.into_iter().enumerate() {
            let to = resolved.args.get(position).copied().unwrap_or(arg.data_type());
            args.push(self.coerce(arg, to, resolve::Context::Implicit)?);
        }
        let single = resolved.columns.len() == 1;
        let mut ids = Vec::new();
        let mut columns = Vec::new();
        for ((column, _), data_type) in resolved.function.columns.iter().zip(&resolved.columns) {
            let column = if single { visible.as_str() } else { column };
            let id = self.columns.add(*data_type, column);
            ids.push(id);
            columns.push((column.to_owned(), self.columns.scalar(id)));
        }
        if ordinality {
            let id = self.columns.add(DataType::INT8, "ordinality");
            ids.push(id);
            columns.push(("ordinality".to_owned(), self.columns.scalar(id)));
        }
        let rel = Rel::Function { function: resolved.function, args, ordinality, columns: ids, alias: visible.clone() };
        Ok((rel, self.listed(visible, None, columns, alias)?))
    }
}
