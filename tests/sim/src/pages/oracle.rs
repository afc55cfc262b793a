//! What every page is as of every LSN, according to the log alone: the stream as the log's nodes have shown it, replayed by
//! `storage::redo`. Page servers are compared with this.

use std::collections::BTreeMap;
use std::sync::Arc;

use storage::batch::BatchDecoder;
use storage::page::Page;
use storage::redo::redo;
use storage::{BranchId, Lsn, PageNo};

use crate::checks::History;

/// One branch. LSNs here are the branch's; the positions in its stream begin at zero.
pub struct Oracle {
    pub branch: BranchId,
    /// Where it leaves its parent.
    pub begin: Lsn,
    /// The same of those it comes from too.
    begins: Vec<Lsn>,
    decoder: BatchDecoder,
    versions: BTreeMap<PageNo, Vec<(Lsn, Arc<Page>)>>,
    /// Ends of batches, ascending, those that it inherited included.
    ends: Vec<Lsn>,
    /// When each of them was committed, in microseconds: not before those before it, whatever the clocks said.
    times_us: Vec<u64>,
}

impl Oracle {
    /// Of a branch that begins empty.
    pub fn new(branch: BranchId) -> Oracle {
        let decoder = BatchDecoder::new(Lsn::ZERO);
        let (begin, begins) = (Lsn::ZERO, Vec::new());
        Oracle { branch, begin, begins, decoder, versions: BTreeMap::new(), ends: Vec::new(), times_us: Vec::new() }
    }

    /// Of a branch that leaves this one at `begin`, which this one knows.
    pub fn branched(&self, branch: BranchId, begin: Lsn) -> Oracle {
        let seen = |versions: &Vec<(Lsn, Arc<Page>)>| -> Vec<_> {
            versions.iter().filter(|(lsn, _)| *lsn <= begin).cloned().collect()
        };
        let ends: Vec<_> = self.ends.iter().copied().filter(|end| *end <= begin).collect();
        let versions = self.versions.iter().map(|(page_no, versions)| (*page_no, seen(versions)));
        Oracle {
            branch,
            begin,
            begins: self.begins.iter().copied().chain([begin]).collect(),
            decoder: BatchDecoder::new(begin),
            versions: versions.filter(|(_, versions)| !versions.is_empty()).collect(),
            times_us: self.times_us[..ends.len()].to_vec(),
            ends,
        }
    }

    /// Takes what the nodes have shown since.
    pub fn follow(&mut self, history: &History) {
        let from = Lsn(self.decoder.fed_lsn().since(self.begin));
        for (start, epoch, bytes) in history.shown_from(self.branch, from) {
            let fed = self.decoder.feed(start.advance(self.begin.0), epoch, bytes.clone());
            fed.unwrap_or_else(|error| panic!("branch {}: the log is not sound: {error}", self.branch));
        }
        while let Some(batch) = self.decoder.next_batch() {
            let mut touched: BTreeMap<PageNo, Box<Page>> = BTreeMap::new();
            for record in batch.records() {
                let record = record.expect("records of a sound batch are sound");
                let page = touched.entry(record.page).or_insert_with(|| {
                    let newest = self.versions.get(&record.page).and_then(|versions| versions.last());
                    newest.map_or_else(Page::unused, |(_, page)| Box::new(Page::clone(page)))
                });
                redo(page, &record.op).unwrap_or_else(|error| panic!("branch {}: {error}", self.branch));
            }
            for (page_no, mut page) in touched {
                page.set_lsn(batch.end_lsn);
                self.versions.entry(page_no).or_default().push((batch.end_lsn, Arc::from(page)));
            }
            self.ends.push(batch.end_lsn);
            let latest_us = self.times_us.last().copied().unwrap_or(0);
            self.times_us.push(latest_us.max(batch.commit_time_us));
        }
    }

    /// How far the stream is known: an LSN of this branch.
    pub fn known_until(&self) -> Lsn {
        self.decoder.fed_lsn()
    }

    /// End of the last whole batch.
    pub fn last_batch(&self) -> Lsn {
        self.ends.last().copied().unwrap_or(self.begin)
    }

    /// End of the last batch committed at or before a time.
    pub fn end_at(&self, time_us: u64) -> Option<Lsn> {
        let after = self.times_us.partition_point(|time| *time <= time_us);
        after.checked_sub(1).map(|last| self.ends[last])
    }

    /// Where this branch and those it comes from leave their parents.
    pub fn begins(&self) -> &[Lsn] {
        &self.begins
    }

    /// End of the last batch at or before an LSN.
    pub fn last_before(&self, lsn: Lsn) -> Lsn {
        let after = self.ends.partition_point(|end| *end <= lsn);
        after.checked_sub(1).map_or(Lsn::ZERO, |last| self.ends[last])
    }

    /// When batches were committed.
    pub fn times_us(&self) -> &[u64] {
        &self.times_us
    }

    /// Ends of batches.
    pub fn ends(&self) -> &[Lsn] {
        &self.ends
    }

    /// A page as of an LSN.
    pub fn page(&self, page_no: PageNo, at: Lsn) -> Option<(Lsn, Arc<Page>)> {
        let versions = self.versions.get(&page_no)?;
        let newer = versions.partition_point(|(lsn, _)| *lsn <= at);
        Some(versions[newer.checked_sub(1)?].clone())
    }

    /// Numbers of pages beyond which none was ever written.
    pub fn page_space(&self) -> u64 {
        self.versions.keys().next_back().map_or(0, |last| last.0 + 1)
    }

    /// All pages as of an LSN.
    pub fn pages(&self, at: Lsn) -> BTreeMap<PageNo, Arc<Page>> {
        self.versions.keys().filter_map(|page_no| Some((*page_no, self.page(*page_no, at)?.1))).collect()
    }
}
