//! Settings (GUCs) of one session: typed where they are read often, transactional as in Postgres.

pub(super) mod definitions;
mod values;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

pub use definitions::{Context, DEFINITIONS, Definition, Kind, Unit};

use crate::error::{Result, SqlError, SqlState};
use crate::functions::DateOrder;
use crate::store::IsolationLevel;

/// The settings of one session.
#[derive(Clone, Debug)]
pub struct Settings {
    current: Values,
    /// What holds after the transaction, where SET LOCAL differs; by position.
    after_transaction: HashMap<usize, Arc<str>>,
    /// What holds after a rollback; set by the first change in a transaction.
    at_begin: Option<Box<Values>>,
    /// What `RESET` goes back to: defaults and what the start-up packet gave.
    reset: HashMap<usize, Arc<str>>,
    custom: HashMap<String, Arc<str>>,
    changed_reports: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Values {
    texts: Vec<Arc<str>>,
    typed: Typed,
}

/// Settings that the engine reads, decoded.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Typed {
    pub statement_timeout_ms: u64,
    pub lock_timeout_ms: u64,
    pub idle_in_transaction_session_timeout_ms: u64,
    pub idle_session_timeout_ms: u64,
    pub work_mem_bytes: usize,
    pub extra_float_digits: i32,
    pub time_zone: jiff::tz::TimeZone,
    pub date_order: DateOrder,
    /// As written, `$user` included.
    pub search_path: Arc<[String]>,
    pub default_isolation: IsolationLevel,
    pub default_read_only: bool,
    /// Notices below are not sent.
    pub client_min_messages: MessageLevel,
}

/// Levels of `client_min_messages` that decide what a client hears of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum MessageLevel {
    Notice,
    Warning,
    Error,
}

impl Default for Settings {
    fn default() -> Self {
        let texts = DEFINITIONS.iter().map(|definition| Arc::from(definition.default)).collect();
        let mut current = Values { texts, typed: values::defaults() };
        for (position, definition) in DEFINITIONS.iter().enumerate() {
            let (_, apply) = values::check(definition, definition.default).expect("defaults are valid");
            apply.into_iter().for_each(|apply| apply(&mut current.typed));
            debug_assert_eq!(definitions::position(definition.name), Some(position));
        }
        Self {
            current,
            after_transaction: HashMap::new(),
            at_begin: None,
            reset: HashMap::new(),
            custom: HashMap::new(),
            changed_reports: Vec::new(),
        }
    }
}

/// For how long a SET holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// SET: for the session, if the transaction commits.
    Session,
    /// SET LOCAL: until the transaction ends.
    Local,
    /// The start-up packet: also what RESET goes back to.
    Startup,
}

impl Settings {
    /// The decoded settings.
    pub fn typed(&self) -> &Typed {
        &self.current.typed
    }

    /// Sets `name` to `value`. 42704 for an unknown setting, 22023 for a bad value, 55P02 for one that
    /// cannot be changed.
    pub fn set(&mut self, name: &str, value: &str, scope: Scope) -> Result<()> {
        let Some(position) = definitions::position(name) else {
            return self.set_custom(name, value);
        };
        let definition = &DEFINITIONS[position];
        if definition.context != Context::User {
            return Err(SqlError::new(
                SqlState::CANT_CHANGE_RUNTIME_PARAM,
                format!("parameter \"{}\" cannot be changed", definition.name),
            ));
        }
        let (text, apply) = values::check(definition, value)?;
        let text: Arc<str> = Arc::from(text);
        match scope {
            Scope::Startup => {
                self.reset.insert(position, text.clone());
            }
            Scope::Session => {
                self.remember();
                self.after_transaction.remove(&position);
            }
            Scope::Local => {
                self.remember();
                self.after_transaction.entry(position).or_insert_with(|| self.current.texts[position].clone());
            }
        }
        self.assign(position, text, apply);
        Ok(())
    }

    /// Names with a dot belong to extensions and applications: any text.
    fn set_custom(&mut self, name: &str, value: &str) -> Result<()> {
        if !name.contains('.') {
            return Err(unrecognized(name));
        }
        self.custom.insert(name.to_ascii_lowercase(), Arc::from(value));
        Ok(())
    }

    fn remember(&mut self) {
        if self.at_begin.is_none() {
            self.at_begin = Some(Box::new(self.current.clone()));
        }
    }

    fn assign(&mut self, position: usize, text: Arc<str>, apply: Option<values::Apply>) {
        if DEFINITIONS[position].report && self.current.texts[position] != text {
            self.changed_reports.push(position);
        }
        self.current.texts[position] = text;
        apply.into_iter().for_each(|apply| apply(&mut self.current.typed));
    }

    fn assign_checked(&mut self, position: usize, text: Arc<str>) {
        let (_, apply) = values::check(&DEFINITIONS[position], &text).expect("the value was checked when it was set");
        self.assign(position, text, apply);
    }

    /// RESET: back to the value at connection.
    pub fn reset(&mut self, name: &str) -> Result<()> {
        let Some(position) = definitions::position(name) else {
            return match self.custom.remove(&name.to_ascii_lowercase()) {
                Some(_) => Ok(()),
                None => Err(unrecognized(name)),
            };
        };
        let value = self.reset.get(&position).cloned().unwrap_or_else(|| Arc::from(DEFINITIONS[position].default));
        self.set(name, &value, Scope::Session)
    }

    /// RESET ALL.
    pub fn reset_all(&mut self) {
        self.remember();
        self.custom.clear();
        for (position, definition) in DEFINITIONS.iter().enumerate() {
            // Those of the current transaction are no session state.
            if definition.context == Context::User && !definition.name.starts_with("transaction_") {
                let value = self.reset.get(&position).cloned().unwrap_or_else(|| Arc::from(definition.default));
                self.assign_checked(position, value);
            }
        }
    }

    /// SHOW: the value with its unit, as Postgres prints it.
    pub fn show(&self, name: &str) -> Result<String> {
        match definitions::position(name) {
            Some(position) => Ok(values::display(&DEFINITIONS[position], &self.current.texts[position])),
            None => {
                let value = self.custom.get(&name.to_ascii_lowercase()).ok_or_else(|| unrecognized(name))?;
                Ok(value.to_string())
            }
        }
    }

    /// The text of a defined setting, in its own unit.
    pub fn raw(&self, name: &str) -> &str {
        let position = definitions::position(name).unwrap_or_else(|| panic!("no setting {name}"));
        &self.current.texts[position]
    }

    /// All settings with their shown values, by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static Definition, String)> + '_ {
        DEFINITIONS
            .iter()
            .zip(&self.current.texts)
            .map(|(definition, text)| (definition, values::display(definition, text)))
    }

    /// Overwrites one that only the server changes (`transaction_isolation`, `in_hot_standby` …).
    pub fn overwrite(&mut self, name: &'static str, value: &str) {
        let position = definitions::position(name).unwrap_or_else(|| panic!("no setting {name}"));
        if &*self.current.texts[position] != value {
            self.assign(position, Arc::from(value), None);
        }
    }

    /// Ends the transaction: a commit keeps what SET set and undoes SET LOCAL, a rollback undoes both.
    pub fn end_transaction(&mut self, committed: bool) {
        if let Some(before) = self.at_begin.take() {
            if committed {
                for (position, text) in std::mem::take(&mut self.after_transaction) {
                    self.assign_checked(position, text);
                }
            } else {
                self.after_transaction.clear();
                self.restore(*before);
            }
        }
    }

    /// Goes back to the settings of an earlier moment of this transaction (ROLLBACK TO SAVEPOINT).
    pub fn rollback_to(&mut self, earlier: &Settings) {
        self.after_transaction = earlier.after_transaction.clone();
        self.custom = earlier.custom.clone();
        self.restore(earlier.current.clone());
    }

    fn restore(&mut self, before: Values) {
        for (position, definition) in DEFINITIONS.iter().enumerate() {
            if definition.report && before.texts[position] != self.current.texts[position] {
                self.changed_reports.push(position);
            }
        }
        self.current = before;
    }

    /// Settings to tell the client of by ParameterStatus, since the last call.
    pub fn take_changed_reports(&mut self) -> Vec<(&'static str, Arc<str>)> {
        let mut positions = std::mem::take(&mut self.changed_reports);
        positions.sort_unstable();
        positions.dedup();
        positions
            .into_iter()
            .map(|position| (DEFINITIONS[position].name, self.current.texts[position].clone()))
            .collect()
    }

    /// Whether the client has something to be told.
    pub fn has_changed_reports(&self) -> bool {
        !self.changed_reports.is_empty()
    }

    /// Every reported setting, for the beginning of a session.
    pub fn reports(&self) -> impl Iterator<Item = (&'static str, &str)> + '_ {
        DEFINITIONS
            .iter()
            .zip(&self.current.texts)
            .filter(|(definition, _)| definition.report)
            .map(|(definition, text)| (definition.name, &**text))
    }
}

fn unrecognized(name: &str) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
}
