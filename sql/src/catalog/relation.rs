//! [`Relation`]: what a name in FROM, `regclass` or DROP can mean.

use std::sync::Arc;

use super::{Index, IndexColumn, Oid, Sequence, SystemView, Table, View};

/// A relation, as found by name or OID.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Relation {
    Table(Arc<Table>),
    Index(TableIndex),
    View(Arc<View>),
    Sequence(Arc<Sequence>),
    System(&'static SystemView),
}

/// An index with its table. The primary key is an index by name only: the table itself is its tree.
#[derive(Clone, Debug)]
pub struct TableIndex {
    /// The table.
    pub table: Arc<Table>,
    /// The secondary index; none is the primary key.
    pub index: Option<Arc<Index>>,
}

impl TableIndex {
    /// `pg_class.oid`
    pub fn oid(&self) -> Oid {
        match &self.index {
            Some(index) => index.oid,
            None => self.primary_key().oid,
        }
    }

    /// Name.
    pub fn name(&self) -> &str {
        match &self.index {
            Some(index) => &index.name,
            None => &self.primary_key().name,
        }
    }

    /// UNIQUE, which a primary key is.
    pub fn unique(&self) -> bool {
        self.index.as_ref().is_none_or(|index| index.unique)
    }

    /// `pg_constraint.oid` of the constraint that it enforces.
    pub fn constraint_oid(&self) -> Option<Oid> {
        match &self.index {
            Some(index) => index.constraint.then_some(index.constraint_oid),
            None => Some(self.primary_key().constraint_oid),
        }
    }

    /// What is indexed, in order.
    pub fn columns(&self) -> Vec<IndexColumn> {
        match &self.index {
            Some(index) => index.columns.clone(),
            None => {
                let ascending = |&column: &usize| IndexColumn { column, descending: false, nulls_first: false };
                self.primary_key().columns.iter().map(ascending).collect()
            }
        }
    }

    fn primary_key(&self) -> &super::PrimaryKey {
        self.table.primary_key.as_ref().expect("an index entry without Index is made only for a primary key")
    }
}

impl Relation {
    /// `pg_class.oid`
    pub fn oid(&self) -> Oid {
        match self {
            Relation::Table(table) => table.oid,
            Relation::Index(index) => index.oid(),
            Relation::View(view) => view.oid,
            Relation::Sequence(sequence) => sequence.oid,
            Relation::System(view) => view.oid,
        }
    }

    /// Name without schema.
    pub fn name(&self) -> &str {
        match self {
            Relation::Table(table) => &table.name,
            Relation::Index(index) => index.name(),
            Relation::View(view) => &view.name,
            Relation::Sequence(sequence) => &sequence.name,
            Relation::System(view) => view.name,
        }
    }

    /// Schema's OID.
    pub fn schema(&self) -> Oid {
        match self {
            Relation::Table(table) => table.schema,
            Relation::Index(index) => index.table.schema,
            Relation::View(view) => view.schema,
            Relation::Sequence(sequence) => sequence.schema,
            Relation::System(view) => view.schema_oid(),
        }
    }

    /// Owner's OID.
    pub fn owner(&self) -> Oid {
        match self {
            Relation::Table(table) => table.owner,
            Relation::Index(index) => index.table.owner,
            Relation::View(view) => view.owner,
            Relation::Sequence(sequence) => sequence.owner,
            Relation::System(_) => super::BOOTSTRAP_ROLE_OID,
        }
    }

    /// What messages call its kind: `table`, `index`, `view`, `sequence`.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Relation::Table(_) => "table",
            Relation::Index(_) => "index",
            Relation::View(_) | Relation::System(_) => "view",
            Relation::Sequence(_) => "sequence",
        }
    }
}
