//! Prepared statements: parsed once, planned when needed, planned anew when the catalog has changed.

use std::sync::Arc;

use parking_lot::Mutex;
use sqlparser::ast::{self, Statement};

use super::Session;
use crate::catalog::{Catalog, Oid, Privilege};
use crate::error::{Result, SqlError, SqlState};
use crate::executor;
use crate::functions::EvalContext;
use crate::parser::ParsedStatement;
use crate::plan::OutputColumn;
use crate::planner::{self, PlanContext, PlannedStatement, StatementKind};
use crate::types::DataType;

/// A prepared statement, or one that is about to run once.
pub struct Prepared {
    /// What was parsed; `None` for an empty query.
    pub(super) parsed: Option<ParsedStatement>,
    /// Types of `$1`, `$2` ….
    pub(super) parameters: Vec<DataType>,
    /// Result columns; `None` when it returns no rows.
    pub(super) columns: Option<Arc<[OutputColumn]>>,
    /// Types that the client gave for its parameters.
    hints: Vec<Option<DataType>>,
    /// The system's own statement: no privileges are asked for.
    pub(super) unchecked: bool,
    plan: Mutex<Option<CachedPlan>>,
}

/// A compiled plan and what it was made from.
#[derive(Clone)]
pub(super) struct CachedPlan {
    pub planned: Arc<PlannedStatement>,
    pub compiled: Arc<executor::Prepared>,
    /// Whether it may run on a thread that others wait for.
    pub point: bool,
    privileges: Arc<[(Oid, Privilege)]>,
    catalog: Arc<Catalog>,
    search_path: Vec<String>,
}

impl CachedPlan {
    /// Result columns; none for a data change without RETURNING.
    fn columns(&self) -> Option<Arc<[OutputColumn]>> {
        let plan = &self.planned.plan;
        let returns_rows = self.planned.kind == StatementKind::Select || !plan.columns.is_empty();
        returns_rows.then(|| Arc::from(plan.columns.as_slice()))
    }

    /// Command tag, without the number of rows.
    pub fn tag(&self) -> &'static str {
        match self.planned.kind {
            StatementKind::Select => "SELECT",
            StatementKind::Insert => "INSERT",
            StatementKind::Update => "UPDATE",
            StatementKind::Delete => "DELETE",
        }
    }
}

/// What Describe tells of a statement.
pub struct Described {
    /// Types of its parameters.
    pub parameters: Vec<DataType>,
    /// Result columns, if it returns rows.
    pub columns: Option<Arc<[OutputColumn]>>,
}

/// The query inside of a DECLARE CURSOR or EXPLAIN, whose parameters are the statement's.
pub(super) fn inner_query(parsed: &ParsedStatement) -> Option<ParsedStatement> {
    let ast = match &parsed.ast {
        Statement::Explain { statement, .. } if is_plannable(statement) => (**statement).clone(),
        Statement::Declare { stmts } => match stmts.as_slice() {
            [ast::Declare { for_query: Some(query), .. }] => Statement::Query(query.clone()),
            _ => return None,
        },
        _ => return None,
    };
    Some(ParsedStatement { ast, ..parsed.clone() })
}

/// Whether a statement has a plan: queries and data changes. All others are utility statements.
pub(super) fn is_plannable(statement: &Statement) -> bool {
    matches!(statement, Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_))
}

impl Prepared {
    /// Its text.
    pub fn text(&self) -> &str {
        self.parsed.as_ref().map_or("", |parsed| &parsed.text)
    }

    pub(super) fn describe(&self) -> Described {
        Described { parameters: self.parameters.clone(), columns: self.columns.clone() }
    }

    pub(super) fn cached(&self) -> Option<CachedPlan> {
        self.plan.lock().clone()
    }
}

impl Session {
    /// Parses and, where the statement has a plan, plans one statement. `hints` are the client's
    /// parameter types, zero for unspecified ones.
    pub(super) fn prepare_parsed(&mut self, parsed: Option<ParsedStatement>, hints: &[u32]) -> Result<Prepared> {
        let hints = hints
            .iter()
            .map(|&oid| match oid {
                0 | 705 => Ok(None),
                oid => DataType::from_oid(oid).map(Some).ok_or_else(|| {
                    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type with OID {oid} does not exist"))
                }),
            })
            .collect::<Result<Vec<_>>>()?;
        let plan = Mutex::new(None);
        let mut prepared = Prepared { parsed, parameters: Vec::new(), columns: None, hints, unchecked: false, plan };
        let Some(parsed) = &prepared.parsed else { return Ok(prepared) };
        if is_plannable(&parsed.ast) {
            // Planning reads the catalog and may evaluate functions: it happens in a transaction.
            self.transaction()?;
            let eval = self.context.eval_context();
            let plan = self.make_plan(parsed, &prepared.hints, &eval)?;
            prepared.parameters = plan.planned.parameters.clone();
            prepared.columns = plan.columns();
            prepared.plan = Mutex::new(Some(plan));
        } else {
            let parsed = parsed.clone();
            prepared.columns = self.utility_columns(&parsed)?;
            prepared.parameters = match inner_query(&parsed) {
                Some(inner) => {
                    self.transaction()?;
                    let eval = self.context.eval_context();
                    self.make_plan(&inner, &prepared.hints, &eval)?.planned.parameters.clone()
                }
                None => prepared.hints.iter().map(|hint| hint.unwrap_or(DataType::TEXT)).collect(),
            };
        }
        Ok(prepared)
    }

    fn make_plan(
        &mut self,
        parsed: &ParsedStatement,
        hints: &[Option<DataType>],
        eval: &Arc<EvalContext>,
    ) -> Result<CachedPlan> {
        let catalog = self.context.catalog()?;
        let search_path = self.context.search_path();
        let context = PlanContext {
            catalog: catalog.clone(),
            search_path: &search_path,
            eval: eval.clone(),
            parameter_hints: hints,
            source: &parsed.source,
            row_estimate: None,
        };
        let planned = Arc::new(planner::plan(&parsed.ast, &context)?);
        let compiled = Arc::new(executor::Prepared::new(planned.plan.clone())?);
        let point = planned.plan.is_point();
        let privileges = super::privileges::needed(&planned.plan).into();
        Ok(CachedPlan { planned, compiled, point, privileges, catalog, search_path })
    }

    /// The statement's plan for the catalog as it is now, its tables locked. Planned anew until the
    /// catalog does not change between planning and locking.
    pub(super) fn locked_plan(&mut self, prepared: &Prepared, eval: &Arc<EvalContext>) -> Result<CachedPlan> {
        let transaction = self.transaction()?;
        let parsed = prepared.parsed.as_ref().expect("an empty query has no plan");
        let read_only = transaction.options().read_only;
        loop {
            let catalog = self.context.catalog()?;
            let usable = prepared
                .cached()
                .filter(|plan| Arc::ptr_eq(&plan.catalog, &catalog) && self.context.search_path_is(&plan.search_path));
            let plan = match usable {
                Some(plan) => plan,
                None => {
                    let hints: Vec<_> = prepared.parameters.iter().copied().map(Some).collect();
                    let plan = self.make_plan(parsed, &hints, eval)?;
                    if plan.columns().as_deref().map(types) != prepared.columns.as_deref().map(types) {
                        return Err(SqlError::new(
                            SqlState::FEATURE_NOT_SUPPORTED,
                            "cached plan must not change result type",
                        ));
                    }
                    *prepared.plan.lock() = Some(plan.clone());
                    plan
                }
            };
            if read_only && plan.planned.writes {
                let message = format!("cannot execute {} in a read-only transaction", plan.tag());
                return Err(SqlError::new(SqlState::READ_ONLY_SQL_TRANSACTION, message));
            }
            for &(relation, privilege) in plan.privileges.iter().filter(|_| !prepared.unchecked) {
                catalog.require_privilege(self.context.role, relation, privilege)?;
            }
            for &(table, mode) in &plan.planned.tables {
                transaction.lock_table(u64::from(table), mode, crate::store::WaitPolicy::Block)?;
            }
            if Arc::ptr_eq(&self.context.catalog()?, &plan.catalog) {
                return Ok(plan);
            }
        }
    }

    /// Parse message: keeps a statement under a name; the unnamed one (empty) is replaced silently.
    pub fn prepare(&mut self, name: &str, text: &str, hints: &[u32]) -> Result<()> {
        if !name.is_empty() && self.statements.contains_key(name) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        if name.is_empty() {
            self.statements.remove("");
            if let Some(prepared) = self.prepared_before(text, hints)? {
                self.statements.insert(String::new(), prepared);
                return Ok(());
            }
        }
        let mut parsed = self.parse_script(text)?;
        if parsed.len() > 1 {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        let parsed = parsed.pop();
        self.check_acceptable(parsed.as_ref().map(|parsed| &parsed.ast))?;
        let prepared = Arc::new(self.prepare_parsed(parsed, hints)?);
        if name.is_empty() {
            self.unnamed_plans.insert(text, hints, &prepared);
        }
        self.statements.insert(name.to_owned(), prepared);
        Ok(())
    }

    /// What an unnamed statement of this text was prepared as, if parsing and planning it again would give the same.
    fn prepared_before(&mut self, text: &str, hints: &[u32]) -> Result<Option<Arc<Prepared>>> {
        let Some((prepared, plan)) = self.unnamed_plans.get(text, hints) else { return Ok(None) };
        self.check_acceptable(prepared.parsed.as_ref().map(|parsed| &parsed.ast))?;
        if let Some(plan) = plan {
            // As in planning: the catalog is read in a transaction.
            self.transaction()?;
            if !Arc::ptr_eq(&plan.catalog, &self.context.catalog()?) || !self.context.search_path_is(&plan.search_path)
            {
                return Ok(None);
            }
        }
        Ok(Some(prepared))
    }

    /// SQL's PREPARE.
    pub(super) fn prepare_sql(&mut self, name: &str, parsed: ParsedStatement, types: &[DataType]) -> Result<()> {
        if self.statements.contains_key(name) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        let prepared = self.prepare_parsed(Some(parsed), &oids(types))?;
        self.statements.insert(name.to_owned(), Arc::new(prepared));
        Ok(())
    }

    /// A prepared statement by name; 26000 when there is none.
    pub fn statement(&self, name: &str) -> Result<&Arc<Prepared>> {
        self.statements.get(name).ok_or_else(|| {
            let message = match name {
                "" => "unnamed prepared statement does not exist".to_owned(),
                name => format!("prepared statement \"{name}\" does not exist"),
            };
            SqlError::new(SqlState::INVALID_SQL_STATEMENT_NAME, message)
        })
    }

    /// Describe of a statement.
    pub fn describe_statement(&mut self, name: &str) -> Result<Described> {
        self.statement(name).map(|prepared| prepared.describe())
    }

    /// Close of a statement; a missing one is no error.
    pub fn close_statement(&mut self, name: &str) {
        self.statements.remove(name);
    }

    /// DEALLOCATE ALL.
    pub(super) fn close_statements(&mut self) {
        self.statements.clear();
    }

    /// 25P02 in a failed block, unless the statement ends it.
    pub(super) fn check_acceptable(&self, statement: Option<&Statement>) -> Result<()> {
        match statement {
            None | Some(Statement::Commit { .. } | Statement::Rollback { .. }) => Ok(()),
            Some(_) => self.check_not_failed(),
        }
    }

    /// Parses a query string.
    pub fn parse_script(&self, text: &str) -> Result<Vec<ParsedStatement>> {
        crate::parser::parse(text)
    }
}

/// Types as a client would name them.
pub(super) fn oids(types: &[DataType]) -> Vec<u32> {
    types.iter().map(|data_type| data_type.oid()).collect()
}

fn types(columns: &[OutputColumn]) -> Vec<DataType> {
    columns.iter().map(|column| column.data_type).collect()
}

/// The columns of a statement with one text column.
pub(super) fn text_column(name: &str) -> Arc<[OutputColumn]> {
    Arc::from([OutputColumn { name: name.to_owned(), data_type: DataType::TEXT, origin: None }])
}

/// The name of an identifier, folded as Postgres does.
pub(super) fn fold(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}
