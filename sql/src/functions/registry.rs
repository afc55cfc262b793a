//! All functions by name.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{AggregateFunction, ScalarFunction, TableFunction};

/// Scalar functions and operators, topic by topic.
static SCALARS: &[&[ScalarFunction]] = &[
    super::operators::comparison::OPERATORS,
    super::operators::arithmetic::OPERATORS,
    super::operators::text::OPERATORS,
    super::operators::datetime::OPERATORS,
    super::operators::other::OPERATORS,
    super::array::FUNCTIONS,
    super::binary_string::FUNCTIONS,
    super::datetime::CLOCK,
    super::datetime::MOMENTS,
    super::datetime::extract::FUNCTIONS,
    super::datetime::make::FUNCTIONS,
    super::datetime::truncate::FUNCTIONS,
    super::format_datetime::FUNCTIONS,
    super::format_number::FUNCTIONS,
    super::parse_datetime::FUNCTIONS,
    super::json::FUNCTIONS,
    super::json_build::FUNCTIONS,
    super::json_path::FUNCTIONS,
    super::math::FLOAT_FUNCTIONS,
    super::math::FUNCTIONS,
    super::misc::FUNCTIONS,
    super::regexp::FUNCTIONS,
    super::session::FUNCTIONS,
    super::string::FUNCTIONS,
];

static AGGREGATES: &[&[AggregateFunction]] = &[
    super::aggregates::basic::AGGREGATES,
    super::aggregates::statistics::AGGREGATES,
    super::aggregates::collect::AGGREGATES,
    super::aggregates::ordered_set::AGGREGATES,
    super::aggregates::json::AGGREGATES,
];

static TABLE_FUNCTIONS: &[&[TableFunction]] = &[
    super::array::TABLE_FUNCTIONS,
    super::check::TABLE_FUNCTIONS,
    super::json::TABLE_FUNCTIONS,
    super::misc::TABLE_FUNCTIONS,
    super::regexp::TABLE_FUNCTIONS,
    super::series::TABLE_FUNCTIONS,
];

type ByName<T> = HashMap<&'static str, Vec<&'static T>>;

fn by_name<T>(groups: &'static [&'static [T]], name: impl Fn(&T) -> Option<&'static str>) -> ByName<T> {
    let mut names: ByName<T> = HashMap::new();
    for function in groups.iter().flat_map(|group| group.iter()) {
        if let Some(name) = name(function) {
            names.entry(name).or_default().push(function);
        }
    }
    names
}

macro_rules! lookups {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $groups:ident, $key:expr;)*) => {
        $($(#[$doc])*
        pub fn $name(name: &str) -> &'static [&'static $type] {
            static NAMES: LazyLock<ByName<$type>> = LazyLock::new(|| by_name($groups, $key));
            NAMES.get(name).map_or(&[], Vec::as_slice)
        })*
    };
}

lookups! {
    /// Scalar functions of a name.
    functions: ScalarFunction = SCALARS, |function| (!function.operator).then_some(function.name);
    /// Operators of a symbol.
    operators: ScalarFunction = SCALARS, |function| function.operator.then_some(function.name);
    /// Aggregates of a name.
    aggregates: AggregateFunction = AGGREGATES, |function| Some(function.name);
    /// Set-returning functions of a name.
    table_functions: TableFunction = TABLE_FUNCTIONS, |function| Some(function.name);
}

/// Every scalar function and operator.
pub fn all_scalars() -> impl Iterator<Item = &'static ScalarFunction> {
    SCALARS.iter().flat_map(|group| group.iter())
}

/// Every aggregate.
pub fn all_aggregates() -> impl Iterator<Item = &'static AggregateFunction> {
    AGGREGATES.iter().flat_map(|group| group.iter())
}

/// Every set-returning function.
pub fn all_table_functions() -> impl Iterator<Item = &'static TableFunction> {
    TABLE_FUNCTIONS.iter().flat_map(|group| group.iter())
}

/// Names of all functions, sorted: scalar ones (operators aside), aggregates, set-returning ones.
pub fn names() -> [std::collections::BTreeSet<&'static str>; 3] {
    let scalars = SCALARS.iter().copied().flatten().filter(|function| !function.operator).map(|function| function.name);
    let aggregates = AGGREGATES.iter().copied().flatten().map(|function| function.name);
    let table_functions = TABLE_FUNCTIONS.iter().copied().flatten().map(|function| function.name);
    [scalars.collect(), aggregates.collect(), table_functions.collect()]
}
