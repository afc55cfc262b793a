//! EXPLAIN: a plan as text (or JSON) in Postgres' shape.
//!
//! Filters and projections are shown as part of the operator below them, and an index join as a nested
//! loop over an index scan: that is how Postgres runs the same thing.

use std::cell::RefCell;

use serde_json::{Map, Value, json};
use sqlparser::ast::{self, Statement};

use super::deparse::{Names, aggregate, deparse, sort_key};
use crate::error::{Result, SqlError, SqlState};
use crate::executor::Actuals;
use crate::plan::{Expr, IndexRange, JoinKind, Node, Plan, ScanOutput, SetOperation};

/// What EXPLAIN is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplainOptions {
    /// Run it and show what happened.
    pub analyze: bool,
    /// Show output columns.
    pub verbose: bool,
    /// Show estimates.
    pub costs: bool,
    /// Show times (with ANALYZE).
    pub timing: bool,
    /// Show the summary; by default with ANALYZE.
    pub summary: bool,
    /// FORMAT JSON.
    pub json: bool,
}

impl ExplainOptions {
    /// The options of an EXPLAIN statement.
    pub fn of(statement: &Statement) -> Result<Self> {
        let Statement::Explain { analyze, verbose, format, options, .. } = statement else {
            return Err(SqlError::internal("not an EXPLAIN statement"));
        };
        let mut found =
            Self { analyze: *analyze, verbose: *verbose, costs: true, timing: true, summary: *analyze, json: false };
        let mut summary = None;
        if let Some(ast::AnalyzeFormatKind::Keyword(format) | ast::AnalyzeFormatKind::Assignment(format)) = format {
            found.json = is_json(&format.to_string())?;
        }
        for option in options.iter().flatten() {
            let name = option.name.value.to_ascii_lowercase();
            let argument = option.arg.as_ref().map(|arg| arg.to_string().trim_matches('\'').to_ascii_lowercase());
            let flag = || match argument.as_deref() {
                None | Some("true" | "on" | "1") => Ok(true),
                Some("false" | "off" | "0") => Ok(false),
                Some(_) => Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("{name} requires a Boolean value"))),
            };
            match name.as_str() {
                "analyze" => found.analyze = flag()?,
                "verbose" => found.verbose = flag()?,
                "costs" => found.costs = flag()?,
                "timing" => found.timing = flag()?,
                "summary" => summary = Some(flag()?),
                "buffers" | "wal" | "settings" => _ = flag()?,
                "format" => found.json = is_json(argument.as_deref().unwrap_or(""))?,
                other => {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        format!("unrecognized EXPLAIN option \"{other}\""),
                    ));
                }
            }
        }
        found.summary = summary.unwrap_or(found.analyze);
        Ok(found)
    }
}

fn is_json(format: &str) -> Result<bool> {
    match format.to_ascii_lowercase().as_str() {
        "text" => Ok(false),
        "json" => Ok(true),
        "xml" | "yaml" => Err(SqlError::unsupported(format!("EXPLAIN format {format}"))),
        other => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("unrecognized value for EXPLAIN option \"format\": \"{other}\""),
        )),
    }
}

/// A node as it is shown.
struct Shown {
    title: String,
    /// Labelled lines: `Filter`, `Sort Key` …
    properties: Vec<(&'static str, String)>,
    children: Vec<(Option<String>, Shown)>,
    estimate: Option<(f64, f64, f64, usize)>,
    actual: Option<(f64, f64, f64, u64)>,
    never_run: bool,
}

/// The lines of EXPLAIN. `actuals` and `execution_us` come from a run, for ANALYZE.
pub fn explain(plan: &Plan, options: &ExplainOptions, actuals: Option<&Actuals>, execution_us: i64) -> Vec<String> {
    let tables = RefCell::new(Vec::new());
    collect_tables(plan, &mut tables.borrow_mut());
    let explainer = Explainer {
        options,
        actuals,
        tables: tables.into_inner(),
        subplans: RefCell::default(),
        next: RefCell::new(1),
        ctes: RefCell::default(),
    };
    let shown = explainer.show(plan, &mut Vec::new());
    if options.json {
        let mut top = Map::new();
        top.insert("Plan".into(), to_json(&shown, None));
        if options.summary && options.analyze {
            top.insert("Execution Time".into(), json!(execution_us as f64 / 1000.0));
        }
        let text = serde_json::to_string_pretty(&Value::Array(vec![Value::Object(top)]));
        return vec![text.unwrap_or_default()];
    }
    let mut lines = Vec::new();
    write_lines(&shown, 0, None, &mut lines);
    if options.summary && options.analyze {
        lines.push(format!("Execution Time: {:.3} ms", execution_us as f64 / 1000.0));
    }
    lines
}

struct Explainer<'a> {
    options: &'a ExplainOptions,
    actuals: Option<&'a Actuals>,
    /// OIDs and names of the tables; more than one entry makes names qualified.
    tables: Vec<(u32, String)>,
    /// Subqueries of the node being shown, with their labels.
    subplans: RefCell<Vec<(*const Plan, String, bool)>>,
    next: RefCell<usize>,
    ctes: RefCell<Vec<(usize, String)>>,
}

impl Explainer<'_> {
    /// Names of a node's output columns, by the aliases of the tables they come from.
    fn names(&self, plan: &Plan) -> Vec<String> {
        let names = match &plan.node {
            Node::SeqScan { table, output, .. } | Node::IndexScan { table, output, .. } => {
                self.scan_names(table, output)
            }
            Node::IndexJoin { kind: JoinKind::Semi | JoinKind::Anti, left: input, .. }
            | Node::NestedLoopJoin { kind: JoinKind::Semi | JoinKind::Anti, left: input, .. }
            | Node::HashJoin { kind: JoinKind::Semi | JoinKind::Anti, left: input, .. }
            | Node::Filter { input, .. }
            | Node::Sort { input, .. }
            | Node::Limit { input, .. }
            | Node::LockRows { input, .. } => self.names(input),
            Node::IndexJoin { .. } | Node::NestedLoopJoin { .. } | Node::HashJoin { .. } => self.input_names(plan),
            _ => Vec::new(),
        };
        if names.len() == plan.columns.len() {
            return names;
        }
        plan.columns
            .iter()
            .map(|column| match column.origin.filter(|_| self.tables.len() > 1) {
                Some((oid, _)) => match self.tables.iter().find(|(table, _)| *table == oid) {
                    Some((_, table)) => format!("{table}.{}", column.name),
                    None => column.name.clone(),
                },
                None => column.name.clone(),
            })
            .collect()
    }

    fn label(&self, expr: &Expr) -> String {
        let Expr::Subquery(subquery) = expr else { return String::new() };
        let pointer: *const Plan = &raw const *subquery.plan;
        let mut subplans = self.subplans.borrow_mut();
        if let Some((_, label, _)) = subplans.iter().find(|(known, ..)| *known == pointer) {
            return label.clone();
        }
        let number = *self.next.borrow();
        *self.next.borrow_mut() += 1;
        let label = if subquery.correlated { format!("SubPlan {number}") } else { format!("InitPlan {number}") };
        subplans.push((pointer, label.clone(), subquery.correlated));
        label
    }

    fn show(&self, plan: &Plan, outer: &mut Vec<Vec<String>>) -> Shown {
        let outside = self.subplans.take();
        let mut shown = self.node(plan, outer);
        // Subqueries met in this node's expressions come before its inputs.
        let mut found = Vec::new();
        for (pointer, label, _) in self.subplans.replace(outside) {
            if let Some(subplan) = find_subplan(plan, pointer) {
                outer.push(self.input_names(plan));
                found.push((Some(label), self.show(subplan, outer)));
                outer.pop();
            }
        }
        found.append(&mut shown.children);
        shown.children = found;
        let width = plan.columns.iter().map(|column| width(column.data_type)).sum();
        shown.estimate = self.options.costs.then_some((plan.startup_cost, plan.total_cost, plan.rows, width));
        if self.options.verbose {
            shown.properties.insert(0, ("Output", self.names(plan).join(", ")));
        }
        if let Some(actuals) = self.actuals {
            match measured(plan, actuals) {
                Some(node) if node.loops > 0 => {
                    let per_loop = |us: u64| us as f64 / 1000.0 / node.loops as f64;
                    shown.actual = Some((
                        per_loop(node.startup_us),
                        per_loop(node.total_us),
                        node.rows as f64 / node.loops as f64,
                        node.loops,
                    ));
                }
                _ => shown.never_run = shown.actual.is_none(),
            }
        }
        shown
    }

    /// Names of the row that a node's expressions read.
    fn input_names(&self, plan: &Plan) -> Vec<String> {
        match &plan.node {
            Node::SeqScan { .. } | Node::IndexScan { .. } | Node::SystemScan { .. } => self.names(plan),
            Node::NestedLoopJoin { left, right, .. } | Node::HashJoin { left, right, .. } => {
                let mut names = self.names(left);
                names.extend(self.names(right));
                names
            }
            Node::IndexJoin { left, table, output, .. } => {
                let mut names = self.names(left);
                names.extend(self.scan_names(table, output));
                names
            }
            Node::Update(update) => self.names(&update.input),
            Node::Delete(delete) => self.names(&delete.input),
            Node::Insert(insert) => self.names(&insert.input),
            _ => single_input(plan).map_or_else(Vec::new, |input| self.names(input)),
        }
    }

    fn scan_names(&self, table: &crate::catalog::Table, output: &ScanOutput) -> Vec<String> {
        let qualified = |column: &str| match self.tables.len() {
            0 | 1 => column.to_owned(),
            _ => format!("{}.{column}", output.alias),
        };
        let columns = output.columns.iter().map(|at| qualified(&table.columns[*at].name));
        columns.chain(output.with_key.then(|| "ctid".to_owned())).collect()
    }

    fn node(&self, plan: &Plan, outer: &mut Vec<Vec<String>>) -> Shown {
        let input = self.input_names(plan);
        let label = |expr: &Expr| self.label(expr);
        let around = outer.clone();
        let names = Names { input: &input, outer: &around, subplans: &label };
        let text = |expr: &Expr| deparse(expr, &names);
        let list = |exprs: &[Expr]| exprs.iter().map(text).collect::<Vec<_>>().join(", ");
        let mut properties: Vec<(&'static str, String)> = Vec::new();
        let mut children: Vec<(Option<String>, Shown)> = Vec::new();
        let title = match &plan.node {
            Node::Project { input, exprs } => {
                exprs.iter().for_each(|expr| _ = text(expr));
                return self.node_of_input(input, outer);
            }
            Node::Filter { input, predicate } => {
                let condition = text(predicate);
                let mut shown = self.node_of_input(input, outer);
                match shown.properties.iter_mut().find(|(label, _)| *label == "Filter") {
                    Some((_, present)) => *present = format!("({present} AND {condition})"),
                    None => shown.properties.push(("Filter", condition)),
                }
                return shown;
            }
            Node::Values { rows } => match rows.as_slice() {
                [] => {
                    properties.push(("One-Time Filter", "false".into()));
                    "Result".into()
                }
                [row] => {
                    row.iter().for_each(|expr| _ = text(expr));
                    "Result".into()
                }
                _ => "Values Scan on \"*VALUES*\"".into(),
            },
            Node::Constant { .. } => "Result".into(),
            Node::SystemScan { view, filter } => {
                properties.extend(filter.iter().map(|filter| ("Filter", text(filter))));
                format!("Seq Scan on {}", view.name)
            }
            Node::SeqScan { table, filter, output } => {
                properties.extend(filter.iter().map(|filter| ("Filter", text(filter))));
                format!("Seq Scan on {}", relation(table, output))
            }
            Node::IndexScan { table, index, range, backward, filter, output } => {
                properties.extend(self.index_condition(table, index.as_deref(), range, &names));
                properties.extend(filter.iter().map(|filter| ("Filter", text(filter))));
                let direction = if *backward { " Backward" } else { "" };
                let index = index_name(table, index.as_deref());
                format!("Index Scan{direction} using {index} on {}", relation(table, output))
            }
            Node::FunctionScan { function, args, .. } => {
                properties.extend(
                    self.options.verbose.then(|| ("Function Call", format!("{}({})", function.name, list(args)))),
                );
                format!("Function Scan on {}", function.name)
            }
            Node::ProjectSet { input, .. } => {
                children.push((None, self.show(input, outer)));
                "ProjectSet".into()
            }
            Node::NestedLoopJoin { kind, left, right, on, lateral } => {
                properties.extend(on.iter().map(|on| ("Join Filter", text(on))));
                children.push((None, self.show(left, outer)));
                if *lateral {
                    outer.push(self.names(left));
                }
                children.push((None, self.show(right, outer)));
                if *lateral {
                    outer.pop();
                }
                format!("Nested Loop{}", join_suffix(*kind))
            }
            Node::IndexJoin { kind, left, table, index, range, filter, output } => {
                children.push((None, self.show(left, outer)));
                let left_names = self.names(left);
                let left_names = Names { input: &left_names, outer: &around, subplans: &label };
                let mut lookup: Vec<(&'static str, String)> = Vec::new();
                lookup.extend(self.index_condition(table, index.as_deref(), range, &left_names));
                lookup.extend(filter.iter().map(|filter| ("Filter", text(filter))));
                let inner = Shown {
                    title: format!(
                        "Index Scan using {} on {}",
                        index_name(table, index.as_deref()),
                        relation(table, output)
                    ),
                    properties: lookup,
                    children: Vec::new(),
                    estimate: None,
                    actual: None,
                    never_run: false,
                };
                children.push((None, inner));
                format!("Nested Loop{}", join_suffix(*kind))
            }
            Node::HashJoin { kind, left, right, left_keys, right_keys, filter, .. } => {
                let (left_row, right_row) = (self.names(left), self.names(right));
                let left_names = Names { input: &left_row, outer: &around, subplans: &label };
                let right_names = Names { input: &right_row, outer: &around, subplans: &label };
                let keys = left_keys.iter().zip(right_keys);
                let keys: Vec<String> = keys
                    .map(|(l, r)| format!("({} = {})", deparse(l, &left_names), deparse(r, &right_names)))
                    .collect();
                properties.push(("Hash Cond", conjunction(keys)));
                properties.extend(filter.iter().map(|filter| ("Join Filter", text(filter))));
                children.push((None, self.show(left, outer)));
                let inner = self.show(right, outer);
                let hash = Shown {
                    title: "Hash".into(),
                    properties: Vec::new(),
                    estimate: inner.estimate,
                    actual: inner.actual,
                    never_run: inner.never_run,
                    children: vec![(None, inner)],
                };
                children.push((None, hash));
                match kind {
                    JoinKind::Inner => "Hash Join".into(),
                    kind => format!("Hash{}", join_suffix(*kind)),
                }
            }
            Node::Sort { input, keys, .. } => {
                let keys: Vec<String> = keys.iter().map(|key| sort_key(key, &names)).collect();
                properties.push(("Sort Key", keys.join(", ")));
                children.push((None, self.show(input, outer)));
                "Sort".into()
            }
            Node::Limit { input, .. } => {
                children.push((None, self.show(input, outer)));
                "Limit".into()
            }
            Node::Aggregate { input, keys, aggregates, sets } => {
                aggregates.iter().for_each(|call| _ = aggregate(call, &names));
                match sets {
                    Some(sets) => {
                        for set in sets {
                            let keys: Vec<String> = set.iter().map(|at| text(&keys[*at])).collect();
                            let keys = if keys.is_empty() { "()".to_owned() } else { keys.join(", ") };
                            properties.push(("Hash Key", keys));
                        }
                    }
                    None if !keys.is_empty() => properties.push(("Group Key", list(keys))),
                    None => {}
                }
                children.push((None, self.show(input, outer)));
                if keys.is_empty() { "Aggregate".into() } else { "HashAggregate".into() }
            }
            Node::Window { input, .. } => {
                children.push((None, self.show(input, outer)));
                "WindowAgg".into()
            }
            Node::Distinct { input, on } => {
                let title = match on {
                    Some(_) => "Unique",
                    None => {
                        properties.push(("Group Key", self.names(input).join(", ")));
                        "HashAggregate"
                    }
                };
                children.push((None, self.show(input, outer)));
                title.into()
            }
            Node::SetOp { operation, all, left, right } => {
                children.push((None, self.show(left, outer)));
                children.push((None, self.show(right, outer)));
                let all = if *all { " All" } else { "" };
                match operation {
                    SetOperation::Union => "HashSetOp Union".to_owned() + all,
                    SetOperation::Intersect => "HashSetOp Intersect".to_owned() + all,
                    SetOperation::Except => "HashSetOp Except".to_owned() + all,
                }
            }
            Node::Append { inputs } => {
                children.extend(inputs.iter().map(|input| (None, self.show(input, outer))));
                "Append".into()
            }
            Node::With { ctes, input } => {
                for cte in ctes {
                    self.ctes.borrow_mut().push((cte.id, cte.name.clone()));
                    let mut inner = self.show(&cte.plan, outer);
                    if let Some((term, _)) = &cte.recursive {
                        let term = self.show(term, outer);
                        inner = Shown {
                            title: "Recursive Union".into(),
                            properties: Vec::new(),
                            estimate: inner.estimate,
                            actual: inner.actual,
                            never_run: inner.never_run,
                            children: vec![(None, inner), (None, term)],
                        };
                    }
                    children.push((Some(format!("CTE {}", cte.name)), inner));
                }
                let mut shown = self.node_of_input(input, outer);
                children.append(&mut shown.children);
                shown.children = children;
                return shown;
            }
            Node::CteScan { id } => {
                let ctes = self.ctes.borrow();
                let name = ctes.iter().find(|(cte, _)| cte == id).map_or("cte", |(_, name)| name.as_str());
                format!("CTE Scan on {name}")
            }
            Node::LockRows { input, .. } => {
                children.push((None, self.show(input, outer)));
                "LockRows".into()
            }
            Node::Insert(insert) => {
                children.push((None, self.show(&insert.input, outer)));
                format!("Insert on {}", insert.table.name)
            }
            Node::Update(update) => {
                children.push((None, self.show(&update.input, outer)));
                format!("Update on {}", update.table.name)
            }
            Node::Delete(delete) => {
                children.push((None, self.show(&delete.input, outer)));
                format!("Delete on {}", delete.table.name)
            }
        };
        Shown { title, properties, children, estimate: None, actual: None, never_run: false }
    }

    /// An input that is shown as part of its parent.
    fn node_of_input(&self, input: &Plan, outer: &mut Vec<Vec<String>>) -> Shown {
        let mut shown = self.show(input, outer);
        shown.properties.retain(|(label, _)| *label != "Output");
        shown
    }

    fn index_condition(
        &self,
        table: &crate::catalog::Table,
        index: Option<&crate::catalog::Index>,
        range: &IndexRange,
        names: &Names<'_>,
    ) -> Option<(&'static str, String)> {
        let columns: Vec<usize> = match index {
            Some(index) => index.columns.iter().map(|column| column.column).collect(),
            None => table.primary_key.iter().flat_map(|key| key.columns.iter().copied()).collect(),
        };
        let name = |at: usize| columns.get(at).map_or("?", |column| table.columns[*column].name.as_str());
        let mut terms: Vec<String> = range
            .equal
            .iter()
            .enumerate()
            .map(|(at, value)| format!("({} = {})", name(at), deparse(value, names)))
            .collect();
        let next = range.equal.len();
        for (bound, plain, inclusive) in [(&range.lower, ">", ">="), (&range.upper, "<", "<=")] {
            if let Some((value, included)) = bound {
                let operator = if *included { inclusive } else { plain };
                terms.push(format!("({} {operator} {})", name(next), deparse(value, names)));
            }
        }
        (!terms.is_empty()).then(|| ("Index Cond", conjunction(terms)))
    }
}

fn measured(plan: &Plan, actuals: &Actuals) -> Option<crate::executor::NodeActuals> {
    actuals.of(plan).or_else(|| match &plan.node {
        Node::Project { input, .. } | Node::Filter { input, .. } | Node::With { input, .. } => measured(input, actuals),
        _ => None,
    })
}

fn conjunction(mut terms: Vec<String>) -> String {
    if terms.len() == 1 { terms.remove(0) } else { format!("({})", terms.join(" AND ")) }
}

fn index_name<'t>(table: &'t crate::catalog::Table, index: Option<&'t crate::catalog::Index>) -> &'t str {
    match (index, &table.primary_key) {
        (Some(index), _) => &index.name,
        (None, Some(key)) => &key.name,
        (None, None) => "rowid",
    }
}

fn join_suffix(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "",
        JoinKind::Left => " Left Join",
        JoinKind::Right => " Right Join",
        JoinKind::Full => " Full Join",
        JoinKind::Semi => " Semi Join",
        JoinKind::Anti => " Anti Join",
    }
}

fn width(data_type: crate::types::DataType) -> usize {
    match data_type.length() {
        length if length > 0 => length as usize,
        _ => 32,
    }
}

fn single_input(plan: &Plan) -> Option<&Plan> {
    match &plan.node {
        Node::Filter { input, .. }
        | Node::Project { input, .. }
        | Node::ProjectSet { input, .. }
        | Node::Sort { input, .. }
        | Node::Limit { input, .. }
        | Node::Aggregate { input, .. }
        | Node::Window { input, .. }
        | Node::Distinct { input, .. }
        | Node::With { input, .. }
        | Node::LockRows { input, .. } => Some(input),
        _ => None,
    }
}

/// A scanned table with its alias, where it has one.
fn relation(table: &crate::catalog::Table, output: &ScanOutput) -> String {
    if *output.alias == *table.name { table.name.clone() } else { format!("{} {}", table.name, output.alias) }
}

fn collect_tables(plan: &Plan, tables: &mut Vec<(u32, String)>) {
    plan.for_each_node(&mut |node| {
        let (table, output) = match &node.node {
            Node::SeqScan { table, output, .. }
            | Node::IndexScan { table, output, .. }
            | Node::IndexJoin { table, output, .. } => (table, output),
            _ => return,
        };
        tables.push((table.oid, output.alias.to_string()));
    });
}

/// The plan of a subquery among a node's own expressions, those of projections and filters shown with it.
fn find_subplan(plan: &Plan, pointer: *const Plan) -> Option<&Plan> {
    let mut found = None;
    plan.for_each_subplan(&mut |subplan| {
        if std::ptr::eq(subplan, pointer) {
            found = Some(subplan);
        }
    });
    found.or_else(|| single_input(plan).and_then(|input| find_subplan(input, pointer)))
}

fn write_lines(shown: &Shown, indent: usize, label: Option<&str>, lines: &mut Vec<String>) {
    let mut indent = indent;
    if let Some(label) = label {
        lines.push(format!("{}{label}", " ".repeat(indent)));
        indent += 2;
    }
    let arrow = if lines.is_empty() { "" } else { "->  " };
    let mut line = format!("{}{arrow}{}", " ".repeat(indent), shown.title);
    if let Some((startup, total, rows, width)) = shown.estimate {
        line.push_str(&format!("  (cost={startup:.2}..{total:.2} rows={:.0} width={width})", rows.max(0.0)));
    }
    if let Some((startup, total, rows, loops)) = shown.actual {
        line.push_str(&format!(" (actual time={startup:.3}..{total:.3} rows={rows:.0} loops={loops})"));
    } else if shown.never_run {
        line.push_str(" (never executed)");
    }
    lines.push(line);
    let inner = indent + if arrow.is_empty() { 2 } else { 6 };
    for (name, value) in &shown.properties {
        lines.push(format!("{}{name}: {value}", " ".repeat(inner)));
    }
    for (label, child) in &shown.children {
        write_lines(child, inner, label.as_deref(), lines);
    }
}

fn to_json(shown: &Shown, label: Option<&str>) -> Value {
    let mut node = Map::new();
    let title = shown.title.as_str();
    let (kind, relation) = title.split_once(" on ").map_or((title, None), |(kind, relation)| (kind, Some(relation)));
    let (kind, index) = kind.split_once(" using ").map_or((kind, None), |(kind, index)| (kind, Some(index)));
    node.insert("Node Type".into(), json!(kind));
    if let Some(label) = label {
        node.insert("Subplan Name".into(), json!(label));
    }
    node.extend(index.map(|index| ("Index Name".to_owned(), json!(index))));
    if let Some(relation) = relation {
        let (table, alias) = relation.split_once(' ').unwrap_or((relation, relation));
        node.insert("Relation Name".into(), json!(table));
        node.insert("Alias".into(), json!(alias));
    }
    let round = |value: f64| json!((value * 100.0).round() / 100.0);
    if let Some((startup, total, rows, width)) = shown.estimate {
        node.insert("Startup Cost".into(), round(startup));
        node.insert("Total Cost".into(), round(total));
        node.insert("Plan Rows".into(), json!(rows.round() as i64));
        node.insert("Plan Width".into(), json!(width));
    }
    if let Some((startup, total, rows, loops)) = shown.actual {
        node.insert("Actual Startup Time".into(), json!(startup));
        node.insert("Actual Total Time".into(), json!(total));
        node.insert("Actual Rows".into(), json!(rows.round() as i64));
        node.insert("Actual Loops".into(), json!(loops));
    }
    for (name, value) in &shown.properties {
        node.insert((*name).to_owned(), json!(value));
    }
    if !shown.children.is_empty() {
        let children = shown.children.iter().map(|(label, child)| to_json(child, label.as_deref())).collect();
        node.insert("Plans".into(), Value::Array(children));
    }
    Value::Object(node)
}
