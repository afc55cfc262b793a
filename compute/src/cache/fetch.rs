//! Misses: a page from the page server, once however many ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_epoch as epoch;
use hashbrown::HashMap;
use pageserver::client::{GetPage, PageError, PageImage, Priority};
use parking_lot::{Condvar, Mutex};
use storage::page::{Page, PageDamage};
use storage::{Lsn, PageNo};
use tokio::time::Instant;

use super::pool::Frame;
use super::{CacheError, PageCache, PinnedPage};
use crate::blocking::{INTERRUPT_POLL, block_on, blocking, check_interrupt};
use crate::threads;

/// How long a page server may be away, or make no progress through the log, before a statement fails.
const FETCH_DEADLINE: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(2);
const LAST_RETRY: Duration = Duration::from_millis(250);
/// How long a miss waits for memory: for commits to become durable, pins to end.
const ROOM_DEADLINE: Duration = Duration::from_secs(30);
/// Pages asked for ahead at a time.
const PREFETCH_LIMIT: usize = 64;

/// Fetches under way.
#[derive(Default)]
pub(super) struct Flights {
    pages: Mutex<HashMap<PageNo, Arc<Flight>>>,
}

#[derive(Default)]
struct Flight {
    landed: Mutex<bool>,
    wake: Condvar,
}

/// Ends a flight when dropped, whatever came of it.
struct Landing {
    cache: Arc<PageCache>,
    page: PageNo,
    flight: Arc<Flight>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.cache.flights.pages.lock().remove(&self.page);
        *self.flight.landed.lock() = true;
        self.flight.wake.notify_all();
    }
}

impl PageCache {
    /// The version of a page that holds `at`, pinned; fetched if it is not in memory. Must not be called
    /// under an epoch guard: making room needs epochs to pass.
    pub(crate) fn load(self: &Arc<Self>, page: PageNo, at: Lsn) -> Result<PinnedPage, CacheError> {
        self.load_into(page, at, Self::take_frame)
    }

    fn load_into(
        self: &Arc<Self>,
        page: PageNo,
        at: Lsn,
        take: impl Fn(&Self) -> Result<Frame, CacheError>,
    ) -> Result<PinnedPage, CacheError> {
        debug_assert!(!epoch::is_pinned(), "fetching page {page} under an epoch guard");
        loop {
            if let Some(found) = self.pin_version(page, at) {
                return Ok(found);
            }
            if let Some(_landing) = self.take_off(page)? {
                // It may have landed between the two looks.
                if let Some(found) = self.pin_version(page, at) {
                    return Ok(found);
                }
                return self.fetch(page, at, take(self)?);
            }
        }
    }

    /// The version that holds `at`, pinned, if it is in memory.
    pub(super) fn pin_version(&self, page: PageNo, at: Lsn) -> Option<PinnedPage> {
        let guard = epoch::pin();
        let frame = self.find(page, at, &guard)?;
        self.pool.pin(frame);
        Some(PinnedPage::new(self.pool.clone(), frame))
    }

    /// Becomes the one who fetches the page, or waits for the one who does (`None`: look again).
    fn take_off(self: &Arc<Self>, page: PageNo) -> Result<Option<Landing>, CacheError> {
        let other = {
            let mut pages = self.flights.pages.lock();
            match pages.get(&page) {
                Some(flight) => flight.clone(),
                None => {
                    let flight = Arc::<Flight>::default();
                    pages.insert(page, flight.clone());
                    return Ok(Some(Landing { cache: self.clone(), page, flight }));
                }
            }
        };
        blocking(|| {
            let mut landed = other.landed.lock();
            while !*landed {
                check_interrupt().map_err(CacheError::Interrupted)?;
                threads::wait_for(&other.wake, &mut landed, INTERRUPT_POLL);
            }
            Ok(None)
        })
    }

    fn fetch(self: &Arc<Self>, page: PageNo, at: Lsn, frame: Frame) -> Result<PinnedPage, CacheError> {
        let began = Instant::now();
        let answer = block_on(&self.runtime, self.request(page, at, Priority::Foreground));
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        self.counters.fetch_latency_us.record(began.elapsed().as_micros() as f64);
        let answer = match answer {
            Ok(answer) => answer.map_err(CacheError::Page),
            Err(interrupted) => Err(CacheError::Interrupted(interrupted)),
        };
        match answer {
            Ok(image) => {
                let frame = self.accept(page, at, frame, &image)?;
                Ok(PinnedPage::new(self.pool.clone(), frame))
            }
            Err(error) => {
                self.pool.give_back(frame);
                Err(error)
            }
        }
    }

    /// Asks until there is an answer that retrying would not change.
    async fn request(&self, page: PageNo, at: Lsn, priority: Priority) -> Result<PageImage, PageError> {
        let mut deadline = Instant::now() + FETCH_DEADLINE;
        let mut furthest = Lsn::ZERO;
        let mut pause = FIRST_RETRY;
        loop {
            let request = self.request_for(page, at, priority);
            let answer = self.client.get_pages(self.branch, &[request]).await.pop();
            let answer = answer.unwrap_or_else(|| Err(PageError::Unavailable { reason: "empty answer".into() }));
            if let Err(PageError::Behind { reached, .. }) = &answer
                && *reached > furthest
            {
                // It is on its way: what it is asked for is a finite piece of log away.
                furthest = *reached;
                deadline = Instant::now() + FETCH_DEADLINE;
            }
            match answer {
                Err(error) if error.is_transient() && Instant::now() < deadline => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_RETRY);
                }
                answer => return answer,
            }
        }
    }

    /// Pages as the page servers hold them at an LSN, past this cache.
    pub(crate) fn read_stored(&self, pages: &[PageNo], at: Lsn) -> Vec<Result<Box<Page>, CacheError>> {
        let priority = Priority::Background;
        let requests: Vec<GetPage> =
            pages.iter().map(|page| GetPage { page: *page, at, not_modified_since: at, priority }).collect();
        let answers = match block_on(&self.runtime, self.client.get_pages(self.branch, &requests)) {
            Ok(answers) => answers,
            Err(error) => return pages.iter().map(|_| Err(CacheError::Interrupted(error.clone()))).collect(),
        };
        let mut answers = answers.into_iter();
        let answer = |page: &PageNo| {
            let image = match answers.next() {
                // Alone, and with patience.
                Some(Err(error)) if !error.is_transient() => Err(error),
                Some(Ok(image)) => Ok(image),
                _ => block_on(&self.runtime, self.request(*page, at, Priority::Background))
                    .map_err(CacheError::Interrupted)?,
            }?;
            let damaged = |_| CacheError::Damaged { page: *page, reason: "what the page server sent is damaged" };
            Page::open(&image.bytes, self.branch, *page).map_err(damaged)
        };
        pages.iter().map(answer).collect()
    }

    /// Whether the version in memory that holds `at` has these bytes; `None` when there is none.
    pub(crate) fn resident_bytes_are(&self, page: PageNo, at: Lsn, expected: &Page) -> Option<bool> {
        debug_assert!(at <= self.positions.sealed());
        let guard = epoch::pin();
        let frame = self.find(page, at, &guard)?;
        // SAFETY: it holds `at`, so it is sealed and never changes; the guard keeps the frame.
        Some(unsafe { self.pool.page(frame) }.bytes() == expected.bytes())
    }

    /// A copy of the version in memory that holds `at`, not above the sealed boundary.
    pub(crate) fn resident_copy(&self, page: PageNo, at: Lsn) -> Option<Box<Page>> {
        debug_assert!(at <= self.positions.sealed());
        let guard = epoch::pin();
        let frame = self.find(page, at, &guard)?;
        // SAFETY: as in `resident_bytes_are`.
        Some(Box::new(unsafe { self.pool.page(frame) }.clone()))
    }

    fn request_for(&self, page: PageNo, at: Lsn, priority: Priority) -> GetPage {
        let guard = epoch::pin();
        let has_current = self.current(page, &guard).is_some();
        let evicted = self.directory.slot(page).evicted_lsn.load(Ordering::Acquire);
        let last_known = self.last_known_change(evicted);
        // With a newer version in memory nothing is known of the older ones' last change.
        let not_modified_since = if has_current { at } else { last_known.min(at) };
        GetPage { page, at, not_modified_since, priority }
    }

    /// Checks an answer's bytes and publishes them. The frame is used or given back.
    fn accept(&self, page: PageNo, at: Lsn, frame: Frame, image: &PageImage) -> Result<Frame, CacheError> {
        // SAFETY: taken by the caller and not published yet.
        let loaded = unsafe { self.pool.page_mut(frame) };
        let damaged = |damage: PageDamage| {
            tracing::error!(%page, %at, %damage, "damaged page");
            CacheError::Damaged { page, reason: "what the page server sent is damaged" }
        };
        let checked = loaded.load(&image.bytes, self.branch, page).map_err(damaged);
        let lsn = loaded.lsn();
        let checked = checked.and_then(|()| {
            if lsn == image.page_lsn && lsn <= at {
                Ok(())
            } else {
                Err(CacheError::Damaged { page, reason: "what the page server sent is of another LSN" })
            }
        });
        if let Err(error) = checked {
            self.pool.give_back(frame);
            return Err(error);
        }
        self.install(page, frame, lsn, at)
    }

    /// A frame, made free if need be.
    pub(crate) fn take_frame(&self) -> Result<Frame, CacheError> {
        if let Some(frame) = self.pool.take() {
            return Ok(frame);
        }
        blocking(|| {
            let deadline = Instant::now() + ROOM_DEADLINE;
            loop {
                self.wake_upkeep();
                self.make_room();
                // Frames come back an epoch or two after they were unlinked.
                for _ in 0..8 {
                    epoch::pin().flush();
                    if let Some(frame) = self.pool.take() {
                        return Ok(frame);
                    }
                }
                check_interrupt().map_err(CacheError::Interrupted)?;
                if Instant::now() >= deadline {
                    return Err(CacheError::NoRoom);
                }
                threads::sleep(Duration::from_micros(200));
            }
        })
    }

    /// A frame for a page that a commit needs: from the reserve, if there is no other. A commit that holds many
    /// pages must not wait for room that only its own end can make.
    fn take_frame_for_commit(&self) -> Result<Frame, CacheError> {
        if let Some(frame) = self.pool.take() {
            return Ok(frame);
        }
        self.wake_upkeep();
        self.make_room();
        epoch::pin().flush();
        self.pool.take().or_else(|| self.pool.take_reserved()).ok_or(CacheError::NoRoom)
    }

    /// Waits until so many frames are free, for a batch that makes that many pages.
    pub(crate) fn make_room_for(&self, pages: usize) -> Result<(), CacheError> {
        let wanted = u32::try_from(pages).unwrap_or(u32::MAX).min(self.pool.limit() / 2);
        let deadline = Instant::now() + ROOM_DEADLINE;
        while self.pool.available() < wanted {
            if Instant::now() >= deadline {
                return Err(CacheError::NoRoom);
            }
            check_interrupt().map_err(CacheError::Interrupted)?;
            self.make_room();
            epoch::pin().flush();
            if self.pool.available() < wanted {
                blocking(|| threads::sleep(Duration::from_micros(200)));
            }
        }
        Ok(())
    }

    /// Asks for pages that a scan will soon need, without waiting.
    pub(crate) fn prefetch(self: &Arc<Self>, pages: &mut dyn Iterator<Item = PageNo>, at: Lsn) {
        let mut landings = Vec::new();
        {
            let guard = epoch::pin();
            let missing = pages.take(PREFETCH_LIMIT).filter(|page| self.find(*page, at, &guard).is_none());
            for page in missing {
                let mut flights = self.flights.pages.lock();
                if !flights.contains_key(&page) {
                    let flight = Arc::<Flight>::default();
                    flights.insert(page, flight.clone());
                    landings.push(Landing { cache: self.clone(), page, flight });
                }
            }
        }
        if landings.is_empty() {
            return;
        }
        let cache = self.clone();
        self.runtime.spawn(async move {
            let ahead = |landing: &Landing| cache.request_for(landing.page, at, Priority::Prefetch);
            let requests: Vec<GetPage> = landings.iter().map(ahead).collect();
            let answers = cache.client.get_pages(cache.branch, &requests).await;
            for (landing, answer) in landings.into_iter().zip(answers) {
                cache.counters.misses.fetch_add(1, Ordering::Relaxed);
                // Whatever goes wrong here goes wrong again, and is told, when the page is really needed.
                if let Ok(image) = answer
                    && let Some(frame) = cache.pool.take()
                    && let Ok(frame) = cache.accept(landing.page, at, frame, &image)
                {
                    cache.pool.unpin(frame);
                }
            }
        });
    }

    /// Makes sure that the current version of a page is in memory, and pins it there for a commit. What is newer than the
    /// durable LSN is in memory by rule; so a miss can be asked for at the durable LSN.
    pub(crate) fn load_current(self: &Arc<Self>, page: PageNo) -> Result<PinnedPage, CacheError> {
        loop {
            {
                let guard = epoch::pin();
                if let Some(frame) = self.current(page, &guard) {
                    self.pool.header(frame).touch();
                    self.pool.pin(frame);
                    return Ok(PinnedPage::new(self.pool.clone(), frame));
                }
            }
            self.load_into(page, self.positions.durable(), Self::take_frame_for_commit)?;
        }
    }
}
