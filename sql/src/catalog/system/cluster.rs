//! What belongs to the whole cluster or to the session: databases, roles, settings, activity, locks.

use std::sync::Arc;

use super::SystemContext;
use super::rows::{Rows, oid_array, regtype_array, row, system_views, text_array_or_null};
use crate::catalog::Role;
use crate::error::Result;
use crate::types::{Datum, Interval};

system_views! { "pg_catalog"
    1262 pg_database = pg_database {
        oid: OID, datname: NAME, datdba: OID, encoding: INT4, datlocprovider: INTERNAL_CHAR, datistemplate: BOOL,
        datallowconn: BOOL, datconnlimit: INT4, datfrozenxid: XID, datminmxid: XID, dattablespace: OID,
        datcollate: TEXT, datctype: TEXT, daticulocale: TEXT, datcollversion: TEXT, datacl: TEXT_ARRAY
    }
    1260 pg_authid = pg_authid {
        oid: OID, rolname: NAME, rolsuper: BOOL, rolinherit: BOOL, rolcreaterole: BOOL, rolcreatedb: BOOL,
        rolcanlogin: BOOL, rolreplication: BOOL, rolbypassrls: BOOL, rolconnlimit: INT4, rolpassword: TEXT,
        rolvaliduntil: TIMESTAMPTZ
    }
    12000 pg_roles = pg_roles {
        rolname: NAME, rolsuper: BOOL, rolinherit: BOOL, rolcreaterole: BOOL, rolcreatedb: BOOL, rolcanlogin: BOOL,
        rolreplication: BOOL, rolconnlimit: INT4, rolpassword: TEXT, rolvaliduntil: TIMESTAMPTZ, rolbypassrls: BOOL,
        rolconfig: TEXT_ARRAY, oid: OID
    }
    12014 pg_user = pg_user {
        usename: NAME, usesysid: OID, usecreatedb: BOOL, usesuper: BOOL, userepl: BOOL, usebypassrls: BOOL,
        passwd: TEXT, valuntil: TIMESTAMPTZ, useconfig: TEXT_ARRAY
    }
    12005 pg_shadow = pg_shadow {
        usename: NAME, usesysid: OID, usecreatedb: BOOL, usesuper: BOOL, userepl: BOOL, usebypassrls: BOOL,
        passwd: TEXT, valuntil: TIMESTAMPTZ, useconfig: TEXT_ARRAY
    }
    12010 pg_group = pg_group {
        groname: NAME, grosysid: OID, grolist: OID_ARRAY
    }
    1261 pg_auth_members = pg_auth_members {
        roleid: OID, member: OID, grantor: OID, admin_option: BOOL
    }
    1213 pg_tablespace = pg_tablespace {
        oid: OID, spcname: NAME, spcowner: OID, spcacl: TEXT_ARRAY, spcoptions: TEXT_ARRAY
    }
    2964 pg_db_role_setting = pg_db_role_setting {
        setdatabase: OID, setrole: OID, setconfig: TEXT_ARRAY
    }
    12104 pg_settings = pg_settings {
        name: TEXT, setting: TEXT, unit: TEXT, category: TEXT, short_desc: TEXT, extra_desc: TEXT, context: TEXT,
        vartype: TEXT, source: TEXT, min_val: TEXT, max_val: TEXT, enumvals: TEXT_ARRAY, boot_val: TEXT,
        reset_val: TEXT, sourcefile: TEXT, sourceline: INT4, pending_restart: BOOL
    }
    12222 pg_stat_activity = pg_stat_activity {
        datid: OID, datname: NAME, pid: INT4, leader_pid: INT4, usesysid: OID, usename: NAME,
        application_name: TEXT, client_addr: TEXT, client_hostname: TEXT, client_port: INT4,
        backend_start: TIMESTAMPTZ, xact_start: TIMESTAMPTZ, query_start: TIMESTAMPTZ, state_change: TIMESTAMPTZ,
        wait_event_type: TEXT, wait_event: TEXT, state: TEXT, backend_xid: XID, backend_xmin: XID, query_id: INT8,
        query: TEXT, backend_type: TEXT
    }
    12073 pg_locks = pg_locks {
        locktype: TEXT, database: OID, relation: OID, page: INT4, tuple: INT2, virtualxid: TEXT, transactionid: XID,
        classid: OID, objid: OID, objsubid: INT2, virtualtransaction: TEXT, pid: INT4, mode: TEXT, granted: BOOL,
        fastpath: BOOL, waitstart: TIMESTAMPTZ
    }
    12095 pg_prepared_statements = pg_prepared_statements {
        name: TEXT, statement: TEXT, prepare_time: TIMESTAMPTZ, parameter_types: REGTYPE_ARRAY, from_sql: BOOL,
        generic_plans: INT8, custom_plans: INT8
    }
    12077 pg_cursors = pg_cursors {
        name: TEXT, statement: TEXT, is_holdable: BOOL, is_binary: BOOL, is_scrollable: BOOL,
        creation_time: TIMESTAMPTZ
    }
    12126 pg_timezone_names = pg_timezone_names {
        name: TEXT, abbrev: TEXT, utc_offset: INTERVAL, is_dst: BOOL
    }
    12266 pg_stat_database = pg_stat_database {
        datid: OID, datname: NAME, numbackends: INT4, xact_commit: INT8, xact_rollback: INT8, blks_read: INT8,
        blks_hit: INT8, tup_returned: INT8, tup_fetched: INT8, tup_inserted: INT8, tup_updated: INT8,
        tup_deleted: INT8, conflicts: INT8, temp_files: INT8, temp_bytes: INT8, deadlocks: INT8,
        checksum_failures: INT8, checksum_last_failure: TIMESTAMPTZ, blk_read_time: FLOAT8, blk_write_time: FLOAT8,
        session_time: FLOAT8, active_time: FLOAT8, idle_in_transaction_time: FLOAT8, sessions: INT8,
        sessions_abandoned: INT8, sessions_fatal: INT8, sessions_killed: INT8, stats_reset: TIMESTAMPTZ
    }
    12900 alluvium_log_rate = alluvium_log_rate {
        component: TEXT, reason: TEXT, lag_bytes: INT8, limit_bytes: INT8, drain_bytes_per_second: INT8,
        append_bytes_per_second: INT8, delay_us_per_kib: FLOAT8
    }
}

/// `pg_tablespace.oid` of `pg_default`.
const DEFAULT_TABLESPACE: u32 = 1663;
/// `pg_encoding_to_char(6)` is UTF8, the only encoding here.
const UTF8: i32 = 6;
/// What stands for a password that is not shown.
const HIDDEN: &str = "********";

fn pg_database(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for database in context.catalog.databases() {
        row!(rows,
            oid: database.oid, datname: &database.name, datdba: database.owner, encoding: UTF8,
            datlocprovider: "c", datistemplate: database.template, datallowconn: database.allow_connections,
            datconnlimit: database.connection_limit, datfrozenxid: 716u32, datminmxid: 1u32,
            dattablespace: DEFAULT_TABLESPACE, datcollate: "C.UTF-8", datctype: "C.UTF-8");
    }
    Ok(())
}

fn timestamptz(microseconds: Option<i64>) -> Datum {
    microseconds.map_or(Datum::Null, Datum::Timestamptz)
}

fn config(settings: &[(String, String)]) -> Datum {
    text_array_or_null(&settings.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>())
}

fn pg_authid(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for role in context.catalog.roles() {
        row!(rows,
            oid: role.oid, rolname: &role.name, rolsuper: role.superuser, rolinherit: role.inherit,
            rolcreaterole: role.create_role, rolcreatedb: role.create_db, rolcanlogin: role.login,
            rolreplication: role.replication, rolbypassrls: role.bypass_rls, rolconnlimit: role.connection_limit,
            rolpassword: role.password.as_deref(), rolvaliduntil: timestamptz(role.valid_until_us));
    }
    Ok(())
}

fn pg_roles(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for role in context.catalog.roles() {
        row!(rows,
            rolname: &role.name, rolsuper: role.superuser, rolinherit: role.inherit,
            rolcreaterole: role.create_role, rolcreatedb: role.create_db, rolcanlogin: role.login,
            rolreplication: role.replication, rolconnlimit: role.connection_limit, rolpassword: HIDDEN,
            rolvaliduntil: timestamptz(role.valid_until_us), rolbypassrls: role.bypass_rls,
            rolconfig: config(&role.settings), oid: role.oid);
    }
    Ok(())
}

fn add_user(rows: &mut Rows, role: &Role, password: Option<&str>) {
    row!(rows,
        usename: &role.name, usesysid: role.oid, usecreatedb: role.create_db, usesuper: role.superuser,
        userepl: role.replication, usebypassrls: role.bypass_rls, passwd: password,
        valuntil: timestamptz(role.valid_until_us), useconfig: config(&role.settings));
}

fn pg_user(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    context.catalog.roles().filter(|role| role.login).for_each(|role| add_user(rows, role, Some(HIDDEN)));
    Ok(())
}

fn pg_shadow(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    context.catalog.roles().filter(|role| role.login).for_each(|role| add_user(rows, role, role.password.as_deref()));
    Ok(())
}

fn pg_group(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for group in context.catalog.roles().filter(|role| !role.login) {
        let is_member = |role: &&Arc<Role>| role.member_of.iter().any(|member| member.role == group.oid);
        let members = context.catalog.roles().filter(is_member).map(|role| role.oid);
        row!(rows, groname: &group.name, grosysid: group.oid, grolist: oid_array(members));
    }
    Ok(())
}

fn pg_auth_members(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for role in context.catalog.roles() {
        for member in &role.member_of {
            row!(rows,
                roleid: member.role, member: role.oid, grantor: member.grantor, admin_option: member.admin_option);
        }
    }
    Ok(())
}

fn pg_tablespace(_: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    row!(rows, oid: DEFAULT_TABLESPACE, spcname: "pg_default", spcowner: 10u32);
    row!(rows, oid: 1664u32, spcname: "pg_global", spcowner: 10u32);
    Ok(())
}

fn pg_db_role_setting(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for database in context.catalog.databases().filter(|database| !database.settings.is_empty()) {
        row!(rows, setdatabase: database.oid, setrole: 0u32, setconfig: config(&database.settings));
    }
    for role in context.catalog.roles().filter(|role| !role.settings.is_empty()) {
        row!(rows, setdatabase: 0u32, setrole: role.oid, setconfig: config(&role.settings));
    }
    Ok(())
}

fn pg_settings(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for setting in context.information().settings() {
        let allowed = text_array_or_null(&setting.enum_values);
        row!(rows,
            name: setting.name, setting: setting.value, unit: setting.unit, category: setting.category,
            short_desc: setting.description, context: setting.context, vartype: setting.kind, source: setting.source,
            min_val: setting.min, max_val: setting.max, enumvals: allowed, boot_val: setting.boot_value,
            reset_val: setting.reset_value, pending_restart: false);
    }
    Ok(())
}

fn pg_stat_activity(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    let reader = context.information().current_role();
    let sees_all = context.catalog.role(reader).is_some_and(|role| role.superuser);
    for session in context.information().activity() {
        let name = context.catalog.database(session.database).map(|database| database.name.clone());
        let (wait_type, wait) = session.wait_event.unzip();
        let visible = sees_all || context.catalog.is_member(reader, session.role);
        let query = if visible { session.query } else { "<insufficient privilege>".to_owned() };
        row!(rows,
            datid: session.database, datname: name, pid: session.pid, usesysid: session.role,
            usename: context.role_name(session.role), application_name: session.application_name,
            client_addr: session.client_address, client_port: session.client_port,
            backend_start: Datum::Timestamptz(session.backend_start_us),
            xact_start: timestamptz(session.transaction_start_us), query_start: timestamptz(session.query_start_us),
            state_change: timestamptz(session.state_change_us), wait_event_type: wait_type, wait_event: wait,
            state: session.state, query: query, backend_type: "client backend");
    }
    Ok(())
}

fn pg_locks(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for lock in context.information().locks() {
        row!(rows,
            locktype: lock.kind, database: lock.database, relation: lock.relation, pid: lock.pid, mode: lock.mode,
            granted: lock.granted, fastpath: false);
    }
    Ok(())
}

fn pg_prepared_statements(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for entry in context.information().prepared_statements() {
        row!(rows,
            name: entry.name, statement: entry.statement, prepare_time: Datum::Timestamptz(entry.prepare_time_us),
            parameter_types: regtype_array(entry.parameter_types.iter().map(|data_type| data_type.oid())),
            from_sql: entry.from_sql, generic_plans: 0i64, custom_plans: 0i64);
    }
    Ok(())
}

fn pg_cursors(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    for cursor in context.information().cursors() {
        row!(rows,
            name: cursor.name, statement: cursor.statement, is_holdable: cursor.holdable, is_binary: cursor.binary,
            is_scrollable: cursor.scrollable, creation_time: Datum::Timestamptz(cursor.creation_time_us));
    }
    Ok(())
}

/// Microseconds between 1970 and 2000, the epochs of Unix and Postgres.
const EPOCH_DIFFERENCE_US: i64 = 946_684_800_000_000;

fn pg_timezone_names(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    let now_us = context.eval.statement_timestamp_us.saturating_add(EPOCH_DIFFERENCE_US);
    let now = jiff::Timestamp::from_microsecond(now_us).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    for name in jiff::tz::db().available() {
        let Ok(zone) = jiff::tz::TimeZone::get(name.as_str()) else { continue };
        let info = zone.to_offset_info(now);
        let microseconds = i64::from(info.offset().seconds()) * 1_000_000;
        row!(rows,
            name: name.as_str(), abbrev: info.abbreviation(),
            utc_offset: Datum::Interval(Arc::new(Interval { microseconds, ..Interval::default() })),
            is_dst: info.dst().is_dst());
    }
    Ok(())
}

fn pg_stat_database(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    let activity = context.information().activity();
    for database in context.catalog.databases() {
        let connected = activity.iter().filter(|session| session.database == database.oid).count();
        row!(rows, datid: database.oid, datname: &database.name, numbackends: connected as i32);
    }
    Ok(())
}

/// What slows writers now: nothing, mostly.
fn alluvium_log_rate(context: &SystemContext<'_>, rows: &mut Rows) -> Result<()> {
    let count = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    for limit in context.store.log_limits() {
        row!(rows,
            component: limit.component, reason: limit.reason, lag_bytes: count(limit.lag_bytes),
            limit_bytes: count(limit.limit_bytes), drain_bytes_per_second: limit.drain_bytes_per_second.map(count),
            append_bytes_per_second: count(limit.append_bytes_per_second), delay_us_per_kib: limit.delay_us_per_kib);
    }
    Ok(())
}
