//! [`Region`]: address space for a pool, zeroed, resident only where it was touched.

use std::ptr::NonNull;

/// Memory that never moves. Every bit pattern of zero must be valid for what is put there.
pub(super) struct Region {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a region is plain memory that it owns; who may touch which part is the pool's rule.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Where it begins, aligned to 4096 bytes.
    #[inline]
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

#[cfg(all(unix, not(miri)))]
impl Region {
    /// Reserves address space without claiming memory for it. Panics when there is none.
    pub(super) fn new(bytes: usize) -> Self {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping, at an address of the system's choice.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "no address space for {bytes} bytes: {}", std::io::Error::last_os_error());
        let base = NonNull::new(base.cast()).expect("a mapping is never at address zero");
        Self { base, bytes }
    }

    /// Fewer misses of the address translation, for the first `bytes`: lookups touch pages all over the pool.
    pub(super) fn advise_huge_pages(&self, bytes: usize) {
        #[cfg(target_os = "linux")]
        // SAFETY: the range lies within the mapping; the advice changes no content. Failing costs only speed.
        unsafe {
            libc::madvise(self.base.as_ptr().cast(), bytes.min(self.bytes), libc::MADV_HUGEPAGE);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
    }
}

#[cfg(all(unix, not(miri)))]
impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and unmapped only here.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(not(all(unix, not(miri))))]
impl Region {
    fn layout(bytes: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(bytes, 4096).expect("cache size fits the address space")
    }

    /// Allocates all of it.
    pub(super) fn new(bytes: usize) -> Self {
        let layout = Self::layout(bytes);
        // SAFETY: the layout has a size above zero.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| std::alloc::handle_alloc_error(layout));
        Self { base, bytes }
    }

    /// Nothing to advise.
    pub(super) fn advise_huge_pages(&self, _bytes: usize) {}
}

#[cfg(not(all(unix, not(miri))))]
impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed only here.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), Self::layout(self.bytes)) }
    }
}
