//! Types and what hangs on them: `pg_type`, `pg_cast`, `pg_collation`, `pg_am`, `pg_language`.

use super::SystemContext;
use super::relations::{by_value, type_layout};
use super::rows::{Rows, row, system_views};
use crate::catalog::PG_CATALOG_OID;
use crate::error::Result;
use crate::types::cast::{CastContext, cast_context};
use crate::types::{BaseType, DataType, TYPES};

system_views! { "pg_catalog"
    1247 pg_type = pg_type {
        oid: OID, typname: NAME, typnamespace: OID, typowner: OID, typlen: INT2, typbyval: BOOL,
        typtype: INTERNAL_CHAR, typcategory: INTERNAL_CHAR, typispreferred: BOOL, typisdefined: BOOL,
        typdelim: INTERNAL_CHAR, typrelid: OID, typsubscript: REGPROC, typelem: OID, typarray: OID,
        typinput: REGPROC, typoutput: REGPROC, typreceive: REGPROC, typsend: REGPROC, typmodin: REGPROC,
        typmodout: REGPROC, typanalyze: REGPROC, typalign: INTERNAL_CHAR, typstorage: INTERNAL_CHAR,
        typnotnull: BOOL, typbasetype: OID, typtypmod: INT4, typndims: INT4, typcollation: OID,
        typdefaultbin: NODE_TREE, typdefault: TEXT, typacl: TEXT_ARRAY
    }
    3456 pg_collation = pg_collation {
        oid: OID, collname: NAME, collnamespace: OID, collowner: OID, collprovider: INTERNAL_CHAR,
        collisdeterministic: BOOL, collencoding: INT4, collcollate: TEXT, collctype: TEXT, colliculocale: TEXT,
        collversion: TEXT
    }
    2601 pg_am = pg_am {
        oid: OID, amname: NAME, amhandler: REGPROC, amtype: INTERNAL_CHAR
    }
    2605 pg_cast = pg_cast {
        oid: OID, castsource: OID, casttarget: OID, castfunc: OID, castcontext: INTERNAL_CHAR,
        castmethod: INTERNAL_CHAR
    }
    2612 pg_language = pg_language {
        oid: OID, lanname: NAME, lanowner: OID, lanispl: BOOL, lanpltrusted: BOOL, lanplcallfoid: OID,
        laninline: OID, lanvalidator: OID, lanacl: TEXT_ARRAY
    }
}

/// Input, output, receive and send functions, as OIDs of Postgres' `pg_proc`.
fn io_functions(base: BaseType) -> (u32, u32, u32, u32) {
    use BaseType::*;
    match base {
        Bool => (1242, 1243, 2436, 2437),
        Bytea => (1244, 31, 2412, 2413),
        InternalChar => (1245, 33, 2434, 2435),
        Name => (34, 35, 2422, 2423),
        Int8 => (460, 461, 2408, 2409),
        Int2 => (38, 39, 2404, 2405),
        Int2Vector => (40, 41, 2410, 2411),
        Int4 => (42, 43, 2406, 2407),
        Regproc => (44, 45, 2444, 2445),
        Text => (46, 47, 2414, 2415),
        Oid => (1798, 1799, 2418, 2419),
        Xid => (50, 51, 2440, 2441),
        OidVector => (54, 55, 2420, 2421),
        Json => (321, 322, 323, 324),
        PgNodeTree => (195, 196, 197, 198),
        Float4 => (200, 201, 2424, 2425),
        Float8 => (214, 215, 2426, 2427),
        Unknown => (109, 110, 2416, 2417),
        Bpchar => (1044, 1045, 2430, 2431),
        Varchar => (1046, 1047, 2432, 2433),
        Date => (1084, 1085, 2468, 2469),
        Time => (1143, 1144, 2470, 2471),
        Timestamp => (1312, 1313, 2474, 2475),
        Timestamptz => (1150, 1151, 2476, 2477),
        Interval => (1160, 1161, 2478, 2479),
        Numeric => (1701, 1702, 2460, 2461),
        Regclass => (2218, 2219, 2452, 2453),
        Regtype => (2220, 2221, 2454, 2455),
        Record => (2290, 2291, 2402, 2403),
        Uuid => (2952, 2953, 2961, 2962),
        PgLsn => (3229, 3230, 3238, 3239),
        Jsonb => (3806, 3804, 3805, 3803),
        Regnamespace => (4084, 4085, 4087, 4088),
        Regrole => (4098, 4092, 4094, 4095),
        _ => (0, 0, 0, 0),
    }
}

/// Casts are numbered from here, where Postgres numbers its own.
const FIRST_CAST_OID: u32 = 10_034;

/// `array_in`, `array_out`, `array_recv`, `array_send`.
const ARRAY_IO: (u32, u32, u32, u32) = (750, 751, 2400, 2401);

fn pg_type(_: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for info in TYPES {
        let base = DataType::new(info.base);
        add_type(rows, base, info.array_oid, io_functions(info.base));
        if info.array_oid != 0 {
            add_type(rows, base.to_array(), 0, ARRAY_IO);
        }
    }
    Ok(())
}

fn add_type(rows: &mut Rows, data_type: DataType, array: u32, functions: (u32, u32, u32, u32)) {
    let (align, storage, collation) = type_layout(data_type);
    let category = char::from(data_type.category() as u8).to_string();
    let pseudo = matches!(category.as_str(), "P" | "X");
    let element = data_type.element().map_or(0, DataType::oid);
    // array_subscript_handler
    let subscript = if data_type.array { 6179u32 } else { 0 };
    row!(rows,
        oid: data_type.oid(), typname: data_type.internal_name(), typnamespace: PG_CATALOG_OID, typowner: 10u32,
        typlen: data_type.length(), typbyval: by_value(data_type), typtype: if pseudo { "p" } else { "b" },
        typcategory: category, typispreferred: data_type.is_preferred(), typisdefined: true, typdelim: ",",
        typsubscript: subscript, typelem: element, typarray: array, typinput: functions.0, typoutput: functions.1,
        typreceive: functions.2, typsend: functions.3, typalign: align, typstorage: storage, typtypmod: -1i32,
        typcollation: collation);
}

fn pg_collation(_: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for (oid, name, provider, locale) in
        [(100u32, "default", "d", None), (950, "C", "c", Some("C")), (951, "POSIX", "c", Some("POSIX"))]
    {
        row!(rows,
            oid: oid, collname: name, collnamespace: PG_CATALOG_OID, collowner: 10u32, collprovider: provider,
            collisdeterministic: true, collencoding: -1i32, collcollate: locale, collctype: locale);
    }
    Ok(())
}

fn pg_am(_: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    row!(rows, oid: 2u32, amname: "heap", amhandler: 3u32, amtype: "t");
    row!(rows, oid: 403u32, amname: "btree", amhandler: 330u32, amtype: "i");
    Ok(())
}

fn pg_cast(_: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    let types =
        || TYPES.iter().map(|info| DataType::new(info.base)).filter(|data_type| !data_type.base.is_polymorphic());
    let mut oid = FIRST_CAST_OID;
    for from in types() {
        for to in types().filter(|to| *to != from) {
            let Some(context) = cast_context(from, to) else { continue };
            let letter = match context {
                CastContext::Implicit => "i",
                CastContext::Assignment => "a",
                CastContext::Explicit => "e",
            };
            row!(rows, oid: oid, castsource: from.oid(), casttarget: to.oid(), castcontext: letter, castmethod: "i");
            oid += 1;
        }
    }
    Ok(())
}

fn pg_language(_: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for (oid, name, trusted) in [(12u32, "internal", false), (13, "c", false), (14, "sql", true)] {
        row!(rows, oid: oid, lanname: name, lanowner: 10u32, lanpltrusted: trusted);
    }
    Ok(())
}
