//! Expressions that the catalog keeps as text: defaults and check conditions.

use std::ops::ControlFlow;

use sqlparser::ast::{
    CastKind, DataType as TypeName, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Value, VisitMut,
    VisitorMut,
};

use super::work::{QualifiedName, Work};
use crate::catalog::{Column, Oid, Relation};
use crate::error::{Result, SqlError, SqlState};

/// DEFAULT as the catalog keeps it. Sequences named by text are kept by OID, so that renaming one does not
/// break the default.
pub(super) fn default_text(work: &Work<'_>, expr: &Expr) -> Result<String> {
    let mut expr = expr.clone();
    match expr.visit(&mut SequenceNames { work }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(expr.to_string()),
    }
}

/// Whether an expression kept as text reads the column of this name.
pub(in crate::catalog) fn mentions_column(text: &str, column: &Column) -> Result<bool> {
    let mut found = Mentions { name: &column.name, found: false };
    let mut expr = crate::parser::parse_expression(text)?;
    _ = expr.visit(&mut found);
    Ok(found.found)
}

/// The same expression with a column renamed.
pub(super) fn rename_column(text: &str, from: &str, to: &str) -> Result<String> {
    let mut expr = crate::parser::parse_expression(text)?;
    _ = expr.visit(&mut Rename { from, to });
    Ok(expr.to_string())
}

/// OIDs of the sequences that a default draws from.
pub(in crate::catalog) fn sequences_of(text: &str) -> Vec<Oid> {
    let Ok(mut expr) = crate::parser::parse_expression(text) else { return Vec::new() };
    let mut found = Sequences(Vec::new());
    _ = expr.visit(&mut found);
    found.0
}

/// The sequence argument of `nextval`, `currval` or `setval`.
fn sequence_argument(expr: &mut Expr) -> Option<&mut Expr> {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else { return None };
    let function = name.0.last()?.as_ident()?.value.to_lowercase();
    if !matches!(function.as_str(), "nextval" | "currval" | "setval") {
        return None;
    }
    match list.args.first_mut()? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => Some(argument),
        _ => None,
    }
}

/// The text of a literal, also under a cast to regclass or text.
fn literal_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        Expr::Cast { expr, data_type: TypeName::Regclass | TypeName::Text, .. } => literal_text(expr),
        Expr::Nested(expr) => literal_text(expr),
        _ => None,
    }
}

struct SequenceNames<'a> {
    work: &'a Work<'a>,
}

impl VisitorMut for SequenceNames<'_> {
    type Break = SqlError;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        let Some(argument) = sequence_argument(expr) else { return ControlFlow::Continue(()) };
        let Some(text) = literal_text(argument).map(str::to_owned) else { return ControlFlow::Continue(()) };
        let found = match text.parse::<Oid>() {
            Ok(oid) => self.work.catalog.relation_by_oid(oid),
            Err(_) => self.work.catalog.relation_by_text(&text, self.work.context.search_path),
        };
        match found {
            Some(Relation::Sequence(sequence)) => {
                *argument = regclass(sequence.oid);
                ControlFlow::Continue(())
            }
            Some(_) => {
                ControlFlow::Break(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{text}\" is not a sequence")))
            }
            None => ControlFlow::Break(super::work::undefined_relation(&QualifiedName { schema: None, name: text })),
        }
    }
}

/// `'<oid>'::regclass`
fn regclass(oid: Oid) -> Expr {
    Expr::Cast {
        kind: CastKind::DoubleColon,
        expr: Box::new(Expr::Value(Value::SingleQuotedString(oid.to_string()).into())),
        data_type: TypeName::Regclass,
        array: false,
        format: None,
    }
}

struct Sequences(Vec<Oid>);

impl VisitorMut for Sequences {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(argument) = sequence_argument(expr)
            && let Some(oid) = literal_text(argument).and_then(|text| text.parse().ok())
        {
            self.0.push(oid);
        }
        ControlFlow::Continue(())
    }
}

/// The column that an expression over one table's row names: `a`, `t.a` or `s.t.a`.
fn column_name(expr: &mut Expr) -> Option<&mut sqlparser::ast::Ident> {
    match expr {
        Expr::Identifier(ident) => Some(ident),
        Expr::CompoundIdentifier(parts) => parts.last_mut(),
        _ => None,
    }
}

struct Mentions<'a> {
    name: &'a str,
    found: bool,
}

impl VisitorMut for Mentions<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.found |= column_name(expr).is_some_and(|ident| super::work::identifier(ident) == self.name);
        ControlFlow::Continue(())
    }
}

struct Rename<'a> {
    from: &'a str,
    to: &'a str,
}

impl VisitorMut for Rename<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(ident) = column_name(expr)
            && super::work::identifier(ident) == self.from
        {
            *ident = sqlparser::ast::Ident::with_quote('"', self.to);
        }
        ControlFlow::Continue(())
    }
}
