//! [`ColumnSet`]: a set of column ids as bits.

use smallvec::SmallVec;

use crate::binder::logical::{Rel, Scan};
use crate::binder::scalar::{ColumnId, Scalar};

/// A set of columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ColumnSet(SmallVec<[u64; 4]>);

impl ColumnSet {
    pub fn insert(&mut self, id: ColumnId) {
        let word = id / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (id % 64);
    }

    pub fn contains(&self, id: ColumnId) -> bool {
        self.0.get(id / 64).is_some_and(|word| word & (1 << (id % 64)) != 0)
    }

    pub fn intersects(&self, other: &ColumnSet) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    pub fn union_with(&mut self, other: &ColumnSet) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    /// Those not in `other`.
    pub fn minus(&self, other: &ColumnSet) -> ColumnSet {
        let word = |(at, word): (usize, &u64)| word & !other.0.get(at).copied().unwrap_or(0);
        ColumnSet(self.0.iter().enumerate().map(word).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub fn is_subset(&self, other: &ColumnSet) -> bool {
        self.minus(other).is_empty()
    }

    /// All columns that a scalar names.
    pub fn of(scalar: &Scalar) -> ColumnSet {
        let mut set = ColumnSet::default();
        set.add(scalar);
        set
    }

    pub fn add(&mut self, scalar: &Scalar) {
        scalar.for_each_column(&mut |id| self.insert(id));
    }

    /// What an operator puts out.
    pub fn output(rel: &Rel) -> ColumnSet {
        let mut set = ColumnSet::default();
        rel.for_each_output(&mut |id| set.insert(id));
        set
    }

    /// A table's columns and key.
    pub fn output_of_scan(scan: &Scan) -> ColumnSet {
        (scan.first..=scan.key()).collect()
    }

    /// Every column that the tree defines anywhere, inside subqueries too.
    pub fn defined(rel: &Rel) -> ColumnSet {
        let mut set = ColumnSet::default();
        define(rel, &mut set);
        set
    }

    /// Columns that the tree reads from outside.
    pub fn free(rel: &Rel) -> ColumnSet {
        let mut read = ColumnSet::default();
        rel.for_each_scalar_deep(&mut |scalar| read.add(scalar));
        if read.is_empty() { read } else { read.minus(&ColumnSet::defined(rel)) }
    }
}

impl FromIterator<ColumnId> for ColumnSet {
    fn from_iter<I: IntoIterator<Item = ColumnId>>(ids: I) -> Self {
        let mut set = ColumnSet::default();
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}

fn define(rel: &Rel, set: &mut ColumnSet) {
    rel.for_each_output(&mut |id| set.insert(id));
    match rel {
        Rel::Insert(insert) => {
            let width = insert.table.columns.len();
            (insert.row_first..=insert.row_first + width).for_each(|id| set.insert(id));
            (insert.excluded_first..=insert.excluded_first + width).for_each(|id| set.insert(id));
        }
        Rel::Update(update) => (update.target.first..=update.target.key()).for_each(|id| set.insert(id)),
        Rel::Delete(delete) => (delete.target.first..=delete.target.key()).for_each(|id| set.insert(id)),
        _ => {}
    }
    rel.for_each_input(&mut |input| define(input, set));
    rel.for_each_scalar(&mut |scalar| define_in(scalar, set));
}

fn define_in(scalar: &Scalar, set: &mut ColumnSet) {
    if let Scalar::Subquery(subquery) = scalar {
        define(&subquery.query, set);
    }
    scalar.for_each_child(&mut |child| define_in(child, set));
}
