//! Answering page@LSN, one page or many at a time.
//!
//! Many pages are made together: each waits for the log once, and each block of a layer is looked at once however many of
//! the pages lie in it. That is what makes scans cheap; a single page is a batch of one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::try_join_all;
use metrics::{Counter, Histogram};
use storage::layer::{LayerDescriptor, LayerEntry, LayerError, LayerKind, Wanted};
use storage::object::ObjectError;
use storage::{BranchId, Lsn, PageNo};

use crate::buffer::{RecordBuffer, RecordCopy};
use crate::client::{GetPage, PageError, PageImage, Priority};
use crate::compaction::LayerId;
use crate::metrics as names;
use crate::page_cache::CachedPage;
use crate::replay::{Replay, initializes_page, replay};
use crate::shard::Shard;
use crate::spill::is_gone;
use crate::view::View;

/// Layers may be replaced and deleted under a read; it then begins anew with the layers of that moment.
const READ_TRIALS: usize = 4;
/// Pages made together: as many as a stripe has. Their blocks are in memory at the same time.
const PAGES_TOGETHER: usize = 64;

type Answer = Result<PageImage, PageError>;

/// What reads report. Looked up once: a lookup costs as much as a page from the cache.
pub(crate) struct ReadMeters {
    seconds: Histogram,
    layers: Histogram,
    hits: Counter,
    misses: Counter,
}

impl ReadMeters {
    pub fn new() -> ReadMeters {
        ReadMeters {
            seconds: metrics::histogram!(names::GET_PAGE_SECONDS),
            layers: metrics::histogram!(names::LAYERS_PER_READ),
            hits: metrics::counter!(names::PAGE_CACHE_HITS),
            misses: metrics::counter!(names::PAGE_CACHE_MISSES),
        }
    }
}

impl std::fmt::Debug for ReadMeters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadMeters")
    }
}

/// A page on its way: what is at hand, and what its layers are asked for.
struct Making {
    /// Place of its answer.
    number: usize,
    page: PageNo,
    at: Lsn,
    /// What is made is right up to here, besides its own LSN.
    known_until: Lsn,
    base: Option<(BranchId, Bytes)>,
    /// LSN of `base` if it came from the cache of pages and is used as it is when nothing follows.
    cached: Option<(Bytes, Lsn)>,
    /// From buffers, those set aside included; all above those of layers.
    records: Vec<(Lsn, Bytes)>,
    /// From layers.
    older: Vec<(Lsn, Bytes)>,
    /// Records of layers at or below this are in the base already.
    from: Option<Lsn>,
    layers: usize,
}

impl Shard {
    /// Pages as of LSNs, sealed, each with its own status, in order.
    pub async fn get_pages(&self, requests: &[GetPage]) -> Vec<Answer> {
        // By page, so that neighbours share blocks; and the urgent do not wait with others.
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_key(|&number| (requests[number].priority, requests[number].page, requests[number].at));
        let same = |a: &usize, b: &usize| requests[*a].priority == requests[*b].priority;
        let parts = order.chunk_by(same).flat_map(|same| same.chunks(PAGES_TOGETHER));
        let parts: Vec<_> = parts.map(|part| self.admitted_part(requests, part)).collect();
        let mut answers: Vec<Option<Answer>> = vec![None; requests.len()];
        let mut done = futures::stream::iter(parts).buffer_unordered(self.config.read_concurrency.max(1));
        while let Some(part) = done.next().await {
            part.into_iter().for_each(|(number, answer)| answers[number] = Some(answer));
        }
        answers.into_iter().map(|answer| answer.expect("every request is of one part")).collect()
    }

    async fn admitted_part(&self, requests: &[GetPage], part: &[usize]) -> Vec<(usize, Answer)> {
        #[expect(clippy::disallowed_methods, reason = "a duration for metrics")]
        let started = Instant::now();
        let priority = part.first().map_or(Priority::Foreground, |&number| requests[number].priority);
        let answers = match self.admission.enter(priority) {
            Ok(waiting) => {
                self.wait_for_log(requests, part).await;
                let _working = waiting.begin().await;
                self.make_pages(requests, part).await
            }
            Err(refused) => {
                let refused = PageError::Overloaded { reason: refused.to_string() };
                part.iter().map(|&number| (number, Err(refused.clone()))).collect()
            }
        };
        self.meters.seconds.record_many(started.elapsed().as_secs_f64(), part.len());
        answers
    }

    /// A page for the server's own purposes: neither held up nor counted as requests are.
    pub async fn own_page(&self, request: GetPage) -> Answer {
        self.wait_for_log(&[request], &[0]).await;
        self.make_pages(&[request], &[0]).await.pop().expect("one answer for one request").1
    }

    /// A page as of a buffer's end, made of what came before it and its records there: many, so they are not looked at more often
    /// than that takes. `None`: it cannot be made.
    pub async fn page_after(&self, page: PageNo, buffer: &RecordBuffer, records: &RecordCopy) -> Option<PageImage> {
        let (own, at) = (self.config.branch, buffer.start_lsn());
        let initialized = records.last_where(initializes_page);
        let cached = self.pages.get(own, page, buffer.end_lsn()).filter(|cached| cached.known_until >= at);
        let (base, known) = match (initialized, cached) {
            (Some(_), _) => (None, at),
            (None, Some(cached)) => (Some(cached.bytes), cached.known_until),
            (None, None) => {
                let before = GetPage { page, at, not_modified_since: at, priority: Priority::Background };
                (Some(self.own_page(before).await.ok()?.bytes), at)
            }
        };
        let mut replay = Replay::new(own, page, base.as_ref().map(|bytes| (own, &bytes[..]))).ok()?;
        // Those of one batch have one LSN, so which are in the base an LSN tells, and which make it unnecessary a number.
        let first = initialized.unwrap_or(0);
        for (lsn, bytes) in records.records().skip(first).filter(|(lsn, _)| initialized.is_some() || *lsn > known) {
            replay.apply(lsn, bytes).ok()?;
        }
        let (bytes, page_lsn) = replay.finish();
        let known_until = buffer.end_lsn();
        self.pages.keep(own, page, CachedPage { bytes: bytes.clone(), page_lsn, known_until });
        Some(PageImage { bytes, page_lsn })
    }

    /// Until the log is here that the requests need, but not beyond patience.
    async fn wait_for_log(&self, requests: &[GetPage], part: &[usize]) {
        let held = part.iter().map(|&number| &requests[number]).filter(|request| self.holds(request.page));
        let Some(needed) = held.map(needed_log).max().filter(|needed| self.ingested() < *needed) else { return };
        let mut ingested = self.watch_ingested();
        tokio::select! {
            _ = tokio::time::timeout(self.config.wait_timeout, ingested.wait_for(|reached| *reached >= needed)) => {}
            () = self.stopped() => {}
        }
    }

    async fn make_pages(&self, requests: &[GetPage], part: &[usize]) -> Vec<(usize, Answer)> {
        let mut trial = 1;
        loop {
            // Before the buffers are looked at: everything up to here is in them.
            let ingested = self.ingested();
            let view = self.view();
            match self.make_with(&view, ingested, requests, part).await {
                Ok(answers) => return answers,
                Err(LayerError::Object(ObjectError::NotFound { .. })) if trial < READ_TRIALS => trial += 1,
                // Whose layer it is shows when each is made by itself.
                Err(_) if part.len() > 1 => {
                    let mut answers = Vec::with_capacity(part.len());
                    for number in part {
                        let alone = Box::pin(self.make_pages(requests, std::slice::from_ref(number)));
                        answers.append(&mut alone.await);
                    }
                    return answers;
                }
                Err(error) => {
                    let answer = |&number: &usize| (number, Err(layer_failure(requests[number].page, &error)));
                    return part.iter().map(answer).collect();
                }
            }
        }
    }

    /// The answer to a request that no layer is needed for, or what there is and what is missing.
    fn begin_page(&self, view: &View, ingested: Lsn, number: usize, request: &GetPage) -> Result<Making, Answer> {
        let GetPage { page, at, .. } = *request;
        if !self.holds(page) {
            let (branch, shard) = (self.config.branch, self.config.layout.shard_of(page));
            return Err(Err(PageError::NotServed { branch, shard }));
        }
        if ingested < needed_log(request) {
            if self.is_lost() {
                let (branch, shard) = (self.config.branch, self.config.shard);
                return Err(Err(PageError::NotServed { branch, shard }));
            }
            if self.is_stranded() {
                let reason = format!("the log from {ingested} on has been trimmed, and no layer holds it");
                return Err(Err(PageError::Damaged { page, reason }));
            }
            return Err(Err(PageError::Behind { page, at, reached: ingested }));
        }
        let horizon = view.layers().horizon();
        if at < horizon {
            return Err(Err(PageError::BelowHorizon { page, at, horizon }));
        }
        let cached = self.pages.get(self.config.branch, page, at);
        if let Some(cached) = cached.as_ref().filter(|cached| at <= cached.known_until) {
            self.meters.hits.increment(1);
            return Err(Ok(PageImage { bytes: cached.bytes.clone(), page_lsn: cached.page_lsn }));
        }
        self.meters.misses.increment(1);
        let known = cached.as_ref().map(|cached| cached.known_until);
        let mut records = view.buffered(page, known, at);
        let from_buffers = drop_before_initializing(&mut records);
        let cached = cached.filter(|_| !from_buffers);
        Ok(Making {
            number,
            page,
            at,
            known_until: at.min(ingested),
            base: cached.as_ref().map(|cached| (self.config.branch, cached.bytes.clone())),
            cached: cached.map(|cached| (cached.bytes, cached.page_lsn)),
            records,
            older: Vec::new(),
            // Nothing below is needed when the buffers hold a record that sets the page up.
            from: if from_buffers { Some(Lsn::MAX) } else { known },
            layers: 0,
        })
    }

    /// An error concerns the layers of this view; answers stand beside it.
    async fn make_with(
        &self,
        view: &View,
        ingested: Lsn,
        requests: &[GetPage],
        part: &[usize],
    ) -> Result<Vec<(usize, Answer)>, LayerError> {
        let mut answers = Vec::with_capacity(part.len());
        let mut making = Vec::new();
        for &number in part {
            match self.begin_page(view, ingested, number, &requests[number]) {
                Ok(page) => making.push(page),
                Err(answer) => answers.push((number, answer)),
            }
        }
        self.read_spilled(view, &mut making).await?;
        self.read_layers(view, &mut making).await?;
        for page in making {
            self.meters.layers.record(page.layers as f64);
            answers.push((page.number, self.finish_page(page)));
        }
        Ok(answers)
    }

    /// Asks buffers that were set aside, newest first: pages that one of them sets up need nothing older, which may be away.
    async fn read_spilled(&self, view: &View, making: &mut [Making]) -> Result<(), LayerError> {
        let Some(spill) = &self.spill else { return Ok(()) };
        let buffers = view.spilled().iter().rev();
        let layers: Vec<_> =
            buffers.flat_map(|buffer| buffer.layers().iter().map(move |layer| (buffer, layer))).collect();
        for (buffer, layer) in layers {
            let needs = |page: &Making| buffer.concerns(page.from, page.at) && layer.covers(page.page);
            let asked: Vec<usize> = (0..making.len()).filter(|&page| needs(&making[page])).collect();
            if asked.is_empty() {
                continue;
            }
            let wanted: Vec<Wanted> = asked.iter().map(|&page| (making[page].page, making[page].at)).collect();
            let found = spill.reader.pages(layer, &wanted, |entry| initializes_page(&entry.bytes)).await;
            let found = found.map_err(|error| self.unreadable_spill(layer, error))?;
            for (page, entries) in asked.into_iter().zip(found) {
                making[page].take_spilled(entries);
            }
        }
        Ok(())
    }

    fn unreadable_spill(&self, layer: &LayerDescriptor, error: LayerError) -> LayerError {
        let reason = error.to_string();
        if is_gone(&error.into()) {
            self.lose_spill(&reason);
        }
        // Whoever takes the shard over reads the log again.
        ObjectError::Transient { key: layer.key(), reason }.into()
    }

    /// Asks each layer once for all pages that need it.
    async fn read_layers(&self, view: &View, making: &mut [Making]) -> Result<(), LayerError> {
        let mut asked: BTreeMap<LayerId, (Arc<LayerDescriptor>, Vec<usize>)> = BTreeMap::new();
        for (index, page) in making.iter_mut().enumerate().filter(|(_, page)| page.from != Some(Lsn::MAX)) {
            let plan = view.layers().plan(page.page, page.at, page.from);
            page.layers += plan.deltas.len() + usize::from(plan.image.is_some());
            if !plan.from_known {
                (page.base, page.cached) = (None, None);
                page.from = plan.image.as_ref().map(|image| image.end_lsn);
            }
            for layer in plan.image.into_iter().chain(plan.deltas) {
                asked.entry(layer.id()).or_insert_with(|| (layer, Vec::new())).1.push(index);
            }
        }
        let reads = asked.values().map(|(layer, pages)| {
            let up_to = |page: &Making| if layer.kind == LayerKind::Image { Lsn::MAX } else { page.at };
            let wanted: Vec<Wanted> = pages.iter().map(|&page| (making[page].page, up_to(&making[page]))).collect();
            async move { self.reader.pages(layer, &wanted, |entry| initializes_page(&entry.bytes)).await }
        });
        let found = try_join_all(reads).await?;
        for ((layer, pages), found) in asked.values().zip(found) {
            for (&page, entries) in pages.iter().zip(found) {
                making[page].take(layer, entries);
            }
        }
        Ok(())
    }

    fn finish_page(&self, making: Making) -> Answer {
        let Making { page, at, known_until, mut base, cached, mut records, mut older, .. } = making;
        // Layers come in no order, and merged ones may have records on both sides of another's.
        older.sort_by_key(|(lsn, _)| *lsn);
        older.append(&mut records);
        records = older;
        if drop_before_initializing(&mut records) {
            base = None;
        }
        let own = self.config.branch;
        // Bytes that nothing was applied to are checked by whoever receives them, and were when they were made.
        let made = match cached {
            Some(cached) if records.is_empty() => Ok(Some(cached)),
            _ => {
                let records = records.iter().map(|(lsn, bytes)| (*lsn, &bytes[..]));
                replay(own, page, base.as_ref().map(|(sealed_by, bytes)| (*sealed_by, &bytes[..])), records)
            }
        };
        match made {
            Ok(Some((bytes, page_lsn))) => {
                let known_until = known_until.max(page_lsn);
                self.pages.keep(own, page, CachedPage { bytes: bytes.clone(), page_lsn, known_until });
                Ok(PageImage { bytes, page_lsn })
            }
            Ok(None) => Err(PageError::NotFound { page, at }),
            Err(error) => Err(PageError::Damaged { page, reason: error.reason }),
        }
    }
}

impl Making {
    /// Takes what a buffer that was set aside has of it; all is older than what was taken before.
    fn take_spilled(&mut self, entries: Vec<LayerEntry>) {
        self.layers += 1;
        let from = self.from;
        let entries = entries.into_iter().filter(|entry| from.is_none_or(|from| entry.lsn > from));
        let mut records: Vec<_> = entries.map(|entry| (entry.lsn, entry.bytes)).collect();
        records.append(&mut self.records);
        self.records = records;
        if drop_before_initializing(&mut self.records) {
            (self.base, self.cached, self.from) = (None, None, Some(Lsn::MAX));
        }
    }

    /// Takes what a layer has of it.
    fn take(&mut self, layer: &LayerDescriptor, entries: Vec<LayerEntry>) {
        match layer.kind {
            LayerKind::Image => self.base = entries.into_iter().next_back().map(|entry| (layer.branch, entry.bytes)),
            LayerKind::Delta => {
                let from = self.from;
                let newer = entries.into_iter().filter(|entry| from.is_none_or(|from| entry.lsn > from));
                self.older.extend(newer.map(|entry| (entry.lsn, entry.bytes)));
            }
        }
    }
}

/// How far the log must have been read for a request.
fn needed_log(request: &GetPage) -> Lsn {
    request.not_modified_since.min(request.at)
}

fn layer_failure(page: PageNo, error: &LayerError) -> PageError {
    match error {
        LayerError::Object(error) => PageError::Unavailable { reason: error.to_string() },
        error => PageError::Damaged { page, reason: error.to_string() },
    }
}

/// Leaves out what the last record that sets a page up makes irrelevant; tells whether there was one.
fn drop_before_initializing(records: &mut Vec<(Lsn, Bytes)>) -> bool {
    let last = records.iter().rposition(|(_, bytes)| initializes_page(bytes));
    if let Some(last) = last {
        records.drain(..last);
    }
    last.is_some()
}
