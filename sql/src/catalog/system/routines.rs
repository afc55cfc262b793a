//! Functions, operators and aggregates: `pg_proc`, `pg_operator`, `pg_aggregate`.

use super::SystemContext;
use super::rows::{Rows, system_views};
use crate::error::Result;

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

fn pg_proc(_: &SystemContext<'_>, _: &mut Rows) -> Result<()> {
    Ok(())
}

fn pg_operator(_: &SystemContext<'_>, _: &mut Rows) -> Result<()> {
    Ok(())
}

fn pg_aggregate(_: &SystemContext<'_>, _: &mut Rows) -> Result<()> {
    Ok(())
}

/// `pg_get_function_result`
pub(in crate::catalog) fn function_result(_: u32) -> Option<String> {
    None
}

/// `pg_get_function_arguments`
pub(in crate::catalog) fn function_arguments(_: u32) -> Option<String> {
    None
}
