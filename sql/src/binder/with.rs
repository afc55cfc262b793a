//! WITH: common table expressions.

use std::ops::ControlFlow;

use sqlparser::ast::{self, CteAsMaterialized, SetExpr, SetOperator, SetQuantifier};

use super::logical::{Cte, Rel};
use super::names::{Scope, fold};
use super::scalar::{ColumnId, Scalar};
use super::{Binder, Query};
use crate::error::{Result, SqlError, SqlState};
use crate::types::DataType;

/// A relation with its columns' names.
type Named = (Rel, Vec<(String, Scalar)>);

/// A CTE in scope.
pub(super) struct CteEntry {
    name: String,
    id: usize,
    columns: Vec<(String, DataType)>,
}

impl Binder<'_> {
    /// Binds the CTEs of a WITH and brings them into scope.
    pub(super) fn with(&mut self, with: &ast::With, parent: Option<&Scope<'_>>) -> Result<Vec<Cte>> {
        let mut ctes = Vec::with_capacity(with.cte_tables.len());
        for cte in &with.cte_tables {
            let name = fold(&cte.alias.name);
            if ctes.iter().any(|present: &Cte| present.name == name) {
                let error = SqlError::new(
                    SqlState::DUPLICATE_ALIAS,
                    format!("WITH query name \"{name}\" specified more than once"),
                );
                return Err(self.place(error, cte.alias.name.span));
            }
            let id = self.next_cte;
            self.next_cte += 1;
            let recursive = with.recursive && mentions(cte.query.as_ref(), &name);
            let bound = if recursive {
                self.recursive(cte, id, &name, parent)?
            } else {
                let query = self.nested(|binder| binder.query(&cte.query, parent, true))?;
                let columns = self.cte_columns(cte, &query)?;
                self.ctes.push(CteEntry { name: name.clone(), id, columns });
                let output = query.output.iter().map(|output| output.id).collect();
                let materialized = matches!(cte.materialized, Some(CteAsMaterialized::Materialized));
                Cte { id, name, query: query.rel, output, recursive: None, materialized }
            };
            ctes.push(bound);
        }
        Ok(ctes)
    }

    fn cte_columns(&self, cte: &ast::Cte, query: &Query) -> Result<Vec<(String, DataType)>> {
        if cte.alias.columns.len() > query.output.len() {
            let error = SqlError::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!(
                    "WITH query \"{}\" has {} columns available but {} columns specified",
                    fold(&cte.alias.name),
                    query.output.len(),
                    cte.alias.columns.len()
                ),
            );
            return Err(self.place(error, cte.alias.name.span));
        }
        let mut columns: Vec<_> =
            query.output.iter().map(|o| (o.name.clone(), self.columns.infos[o.id].data_type)).collect();
        for (column, renamed) in columns.iter_mut().zip(&cte.alias.columns) {
            column.0 = fold(&renamed.name);
        }
        Ok(columns)
    }

    fn recursive(&mut self, cte: &ast::Cte, id: usize, name: &str, parent: Option<&Scope<'_>>) -> Result<Cte> {
        let not_recursive = || {
            SqlError::new(
                SqlState::INVALID_RECURSION,
                format!(
                    "recursive query \"{name}\" does not have the form non-recursive-term UNION [ALL] recursive-term"
                ),
            )
        };
        let SetExpr::SetOperation { left, op: SetOperator::Union, set_quantifier, right } = cte.query.body.as_ref()
        else {
            return Err(not_recursive());
        };
        if cte.query.order_by.is_some() || cte.query.limit_clause.is_some() {
            return Err(SqlError::unsupported("ORDER BY or LIMIT in a recursive query"));
        }
        if mentions(left.as_ref(), name) {
            return Err(not_recursive());
        }
        let outer = self.ctes.len();
        let inner_with = match &cte.query.with {
            Some(with) => self.with(with, parent)?,
            None => Vec::new(),
        };
        let base = self.nested(|binder| binder.branch(left, parent))?;
        let types: Vec<DataType> = base
            .output
            .iter()
            .map(|output| match self.columns.infos[output.id].data_type {
                unknown if unknown.is_unknown() => DataType::TEXT,
                known => known,
            })
            .collect();
        let columns = self.cte_columns(cte, &base)?;
        let columns: Vec<_> = columns.into_iter().zip(&types).map(|((name, _), t)| (name, *t)).collect();
        let (query, output) = self.convert_output(base, &types, "UNION")?;
        self.ctes.push(CteEntry { name: name.to_owned(), id, columns: columns.clone() });
        let term = self.nested(|binder| binder.branch(right, parent))?;
        if term.output.len() != output.len() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "each UNION query must have the same number of columns"));
        }
        for (position, (column, base)) in term.output.iter().zip(&types).enumerate() {
            let found = self.columns.infos[column.id].data_type;
            if !found.same_type(*base) && !found.is_unknown() && !super::resolve::is_relabelling(found, *base) {
                return Err(SqlError::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "recursive query \"{name}\" column {} has type {} in non-recursive term but type {} overall",
                        position + 1,
                        base.name(),
                        found.name()
                    ),
                )
                .with_hint("Cast the output of the non-recursive term to the correct type."));
            }
        }
        let (term, term_output) = self.convert_output(term, &types, "UNION")?;
        self.ctes.truncate(outer);
        self.ctes.push(CteEntry { name: name.to_owned(), id, columns });
        let all = matches!(set_quantifier, SetQuantifier::All);
        let query = if inner_with.is_empty() {
            query
        } else {
            return Err(SqlError::unsupported("WITH inside a recursive query"));
        };
        Ok(Cte {
            id,
            name: name.to_owned(),
            query,
            output,
            recursive: Some((term, term_output, all)),
            materialized: true,
        })
    }

    /// The CTE of a name, when one is in scope.
    pub(super) fn cte_reference(&mut self, name: &str) -> Result<Option<Named>> {
        let Some(entry) = self.ctes.iter().rev().find(|entry| entry.name == name) else { return Ok(None) };
        let (id, columns) = (entry.id, entry.columns.clone());
        let ids: Vec<ColumnId> = columns.iter().map(|(name, data_type)| self.columns.add(*data_type, name)).collect();
        let named = columns.into_iter().zip(&ids).map(|((name, _), id)| (name, self.columns.scalar(*id))).collect();
        Ok(Some((Rel::Cte { id, name: name.to_owned(), columns: ids }, named)))
    }
}

/// Whether a query names a relation anywhere (an upper bound: aliases are not told apart).
fn mentions(tree: &impl ast::Visit, name: &str) -> bool {
    ast::visit_relations(tree, |relation| match relation.0.as_slice() {
        [part] if part.as_ident().is_some_and(|ident| fold(ident) == name) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}
