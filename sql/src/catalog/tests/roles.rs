//! Roles, databases, schemas, privileges and comments.

use super::*;

#[test]
fn roles() {
    let mut session = Session::new();
    check(
        &mut session,
        &[
            ("create user bob with password 'secret' createdb", "CREATE ROLE"),
            ("create role bob", "42710 role \"bob\" already exists"),
            (
                "create role pg_x",
                "42939 role name \"pg_x\" is reserved (Role names starting with \"pg_\" are reserved.)",
            ),
            ("create role team nologin", "CREATE ROLE"),
            ("grant team to bob", "GRANT"),
            ("grant bob to team", "0LP01 role \"bob\" is a member of role \"team\""),
            ("alter role bob rename to \"Bob\"", "ALTER ROLE"),
            ("alter role \"Bob\" set search_path to a, b", "ALTER ROLE"),
            ("alter user \"Bob\" valid until '2030-01-01' connection limit 3", "ALTER ROLE"),
            ("drop role nope", "42704 role \"nope\" does not exist"),
            ("drop role if exists nope", "DROP ROLE [role \"nope\" does not exist, skipping]"),
            ("drop role team", "DROP ROLE"),
            ("drop role postgres", "55006 current user cannot be dropped"),
            ("alter role \"Bob\" frobnicate", "42601 syntax error at or near \"frobnicate\""),
        ],
    );
    let catalog = session.catalog();
    let bob = catalog.role_by_name("Bob").unwrap();
    assert!(bob.login && bob.create_db && !bob.superuser && bob.member_of.is_empty());
    assert_eq!((bob.connection_limit, bob.settings.as_slice()), (3, &[("search_path".into(), "a, b".into())][..]));
    let verifier = bob.password.as_deref().unwrap();
    assert!(ddl::scram::is_verifier(verifier), "{verifier}");
    assert_eq!(verifier, ddl::scram::verifier("secret", &[7; 16]));
}

/// The example of RFC 7677.
#[test]
fn scram_keys_are_those_of_the_rfc() {
    let salt = [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
    let salted = ddl::scram::salted_password("pencil", &salt, 4096);
    let (_, server) = ddl::scram::keys(&salted);
    let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                   s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let signature = ddl::scram::hmac(&server, &[message.as_bytes()]);
    assert_eq!(ddl::scram::base64(&signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn privileges() {
    let mut session = Session::new();
    run(&mut session, &["create table t(a int)", "create role bob", "create role team", "grant team to bob"]);
    let may = |session: &Session, privilege| {
        let catalog = session.catalog();
        let table = catalog.tables().next().unwrap().oid;
        catalog.has_privilege(catalog.role_by_name("bob").unwrap().oid, table, privilege)
    };
    assert!(!may(&session, Privilege::Select));
    check(
        &mut session,
        &[
            ("grant select, insert on t to team", "GRANT"),
            ("grant usage on t to team", "0LP01 invalid privilege type USAGE for table"),
            ("grant select (a) on t to team", "0A000 a privilege on columns is not supported"),
            ("grant create on schema public to bob", "0A000 privilege CREATE on a schema is not supported"),
            ("grant usage on schema public to bob", "GRANT"),
            ("grant select on nope to bob", "42P01 relation \"nope\" does not exist"),
            (
                "drop role team",
                "2BP01 role \"team\" cannot be dropped because some objects depend on it (privileges for table t)",
            ),
        ],
    );
    assert!(may(&session, Privilege::Select) && may(&session, Privilege::Insert) && !may(&session, Privilege::Delete));
    let catalog = session.catalog();
    let table = catalog.relation(None, "t", &session.search_path).unwrap();
    assert_eq!(catalog.acl(&table), ["postgres=arwdDxt/postgres", "team=ar/postgres"]);
    run(&mut session, &["revoke insert on t from team", "grant all on all tables in schema public to public"]);
    assert!(may(&session, Privilege::Delete));
    run(&mut session, &["revoke all on t from public"]);
    assert!(may(&session, Privilege::Select) && !may(&session, Privilege::Insert));
    session.role = session.catalog().role_by_name("bob").unwrap().oid;
    check(
        &mut session,
        &[
            ("drop table t", "42501 must be owner of table t"),
            ("truncate t", "42501 permission denied for table t"),
            ("create role eve", "42501 permission denied to create role"),
        ],
    );
}

#[test]
fn databases() {
    let mut session = Session::new();
    check(
        &mut session,
        &[
            ("create database d with owner = postgres encoding 'UTF8'", "CREATE DATABASE"),
            ("create database d", "42P04 database \"d\" already exists"),
            ("create database e encoding 'latin1'", "0A000 encoding \"latin1\" is not supported"),
            ("alter database d set work_mem = '8MB'", "ALTER DATABASE"),
            ("alter database d rename to e", "ALTER DATABASE"),
            ("drop database postgres", "55006 cannot drop the currently open database"),
            ("drop database nope", "3D000 database \"nope\" does not exist"),
        ],
    );
    let oid = session.catalog().database_by_name("e").unwrap().oid;
    let inside = session.manager.committed(oid).unwrap();
    assert_eq!(inside.schema_oid("public"), Some(PUBLIC_SCHEMA_OID));
    assert_eq!(session.show("drop database e"), "DROP DATABASE");
    assert!(session.catalog().database(oid).is_none());
    assert_eq!(session.manager.committed(oid).unwrap().schemas().count(), 0);
}

#[test]
fn schemas_and_comments() {
    let mut session = Session::new();
    check(
        &mut session,
        &[
            ("create schema s", "CREATE SCHEMA"),
            ("create schema s", "42P06 schema \"s\" already exists"),
            ("create schema if not exists s", "CREATE SCHEMA [schema \"s\" already exists, skipping]"),
            (
                "create schema pg_s",
                "42939 unacceptable schema name \"pg_s\" (The prefix \"pg_\" is reserved for system schemas.)",
            ),
            ("create table s.t(a int primary key)", "CREATE TABLE"),
            ("comment on table s.t is 'a table'", "COMMENT"),
            ("comment on column s.t.a is 'a column'", "COMMENT"),
            ("comment on constraint t_pkey on s.t is 'a key'", "COMMENT"),
            ("comment on column s.t.b is 'x'", "42703 column \"b\" of relation \"t\" does not exist"),
            ("comment on view s.t is 'x'", "42809 \"t\" is not a view"),
            ("alter table s.t set schema public", "ALTER TABLE"),
            ("alter table t set schema s", "ALTER TABLE"),
            (
                "drop schema s",
                "2BP01 cannot drop schema s because other objects depend on it (table s.t depends on schema s) (Use DROP ... CASCADE to drop the dependent objects too.)",
            ),
        ],
    );
    assert_eq!(session.catalog().comments().count(), 3);
    check(&mut session, &[("drop schema s cascade", "DROP SCHEMA [drop cascades to table s.t]")]);
    assert_eq!(session.catalog().comments().count(), 0);
}

#[test]
fn sequences_are_altered() {
    let mut session = Session::new();
    check(
        &mut session,
        &[
            ("create sequence s cache 10 maxvalue 3 no cycle", "CREATE SEQUENCE"),
            ("alter sequence s restart with 2", "ALTER SEQUENCE"),
            ("alter sequence s restart with 9", "22023 RESTART value (9) cannot be greater than MAXVALUE (3)"),
            ("alter sequence s increment by 2 maxvalue 100", "ALTER SEQUENCE"),
            ("alter sequence s rename to r", "ALTER SEQUENCE"),
            ("alter sequence s rename to r", "42P01 relation \"s\" does not exist"),
            ("alter sequence if exists s rename to r", "ALTER SEQUENCE [relation \"s\" does not exist, skipping]"),
            ("create table t(a int)", "CREATE TABLE"),
            ("alter sequence r owned by t.a", "ALTER SEQUENCE"),
            ("alter sequence r owned by t.b", "42703 column \"b\" of relation \"t\" does not exist"),
            ("alter view r rename to q", "42809 \"r\" is not a view"),
            ("drop table t", "DROP TABLE"),
        ],
    );
    assert_eq!(session.catalog().sequences().count(), 0);
}
