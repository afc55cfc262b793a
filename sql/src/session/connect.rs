//! The beginning of a session: role, database, settings.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::unnamed::UnnamedPlans;
use super::{ActivityState, Now, Scope, Server, Session, SessionActivity, SessionContext, Settings};
use crate::catalog::POSTGRES_DATABASE_OID;
use crate::error::{Result, SqlError, SqlState};
use crate::interrupt::Interrupt;

/// What a client gave at connection, after authentication.
#[derive(Clone, Debug, Default)]
pub struct ConnectionRequest {
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Settings of the start-up packet, in order.
    pub settings: Vec<(String, String)>,
    /// `address:port` of the client.
    pub client: String,
    /// Secret for cancel requests: random.
    pub secret: u32,
}

impl Server {
    /// The SCRAM verifier of a role that may log in; `None` for any other.
    pub fn verifier(&self, user: &str) -> Result<Option<String>> {
        let catalog = self.catalogs.committed(POSTGRES_DATABASE_OID)?;
        Ok(catalog.role_by_name(user).filter(|role| role.login).and_then(|role| role.password.clone()))
    }

    /// Begins a session for an authenticated client.
    pub fn connect(self: &Arc<Self>, request: ConnectionRequest) -> Result<Session> {
        let catalog = self.catalogs.committed(POSTGRES_DATABASE_OID)?;
        let role = catalog.role_by_name(&request.user).ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                format!("role \"{}\" does not exist", request.user),
            )
        })?;
        if !role.login {
            return Err(SqlError::new(
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                format!("role \"{}\" is not permitted to log in", request.user),
            ));
        }
        let database = catalog.database_by_name(&request.database).ok_or_else(|| {
            SqlError::new(SqlState::INVALID_CATALOG_NAME, format!("database \"{}\" does not exist", request.database))
        })?;

        let mut settings = Settings::default();
        settings.overwrite("is_superuser", if role.superuser { "on" } else { "off" });
        settings.overwrite("session_authorization", &request.user);
        for (name, value) in &request.settings {
            settings.set(name, value, Scope::Startup)?;
        }
        settings.take_changed_reports();
        let application_name = settings.show("application_name")?;

        let now_us = (self.clock)();
        let activity = Arc::new(SessionActivity {
            process: self.activity.next_process(),
            secret: request.secret,
            user: request.user,
            database: request.database,
            database_oid: database.oid,
            client: request.client,
            started_us: now_us,
            interrupt: Arc::new(Interrupt::default()),
            now: Mutex::new(Now {
                state: ActivityState::Idle,
                query: Arc::from(""),
                query_started_us: now_us,
                transaction_started_us: None,
                application_name: Arc::from(application_name),
            }),
        });
        let (role, database) = (role.oid, database.oid);
        self.activity.enter(activity.clone());
        let context = Arc::new(SessionContext::new(self.clone(), settings, activity, role, database));
        Ok(Session {
            context,
            block: Default::default(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            copy_in: None,
            commit_lsn: None,
            simple_plans: HashMap::new(),
            unnamed_plans: UnnamedPlans::default(),
            action_plans: HashMap::new(),
            heavy: false,
        })
    }
}
