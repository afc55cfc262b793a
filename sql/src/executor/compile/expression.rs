//! From [`Expr`] to [`Code`].

use super::{Compiler, Scope};
use crate::error::{Result, SqlError};
use crate::executor::expr::{Arithmetic, Code, Comparison, ConstantList, SubqueryCode, SubqueryQuestion};
use crate::functions::{ScalarFunction, Volatility};
use crate::plan::{Expr, Subquery, SubqueryKind};
use crate::types::{BaseType, DataType, Datum};

/// Lists of constants longer than this become hash sets.
const HASHED_LIST: usize = 8;

impl Compiler {
    pub(super) fn expr(&mut self, expr: &Expr) -> Result<Code> {
        Ok(match expr {
            Expr::Literal { value, .. } => Code::Literal(value.clone()),
            Expr::Column { index, .. } => Code::Column(*index),
            Expr::Outer { depth, index, .. } => {
                self.note_outer(*depth, *index)?;
                Code::Outer { depth: *depth, index: *index }
            }
            Expr::Parameter { index, .. } => Code::Parameter(*index),
            Expr::Call { function, args, .. } => self.call(function, args)?,
            Expr::Cast { expr, to, explicit } => {
                Code::Cast { from: expr.data_type(), to: *to, explicit: *explicit, inner: self.boxed_expr(expr)? }
            }
            Expr::And(args) => Code::And(self.exprs(args)?.into()),
            Expr::Or(args) => Code::Or(self.exprs(args)?.into()),
            Expr::Not(inner) => Code::Not(self.boxed_expr(inner)?),
            Expr::IsNull { expr, negated } => Code::IsNull { inner: self.boxed_expr(expr)?, negated: *negated },
            Expr::BooleanTest { expr, value, negated } => {
                Code::BooleanTest { inner: self.boxed_expr(expr)?, value: *value, negated: *negated }
            }
            Expr::Distinct { left, right, negated } => {
                Code::Distinct { left: self.boxed_expr(left)?, right: self.boxed_expr(right)?, negated: *negated }
            }
            Expr::Case { branches, otherwise, .. } => {
                let branch = |(condition, result): &(Expr, Expr)| Ok((self.expr(condition)?, self.expr(result)?));
                let branches = branches.iter().map(branch).collect::<Result<Vec<_>>>()?;
                let otherwise = otherwise.as_ref().map(|otherwise| self.boxed_expr(otherwise)).transpose()?;
                Code::Case { branches: branches.into(), otherwise }
            }
            Expr::Coalesce { args, .. } => Code::Coalesce(self.exprs(args)?.into()),
            Expr::Extremum { args, greatest, .. } => {
                Code::Extremum { args: self.exprs(args)?.into(), greatest: *greatest }
            }
            Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated)?,
            Expr::Quantified { expr, operator, array, all } => {
                Code::Quantified { inner: self.boxed_expr(expr)?, operator, array: self.boxed_expr(array)?, all: *all }
            }
            Expr::ArrayLiteral { elements, data_type } => {
                let element_type = DataType { array: false, ..*data_type };
                Code::Array { elements: self.exprs(elements)?.into(), element_type }
            }
            Expr::Subscript { array, indexes, .. } => {
                Code::Subscript { array: self.boxed_expr(array)?, indexes: self.exprs(indexes)?.into() }
            }
            Expr::Record(fields) => Code::Record(self.exprs(fields)?.into()),
            Expr::Subquery(subquery) => self.subquery(subquery)?,
        })
    }

    fn boxed_expr(&mut self, expr: &Expr) -> Result<Box<Code>> {
        self.expr(expr).map(Box::new)
    }

    /// A column of an enclosing row, seen from here.
    fn note_outer(&mut self, depth: usize, index: usize) -> Result<()> {
        let Some(target) = self.level.checked_sub(depth) else {
            return Err(SqlError::internal(format!("outer column {index} at depth {depth} of {}", self.level)));
        };
        for scope in self.scopes.iter_mut().filter(|scope| target < scope.level) {
            scope.reads.insert((scope.level - target, index));
        }
        Ok(())
    }

    fn call(&mut self, function: &'static ScalarFunction, args: &[Expr]) -> Result<Code> {
        if function.volatility == Volatility::Volatile {
            self.scopes.iter_mut().for_each(|scope| scope.unstable = true);
        }
        let mut codes = self.exprs(args)?;
        if function.operator && codes.len() == 2 {
            let types = (args[0].data_type(), args[1].data_type());
            if let Some(comparison) = Comparison::of_symbol(function.name)
                && is_ordered_alike(types.0, types.1)
            {
                let right = Box::new(codes.pop().expect("two arguments"));
                let left = Box::new(codes.pop().expect("two arguments"));
                return Ok(Code::Compare { comparison, left, right });
            }
            if let Some(operation) = Arithmetic::of_symbol(function.name)
                && has_fast_arithmetic(types.0, types.1)
            {
                let right = Box::new(codes.pop().expect("two arguments"));
                let left = Box::new(codes.pop().expect("two arguments"));
                return Ok(Code::Arithmetic { operation, function, left, right });
            }
        }
        Ok(Code::Call { function, args: codes.into() })
    }

    fn in_list(&mut self, expr: &Expr, list: &[Expr], negated: bool) -> Result<Code> {
        let inner = self.boxed_expr(expr)?;
        if list.len() > HASHED_LIST {
            let constant = |item: &Expr| match item {
                Expr::Literal { value, .. } => Some(value.clone()),
                _ => None,
            };
            if let Some(values) = list.iter().map(constant).collect::<Option<Vec<Datum>>>() {
                return Ok(Code::InConstants { inner, list: Box::new(ConstantList::new(values)), negated });
            }
        }
        Ok(Code::InList { inner, list: self.exprs(list)?.into(), negated })
    }

    fn subquery(&mut self, subquery: &Subquery) -> Result<Code> {
        let slot = self.shape.subqueries;
        self.shape.subqueries += 1;
        let question = match &subquery.kind {
            SubqueryKind::Scalar => SubqueryQuestion::Scalar,
            SubqueryKind::Exists { negated } => SubqueryQuestion::Exists { negated: *negated },
            SubqueryKind::Array => SubqueryQuestion::Array { element: DataType { array: false, ..subquery.data_type } },
            SubqueryKind::Quantified { left, operators, all } => self.quantified(left, operators, *all)?,
        };
        self.scopes.push(Scope { level: self.level + 1, ..Scope::default() });
        let node = self.nested(|inner| inner.boxed(&subquery.plan));
        let scope = self.scopes.pop().expect("pushed above");
        let node = node?;
        let constant = scope.reads.is_empty() && !scope.changing_cte;
        let reads = (!scope.unstable && !scope.changing_cte).then(|| scope.reads.into_iter().collect());
        Ok(Code::Subquery(Box::new(SubqueryCode { slot, question, node, constant, reads })))
    }

    fn quantified(
        &mut self,
        left: &[Expr],
        operators: &[&'static ScalarFunction],
        all: bool,
    ) -> Result<SubqueryQuestion> {
        let wanted = if all { "<>" } else { "=" };
        let by_order = left.iter().all(|expr| expr.data_type().base != BaseType::Json);
        if by_order && operators.iter().all(|operator| operator.name == wanted) {
            return Ok(SubqueryQuestion::In { left: self.exprs(left)?.into(), negated: all });
        }
        match (left, operators) {
            ([left], [operator]) => Ok(SubqueryQuestion::Quantified { left: self.expr(left)?, operator, all }),
            _ => Err(SqlError::unsupported(format!(
                "operator {} between a row and a subquery",
                operators.first().map_or("?", |operator| operator.name)
            ))),
        }
    }
}

/// Whether values of the two types compare by [`crate::executor::expr::compare`] as their operators do.
fn is_ordered_alike(left: DataType, right: DataType) -> bool {
    use BaseType::{
        Bool, Bpchar, Bytea, Date, Float4, Float8, Int2, Int4, Int8, Name, Numeric, Oid, Text, Time, Timestamp,
        Timestamptz, Uuid, Varchar,
    };
    if left.array || right.array {
        return false;
    }
    let integer = |base| matches!(base, Int2 | Int4 | Int8);
    let string = |base| matches!(base, Text | Varchar | Name);
    let float = |base| matches!(base, Float4 | Float8);
    let single =
        |base| matches!(base, Bool | Bpchar | Bytea | Date | Numeric | Oid | Time | Timestamp | Timestamptz | Uuid);
    let (left, right) = (left.base, right.base);
    integer(left) && integer(right)
        || string(left) && string(right)
        || float(left) && float(right)
        || single(left) && left == right
}

/// Whether [`Arithmetic`] has a fast path for the types.
fn has_fast_arithmetic(left: DataType, right: DataType) -> bool {
    let fast = matches!(left.base, BaseType::Int4 | BaseType::Int8 | BaseType::Float8);
    fast && left.base == right.base && !left.array && !right.array
}

/// The columns of the input row that an expression reads; `None` when a subquery may read any.
pub(super) fn columns_read(expr: &Expr) -> Option<Vec<usize>> {
    let mut columns = Vec::new();
    collect(expr, &mut columns).then_some(columns)
}

/// False: it holds a subquery.
fn collect(expr: &Expr, columns: &mut Vec<usize>) -> bool {
    let mut all = |exprs: &[Expr]| exprs.iter().all(|expr| collect(expr, columns));
    match expr {
        Expr::Literal { .. } | Expr::Outer { .. } | Expr::Parameter { .. } => true,
        Expr::Column { index, .. } => {
            columns.push(*index);
            true
        }
        Expr::Call { args, .. } | Expr::Coalesce { args, .. } | Expr::Extremum { args, .. } => all(args),
        Expr::And(args) | Expr::Or(args) | Expr::Record(args) => all(args),
        Expr::ArrayLiteral { elements, .. } => all(elements),
        Expr::Cast { expr, .. } | Expr::IsNull { expr, .. } | Expr::BooleanTest { expr, .. } | Expr::Not(expr) => {
            collect(expr, columns)
        }
        Expr::Distinct { left, right, .. } => collect(left, columns) && collect(right, columns),
        Expr::Case { branches, otherwise, .. } => {
            branches.iter().all(|(condition, result)| collect(condition, columns) && collect(result, columns))
                && otherwise.as_ref().is_none_or(|otherwise| collect(otherwise, columns))
        }
        Expr::InList { expr, list, .. } => collect(expr, columns) && list.iter().all(|item| collect(item, columns)),
        Expr::Quantified { expr, array, .. } => collect(expr, columns) && collect(array, columns),
        Expr::Subscript { array, indexes, .. } => {
            collect(array, columns) && indexes.iter().all(|index| collect(index, columns))
        }
        Expr::Subquery(_) => false,
    }
}
