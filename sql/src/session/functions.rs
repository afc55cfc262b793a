//! Functions whose answer depends on the session: settings, sequences, identity, other sessions.

use std::sync::Arc;

use super::{SessionContext, Settings};
use crate::catalog::{Activity, Relation, SequencePosition, Setting, SystemInformation};
use crate::error::{Result, SqlError, SqlState};
use crate::functions::{EvalContext, ScalarFunction, SessionFunctions};
use crate::interrupt::InterruptReason;
use crate::session::{DEFINITIONS, Kind, Scope};
use crate::types::{Array, DataType, Datum};

impl SessionFunctions for SessionContext {
    fn call(&self, function: &'static ScalarFunction, args: &[Datum], context: &EvalContext) -> Result<Datum> {
        match (function.name, args) {
            ("nextval", [Datum::Oid(oid)]) => self.nextval(*oid).map(Datum::Int8),
            ("currval", [Datum::Oid(oid)]) => {
                let sequence = self.sequence(*oid)?;
                self.sequences.lock().currval(&sequence).map(Datum::Int8)
            }
            ("lastval", []) => {
                let catalog = self.catalog()?;
                self.sequences.lock().lastval(|oid| catalog.sequence(oid).is_some()).map(Datum::Int8)
            }
            ("setval", [Datum::Oid(oid), Datum::Int8(value), rest @ ..]) => {
                let is_called = !matches!(rest, [Datum::Bool(false)]);
                self.setval(*oid, SequencePosition { last_value: *value, is_called }).map(Datum::Int8)
            }
            ("current_user" | "session_user" | "user" | "current_role", []) => Ok(Datum::text(&self.activity.user)),
            ("current_database" | "current_catalog", []) => Ok(Datum::text(&self.activity.database)),
            ("current_schema", []) => {
                let catalog = self.catalog()?;
                let existing = self.search_path().into_iter().find(|name| catalog.schema_oid(name).is_some());
                Ok(existing.map_or(Datum::Null, Datum::text))
            }
            ("current_schemas", [Datum::Bool(implicit)]) => {
                let catalog = self.catalog()?;
                let path = self.search_path();
                let implicit =
                    (*implicit && !path.iter().any(|name| name == "pg_catalog")).then(|| "pg_catalog".to_owned());
                let existing = path.into_iter().filter(|name| catalog.schema_oid(name).is_some());
                let elements: Vec<_> = implicit.into_iter().chain(existing).map(Datum::text).collect();
                Ok(Datum::Array(Arc::new(Array::one_dimensional(DataType::NAME, elements))))
            }
            ("version", []) => Ok(Datum::text(format!(
                "PostgreSQL {} (Alluvium {})",
                super::settings::definitions::SERVER_VERSION,
                env!("CARGO_PKG_VERSION")
            ))),
            ("current_query", []) => Ok(Datum::Text(self.activity.now.lock().query.clone())),
            ("pg_backend_pid", []) => Ok(Datum::Int4(self.activity.process as i32)),
            ("current_setting", [Datum::Text(name), rest @ ..]) => match self.settings.lock().show(name) {
                Ok(value) => Ok(Datum::text(value)),
                Err(_) if matches!(rest, [Datum::Bool(true)]) => Ok(Datum::Null),
                Err(error) => Err(error),
            },
            ("set_config", [Datum::Text(name), value, Datum::Bool(local)]) => {
                let mut settings = self.settings.lock();
                match value {
                    Datum::Text(value) => {
                        let scope = if *local { Scope::Local } else { Scope::Session };
                        settings.set(name, value, scope)?;
                    }
                    _ => settings.reset(name)?,
                }
                self.interrupt.set_lock_timeout_ms(settings.typed().lock_timeout_ms);
                settings.show(name).map(Datum::text)
            }
            ("txid_current" | "pg_current_xact_id", []) => Err(SqlError::unsupported(function.name)
                .with_hint("There are no transaction ids: use pg_current_wal_lsn() to order commits.")),
            ("pg_current_wal_lsn" | "pg_current_wal_flush_lsn" | "pg_current_wal_insert_lsn", []) => {
                Ok(Datum::PgLsn(self.server.store.durable_lsn().0))
            }
            ("pg_last_wal_replay_lsn" | "pg_last_wal_receive_lsn", []) => Ok(Datum::Null),
            ("pg_is_in_recovery", []) => Ok(Datum::Bool(false)),
            ("pg_postmaster_start_time", []) => Ok(Datum::Timestamptz(self.server.started_us)),
            ("pg_conf_load_time", []) => Ok(Datum::Timestamptz(self.server.started_us)),
            ("pg_cancel_backend", [Datum::Int4(process)]) => Ok(self.signal(*process, InterruptReason::UserCancel)),
            ("pg_terminate_backend", [Datum::Int4(process), ..]) => {
                Ok(self.signal(*process, InterruptReason::Shutdown))
            }
            ("pg_sleep", [Datum::Float8(seconds)]) => self.sleep(*seconds),
            ("inet_server_addr" | "inet_client_addr", []) => Ok(Datum::Null),
            ("inet_server_port" | "inet_client_port", []) => Ok(Datum::Null),
            ("pg_advisory_unlock_all", []) => Ok(Datum::Null),
            _ => crate::catalog::functions::call(function.name, args, &*self.catalog()?, &self.search_path(), context),
        }
    }

    fn relation_oid(&self, name: &str) -> Result<Option<u32>> {
        let parts = crate::catalog::split_qualified_name(name)?;
        let catalog = self.catalog()?;
        let relation = match parts.as_slice() {
            [name] => catalog.relation(None, name, &self.search_path()),
            [schema, name] => catalog.relation(Some(schema), name, &[]),
            _ => None,
        };
        Ok(relation.map(|relation| relation.oid()))
    }

    fn relation_name(&self, oid: u32) -> Option<String> {
        let catalog = self.catalog().ok()?;
        let relation = catalog.relation_by_oid(oid)?;
        if catalog.is_visible(oid, &self.search_path()) {
            return Some(crate::types::text::quote_identifier(relation.name()));
        }
        let schema = catalog.schema_name(relation.schema())?;
        let (schema, name) =
            (crate::types::text::quote_identifier(schema), crate::types::text::quote_identifier(relation.name()));
        Some(format!("{schema}.{name}"))
    }

    fn check(&self, relation: Option<u32>) -> Result<Vec<crate::types::Row>> {
        SessionContext::check(self, relation)
    }

    fn system_information(&self) -> &dyn SystemInformation {
        self
    }
}

impl SessionContext {
    fn sequence(&self, oid: u32) -> Result<Arc<crate::catalog::Sequence>> {
        let catalog = self.catalog()?;
        match catalog.relation_by_oid(oid) {
            Some(Relation::Sequence(sequence)) => Ok(sequence),
            Some(other) => {
                Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a sequence", other.name())))
            }
            None => Err(SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation with OID {oid} does not exist"))),
        }
    }

    fn nextval(&self, oid: u32) -> Result<i64> {
        let (sequence, catalog) = (self.sequence(oid)?, self.catalog()?);
        let server = &self.server;
        let mut session = self.sequences.lock();
        server.catalogs.sequences().nextval(&*server.store, catalog.counters(), &sequence, &mut session)
    }

    fn setval(&self, oid: u32, position: SequencePosition) -> Result<i64> {
        let (sequence, catalog) = (self.sequence(oid)?, self.catalog()?);
        let server = &self.server;
        let mut session = self.sequences.lock();
        server.catalogs.sequences().setval(&*server.store, catalog.counters(), &sequence, position, &mut session)
    }

    fn signal(&self, process: i32, reason: InterruptReason) -> Datum {
        let session = u32::try_from(process).ok().and_then(|process| self.server.activity.session(process));
        if let Some(session) = &session {
            session.interrupt.raise(reason);
        }
        Datum::Bool(session.is_some())
    }

    /// Sleeps on the waker of the session's interrupt: a cancel ends it at once.
    fn sleep(&self, seconds: f64) -> Result<Datum> {
        if seconds.is_nan() || seconds <= 0.0 {
            return Ok(Datum::text(""));
        }
        let thread = std::thread::current();
        self.interrupt.set_waker(Some(Box::new(move || thread.unpark())));
        let microseconds = |seconds: f64| (seconds * 1e6) as i64;
        let end_us = (self.server.clock)().saturating_add(microseconds(seconds));
        let result = loop {
            if let Err(error) = self.interrupt.check() {
                break Err(error);
            }
            let left_us = end_us.saturating_sub((self.server.clock)());
            match u64::try_from(left_us) {
                Ok(left_us) if left_us > 0 => std::thread::park_timeout(std::time::Duration::from_micros(left_us)),
                _ => break Ok(Datum::text("")),
            }
        };
        self.interrupt.set_waker(None);
        result
    }
}

impl SystemInformation for SessionContext {
    fn current_role(&self) -> u32 {
        self.role
    }

    fn search_path(&self) -> Vec<String> {
        SessionContext::search_path(self)
    }

    fn activity(&self) -> Vec<Activity> {
        let roles = self.catalog().ok();
        let role_of =
            |user: &str| roles.as_ref().and_then(|catalog| catalog.role_by_name(user)).map_or(0, |role| role.oid);
        let sessions = self.server.activity.sessions();
        sessions
            .iter()
            .map(|session| {
                let now = session.now.lock().clone();
                let (address, port) = match session.client.rsplit_once(':') {
                    Some((address, port)) => (Some(address.to_owned()), port.parse().ok()),
                    None => (None, None),
                };
                Activity {
                    pid: session.process as i32,
                    database: session.database_oid,
                    role: role_of(&session.user),
                    application_name: now.application_name.to_string(),
                    client_address: address,
                    client_port: port,
                    backend_start_us: session.started_us,
                    transaction_start_us: now.transaction_started_us,
                    query_start_us: Some(now.query_started_us),
                    state_change_us: Some(now.query_started_us),
                    state: now.state.as_str().to_owned(),
                    wait_event: None,
                    query: now.query.to_string(),
                }
            })
            .collect()
    }

    fn settings(&self) -> Vec<Setting> {
        let settings: Settings = self.settings.lock().clone();
        DEFINITIONS
            .iter()
            .map(|definition| {
                let (kind, unit, min, max, words) = match definition.kind {
                    Kind::Bool => ("bool", None, None, None, Vec::new()),
                    Kind::Integer { min, max, unit } => {
                        ("integer", unit.as_str(), Some(min.to_string()), Some(max.to_string()), Vec::new())
                    }
                    Kind::Enum(words) => {
                        ("enum", None, None, None, words.iter().map(|&word| word.to_owned()).collect())
                    }
                    Kind::Text | Kind::TimeZone | Kind::DateStyle | Kind::SearchPath => {
                        ("string", None, None, None, Vec::new())
                    }
                };
                let value = settings.raw(definition.name);
                Setting {
                    name: definition.name.to_owned(),
                    source: if value == definition.default { "default" } else { "session" }.to_owned(),
                    value: value.to_owned(),
                    unit: unit.map(str::to_owned),
                    category: "Alluvium".to_owned(),
                    description: definition.description.to_owned(),
                    context: definition.context.as_str().to_owned(),
                    kind: kind.to_owned(),
                    min,
                    max,
                    enum_values: words,
                    boot_value: definition.default.to_owned(),
                    reset_value: definition.default.to_owned(),
                }
            })
            .collect()
    }

    fn sequence_position(&self, sequence: &crate::catalog::Sequence) -> Option<SequencePosition> {
        let catalog = self.catalog().ok()?;
        let server = &self.server;
        server.catalogs.sequences().position(&*server.store, catalog.counters(), sequence).ok()
    }
}
