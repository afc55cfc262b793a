//! Views for people: `pg_tables`, `pg_views`, `pg_indexes`, `pg_sequences`, `pg_stats`, `pg_stat_…_tables`.

use super::relations::indexes_of;
use super::rows::{Rows, float4_array, row, system_views};
use super::{SystemContext, views};
use crate::catalog::{Oid, Privilege, Table};
use crate::error::Result;
use crate::types::{Array, DataType, Datum};

system_views! { "pg_catalog"
    12033 pg_tables = pg_tables {
        schemaname: NAME, tablename: NAME, tableowner: NAME, tablespace: NAME, hasindexes: BOOL, hasrules: BOOL,
        hastriggers: BOOL, rowsecurity: BOOL
    }
    12028 pg_views = pg_views {
        schemaname: NAME, viewname: NAME, viewowner: NAME, definition: TEXT
    }
    12043 pg_indexes = pg_indexes {
        schemaname: NAME, tablename: NAME, indexname: NAME, tablespace: NAME, indexdef: TEXT
    }
    12048 pg_sequences = pg_sequences {
        schemaname: NAME, sequencename: NAME, sequenceowner: NAME, data_type: REGTYPE, start_value: INT8,
        min_value: INT8, max_value: INT8, increment_by: INT8, cycle: BOOL, cache_size: INT8, last_value: INT8
    }
    12053 pg_stats = pg_stats {
        schemaname: NAME, tablename: NAME, attname: NAME, inherited: BOOL, null_frac: FLOAT4, avg_width: INT4,
        n_distinct: FLOAT4, most_common_vals: ANY_ARRAY, most_common_freqs: FLOAT4_ARRAY,
        histogram_bounds: ANY_ARRAY, correlation: FLOAT4, most_common_elems: ANY_ARRAY,
        most_common_elem_freqs: FLOAT4_ARRAY, elem_count_histogram: FLOAT4_ARRAY
    }
    12142 pg_stat_all_tables = pg_stat_all_tables {
        relid: OID, schemaname: NAME, relname: NAME, seq_scan: INT8, seq_tup_read: INT8, idx_scan: INT8,
        idx_tup_fetch: INT8, n_tup_ins: INT8, n_tup_upd: INT8, n_tup_del: INT8, n_tup_hot_upd: INT8,
        n_live_tup: INT8, n_dead_tup: INT8, n_mod_since_analyze: INT8, n_ins_since_vacuum: INT8,
        last_vacuum: TIMESTAMPTZ, last_autovacuum: TIMESTAMPTZ, last_analyze: TIMESTAMPTZ,
        last_autoanalyze: TIMESTAMPTZ, vacuum_count: INT8, autovacuum_count: INT8, analyze_count: INT8,
        autoanalyze_count: INT8
    }
    12161 pg_stat_user_tables = pg_stat_user_tables {
        relid: OID, schemaname: NAME, relname: NAME, seq_scan: INT8, seq_tup_read: INT8, idx_scan: INT8,
        idx_tup_fetch: INT8, n_tup_ins: INT8, n_tup_upd: INT8, n_tup_del: INT8, n_tup_hot_upd: INT8,
        n_live_tup: INT8, n_dead_tup: INT8, n_mod_since_analyze: INT8, n_ins_since_vacuum: INT8,
        last_vacuum: TIMESTAMPTZ, last_autovacuum: TIMESTAMPTZ, last_analyze: TIMESTAMPTZ,
        last_autoanalyze: TIMESTAMPTZ, vacuum_count: INT8, autovacuum_count: INT8, analyze_count: INT8,
        autoanalyze_count: INT8
    }
    12192 pg_stat_user_indexes = pg_stat_user_indexes {
        relid: OID, indexrelid: OID, schemaname: NAME, relname: NAME, indexrelname: NAME, idx_scan: INT8,
        idx_tup_read: INT8, idx_tup_fetch: INT8
    }
}

fn schema<'a>(context: &SystemContext<'a>, oid: Oid) -> &'a str {
    context.catalog.schema_name(oid).unwrap_or_default()
}

fn pg_tables(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for table in context.catalog.tables() {
        row!(rows,
            schemaname: schema(context, table.schema), tablename: &table.name,
            tableowner: context.role_name(table.owner),
            hasindexes: table.primary_key.is_some() || !table.indexes.is_empty(), hasrules: false,
            hastriggers: false, rowsecurity: false);
    }
    for view in views().filter(|view| view.is_table()) {
        row!(rows,
            schemaname: view.schema, tablename: view.name, tableowner: context.role_name(10), hasindexes: false,
            hasrules: false, hastriggers: false, rowsecurity: false);
    }
    Ok(())
}

fn pg_views(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for view in context.catalog.views() {
        row!(rows,
            schemaname: schema(context, view.schema), viewname: &view.name, viewowner: context.role_name(view.owner),
            definition: context.catalog.view_definition(view));
    }
    for view in views().filter(|view| !view.is_table()) {
        row!(rows, schemaname: view.schema, viewname: view.name, viewowner: context.role_name(10));
    }
    Ok(())
}

fn pg_indexes(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for table in context.catalog.tables() {
        for index in indexes_of(table) {
            row!(rows,
                schemaname: schema(context, table.schema), tablename: &table.name, indexname: index.name(),
                indexdef: context.catalog.index_definition(&index));
        }
    }
    Ok(())
}

fn pg_sequences(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for sequence in context.catalog.sequences() {
        let position = context.information().sequence_position(sequence);
        let last = position.filter(|position| position.is_called).map(|position| position.last_value);
        row!(rows,
            schemaname: schema(context, sequence.schema), sequencename: &sequence.name,
            sequenceowner: context.role_name(sequence.owner), data_type: sequence.data_type.oid(),
            start_value: sequence.start, min_value: sequence.min, max_value: sequence.max,
            increment_by: sequence.increment, cycle: sequence.cycle, cache_size: sequence.cache, last_value: last);
    }
    Ok(())
}

fn any_array(element: DataType, elements: Vec<Datum>) -> Datum {
    if elements.is_empty() {
        return Datum::Null;
    }
    let dimensions = vec![(elements.len() as u32, 1)];
    Datum::Array(Array { element: element.bare(), dimensions, elements }.into())
}

/// Only of tables that the reader may read: the values are the tables' own.
fn pg_stats(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    let reader = context.information().current_role();
    for table in context.catalog.tables() {
        let Some(statistics) = &table.statistics else { continue };
        if !context.catalog.has_privilege(reader, table.oid, Privilege::Select) {
            continue;
        }
        for (column, found) in table.columns.iter().zip(&statistics.columns).filter(|(column, _)| !column.dropped) {
            let shares: Vec<f32> = found.common.iter().map(|(_, share)| *share as f32).collect();
            let values = found.common.iter().map(|(value, _)| value.clone()).collect();
            row!(rows,
                schemaname: schema(context, table.schema), tablename: &table.name, attname: &column.name,
                inherited: false, null_frac: found.null_fraction as f32,
                n_distinct: found.distinct as f32, most_common_vals: any_array(found.data_type, values),
                most_common_freqs: if shares.is_empty() { Datum::Null } else { float4_array(shares) },
                histogram_bounds: any_array(found.data_type, found.histogram.clone()));
        }
    }
    Ok(())
}

fn add_table_counters(context: &SystemContext<'_>, rows: &mut Rows, table: &Table) {
    let live = table.statistics.as_ref().map_or(0, |statistics| statistics.rows as i64);
    row!(rows,
        relid: table.oid, schemaname: schema(context, table.schema), relname: &table.name, n_live_tup: live,
        n_dead_tup: 0i64, vacuum_count: 0i64, autovacuum_count: 0i64);
}

fn pg_stat_all_tables(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    context.catalog.tables().for_each(|table| add_table_counters(context, rows, table));
    Ok(())
}

fn pg_stat_user_tables(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    pg_stat_all_tables(context, rows)
}

fn pg_stat_user_indexes(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for table in context.catalog.tables() {
        for index in indexes_of(table) {
            row!(rows,
                relid: table.oid, indexrelid: index.oid(), schemaname: schema(context, table.schema),
                relname: &table.name, indexrelname: index.name());
        }
    }
    Ok(())
}
