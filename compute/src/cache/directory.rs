//! [`Directory`]: from a page number to the newest version in memory, as a tree of arrays.
//!
//! Three levels of 4096 cover 2^36 pages (512 TiB). Arrays come into being when a page of theirs is first
//! asked for and stay: 16 bytes for each page ever touched.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use storage::PageNo;

const LEVEL_BITS: u32 = 12;
const LEVEL_SIZE: usize = 1 << LEVEL_BITS;

/// Pages that a directory can name.
pub(crate) const MAX_PAGES: u64 = 1 << (3 * LEVEL_BITS);

/// What is known about one page.
#[derive(Default)]
pub(super) struct Slot {
    /// Newest version's frame, or zero. Versions follow each other from newer to older.
    pub(super) newest: AtomicU32,
    /// Held while the chain is changed; readers do not take it.
    pub(super) chain: Mutex<()>,
    /// No record of the page that is not in memory lies above this LSN.
    pub(super) evicted_lsn: AtomicU64,
}

type Leaf = [Slot; LEVEL_SIZE];
type Branch<T> = [AtomicPtr<T>; LEVEL_SIZE];

/// See the module.
pub(super) struct Directory {
    root: Box<Branch<Branch<Leaf>>>,
}

impl Directory {
    pub(super) fn new() -> Self {
        Self { root: new_branch() }
    }

    /// The page's slot, made if need be. Panics past [`MAX_PAGES`].
    #[inline]
    pub(super) fn slot(&self, page: PageNo) -> &Slot {
        assert!(page.0 < MAX_PAGES, "page {page} is beyond the largest branch");
        let index = |level: u32| (page.0 >> (level * LEVEL_BITS)) as usize % LEVEL_SIZE;
        let middle = child(&self.root[index(2)], new_branch::<Leaf>);
        let leaf = child(&middle[index(1)], new_leaf);
        &leaf[index(0)]
    }
}

#[inline]
fn child<T>(pointer: &AtomicPtr<T>, make: fn() -> Box<T>) -> &T {
    let found = pointer.load(Ordering::Acquire);
    // SAFETY: set once, from a box that lives until the directory is dropped.
    unsafe { found.as_ref() }.unwrap_or_else(|| make_child(pointer, make))
}

#[cold]
fn make_child<T>(pointer: &AtomicPtr<T>, make: fn() -> Box<T>) -> &T {
    let made = Box::into_raw(make());
    match pointer.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: ours, and now the directory's until it is dropped.
        Ok(_) => unsafe { &*made },
        Err(winner) => {
            // SAFETY: just made, and seen by nobody.
            drop(unsafe { Box::from_raw(made) });
            // SAFETY: not null, as the exchange failed; lives until the directory is dropped.
            unsafe { &*winner }
        }
    }
}

fn new_branch<T>() -> Box<Branch<T>> {
    let pointers: Box<[AtomicPtr<T>]> = (0..LEVEL_SIZE).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
    pointers.try_into().unwrap_or_else(|_| unreachable!("collected that many"))
}

fn new_leaf() -> Box<Leaf> {
    let slots: Box<[Slot]> = (0..LEVEL_SIZE).map(|_| Slot::default()).collect();
    slots.try_into().unwrap_or_else(|_| unreachable!("collected that many"))
}

impl Drop for Directory {
    fn drop(&mut self) {
        let take = |pointer: *mut Branch<Leaf>| {
            // SAFETY: not null, from `Box::into_raw`, and nobody can reach the directory any more.
            (!pointer.is_null()).then(|| unsafe { Box::from_raw(pointer) })
        };
        for middle in self.root.iter_mut().filter_map(|pointer| take(*pointer.get_mut())) {
            for leaf in middle.iter().map(|pointer| pointer.load(Ordering::Relaxed)).filter(|leaf| !leaf.is_null()) {
                // SAFETY: as above.
                drop(unsafe { Box::from_raw(leaf) });
            }
        }
    }
}
