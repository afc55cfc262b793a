//! Catalog and DDL on the in-memory engine: what statements answer, and what the catalog holds afterwards.

use std::sync::Arc;

use parking_lot::Mutex;

use super::ddl::{self, DdlContext, Notice};
use super::*;
use crate::error::Result;
use crate::functions::EvalContext;
use crate::parser::parse;
use crate::store::{Interrupt, SavepointId, Store, Transaction, TransactionOptions};
use crate::table::RowIds;
use crate::testing::MemoryStore;
use crate::types::Datum;

/// A running transaction, its catalog changes and its savepoints.
type Running = (Arc<dyn Transaction>, Mutex<CatalogChanges>, Vec<(SavepointId, usize)>);

/// A session over a store of its own, or of another session.
pub(super) struct Session {
    pub store: Arc<dyn Store>,
    pub manager: Arc<CatalogManager>,
    pub role: Oid,
    pub search_path: Vec<String>,
    transaction: Option<Running>,
    pub notices: Vec<Notice>,
    pub row_ids: Arc<RowIds>,
}

impl Session {
    pub fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let manager = Arc::new(CatalogManager::open(Arc::clone(&store)).unwrap());
        Self::over(store, manager)
    }

    pub fn over(store: Arc<dyn Store>, manager: Arc<CatalogManager>) -> Self {
        let search_path = vec!["public".to_owned()];
        let (notices, row_ids) = (Vec::new(), Arc::default());
        Self { store, manager, role: BOOTSTRAP_ROLE_OID, search_path, transaction: None, notices, row_ids }
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        match &self.transaction {
            Some((_, changes, _)) => self.manager.catalog(POSTGRES_DATABASE_OID, &mut changes.lock()).unwrap(),
            None => self.manager.committed(POSTGRES_DATABASE_OID).unwrap(),
        }
    }

    fn begin(&mut self) {
        let transaction = self.store.begin(TransactionOptions::default(), Arc::new(Interrupt::default())).unwrap();
        self.transaction = Some((transaction, Mutex::default(), Vec::new()));
    }

    /// Runs one statement: `begin`, `commit`, `rollback`, `savepoint`, `rollback to` or DDL.
    pub fn run(&mut self, text: &str) -> Result<String> {
        match text {
            "begin" => self.begin(),
            "commit" => drop(self.transaction.take().unwrap().0.commit()?),
            "rollback" => self.transaction.take().unwrap().0.rollback(),
            "savepoint" => {
                let (transaction, changes, savepoints) = self.transaction.as_mut().unwrap();
                savepoints.push((transaction.savepoint(), changes.lock().mark()));
            }
            "rollback to" => {
                let (transaction, changes, savepoints) = self.transaction.as_mut().unwrap();
                let (savepoint, mark) = *savepoints.last().unwrap();
                transaction.rollback_to(savepoint);
                changes.lock().rollback_to(mark);
            }
            _ => return self.ddl(text),
        }
        Ok(text.to_uppercase())
    }

    fn ddl(&mut self, text: &str) -> Result<String> {
        let implicit = self.transaction.is_none();
        if implicit {
            self.begin();
        }
        let notices = Mutex::default();
        let (transaction, changes, _) = self.transaction.as_ref().unwrap();
        let context = DdlContext {
            transaction,
            manager: &self.manager,
            changes,
            database: POSTGRES_DATABASE_OID,
            role: self.role,
            search_path: &self.search_path,
            eval: &Arc::new(EvalContext::detached()),
            work_mem_bytes: 1 << 16,
            hash_memory: &Arc::default(),
            temporary_directory: Arc::from(std::env::temp_dir()),
            row_ids: &self.row_ids,
            notices: &notices,
            random: &|bytes| bytes.fill(7),
        };
        let result = parse(text).and_then(|statements| ddl::execute(&statements[0].ast, &context));
        self.notices = notices.into_inner();
        if implicit {
            let (transaction, ..) = self.transaction.take().unwrap();
            match &result {
                Ok(_) => drop(transaction.commit()?),
                Err(_) => transaction.rollback(),
            }
        }
        result.map(|tag| tag.0)
    }

    /// Runs a statement and shows its tag, with notices, or its error.
    pub fn show(&mut self, text: &str) -> String {
        match self.run(text) {
            Ok(tag) => {
                let notices = self.notices.drain(..).map(|notice| {
                    let fields = notice.error.fields();
                    let detail = fields.detail.as_ref().map_or(String::new(), |detail| format!(" ({detail})"));
                    format!(" [{}{detail}]", fields.message)
                });
                tag.clone() + &notices.collect::<String>()
            }
            Err(error) => {
                let fields = error.fields();
                let more = fields.detail.iter().chain(&fields.hint).map(|text| format!(" ({text})"));
                format!("{} {}{}", fields.state.0, fields.message, more.collect::<String>())
            }
        }
    }
}

/// Runs statements, each with what it must show.
pub(super) fn check(session: &mut Session, script: &[(&str, &str)]) {
    for (statement, expected) in script {
        assert_eq!(session.show(statement), *expected, "for {statement}");
    }
}

/// Runs statements that must succeed.
pub(super) fn run(session: &mut Session, script: &[&str]) {
    for statement in script {
        session.run(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// A table as one line: columns, keys, checks.
pub(super) fn describe(session: &Session, name: &str) -> String {
    let catalog = session.catalog();
    let Some(Relation::Table(table)) = catalog.relation(None, name, &session.search_path) else {
        return format!("{name}: none");
    };
    let names = |columns: &[usize]| columns.iter().map(|at| &*table.columns[*at].name).collect::<Vec<_>>().join(",");
    let mut parts = Vec::new();
    for (_, column) in table.live_columns() {
        let not_null = if column.not_null { " not null" } else { "" };
        let default = column.default.as_ref().map_or(String::new(), |text| format!(" default {text}"));
        let identity = column.identity.map_or("", |identity| if identity.always { " always" } else { " by default" });
        parts.push(format!("{} {}{not_null}{default}{identity}", column.name, column.data_type.full_name()));
    }
    parts.extend(table.primary_key.iter().map(|key| format!("{} pk({})", key.name, names(&key.columns))));
    for index in &table.indexes {
        let kind = if index.constraint {
            "unique"
        } else if index.unique {
            "unique index"
        } else {
            "index"
        };
        let columns: Vec<_> = index.columns.iter().map(|column| column.column).collect();
        parts.push(format!("{} {kind}({})", index.name, names(&columns)));
    }
    parts.extend(table.checks.iter().map(|check| format!("{} check({})", check.name, check.expression)));
    parts.join("; ")
}

mod alter;
mod expressions;
mod objects;
mod roles;
mod sequences;
mod system;
mod tables;
