//! Function calls: scalar functions, the forms that look like functions, aggregates.

use sqlparser::ast::{
    self, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    Spanned,
};

use super::logical::SetCall;
use super::names::{Clause, Scope, split_name};
use super::resolve::{self, Context};
use super::scalar::{Aggregate, ColumnId, Order, Scalar};
use super::{Binder, group, order};
use crate::error::{Result, SqlError, SqlState};
use crate::functions::aggregates::ordered_set::ORDERED_SET;
use crate::types::{DataType, Datum};

/// The parts of a call.
pub(super) struct Call<'a> {
    pub name: String,
    pub args: &'a [FunctionArg],
    pub distinct: bool,
    pub order_by: &'a [ast::OrderByExpr],
    pub star: bool,
}

impl Binder<'_> {
    pub(super) fn function(&mut self, function: &Function, scope: &Scope<'_>) -> Result<Scalar> {
        let place = |binder: &Self, error| binder.place(error, function.name.span());
        let (schema, name) = split_name(&function.name)?;
        if schema.as_deref().is_some_and(|schema| schema != "pg_catalog") {
            let error =
                SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {} does not exist", function.name));
            return Err(place(self, error));
        }
        if function.null_treatment.is_some() {
            return Err(place(self, SqlError::unsupported("IGNORE NULLS")));
        }
        let (args, distinct, order_by): (&[FunctionArg], bool, &[ast::OrderByExpr]) = match &function.args {
            FunctionArguments::None => (&[], false, &[]),
            FunctionArguments::List(list) => {
                let mut order_by: &[ast::OrderByExpr] = &[];
                for clause in &list.clauses {
                    match clause {
                        FunctionArgumentClause::OrderBy(items) => order_by = items,
                        other => return Err(place(self, SqlError::unsupported(format!("{other} in a call")))),
                    }
                }
                (&list.args, list.duplicate_treatment == Some(DuplicateTreatment::Distinct), order_by)
            }
            // `array(select …)`
            FunctionArguments::Subquery(query) if name == "array" => return self.array_subquery(query, scope),
            FunctionArguments::Subquery(_) => {
                return Err(place(self, SqlError::new(SqlState::SYNTAX_ERROR, "a subquery needs its own parentheses")));
            }
        };
        let ordered_set = ORDERED_SET.contains(&name.as_str());
        let within = function.within_group.as_slice();
        if ordered_set || !within.is_empty() {
            within_group(&name, ordered_set, function, !order_by.is_empty() || distinct)
                .map_err(|error| place(self, error))?;
        }
        let named = super::named_args::positional(&name, args).map_err(|error| place(self, error))?;
        // The value of WITHIN GROUP is the last argument.
        let with_value: Vec<FunctionArg> = within
            .first()
            .map(|key| [args, &[FunctionArg::Unnamed(FunctionArgExpr::Expr(key.expr.clone()))]].concat())
            .unwrap_or_default();
        let (args, order_by) = match (&named, within) {
            (Some(named), _) => (named.as_slice(), order_by),
            (None, [_]) => (with_value.as_slice(), within),
            _ => (args, order_by),
        };
        let star = matches!(args, [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
        let call = Call { name, args, distinct, order_by, star };
        if function.over.is_some() {
            return self.window_call(&call, function, scope).map_err(|error| place(self, error));
        }
        if !call.distinct
            && call.order_by.is_empty()
            && function.filter.is_none()
            && let Some(scalar) = self.special_call(&call, scope)?
        {
            return Ok(scalar);
        }
        if resolve::is_aggregate(&call.name) {
            return self.aggregate(&call, function.filter.as_deref(), scope).map_err(|error| place(self, error));
        }
        if resolve::is_window_function(&call.name) {
            let error = SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("window function {} requires an OVER clause", call.name),
            );
            return Err(place(self, error));
        }
        if distinct || !order_by.is_empty() || function.filter.is_some() || star {
            let what = match (star, distinct, order_by.is_empty()) {
                (true, ..) => format!("{}(*) specified, but {} is not an aggregate function", call.name, call.name),
                (_, true, _) => format!("DISTINCT specified, but {} is not an aggregate function", call.name),
                (_, _, false) => format!("ORDER BY specified, but {} is not an aggregate function", call.name),
                _ => format!("FILTER specified, but {} is not an aggregate function", call.name),
            };
            return Err(place(self, SqlError::new(SqlState::WRONG_OBJECT_TYPE, what)));
        }
        let bound = self.args(call.args, scope)?;
        self.plain_call(&call.name, bound, scope).map_err(|error| match only_string(call.args) {
            // The function was found; it is the text that does not read as the argument's type.
            Some(text) if error.state() != SqlState::UNDEFINED_FUNCTION => self.place(error, text.span()),
            _ => place(self, error),
        })
    }

    /// Positional arguments.
    pub(super) fn args(&mut self, args: &[FunctionArg], scope: &Scope<'_>) -> Result<Vec<Scalar>> {
        let mut bound = Vec::with_capacity(args.len());
        for arg in args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => bound.push(self.expr(expr, scope)?),
                FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) => {
                    let (schema, relation) = split_name(name)?;
                    let Some(item) = scope.item(schema.as_deref(), &relation) else {
                        return Err(scope.no_entry(&relation));
                    };
                    bound.push(Scalar::Record(super::names::columns_of(item)));
                }
                FunctionArg::Unnamed(_) => return Err(SqlError::unsupported("* as an argument")),
                _ => return Err(SqlError::unsupported("named arguments")),
            }
        }
        Ok(bound)
    }

    /// A function by name on bound arguments: scalar, set-returning, or a cast written as a call.
    fn plain_call(&mut self, name: &str, args: Vec<Scalar>, scope: &Scope<'_>) -> Result<Scalar> {
        let types: Vec<DataType> = args.iter().map(Scalar::data_type).collect();
        if let Some(resolved) = resolve::table_function(name, &types)? {
            if scope.clause != Clause::Select || scope.level.in_aggregate.get() {
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("set-returning functions are not allowed in {}", scope.clause.name()),
                ));
            }
            if resolved.columns.len() != 1 {
                return Err(SqlError::unsupported(format!("{name} in a select list")));
            }
            let mut coerced = Vec::with_capacity(args.len());
            for (position, arg) in args.into_iter().enumerate() {
                let to = resolved.args.get(position).copied().unwrap_or(arg.data_type());
                coerced.push(self.coerce(arg, to, Context::Implicit)?);
            }
            let column = self.columns.add(resolved.columns[0], name);
            scope.level.sets.borrow_mut().push(SetCall { column, function: resolved.function, args: coerced });
            return Ok(self.columns.scalar(column));
        }
        match resolve::function(name, &types) {
            Ok(resolved) => self.call(resolved, args),
            Err(error) => {
                // `int4('1')`, `text(x)`: a type's name called with one argument is a cast.
                if let [arg] = args.as_slice()
                    && let Some(to) = resolve::type_of_call(name)
                    && (arg.data_type().is_unknown() || resolve::can_cast(arg.data_type(), to, Context::Explicit))
                {
                    return self.coerce(arg.clone(), to, Context::Explicit);
                }
                Err(error)
            }
        }
    }

    /// A function called by name on bound arguments (for syntax that stands for a call).
    pub(super) fn named(&mut self, name: &str, args: Vec<Scalar>) -> Result<Scalar> {
        let types: Vec<DataType> = args.iter().map(Scalar::data_type).collect();
        let resolved = resolve::function(name, &types)?;
        self.call(resolved, args)
    }

    /// Forms that have the syntax of a call but are expressions of their own.
    fn special_call(&mut self, call: &Call<'_>, scope: &Scope<'_>) -> Result<Option<Scalar>> {
        Ok(Some(match call.name.as_str() {
            "coalesce" => {
                let args = self.args(call.args, scope)?;
                let (mut args, data_type) = self.unify(args, "COALESCE")?;
                if args.len() == 1 {
                    return Ok(Some(args.remove(0)));
                }
                Scalar::Coalesce { args, data_type }
            }
            "greatest" | "least" => {
                let greatest = call.name == "greatest";
                let args = self.args(call.args, scope)?;
                let (args, data_type) = self.unify(args, if greatest { "GREATEST" } else { "LEAST" })?;
                Scalar::Extremum { args, greatest, data_type }
            }
            "nullif" => {
                let args = self.args(call.args, scope)?;
                let [left, right]: [Scalar; 2] =
                    args.try_into().map_err(|_| SqlError::new(SqlState::SYNTAX_ERROR, "NULLIF takes two arguments"))?;
                let left = self.settle(left)?;
                let test = self.operator("=", left.clone(), right)?;
                let data_type = left.data_type();
                Scalar::Case {
                    branches: vec![(test, Scalar::null(data_type))],
                    otherwise: Some(Box::new(left)),
                    data_type,
                }
            }
            "row" => Scalar::Record(self.args(call.args, scope)?),
            "grouping" => {
                let mut args = Vec::new();
                for expr in group::grouping_args(call.args)? {
                    args.push(self.expr(expr, scope)?);
                }
                let id = self.columns.add(DataType::INT4, "grouping");
                scope.level.groupings.borrow_mut().push((id, args));
                self.columns.scalar(id)
            }
            _ => return Ok(None),
        }))
    }

    /// Words that are calls without parentheses: `current_date`, `current_user` …
    pub(super) fn bare_function(&mut self, name: &str, _scope: &Scope<'_>) -> Result<Option<Scalar>> {
        match name {
            "current_date" | "current_time" | "current_timestamp" | "localtime" | "localtimestamp" | "current_user"
            | "current_role" | "session_user" | "user" | "current_catalog" | "current_schema" => {
                self.named(name, Vec::new()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// An aggregate call: its result is a column of the level's aggregation.
    fn aggregate(&mut self, call: &Call<'_>, filter: Option<&Expr>, scope: &Scope<'_>) -> Result<Scalar> {
        let aggregate = self.aggregate_call(call, filter, scope)?;
        let owner = self.owner_of(&aggregate, scope);
        if owner.level.in_aggregate.get() {
            return Err(SqlError::new(SqlState::GROUPING_ERROR, "aggregate function calls cannot be nested"));
        }
        if !owner.clause.allows_aggregates() {
            return Err(SqlError::new(
                SqlState::GROUPING_ERROR,
                format!("aggregate functions are not allowed in {}", owner.clause.name()),
            ));
        }
        let mut aggregates = owner.level.aggregates.borrow_mut();
        if let Some((id, _)) = aggregates.iter().find(|(_, present)| present.same(&aggregate)) {
            return Ok(self.columns.scalar(*id));
        }
        let id: ColumnId = self.columns.add(aggregate.data_type, &call.name);
        aggregates.push((id, aggregate));
        Ok(self.columns.scalar(id))
    }

    /// The query level that an aggregate belongs to: the innermost whose columns it reads, else its own.
    fn owner_of<'s>(&self, aggregate: &Aggregate, scope: &'s Scope<'s>) -> Scope<'s> {
        let mut columns = Vec::new();
        aggregate.for_each_scalar(&mut |scalar| scalar.for_each_column(&mut |id| columns.push(id)));
        let mut level = Some(scope);
        while let Some(candidate) = level {
            if columns.iter().any(|id| candidate.namespace.owns(*id)) {
                return *candidate;
            }
            level = candidate.parent;
        }
        *scope
    }

    /// The aggregate with its arguments bound.
    pub(super) fn aggregate_call(
        &mut self,
        call: &Call<'_>,
        filter: Option<&Expr>,
        scope: &Scope<'_>,
    ) -> Result<Aggregate> {
        let nested = scope.level.in_aggregate.replace(true);
        let bound = self.aggregate_parts(call, filter, scope);
        scope.level.in_aggregate.set(nested);
        bound
    }

    fn aggregate_parts(&mut self, call: &Call<'_>, filter: Option<&Expr>, scope: &Scope<'_>) -> Result<Aggregate> {
        if call.star && call.distinct {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"*\""));
        }
        let args = if call.star { Vec::new() } else { self.args(call.args, scope)? };
        if call.star && call.name != "count" {
            return Err(SqlError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("function {}() does not exist", call.name),
            ));
        }
        if args.is_empty() && !call.star {
            return Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("{}(*) must be used to call a parameterless aggregate function", call.name),
            ));
        }
        let types: Vec<DataType> = args.iter().map(Scalar::data_type).collect();
        let resolved = resolve::aggregate(&call.name, &types)?;
        let mut coerced = Vec::with_capacity(args.len());
        for (position, arg) in args.into_iter().enumerate() {
            let to = resolved.args.get(position).copied().unwrap_or(arg.data_type());
            let arg = self.coerce(arg, to, Context::Implicit)?;
            coerced.push(self.settle(arg)?);
        }
        let filter = match filter {
            Some(filter) => Some(self.condition(filter, &scope.in_clause(Clause::Filter), "FILTER")?),
            None => None,
        };
        let mut order_by: Vec<Order> = Vec::with_capacity(call.order_by.len());
        for item in call.order_by {
            let scalar = self.expr(&item.expr, scope)?;
            let scalar = self.settle(scalar)?;
            if call.distinct && !coerced.iter().any(|arg| arg.same(&scalar)) {
                return Err(SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list",
                ));
            }
            order_by.push(order::key(scalar, item));
        }
        Ok(Aggregate {
            function: resolved.function,
            args: coerced,
            distinct: call.distinct,
            filter,
            order_by,
            data_type: resolved.result,
        })
    }

    /// `date '2020-01-01'` and other typed literals.
    pub(super) fn typed_string(&mut self, typed: &ast::TypedString) -> Result<Scalar> {
        let to = super::data_type(&typed.data_type)?;
        let Some(text) = typed.value.value.clone().into_string() else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "a typed literal takes a string"));
        };
        let literal = super::expr::unknown(&text);
        self.coerce(literal, to, Context::Explicit).map_err(|error| self.place(error, typed.value.span))
    }

    /// `interval '1' day`, `interval '3 months'`.
    pub(super) fn interval(&mut self, interval: &ast::Interval, scope: &Scope<'_>) -> Result<Scalar> {
        let place = |binder: &Self, error| binder.place(error, interval.value.span());
        let Expr::Value(value) = interval.value.as_ref() else {
            return Err(place(self, SqlError::new(SqlState::SYNTAX_ERROR, "INTERVAL takes a string literal")));
        };
        let Some(text) = value.value.clone().into_string() else {
            return Err(place(self, SqlError::new(SqlState::SYNTAX_ERROR, "INTERVAL takes a string literal")));
        };
        let _ = scope;
        let Some(field) = &interval.leading_field else {
            let to = DataType::INTERVAL.with_modifier(interval.fractional_seconds_precision.map_or(-1, |p| p as i32));
            return self.coerce(super::expr::unknown(&text), to, Context::Explicit).map_err(|error| place(self, error));
        };
        if let Some(last) = &interval.last_field {
            return Err(place(self, SqlError::unsupported(format!("INTERVAL … {field} TO {last}"))));
        }
        let unit = field.to_string().to_ascii_lowercase();
        // A bare number counts units of the field; other texts are read as they are.
        let text = if text.trim().parse::<f64>().is_ok() { format!("{} {unit}", text.trim()) } else { text };
        self.coerce(super::expr::unknown(&text), DataType::INTERVAL, Context::Explicit)
            .map_err(|error| place(self, error))
    }
}

/// Refuses what Postgres refuses of ordered-set aggregates.
fn within_group(name: &str, ordered_set: bool, function: &Function, other_order: bool) -> Result<()> {
    let wrong = |message: String| Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
    match function.within_group.as_slice() {
        [] => wrong(format!("WITHIN GROUP is required for ordered-set aggregate {name}")),
        _ if ordered_set && function.over.is_some() => Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "OVER is not supported for ordered-set aggregate ".to_owned() + name,
        )),
        [_] if ordered_set && !other_order => Ok(()),
        _ if ordered_set => {
            Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("{name} takes one ORDER BY, in WITHIN GROUP")))
        }
        _ if resolve::is_aggregate(name) => {
            wrong(format!("{name} is not an ordered-set aggregate, so it cannot have WITHIN GROUP"))
        }
        _ => Err(SqlError::unsupported(format!("{name} WITHIN GROUP"))),
    }
}

/// A text literal.
pub(super) fn text(text: &str) -> Scalar {
    Scalar::Literal { value: Datum::text(text), data_type: DataType::TEXT }
}

/// The argument that is a string literal, when there is exactly one.
fn only_string(args: &[FunctionArg]) -> Option<&Expr> {
    let mut strings = args.iter().filter_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr @ Expr::Value(value)))
            if matches!(value.value, ast::Value::SingleQuotedString(_)) =>
        {
            Some(expr)
        }
        _ => None,
    });
    let first = strings.next();
    first.filter(|_| strings.next().is_none())
}
