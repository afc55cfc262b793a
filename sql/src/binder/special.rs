//! Syntax that stands for a function: EXTRACT, SUBSTRING, TRIM, POSITION, OVERLAY, AT TIME ZONE, LIKE …

use sqlparser::ast::{self, CeilFloorKind, Expr, Spanned, TrimWhereField, ValueWithSpan};

use super::Binder;
use super::call::text;
use super::constant;
use super::names::Scope;
use super::scalar::Scalar;
use crate::error::{Result, SqlError, SqlState};

impl Binder<'_> {
    pub(super) fn special(&mut self, expr: &Expr, scope: &Scope<'_>) -> Result<Scalar> {
        self.special_inner(expr, scope).map_err(|error| self.place(error, expr.span()))
    }

    fn special_inner(&mut self, expr: &Expr, scope: &Scope<'_>) -> Result<Scalar> {
        match expr {
            Expr::Extract { field, expr, .. } => {
                let field = field.to_string().trim_matches(['\'', '"']).to_ascii_lowercase();
                let value = self.expr(expr, scope)?;
                self.named("extract", vec![text(&field), value])
            }
            Expr::Ceil { expr, field } => self.rounding("ceil", expr, field, scope),
            Expr::Floor { expr, field } => self.rounding("floor", expr, field, scope),
            Expr::Position { expr, r#in } => {
                let (needle, hay) = (self.expr(expr, scope)?, self.expr(r#in, scope)?);
                self.named("position", vec![hay, needle])
            }
            Expr::Substring { expr, substring_from, substring_for, shorthand, .. } => {
                let mut args = vec![self.expr(expr, scope)?];
                match (substring_from, substring_for) {
                    (Some(from), length) => {
                        args.push(self.expr(from, scope)?);
                        if let Some(length) = length {
                            args.push(self.expr(length, scope)?);
                        }
                    }
                    (None, Some(length)) => {
                        args.push(super::resolve::number("1", &self.context.eval)?);
                        args.push(self.expr(length, scope)?);
                    }
                    (None, None) => {}
                }
                self.named(if *shorthand { "substr" } else { "substring" }, args)
            }
            Expr::Trim { trim_where, trim_what, expr, trim_characters } => {
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    Some(TrimWhereField::Both) | None => "btrim",
                };
                let mut args = vec![self.expr(expr, scope)?];
                if let Some(what) = trim_what {
                    args.push(self.expr(what, scope)?);
                } else if let Some([what]) = trim_characters.as_deref() {
                    args.push(self.expr(what, scope)?);
                }
                self.named(name, args)
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut args =
                    vec![self.expr(expr, scope)?, self.expr(overlay_what, scope)?, self.expr(overlay_from, scope)?];
                if let Some(length) = overlay_for {
                    args.push(self.expr(length, scope)?);
                }
                self.named("overlay", args)
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                let (value, zone) = (self.expr(timestamp, scope)?, self.expr(time_zone, scope)?);
                self.named("timezone", vec![zone, value])
            }
            other => Err(SqlError::unsupported(format!("expression {other}"))),
        }
    }

    fn rounding(&mut self, name: &str, expr: &Expr, field: &CeilFloorKind, scope: &Scope<'_>) -> Result<Scalar> {
        match field {
            CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) => {
                let value = self.expr(expr, scope)?;
                self.named(name, vec![value])
            }
            _ => Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name} takes one argument"))),
        }
    }

    /// LIKE and ILIKE: operators `~~`, `~~*` and their negations; ESCAPE rewrites the pattern.
    pub(super) fn like(
        &mut self,
        symbol: &str,
        expr: &Expr,
        pattern: &Expr,
        escape: Option<&ValueWithSpan>,
        scope: &Scope<'_>,
    ) -> Result<Scalar> {
        let value = self.expr(expr, scope)?;
        let mut pattern = self.expr(pattern, scope)?;
        if let Some(escape) = escape {
            let escape = self.escape(escape)?;
            pattern = self.named("like_escape", vec![pattern, escape])?;
        }
        self.operator(symbol, value, pattern).map_err(|error| self.place(error, expr.span()))
    }

    /// SIMILAR TO: the pattern becomes a regular expression.
    pub(super) fn similar(
        &mut self,
        negated: bool,
        expr: &Expr,
        pattern: &Expr,
        escape: Option<&ValueWithSpan>,
        scope: &Scope<'_>,
    ) -> Result<Scalar> {
        let value = self.expr(expr, scope)?;
        let mut args = vec![self.expr(pattern, scope)?];
        if let Some(escape) = escape {
            args.push(self.escape(escape)?);
        }
        let pattern = self.named("similar_to_escape", args)?;
        let matched = self.operator("~", value, pattern).map_err(|error| self.place(error, expr.span()))?;
        Ok(if negated { constant::not(matched) } else { matched })
    }

    fn escape(&self, escape: &ValueWithSpan) -> Result<Scalar> {
        match escape.value.clone().into_string() {
            Some(escape) => Ok(text(&escape)),
            None => Err(SqlError::new(SqlState::SYNTAX_ERROR, "ESCAPE takes a string literal")),
        }
    }
}
