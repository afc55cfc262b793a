//! [`Expr`] → SQL text, as EXPLAIN shows it.

use crate::functions::EvalContext;
use crate::plan::{AggregateCall, Expr, SortKey, SubqueryKind};
use crate::types::{DataType, Datum, text};

/// Names of the columns that expressions read.
pub(super) struct Names<'a> {
    /// The operator's input row.
    pub input: &'a [String],
    /// Rows around it, innermost last.
    pub outer: &'a [Vec<String>],
    /// Numbers given to subqueries so far.
    pub subplans: &'a dyn Fn(&Expr) -> String,
}

/// Shows an expression.
pub(super) fn deparse(expr: &Expr, names: &Names<'_>) -> String {
    let show = |expr: &Expr| deparse(expr, names);
    let list = |exprs: &[Expr]| exprs.iter().map(show).collect::<Vec<_>>().join(", ");
    match expr {
        Expr::Literal { value, data_type } => literal(value, *data_type),
        Expr::Column { index, .. } => names.input.get(*index).cloned().unwrap_or_else(|| format!("column {index}")),
        Expr::Outer { depth, index, .. } => names
            .outer
            .len()
            .checked_sub(*depth)
            .and_then(|at| names.outer[at].get(*index))
            .cloned()
            .unwrap_or_else(|| format!("outer column {index}")),
        Expr::Parameter { index, .. } => format!("${}", index + 1),
        Expr::Call { function, args, .. } if function.operator => match args.as_slice() {
            [operand] => format!("({} {})", function.name, show(operand)),
            [left, right] => format!("({} {} {})", show(left), function.name, show(right)),
            _ => format!("{}({})", function.name, list(args)),
        },
        Expr::Call { function, args, .. } => format!("{}({})", function.name, list(args)),
        Expr::Cast { expr, to, .. } => format!("({})::{}", show(expr), to.full_name()),
        Expr::And(terms) => joined(terms, " AND ", names),
        Expr::Or(terms) => joined(terms, " OR ", names),
        Expr::Not(inner) => format!("(NOT {})", show(inner)),
        Expr::IsNull { expr, negated } => format!("({} IS {}NULL)", show(expr), not(*negated)),
        Expr::BooleanTest { expr, value, negated } => {
            format!("({} IS {}{})", show(expr), not(*negated), if *value { "TRUE" } else { "FALSE" })
        }
        Expr::Distinct { left, right, negated } => {
            format!("({} IS {}DISTINCT FROM {})", show(left), not(*negated), show(right))
        }
        Expr::Case { branches, otherwise, .. } => {
            let mut out = "CASE".to_owned();
            for (condition, result) in branches {
                out.push_str(&format!(" WHEN {} THEN {}", show(condition), show(result)));
            }
            if let Some(otherwise) = otherwise {
                out.push_str(&format!(" ELSE {}", show(otherwise)));
            }
            out + " END"
        }
        Expr::Coalesce { args, .. } => format!("COALESCE({})", list(args)),
        Expr::Extremum { args, greatest, .. } => {
            format!("{}({})", if *greatest { "GREATEST" } else { "LEAST" }, list(args))
        }
        Expr::InList { expr, list: values, negated } => {
            let (operator, quantifier) = if *negated { ("<>", "ALL") } else { ("=", "ANY") };
            let array = match literal_array(values) {
                Some(array) => array,
                None => format!("ARRAY[{}]", list(values)),
            };
            format!("({} {operator} {quantifier} ({array}))", show(expr))
        }
        Expr::Quantified { expr, operator, array, all } => {
            let quantifier = if *all { "ALL" } else { "ANY" };
            format!("({} {} {quantifier} ({}))", show(expr), operator.name, show(array))
        }
        Expr::ArrayLiteral { elements, .. } => format!("ARRAY[{}]", list(elements)),
        Expr::Subscript { array, indexes, .. } => {
            let indexes: String = indexes.iter().map(|index| format!("[{}]", show(index))).collect();
            format!("({}){indexes}", show(array))
        }
        Expr::Record(fields) => format!("ROW({})", list(fields)),
        Expr::Subquery(subquery) => {
            let name = (names.subplans)(expr);
            match &subquery.kind {
                SubqueryKind::Exists { negated: true } => format!("(NOT ({name}))"),
                SubqueryKind::Exists { .. } | SubqueryKind::Array | SubqueryKind::Scalar => format!("({name})"),
                SubqueryKind::Quantified { left, operators, all } => {
                    let operator = operators.first().map_or("=", |operator| operator.name);
                    let quantifier = if *all { "ALL" } else { "ANY" };
                    match left.as_slice() {
                        [left] => format!("({} {operator} {quantifier} ({name}))", show(left)),
                        left => format!("(ROW({}) {operator} {quantifier} ({name}))", list(left)),
                    }
                }
            }
        }
    }
}

/// Shows a sort key.
pub(super) fn sort_key(key: &SortKey, names: &Names<'_>) -> String {
    let mut out = deparse(&key.expr, names);
    if key.descending {
        out.push_str(" DESC");
    }
    if key.nulls_first != key.descending {
        out.push_str(if key.nulls_first { " NULLS FIRST" } else { " NULLS LAST" });
    }
    out
}

/// Shows an aggregate call.
pub(super) fn aggregate(call: &AggregateCall, names: &Names<'_>) -> String {
    let args: Vec<String> = call.args.iter().map(|arg| deparse(arg, names)).collect();
    let args = if args.is_empty() { "*".to_owned() } else { args.join(", ") };
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let order: Vec<String> = call.order_by.iter().map(|key| sort_key(key, names)).collect();
    let order = if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) };
    let filter =
        call.filter.as_ref().map_or(String::new(), |filter| format!(" FILTER (WHERE {})", deparse(filter, names)));
    format!("{}({distinct}{args}{order}){filter}", call.function.name)
}

fn joined(terms: &[Expr], word: &str, names: &Names<'_>) -> String {
    format!("({})", terms.iter().map(|term| deparse(term, names)).collect::<Vec<_>>().join(word))
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

fn literal(value: &Datum, data_type: DataType) -> String {
    if value.is_null() {
        return format!("NULL::{}", data_type.full_name());
    }
    let shown = text::to_string(value, data_type, &EvalContext::detached());
    match value {
        Datum::Bool(value) => value.to_string(),
        Datum::Int4(value) if *value >= 0 => shown,
        Datum::Numeric(_) if !shown.starts_with(['-', 'N', 'I']) => shown,
        _ => format!("'{}'::{}", shown.replace('\'', "''"), data_type.full_name()),
    }
}

fn literal_array(values: &[Expr]) -> Option<String> {
    let mut shown = Vec::with_capacity(values.len());
    let mut element = None;
    for value in values {
        let Expr::Literal { value, data_type } = value else { return None };
        element.get_or_insert(*data_type);
        shown.push(if value.is_null() {
            "NULL".to_owned()
        } else {
            let text = text::to_string(value, *data_type, &EvalContext::detached());
            let plain = !text.is_empty()
                && !text.eq_ignore_ascii_case("null")
                && !text.contains(['"', '\\', '{', '}', ','])
                && !text.contains(char::is_whitespace);
            if plain { text } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
        });
    }
    Some(format!("'{{{}}}'::{}", shown.join(",").replace('\'', "''"), element?.bare().to_array().name()))
}
