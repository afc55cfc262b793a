//! Access paths of a table: scan of all, of its primary key or of an index by equality and range, in key
//! order forward or backward, and lists of keys (IN) looked up one by one.

use std::sync::Arc;

use super::Planner;
use super::column_set::ColumnSet;
use super::cost;
use super::physical::{Demand, Physical};
use super::simplify::comparison;
use crate::binder::logical::Scan;
use crate::binder::scalar::{ColumnId, Order, Scalar};
use crate::catalog::{Index, IndexColumn, Table};
use crate::error::Result;
use crate::plan::{IndexRange, JoinKind, Node, ScanOutput};
use crate::types::{BaseType, DataType, Datum};

/// An index, the primary key included, with what it is searched by.
#[derive(Clone, Debug)]
pub(super) struct IndexPath {
    /// None is the primary key.
    pub index: Option<Arc<Index>>,
    pub columns: Vec<IndexColumn>,
    pub unique: bool,
    /// Keys for the leading columns.
    pub equal: Vec<Scalar>,
    pub lower: Option<(Scalar, bool)>,
    pub upper: Option<(Scalar, bool)>,
    /// Positions of the predicates that the search decides entirely.
    pub decided: Vec<usize>,
    /// Share of the table's rows that it finds.
    pub selectivity: f64,
}

impl IndexPath {
    /// Rows found of a table with `rows`.
    pub fn rows(&self, rows: f64) -> f64 {
        if self.unique_key() { 1.0 } else { (rows * self.selectivity).max(1.0) }
    }

    /// Cost of one search that finds `found` rows.
    pub fn cost(&self, found: f64) -> f64 {
        let each = if self.index.is_some() { cost::ROW + cost::LOOKUP } else { cost::ROW };
        cost::LOOKUP + found * each
    }

    /// Whether a unique key is given in full.
    pub fn unique_key(&self) -> bool {
        self.unique && self.equal.len() == self.columns.len()
    }

    /// Whether it is narrowed at all.
    pub fn is_bounded(&self) -> bool {
        !self.equal.is_empty() || self.lower.is_some() || self.upper.is_some()
    }
}

/// The indexes of a table that may be read, the primary key first.
pub(super) fn indexes(table: &Table) -> Vec<(Option<Arc<Index>>, Vec<IndexColumn>, bool)> {
    let mut found = Vec::with_capacity(1 + table.indexes.len());
    if let Some(key) = &table.primary_key {
        let column = |&column: &usize| IndexColumn { column, descending: false, nulls_first: false };
        found.push((None, key.columns.iter().map(column).collect(), true));
    }
    for index in table.indexes.iter().filter(|index| index.valid) {
        found.push((Some(index.clone()), index.columns.clone(), index.unique));
    }
    found
}

impl Planner<'_> {
    /// The paths that predicates open. `outside` tells which columns may stand on the other side: those of
    /// queries around it, and for an index join those of the left row.
    pub(super) fn index_paths(
        &self,
        scan: &Scan,
        predicates: &[Scalar],
        outside: &dyn Fn(&Scalar) -> bool,
    ) -> Vec<IndexPath> {
        indexes(&scan.table)
            .into_iter()
            .map(|(index, columns, unique)| self.index_path(scan, index, columns, unique, predicates, outside))
            .collect()
    }

    fn index_path(
        &self,
        scan: &Scan,
        index: Option<Arc<Index>>,
        columns: Vec<IndexColumn>,
        unique: bool,
        predicates: &[Scalar],
        outside: &dyn Fn(&Scalar) -> bool,
    ) -> IndexPath {
        let mut path = IndexPath {
            index,
            columns,
            unique,
            equal: Vec::new(),
            lower: None,
            upper: None,
            decided: Vec::new(),
            selectivity: 1.0,
        };
        for at in 0..path.columns.len() {
            let position = path.columns[at].column;
            let id = scan.first + position;
            let data_type = scan.table.columns[position].data_type;
            let equal = predicates.iter().enumerate().find_map(|(at, predicate)| {
                let (operator, Scalar::Column { id: column, .. }, value) = comparison_with(predicate, id)? else {
                    return None;
                };
                if operator != "=" || *column != id || !outside(value) {
                    return None;
                }
                search_key(value, data_type, predicate).map(|key| (at, key))
            });
            if let Some((predicate, key)) = equal {
                path.selectivity *= self.selectivity(&predicates[predicate]);
                path.decided.push(predicate);
                path.equal.push(key);
                continue;
            }
            self.bound_range(scan, position, predicates, outside, &mut path);
            break;
        }
        path
    }

    fn bound_range(
        &self,
        scan: &Scan,
        position: usize,
        predicates: &[Scalar],
        outside: &dyn Fn(&Scalar) -> bool,
        path: &mut IndexPath,
    ) {
        let id = scan.first + position;
        let column = &scan.table.columns[position];
        let mut used = Vec::new();
        for (at, predicate) in predicates.iter().enumerate() {
            if let Some((low, high)) = prefix_range(predicate, id)
                && path.lower.is_none()
                && path.upper.is_none()
            {
                // The pattern itself is still to be tested.
                path.lower = Some((low, true));
                path.upper = high.map(|high| (high, false));
                path.selectivity *= self.selectivity(predicate);
                continue;
            }
            let Some((operator, Scalar::Column { id: found, .. }, value)) = comparison_with(predicate, id) else {
                continue;
            };
            if *found != id || !outside(value) || value_type_differs(value, column.data_type, predicate) {
                continue;
            }
            let bound = || Some((value.clone(), operator.ends_with('=')));
            match operator {
                ">" | ">=" if path.lower.is_none() => path.lower = bound(),
                "<" | "<=" if path.upper.is_none() => path.upper = bound(),
                _ => continue,
            }
            used.push(at);
        }
        let bounding: Vec<Scalar> = used.iter().map(|at| predicates[*at].clone()).collect();
        path.selectivity *= self.selectivity_of_all(&bounding);
        // NULLs lie at one end of the tree: with that end open they would be found.
        let closed = path.lower.is_some() && path.upper.is_some();
        if column.not_null || closed {
            path.decided.extend(used);
        }
    }

    /// Plans a table with its predicates.
    pub(super) fn scan(&mut self, scan: &Scan, predicates: &[Scalar], demand: &Demand<'_>) -> Result<Physical> {
        let own = ColumnSet::output_of_scan(scan);
        let outside =
            |value: &Scalar| !ColumnSet::of(value).intersects(&own) && !value.is_volatile() && !value.has_subquery();
        let rows = self.table_rows(&scan.table);
        let total = (rows * self.selectivity_of_all(predicates)).max(1.0);
        let paths = self.index_paths(scan, predicates, &outside);
        // A unique key given in full needs no comparison with anything else.
        if let Some(path) = paths.iter().find(|path| path.unique_key()) {
            return self.index_scan(scan, path.clone(), predicates, demand, false, total.min(1.0), rows);
        }
        if let Some(listed) = self.key_list(scan, predicates, demand, rows)? {
            return Ok(listed);
        }
        let wanted = demand.fetched(total);
        let sequential =
            self.table_pages(&scan.table) * cost::PAGE + rows * (cost::ROW + cost::OPERATOR * predicates.len() as f64);
        let mut best: Option<(f64, Option<(IndexPath, bool)>)> = None;
        let mut consider = |cost: f64, choice: Option<(IndexPath, bool)>| {
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, choice));
            }
        };
        let in_order = self.key_order(scan, None, demand.order);
        let sort = if demand.order.is_empty() { 0.0 } else { cost::sort(total, demand.limit) };
        match in_order {
            Some(false) => consider(sequential * wanted / total.max(1.0), None),
            _ => consider(sequential + sort, None),
        }
        for path in paths {
            let found = path.rows(rows);
            let left = (predicates.len() - path.decided.len()) as f64;
            // The rows of a primary key range lie side by side: its pages are read, too.
            let pages = if path.index.is_none() && !path.unique_key() {
                self.table_pages(&scan.table) * path.selectivity * cost::PAGE
            } else {
                0.0
            };
            let all = path.cost(found) + found * left * cost::OPERATOR + pages;
            match self.key_order(scan, Some(&path), demand.order) {
                Some(backward) if !demand.order.is_empty() => {
                    consider(
                        cost::LOOKUP + (all - cost::LOOKUP) * (wanted / total.max(1.0)).min(1.0),
                        Some((path, backward)),
                    );
                }
                _ if path.is_bounded() => consider(all + sort, Some((path, false))),
                _ => {}
            }
        }
        match best {
            Some((_, Some((path, backward)))) => self.index_scan(scan, path, predicates, demand, backward, total, rows),
            _ => self.sequential_scan(scan, predicates, demand, total, sequential),
        }
    }

    fn sequential_scan(
        &mut self,
        scan: &Scan,
        predicates: &[Scalar],
        demand: &Demand<'_>,
        rows: f64,
        cost: f64,
    ) -> Result<Physical> {
        let (layout, output) = self.scan_output(scan, predicates.iter(), demand);
        let filter = self.lower_conjunction(predicates, &layout)?;
        let sorted = self.key_order(scan, None, demand.order) == Some(false);
        let node = Node::SeqScan { table: scan.table.clone(), output, filter };
        Ok(self.physical(node, layout, rows, 0.0, cost).with_order(sorted, demand))
    }

    #[allow(clippy::too_many_arguments)]
    fn index_scan(
        &mut self,
        scan: &Scan,
        path: IndexPath,
        predicates: &[Scalar],
        demand: &Demand<'_>,
        backward: bool,
        rows: f64,
        table_rows: f64,
    ) -> Result<Physical> {
        let sorted = self.key_order(scan, Some(&path), demand.order) == Some(backward);
        let rest: Vec<Scalar> = predicates
            .iter()
            .enumerate()
            .filter(|(at, _)| !path.decided.contains(at))
            .map(|(_, predicate)| predicate.clone())
            .collect();
        let (layout, output) = self.scan_output(scan, rest.iter(), demand);
        let filter = self.lower_conjunction(&rest, &layout)?;
        let found = path.rows(table_rows);
        let total = path.cost(found) + found * cost::OPERATOR * rest.len() as f64;
        let range = self.range(&path, &[])?;
        let node = Node::IndexScan { table: scan.table.clone(), index: path.index, range, backward, output, filter };
        Ok(self.physical(node, layout, rows, cost::LOOKUP, total).with_order(sorted, demand))
    }

    /// The search of a path, whose keys read rows of `layout`.
    pub(super) fn range(&mut self, path: &IndexPath, layout: &[ColumnId]) -> Result<IndexRange> {
        let mut bound = |end: &Option<(Scalar, bool)>| -> Result<Option<(crate::plan::Expr, bool)>> {
            match end {
                Some((value, included)) => Ok(Some((self.lower(value, layout)?, *included))),
                None => Ok(None),
            }
        };
        let (lower, upper) = (bound(&path.lower)?, bound(&path.upper)?);
        Ok(IndexRange { equal: self.lower_all(&path.equal, layout)?, lower, upper })
    }

    /// Columns that a scan puts out: those asked for, in that order, then those its filter reads.
    pub(super) fn scan_output<'s>(
        &self,
        scan: &Scan,
        filters: impl Iterator<Item = &'s Scalar>,
        demand: &Demand<'_>,
    ) -> (Vec<ColumnId>, ScanOutput) {
        let own = scan.columns();
        let mut columns: Vec<usize> = Vec::new();
        let mut add = |id: ColumnId| {
            if own.contains(&id) && !columns.contains(&(id - scan.first)) {
                columns.push(id - scan.first);
            }
        };
        demand.columns.iter().for_each(|id| add(*id));
        filters.for_each(|filter| filter.for_each_column(&mut add));
        let with_key = demand.columns.contains(&scan.key());
        let mut layout: Vec<ColumnId> = columns.iter().map(|position| scan.first + position).collect();
        if with_key {
            layout.push(scan.key());
        }
        let alias = self.columns.alias(scan.first).unwrap_or(&scan.table.name);
        (layout, ScanOutput { columns, with_key, alias: Arc::from(alias) })
    }

    /// Whether an index (or the table itself) delivers the order, and then whether backward.
    fn key_order(&self, scan: &Scan, path: Option<&IndexPath>, order: &[Order]) -> Option<bool> {
        if order.is_empty() {
            return Some(false);
        }
        let primary;
        let (columns, fixed, unique): (&[IndexColumn], usize, bool) = match path {
            Some(path) => (&path.columns, path.equal.len(), path.unique),
            None => {
                let key = scan.table.primary_key.as_ref()?;
                primary = key
                    .columns
                    .iter()
                    .map(|column| IndexColumn { column: *column, descending: false, nulls_first: false })
                    .collect::<Vec<_>>();
                (&primary, 0, true)
            }
        };
        let mut backward: Option<bool> = None;
        let mut at = fixed;
        for key in order {
            let Scalar::Column { id, .. } = &key.expr else { return None };
            if columns[..fixed].iter().any(|column| scan.first + column.column == *id) {
                continue;
            }
            let Some(column) = columns.get(at) else {
                // Everything after a whole unique key is decided.
                return if unique { Some(backward.unwrap_or(false)) } else { None };
            };
            if scan.first + column.column != *id {
                return None;
            }
            let flipped = key.descending != column.descending;
            let nulls_matter = !scan.table.columns[column.column].not_null;
            if nulls_matter && (key.nulls_first != column.nulls_first) != flipped {
                return None;
            }
            if *backward.get_or_insert(flipped) != flipped {
                return None;
            }
            at += 1;
        }
        Some(backward.unwrap_or(false))
    }

    /// `key IN (…)` and `key = ANY (array)`: the distinct keys, each looked up.
    fn key_list(
        &mut self,
        scan: &Scan,
        predicates: &[Scalar],
        demand: &Demand<'_>,
        rows: f64,
    ) -> Result<Option<Physical>> {
        if demand.order.iter().any(|_| true) && demand.limit.is_some() {
            return Ok(None);
        }
        for (index, columns, unique) in indexes(&scan.table) {
            let position = columns[0].column;
            let id = scan.first + position;
            let data_type = scan.table.columns[position].data_type;
            for (at, predicate) in predicates.iter().enumerate() {
                let Some(source) = self.key_source(predicate, id, data_type) else { continue };
                let (count, values) = source;
                let path = IndexPath {
                    index: index.clone(),
                    columns: columns.clone(),
                    unique,
                    equal: vec![self.columns.scalar(values.1)],
                    lower: None,
                    upper: None,
                    decided: vec![at],
                    selectivity: 1.0 / self.distinct(id).max(1.0),
                };
                let found = path.rows(rows);
                let cost = count * path.cost(found);
                let sequential = self.table_pages(&scan.table) * cost::PAGE + rows * cost::ROW;
                if cost > sequential {
                    continue;
                }
                let input = self.plan_values_once(values.0, values.1, count)?;
                let rest: Vec<Scalar> = predicates
                    .iter()
                    .enumerate()
                    .filter(|(other, _)| *other != at)
                    .map(|(_, predicate)| predicate.clone())
                    .collect();
                let (own, output) = self.scan_output(scan, rest.iter(), demand);
                let mut layout = input.layout.clone();
                let range = self.range(&path, &layout)?;
                layout.extend(own);
                let filter = self.lower_conjunction(&rest, &layout)?;
                let total = (count * found * self.selectivity_of_all(&rest)).max(1.0);
                let node = Node::IndexJoin {
                    kind: JoinKind::Inner,
                    left: Box::new(input.plan),
                    table: scan.table.clone(),
                    index: path.index.clone(),
                    range,
                    output,
                    filter,
                };
                return Ok(Some(self.physical(node, layout, total, cost::LOOKUP, cost)));
            }
        }
        Ok(None)
    }
}

/// A comparison whose one side is the column, the column first.
fn comparison_with(predicate: &Scalar, id: ColumnId) -> Option<(&'static str, &Scalar, &Scalar)> {
    let found = comparison(predicate)?;
    if matches!(found.1, Scalar::Column { id: column, .. } if *column == id) {
        return Some(found);
    }
    // Both sides are columns, and the other one is meant.
    let Scalar::Call { args, .. } = predicate else { return None };
    match (&args[0], &args[1]) {
        (_, column @ Scalar::Column { id: other, .. }) if *other == id => {
            let mirrored = match found.0 {
                "<" => ">",
                "<=" => ">=",
                ">" => "<",
                ">=" => "<=",
                operator => operator,
            };
            Some((mirrored, column, &args[0]))
        }
        _ => None,
    }
}

/// Whether the key's bytes for a value of this type differ from those of the column's type.
fn value_type_differs(value: &Scalar, column: DataType, predicate: &Scalar) -> bool {
    let Scalar::Call { function, .. } = predicate else { return true };
    let both_sides = function.args.iter().all(|arg| same_key(*arg, column) || arg.base.is_polymorphic());
    !both_sides || !(same_key(value.data_type(), column))
}

fn same_key(a: DataType, b: DataType) -> bool {
    let text = |data_type: DataType| {
        !data_type.array && matches!(data_type.base, BaseType::Text | BaseType::Varchar | BaseType::Name)
    };
    a.same_type(b) || text(a) && text(b)
}

/// A value as a key of the column's type. An integer of another width is converted where it fits, and is
/// NULL (which finds nothing) where it does not: no row can equal it.
fn search_key(value: &Scalar, column: DataType, predicate: &Scalar) -> Option<Scalar> {
    if !value_type_differs(value, column, predicate) {
        return Some(value.clone());
    }
    let integer = |data_type: DataType| {
        !data_type.array && matches!(data_type.base, BaseType::Int2 | BaseType::Int4 | BaseType::Int8)
    };
    if !integer(column) || !integer(value.data_type()) {
        return None;
    }
    let convert = |number: i64| match column.base {
        BaseType::Int2 => i16::try_from(number).ok().map(Datum::Int2),
        BaseType::Int4 => i32::try_from(number).ok().map(Datum::Int4),
        _ => Some(Datum::Int8(number)),
    };
    match value {
        Scalar::Literal { value, .. } => {
            let converted = value.as_i64().and_then(convert).unwrap_or(Datum::Null);
            Some(Scalar::Literal { value: converted, data_type: column })
        }
        value => {
            let wider = column.base == BaseType::Int8
                || column.base == BaseType::Int4 && value.data_type().base == BaseType::Int2;
            wider.then(|| Scalar::Cast { expr: Box::new(value.clone()), to: column.bare(), explicit: false })
        }
    }
}

/// `column LIKE 'abc%'`: from `abc`, below `abd`.
fn prefix_range(predicate: &Scalar, id: ColumnId) -> Option<(Scalar, Option<Scalar>)> {
    let Scalar::Call { function, args, .. } = predicate else { return None };
    if !function.operator || function.name != "~~" {
        return None;
    }
    let (Scalar::Column { id: column, data_type }, Scalar::Literal { value: Datum::Text(pattern), .. }) =
        (&args[0], &args[1])
    else {
        return None;
    };
    if *column != id || data_type.base == BaseType::Bpchar {
        return None;
    }
    let end = pattern.find(['%', '_', '\\']).unwrap_or(pattern.len());
    let prefix = &pattern[..end];
    if prefix.is_empty() {
        return None;
    }
    let text = |value: &str| Scalar::Literal { value: Datum::text(value), data_type: *data_type };
    let mut above: Vec<char> = prefix.chars().collect();
    let mut high = None;
    while let Some(last) = above.pop() {
        if let Some(next) = char::from_u32(last as u32 + 1) {
            above.push(next);
            high = Some(text(&above.iter().collect::<String>()));
            break;
        }
    }
    Some((text(prefix), high))
}
