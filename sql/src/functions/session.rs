//! Signatures of what the session answers: sequences, settings, identity, and the catalog's description of itself.

use super::ScalarFunction;
use super::define::{scalar, session};
use crate::types::text::format_type_oid;
use crate::types::{BaseType, DataType as T, Datum};

const NAMES: T = T::array_of(BaseType::Name);

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    session("nextval", &[T::REGCLASS], T::INT8).volatile(),
    session("currval", &[T::REGCLASS], T::INT8).volatile(),
    session("lastval", &[], T::INT8).volatile(),
    session("setval", &[T::REGCLASS, T::INT8], T::INT8).volatile(),
    session("setval", &[T::REGCLASS, T::INT8, T::BOOL], T::INT8).volatile(),
    session("current_user", &[], T::NAME),
    session("current_role", &[], T::NAME),
    session("session_user", &[], T::NAME),
    session("user", &[], T::NAME),
    session("current_database", &[], T::NAME),
    session("current_catalog", &[], T::NAME),
    session("current_schema", &[], T::NAME),
    session("current_schemas", &[T::BOOL], NAMES),
    session("current_query", &[], T::TEXT).volatile(),
    session("version", &[], T::TEXT),
    session("pg_backend_pid", &[], T::INT4),
    session("pg_blocking_pids", &[T::INT4], T::array_of(BaseType::Int4)).volatile(),
    session("set_config", &[T::TEXT, T::TEXT, T::BOOL], T::TEXT).nullable().volatile(),
    session("current_setting", &[T::TEXT], T::TEXT),
    session("current_setting", &[T::TEXT, T::BOOL], T::TEXT),
    session("txid_current", &[], T::INT8),
    session("txid_current_if_assigned", &[], T::INT8),
    session("pg_sleep", &[T::FLOAT8], T::VOID).volatile(),
    session("pg_cancel_backend", &[T::INT4], T::BOOL).volatile(),
    session("pg_terminate_backend", &[T::INT4], T::BOOL).volatile(),
    session("pg_terminate_backend", &[T::INT4, T::INT8], T::BOOL).volatile(),
    session("pg_reload_conf", &[], T::BOOL).volatile(),
    session("pg_is_in_recovery", &[], T::BOOL).volatile(),
    session("pg_current_wal_lsn", &[], T::PG_LSN).volatile(),
    session("pg_current_wal_insert_lsn", &[], T::PG_LSN).volatile(),
    session("pg_current_wal_flush_lsn", &[], T::PG_LSN).volatile(),
    session("pg_last_wal_replay_lsn", &[], T::PG_LSN).volatile(),
    session("pg_last_wal_receive_lsn", &[], T::PG_LSN).volatile(),
    session("pg_postmaster_start_time", &[], T::TIMESTAMPTZ),
    session("pg_conf_load_time", &[], T::TIMESTAMPTZ),
    session("inet_server_addr", &[], T::TEXT),
    session("inet_server_port", &[], T::INT4),
    session("inet_client_addr", &[], T::TEXT),
    session("inet_client_port", &[], T::INT4),
    session("pg_advisory_lock", &[T::INT8], T::VOID).volatile(),
    session("pg_try_advisory_lock", &[T::INT8], T::BOOL).volatile(),
    session("pg_advisory_unlock", &[T::INT8], T::BOOL).volatile(),
    session("pg_advisory_unlock_all", &[], T::VOID).volatile(),
    session("pg_advisory_xact_lock", &[T::INT8], T::VOID).volatile(),
    session("pg_try_advisory_xact_lock", &[T::INT8], T::BOOL).volatile(),
    session("pg_get_userbyid", &[T::OID], T::NAME),
    session("pg_get_expr", &[T::PG_NODE_TREE, T::OID], T::TEXT),
    session("pg_get_expr", &[T::PG_NODE_TREE, T::OID, T::BOOL], T::TEXT),
    session("pg_get_expr", &[T::TEXT, T::OID], T::TEXT),
    session("pg_get_expr", &[T::TEXT, T::OID, T::BOOL], T::TEXT),
    session("pg_get_indexdef", &[T::OID], T::TEXT),
    session("pg_get_indexdef", &[T::OID, T::INT4, T::BOOL], T::TEXT),
    session("pg_get_constraintdef", &[T::OID], T::TEXT),
    session("pg_get_constraintdef", &[T::OID, T::BOOL], T::TEXT),
    session("pg_get_viewdef", &[T::TEXT], T::TEXT),
    session("pg_get_viewdef", &[T::OID], T::TEXT),
    session("pg_get_viewdef", &[T::OID, T::BOOL], T::TEXT),
    session("pg_get_viewdef", &[T::OID, T::INT4], T::TEXT),
    session("pg_get_serial_sequence", &[T::TEXT, T::TEXT], T::TEXT),
    session("pg_get_ruledef", &[T::OID], T::TEXT),
    session("pg_get_ruledef", &[T::OID, T::BOOL], T::TEXT),
    session("pg_get_triggerdef", &[T::OID], T::TEXT),
    session("pg_get_triggerdef", &[T::OID, T::BOOL], T::TEXT),
    session("pg_get_functiondef", &[T::OID], T::TEXT),
    session("pg_get_function_sqlbody", &[T::OID], T::TEXT),
    session("pg_get_function_result", &[T::OID], T::TEXT),
    session("pg_get_function_arguments", &[T::OID], T::TEXT),
    session("pg_get_function_identity_arguments", &[T::OID], T::TEXT),
    session("pg_get_statisticsobjdef_columns", &[T::OID], T::TEXT),
    session("pg_get_partkeydef", &[T::OID], T::TEXT),
    session("pg_table_is_visible", &[T::OID], T::BOOL),
    session("pg_type_is_visible", &[T::OID], T::BOOL),
    session("pg_function_is_visible", &[T::OID], T::BOOL),
    session("pg_operator_is_visible", &[T::OID], T::BOOL),
    session("pg_opclass_is_visible", &[T::OID], T::BOOL),
    session("pg_opfamily_is_visible", &[T::OID], T::BOOL),
    session("pg_collation_is_visible", &[T::OID], T::BOOL),
    session("pg_conversion_is_visible", &[T::OID], T::BOOL),
    session("pg_statistics_obj_is_visible", &[T::OID], T::BOOL),
    session("pg_ts_config_is_visible", &[T::OID], T::BOOL),
    session("pg_relation_is_publishable", &[T::REGCLASS], T::BOOL),
    session("pg_is_other_temp_schema", &[T::OID], T::BOOL),
    session("pg_my_temp_schema", &[], T::OID),
    session("obj_description", &[T::OID, T::NAME], T::TEXT),
    session("obj_description", &[T::OID], T::TEXT),
    session("shobj_description", &[T::OID, T::NAME], T::TEXT),
    session("col_description", &[T::OID, T::INT4], T::TEXT),
    session("pg_relation_size", &[T::REGCLASS], T::INT8).volatile(),
    session("pg_relation_size", &[T::REGCLASS, T::TEXT], T::INT8).volatile(),
    session("pg_table_size", &[T::REGCLASS], T::INT8).volatile(),
    session("pg_indexes_size", &[T::REGCLASS], T::INT8).volatile(),
    session("pg_total_relation_size", &[T::REGCLASS], T::INT8).volatile(),
    session("pg_database_size", &[T::NAME], T::INT8).volatile(),
    session("pg_database_size", &[T::OID], T::INT8).volatile(),
    session("pg_tablespace_location", &[T::OID], T::TEXT),
    session("pg_sequence_last_value", &[T::REGCLASS], T::INT8).volatile(),
    session("to_regclass", &[T::TEXT], T::REGCLASS),
    session("to_regtype", &[T::TEXT], T::REGTYPE),
    session("to_regnamespace", &[T::TEXT], T::REGNAMESPACE),
    session("to_regrole", &[T::TEXT], T::REGROLE),
    session("to_regproc", &[T::TEXT], T::REGPROC),
    session("pg_encoding_to_char", &[T::INT4], T::NAME),
    session("pg_char_to_encoding", &[T::NAME], T::INT4),
    session("getdatabaseencoding", &[], T::NAME),
    session("has_table_privilege", &[T::TEXT, T::TEXT], T::BOOL),
    session("has_table_privilege", &[T::OID, T::TEXT], T::BOOL),
    session("has_table_privilege", &[T::NAME, T::TEXT, T::TEXT], T::BOOL),
    session("has_table_privilege", &[T::NAME, T::OID, T::TEXT], T::BOOL),
    session("has_table_privilege", &[T::OID, T::OID, T::TEXT], T::BOOL),
    session("has_sequence_privilege", &[T::TEXT, T::TEXT], T::BOOL),
    session("has_sequence_privilege", &[T::OID, T::TEXT], T::BOOL),
    session("has_sequence_privilege", &[T::NAME, T::TEXT, T::TEXT], T::BOOL),
    session("has_any_column_privilege", &[T::TEXT, T::TEXT], T::BOOL),
    session("has_any_column_privilege", &[T::OID, T::TEXT], T::BOOL),
    session("has_column_privilege", &[T::TEXT, T::TEXT, T::TEXT], T::BOOL),
    session("has_column_privilege", &[T::OID, T::TEXT, T::TEXT], T::BOOL),
    session("has_column_privilege", &[T::OID, T::INT2, T::TEXT], T::BOOL),
    session("has_schema_privilege", &[T::TEXT, T::TEXT], T::BOOL),
    session("has_schema_privilege", &[T::OID, T::TEXT], T::BOOL),
    session("has_schema_privilege", &[T::NAME, T::TEXT, T::TEXT], T::BOOL),
    session("has_schema_privilege", &[T::NAME, T::OID, T::TEXT], T::BOOL),
    session("has_database_privilege", &[T::TEXT, T::TEXT], T::BOOL),
    session("has_database_privilege", &[T::OID, T::TEXT], T::BOOL),
    session("has_database_privilege", &[T::NAME, T::TEXT, T::TEXT], T::BOOL),
    session("has_database_privilege", &[T::NAME, T::OID, T::TEXT], T::BOOL),
    session("has_function_privilege", &[T::TEXT, T::TEXT], T::BOOL),
    session("has_function_privilege", &[T::OID, T::TEXT], T::BOOL),
    session("has_type_privilege", &[T::TEXT, T::TEXT], T::BOOL),
    session("has_type_privilege", &[T::OID, T::TEXT], T::BOOL),
    session("has_tablespace_privilege", &[T::TEXT, T::TEXT], T::BOOL),
    session("has_language_privilege", &[T::TEXT, T::TEXT], T::BOOL),
    session("pg_has_role", &[T::NAME, T::TEXT], T::BOOL),
    session("pg_has_role", &[T::OID, T::TEXT], T::BOOL),
    session("pg_has_role", &[T::NAME, T::NAME, T::TEXT], T::BOOL),
    session("pg_has_role", &[T::NAME, T::OID, T::TEXT], T::BOOL),
    session("pg_has_role", &[T::OID, T::OID, T::TEXT], T::BOOL),
    scalar("format_type", &[T::OID, T::INT4], T::TEXT, |_, args| match &args[0] {
        Datum::Oid(oid) => {
            // Without a typmod at all the SQL name is meant.
            Ok(Datum::text(match (args[1].as_i64(), T::from_oid(*oid)) {
                (None, Some(data_type)) => data_type.name(),
                (modifier, _) => format_type_oid(*oid, modifier.map_or(-1, |modifier| modifier as i32)),
            }))
        }
        _ => Ok(Datum::Null),
    })
    .nullable()
    .stable(),
    scalar("pg_size_pretty", &[T::INT8], T::TEXT, |_, args| {
        Ok(Datum::text(size_pretty(super::define::int8(&args[0])?)))
    }),
    scalar("pg_column_size", &[T::new(BaseType::Any)], T::INT4, |_, args| {
        let mut bytes = Vec::new();
        crate::types::codec::encode_value(&args[0], &mut bytes);
        Ok(Datum::Int4(bytes.len() as i32))
    })
    .stable(),
];

/// Bytes in the largest unit that keeps at least 10 of it, rounded, as `pg_size_pretty` prints.
fn size_pretty(bytes: i64) -> String {
    const UNITS: [(&str, i64, bool); 6] = [
        ("bytes", 10 * 1024, false),
        ("kB", 20 * 1024 - 1, true),
        ("MB", 20 * 1024 - 1, true),
        ("GB", 20 * 1024 - 1, true),
        ("TB", 20 * 1024 - 1, true),
        ("PB", i64::MAX, true),
    ];
    // Beyond bytes the size is kept in half units, so that the last step rounds.
    let mut size = bytes;
    for (index, (name, limit, half)) in UNITS.iter().enumerate() {
        if size.unsigned_abs() < limit.unsigned_abs() || index + 1 == UNITS.len() {
            let shown = if *half { (size + if size < 0 { -1 } else { 1 }) / 2 } else { size };
            return format!("{shown} {name}");
        }
        size /= if *half { 1024 } else { 512 };
    }
    format!("{bytes} bytes")
}
