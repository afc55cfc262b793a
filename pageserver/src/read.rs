//! Answering page@LSN.

use std::time::Instant;

use bytes::Bytes;
use storage::layer::{LayerDescriptor, LayerEntry, LayerError};
use storage::object::ObjectError;
use storage::{BranchId, Lsn, PageNo};

use crate::admission::Overloaded;
use crate::client::{GetPage, PageError, PageImage};
use crate::metrics as names;
use crate::page_cache::CachedPage;
use crate::replay::{initializes_page, replay};
use crate::shard::Shard;
use crate::view::View;

/// Layers may be replaced and deleted under a read; it then begins anew with the layers of that moment.
const READ_TRIALS: usize = 4;

impl Shard {
    /// A page as of an LSN, sealed.
    pub async fn get_page(&self, request: GetPage) -> Result<PageImage, PageError> {
        #[expect(clippy::disallowed_methods, reason = "a duration for metrics")]
        let started = Instant::now();
        let outcome = self.admitted_page(request).await;
        metrics::histogram!(names::GET_PAGE_SECONDS).record(started.elapsed().as_secs_f64());
        outcome
    }

    async fn admitted_page(&self, request: GetPage) -> Result<PageImage, PageError> {
        let refused = |error: Overloaded| PageError::Overloaded { reason: error.to_string() };
        let waiting = self.admission.enter(request.priority).map_err(refused)?;
        self.wait_for_log(&request).await?;
        let _working = waiting.begin().await;
        self.make_answer(request).await
    }

    /// [`Shard::get_page`] for the server's own purposes: neither held up nor counted as requests are.
    pub async fn own_page(&self, request: GetPage) -> Result<PageImage, PageError> {
        self.wait_for_log(&request).await?;
        self.make_answer(request).await
    }

    async fn wait_for_log(&self, request: &GetPage) -> Result<(), PageError> {
        let GetPage { page, at, not_modified_since, .. } = *request;
        if !self.holds(page) {
            let (branch, shard) = (self.config.branch, self.config.layout.shard_of(page));
            return Err(PageError::NotServed { branch, shard });
        }
        self.wait_for(page, at, not_modified_since.min(at)).await
    }

    async fn make_answer(&self, request: GetPage) -> Result<PageImage, PageError> {
        let GetPage { page, at, .. } = request;
        let mut trial = 1;
        loop {
            // Before the buffers are looked at: everything up to here is in them.
            let ingested = self.ingested();
            let view = self.view();
            let horizon = view.layers().horizon();
            if at < horizon {
                return Err(PageError::BelowHorizon { page, at, horizon });
            }
            match self.make_page(&view, page, at, at.min(ingested)).await {
                Err(LayerError::Object(ObjectError::NotFound { .. })) if trial < READ_TRIALS => trial += 1,
                Ok(outcome) => return outcome,
                Err(LayerError::Object(error)) => return Err(PageError::Unavailable { reason: error.to_string() }),
                Err(error) => return Err(PageError::Damaged { page, reason: error.to_string() }),
            }
        }
    }

    async fn wait_for(&self, page: PageNo, at: Lsn, needed: Lsn) -> Result<(), PageError> {
        if self.ingested() >= needed {
            return Ok(());
        }
        let mut ingested = self.watch_ingested();
        tokio::select! {
            _ = tokio::time::timeout(self.config.wait_timeout, ingested.wait_for(|reached| *reached >= needed)) => {}
            () = self.stopped() => {}
        }
        let reached = self.ingested();
        if reached >= needed {
            return Ok(());
        }
        if self.is_stranded() {
            let reason = format!("the log from {reached} on has been trimmed, and no layer holds it");
            return Err(PageError::Damaged { page, reason });
        }
        Err(PageError::Behind { page, at, reached })
    }

    /// The outer error concerns the layers of this view, the inner one is the answer. `known_until` is what the page
    /// made is right for, besides its own LSN.
    async fn make_page(
        &self,
        view: &View,
        page: PageNo,
        at: Lsn,
        known_until: Lsn,
    ) -> Result<Result<PageImage, PageError>, LayerError> {
        let cached = self.pages.get(self.config.branch, page, at);
        if let Some(cached) = cached.as_ref().filter(|cached| at <= cached.known_until) {
            metrics::counter!(names::PAGE_CACHE_HITS).increment(1);
            return Ok(Ok(PageImage { bytes: cached.bytes.clone(), page_lsn: cached.page_lsn }));
        }
        metrics::counter!(names::PAGE_CACHE_MISSES).increment(1);
        let known = cached.as_ref().map(|cached| cached.known_until);
        let mut records = view.buffered(page, known, at);
        let own = self.config.branch;
        let mut base: Option<(BranchId, Bytes)> = cached.as_ref().map(|cached| (own, cached.bytes.clone()));
        let mut layers_read = 0;
        let mut from_known = false;
        if drop_before_initializing(&mut records) {
            base = None;
        } else {
            let plan = view.layers().plan(page, at, known);
            from_known = plan.from_known;
            layers_read = plan.deltas.len() + usize::from(plan.image.is_some());
            let deltas = plan
                .deltas
                .iter()
                .map(|layer| self.reader.page(layer, page, None, at, |entry| initializes_page(&entry.bytes)));
            let (image, deltas) =
                futures::try_join!(self.image(plan.image.as_deref(), page), futures::future::try_join_all(deltas))?;
            if !plan.from_known {
                base = plan.image.as_ref().zip(image).map(|(layer, entry)| (layer.branch, entry.bytes));
            }
            let from = if plan.from_known { known } else { plan.image.as_ref().map(|layer| layer.end_lsn) };
            let mut all: Vec<_> = deltas
                .into_iter()
                .flatten()
                .filter(|entry| from.is_none_or(|from| entry.lsn > from))
                .map(|entry| (entry.lsn, entry.bytes))
                .collect();
            // Merged layers may have records on both sides of another's.
            all.sort_by_key(|(lsn, _)| *lsn);
            all.append(&mut records);
            records = all;
            if drop_before_initializing(&mut records) {
                base = None;
            }
        }
        metrics::histogram!(names::LAYERS_PER_READ).record(layers_read as f64);
        // Bytes that nothing was applied to are checked by whoever receives them, and were when they were made.
        let made = match &cached {
            Some(cached) if records.is_empty() && from_known => Ok(Some((cached.bytes.clone(), cached.page_lsn))),
            _ => {
                let records = records.iter().map(|(lsn, bytes)| (*lsn, &bytes[..]));
                replay(own, page, base.as_ref().map(|(sealed_by, bytes)| (*sealed_by, &bytes[..])), records)
            }
        };
        Ok(match made {
            Ok(Some((bytes, page_lsn))) => {
                let known_until = known_until.max(page_lsn);
                self.pages.keep(self.config.branch, page, CachedPage { bytes: bytes.clone(), page_lsn, known_until });
                Ok(PageImage { bytes, page_lsn })
            }
            Ok(None) => Err(PageError::NotFound { page, at }),
            Err(error) => Err(PageError::Damaged { page, reason: error.reason }),
        })
    }

    async fn image(&self, layer: Option<&LayerDescriptor>, page: PageNo) -> Result<Option<LayerEntry>, LayerError> {
        let Some(layer) = layer else { return Ok(None) };
        Ok(self.reader.page(layer, page, None, Lsn::MAX, |_| true).await?.pop())
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
