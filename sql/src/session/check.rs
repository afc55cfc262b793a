//! `alluvium_check`: what it goes through, and the rows that it answers.

use std::sync::Arc;

use storage::TreeId;

use super::SessionContext;
use crate::catalog::{Catalog, Relation, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::store::{PageProblem, Transaction};
use crate::types::{Datum, Row};

/// Problems told by one call; a database with more needs a restore, not a longer list.
const MAX_PROBLEMS: usize = 1_000;

/// Collects problems up to the limit.
struct Problems {
    rows: Vec<Row>,
}

impl Problems {
    fn add(&mut self, database: &str, relation: Option<&str>, page: Option<u64>, problem: String) -> Result<()> {
        if self.rows.len() >= MAX_PROBLEMS {
            return Err(SqlError::new(SqlState::DATA_CORRUPTED, "too many problems to list"));
        }
        let page = page.and_then(|page| i64::try_from(page).ok()).map_or(Datum::Null, Datum::Int8);
        let relation = relation.map_or(Datum::Null, Datum::text);
        self.rows.push(vec![Datum::text(database), relation, page, Datum::text(problem)]);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= MAX_PROBLEMS
    }
}

/// A tree and what it is, for the names in answers.
struct Named {
    tree: TreeId,
    database: String,
    relation: String,
}

impl SessionContext {
    /// Checks one relation, or everything that the store holds, as of the running statement's snapshot: the
    /// rows that `alluvium_check` answers.
    pub(super) fn check(&self, relation: Option<u32>) -> Result<Vec<Row>> {
        let transaction =
            self.transaction().ok_or_else(|| SqlError::internal("a statement runs outside a transaction"))?;
        // The catalog of that very snapshot: the newest one may tell of trees that it does not hold.
        let catalog = Catalog::load(&*transaction, &*self.server.store, self.database)?;
        if !catalog.role(self.role).is_some_and(|role| role.superuser) {
            let text = "permission denied for function alluvium_check";
            return Err(SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
        }
        let mut problems = Problems { rows: Vec::new() };
        match relation {
            Some(oid) => {
                let (table, index) = find(&catalog, oid)?;
                let database = self.activity.database.clone();
                let mut trees = names(&database, &catalog, std::iter::once(&table));
                if let Some(index) = index {
                    trees.retain(|named| named.tree == index);
                }
                check(&*transaction, &database, &trees, false, &[table], &mut problems)?;
            }
            None => self.check_all(&*transaction, &catalog, &mut problems)?,
        }
        Ok(problems.rows)
    }

    fn check_all(&self, transaction: &dyn Transaction, own: &Catalog, problems: &mut Problems) -> Result<()> {
        if !self.changes.lock().is_empty() {
            let text = "alluvium_check() cannot run in a transaction that has changed the catalog";
            return Err(SqlError::new(SqlState::ACTIVE_SQL_TRANSACTION, text)
                .with_hint("Name a relation, or call it in a transaction of its own."));
        }
        let (mut trees, mut tables) = (Vec::new(), Vec::new());
        for database in own.databases() {
            let catalog = Catalog::load(transaction, &*self.server.store, database.oid)?;
            trees.extend(names(&database.name, &catalog, catalog.tables()));
            tables.push((database.name.clone(), catalog.tables().cloned().collect::<Vec<_>>()));
        }
        let counters = own.counters();
        trees.push(Named { tree: counters, database: String::new(), relation: "(sequences and counters)".to_owned() });
        check(transaction, "", &trees, true, &[], problems)?;
        for (database, tables) in tables {
            if problems.is_full() {
                break;
            }
            check_rows(transaction, &database, &tables, problems)?;
        }
        Ok(())
    }
}

/// The table of a relation, and the tree to keep to if it is an index.
fn find(catalog: &Catalog, oid: u32) -> Result<(Arc<Table>, Option<TreeId>)> {
    match catalog.relation_by_oid(oid) {
        Some(Relation::Table(table)) => Ok((table, None)),
        Some(Relation::Index(index)) => {
            let tree = index.index.as_ref().map_or(index.table.tree, |index| index.tree());
            Ok((index.table, Some(tree)))
        }
        Some(other) => {
            let text = format!("\"{}\" is not a table or index", other.name());
            Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, text))
        }
        None => Err(SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation with OID {oid} does not exist"))),
    }
}

fn names<'t>(database: &str, catalog: &Catalog, tables: impl Iterator<Item = &'t Arc<Table>>) -> Vec<Named> {
    let mut named = Vec::new();
    for table in tables {
        let schema = catalog.schema_name(table.schema).unwrap_or_default();
        let mut add = |tree: TreeId, name: &str| {
            named.push(Named { tree, database: database.to_owned(), relation: format!("{schema}.{name}") });
        };
        add(table.tree, &table.name);
        table.indexes.iter().for_each(|index| add(index.tree(), &index.name));
    }
    named
}

/// Pages of the trees, then rows of the tables.
fn check(
    transaction: &dyn Transaction,
    database: &str,
    trees: &[Named],
    whole: bool,
    tables: &[Arc<Table>],
    problems: &mut Problems,
) -> Result<()> {
    let ids: Vec<TreeId> = trees.iter().map(|named| named.tree).collect();
    let outcome = transaction.check_pages(&ids, whole, &mut |found: PageProblem| {
        let named = found.tree.and_then(|tree| trees.iter().find(|named| named.tree == tree));
        let relation = match (named, found.tree) {
            (Some(named), _) => Some(named.relation.clone()),
            (None, Some(tree)) => Some(format!("(tree {tree})")),
            (None, None) => None,
        };
        let database = named.map_or("", |named| &named.database);
        problems.add(database, relation.as_deref(), Some(found.page.0), found.problem)
    });
    pass_on(outcome, problems)?;
    check_rows(transaction, database, tables, problems)
}

fn check_rows(
    transaction: &dyn Transaction,
    database: &str,
    tables: &[Arc<Table>],
    problems: &mut Problems,
) -> Result<()> {
    for table in tables {
        let outcome = crate::table::check_table(table, transaction, &mut |relation, problem| {
            problems.add(database, Some(relation), None, problem)
        });
        match outcome {
            // A tree that cannot be walked ends the walk, not the check: the next table may be sound.
            Err(error) if error.state() == SqlState::DATA_CORRUPTED && !problems.is_full() => {
                problems.add(database, Some(&table.name), None, error.to_string())?;
            }
            outcome => pass_on(outcome, problems)?,
        }
    }
    Ok(())
}

/// A full list ends the check, and not with an error.
fn pass_on(outcome: Result<()>, problems: &Problems) -> Result<()> {
    match outcome {
        Err(_) if problems.is_full() => Ok(()),
        outcome => outcome,
    }
}
