//! Which function a call means: candidate selection as in PostgreSQL's manual, "Type Conversion", chapters
//! 10.2 (operators), 10.3 (functions) and 10.5 (UNION, CASE and related constructs).

use super::registry;
use super::{AggregateFunction, ScalarFunction, TableFunction};
use crate::error::{Result, SqlError, SqlState};
use crate::types::cast::{CastContext, can_cast};
use crate::types::{BaseType, Category, DataType};

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;

/// A resolved call.
#[derive(Clone, Debug)]
pub struct Resolved<F: 'static> {
    /// What is called.
    pub function: &'static F,
    /// The type that each argument must be coerced to.
    pub args: Vec<DataType>,
    /// Type of the result.
    pub result: DataType,
}

/// What candidate selection needs to know of a function.
pub(super) trait Signature: 'static {
    fn args(&self) -> &'static [DataType];
    fn result(&self) -> DataType;
    fn variadic(&self) -> bool {
        false
    }
}

impl Signature for ScalarFunction {
    fn args(&self) -> &'static [DataType] {
        self.args
    }
    fn result(&self) -> DataType {
        self.result
    }
    fn variadic(&self) -> bool {
        self.variadic
    }
}

impl Signature for AggregateFunction {
    fn args(&self) -> &'static [DataType] {
        self.args
    }
    fn result(&self) -> DataType {
        self.result
    }
}

impl Signature for TableFunction {
    fn args(&self) -> &'static [DataType] {
        self.args
    }
    fn result(&self) -> DataType {
        self.columns.first().map_or(DataType::RECORD, |column| column.1)
    }
}

/// Resolves a function call by name (folded, unqualified or in `pg_catalog`). 42883, 42725.
pub fn resolve_function(name: &str, args: &[DataType]) -> Result<Resolved<ScalarFunction>> {
    resolve(registry::functions(name), name, args)
}

/// Resolves an aggregate call; `None` when no aggregate has that name.
pub fn resolve_aggregate(name: &str, args: &[DataType]) -> Option<Result<Resolved<AggregateFunction>>> {
    let candidates = registry::aggregates(name);
    (!candidates.is_empty()).then(|| resolve(candidates, name, args))
}

fn resolve<F: Signature>(candidates: &[&'static F], name: &str, args: &[DataType]) -> Result<Resolved<F>> {
    match select(candidates, args) {
        Selection::One(resolved) => Ok(resolved),
        Selection::None => Err(undefined_function(name, args)),
        Selection::Ambiguous => Err(SqlError::new(
            SqlState::AMBIGUOUS_FUNCTION,
            format!("function {} is not unique", call_text(name, args)),
        )
        .with_hint("Could not choose a best candidate function. You might need to add explicit type casts.")),
    }
}

/// Resolves a set-returning function; `None` when none has that name.
pub fn resolve_table_function(name: &str, args: &[DataType]) -> Option<Result<Resolved<TableFunction>>> {
    let candidates = registry::table_functions(name);
    if candidates.is_empty() {
        return None;
    }
    Some(match select(candidates, args) {
        Selection::One(resolved) => Ok(resolved),
        Selection::None | Selection::Ambiguous => Err(undefined_function(name, args)),
    })
}

/// Resolves an operator; `left` is none for a prefix operator. 42883, 42725.
pub fn resolve_operator(symbol: &str, left: Option<DataType>, right: DataType) -> Result<Resolved<ScalarFunction>> {
    let given: Vec<DataType> = left.into_iter().chain([right]).collect();
    let candidates = registry::operators(symbol);
    // An untyped operand is first taken to be of the other's type.
    let assumed: Vec<DataType> = match given.as_slice() {
        [left, right] if left.is_unknown() && !right.is_unknown() => vec![*right, *right],
        [left, right] if right.is_unknown() && !left.is_unknown() => vec![*left, *left],
        _ => given.clone(),
    };
    if let Some(resolved) = exact(candidates, &assumed) {
        return Ok(resolved);
    }
    let shown = || match given.as_slice() {
        [left, right] => format!("{} {symbol} {}", left.name(), right.name()),
        [right] => format!("{symbol} {}", right.name()),
        _ => symbol.to_owned(),
    };
    // An untyped operand of || is text rather than an array, whatever stands beside it.
    let untyped = given.iter().any(|data_type| data_type.is_unknown());
    let selection =
        if untyped && is_text_concatenation(symbol, &given) { Selection::None } else { select(candidates, &given) };
    match selection {
        Selection::One(resolved) => Ok(resolved),
        Selection::None if is_text_concatenation(symbol, &given) => {
            let text = [DataType::TEXT, DataType::TEXT];
            exact(candidates, &text).ok_or_else(|| SqlError::internal("text concatenation is not registered"))
        }
        Selection::None => {
            Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {}", shown())).with_hint(
                "No operator matches the given name and argument types. You might need to add explicit type casts.",
            ))
        }
        Selection::Ambiguous => {
            Err(SqlError::new(SqlState::AMBIGUOUS_FUNCTION, format!("operator is not unique: {}", shown()))
                .with_hint("Could not choose a best candidate operator. You might need to add explicit type casts."))
        }
    }
}

/// `text || anything` and `anything || text`: the other operand is cast to text, arrays excepted.
fn is_text_concatenation(symbol: &str, given: &[DataType]) -> bool {
    symbol == "||"
        && given.iter().any(|data_type| data_type.category() == Category::String || data_type.is_unknown())
        && !given.iter().any(|data_type| data_type.array)
}

fn undefined_function(name: &str, args: &[DataType]) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {} does not exist", call_text(name, args)))
        .with_hint("No function matches the given name and argument types. You might need to add explicit type casts.")
}

fn call_text(name: &str, args: &[DataType]) -> String {
    let args: Vec<_> = args.iter().map(|data_type| data_type.name()).collect();
    format!("{name}({})", args.join(", "))
}

enum Selection<F: 'static> {
    One(Resolved<F>),
    None,
    Ambiguous,
}

/// A candidate with the argument types that it wants for this call.
struct Candidate<F: 'static> {
    function: &'static F,
    wants: Vec<DataType>,
    result: DataType,
}

fn exact<F: Signature>(functions: &[&'static F], given: &[DataType]) -> Option<Resolved<F>> {
    functions.iter().find_map(|function| {
        let candidate = candidate(*function, given)?;
        let same = candidate.wants.iter().zip(given).all(|(want, given)| want.same_type(*given));
        same.then(|| candidate.resolved(given))
    })
}

/// The candidate's wants for `given`, polymorphic types filled in; none when it cannot take them.
fn candidate<F: Signature>(function: &'static F, given: &[DataType]) -> Option<Candidate<F>> {
    let args = function.args();
    let arity_fits = if function.variadic() { given.len() + 1 >= args.len() } else { args.len() == given.len() };
    if !arity_fits {
        return None;
    }
    let declared = |position: usize| args.get(position).or(args.last()).copied();
    let positions: Option<Vec<DataType>> = (0..given.len()).map(declared).collect();
    let declared = positions?;
    let bindings = Polymorphic::bind(&declared, given)?;
    let wants: Vec<DataType> = declared.iter().zip(given).map(|(want, given)| bindings.fill(*want, *given)).collect();
    let fits = wants.iter().zip(given).all(|(want, given)| accepts(*want, *given));
    let result = bindings.fill(function.result(), DataType::TEXT);
    fits.then_some(Candidate { function, wants, result })
}

fn accepts(want: DataType, given: DataType) -> bool {
    want.same_type(given) || given.is_unknown() || can_cast(given, want, CastContext::Implicit)
}

/// What the polymorphic types of a signature stand for in a call.
struct Polymorphic {
    element: Option<DataType>,
}

impl Polymorphic {
    fn bind(declared: &[DataType], given: &[DataType]) -> Option<Self> {
        let mut element: Option<DataType> = None;
        for (want, given) in declared.iter().zip(given) {
            if given.is_unknown() {
                continue;
            }
            let offered = match want.base {
                BaseType::AnyArray | BaseType::AnyCompatibleArray => Some(given.element()?.bare()),
                BaseType::AnyElement | BaseType::AnyCompatible => Some(given.bare()),
                _ => None,
            };
            let Some(offered) = offered else { continue };
            element = Some(match element {
                None => offered,
                Some(known) if known.same_type(offered) => known,
                // The "compatible" family takes the common type; the plain one wants the same.
                Some(known) if matches!(want.base, BaseType::AnyCompatible | BaseType::AnyCompatibleArray) => {
                    common_type(&[known, offered], "").ok()?
                }
                Some(_) => return None,
            });
        }
        Some(Self { element })
    }

    fn fill(&self, want: DataType, given: DataType) -> DataType {
        match want.base {
            BaseType::Any => {
                if given.is_unknown() {
                    DataType::TEXT
                } else {
                    given
                }
            }
            BaseType::AnyElement | BaseType::AnyCompatible => self.element.unwrap_or(DataType::TEXT),
            BaseType::AnyArray | BaseType::AnyCompatibleArray => self.element.unwrap_or(DataType::TEXT).to_array(),
            _ => want,
        }
    }
}

impl<F: Signature> Candidate<F> {
    /// Whether the signature leaves the type of an argument open.
    fn is_polymorphic(&self, position: usize) -> bool {
        let args = self.function.args();
        args.get(position).or(args.last()).is_some_and(|declared| declared.base.is_polymorphic())
    }

    fn resolved(self, given: &[DataType]) -> Resolved<F> {
        // An argument that already has the wanted type keeps its modifier.
        let args =
            self.wants.iter().zip(given).map(|(want, given)| if want.same_type(*given) { *given } else { *want });
        Resolved { function: self.function, args: args.collect(), result: self.result }
    }
}

/// Postgres' `func_select_candidate`.
fn select<F: Signature>(functions: &[&'static F], given: &[DataType]) -> Selection<F> {
    if let Some(resolved) = exact(functions, given) {
        return Selection::One(resolved);
    }
    let mut candidates: Vec<Candidate<F>> =
        functions.iter().filter_map(|function| candidate(*function, given)).collect();
    // Variadic forms count only when no fixed one fits.
    if candidates.iter().any(|candidate| !candidate.function.variadic()) {
        candidates.retain(|candidate| !candidate.function.variadic());
    }
    // A polymorphic argument fits, but is neither a match nor preferred.
    keep_best(&mut candidates, |candidate| {
        let same = |position: &usize| {
            !candidate.is_polymorphic(*position) && candidate.wants[*position].same_type(given[*position])
        };
        (0..given.len()).filter(same).count()
    });
    keep_best(&mut candidates, |candidate| {
        let preferred = |position: &usize| {
            let (want, given) = (candidate.wants[*position], given[*position]);
            !candidate.is_polymorphic(*position)
                && (want.same_type(given) || want.category() == given.category() && want.is_preferred())
        };
        (0..given.len()).filter(preferred).count()
    });
    if candidates.len() > 1 {
        decide_unknowns(&mut candidates, given);
    }
    match candidates.len() {
        0 => Selection::None,
        1 => Selection::One(candidates.remove(0).resolved(given)),
        _ => Selection::Ambiguous,
    }
}

fn keep_best<F>(candidates: &mut Vec<Candidate<F>>, score: impl Fn(&Candidate<F>) -> usize) {
    if candidates.len() > 1 {
        let best = candidates.iter().map(&score).max().unwrap_or(0);
        candidates.retain(|candidate| score(candidate) == best);
    }
}

/// Untyped arguments: prefer the string category, else the one category that all candidates agree on; then
/// the preferred type in it; last, the type that the typed arguments share.
fn decide_unknowns<F: Signature>(candidates: &mut Vec<Candidate<F>>, given: &[DataType]) {
    let unknown: Vec<usize> = (0..given.len()).filter(|position| given[*position].is_unknown()).collect();
    if unknown.is_empty() {
        return;
    }
    let mut chosen = Vec::new();
    for &position in &unknown {
        let categories: Vec<Category> =
            candidates.iter().map(|candidate| candidate.wants[position].category()).collect();
        let category = if categories.contains(&Category::String) {
            Some(Category::String)
        } else {
            categories.iter().all(|category| *category == categories[0]).then_some(categories[0])
        };
        chosen.push(category);
    }
    if chosen.iter().all(Option::is_some) {
        let fits = |candidate: &Candidate<F>| {
            unknown
                .iter()
                .zip(&chosen)
                .all(|(&position, category)| Some(candidate.wants[position].category()) == *category)
        };
        if candidates.iter().any(fits) {
            candidates.retain(fits);
        }
        for &position in &unknown {
            if candidates.iter().any(|candidate| candidate.wants[position].is_preferred()) {
                candidates.retain(|candidate| candidate.wants[position].is_preferred());
            }
        }
    }
    if candidates.len() > 1 {
        let mut known = given.iter().filter(|data_type| !data_type.is_unknown());
        if let Some(first) = known.next()
            && known.all(|other| other.same_type(*first))
        {
            let fits = |candidate: &Candidate<F>| {
                unknown.iter().all(|&position| {
                    accepts(candidate.wants[position], *first) && candidate.wants[position].same_type(*first)
                })
            };
            if candidates.iter().filter(|candidate| fits(candidate)).count() == 1 {
                candidates.retain(fits);
            }
        }
    }
}

/// The type that the branches of `construct` (CASE, UNION, VALUES, IN, COALESCE …) are brought to: Postgres'
/// `select_common_type`. All untyped is text. 42804 when they do not match.
pub fn common_type(types: &[DataType], construct: &str) -> Result<DataType> {
    let Some(first) = types.first() else { return Ok(DataType::TEXT) };
    if types.iter().all(|data_type| data_type == first) && !first.is_unknown() {
        return Ok(*first);
    }
    let mut chosen: Option<DataType> = None;
    for data_type in types.iter().filter(|data_type| !data_type.is_unknown()) {
        chosen = Some(match chosen {
            None => *data_type,
            Some(so_far) if so_far.same_type(*data_type) => {
                if so_far.modifier == data_type.modifier {
                    so_far
                } else {
                    so_far.with_modifier(-1)
                }
            }
            Some(so_far) => {
                if so_far.array || data_type.array || so_far.category() != data_type.category() {
                    return Err(SqlError::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!("{construct} types {} and {} cannot be matched", so_far.name(), data_type.name()),
                    ));
                }
                let other_wins = !so_far.is_preferred()
                    && can_cast(so_far, *data_type, CastContext::Implicit)
                    && !can_cast(*data_type, so_far, CastContext::Implicit);
                if other_wins { data_type.with_modifier(-1) } else { so_far.with_modifier(-1) }
            }
        });
    }
    Ok(chosen.unwrap_or(DataType::TEXT))
}
