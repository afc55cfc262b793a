//! Functions, operators and aggregates: `pg_proc`, `pg_operator`, `pg_aggregate`, from the function registry.
//!
//! OIDs count from [`FIRST_ROUTINE_OID`] in the registry's order, in the range where Postgres numbers what it
//! creates while a cluster is made: they are stable within a version, as there.

use super::SystemContext;
use super::rows::{Rows, oid_vector, row, system_views};
use crate::catalog::PG_CATALOG_OID;
use crate::error::Result;
use crate::functions::registry::{all_aggregates, all_scalars, all_table_functions};
use crate::functions::{AggregateFunction, ScalarFunction, TableFunction, Volatility};
use crate::types::{BaseType, DataType};

system_views! { "pg_catalog"
    1255 pg_proc = pg_proc {
        oid: OID, proname: NAME, pronamespace: OID, proowner: OID, prolang: OID, procost: FLOAT4, prorows: FLOAT4,
        provariadic: OID, prosupport: REGPROC, prokind: INTERNAL_CHAR, prosecdef: BOOL, proleakproof: BOOL,
        proisstrict: BOOL, proretset: BOOL, provolatile: INTERNAL_CHAR, proparallel: INTERNAL_CHAR, pronargs: INT2,
        pronargdefaults: INT2, prorettype: OID, proargtypes: OID_VECTOR, proallargtypes: OID_ARRAY,
        proargmodes: CHAR_ARRAY, proargnames: TEXT_ARRAY, proargdefaults: NODE_TREE, protrftypes: OID_ARRAY,
        prosrc: TEXT, probin: TEXT, prosqlbody: NODE_TREE, proconfig: TEXT_ARRAY, proacl: TEXT_ARRAY
    }
    2617 pg_operator = pg_operator {
        oid: OID, oprname: NAME, oprnamespace: OID, oprowner: OID, oprkind: INTERNAL_CHAR, oprcanmerge: BOOL,
        oprcanhash: BOOL, oprleft: OID, oprright: OID, oprresult: OID, oprcom: OID, oprnegate: OID,
        oprcode: REGPROC, oprrest: REGPROC, oprjoin: REGPROC
    }
    2600 pg_aggregate = pg_aggregate {
        aggfnoid: REGPROC, aggkind: INTERNAL_CHAR, aggnumdirectargs: INT2, aggtransfn: REGPROC, aggfinalfn: REGPROC,
        aggcombinefn: REGPROC, aggserialfn: REGPROC, aggdeserialfn: REGPROC, aggmtransfn: REGPROC,
        aggminvtransfn: REGPROC, aggmfinalfn: REGPROC, aggfinalextra: BOOL, aggmfinalextra: BOOL,
        aggfinalmodify: INTERNAL_CHAR, aggmfinalmodify: INTERNAL_CHAR, aggsortop: OID, aggtranstype: OID,
        aggtransspace: INT4, aggmtranstype: OID, aggmtransspace: INT4, agginitval: TEXT, aggminitval: TEXT
    }
}

/// The first function's OID; operators follow Postgres' own range.
const FIRST_ROUTINE_OID: u32 = 10_100;
/// `pg_language.oid` of `internal`.
const INTERNAL: u32 = 12;

/// What `pg_proc` has a row of.
#[derive(Clone, Copy)]
enum Routine {
    Scalar(&'static ScalarFunction),
    Aggregate(&'static AggregateFunction),
    Table(&'static TableFunction),
}

/// All routines with their OIDs; an operator's function is one too.
fn routines() -> impl Iterator<Item = (u32, Routine)> {
    let scalars = all_scalars().map(Routine::Scalar);
    let all = scalars.chain(all_aggregates().map(Routine::Aggregate)).chain(all_table_functions().map(Routine::Table));
    (FIRST_ROUTINE_OID..).zip(all)
}

fn routine(oid: u32) -> Option<Routine> {
    routines().find(|(known, _)| *known == oid).map(|(_, routine)| routine)
}

impl Routine {
    fn args(self) -> &'static [DataType] {
        match self {
            Routine::Scalar(function) => function.args,
            Routine::Aggregate(function) => function.args,
            Routine::Table(function) => function.args,
        }
    }

    fn result(self) -> DataType {
        match self {
            Routine::Scalar(function) => function.result,
            Routine::Aggregate(function) => function.result,
            Routine::Table(TableFunction { columns: [(_, data_type)], .. }) => *data_type,
            Routine::Table(_) => DataType::RECORD,
        }
    }
}

fn pg_proc(_: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for (oid, routine) in routines() {
        // An operator's function has another name in Postgres, which nobody calls it by.
        let (name, kind, strict, set, volatility, variadic) = match routine {
            Routine::Scalar(function) if function.operator => continue,
            Routine::Scalar(f) => (f.name, "f", f.strict, false, f.volatility, f.variadic),
            Routine::Aggregate(function) => (function.name, "a", false, false, Volatility::Immutable, false),
            Routine::Table(function) => (function.name, "f", true, true, Volatility::Immutable, false),
        };
        let volatility = match volatility {
            Volatility::Immutable => "i",
            Volatility::Stable => "s",
            Volatility::Volatile => "v",
        };
        let args = routine.args();
        let last = args.last().filter(|_| variadic).map_or(0, |data_type| data_type.oid());
        row!(rows,
            oid: oid, proname: name, pronamespace: PG_CATALOG_OID, proowner: 10u32, prolang: INTERNAL,
            procost: 1.0f32, prorows: if set { 1000.0f32 } else { 0.0 }, provariadic: last, prokind: kind,
            proisstrict: strict, proretset: set, provolatile: volatility, proparallel: "s",
            pronargs: args.len() as i16, prorettype: routine.result().oid(),
            proargtypes: oid_vector(args.iter().map(|data_type| data_type.oid())), prosrc: name);
    }
    Ok(())
}

fn pg_operator(_: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for (oid, routine) in routines() {
        let Routine::Scalar(function) = routine else { continue };
        let (kind, left, right) = match (function.operator, function.args) {
            (true, [right]) => ("l", 0, right.oid()),
            (true, [left, right]) => ("b", left.oid(), right.oid()),
            _ => continue,
        };
        let equality = function.name == "=";
        row!(rows,
            oid: oid, oprname: function.name, oprnamespace: PG_CATALOG_OID, oprowner: 10u32, oprkind: kind,
            oprcanmerge: equality, oprcanhash: equality, oprleft: left, oprright: right,
            oprresult: function.result.oid(), oprcode: oid);
    }
    Ok(())
}

fn pg_aggregate(_: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for (oid, routine) in routines() {
        if let Routine::Aggregate(_) = routine {
            row!(rows, aggfnoid: oid, aggkind: "n", aggfinalmodify: "r", aggmfinalmodify: "r");
        }
    }
    Ok(())
}

/// `pg_get_function_result`
pub(in crate::catalog) fn function_result(oid: u32) -> Option<String> {
    let routine = routine(oid)?;
    let name = routine.result().name();
    Some(if matches!(routine, Routine::Table(_)) { format!("SETOF {name}") } else { name })
}

/// `pg_get_function_arguments`
pub(in crate::catalog) fn function_arguments(oid: u32) -> Option<String> {
    let routine = routine(oid)?;
    let variadic = matches!(routine, Routine::Scalar(function) if function.variadic);
    let last = routine.args().len().saturating_sub(1);
    let shown = routine.args().iter().enumerate().map(|(at, data_type)| {
        let name = if data_type.base == BaseType::Any { "\"any\"".to_owned() } else { data_type.name() };
        if variadic && at == last { format!("VARIADIC {name}") } else { name }
    });
    Some(shown.collect::<Vec<_>>().join(", "))
}
