//! The points in time at which transactions read and commit, and what lies before what; circles among them.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};

use crate::lists::{Lists, Read, finding};
use crate::{Anomaly, Finding, History, Isolation, Operation, Outcome, Transaction};

/// From how many points of a component the shortest circle is looked for, at most.
const MOST_STARTS: usize = 64;

/// Why a point lies before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Why {
    /// Versions of a key.
    Ww(u64),
    /// A version of a key was read.
    Wr(u64),
    /// A key was read before the version.
    Rw(u64),
    /// The order within a transaction.
    Order,
    /// By the clock.
    Time,
}

#[derive(Clone, Copy, Debug)]
struct Arrow {
    to: usize,
    why: Why,
}

/// What a point stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// A transaction, or one of its statements, reads.
    Snapshot { transaction: usize },
    /// It commits.
    Commit { transaction: usize },
    /// The first of the commits whose appends to a key nobody has seen.
    Unseen,
    /// A time on the clock.
    Time,
}

impl Point {
    fn transaction(self) -> Option<usize> {
        match self {
            Point::Snapshot { transaction } | Point::Commit { transaction } => Some(transaction),
            Point::Unseen | Point::Time => None,
        }
    }
}

/// When something happened: not before, not after.
#[derive(Clone, Copy)]
struct Span {
    from: u64,
    until: Option<u64>,
}

#[derive(Default)]
struct Graph {
    points: Vec<Point>,
    arrows: Vec<Vec<Arrow>>,
    /// Of each transaction: the point of each statement. Under READ COMMITTED one that does not read its snapshot has none.
    snapshots: Vec<Vec<Option<usize>>>,
    commits: Vec<Option<usize>>,
    spans: BTreeMap<usize, Span>,
    /// Transactions with a key to which they appended what nobody has seen.
    unseen: HashSet<(usize, u64)>,
}

/// Reports one circle of each knot.
pub(crate) fn find_circles(history: &History, lists: &Lists, findings: &mut Vec<Finding>) {
    let mut graph = Graph::default();
    let of_snapshot = lists.reads.iter().filter(|read| read.of_snapshot);
    let readers: HashSet<_> = of_snapshot.map(|read| (read.transaction, read.statement)).collect();
    for (number, transaction) in history.transactions.iter().enumerate() {
        let reads = |statement| readers.contains(&(number, statement));
        graph.add_transaction(number, transaction, lists.committed[number], reads);
    }
    graph.add_versions(history, lists);
    graph.add_times(history);
    let levels: [fn(Why) -> bool; 4] = [
        |why| matches!(why, Why::Ww(_)),
        |why| matches!(why, Why::Ww(_) | Why::Wr(_) | Why::Order),
        |why| !matches!(why, Why::Time),
        |_| true,
    ];
    let mut told = HashSet::new();
    for allowed in levels {
        for component in graph.components(allowed) {
            if component.iter().any(|point| told.contains(point)) {
                continue;
            }
            let circle = graph.circle(&component, allowed);
            told.extend(circle.iter().map(|(point, _)| *point));
            findings.push(graph.name(history, &circle));
        }
    }
}

impl Graph {
    fn add(&mut self, point: Point) -> usize {
        self.points.push(point);
        self.arrows.push(Vec::new());
        self.points.len() - 1
    }

    fn arrow(&mut self, from: usize, to: usize, why: Why) {
        assert_ne!(from, to, "{why:?}: nothing lies before itself");
        self.arrows[from].push(Arrow { to, why });
    }

    fn add_transaction(
        &mut self,
        number: usize,
        transaction: &Transaction,
        committed: bool,
        reads: impl Fn(usize) -> bool,
    ) {
        let (mut points, mut last) = (Vec::new(), None::<usize>);
        let repeatable = transaction.isolation == Isolation::RepeatableRead;
        for (place, statement) in transaction.statements.iter().enumerate() {
            if repeatable && last.is_some() {
                points.push(last);
                continue;
            }
            if !repeatable && !reads(place) {
                points.push(None);
                continue;
            }
            let point = self.add(Point::Snapshot { transaction: number });
            self.spans.insert(point, Span { from: statement.begun, until: Some(statement.ended) });
            last.into_iter().for_each(|last| self.arrow(last, point, Why::Order));
            last = Some(point);
            points.push(last);
        }
        let commit = committed.then(|| {
            let from = transaction.asked.expect("who has committed has asked for it");
            let until = match transaction.outcome {
                Outcome::Committed(told) => Some(told),
                Outcome::Aborted | Outcome::Unknown => None,
            };
            let commit = self.add(Point::Commit { transaction: number });
            self.spans.insert(commit, Span { from, until });
            last.into_iter().for_each(|last| self.arrow(last, commit, Why::Order));
            commit
        });
        self.snapshots.push(points);
        self.commits.push(commit);
    }

    /// What the statements after one that read see, because that one found it under a lock.
    fn add_seen(&mut self, history: &History, commit: usize, (transaction, statement): (usize, usize), why: Why) {
        let next = self.snapshots[transaction].iter().skip(statement + 1).flatten().next().copied();
        if history.transactions[transaction].isolation == Isolation::ReadCommitted
            && let Some(next) = next
        {
            self.arrow(commit, next, why);
        }
    }

    /// `writer` wrote the version of a key before the one of `next`.
    fn add_overwrite(&mut self, history: &History, writer: usize, next: (usize, usize), key: u64) {
        let (Some(before), Some(after)) = (self.commits[writer], self.commits[next.0]) else { return };
        if writer == next.0 {
            return;
        }
        self.arrow(before, after, Why::Ww(key));
        if history.transactions[next.0].isolation == Isolation::RepeatableRead
            && let Some(snapshot) = self.snapshots[next.0][next.1]
        {
            self.arrow(before, snapshot, Why::Ww(key));
        }
        self.add_seen(history, before, next, Why::Ww(key));
    }

    fn add_versions(&mut self, history: &History, lists: &Lists) {
        let mut unseen = HashMap::new();
        let kept = lists.kept();
        let keys: BTreeSet<u64> = kept.keys().chain(lists.orders.keys()).copied().collect();
        for key in keys {
            let order = lists.orders.get(&key).map_or(&[][..], Vec::as_slice);
            let writers: Vec<_> = order.iter().filter_map(|value| lists.appended(key, *value)).collect();
            let writers: Vec<_> = writers.iter().map(|append| (append.transaction, append.statement)).collect();
            let writers: Vec<_> = writers.into_iter().filter(|(writer, _)| self.commits[*writer].is_some()).collect();
            writers.windows(2).for_each(|pair| self.add_overwrite(history, pair[0].0, pair[1], key));
            let nowhere: BTreeSet<usize> = kept
                .get(&key)
                .into_iter()
                .flatten()
                .filter(|(value, _)| !order.contains(value))
                .map(|(_, writer)| *writer)
                .collect();
            if nowhere.is_empty() {
                continue;
            }
            let first = self.add(Point::Unseen);
            for writer in &nowhere {
                self.unseen.insert((*writer, key));
                if let Some((last, _)) = writers.last() {
                    self.add_overwrite(history, *last, (*writer, 0), key);
                }
                let commit = self.commits[*writer].expect("kept appends are committed");
                self.arrow(first, commit, Why::Order);
            }
            unseen.insert(key, (first, nowhere));
        }
        for read in &lists.reads {
            let order = &lists.orders.get(&read.key).map_or(&[][..], Vec::as_slice);
            if order.starts_with(&read.base) {
                self.add_read(history, lists, read, &order[read.base.len()..], unseen.get(&read.key));
            }
        }
    }

    /// `rest` was appended behind what was read.
    fn add_read(
        &mut self,
        history: &History,
        lists: &Lists,
        read: &Read,
        rest: &[u64],
        unseen: Option<&(usize, BTreeSet<usize>)>,
    ) {
        let Read { transaction, statement, key, .. } = *read;
        let commit_of = |graph: &Graph, value: &u64| {
            let writer = lists.appended(key, *value).map(|append| append.transaction);
            writer.filter(|writer| *writer != transaction).and_then(|writer| graph.commits[writer])
        };
        let commit = self.commits[transaction];
        let point = if read.of_snapshot { self.snapshots[transaction][statement] } else { commit };
        let before = read.base.iter().rev().find_map(|value| commit_of(self, value));
        if let Some(before) = before {
            point.into_iter().for_each(|point| self.arrow(before, point, Why::Wr(key)));
            if !read.of_snapshot {
                self.add_seen(history, before, (transaction, statement), Why::Wr(key));
            }
        }
        let Some(point) = point else { return };
        match rest.iter().find_map(|value| commit_of(self, value)) {
            // A part of what a transaction appended: that is told by itself.
            Some(after) if Some(after) == before => {}
            Some(after) => self.arrow(point, after, Why::Rw(key)),
            None => {
                let Some((first, nowhere)) = unseen else { return };
                let last = before.and_then(|before| self.points[before].transaction());
                if last.is_some_and(|last| nowhere.contains(&last)) {
                    return;
                }
                if read.of_snapshot {
                    self.arrow(point, *first, Why::Rw(key));
                    return;
                }
                for writer in nowhere.iter().filter(|writer| **writer != transaction) {
                    let after = self.commits[*writer].expect("kept appends are committed");
                    self.arrow(point, after, Why::Rw(key));
                }
            }
        }
    }

    /// What ended before something else began lies before it: of commits everywhere, of snapshots on one primary. A snapshot of a
    /// primary that was replaced may be old, but none is of the future.
    fn add_times(&mut self, history: &History) {
        let spans: Vec<(usize, Span)> = self.spans.iter().map(|(point, span)| (*point, *span)).collect();
        let everywhere = self.clock(spans.iter().copied());
        let primary = |point: usize| {
            let transaction = self.points[point].transaction().expect("only transactions have spans");
            history.transactions[transaction].primary
        };
        let mut by_primary = BTreeMap::<u64, Vec<(usize, Span)>>::new();
        for (point, span) in &spans {
            by_primary.entry(primary(*point)).or_default().push((*point, *span));
        }
        // Who has written nothing reads and no more, also when it commits.
        let writes = |transaction: &Transaction| {
            let kept = transaction.statements.iter().filter(|statement| statement.undone_at.is_none());
            kept.flat_map(|statement| &statement.operations).any(|done| matches!(done, Operation::Append { .. }))
        };
        let is_in_log = |point: Point| match point {
            Point::Commit { transaction } => writes(&history.transactions[transaction]),
            _ => false,
        };
        for (point, span) in &spans {
            if is_in_log(self.points[*point]) {
                self.after(&everywhere, span.from, *point);
            }
        }
        for (number, spans) in by_primary {
            let clock = self.clock(spans.iter().copied());
            let starts = history.primaries.get(&number).copied();
            for (point, span) in spans {
                if !is_in_log(self.points[point]) {
                    self.after(&clock, span.from, point);
                    starts.into_iter().for_each(|starts| self.after(&everywhere, starts, point));
                }
            }
        }
    }

    /// Times at which points are over, each before the next.
    fn clock(&mut self, spans: impl Iterator<Item = (usize, Span)>) -> BTreeMap<u64, usize> {
        let mut clock = BTreeMap::new();
        for (point, span) in spans {
            if let Some(until) = span.until {
                let time = *clock.entry(until).or_insert_with(|| self.add(Point::Time));
                self.arrow(point, time, Why::Time);
            }
        }
        let times: Vec<usize> = clock.values().copied().collect();
        times.windows(2).for_each(|pair| self.arrow(pair[0], pair[1], Why::Time));
        clock
    }

    fn after(&mut self, clock: &BTreeMap<u64, usize>, from: u64, point: usize) {
        if let Some((_, time)) = clock.range(..from).next_back() {
            self.arrow(*time, point, Why::Time);
        }
    }

    /// Knots: sets of points each of which lies before each other (Tarjan's algorithm, without recursion).
    fn components(&self, allowed: fn(Why) -> bool) -> Vec<Vec<usize>> {
        const UNSEEN: usize = usize::MAX;
        let count = self.points.len();
        let (mut index, mut low, mut on_stack) = (vec![UNSEEN; count], vec![0; count], vec![false; count]);
        let (mut stack, mut next, mut knots) = (Vec::new(), 0, Vec::new());
        for root in 0..count {
            if index[root] != UNSEEN {
                continue;
            }
            let mut walk = vec![(root, 0)];
            while let Some((point, place)) = walk.last_mut() {
                let point = *point;
                if *place == 0 {
                    (index[point], low[point], on_stack[point]) = (next, next, true);
                    next += 1;
                    stack.push(point);
                }
                let Some(arrow) = self.arrows[point].get(*place) else {
                    walk.pop();
                    if let Some((before, _)) = walk.last() {
                        low[*before] = low[*before].min(low[point]);
                    }
                    if low[point] == index[point] {
                        let begin = stack.iter().rposition(|one| *one == point).expect("it is on the stack");
                        let knot = stack.split_off(begin);
                        knot.iter().for_each(|one| on_stack[*one] = false);
                        if knot.len() > 1 {
                            knots.push(knot);
                        }
                    }
                    continue;
                };
                *place += 1;
                if !allowed(arrow.why) {
                    continue;
                }
                if index[arrow.to] == UNSEEN {
                    walk.push((arrow.to, 0));
                } else if on_stack[arrow.to] {
                    low[point] = low[point].min(index[arrow.to]);
                }
            }
        }
        knots
    }

    /// The circle with the fewest rw, then the least use of the clock, then the shortest. Points with the arrows that leave them.
    fn circle(&self, component: &[usize], allowed: fn(Why) -> bool) -> Vec<(usize, Why)> {
        let inside: HashSet<usize> = component.iter().copied().collect();
        let mut starts: Vec<_> =
            component.iter().filter(|point| self.points[**point].transaction().is_some()).collect();
        starts.sort();
        let circles = starts.into_iter().take(MOST_STARTS).filter_map(|start| self.way_back(*start, &inside, allowed));
        circles.min_by_key(|(cost, _)| *cost).map(|(_, circle)| circle).expect("there is a way back in a component")
    }

    fn way_back(
        &self,
        start: usize,
        inside: &HashSet<usize>,
        allowed: fn(Why) -> bool,
    ) -> Option<(u64, Vec<(usize, Why)>)> {
        let cost = |why: Why| match why {
            Why::Rw(_) => 1_000_000,
            Why::Time => 1_000,
            Why::Ww(_) | Why::Wr(_) | Why::Order => 1,
        };
        let mut best = HashMap::<usize, (u64, usize, Why)>::new();
        let mut open = BinaryHeap::from([(std::cmp::Reverse(0), start)]);
        while let Some((std::cmp::Reverse(so_far), point)) = open.pop() {
            if point == start && so_far > 0 {
                let mut circle = Vec::new();
                let mut at = start;
                loop {
                    let (_, before, why) = best[&at];
                    circle.push((before, why));
                    at = before;
                    if at == start {
                        circle.reverse();
                        return Some((so_far, circle));
                    }
                }
            }
            if best.get(&point).is_some_and(|(known, _, _)| *known < so_far) {
                continue;
            }
            for arrow in self.arrows[point].iter().filter(|arrow| allowed(arrow.why) && inside.contains(&arrow.to)) {
                let total = so_far + cost(arrow.why);
                if best.get(&arrow.to).is_none_or(|(known, _, _)| total < *known) {
                    best.insert(arrow.to, (total, point, arrow.why));
                    open.push((std::cmp::Reverse(total), arrow.to));
                }
            }
        }
        None
    }

    fn name(&self, history: &History, circle: &[(usize, Why)]) -> Finding {
        let ends = |place: usize| {
            let (point, why) = circle[place];
            (self.points[point], why, self.points[circle[(place + 1) % circle.len()].0])
        };
        let arrows: Vec<_> = (0..circle.len()).map(ends).collect();
        let mut transactions = Vec::new();
        for transaction in arrows.iter().filter_map(|(point, _, _)| point.transaction()) {
            if !transactions.contains(&transaction) {
                transactions.push(transaction);
            }
        }
        let reads: Vec<_> = arrows.iter().filter(|(_, why, _)| matches!(why, Why::Rw(_))).collect();
        let has = |wanted: fn(&Why) -> bool| arrows.iter().any(|(_, why, _)| wanted(why));
        // Of those whose appends to a key nobody has seen others may have been.
        let is_read = |transaction: usize| {
            let reads = |(from, why, _): &(Point, Why, Point)| {
                matches!(why, Why::Wr(_)) && from.transaction() == Some(transaction)
            };
            arrows.iter().any(reads)
        };
        let to_unseen = |place: usize| match arrows[place] {
            (_, Why::Ww(key) | Why::Rw(key), to) => {
                let next = arrows[(place + 1) % arrows.len()].2;
                let to = to.transaction().or(next.transaction());
                to.is_some_and(|to| self.unseen.contains(&(to, key)) && !is_read(to))
            }
            _ => false,
        };
        let anomaly = if (0..arrows.len()).any(to_unseen) {
            Anomaly::LostAppend
        } else if has(|why| matches!(why, Why::Time)) {
            match reads.first() {
                Some(_) => Anomaly::StaleRead,
                None if has(|why| matches!(why, Why::Wr(_))) => Anomaly::EarlyRead,
                None => Anomaly::TimeReversal,
            }
        } else {
            match reads[..] {
                [] if has(|why| matches!(why, Why::Wr(_))) => Anomaly::CircularInformationFlow,
                [] => Anomaly::DirtyWrite,
                [(reader, Why::Rw(key), _)] => {
                    let reader = reader.transaction();
                    let key = *key;
                    let came = |(from, why, to): &(Point, Why, Point)| {
                        *why == Why::Wr(key) && to.transaction() == reader && from.transaction() != reader
                    };
                    let of_key = |(_, why, _): &(Point, Why, Point)| {
                        [Why::Ww(key), Why::Wr(key), Why::Rw(key), Why::Order].contains(why)
                    };
                    let on_one_key = transactions.len() == 2 && arrows.iter().all(of_key);
                    let repeatable = reader
                        .is_some_and(|reader| history.transactions[reader].isolation == Isolation::RepeatableRead);
                    if arrows.iter().any(came) || on_one_key && !repeatable {
                        Anomaly::NonRepeatableRead
                    } else if on_one_key {
                        Anomaly::LostUpdate
                    } else {
                        Anomaly::ReadSkew
                    }
                }
                _ => Anomaly::NonadjacentCycle,
            }
        };
        finding(anomaly, transactions, self.describe(&arrows))
    }

    fn describe(&self, arrows: &[(Point, Why, Point)]) -> String {
        let steps = arrows.iter().filter_map(|(from, why, _)| {
            let at = match from {
                Point::Snapshot { transaction } => format!("{transaction} reads"),
                Point::Commit { transaction } => format!("{transaction} commits"),
                Point::Unseen => return None,
                Point::Time => return None,
            };
            Some(match why {
                Why::Ww(key) => format!("{at} -ww {key}->"),
                Why::Wr(key) => format!("{at} -wr {key}->"),
                Why::Rw(key) => format!("{at} -rw {key}->"),
                Why::Order => format!("{at} ->"),
                Why::Time => format!("{at} -told before->"),
            })
        });
        let steps: Vec<_> = steps.collect();
        let back = steps.first().and_then(|first| first.split(' ').next()).unwrap_or("?").to_owned();
        format!("{} {back}", steps.join(" "))
    }
}
