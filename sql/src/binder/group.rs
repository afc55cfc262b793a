//! GROUP BY: keys, grouping sets, and the rule that nothing else may be read above.

use sqlparser::ast::{self, Expr, GroupByExpr, Spanned};

use super::logical::{Rel, WindowCall};
use super::names::{Clause, ItemColumns, Namespace, Scope};
use super::scalar::{Aggregate, ColumnId, Scalar};
use super::select::Item;
use super::{Binder, fold, order};
use crate::error::{Result, SqlError, SqlState};
use crate::plan::SetOperation;
use crate::types::{DataType, Datum};

/// What GROUP BY says.
pub(super) struct Groups {
    /// Distinct key expressions.
    keys: Vec<(ColumnId, Scalar)>,
    /// Grouping sets, as positions in `keys`; `None` for a plain GROUP BY.
    sets: Option<Vec<Vec<usize>>>,
}

/// More than this many grouping sets are refused, as in Postgres.
const MAX_GROUPING_SETS: usize = 4_096;

impl Binder<'_> {
    pub(super) fn group_by(&mut self, clause: &GroupByExpr, items: &[Item], scope: &Scope<'_>) -> Result<Groups> {
        let mut groups = Groups { keys: Vec::new(), sets: None };
        let GroupByExpr::Expressions(exprs, _) = clause else { return Ok(groups) };
        let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
        let mut several = false;
        for expr in exprs {
            let alternatives: Vec<Vec<usize>> = match expr {
                Expr::GroupingSets(sets) => {
                    several = true;
                    sets.iter().map(|set| self.key_set(set, items, scope, &mut groups)).collect::<Result<_>>()?
                }
                Expr::Rollup(parts) => {
                    several = true;
                    let parts = parts.iter().map(|part| self.key_set(part, items, scope, &mut groups));
                    let parts: Vec<_> = parts.collect::<Result<_>>()?;
                    (0..=parts.len()).rev().map(|length| parts[..length].concat()).collect()
                }
                Expr::Cube(parts) => {
                    several = true;
                    if parts.len() > 12 {
                        return Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, "CUBE is limited to 12 elements"));
                    }
                    let parts = parts.iter().map(|part| self.key_set(part, items, scope, &mut groups));
                    let parts: Vec<_> = parts.collect::<Result<_>>()?;
                    let subset = |mask: usize| {
                        let chosen = parts.iter().enumerate().filter(|(at, _)| mask & (1 << at) == 0);
                        chosen.flat_map(|(_, part)| part.iter().copied()).collect()
                    };
                    (0..1usize << parts.len()).map(subset).collect()
                }
                Expr::Tuple(parts) => vec![self.key_set(parts, items, scope, &mut groups)?],
                expr => vec![self.key_set(std::slice::from_ref(expr), items, scope, &mut groups)?],
            };
            let mut product = Vec::with_capacity(sets.len() * alternatives.len());
            for set in &sets {
                product.extend(alternatives.iter().map(|more| [set.as_slice(), more].concat()));
            }
            if product.len() > MAX_GROUPING_SETS {
                return Err(SqlError::new(
                    SqlState::STATEMENT_TOO_COMPLEX,
                    format!("too many grouping sets present (maximum {MAX_GROUPING_SETS})"),
                ));
            }
            sets = product;
        }
        if several {
            for set in &mut sets {
                set.sort_unstable();
                set.dedup();
            }
            groups.sets = Some(sets);
        }
        Ok(groups)
    }

    fn key_set(
        &mut self,
        exprs: &[Expr],
        items: &[Item],
        scope: &Scope<'_>,
        groups: &mut Groups,
    ) -> Result<Vec<usize>> {
        exprs.iter().map(|expr| self.group_key(expr, items, scope, groups)).collect()
    }

    /// One key: an output position, a column of FROM, an output name, else an expression.
    fn group_key(&mut self, expr: &Expr, items: &[Item], scope: &Scope<'_>, groups: &mut Groups) -> Result<usize> {
        let place = |binder: &Self, error| binder.place(error, expr.span());
        let position = order::output_position(expr, items.len(), "GROUP BY").map_err(|error| place(self, error))?;
        let by_name = || -> Result<Option<usize>> {
            let Expr::Identifier(ident) = expr else { return Ok(None) };
            let name = fold(ident);
            if scope.namespace.column(&name)?.is_some() {
                return Ok(None);
            }
            Ok(items.iter().position(|item| item.name == name))
        };
        let position = match position {
            Some(position) => Some(position),
            None => by_name().map_err(|error| place(self, error))?,
        };
        let scalar = match position {
            Some(position) => {
                let scalar = items[position].scalar.clone();
                let aggregates = scope.level.aggregates.borrow();
                if scalar.any(&|s| matches!(s, Scalar::Column { id, .. } if aggregates.iter().any(|(a, _)| a == id))) {
                    let error =
                        SqlError::new(SqlState::GROUPING_ERROR, "aggregate functions are not allowed in GROUP BY");
                    return Err(place(self, error));
                }
                scalar
            }
            None => self.expr(expr, &scope.in_clause(Clause::GroupBy))?,
        };
        let scalar = self.settle(scalar)?;
        if let Some(found) = groups.keys.iter().position(|(_, key)| key.same(&scalar)) {
            return Ok(found);
        }
        let id = match &scalar {
            Scalar::Column { id, .. } => *id,
            scalar => self.columns.add(scalar.data_type(), &super::output_names::output_name(expr)),
        };
        groups.keys.push((id, scalar));
        Ok(groups.keys.len() - 1)
    }

    /// Puts the aggregation over `rel` and makes `scalars` and window calls read its output.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn grouped(
        &mut self,
        rel: Rel,
        groups: &mut Groups,
        aggregates: Vec<(ColumnId, Aggregate)>,
        groupings: Vec<(ColumnId, Vec<Scalar>)>,
        mut scalars: Vec<&mut Scalar>,
        windows: &mut [(ColumnId, WindowCall)],
        namespace: &Namespace,
        first_use: usize,
    ) -> Result<Rel> {
        let computed: Vec<(ColumnId, Scalar)> =
            groups.keys.iter().filter(|(_, key)| !matches!(key, Scalar::Column { .. })).cloned().collect();
        let mut check = |binder: &mut Self, scalar: &mut Scalar| -> Result<()> {
            if !computed.is_empty() {
                replace_keys(scalar, &computed);
            }
            let mut columns = Vec::new();
            scalar.for_each_column(&mut |id| columns.push(id));
            for id in columns {
                if namespace.owns(id) && !groups.keys.iter().any(|(key, _)| *key == id) {
                    if groups.sets.is_none() && depends_on_key(id, namespace, &groups.keys) {
                        groups.keys.push((id, binder.columns.scalar(id)));
                        continue;
                    }
                    return Err(binder.ungrouped(id, first_use));
                }
            }
            Ok(())
        };
        for scalar in &mut scalars {
            check(self, scalar)?;
        }
        for (_, call) in windows {
            let mut failed = None;
            call.for_each_scalar_mut(&mut |scalar| {
                if failed.is_none() {
                    failed = check(self, scalar).err();
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
        }
        let mut resolved = Vec::with_capacity(groupings.len());
        for (id, args) in groupings {
            let mut positions = Vec::with_capacity(args.len());
            for arg in &args {
                let found = groups.keys.iter().position(|(_, key)| key.same(arg));
                positions.push(found.ok_or_else(|| {
                    SqlError::new(
                        SqlState::GROUPING_ERROR,
                        "arguments to GROUPING must be grouping expressions of the associated query level",
                    )
                })?);
            }
            resolved.push((id, positions));
        }
        if resolved.is_empty() {
            return Ok(Rel::Aggregate {
                input: Box::new(rel),
                keys: std::mem::take(&mut groups.keys),
                aggregates,
                sets: groups.sets.take(),
            });
        }
        Ok(self.with_grouping(rel, groups, aggregates, resolved))
    }

    /// GROUPING(…) is a constant within each grouping set: one aggregation for each, appended.
    fn with_grouping(
        &mut self,
        rel: Rel,
        groups: &mut Groups,
        aggregates: Vec<(ColumnId, Aggregate)>,
        groupings: Vec<(ColumnId, Vec<usize>)>,
    ) -> Rel {
        let keys = std::mem::take(&mut groups.keys);
        let sets = groups.sets.take().unwrap_or_else(|| vec![(0..keys.len()).collect()]);
        let mut columns: Vec<ColumnId> = keys.iter().map(|(id, _)| *id).collect();
        columns.extend(aggregates.iter().map(|(id, _)| *id));
        columns.extend(groupings.iter().map(|(id, _)| *id));
        let mut whole: Option<(Rel, Vec<ColumnId>)> = None;
        for set in sets {
            let present: Vec<_> = set.iter().map(|at| keys[*at].clone()).collect();
            let mut output = columns.clone();
            let mut constants = Vec::new();
            for (at, (id, key)) in keys.iter().enumerate() {
                if !set.contains(&at) {
                    let null = self.columns.add(key.data_type(), &self.columns.name(*id));
                    constants.push((null, Scalar::null(key.data_type())));
                    output[at] = null;
                }
            }
            for (at, (_, args)) in groupings.iter().enumerate() {
                let bits = args.iter().fold(0, |bits, arg| (bits << 1) | i32::from(!set.contains(arg)));
                let id = self.columns.add(DataType::INT4, "grouping");
                constants.push((id, Scalar::Literal { value: Datum::Int4(bits), data_type: DataType::INT4 }));
                output[keys.len() + aggregates.len() + at] = id;
            }
            let one = Rel::Aggregate {
                input: Box::new(rel.clone()),
                keys: present,
                aggregates: aggregates.clone(),
                sets: None,
            }
            .mapped(constants);
            whole = Some(match whole {
                None => (one, output),
                Some((left, left_columns)) => {
                    let rel = Rel::SetOp {
                        operation: SetOperation::Union,
                        all: true,
                        left: Box::new(left),
                        left_columns,
                        right: Box::new(one),
                        right_columns: output,
                        columns: columns.clone(),
                    };
                    (rel, columns.clone())
                }
            });
        }
        let (rel, output) = whole.expect("there is at least one grouping set");
        // A single set leaves its output under other ids than those that are read above.
        let renamed = output.iter().zip(&columns).filter(|(from, to)| from != to);
        let renamed = renamed.map(|(from, to)| (*to, self.columns.scalar(*from))).collect();
        rel.mapped(renamed)
    }

    fn ungrouped(&self, id: ColumnId, first_use: usize) -> SqlError {
        let error = SqlError::new(
            SqlState::GROUPING_ERROR,
            format!(
                "column \"{}\" must appear in the GROUP BY clause or be used in an aggregate function",
                self.columns.qualified_name(id)
            ),
        );
        match self.uses[first_use.min(self.uses.len())..].iter().find(|(column, _)| *column == id) {
            Some((_, span)) => self.place(error, *span),
            None => error,
        }
    }
}

/// Replaces what equals a key by the key's column, outermost first.
fn replace_keys(scalar: &mut Scalar, keys: &[(ColumnId, Scalar)]) {
    if let Some((id, key)) = keys.iter().find(|(_, key)| key.same(scalar)) {
        *scalar = Scalar::Column { id: *id, data_type: key.data_type() };
        return;
    }
    scalar.for_each_child_mut(&mut |child| replace_keys(child, keys));
    if let Scalar::Subquery(subquery) = scalar {
        subquery.query.for_each_scalar_deep_mut(&mut |inner| replace_keys(inner, keys));
    }
}

/// Whether a table's primary key is among the keys: then all its columns are determined.
fn depends_on_key(id: ColumnId, namespace: &Namespace, keys: &[(ColumnId, Scalar)]) -> bool {
    namespace.items.iter().any(|item| match &item.columns {
        ItemColumns::Table(scan) if scan.columns().contains(&id) => {
            scan.table.primary_key.as_ref().is_some_and(|key| {
                key.columns.iter().all(|column| keys.iter().any(|(key, _)| *key == scan.first + column))
            })
        }
        _ => false,
    })
}

/// GROUPING's arguments, before the groups are known.
pub(super) fn grouping_args(args: &[ast::FunctionArg]) -> Result<Vec<&Expr>> {
    args.iter()
        .map(|arg| match arg {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Ok(expr),
            _ => Err(SqlError::new(SqlState::SYNTAX_ERROR, "GROUPING takes expressions")),
        })
        .collect()
}
