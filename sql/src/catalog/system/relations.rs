//! Relations and what belongs to them: `pg_class`, `pg_attribute`, `pg_index`, `pg_constraint` and more.

use super::rows::{Rows, ToDatum, int2_array, int2_vector, oid_vector, row, system_views, text_array_or_null};
use super::{SystemContext, views};
use crate::catalog::{Column, INFORMATION_SCHEMA_OID, Oid, PG_CATALOG_OID, Relation, Table, TableIndex, class};
use crate::error::Result;
use crate::types::{BaseType, DataType, Datum};

system_views! { "pg_catalog"
    2615 pg_namespace = pg_namespace {
        oid: OID, nspname: NAME, nspowner: OID, nspacl: TEXT_ARRAY
    }
    1259 pg_class = pg_class {
        oid: OID, relname: NAME, relnamespace: OID, reltype: OID, reloftype: OID, relowner: OID, relam: OID,
        relfilenode: OID, reltablespace: OID, relpages: INT4, reltuples: FLOAT4, relallvisible: INT4,
        reltoastrelid: OID, relhasindex: BOOL, relisshared: BOOL, relpersistence: INTERNAL_CHAR,
        relkind: INTERNAL_CHAR, relnatts: INT2, relchecks: INT2, relhasrules: BOOL, relhastriggers: BOOL,
        relhassubclass: BOOL, relrowsecurity: BOOL, relforcerowsecurity: BOOL, relispopulated: BOOL,
        relreplident: INTERNAL_CHAR, relispartition: BOOL, relrewrite: OID, relfrozenxid: XID, relminmxid: XID,
        relacl: TEXT_ARRAY, reloptions: TEXT_ARRAY, relpartbound: NODE_TREE
    }
    1249 pg_attribute = pg_attribute {
        attrelid: OID, attname: NAME, atttypid: OID, attstattarget: INT4, attlen: INT2, attnum: INT2,
        attndims: INT4, attcacheoff: INT4, atttypmod: INT4, attbyval: BOOL, attalign: INTERNAL_CHAR,
        attstorage: INTERNAL_CHAR, attcompression: INTERNAL_CHAR, attnotnull: BOOL, atthasdef: BOOL,
        atthasmissing: BOOL, attidentity: INTERNAL_CHAR, attgenerated: INTERNAL_CHAR, attisdropped: BOOL,
        attislocal: BOOL, attinhcount: INT4, attcollation: OID, attacl: TEXT_ARRAY, attoptions: TEXT_ARRAY,
        attfdwoptions: TEXT_ARRAY, attmissingval: ANY_ARRAY
    }
    2604 pg_attrdef = pg_attrdef {
        oid: OID, adrelid: OID, adnum: INT2, adbin: NODE_TREE
    }
    2610 pg_index = pg_index {
        indexrelid: OID, indrelid: OID, indnatts: INT2, indnkeyatts: INT2, indisunique: BOOL,
        indnullsnotdistinct: BOOL, indisprimary: BOOL, indisexclusion: BOOL, indimmediate: BOOL,
        indisclustered: BOOL, indisvalid: BOOL, indcheckxmin: BOOL, indisready: BOOL, indislive: BOOL,
        indisreplident: BOOL, indkey: INT2_VECTOR, indcollation: OID_VECTOR, indclass: OID_VECTOR,
        indoption: INT2_VECTOR, indexprs: NODE_TREE, indpred: NODE_TREE
    }
    2606 pg_constraint = pg_constraint {
        oid: OID, conname: NAME, connamespace: OID, contype: INTERNAL_CHAR, condeferrable: BOOL, condeferred: BOOL,
        convalidated: BOOL, conrelid: OID, contypid: OID, conindid: OID, conparentid: OID, confrelid: OID,
        confupdtype: INTERNAL_CHAR, confdeltype: INTERNAL_CHAR, confmatchtype: INTERNAL_CHAR, conislocal: BOOL,
        coninhcount: INT4, connoinherit: BOOL, conkey: INT2_ARRAY, confkey: INT2_ARRAY, conpfeqop: OID_ARRAY,
        conppeqop: OID_ARRAY, conffeqop: OID_ARRAY, confdelsetcols: INT2_ARRAY, conexclop: OID_ARRAY,
        conbin: NODE_TREE
    }
    2224 pg_sequence = pg_sequence {
        seqrelid: OID, seqtypid: OID, seqstart: INT8, seqincrement: INT8, seqmax: INT8, seqmin: INT8,
        seqcache: INT8, seqcycle: BOOL
    }
    2618 pg_rewrite = pg_rewrite {
        oid: OID, rulename: NAME, ev_class: OID, ev_type: INTERNAL_CHAR, ev_enabled: INTERNAL_CHAR,
        is_instead: BOOL, ev_qual: NODE_TREE, ev_action: NODE_TREE
    }
    2608 pg_depend = pg_depend {
        classid: OID, objid: OID, objsubid: INT4, refclassid: OID, refobjid: OID, refobjsubid: INT4,
        deptype: INTERNAL_CHAR
    }
    2609 pg_description = pg_description {
        objoid: OID, classoid: OID, objsubid: INT4, description: TEXT
    }
    2396 pg_shdescription = pg_shdescription {
        objoid: OID, classoid: OID, description: TEXT
    }
    2619 pg_statistic = pg_statistic {
        starelid: OID, staattnum: INT2, stainherit: BOOL, stanullfrac: FLOAT4, stawidth: INT4, stadistinct: FLOAT4,
        stakind1: INT2, stakind2: INT2, stakind3: INT2, stakind4: INT2, stakind5: INT2, staop1: OID, staop2: OID,
        staop3: OID, staop4: OID, staop5: OID, stacoll1: OID, stacoll2: OID, stacoll3: OID, stacoll4: OID,
        stacoll5: OID, stanumbers1: FLOAT4_ARRAY, stanumbers2: FLOAT4_ARRAY, stanumbers3: FLOAT4_ARRAY,
        stanumbers4: FLOAT4_ARRAY, stanumbers5: FLOAT4_ARRAY, stavalues1: ANY_ARRAY, stavalues2: ANY_ARRAY,
        stavalues3: ANY_ARRAY, stavalues4: ANY_ARRAY, stavalues5: ANY_ARRAY
    }
}

/// `pg_am.oid` of what tables are shown to be, and of indexes.
const HEAP: Oid = 2;
const BTREE: Oid = 403;
/// Bytes of a page, for `relpages`.
const PAGE_BYTES: f64 = 8192.0;

/// OIDs of things that have none of their own here (defaults, rules), in a range that is never allocated.
fn derived_oid(relation: Oid, sub: u32) -> Oid {
    let mixed = (u64::from(relation) << 12 | u64::from(sub & 0xFFF)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    0x8000_0000 | (mixed >> 33) as u32
}

fn pg_namespace(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for (oid, name) in [(PG_CATALOG_OID, "pg_catalog"), (INFORMATION_SCHEMA_OID, "information_schema")] {
        row!(rows, oid: oid, nspname: name, nspowner: 10u32);
    }
    for schema in context.catalog.schemas() {
        row!(rows, oid: schema.oid, nspname: &schema.name, nspowner: schema.owner);
    }
    Ok(())
}

/// Every index of a table, the primary key's first.
pub(super) fn indexes_of(table: &std::sync::Arc<Table>) -> impl Iterator<Item = TableIndex> + '_ {
    let primary = table.primary_key.iter().map(|_| TableIndex { table: table.clone(), index: None });
    let others = table.indexes.iter();
    primary.chain(others.map(|index| TableIndex { table: table.clone(), index: Some(index.clone()) }))
}

fn pg_class(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    let catalog = context.catalog;
    for table in catalog.tables() {
        let statistics = table.statistics.as_ref();
        let pages = statistics.map_or(0.0, |found| (found.rows * found.row_bytes / PAGE_BYTES).ceil());
        let acl = catalog.acl(&Relation::Table(table.clone()));
        row!(rows,
            oid: table.oid, relname: &table.name, relnamespace: table.schema, relowner: table.owner, relam: HEAP,
            relfilenode: table.oid, relpages: pages as i32,
            reltuples: statistics.map_or(-1.0, |found| found.rows as f32),
            relhasindex: table.primary_key.is_some() || !table.indexes.is_empty(), relpersistence: "p",
            relkind: "r", relnatts: table.columns.len() as i16, relchecks: table.checks.len() as i16,
            relhastriggers: !table.foreign_keys.is_empty() || !catalog.references_to(table.oid).is_empty(),
            relispopulated: true, relreplident: "d", relacl: text_array_or_null(&acl),
            reloptions: text_array_or_null(&table.options));
        for index in indexes_of(table) {
            let options = index.index.as_ref().map_or(&[][..], |index| &index.options);
            row!(rows,
                oid: index.oid(), relname: index.name(), relnamespace: table.schema, relowner: table.owner,
                relam: BTREE, relfilenode: index.oid(), relpages: 1i32,
                reltuples: statistics.map_or(-1.0, |found| found.rows as f32), relpersistence: "p", relkind: "i",
                relnatts: index.columns().len() as i16, relispopulated: true, relreplident: "n",
                reloptions: text_array_or_null(options));
        }
    }
    for view in catalog.views() {
        let acl = catalog.acl(&Relation::View(view.clone()));
        row!(rows,
            oid: view.oid, relname: &view.name, relnamespace: view.schema, relowner: view.owner,
            reltuples: -1.0f32, relpersistence: "p", relkind: "v", relnatts: view.columns.len() as i16,
            relhasrules: true, relispopulated: true, relreplident: "n", relacl: text_array_or_null(&acl));
    }
    for sequence in catalog.sequences() {
        let acl = catalog.acl(&Relation::Sequence(sequence.clone()));
        row!(rows,
            oid: sequence.oid, relname: &sequence.name, relnamespace: sequence.schema, relowner: sequence.owner,
            relfilenode: sequence.oid, relpages: 1i32, reltuples: 1.0f32, relpersistence: "p", relkind: "S",
            relnatts: 3i16, relispopulated: true, relreplident: "n", relacl: text_array_or_null(&acl));
    }
    for view in views() {
        row!(rows,
            oid: view.oid, relname: view.name, relnamespace: view.schema_oid(), relowner: 10u32,
            reltuples: -1.0f32, relpersistence: "p", relkind: if view.is_table() { "r" } else { "v" },
            relnatts: view.columns.len() as i16, relhasrules: !view.is_table(), relispopulated: true,
            relam: if view.is_table() { HEAP } else { 0 }, relreplident: "n");
    }
    Ok(())
}

/// `attalign` by length, `attstorage`, `attcollation`.
pub(super) fn type_layout(data_type: DataType) -> (&'static str, &'static str, Oid) {
    let length = data_type.length();
    let align = match (data_type.base, length) {
        (BaseType::Name | BaseType::Uuid | BaseType::Unknown, _) if !data_type.array => "c",
        (BaseType::Interval, _) if !data_type.array => "d",
        (_, 1) => "c",
        (_, 2) => "s",
        (_, 8) => "d",
        _ => "i",
    };
    let storage = match data_type.base {
        _ if data_type.array => "x",
        BaseType::Numeric => "m",
        BaseType::Int2Vector | BaseType::OidVector => "p",
        _ if length == -1 => "x",
        _ => "p",
    };
    let collation = match data_type.base {
        BaseType::Text | BaseType::Varchar | BaseType::Bpchar | BaseType::PgNodeTree => 100,
        BaseType::Name => 950,
        _ => 0,
    };
    (align, storage, collation)
}

/// Whether values are passed by value: `typbyval`.
pub(super) fn by_value(data_type: DataType) -> bool {
    !data_type.array && matches!(data_type.length(), 1 | 2 | 4 | 8)
}

fn add_attribute(rows: &mut Rows, relation: Oid, number: i16, column: &Column) {
    let data_type = column.data_type;
    let (align, storage, collation) = type_layout(data_type);
    let name = match column.dropped {
        true => format!("........pg.dropped.{number}........"),
        false => column.name.clone(),
    };
    row!(rows,
        attrelid: relation, attname: name, atttypid: if column.dropped { 0 } else { data_type.oid() },
        attstattarget: -1i32, attlen: data_type.length(), attnum: number, attndims: i32::from(data_type.array),
        attcacheoff: -1i32, atttypmod: data_type.modifier, attbyval: by_value(data_type), attalign: align,
        attstorage: storage, attnotnull: column.not_null, atthasdef: column.default.is_some(),
        atthasmissing: !column.missing.is_null(),
        attidentity: column.identity.map_or("", |identity| if identity.always { "a" } else { "d" }),
        attisdropped: column.dropped, attislocal: true, attcollation: collation);
}

/// What `SELECT * FROM sequence` shows.
pub const SEQUENCE_COLUMNS: &[(&str, DataType)] =
    &[("last_value", DataType::INT8), ("log_cnt", DataType::INT8), ("is_called", DataType::BOOL)];

fn pg_attribute(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    let add_plain = |rows: &mut Rows, oid: Oid, at: usize, name: &str, data_type: DataType, not_null: bool| {
        add_attribute(rows, oid, at as i16 + 1, &Column { not_null, ..Column::new(name, data_type) });
    };
    for table in context.catalog.tables() {
        for (at, column) in table.columns.iter().enumerate() {
            add_attribute(rows, table.oid, at as i16 + 1, column);
        }
        for index in indexes_of(table) {
            for (at, indexed) in index.columns().iter().enumerate() {
                let column = &table.columns[indexed.column];
                add_plain(rows, index.oid(), at, &column.name, column.data_type, false);
            }
        }
    }
    for view in context.catalog.views() {
        for (at, (name, data_type)) in view.columns.iter().enumerate() {
            add_plain(rows, view.oid, at, name, *data_type, false);
        }
    }
    for sequence in context.catalog.sequences() {
        for (at, (name, data_type)) in SEQUENCE_COLUMNS.iter().enumerate() {
            add_plain(rows, sequence.oid, at, name, *data_type, true);
        }
    }
    for view in views() {
        for (at, (name, data_type)) in view.columns.iter().enumerate() {
            add_plain(rows, view.oid, at, name, *data_type, false);
        }
    }
    Ok(())
}

fn pg_attrdef(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    let search_path = context.search_path();
    for table in context.catalog.tables() {
        for (at, column) in table.live_columns() {
            if let Some(text) = context.catalog.default_definition(column, &search_path) {
                let number = at as i16 + 1;
                row!(rows, oid: derived_oid(table.oid, at as u32), adrelid: table.oid, adnum: number, adbin: text);
            }
        }
    }
    Ok(())
}

/// `pg_opclass.oid` of the default B-tree operator class.
fn operator_class(base: BaseType) -> Oid {
    match base {
        BaseType::Int2 => 1979,
        BaseType::Int4 => 1978,
        BaseType::Int8 => 3124,
        BaseType::Oid => 1981,
        BaseType::Text | BaseType::Varchar => 3126,
        BaseType::Numeric => 3125,
        BaseType::Timestamptz => 3127,
        BaseType::Timestamp => 3128,
        BaseType::Date => 3122,
        BaseType::Float8 => 3123,
        _ => 0,
    }
}

fn pg_index(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for table in context.catalog.tables() {
        for index in indexes_of(table) {
            let columns = index.columns();
            let valid = index.index.as_ref().is_none_or(|index| index.valid);
            let data_type = |column: &crate::catalog::IndexColumn| table.columns[column.column].data_type;
            let option = |column: &crate::catalog::IndexColumn| {
                i16::from(column.descending) | i16::from(column.nulls_first) << 1
            };
            row!(rows,
                indexrelid: index.oid(), indrelid: table.oid, indnatts: columns.len() as i16,
                indnkeyatts: columns.len() as i16, indisunique: index.unique(), indisprimary: index.index.is_none(),
                indimmediate: true, indisclustered: false, indisvalid: valid, indisready: true,
                indislive: true, indkey: int2_vector(columns.iter().map(|column| column.column as i16 + 1)),
                indcollation: oid_vector(columns.iter().map(|column| type_layout(data_type(column)).2)),
                indclass: oid_vector(columns.iter().map(|column| operator_class(data_type(column).base))),
                indoption: int2_vector(columns.iter().map(option)));
        }
    }
    Ok(())
}

fn pg_constraint(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for table in context.catalog.tables() {
        for index in indexes_of(table) {
            let Some(oid) = index.constraint_oid() else { continue };
            row!(rows,
                oid: oid, conname: index.name(), connamespace: table.schema,
                contype: if index.index.is_none() { "p" } else { "u" }, convalidated: true, conrelid: table.oid,
                conindid: index.oid(), confupdtype: " ", confdeltype: " ", confmatchtype: " ", conislocal: true,
                connoinherit: true, conkey: int2_array(index.columns().iter().map(|column| column.column as i16 + 1)));
        }
        for check in &table.checks {
            let mentioned = table
                .live_columns()
                .filter(|(_, column)| super::super::ddl::mentions_column(&check.expression, column).unwrap_or(false));
            let columns: Vec<i16> = mentioned.map(|(at, _)| at as i16 + 1).collect();
            row!(rows,
                oid: check.oid, conname: &check.name, connamespace: table.schema, contype: "c", convalidated: true,
                conrelid: table.oid, confupdtype: " ", confdeltype: " ", confmatchtype: " ", conislocal: true,
                conkey: int2_array(columns), conbin: &check.expression);
        }
        for key in &table.foreign_keys {
            row!(rows,
                oid: key.oid, conname: &key.name, connamespace: table.schema, contype: "f", convalidated: true,
                conrelid: table.oid, conindid: key.parent_index, confrelid: key.parent,
                confupdtype: key.on_update.letter(), confdeltype: key.on_delete.letter(),
                confmatchtype: if key.match_full { "f" } else { "s" }, conislocal: true, connoinherit: true,
                conkey: int2_array(key.columns.iter().map(|column| *column as i16 + 1)),
                confkey: int2_array(key.parent_columns.iter().map(|column| *column as i16 + 1)));
        }
    }
    Ok(())
}

fn pg_sequence(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for sequence in context.catalog.sequences() {
        row!(rows,
            seqrelid: sequence.oid, seqtypid: sequence.data_type.oid(), seqstart: sequence.start,
            seqincrement: sequence.increment, seqmax: sequence.max, seqmin: sequence.min, seqcache: sequence.cache,
            seqcycle: sequence.cycle);
    }
    Ok(())
}

fn pg_rewrite(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for view in context.catalog.views() {
        row!(rows,
            oid: derived_oid(view.oid, 0), rulename: "_RETURN", ev_class: view.oid, ev_type: "1", ev_enabled: "O",
            is_instead: true, ev_qual: "<>", ev_action: &view.query);
    }
    Ok(())
}

fn pg_depend(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    const REWRITE: Oid = 2618;
    const DEFAULT: Oid = 2604;
    let mut add = |(classid, objid, objsubid): (Oid, Oid, i32),
                   (refclassid, refobjid, refobjsubid): (Oid, Oid, i32),
                   deptype: &str| {
        row!(rows,
            classid: classid, objid: objid, objsubid: objsubid, refclassid: refclassid, refobjid: refobjid,
            refobjsubid: refobjsubid, deptype: deptype);
    };
    let catalog = context.catalog;
    for sequence in catalog.sequences() {
        if let Some((table, column)) = sequence.owned_by {
            let kind = if sequence.identity { "i" } else { "a" };
            add((class::RELATION, sequence.oid, 0), (class::RELATION, table, column as i32 + 1), kind);
        }
    }
    for view in catalog.views() {
        let rule = (REWRITE, derived_oid(view.oid, 0), 0);
        add(rule, (class::RELATION, view.oid, 0), "i");
        for dependency in &view.dependencies {
            add(rule, (class::RELATION, *dependency, 0), "n");
        }
    }
    for table in catalog.tables() {
        add((class::RELATION, table.oid, 0), (class::SCHEMA, table.schema, 0), "n");
        for index in indexes_of(table) {
            let referenced = match index.constraint_oid() {
                Some(constraint) => (class::CONSTRAINT, constraint, 0),
                None => (class::RELATION, table.oid, 0),
            };
            let kind = if index.constraint_oid().is_some() { "i" } else { "a" };
            add((class::RELATION, index.oid(), 0), referenced, kind);
        }
        for key in &table.foreign_keys {
            let own = (class::CONSTRAINT, key.oid, 0);
            for column in &key.columns {
                add(own, (class::RELATION, table.oid, *column as i32 + 1), "a");
            }
            for column in &key.parent_columns {
                add(own, (class::RELATION, key.parent, *column as i32 + 1), "n");
            }
            add(own, (class::RELATION, key.parent_index, 0), "n");
        }
        for (at, column) in table.live_columns() {
            let Some(default) = &column.default else { continue };
            let own = (DEFAULT, derived_oid(table.oid, at as u32), 0);
            add(own, (class::RELATION, table.oid, at as i32 + 1), "a");
            for sequence in super::super::ddl::sequences_of(default) {
                add(own, (class::RELATION, sequence, 0), "n");
            }
        }
    }
    Ok(())
}

fn is_shared(class: Oid) -> bool {
    class == class::DATABASE || class == class::ROLE
}

fn pg_description(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for (class, object, sub, text) in context.catalog.comments().filter(|(class, ..)| !is_shared(*class)) {
        row!(rows, objoid: object, classoid: class, objsubid: sub, description: text);
    }
    Ok(())
}

fn pg_shdescription(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for (class, object, _, text) in context.catalog.comments().filter(|(class, ..)| is_shared(*class)) {
        row!(rows, objoid: object, classoid: class, description: text);
    }
    Ok(())
}

fn pg_statistic(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for table in context.catalog.tables() {
        let Some(statistics) = &table.statistics else { continue };
        for (at, column) in statistics.columns.iter().enumerate().take(table.columns.len()) {
            row!(rows,
                starelid: table.oid, staattnum: at as i16 + 1, stanullfrac: column.null_fraction as f32,
                stadistinct: column.distinct as f32,
                stakind1: if column.common.is_empty() { 0i16 } else { 1 },
                stakind2: if column.histogram.is_empty() { 0i16 } else { 2 },
                stanumbers1: super::rows::float4_array(column.common.iter().map(|(_, share)| *share as f32)),
                stavalues1: Datum::Null.to_datum());
        }
    }
    Ok(())
}
