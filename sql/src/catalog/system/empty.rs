//! System views that hold nothing here: enums, triggers, policies, publications, foreign tables and so on.

use super::SystemContext;
use super::rows::{Rows, system_views};
use crate::error::Result;

system_views! { "pg_catalog"
    3501 pg_enum = empty {
        oid: OID, enumtypid: OID, enumsortorder: FLOAT4, enumlabel: NAME
    }
    3541 pg_range = empty {
        rngtypid: OID, rngsubtype: OID, rngmultitypid: OID, rngcollation: OID, rngsubopc: OID,
        rngcanonical: REGPROC, rngsubdiff: REGPROC
    }
    2611 pg_inherits = empty {
        inhrelid: OID, inhparent: OID, inhseqno: INT4, inhdetachpending: BOOL
    }
    2620 pg_trigger = empty {
        oid: OID, tgrelid: OID, tgparentid: OID, tgname: NAME, tgfoid: OID, tgtype: INT2, tgenabled: INTERNAL_CHAR,
        tgisinternal: BOOL, tgconstrrelid: OID, tgconstrindid: OID, tgconstraint: OID, tgdeferrable: BOOL,
        tginitdeferred: BOOL, tgnargs: INT2, tgattr: INT2_VECTOR, tgargs: BYTEA, tgqual: NODE_TREE,
        tgoldtable: NAME, tgnewtable: NAME
    }
    3256 pg_policy = empty {
        oid: OID, polname: NAME, polrelid: OID, polcmd: INTERNAL_CHAR, polpermissive: BOOL, polroles: OID_ARRAY,
        polqual: NODE_TREE, polwithcheck: NODE_TREE
    }
    6104 pg_publication = empty {
        oid: OID, pubname: NAME, pubowner: OID, puballtables: BOOL, pubinsert: BOOL, pubupdate: BOOL,
        pubdelete: BOOL, pubtruncate: BOOL, pubviaroot: BOOL
    }
    6106 pg_publication_rel = empty {
        oid: OID, prpubid: OID, prrelid: OID, prqual: NODE_TREE, prattrs: INT2_ARRAY
    }
    6237 pg_publication_namespace = empty {
        oid: OID, pnpubid: OID, pnnspid: OID
    }
    6100 pg_subscription = empty {
        oid: OID, subdbid: OID, subskiplsn: PG_LSN, subname: NAME, subowner: OID, subenabled: BOOL, subbinary: BOOL,
        substream: BOOL, subtwophasestate: INTERNAL_CHAR, subdisableonerr: BOOL, subconninfo: TEXT,
        subslotname: NAME, subsynccommit: TEXT, subpublications: TEXT_ARRAY
    }
    3118 pg_foreign_table = empty {
        ftrelid: OID, ftserver: OID, ftoptions: TEXT_ARRAY
    }
    1417 pg_foreign_server = empty {
        oid: OID, srvname: NAME, srvowner: OID, srvfdw: OID, srvtype: TEXT, srvversion: TEXT, srvacl: TEXT_ARRAY,
        srvoptions: TEXT_ARRAY
    }
    2328 pg_foreign_data_wrapper = empty {
        oid: OID, fdwname: NAME, fdwowner: OID, fdwhandler: OID, fdwvalidator: OID, fdwacl: TEXT_ARRAY,
        fdwoptions: TEXT_ARRAY
    }
    1418 pg_user_mapping = empty {
        oid: OID, umuser: OID, umserver: OID, umoptions: TEXT_ARRAY
    }
    3350 pg_partitioned_table = empty {
        partrelid: OID, partstrat: INTERNAL_CHAR, partnatts: INT2, partdefid: OID, partattrs: INT2_VECTOR,
        partclass: OID_VECTOR, partcollation: OID_VECTOR, partexprs: NODE_TREE
    }
    3381 pg_statistic_ext = empty {
        oid: OID, stxrelid: OID, stxname: NAME, stxnamespace: OID, stxowner: OID, stxstattarget: INT4,
        stxkeys: INT2_VECTOR, stxkind: CHAR_ARRAY, stxexprs: NODE_TREE
    }
    3429 pg_statistic_ext_data = empty {
        stxoid: OID, stxdinherit: BOOL, stxdndistinct: BYTEA, stxddependencies: BYTEA, stxdmcv: BYTEA,
        stxdexpr: TEXT_ARRAY
    }
    3079 pg_extension = empty {
        oid: OID, extname: NAME, extowner: OID, extnamespace: OID, extrelocatable: BOOL, extversion: TEXT,
        extconfig: OID_ARRAY, extcondition: TEXT_ARRAY
    }
    12081 pg_available_extensions = empty {
        name: NAME, default_version: TEXT, installed_version: TEXT, comment: TEXT
    }
    12085 pg_available_extension_versions = empty {
        name: NAME, version: TEXT, installed: BOOL, superuser: BOOL, trusted: BOOL, relocatable: BOOL, schema: NAME,
        requires: NAME_ARRAY, comment: TEXT
    }
    3466 pg_event_trigger = empty {
        oid: OID, evtname: NAME, evtevent: NAME, evtowner: OID, evtfoid: OID, evtenabled: INTERNAL_CHAR,
        evttags: TEXT_ARRAY
    }
    2607 pg_conversion = empty {
        oid: OID, conname: NAME, connamespace: OID, conowner: OID, conforencoding: INT4, contoencoding: INT4,
        conproc: REGPROC, condefault: BOOL
    }
    2616 pg_opclass = empty {
        oid: OID, opcmethod: OID, opcname: NAME, opcnamespace: OID, opcowner: OID, opcfamily: OID, opcintype: OID,
        opcdefault: BOOL, opckeytype: OID
    }
    2753 pg_opfamily = empty {
        oid: OID, opfmethod: OID, opfname: NAME, opfnamespace: OID, opfowner: OID
    }
    2602 pg_amop = empty {
        oid: OID, amopfamily: OID, amoplefttype: OID, amoprighttype: OID, amopstrategy: INT2,
        amoppurpose: INTERNAL_CHAR, amopopr: OID, amopmethod: OID, amopsortfamily: OID
    }
    2603 pg_amproc = empty {
        oid: OID, amprocfamily: OID, amproclefttype: OID, amprocrighttype: OID, amprocnum: INT2, amproc: REGPROC
    }
    3576 pg_transform = empty {
        oid: OID, trftype: OID, trflang: OID, trffromsql: REGPROC, trftosql: REGPROC
    }
    826 pg_default_acl = empty {
        oid: OID, defaclrole: OID, defaclnamespace: OID, defaclobjtype: INTERNAL_CHAR, defaclacl: TEXT_ARRAY
    }
    3394 pg_init_privs = empty {
        objoid: OID, classoid: OID, objsubid: INT4, privtype: INTERNAL_CHAR, initprivs: TEXT_ARRAY
    }
    3596 pg_seclabel = empty {
        objoid: OID, classoid: OID, objsubid: INT4, provider: TEXT, label: TEXT
    }
    3592 pg_shseclabel = empty {
        objoid: OID, classoid: OID, provider: TEXT, label: TEXT
    }
    1214 pg_shdepend = empty {
        dbid: OID, classid: OID, objid: OID, objsubid: INT4, refclassid: OID, refobjid: OID, deptype: INTERNAL_CHAR
    }
    3602 pg_ts_config = empty {
        oid: OID, cfgname: NAME, cfgnamespace: OID, cfgowner: OID, cfgparser: OID
    }
    3600 pg_ts_dict = empty {
        oid: OID, dictname: NAME, dictnamespace: OID, dictowner: OID, dicttemplate: OID, dictinitoption: TEXT
    }
    3601 pg_ts_parser = empty {
        oid: OID, prsname: NAME, prsnamespace: OID, prsstart: REGPROC, prstoken: REGPROC, prsend: REGPROC,
        prsheadline: REGPROC, prslextype: REGPROC
    }
    3764 pg_ts_template = empty {
        oid: OID, tmplname: NAME, tmplnamespace: OID, tmplinit: REGPROC, tmpllexize: REGPROC
    }
    2995 pg_largeobject_metadata = empty {
        oid: OID, lomowner: OID, lomacl: TEXT_ARRAY
    }
    12038 pg_matviews = empty {
        schemaname: NAME, matviewname: NAME, matviewowner: NAME, tablespace: NAME, hasindexes: BOOL,
        ispopulated: BOOL, definition: TEXT
    }
    12023 pg_rules = empty {
        schemaname: NAME, tablename: NAME, rulename: NAME, definition: TEXT
    }
    12018 pg_policies = empty {
        schemaname: NAME, tablename: NAME, policyname: NAME, permissive: TEXT, roles: NAME_ARRAY, cmd: TEXT,
        qual: TEXT, with_check: TEXT
    }
    12068 pg_publication_tables = empty {
        pubname: NAME, schemaname: NAME, tablename: NAME, attnames: NAME_ARRAY, rowfilter: TEXT
    }
    12227 pg_stat_replication = empty {
        pid: INT4, usesysid: OID, usename: NAME, application_name: TEXT, client_addr: TEXT, client_hostname: TEXT,
        client_port: INT4, backend_start: TIMESTAMPTZ, backend_xmin: XID, state: TEXT, sent_lsn: PG_LSN,
        write_lsn: PG_LSN, flush_lsn: PG_LSN, replay_lsn: PG_LSN, write_lag: INTERVAL, flush_lag: INTERVAL,
        replay_lag: INTERVAL, sync_priority: INT4, sync_state: TEXT, reply_time: TIMESTAMPTZ
    }
    12257 pg_replication_slots = empty {
        slot_name: NAME, plugin: NAME, slot_type: TEXT, datoid: OID, database: NAME, temporary: BOOL, active: BOOL,
        active_pid: INT4, xmin: XID, catalog_xmin: XID, restart_lsn: PG_LSN, confirmed_flush_lsn: PG_LSN,
        wal_status: TEXT, safe_wal_size: INT8, two_phase: BOOL
    }
    12090 pg_prepared_xacts = empty {
        transaction: XID, gid: TEXT, prepared: TIMESTAMPTZ, owner: NAME, database: NAME
    }
    12099 pg_seclabels = empty {
        objoid: OID, classoid: OID, objsubid: INT4, objtype: TEXT, objnamespace: OID, objname: TEXT, provider: TEXT,
        label: TEXT
    }
    12327 pg_user_mappings = empty {
        umid: OID, srvid: OID, srvname: NAME, umuser: OID, usename: NAME, umoptions: TEXT_ARRAY
    }
}

fn empty(_: &SystemContext<'_>, _: &mut Rows) -> Result<()> {
    Ok(())
}
