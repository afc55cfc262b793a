//! [`Scalar`]: a bound expression before planning. It is [`crate::plan::Expr`] with two differences:
//! columns are named by statement-wide unique [`ColumnId`]s, so that predicates can be moved between
//! operators (and out of subqueries) without renumbering, and subqueries are still logical.

use sqlparser::tokenizer::Span;

use super::logical::Rel;
use crate::functions::{AggregateFunction, ScalarFunction, Volatility};
use crate::types::{DataType, Datum};

/// A column of some relation of the statement, at any query level.
pub type ColumnId = usize;

/// A bound expression.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Scalar {
    Literal { value: Datum, data_type: DataType },
    Column { id: ColumnId, data_type: DataType },
    Parameter { index: usize, data_type: DataType },
    Call { function: &'static ScalarFunction, args: Vec<Scalar>, data_type: DataType },
    Cast { expr: Box<Scalar>, to: DataType, explicit: bool },
    And(Vec<Scalar>),
    Or(Vec<Scalar>),
    Not(Box<Scalar>),
    IsNull { expr: Box<Scalar>, negated: bool },
    BooleanTest { expr: Box<Scalar>, value: bool, negated: bool },
    Distinct { left: Box<Scalar>, right: Box<Scalar>, negated: bool },
    Case { branches: Vec<(Scalar, Scalar)>, otherwise: Option<Box<Scalar>>, data_type: DataType },
    Coalesce { args: Vec<Scalar>, data_type: DataType },
    Extremum { args: Vec<Scalar>, greatest: bool, data_type: DataType },
    InList { expr: Box<Scalar>, list: Vec<Scalar>, negated: bool },
    Quantified { expr: Box<Scalar>, operator: &'static ScalarFunction, array: Box<Scalar>, all: bool },
    ArrayLiteral { elements: Vec<Scalar>, data_type: DataType },
    Subscript { array: Box<Scalar>, indexes: Vec<Scalar>, data_type: DataType },
    Record(Vec<Scalar>),
    Subquery(Box<Subquery>),
}

/// A subquery in an expression.
#[derive(Clone, Debug)]
pub struct Subquery {
    /// What is asked of it.
    pub kind: SubqueryKind,
    /// The query.
    pub query: Rel,
    /// Its output columns, in order.
    pub output: Vec<ColumnId>,
    /// Type of the answer.
    pub data_type: DataType,
}

/// What a subquery is asked.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum SubqueryKind {
    Scalar,
    Exists { negated: bool },
    Quantified { left: Vec<Scalar>, operators: Vec<&'static ScalarFunction>, all: bool },
    Array,
}

/// An aggregate call.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Aggregate {
    pub function: &'static AggregateFunction,
    pub args: Vec<Scalar>,
    pub distinct: bool,
    pub filter: Option<Scalar>,
    pub order_by: Vec<Order>,
    pub data_type: DataType,
}

/// One key of an ordering.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Order {
    pub expr: Scalar,
    pub descending: bool,
    pub nulls_first: bool,
}

/// A scalar with where it stood in the text, for messages.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Spanned {
    pub scalar: Scalar,
    pub span: Span,
}

/// The direct operands: for reading and, with `iter_mut, mut`, for changing them.
macro_rules! visit_children {
    ($of:expr, $visit:ident, $iter:ident $(, $mut:tt)?) => {
        match $of {
            Scalar::Literal { .. } | Scalar::Column { .. } | Scalar::Parameter { .. } => {}
            Scalar::Call { args, .. }
            | Scalar::And(args)
            | Scalar::Or(args)
            | Scalar::Coalesce { args, .. }
            | Scalar::Extremum { args, .. }
            | Scalar::ArrayLiteral { elements: args, .. }
            | Scalar::Record(args) => args.$iter().for_each($visit),
            Scalar::Cast { expr, .. }
            | Scalar::Not(expr)
            | Scalar::IsNull { expr, .. }
            | Scalar::BooleanTest { expr, .. } => $visit(expr),
            Scalar::Distinct { left, right, .. } => {
                $visit(left);
                $visit(right);
            }
            Scalar::Case { branches, otherwise, .. } => {
                for (condition, result) in branches {
                    $visit(condition);
                    $visit(result);
                }
                otherwise.$iter().for_each(|otherwise| $visit(otherwise));
            }
            Scalar::InList { expr, list, .. } => {
                $visit(expr);
                list.$iter().for_each($visit);
            }
            Scalar::Quantified { expr, array, .. } => {
                $visit(expr);
                $visit(array);
            }
            Scalar::Subscript { array, indexes, .. } => {
                $visit(array);
                indexes.$iter().for_each($visit);
            }
            Scalar::Subquery(subquery) => {
                if let SubqueryKind::Quantified { left, .. } = &$($mut)? subquery.kind {
                    left.$iter().for_each($visit);
                }
            }
        }
    };
}

impl Scalar {
    /// A NULL of a type.
    pub fn null(data_type: DataType) -> Self {
        Scalar::Literal { value: Datum::Null, data_type }
    }

    /// A boolean literal.
    pub fn bool(value: bool) -> Self {
        Scalar::Literal { value: Datum::Bool(value), data_type: DataType::BOOL }
    }

    /// Its type.
    pub fn data_type(&self) -> DataType {
        match self {
            Scalar::Literal { data_type, .. }
            | Scalar::Column { data_type, .. }
            | Scalar::Parameter { data_type, .. }
            | Scalar::Call { data_type, .. }
            | Scalar::Case { data_type, .. }
            | Scalar::Coalesce { data_type, .. }
            | Scalar::Extremum { data_type, .. }
            | Scalar::ArrayLiteral { data_type, .. }
            | Scalar::Subscript { data_type, .. } => *data_type,
            Scalar::Cast { to, .. } => *to,
            Scalar::Record(_) => DataType::RECORD,
            Scalar::Subquery(subquery) => subquery.data_type,
            Scalar::And(_)
            | Scalar::Or(_)
            | Scalar::Not(_)
            | Scalar::IsNull { .. }
            | Scalar::BooleanTest { .. }
            | Scalar::Distinct { .. }
            | Scalar::InList { .. }
            | Scalar::Quantified { .. } => DataType::BOOL,
        }
    }

    /// Calls `visit` on each direct operand. A subquery's operands are those outside its query.
    pub fn for_each_child<'a>(&'a self, visit: &mut dyn FnMut(&'a Scalar)) {
        visit_children!(self, visit, iter)
    }

    /// As [`Scalar::for_each_child`], mutably.
    pub fn for_each_child_mut(&mut self, visit: &mut dyn FnMut(&mut Scalar)) {
        visit_children!(self, visit, iter_mut, mut)
    }

    /// Every column it names, those inside subqueries included.
    pub fn for_each_column(&self, visit: &mut dyn FnMut(ColumnId)) {
        match self {
            Scalar::Column { id, .. } => visit(*id),
            Scalar::Subquery(subquery) => {
                subquery.query.for_each_scalar_deep(&mut |scalar| scalar.for_each_column(visit));
                self.for_each_child(&mut |child| child.for_each_column(visit));
            }
            _ => self.for_each_child(&mut |child| child.for_each_column(visit)),
        }
    }

    /// Rewrites bottom-up, inside subqueries as well: `rewrite` may replace the scalar it is given.
    pub fn rewrite(&mut self, rewrite: &mut dyn FnMut(&mut Scalar)) {
        self.for_each_child_mut(&mut |child| child.rewrite(rewrite));
        if let Scalar::Subquery(subquery) = self {
            subquery.query.for_each_scalar_deep_mut(&mut |scalar| scalar.rewrite(rewrite));
        }
        rewrite(self);
    }

    /// Whether `test` holds for it or an operand (not looking into subqueries' queries).
    pub fn any(&self, test: &dyn Fn(&Scalar) -> bool) -> bool {
        if test(self) {
            return true;
        }
        let mut found = false;
        self.for_each_child(&mut |child| found = found || child.any(test));
        found
    }

    /// Whether it holds a subquery.
    pub fn has_subquery(&self) -> bool {
        self.any(&|scalar| matches!(scalar, Scalar::Subquery(_)))
    }

    /// Whether two evaluations may differ, or an evaluation has effects.
    pub fn is_volatile(&self) -> bool {
        self.any(&|scalar| match scalar {
            Scalar::Call { function, .. } => function.volatility == Volatility::Volatile,
            Scalar::Subquery(subquery) => {
                let mut volatile = false;
                subquery.query.for_each_scalar_deep(&mut |scalar| volatile = volatile || scalar.is_volatile());
                volatile
            }
            _ => false,
        })
    }

    /// Whether its value is the same for every row and every run.
    pub fn is_constant(&self) -> bool {
        !self.any(&|scalar| match scalar {
            Scalar::Call { function, .. } => function.volatility != Volatility::Immutable || function.session,
            Scalar::Column { .. } | Scalar::Parameter { .. } | Scalar::Subquery(_) => true,
            _ => false,
        })
    }

    /// Whether it stays the same while a statement runs and reads no row: literals, parameters and calls of them.
    pub fn is_stable_constant(&self) -> bool {
        !self.any(&|scalar| match scalar {
            Scalar::Call { function, .. } => function.volatility == Volatility::Volatile,
            Scalar::Column { .. } | Scalar::Subquery(_) => true,
            _ => false,
        })
    }

    /// Structural equality. Subqueries are never equal: each is bound with columns of its own.
    pub fn same(&self, other: &Scalar) -> bool {
        use Scalar as S;
        let all = |a: &[S], b: &[S]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b));
        match (self, other) {
            (S::Literal { value: a, data_type: s }, S::Literal { value: b, data_type: t }) => {
                s == t && same_datum(a, b)
            }
            (S::Column { id: a, .. }, S::Column { id: b, .. }) => a == b,
            (S::Parameter { index: a, .. }, S::Parameter { index: b, .. }) => a == b,
            (S::Call { function: f, args: a, .. }, S::Call { function: g, args: b, .. }) => {
                std::ptr::eq(*f, *g) && f.volatility != Volatility::Volatile && all(a, b)
            }
            (S::Cast { expr: a, to: s, explicit: e }, S::Cast { expr: b, to: t, explicit: f }) => {
                s == t && e == f && a.same(b)
            }
            (S::And(a), S::And(b)) | (S::Or(a), S::Or(b)) | (S::Record(a), S::Record(b)) => all(a, b),
            (S::Not(a), S::Not(b)) => a.same(b),
            (S::IsNull { expr: a, negated: s }, S::IsNull { expr: b, negated: t }) => s == t && a.same(b),
            (S::BooleanTest { expr: a, value: v, negated: s }, S::BooleanTest { expr: b, value: w, negated: t }) => {
                v == w && s == t && a.same(b)
            }
            (S::Distinct { left: a, right: b, negated: s }, S::Distinct { left: c, right: d, negated: t }) => {
                s == t && a.same(c) && b.same(d)
            }
            (S::Case { branches: a, otherwise: e, .. }, S::Case { branches: b, otherwise: f, .. }) => {
                a.len() == b.len()
                    && a.iter().zip(b).all(|((a, b), (c, d))| a.same(c) && b.same(d))
                    && match (e, f) {
                        (Some(e), Some(f)) => e.same(f),
                        (None, None) => true,
                        _ => false,
                    }
            }
            (S::Coalesce { args: a, .. }, S::Coalesce { args: b, .. })
            | (S::ArrayLiteral { elements: a, .. }, S::ArrayLiteral { elements: b, .. }) => all(a, b),
            (S::Extremum { args: a, greatest: s, .. }, S::Extremum { args: b, greatest: t, .. }) => s == t && all(a, b),
            (S::InList { expr: a, list: l, negated: s }, S::InList { expr: b, list: m, negated: t }) => {
                s == t && a.same(b) && all(l, m)
            }
            (
                S::Quantified { expr: a, operator: f, array: c, all: s },
                S::Quantified { expr: b, operator: g, array: d, all: t },
            ) => s == t && std::ptr::eq(*f, *g) && a.same(b) && c.same(d),
            (S::Subscript { array: a, indexes: i, .. }, S::Subscript { array: b, indexes: j, .. }) => {
                a.same(b) && all(i, j)
            }
            _ => false,
        }
    }
}

impl Aggregate {
    /// Its scalars.
    pub fn for_each_scalar<'a>(&'a self, visit: &mut dyn FnMut(&'a Scalar)) {
        self.args.iter().for_each(&mut *visit);
        self.filter.iter().for_each(&mut *visit);
        self.order_by.iter().for_each(|order| visit(&order.expr));
    }

    /// Its scalars, mutably.
    pub fn for_each_scalar_mut(&mut self, visit: &mut dyn FnMut(&mut Scalar)) {
        self.args.iter_mut().for_each(&mut *visit);
        self.filter.iter_mut().for_each(&mut *visit);
        self.order_by.iter_mut().for_each(|order| visit(&mut order.expr));
    }

    /// Whether both are the same call.
    pub fn same(&self, other: &Aggregate) -> bool {
        let args = |a: &[Scalar], b: &[Scalar]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b));
        std::ptr::eq(self.function, other.function)
            && self.distinct == other.distinct
            && args(&self.args, &other.args)
            && match (&self.filter, &other.filter) {
                (Some(a), Some(b)) => a.same(b),
                (None, None) => true,
                _ => false,
            }
            && self.order_by.len() == other.order_by.len()
            && self
                .order_by
                .iter()
                .zip(&other.order_by)
                .all(|(a, b)| a.expr.same(&b.expr) && a.descending == b.descending && a.nulls_first == b.nulls_first)
    }
}

/// Whether two values of one type are the same for the planner (NULL is the same as NULL).
pub fn same_datum(a: &Datum, b: &Datum) -> bool {
    match (a, b) {
        (Datum::Null, Datum::Null) => true,
        (Datum::Null, _) | (_, Datum::Null) => false,
        (Datum::Text(a), Datum::Text(b)) => a == b,
        (Datum::Bool(a), Datum::Bool(b)) => a == b,
        (Datum::Int2(a), Datum::Int2(b)) => a == b,
        (Datum::Int4(a), Datum::Int4(b)) => a == b,
        (Datum::Int8(a), Datum::Int8(b)) => a == b,
        (Datum::Numeric(a), Datum::Numeric(b)) => a == b,
        (Datum::Date(a), Datum::Date(b)) => a == b,
        (Datum::Time(a), Datum::Time(b)) | (Datum::Timestamp(a), Datum::Timestamp(b)) => a == b,
        (Datum::Timestamptz(a), Datum::Timestamptz(b)) => a == b,
        (Datum::Interval(a), Datum::Interval(b)) => a == b,
        (Datum::Oid(a), Datum::Oid(b)) => a == b,
        (Datum::Float8(a), Datum::Float8(b)) => a.to_bits() == b.to_bits(),
        (Datum::Float4(a), Datum::Float4(b)) => a.to_bits() == b.to_bits(),
        (Datum::Uuid(a), Datum::Uuid(b)) => a == b,
        (Datum::Bytea(a), Datum::Bytea(b)) => a == b,
        _ => false,
    }
}
