//! What an output column without alias is called.

use sqlparser::ast::{self, Expr, SelectItem, SetExpr};

use super::{data_type, fold};

/// Name of an output column, as Postgres chooses it.
pub(super) fn output_name(expr: &Expr) -> String {
    name(expr).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
}

/// The name, and whether it is a strong one (a type's name is weak: a cast's operand goes first).
fn name(expr: &Expr) -> Option<(String, bool)> {
    let strong = |text: &str| Some((text.to_owned(), true));
    match expr {
        Expr::Identifier(ident) => Some((fold(ident), true)),
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| (fold(part), true)),
        Expr::CompoundFieldAccess { root, .. } => name(root),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => name(inner),
        Expr::Function(function) => function.name.0.last()?.as_ident().map(|ident| (fold(ident), true)),
        Expr::Cast { expr, data_type: to, .. } => match name(expr) {
            Some((name, true)) => Some((name, true)),
            _ => data_type(to).ok().map(|to| (type_name(to), false)),
        },
        Expr::TypedString(typed) => data_type(&typed.data_type).ok().map(|to| (type_name(to), false)),
        Expr::Interval(_) => Some(("interval".to_owned(), false)),
        Expr::Value(value) if matches!(value.value, ast::Value::Boolean(_)) => Some(("bool".to_owned(), false)),
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(name) {
            Some((name, true)) => Some((name, true)),
            _ => Some(("case".to_owned(), false)),
        },
        Expr::Exists { .. } => strong("exists"),
        Expr::Array(_) => strong("array"),
        Expr::Tuple(_) => strong("row"),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::UnnamedExpr(expr) => name(expr),
                SelectItem::ExprWithAlias { alias, .. } => Some((fold(alias), true)),
                _ => None,
            },
            SetExpr::Values(_) => strong("column1"),
            _ => None,
        },
        Expr::Extract { .. } => strong("extract"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::Position { .. } => strong("position"),
        Expr::Substring { shorthand, .. } => strong(if *shorthand { "substr" } else { "substring" }),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        Expr::AtTimeZone { .. } => strong("timezone"),
        _ => None,
    }
}

fn type_name(data_type: crate::types::DataType) -> String {
    data_type.bare().element().unwrap_or(data_type).internal_name()
}
