//! Coercions: unknown literals and parameters take the type asked for, everything else is cast where
//! Postgres allows it in that context.

use super::Binder;
use super::resolve::{self, Context};
use super::scalar::Scalar;
use crate::error::{Result, SqlError, SqlState};
use crate::types::{DataType, Datum};

impl Binder<'_> {
    /// Brings a scalar to a type, or tells that it cannot be (with Postgres' error for CAST).
    pub(super) fn coerce(&mut self, scalar: Scalar, to: DataType, context: Context) -> Result<Scalar> {
        let from = scalar.data_type();
        match self.try_coerce(scalar, to, context)? {
            Some(scalar) => Ok(scalar),
            None => Err(SqlError::new(
                SqlState::CANNOT_COERCE,
                format!("cannot cast type {} to {}", from.name(), to.name()),
            )),
        }
    }

    /// Brings a scalar to a type; `None` when no such cast is allowed in the context.
    pub(super) fn try_coerce(&mut self, scalar: Scalar, to: DataType, context: Context) -> Result<Option<Scalar>> {
        let from = scalar.data_type();
        if from.is_unknown() && !to.is_unknown() {
            return self.resolve_unknown(scalar, to, context).map(Some);
        }
        if from.same_type(to) {
            let lengthens = to.modifier >= 0 && to.modifier != from.modifier && context != Context::Implicit;
            let relabels = to.modifier < 0 && from.modifier >= 0 && context == Context::Explicit;
            if lengthens {
                return Ok(Some(self.cast(scalar, to, context)));
            }
            if relabels {
                // No work at run time, but the result has no length any more.
                return Ok(Some(relabel(scalar, to)));
            }
            return Ok(Some(scalar));
        }
        if to.is_unknown() || resolve::is_polymorphic(to) {
            return Ok(Some(scalar));
        }
        if context == Context::Implicit && resolve::is_relabelling(from, to) {
            return Ok(Some(scalar));
        }
        if from.array != to.array && resolve::is_relabelling(from, to) {
            return Ok(Some(retype(scalar, to)));
        }
        if !resolve::can_cast(from, to, context) {
            return Ok(None);
        }
        Ok(Some(self.cast(scalar, to, context)))
    }

    /// A cast that is allowed, done at once on literals.
    fn cast(&mut self, scalar: Scalar, to: DataType, context: Context) -> Scalar {
        let explicit = context == Context::Explicit;
        if let Scalar::Literal { value, data_type } = &scalar
            && resolve::cast_is_immutable(*data_type, to)
            && let Ok(value) = resolve::cast(value, *data_type, to, explicit, &self.context.eval)
        {
            return Scalar::Literal { value, data_type: to };
        }
        Scalar::Cast { expr: Box::new(scalar), to, explicit }
    }

    fn resolve_unknown(&mut self, scalar: Scalar, to: DataType, context: Context) -> Result<Scalar> {
        match scalar {
            Scalar::Literal { value: Datum::Null, .. } => Ok(Scalar::null(to)),
            Scalar::Literal { value: Datum::Text(text), .. } => {
                let bare = to.bare();
                let value = resolve::parse_text(&text, bare, &self.context.eval)?;
                let literal = Scalar::Literal { value, data_type: bare };
                if to.modifier >= 0 && context != Context::Implicit {
                    return Ok(self.cast(literal, to, context));
                }
                Ok(literal)
            }
            Scalar::Parameter { index, .. } => {
                let known = self.parameters[index];
                if known.is_unknown() {
                    self.parameters[index] = to.bare();
                } else if !known.same_type(to) {
                    let typed = Scalar::Parameter { index, data_type: known };
                    return match self.try_coerce(typed, to, context)? {
                        Some(scalar) => Ok(scalar),
                        None => Err(SqlError::new(
                            SqlState::AMBIGUOUS_PARAMETER,
                            format!("inconsistent types deduced for parameter ${}", index + 1),
                        )
                        .with_detail(format!("{} versus {}", known.name(), to.name()))),
                    };
                }
                let parameter = Scalar::Parameter { index, data_type: to.bare() };
                if to.modifier >= 0 && context != Context::Implicit {
                    return Ok(self.cast(parameter, to, context));
                }
                Ok(parameter)
            }
            other => Ok(Scalar::Cast { expr: Box::new(other), to, explicit: context == Context::Explicit }),
        }
    }

    /// What stays unknown becomes text, as at the end of a select list.
    pub(super) fn settle(&mut self, scalar: Scalar) -> Result<Scalar> {
        if let Scalar::Record(fields) = scalar {
            return Ok(Scalar::Record(fields.into_iter().map(|field| self.settle(field)).collect::<Result<_>>()?));
        }
        if scalar.data_type().is_unknown() {
            self.coerce(scalar, DataType::TEXT, Context::Implicit)
        } else {
            Ok(scalar)
        }
    }

    /// A condition: must be boolean. `clause` names it in the error.
    pub(super) fn boolean(&mut self, scalar: Scalar, clause: &str) -> Result<Scalar> {
        let from = scalar.data_type();
        match self.try_coerce(scalar, DataType::BOOL, Context::Implicit)? {
            Some(scalar) => Ok(scalar),
            None => Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!("argument of {clause} must be type boolean, not type {}", from.name()),
            )),
        }
    }

    /// The type that several expressions agree on.
    pub(super) fn common_type(&mut self, scalars: &[Scalar], clause: &str) -> Result<DataType> {
        let types: Vec<DataType> = scalars.iter().map(Scalar::data_type).collect();
        crate::functions::common_type(&types, clause)
    }

    /// Coerces all to their common type.
    pub(super) fn unify(&mut self, scalars: Vec<Scalar>, clause: &str) -> Result<(Vec<Scalar>, DataType)> {
        let common = self.common_type(&scalars, clause)?;
        let mut unified = Vec::with_capacity(scalars.len());
        for scalar in scalars {
            unified.push(self.coerce_common(scalar, common, clause)?);
        }
        // A length that all agree on survives.
        let modifier = unified.first().map_or(-1, |scalar| scalar.data_type().modifier);
        let agreed = unified.iter().all(|scalar| {
            scalar.data_type().modifier == modifier || matches!(scalar, Scalar::Literal { value: Datum::Null, .. })
        });
        Ok((unified, if agreed { common.with_modifier(modifier) } else { common }))
    }

    pub(super) fn coerce_common(&mut self, scalar: Scalar, common: DataType, clause: &str) -> Result<Scalar> {
        let from = scalar.data_type();
        if from.same_type(common) {
            return Ok(scalar);
        }
        let relabelled = resolve::is_relabelling(from, common);
        match self.try_coerce(scalar, common, Context::Implicit)? {
            Some(scalar) if relabelled && !scalar.data_type().same_type(common) => Ok(relabel(scalar, common)),
            Some(scalar) => Ok(scalar),
            None => Err(SqlError::new(
                SqlState::CANNOT_COERCE,
                format!("{clause} could not convert type {} to {}", from.name(), common.name()),
            )),
        }
    }
}

/// The same value under another type's name, without a conversion at run time.
fn retype(mut scalar: Scalar, to: DataType) -> Scalar {
    match &mut scalar {
        Scalar::Literal { data_type, .. } | Scalar::Column { data_type, .. } | Scalar::Call { data_type, .. } => {
            *data_type = to;
            scalar
        }
        _ => relabel(scalar, to),
    }
}

/// Another type for the same value.
pub(super) fn relabel(scalar: Scalar, to: DataType) -> Scalar {
    match scalar {
        Scalar::Literal { value, .. } => Scalar::Literal { value, data_type: to },
        other => Scalar::Cast { expr: Box::new(other), to, explicit: false },
    }
}
