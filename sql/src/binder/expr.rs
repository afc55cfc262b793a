//! Expressions: one arm for each form of the syntax tree.

use sqlparser::ast::{self, BinaryOperator, Expr, Spanned, UnaryOperator};
use sqlparser::tokenizer::{Location, Span};

use super::names::{Found, Scope, fold};
use super::resolve::{self, Context};
use super::scalar::Scalar;
use super::{Binder, data_type};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{DataType, Datum};

impl Binder<'_> {
    /// Binds an expression.
    pub(super) fn expr(&mut self, expr: &Expr, scope: &Scope<'_>) -> Result<Scalar> {
        self.nested(|binder| binder.expr_inner(expr, scope))
    }

    /// Binds a condition.
    pub(super) fn condition(&mut self, expr: &Expr, scope: &Scope<'_>, clause: &str) -> Result<Scalar> {
        let scalar = self.expr(expr, scope)?;
        self.boolean(scalar, clause).map_err(|error| self.place(error, expr.span()))
    }

    /// Binds a condition into its conjuncts.
    pub(super) fn conjuncts(&mut self, expr: &Expr, scope: &Scope<'_>, clause: &str) -> Result<Vec<Scalar>> {
        Ok(match self.condition(expr, scope, clause)? {
            Scalar::And(conjuncts) => conjuncts,
            scalar => vec![scalar],
        })
    }

    fn expr_inner(&mut self, expr: &Expr, scope: &Scope<'_>) -> Result<Scalar> {
        match expr {
            Expr::Identifier(ident) => self.identifier(ident, scope),
            Expr::CompoundIdentifier(parts) => self.compound(parts, scope),
            Expr::Nested(inner) => self.expr(inner, scope),
            Expr::Value(value) => self.value(value).map_err(|error| self.place(error, value.span)),
            Expr::TypedString(typed) => self.typed_string(typed),
            Expr::Interval(interval) => self.interval(interval, scope),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => self.connective(left, right, true, scope),
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => self.connective(left, right, false, scope),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, scope),
            Expr::UnaryOp { op, expr } => self.unary(op, expr, scope),
            Expr::Cast {
                kind: ast::CastKind::Cast | ast::CastKind::DoubleColon,
                expr: inner,
                data_type: to,
                array: false,
                format: None,
            } => {
                let to = data_type(to).map_err(|error| match to {
                    ast::DataType::Custom(name, _) => self.place(error, name.span()),
                    _ => error,
                })?;
                self.explicit_cast(inner, to, scope)
            }
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => {
                let inner = self.expr(inner, scope)?;
                let inner = self.settle(inner)?;
                Ok(Scalar::IsNull { expr: Box::new(inner), negated: matches!(expr, Expr::IsNotNull(_)) })
            }
            Expr::IsTrue(inner) => self.truth(inner, true, false, "IS TRUE", scope),
            Expr::IsNotTrue(inner) => self.truth(inner, true, true, "IS NOT TRUE", scope),
            Expr::IsFalse(inner) => self.truth(inner, false, false, "IS FALSE", scope),
            Expr::IsNotFalse(inner) => self.truth(inner, false, true, "IS NOT FALSE", scope),
            Expr::IsUnknown(inner) | Expr::IsNotUnknown(inner) => {
                let inner = self.condition(inner, scope, "IS UNKNOWN")?;
                Ok(Scalar::IsNull { expr: Box::new(inner), negated: matches!(expr, Expr::IsNotUnknown(_)) })
            }
            Expr::IsDistinctFrom(left, right) => self.distinct(left, right, false, scope),
            Expr::IsNotDistinctFrom(left, right) => self.distinct(left, right, true, scope),
            Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated, scope),
            Expr::Between { expr, negated, low, high } => self.between(expr, *negated, low, high, scope),
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(if *negated { "!~~" } else { "~~" }, expr, pattern, escape_char.as_ref(), scope)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                self.like(if *negated { "!~~*" } else { "~~*" }, expr, pattern, escape_char.as_ref(), scope)
            }
            Expr::SimilarTo { negated, expr, pattern, escape_char } => {
                self.similar(*negated, expr, pattern, escape_char.as_ref(), scope)
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), scope)
            }
            Expr::Function(function) => self.function(function, scope),
            Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::InSubquery { .. }
            | Expr::AnyOp { .. }
            | Expr::AllOp { .. } => self.subquery_expr(expr, scope),
            Expr::Array(array) => self.array(&array.elem, scope),
            Expr::Tuple(values) => {
                let mut fields = Vec::with_capacity(values.len());
                for value in values {
                    fields.push(self.expr(value, scope)?);
                }
                Ok(Scalar::Record(fields))
            }
            Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain, scope),
            Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Overlay { .. }
            | Expr::AtTimeZone { .. } => self.special(expr, scope),
            Expr::Collate { expr, collation } => self.collate(expr, collation, scope),
            other => Err(SqlError::unsupported(format!("expression {other}"))),
        }
    }

    fn identifier(&mut self, ident: &ast::Ident, scope: &Scope<'_>) -> Result<Scalar> {
        let name = fold(ident);
        match scope.unqualified(&name).map_err(|error| self.place(error, ident.span))? {
            Some(Found::Column(scalar)) => {
                self.note_use(&scalar, ident.span, scope);
                Ok(scalar)
            }
            Some(Found::Row(columns)) => Ok(Scalar::Record(columns)),
            None => {
                if ident.quote_style.is_none()
                    && let Some(scalar) = self.bare_function(&name, scope)?
                {
                    return Ok(scalar);
                }
                let error = SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"));
                Err(self.place(error, ident.span))
            }
        }
    }

    fn compound(&mut self, parts: &[ast::Ident], scope: &Scope<'_>) -> Result<Scalar> {
        let names: Vec<String> = parts.iter().map(fold).collect();
        let found = match names.as_slice() {
            [relation, column] => scope.qualified(None, relation, column),
            [schema, relation, column] => scope.qualified(Some(schema), relation, column),
            [_, schema, relation, column] => scope.qualified(Some(schema), relation, column),
            _ => Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("improper qualified name (too many dotted names): {}", names.join(".")),
            )),
        };
        let span = parts.first().map_or(Span::empty(), |part| part.span);
        let scalar = found.map_err(|error| self.place(error, span))?;
        self.note_use(&scalar, span, scope);
        Ok(scalar)
    }

    /// Remembers where a column stands, for the grouping error.
    fn note_use(&mut self, scalar: &Scalar, span: Span, scope: &Scope<'_>) {
        if let Scalar::Column { id, .. } = scalar
            && !scope.level.in_aggregate.get()
            && self.uses.len() < 10_000
        {
            self.uses.push((*id, span));
        }
    }

    /// AND and OR, flattened: their chains are long and left-deep.
    fn connective(&mut self, left: &Expr, right: &Expr, and: bool, scope: &Scope<'_>) -> Result<Scalar> {
        let name = if and { "AND" } else { "OR" };
        let mut terms: Vec<&Expr> = vec![right];
        let mut rest = left;
        loop {
            match rest {
                Expr::BinaryOp { left, op: BinaryOperator::And, right } if and => {
                    terms.push(right);
                    rest = left;
                }
                Expr::BinaryOp { left, op: BinaryOperator::Or, right } if !and => {
                    terms.push(right);
                    rest = left;
                }
                _ => break,
            }
        }
        terms.push(rest);
        let mut bound = Vec::with_capacity(terms.len());
        for term in terms.into_iter().rev() {
            match (self.condition(term, scope, name)?, and) {
                (Scalar::And(inner), true) | (Scalar::Or(inner), false) => bound.extend(inner),
                (scalar, _) => bound.push(scalar),
            }
        }
        Ok(if and { constant::and(bound) } else { constant::or(bound) })
    }

    fn binary(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr, scope: &Scope<'_>) -> Result<Scalar> {
        let symbol = operator_symbol(op)?;
        // A chain `a + b + c + …` is as deep as it is long: walk down its left spine in a loop.
        let mut spine: Vec<(&str, String, &Expr, &Expr)> = Vec::new();
        let mut first = left;
        let mut pending = (symbol, left, right);
        loop {
            spine.push(("", pending.0, pending.1, pending.2));
            match first {
                Expr::BinaryOp { left, op, right } if !matches!(op, BinaryOperator::And | BinaryOperator::Or) => {
                    pending = (operator_symbol(op)?, left, right);
                    first = left;
                }
                _ => break,
            }
        }
        let mut scalar: Option<Scalar> = None;
        for (_, symbol, left_expr, right_expr) in spine.into_iter().rev() {
            let left = match scalar.take() {
                Some(scalar) => scalar,
                None => {
                    if let Some(row) = self.row_comparison(&symbol, left_expr, right_expr, scope)? {
                        scalar = Some(row);
                        continue;
                    }
                    self.expr(left_expr, scope)?
                }
            };
            let right = self.expr(right_expr, scope)?;
            let bound = self.operator(&symbol, left, right);
            scalar = Some(bound.map_err(|error| self.place_operator(error, left_expr))?);
        }
        Ok(scalar.expect("the spine has at least one operator"))
    }

    /// Operators stand after their left operand, which is all the tree tells of their position.
    fn place_operator(&self, error: SqlError, left: &Expr) -> SqlError {
        if !self.has_source || error.fields().position.is_some() {
            return error;
        }
        let end = left.span().end;
        if end.line == 0 {
            return error;
        }
        let text = self.context.source;
        let offset = crate::parser::byte_offset(text, Location { line: end.line, column: end.column });
        let rest = &text[offset.min(text.len())..];
        let skipped = rest.len() - rest.trim_start_matches(|c: char| c.is_whitespace() || c == ')').len();
        let position = text[..offset + skipped].chars().count() as u32 + 1;
        error.at(position)
    }

    /// Calls an operator on bound operands.
    pub(super) fn operator(&mut self, symbol: &str, left: Scalar, right: Scalar) -> Result<Scalar> {
        if let (Scalar::Record(left), Scalar::Record(right)) = (&left, &right) {
            return self.compare_rows(symbol, left.clone(), right.clone());
        }
        let resolved = resolve::operator(symbol, Some(left.data_type()), right.data_type())?;
        self.call(resolved, vec![left, right])
    }

    fn unary(&mut self, op: &UnaryOperator, expr: &Expr, scope: &Scope<'_>) -> Result<Scalar> {
        match op {
            UnaryOperator::Not => {
                let scalar = self.condition(expr, scope, "NOT")?;
                return Ok(constant::not(scalar));
            }
            UnaryOperator::Minus => {
                // The most negative integers are written as a minus and a literal that overflows.
                if let Expr::Value(value) = expr
                    && let ast::Value::Number(digits, _) = &value.value
                {
                    return resolve::number(&format!("-{digits}"), &self.context.eval);
                }
            }
            _ => {}
        }
        let symbol = match op {
            UnaryOperator::Plus => "+",
            UnaryOperator::Minus => "-",
            UnaryOperator::BitwiseNot => "~",
            UnaryOperator::PGAbs => "@",
            UnaryOperator::PGSquareRoot => "|/",
            UnaryOperator::PGCubeRoot => "||/",
            UnaryOperator::Not => unreachable!("handled above"),
            other => return Err(SqlError::unsupported(format!("operator {other}"))),
        };
        let scalar = self.expr(expr, scope)?;
        let resolved = resolve::operator(symbol, None, scalar.data_type());
        let resolved = resolved.map_err(|error| self.place(error, expr.span()))?;
        self.call(resolved, vec![scalar])
    }

    /// A resolved call: arguments coerced, folded when constant.
    pub(super) fn call(&mut self, resolved: resolve::Resolved, args: Vec<Scalar>) -> Result<Scalar> {
        let mut coerced = Vec::with_capacity(args.len());
        for (position, arg) in args.into_iter().enumerate() {
            let to = resolved.args.get(position).copied().unwrap_or(arg.data_type());
            // `text || anything` takes what can be assigned to text.
            let context = if resolved.function.name == "||" { Context::Assignment } else { Context::Implicit };
            coerced.push(self.coerce(arg, to, context)?);
        }
        let scalar = Scalar::Call { function: resolved.function, args: coerced, data_type: resolved.result };
        Ok(self.fold_call(scalar))
    }

    /// CAST: explicit conversions, and arrays written as `ARRAY[…]::type[]`.
    fn explicit_cast(&mut self, inner: &Expr, to: DataType, scope: &Scope<'_>) -> Result<Scalar> {
        if to.array
            && let Expr::Array(array) = inner
            && array.elem.is_empty()
        {
            return Ok(Scalar::ArrayLiteral { elements: Vec::new(), data_type: to });
        }
        let scalar = self.expr(inner, scope)?;
        let scalar = self.coerce(scalar, to, Context::Explicit).map_err(|error| self.place(error, inner.span()))?;
        // A value that needs no work still takes the type's name in the result.
        if !scalar.data_type().same_type(to) { Ok(super::coerce::relabel(scalar, to)) } else { Ok(scalar) }
    }

    fn truth(&mut self, inner: &Expr, value: bool, negated: bool, clause: &str, scope: &Scope<'_>) -> Result<Scalar> {
        let inner = self.condition(inner, scope, clause)?;
        Ok(Scalar::BooleanTest { expr: Box::new(inner), value, negated })
    }

    fn distinct(&mut self, left: &Expr, right: &Expr, negated: bool, scope: &Scope<'_>) -> Result<Scalar> {
        let (bound_left, bound_right) = (self.expr(left, scope)?, self.expr(right, scope)?);
        // `=` decides the common type.
        match self.operator("=", bound_left, bound_right).map_err(|error| self.place_operator(error, left))? {
            Scalar::Call { mut args, .. } if args.len() == 2 => {
                let right = args.pop().expect("two arguments");
                let left = args.pop().expect("two arguments");
                Ok(Scalar::Distinct { left: Box::new(left), right: Box::new(right), negated })
            }
            Scalar::Literal { .. } | Scalar::And(_) => {
                let (left, right) = (self.expr(left, scope)?, self.expr(right, scope)?);
                let (mut pair, _) = self.unify(vec![left, right], "IS DISTINCT FROM")?;
                let right = pair.pop().expect("two values");
                let left = pair.pop().expect("two values");
                Ok(Scalar::Distinct { left: Box::new(left), right: Box::new(right), negated })
            }
            _ => Err(SqlError::unsupported("IS DISTINCT FROM on these operands")),
        }
    }

    fn in_list(&mut self, expr: &Expr, list: &[Expr], negated: bool, scope: &Scope<'_>) -> Result<Scalar> {
        let left = self.expr(expr, scope)?;
        let mut items = Vec::with_capacity(list.len());
        for item in list {
            items.push(self.expr(item, scope)?);
        }
        let row = matches!(left, Scalar::Record(_));
        if !row {
            let mut all = vec![left.clone()];
            all.extend(items.iter().cloned());
            // All of one type: one list. Else each is compared on its own, as Postgres does.
            if let Ok(common) = self.common_type(&all, "IN")
                && let Ok(resolved) = resolve::operator("=", Some(common), common)
                && resolved
                    .args
                    .first()
                    .is_some_and(|arg| arg.same_type(common) || resolve::is_relabelling(common, *arg))
            {
                let left = self.coerce_common(left, common, "IN")?;
                let mut coerced = Vec::with_capacity(items.len());
                for item in items {
                    coerced.push(self.coerce_common(item, common, "IN")?);
                }
                return Ok(Scalar::InList { expr: Box::new(left), list: coerced, negated });
            }
        }
        let mut terms = Vec::with_capacity(items.len());
        for item in items {
            let term = self.operator(if negated { "<>" } else { "=" }, left.clone(), item);
            terms.push(term.map_err(|error| self.place_operator(error, expr))?);
        }
        Ok(if negated { constant::and(terms) } else { constant::or(terms) })
    }

    fn between(&mut self, expr: &Expr, negated: bool, low: &Expr, high: &Expr, scope: &Scope<'_>) -> Result<Scalar> {
        if let Some(low) = crate::parser::symmetric(low) {
            let one = self.between(expr, negated, &low, high, scope)?;
            let other = self.between(expr, negated, high, &low, scope)?;
            let both = vec![one, other];
            return Ok(if negated { constant::and(both) } else { constant::or(both) });
        }
        let value = self.expr(expr, scope)?;
        let (low, high) = (self.expr(low, scope)?, self.expr(high, scope)?);
        let (above, below) = if negated { ("<", ">") } else { (">=", "<=") };
        let place = |binder: &Self, error| binder.place_operator(error, expr);
        let above = self.operator(above, value.clone(), low).map_err(|error| place(self, error))?;
        // An untyped parameter has its type now.
        let value = if value.data_type().is_unknown() { self.expr(expr, scope)? } else { value };
        let below = self.operator(below, value, high).map_err(|error| place(self, error))?;
        Ok(if negated { constant::or(vec![above, below]) } else { constant::and(vec![above, below]) })
    }

    fn case(
        &mut self,
        operand: Option<&Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&Expr>,
        scope: &Scope<'_>,
    ) -> Result<Scalar> {
        let operand = match operand {
            Some(operand) => {
                let scalar = self.expr(operand, scope)?;
                Some(self.settle(scalar)?)
            }
            None => None,
        };
        let mut tests = Vec::with_capacity(conditions.len());
        let mut results = Vec::with_capacity(conditions.len() + 1);
        for when in conditions {
            let test = match &operand {
                Some(operand) => {
                    let value = self.expr(&when.condition, scope)?;
                    self.operator("=", operand.clone(), value)
                        .map_err(|error| self.place(error, when.condition.span()))?
                }
                None => self.condition(&when.condition, scope, "CASE/WHEN")?,
            };
            tests.push(test);
            results.push(self.expr(&when.result, scope)?);
        }
        // Postgres looks at ELSE first when it picks the type.
        let mut ordered = Vec::with_capacity(results.len() + 1);
        if let Some(otherwise) = otherwise {
            ordered.push(self.expr(otherwise, scope)?);
        }
        let has_else = !ordered.is_empty();
        ordered.extend(results);
        let (mut unified, data_type) = self.unify(ordered, "CASE")?;
        let otherwise = has_else.then(|| Box::new(unified.remove(0)));
        let branches: Vec<_> = tests.into_iter().zip(unified).collect();
        Ok(constant::case(branches, otherwise, data_type))
    }

    fn array(&mut self, elements: &[Expr], scope: &Scope<'_>) -> Result<Scalar> {
        if elements.is_empty() {
            return Err(SqlError::new(SqlState::INDETERMINATE_DATATYPE, "cannot determine type of empty array")
                .with_hint("Explicitly cast to the desired type, for example ARRAY[]::integer[]."));
        }
        let mut bound = Vec::with_capacity(elements.len());
        for element in elements {
            bound.push(self.expr(element, scope)?);
        }
        let (elements, element) = self.unify(bound, "ARRAY")?;
        Ok(Scalar::ArrayLiteral { elements, data_type: if element.array { element } else { element.to_array() } })
    }

    fn access(&mut self, root: &Expr, chain: &[ast::AccessExpr], scope: &Scope<'_>) -> Result<Scalar> {
        let array = self.expr(root, scope)?;
        let mut indexes = Vec::with_capacity(chain.len());
        let is_slice =
            |access: &ast::AccessExpr| matches!(access, ast::AccessExpr::Subscript(ast::Subscript::Slice { .. }));
        if chain.iter().any(is_slice) {
            return self.slice(array, root, chain, scope);
        }
        for access in chain {
            match access {
                ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => {
                    let index = self.expr(index, scope)?;
                    indexes.push(self.coerce(index, DataType::INT4, Context::Assignment)?);
                }
                ast::AccessExpr::Subscript(ast::Subscript::Slice { .. }) => {
                    return Err(SqlError::unsupported("array slice"));
                }
                ast::AccessExpr::Dot(_) => return Err(SqlError::unsupported("selecting a field of a composite value")),
            }
        }
        let Some(element) = array.data_type().element() else {
            let error = SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!("cannot subscript type {} because it does not support subscripting", array.data_type().name()),
            );
            return Err(self.place(error, root.span()));
        };
        Ok(Scalar::Subscript { array: Box::new(array), indexes, data_type: element })
    }

    /// `a[1:2]`. Beside a slice, an index is a slice from 1.
    fn slice(&mut self, array: Scalar, root: &Expr, chain: &[ast::AccessExpr], scope: &Scope<'_>) -> Result<Scalar> {
        let data_type = array.data_type();
        if data_type.element().is_none() {
            let name = data_type.name();
            let message = format!("cannot subscript type {name} because it does not support subscripting");
            return Err(self.place(SqlError::new(SqlState::DATATYPE_MISMATCH, message), root.span()));
        }
        let number = |value: i32| Scalar::Literal { value: Datum::Int4(value), data_type: DataType::INT4 };
        let mut args = vec![array];
        for access in chain {
            let (lower, upper) = match access {
                ast::AccessExpr::Subscript(ast::Subscript::Slice { lower_bound, upper_bound, stride: None }) => {
                    (lower_bound.as_ref(), upper_bound.as_ref())
                }
                ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => (None, Some(index)),
                _ => return Err(SqlError::new(SqlState::SYNTAX_ERROR, "an array slice takes two bounds")),
            };
            let from_one = matches!(access, ast::AccessExpr::Subscript(ast::Subscript::Index { .. }));
            for bound in [lower, upper] {
                let (value, given) = match bound {
                    Some(bound) => {
                        let bound = self.expr(bound, scope)?;
                        (self.coerce(bound, DataType::INT4, Context::Assignment)?, 1)
                    }
                    None => (number(1), i32::from(from_one)),
                };
                args.extend([value, number(given)]);
            }
        }
        let function = crate::functions::array::slice_function();
        Ok(Scalar::Call { function, args, data_type })
    }

    fn collate(&mut self, expr: &Expr, collation: &ast::ObjectName, scope: &Scope<'_>) -> Result<Scalar> {
        let (_, name) = super::split_name(collation)?;
        match name.as_str() {
            "default" | "C" | "POSIX" | "ucs_basic" => self.expr(expr, scope),
            _ => Err(SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!("collation \"{name}\" for encoding \"UTF8\" does not exist"),
            )),
        }
    }

    fn value(&mut self, value: &ast::ValueWithSpan) -> Result<Scalar> {
        use ast::Value;
        match &value.value {
            Value::Number(digits, _) => resolve::number(digits, &self.context.eval),
            Value::SingleQuotedString(text)
            | Value::EscapedStringLiteral(text)
            | Value::UnicodeStringLiteral(text)
            | Value::NationalStringLiteral(text) => Ok(unknown(text)),
            Value::DollarQuotedString(text) => Ok(unknown(&text.value)),
            Value::Boolean(value) => Ok(Scalar::bool(*value)),
            Value::Null => Ok(Scalar::null(DataType::UNKNOWN)),
            Value::Placeholder(name) => self.parameter(name),
            Value::HexStringLiteral(_) | Value::SingleQuotedByteStringLiteral(_) => {
                Err(SqlError::unsupported("bit string literal"))
            }
            other => Err(SqlError::unsupported(format!("literal {other}"))),
        }
    }

    fn parameter(&mut self, name: &str) -> Result<Scalar> {
        let number: usize = name.strip_prefix('$').and_then(|digits| digits.parse().ok()).unwrap_or(0);
        if number == 0 || number > 65_535 {
            return Err(SqlError::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter {name}")));
        }
        if self.parameters.len() < number {
            self.parameters.resize(number, DataType::UNKNOWN);
        }
        Ok(Scalar::Parameter { index: number - 1, data_type: self.parameters[number - 1] })
    }
}

use super::constant;

/// A quoted literal whose type is not known yet.
pub(super) fn unknown(text: &str) -> Scalar {
    Scalar::Literal { value: Datum::text(text), data_type: DataType::UNKNOWN }
}

/// The symbol of an operator; `OPERATOR(pg_catalog.x)` is `x`.
pub(super) fn operator_symbol(op: &BinaryOperator) -> Result<String> {
    Ok(match op {
        BinaryOperator::PGCustomBinaryOperator(parts) => parts.last().cloned().unwrap_or_default(),
        BinaryOperator::Custom(symbol) if symbol == "!=" => "<>".to_owned(),
        BinaryOperator::Xor | BinaryOperator::Overlaps => {
            return Err(SqlError::unsupported(format!("operator {op}")));
        }
        other => other.to_string(),
    })
}
