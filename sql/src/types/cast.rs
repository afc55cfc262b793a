//! Conversions between types: which there are (`pg_cast` and the conversions through text), in which contexts,
//! and what they do.

mod apply;
mod modifier;
#[cfg(test)]
mod tests;

pub use apply::cast;
pub use modifier::apply_modifier;

use super::{BaseType, Category, DataType};

/// Where a conversion is asked for. Each context allows what those before it allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CastContext {
    /// Anywhere in an expression.
    Implicit,
    /// To a column in INSERT and UPDATE.
    Assignment,
    /// CAST or `::`.
    Explicit,
}

/// Whether values of one type can be converted to another in a context. Modifiers do not matter. An untyped
/// literal can be read as any type.
pub fn can_cast(from: DataType, to: DataType, context: CastContext) -> bool {
    if from.same_type(to) || from.is_unknown() && !matches!(to.base, BaseType::Void) {
        return true;
    }
    cast_context(from, to).is_some_and(|allowed| allowed <= context)
}

/// The least context in which a conversion between two different types is made; `None`: never.
pub fn cast_context(from: DataType, to: DataType) -> Option<CastContext> {
    if from.array && to.array {
        // The elements are converted.
        return if from.base == to.base { Some(CastContext::Implicit) } else { cast_context(unit(from), unit(to)) };
    }
    if !from.array && !to.array {
        if let Some(context) = catalog_cast(from.base, to.base) {
            return Some(context);
        }
        if to.base == BaseType::Any {
            return Some(CastContext::Implicit);
        }
    }
    if matches!(from.base, BaseType::Void) || matches!(to.base, BaseType::Void) {
        return None;
    }
    // Through text: to a string type by assignment, from one explicitly.
    if to.category() == Category::String {
        return Some(CastContext::Assignment);
    }
    let from_string = from.category() == Category::String || from.is_unknown();
    (from_string && to.category() != Category::Pseudo).then_some(CastContext::Explicit)
}

fn unit(array: DataType) -> DataType {
    array.element().unwrap_or(array)
}

/// `pg_cast`.
fn catalog_cast(from: BaseType, to: BaseType) -> Option<CastContext> {
    use BaseType::*;
    use CastContext::*;
    if is_object(from) && is_object(to) {
        // oid to and from its aliases.
        return (from == Oid || to == Oid).then_some(Implicit);
    }
    Some(match (from, to) {
        (Bool, Int4) | (Int4, Bool) | (Int4, InternalChar) | (InternalChar, Int4) => Explicit,
        (Int2, Int4 | Int8 | Float4 | Float8 | Numeric) => Implicit,
        (Int4, Int8 | Float4 | Float8 | Numeric) => Implicit,
        (Int8, Float4 | Float8 | Numeric) => Implicit,
        (Int4 | Int8, Int2) | (Int8, Int4) => Assignment,
        (Float4, Float8) => Implicit,
        (Float4 | Float8, Int2 | Int4 | Int8 | Numeric) | (Float8, Float4) => Assignment,
        (Numeric, Float4 | Float8) => Implicit,
        (Numeric, Int2 | Int4 | Int8) => Assignment,
        (Int2 | Int4 | Int8, to) if is_object(to) => Implicit,
        (from, Int4 | Int8) if is_object(from) => Assignment,
        (Text | Varchar, Regclass) => Implicit,
        (Bool, Text | Varchar | Bpchar) => Assignment,
        (InternalChar, Text) | (Name, Text) | (PgNodeTree, Text) => Implicit,
        (InternalChar, Bpchar | Varchar) | (Name, Bpchar | Varchar) => Assignment,
        (Text | Varchar | Bpchar, InternalChar) => Assignment,
        (Text, Varchar | Bpchar | Name) => Implicit,
        (Varchar, Text | Bpchar | Name) => Implicit,
        (Bpchar, Text | Varchar | Name) => Implicit,
        (Date, Timestamp | Timestamptz) | (Timestamp, Timestamptz) => Implicit,
        (Timestamp, Date | Time) | (Timestamptz, Date | Time | Timestamp) => Assignment,
        (Time, Interval) => Implicit,
        (Interval, Time) => Assignment,
        (Json, Jsonb) | (Jsonb, Json) => Assignment,
        (Jsonb, Bool | Numeric | Float4 | Float8 | Int2 | Int4 | Int8) => Explicit,
        _ => return None,
    })
}

/// oid and the types that print an OID as a name.
fn is_object(base: BaseType) -> bool {
    use BaseType::*;
    matches!(base, Oid | Regproc | Regclass | Regtype | Regnamespace | Regrole)
}
