//! SELECT: the select list and the order in which the clauses become operators.

use sqlparser::ast::{self, Distinct, GroupByExpr, Select, SelectItem, Spanned};

use super::logical::{LockItem, Rel};
use super::names::{Clause, ItemColumns, Level, Namespace, Scope};
use super::output_names::output_name;
use super::query::Tail;
use super::scalar::{ColumnId, Order, Scalar};
use super::{Binder, Output, Query, fold, order, split_name};
use crate::error::{Result, SqlError, SqlState};
use crate::plan::JoinKind;
use crate::store::{TableLockMode, WaitPolicy};

/// An item of a select list, bound.
pub(super) struct Item {
    pub name: String,
    pub scalar: Scalar,
}

/// What ORDER BY or DISTINCT ON refers to.
enum Target {
    Item(usize),
    Scalar(Scalar),
}

impl Binder<'_> {
    pub(super) fn select(
        &mut self,
        select: &Select,
        tail: Tail<'_>,
        parent: Option<&Scope<'_>>,
        settle: bool,
    ) -> Result<Query> {
        if select.top.is_some()
            || select.qualify.is_some()
            || select.prewhere.is_some()
            || !select.lateral_views.is_empty()
            || !select.connect_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.sort_by.is_empty()
            || select.value_table_mode.is_some()
            || select.exclude.is_some()
        {
            return Err(SqlError::unsupported("this SELECT clause"));
        }
        let first_use = self.uses.len();
        let (mut rel, namespace) = self.from(&select.from, parent)?;
        let level = Level::default();
        self.define_windows(&select.named_window, &level)?;
        let scope = Scope { namespace: &namespace, parent, level: &level, clause: Clause::Select };

        let mut items = self.select_list(&select.projection, &scope)?;
        let conditions = match &select.selection {
            Some(condition) => self.conjuncts(condition, &scope.in_clause(Clause::Where), "WHERE")?,
            None => Vec::new(),
        };
        let has_group_by = match &select.group_by {
            GroupByExpr::All(_) => return Err(SqlError::unsupported("GROUP BY ALL")),
            GroupByExpr::Expressions(exprs, modifiers) => {
                if !modifiers.is_empty() {
                    return Err(SqlError::unsupported("this GROUP BY modifier"));
                }
                !exprs.is_empty()
            }
        };
        let mut groups = self.group_by(&select.group_by, &items, &scope)?;
        let mut having = match &select.having {
            Some(condition) => self.conjuncts(condition, &scope.in_clause(Clause::Having), "HAVING")?,
            None => Vec::new(),
        };
        let mut sort: Vec<(Target, &ast::OrderByExpr)> = Vec::new();
        if let Some(order_by) = tail.order_by {
            for item in order::items(order_by)? {
                let target = self.target(&item.expr, &items, &scope.in_clause(Clause::OrderBy), "ORDER BY")?;
                sort.push((target, item));
            }
        }
        let mut distinct_on = match &select.distinct {
            Some(Distinct::On(exprs)) => {
                let mut targets = Vec::new();
                for expr in exprs {
                    targets.push(self.target(
                        expr,
                        &items,
                        &scope.in_clause(Clause::DistinctOn),
                        "SELECT DISTINCT ON",
                    )?);
                }
                Some(targets)
            }
            _ => None,
        };
        if settle {
            for item in &mut items {
                let scalar = std::mem::replace(&mut item.scalar, Scalar::bool(true));
                item.scalar = self.settle(scalar)?;
            }
        }

        // Everything is bound: the operators, from the bottom.
        rel = rel.filtered(conditions.clone());
        let aggregates = level.aggregates.take();
        if !aggregates.is_empty() || has_group_by || select.having.is_some() {
            self.forbid_locks(tail, if has_group_by { "GROUP BY clause" } else { "aggregate functions" })?;
            let mut windows = level.windows.borrow_mut();
            let mut sets = level.sets.borrow_mut();
            let mut scalars: Vec<&mut Scalar> = items.iter_mut().map(|item| &mut item.scalar).collect();
            scalars.extend(having.iter_mut());
            let targets = sort.iter_mut().map(|(target, _)| target).chain(distinct_on.iter_mut().flatten());
            scalars.extend(targets.filter_map(|target| match target {
                Target::Scalar(scalar) => Some(scalar),
                Target::Item(_) => None,
            }));
            scalars.extend(sets.iter_mut().flat_map(|set| &mut set.args));
            let groupings = level.groupings.take();
            rel =
                self.grouped(rel, &mut groups, aggregates, groupings, scalars, &mut windows, &namespace, first_use)?;
        }
        rel = rel.filtered(having);
        let windows = level.windows.take();
        if !windows.is_empty() {
            self.forbid_locks(tail, "window functions")?;
            rel = Rel::Window { input: Box::new(rel), calls: windows };
        }
        let sets = level.sets.take();
        if !sets.is_empty() {
            self.forbid_locks(tail, "set-returning functions in the target list")?;
            rel = Rel::ProjectSet { input: Box::new(rel), sets };
        }
        self.uses.truncate(first_use);

        if !tail.locks.is_empty() {
            if select.distinct.is_some() {
                self.forbid_locks(tail, "DISTINCT clause")?;
            }
            let keys = sort.into_iter().map(|(target, item)| {
                let scalar = match target {
                    Target::Item(position) => items[position].scalar.clone(),
                    Target::Scalar(scalar) => scalar,
                };
                order::key(scalar, item)
            });
            let keys: Vec<Order> = keys.collect();
            if !keys.is_empty() {
                rel = Rel::Sort { input: Box::new(rel), keys };
            }
            rel = self.locked(rel, tail.locks, &namespace, conditions)?;
            let (exprs, output) = self.project(items, &rel, parent);
            let rel = self.limit(rel.mapped(exprs), tail, parent)?;
            return Ok(Query { rel, output });
        }

        let (exprs, output) = self.project(items, &rel, parent);
        rel = rel.mapped(exprs);
        let columns: Vec<ColumnId> = output.iter().map(|output| output.id).collect();
        let resolve = |binder: &Self, target: Target| match target {
            Target::Item(position) => binder.columns.scalar(columns[position]),
            Target::Scalar(scalar) => scalar,
        };
        let plain_distinct = matches!(select.distinct, Some(Distinct::Distinct));
        if plain_distinct {
            if let Some((_, item)) = sort.iter().find(|(target, _)| matches!(target, Target::Scalar(_))) {
                let error = SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                );
                return Err(self.place(error, item.expr.span()));
            }
            rel = Rel::Distinct { input: Box::new(rel), columns: columns.clone(), on: None };
        }
        let mut keys: Vec<Order> = Vec::with_capacity(sort.len());
        for (target, item) in sort {
            let scalar = resolve(self, target);
            let scalar = self.settle(scalar)?;
            keys.push(order::key(scalar, item));
        }
        let on = distinct_on.map(|targets| targets.into_iter().map(|t| resolve(self, t)).collect::<Vec<_>>());
        if let Some(on) = &on {
            let matched = keys.iter().take(on.len()).all(|key| on.iter().any(|expr| expr.same(&key.expr)));
            if !keys.is_empty() && !matched {
                return Err(SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
                ));
            }
            for expr in on {
                if !keys.iter().any(|key| key.expr.same(expr)) {
                    keys.push(Order { expr: expr.clone(), descending: false, nulls_first: false });
                }
            }
        }
        if !keys.is_empty() {
            rel = Rel::Sort { input: Box::new(rel), keys };
        }
        if on.is_some() {
            rel = Rel::Distinct { input: Box::new(rel), columns, on };
        }
        let rel = self.limit(rel, tail, parent)?;
        Ok(Query { rel, output })
    }

    /// The select list, stars expanded.
    pub(super) fn select_list(&mut self, projection: &[SelectItem], scope: &Scope<'_>) -> Result<Vec<Item>> {
        let mut items = Vec::with_capacity(projection.len());
        for item in projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let scalar = self.expr(expr, scope)?;
                    items.push(Item { name: output_name(expr), scalar });
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let scalar = self.expr(expr, scope)?;
                    items.push(Item { name: fold(alias), scalar });
                }
                SelectItem::Wildcard(options) => {
                    if scope.namespace.items.is_empty() {
                        let error =
                            SqlError::new(SqlState::SYNTAX_ERROR, "SELECT * with no tables specified is not valid");
                        return Err(self.place(error, options.wildcard_token.0.span));
                    }
                    scope.namespace.for_each_visible(&mut |name, scalar| {
                        items.push(Item { name: name.to_owned(), scalar });
                    });
                }
                SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let (schema, relation) = split_name(name)?;
                    let Some(found) = scope.item(schema.as_deref(), &relation) else {
                        return Err(self.place(scope.no_entry(&relation), name.span()));
                    };
                    found.for_each_column(&mut |name, scalar| items.push(Item { name: name.to_owned(), scalar }));
                }
                other => return Err(SqlError::unsupported(format!("select list item {other}"))),
            }
        }
        Ok(items)
    }

    /// Select list → computed columns and the output.
    pub(super) fn project(
        &mut self,
        items: Vec<Item>,
        rel: &Rel,
        parent: Option<&Scope<'_>>,
    ) -> (Vec<(ColumnId, Scalar)>, Vec<Output>) {
        // Columns of queries around are not the input's: they are computed like any other expression.
        let mut own = Vec::new();
        if parent.is_some() {
            rel.for_each_output(&mut |id| own.push(id));
        }
        let is_input = |columns: &super::Columns, id: ColumnId, data_type: crate::types::DataType| {
            (parent.is_none() || own.contains(&id)) && columns.infos[id].data_type.same_type(data_type)
        };
        let mut exprs: Vec<(ColumnId, Scalar)> = Vec::new();
        let mut output = Vec::with_capacity(items.len());
        for Item { name, scalar } in items {
            let id = match &scalar {
                Scalar::Column { id, data_type } if is_input(&self.columns, *id, *data_type) => *id,
                scalar => match exprs.iter().find(|(_, present)| present.same(scalar)) {
                    Some((id, _)) => *id,
                    None => {
                        let id = self.columns.add(scalar.data_type(), &name);
                        exprs.push((id, scalar.clone()));
                        id
                    }
                },
            };
            output.push(Output { name, id });
        }
        (exprs, output)
    }

    /// What an ORDER BY or DISTINCT ON item means: output position, output name, else an expression.
    fn target(&mut self, expr: &ast::Expr, items: &[Item], scope: &Scope<'_>, clause: &str) -> Result<Target> {
        let place = |binder: &Self, error| binder.place(error, expr.span());
        if let Some(position) = order::output_position(expr, items.len(), clause).map_err(|e| place(self, e))? {
            return Ok(Target::Item(position));
        }
        if let ast::Expr::Identifier(ident) = expr {
            let name = fold(ident);
            let mut named = items.iter().enumerate().filter(|(_, item)| item.name == name);
            if let Some((position, first)) = named.next() {
                if named.any(|(_, other)| !other.scalar.same(&first.scalar)) {
                    let error = SqlError::new(SqlState::AMBIGUOUS_COLUMN, format!("{clause} \"{name}\" is ambiguous"));
                    return Err(place(self, error));
                }
                return Ok(Target::Item(position));
            }
        }
        let scalar = self.expr(expr, scope)?;
        Ok(match items.iter().position(|item| item.scalar.same(&scalar)) {
            Some(position) => Target::Item(position),
            None => Target::Scalar(scalar),
        })
    }

    fn forbid_locks(&self, tail: Tail<'_>, what: &str) -> Result<()> {
        let Some(lock) = tail.locks.first() else { return Ok(()) };
        Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("FOR {} is not allowed with {what}", lock.lock_type),
        ))
    }

    /// FOR UPDATE and FOR SHARE.
    fn locked(
        &mut self,
        rel: Rel,
        locks: &[ast::LockClause],
        namespace: &Namespace,
        conditions: Vec<Scalar>,
    ) -> Result<Rel> {
        let mut targets: Vec<LockItem> = Vec::new();
        let mut wait = WaitPolicy::Block;
        for lock in locks {
            match lock.nonblock {
                Some(ast::NonBlock::Nowait) => wait = WaitPolicy::Error,
                Some(ast::NonBlock::SkipLocked) => wait = WaitPolicy::Skip,
                None => {}
            }
            let exclusive = lock.lock_type == ast::LockType::Update;
            let only = match &lock.of {
                Some(name) => Some(split_name(name)?.1),
                None => None,
            };
            let mut found = false;
            for item in &namespace.items {
                if only.as_ref().is_some_and(|name| *name != item.alias) {
                    continue;
                }
                found = true;
                let ItemColumns::Table(scan) = &item.columns else { continue };
                self.lock_table(scan.table.oid, TableLockMode::RowShare);
                match targets.iter_mut().find(|target| target.scan.first == scan.first) {
                    Some(target) => target.exclusive |= exclusive,
                    None => targets.push(LockItem { scan: scan.clone(), exclusive }),
                }
            }
            if let (Some(name), Some(of), false) = (&only, &lock.of, found) {
                let error = SqlError::new(
                    SqlState::UNDEFINED_TABLE,
                    format!("relation \"{name}\" in FOR {} clause not found in FROM clause", lock.lock_type),
                );
                return Err(self.place(error, of.span()));
            }
        }
        if targets.is_empty() {
            return Ok(rel);
        }
        self.writes = true;
        let mut recheck = conditions;
        collect_join_conditions(&rel, &mut recheck);
        Ok(Rel::Lock { input: Box::new(rel), targets, recheck, wait })
    }
}

/// The conditions of inner joins below; those of outer joins do not decide whether a row is there.
fn collect_join_conditions(rel: &Rel, conditions: &mut Vec<Scalar>) {
    match rel {
        Rel::Join { kind: JoinKind::Inner, left, right, on } => {
            conditions.extend(on.iter().cloned());
            collect_join_conditions(left, conditions);
            collect_join_conditions(right, conditions);
        }
        Rel::Filter { input, .. } | Rel::Sort { input, .. } => collect_join_conditions(input, conditions),
        Rel::Join { kind: JoinKind::Left, left, .. } => collect_join_conditions(left, conditions),
        _ => {}
    }
}
