//! What the lists tell by themselves: the order of each key's versions, who is known to have committed, and what is wrong with single
//! reads.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{Anomaly, Finding, History, Isolation, Operation, Outcome};

/// Where an append was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub transaction: usize,
    /// Of the transaction.
    pub statement: usize,
    /// It was taken back.
    undone: bool,
}

/// A read of a key.
#[derive(Debug)]
pub(crate) struct Read {
    pub transaction: usize,
    pub statement: usize,
    pub key: u64,
    /// Without what the transaction itself has appended.
    pub base: Vec<u64>,
    /// What it has appended itself by then.
    own: Vec<u64>,
    /// The base is as of the statement's snapshot; else it is what stood there under the row's lock.
    pub of_snapshot: bool,
}

/// All keys.
pub(crate) struct Lists {
    appended: HashMap<(u64, u64), Appended>,
    pub reads: Vec<Read>,
    /// Of each key the longest list that is known to have been.
    pub orders: BTreeMap<u64, Vec<u64>>,
    /// Committed, as told or as others have seen.
    pub committed: Vec<bool>,
}

impl Lists {
    pub fn new(history: &History, findings: &mut Vec<Finding>) -> Lists {
        let appended = appends(history);
        let committed = history.transactions.iter().map(|one| matches!(one.outcome, Outcome::Committed(_))).collect();
        let mut lists = Lists { appended, reads: Vec::new(), orders: BTreeMap::new(), committed };
        lists.read(history, findings);
        lists.conclude(history);
        lists.check_reads(history, findings);
        lists.order(findings);
        lists
    }

    /// Who appended a value.
    pub fn appended(&self, key: u64, value: u64) -> Option<Appended> {
        self.appended.get(&(key, value)).copied()
    }

    /// Appends that are to be found in every complete list, by key.
    pub fn kept(&self) -> BTreeMap<u64, BTreeSet<(u64, usize)>> {
        let mut kept = BTreeMap::<u64, BTreeSet<(u64, usize)>>::new();
        for ((key, value), append) in &self.appended {
            if !append.undone && self.committed[append.transaction] {
                kept.entry(*key).or_default().insert((*value, append.transaction));
            }
        }
        kept
    }

    /// Takes reads apart into what others and what the reader appended.
    fn read(&mut self, history: &History, findings: &mut Vec<Finding>) {
        for (number, transaction) in history.transactions.iter().enumerate() {
            let mut own = Vec::<(u64, u64, Option<usize>)>::new();
            for (place, statement) in transaction.statements.iter().enumerate() {
                for operation in &statement.operations {
                    let (key, list, newest) = match operation {
                        Operation::Append { key, value } => {
                            own.push((*key, *value, statement.undone_at));
                            continue;
                        }
                        Operation::Read { key, list } => (*key, list, false),
                        Operation::ReadNewest { key, list } => (*key, list, true),
                    };
                    let is_seen = |undone: &Option<usize>| undone.is_none_or(|undone| undone > place);
                    let own: Vec<u64> = own
                        .iter()
                        .filter(|(of, _, undone)| *of == key && is_seen(undone))
                        .map(|(_, value, _)| *value)
                        .collect();
                    let base = match list.strip_suffix(own.as_slice()) {
                        Some(base) => base.to_vec(),
                        None => {
                            let text = format!("key {key} is read as {list:?}, after {own:?} was appended");
                            findings.push(finding(Anomaly::OwnAppendsMissing, [number], text));
                            list.iter().copied().filter(|value| !own.contains(value)).collect()
                        }
                    };
                    // Under REPEATABLE READ nothing that has changed since the snapshot can be locked.
                    let read_committed = transaction.isolation == Isolation::ReadCommitted;
                    let of_snapshot = !read_committed || !newest && own.is_empty();
                    self.reads.push(Read { transaction: number, statement: place, key, base, own, of_snapshot });
                }
            }
        }
    }

    /// Whether what the read shows was there for others too. What is found under a lock may not be durable yet; then the
    /// reader does not become so either.
    fn is_solid(&self, read: &Read) -> bool {
        read.of_snapshot || self.committed[read.transaction]
    }

    /// Whoever's appends are seen has committed.
    fn conclude(&mut self, history: &History) {
        loop {
            let mut seen = BTreeSet::new();
            for read in self.reads.iter().filter(|read| self.is_solid(read)) {
                let appends = read.base.iter().filter_map(|value| self.appended.get(&(read.key, *value)));
                seen.extend(appends.map(|append| append.transaction).filter(|one| !self.committed[*one]));
            }
            seen.retain(|one| history.transactions[*one].outcome == Outcome::Unknown);
            if seen.is_empty() {
                return;
            }
            seen.into_iter().for_each(|one| self.committed[one] = true);
        }
    }

    fn check_reads(&self, history: &History, findings: &mut Vec<Finding>) {
        for read in &self.reads {
            let (reader, key) = (read.transaction, read.key);
            let mut found = BTreeMap::<usize, Vec<u64>>::new();
            let mut seen = BTreeSet::new();
            for value in &read.base {
                let Some(append) = self.appended(key, *value) else {
                    let text = format!("key {key} holds {value}, which nobody appended to it");
                    findings.push(finding(Anomaly::UnknownValue, [reader], text));
                    continue;
                };
                let writer = append.transaction;
                if !seen.insert(*value) {
                    let text = format!("key {key} holds {value} twice: {:?}", read.base);
                    findings.push(finding(Anomaly::DuplicateAppend, [writer, reader], text));
                    continue;
                }
                if writer == reader {
                    let text =
                        format!("key {key} is read as {:?} before {:?}, own ones among them", read.base, read.own);
                    findings.push(finding(Anomaly::OwnAppendsMissing, [reader], text));
                    continue;
                }
                if append.undone || history.transactions[writer].outcome == Outcome::Aborted {
                    let text = format!("{value} of key {key} was given up, and read");
                    findings.push(finding(Anomaly::AbortedRead, [writer, reader], text));
                    continue;
                }
                found.entry(writer).or_default().push(*value);
            }
            for (writer, found) in found {
                let all = appends_of(history, writer, key);
                if found.len() < all.len() {
                    let text = format!("of {all:?}, which was appended to key {key}, only {found:?} was read");
                    findings.push(finding(Anomaly::IntermediateRead, [writer, reader], text));
                } else if found != all {
                    let text = format!("{all:?} was appended to key {key}, and {found:?} read");
                    findings.push(finding(Anomaly::IncompatibleOrder, [writer, reader], text));
                }
            }
        }
    }

    /// Every list that was read must be the beginning of the longest.
    fn order(&mut self, findings: &mut Vec<Finding>) {
        let mut longest = BTreeMap::<u64, (Vec<u64>, usize)>::new();
        let mut shown = Vec::new();
        for read in self.reads.iter().filter(|read| self.is_solid(read)) {
            let mut list = read.base.clone();
            let kept = |value: &&u64| self.appended(read.key, **value).is_some_and(|append| !append.undone);
            if self.committed[read.transaction] && read.own.iter().filter(kept).count() == read.own.len() {
                list.extend(&read.own);
            }
            let best = longest.entry(read.key).or_default();
            if list.len() > best.0.len() {
                *best = (list.clone(), read.transaction);
            }
            shown.push((read.key, list, read.transaction));
        }
        for (key, list, reader) in shown {
            let (whole, other) = &longest[&key];
            if !whole.starts_with(&list) {
                let apart = list.iter().zip(whole).take_while(|(one, other)| one == other).count();
                let text = format!(
                    "key {key} is read as {:?} and as {:?} behind the same {apart} values",
                    &list[apart..],
                    &whole[apart..]
                );
                findings.push(finding(Anomaly::IncompatibleOrder, [reader, *other], text));
            }
        }
        self.orders = longest.into_iter().map(|(key, (list, _))| (key, list)).collect();
    }
}

/// Names what is wrong.
pub(crate) fn finding(
    anomaly: Anomaly,
    transactions: impl IntoIterator<Item = usize>,
    text: impl Into<String>,
) -> Finding {
    Finding { anomaly, transactions: transactions.into_iter().collect(), text: text.into() }
}

fn appends(history: &History) -> HashMap<(u64, u64), Appended> {
    let mut appended = HashMap::new();
    for (transaction, one) in history.transactions.iter().enumerate() {
        for (place, statement) in one.statements.iter().enumerate() {
            for operation in &statement.operations {
                if let Operation::Append { key, value } = operation {
                    let append = Appended { transaction, statement: place, undone: statement.undone_at.is_some() };
                    let before = appended.insert((*key, *value), append);
                    assert!(before.is_none(), "the test appends {value} to key {key} twice");
                }
            }
        }
    }
    appended
}

/// What a transaction appended to a key and did not take back.
fn appends_of(history: &History, transaction: usize, key: u64) -> Vec<u64> {
    let statements = history.transactions[transaction].statements.iter();
    let kept = statements.filter(|statement| statement.undone_at.is_none());
    let values = kept.flat_map(|statement| &statement.operations).filter_map(|operation| match operation {
        Operation::Append { key: of, value } if *of == key => Some(*value),
        _ => None,
    });
    values.collect()
}
