//! Which shard holds a page. Pure, and the same for everyone who asks.
//!
//! Pages are cut into *stripes* of neighbours, and stripes are scattered over the shards by a hash. A stripe of 64 pages
//! (512 KiB) is what a scan reads ahead at a time, so that one request goes to one or two shards and finds neighbours in the
//! same blocks of a layer; and it is small enough that a table of 10 MiB lies on all of a few shards.

use crate::{PageNo, ShardId};

/// Pages of a stripe in a new branch.
pub const STRIPE_PAGES: u32 = 64;
/// Shards that a branch may have.
pub const MAX_SHARDS: u32 = 256;

/// How a branch's pages are distributed. Never changes during a branch's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardLayout {
    shards: u32,
    stripe_pages: u32,
}

impl ShardLayout {
    /// Everything in one shard.
    pub const SINGLE: ShardLayout = ShardLayout { shards: 1, stripe_pages: STRIPE_PAGES };

    /// `None` beyond the limits: 1 to [`MAX_SHARDS`] shards, at least one page in a stripe.
    pub fn new(shards: u32, stripe_pages: u32) -> Option<ShardLayout> {
        ((1..=MAX_SHARDS).contains(&shards) && stripe_pages > 0).then_some(ShardLayout { shards, stripe_pages })
    }

    /// Shards in all.
    pub fn shards(self) -> u32 {
        self.shards
    }

    /// Neighbouring pages that stay together.
    pub fn stripe_pages(self) -> u32 {
        self.stripe_pages
    }

    /// All shards, in order.
    pub fn ids(self) -> impl ExactSizeIterator<Item = ShardId> + Clone {
        (0..self.shards).map(|shard| ShardId(u64::from(shard)))
    }

    /// The shard that holds a page.
    pub fn shard_of(self, page: PageNo) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        ShardId(scatter(page.0 / u64::from(self.stripe_pages)) % u64::from(self.shards))
    }
}

/// Neighbours far apart, all bits mixed: the finalizer of SplitMix64. Part of the format: it says where pages are.
fn scatter(stripe: u64) -> u64 {
    let mixed = (stripe ^ stripe >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_stay_together_and_shards_are_even() {
        let layout = ShardLayout::new(4, 16).expect("within the limits");
        let mut pages = [0u32; 4];
        for page in 0..64_000 {
            let shard = layout.shard_of(PageNo(page));
            assert_eq!(shard, layout.shard_of(PageNo(page / 16 * 16)), "page {page} leaves its stripe");
            pages[shard.0 as usize] += 1;
        }
        assert!(pages.iter().all(|pages| (14_000..18_000).contains(pages)), "{pages:?}");
        assert_eq!(ShardLayout::SINGLE.shard_of(PageNo(u64::MAX)), ShardId(0));
    }

    /// Where pages are must never change: these were computed when the function was written.
    #[test]
    fn the_function_stays_the_same() {
        let layout = ShardLayout::new(8, 64).expect("within the limits");
        let found: Vec<_> = [0, 64, 128, 6_400, 64_000_000].map(|page| layout.shard_of(PageNo(page)).0).into();
        assert_eq!(found, GOLDEN);
    }

    const GOLDEN: [u64; 5] = [0, 5, 2, 4, 6];

    #[test]
    fn limits() {
        for (shards, stripe_pages, fine) in [(0, 1, false), (1, 0, false), (257, 1, false), (256, 1, true)] {
            assert_eq!(ShardLayout::new(shards, stripe_pages).is_some(), fine, "{shards} shards of {stripe_pages}");
        }
    }
}
