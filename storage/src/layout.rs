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

/// How a branch's pages are distributed. Changes only by splits: every shard becomes two.
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

    /// With each shard cut in two: what shard `s` of `n` held is held by `s` and `s + n`. `None` beyond the limits.
    pub fn split(self) -> Option<ShardLayout> {
        ShardLayout::new(self.shards.checked_mul(2)?, self.stripe_pages)
    }

    /// Whether this comes from another layout by splits, at least one.
    pub fn is_split_of(self, other: ShardLayout) -> bool {
        let mut shards = self.shards;
        while shards > other.shards && shards.is_multiple_of(2) {
            shards /= 2;
        }
        self != other && shards == other.shards && self.stripe_pages == other.stripe_pages
    }

    /// The shards that one may come from by splits, the nearest first, with their layouts; not itself.
    pub fn origins(self, shard: ShardId) -> Vec<(ShardId, ShardLayout)> {
        let (mut layout, mut origins) = (self, Vec::new());
        while layout.shards.is_multiple_of(2) {
            layout.shards /= 2;
            let origin = ShardId(shard.0 % u64::from(layout.shards));
            if origin != shard {
                origins.push((origin, layout));
            }
        }
        origins
    }

    /// The shards that may come from one by splits, or by none: itself among them.
    pub fn heirs(self, shard: ShardId) -> Vec<ShardId> {
        let comes = |heir: &ShardId| *heir == shard || self.origins(*heir).iter().any(|(origin, _)| *origin == shard);
        self.ids().filter(comes).collect()
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
    fn splits() {
        let mut layout = ShardLayout::new(3, 16).expect("within the limits");
        for _ in 0..3 {
            let split = layout.split().expect("within the limits");
            assert!(split.is_split_of(layout) && !layout.is_split_of(split) && !split.is_split_of(split));
            for page in (0..40_000).step_by(7).map(PageNo) {
                let (before, after) = (layout.shard_of(page), split.shard_of(page));
                assert!(after == before || after.0 == before.0 + u64::from(layout.shards()), "page {page}");
                assert!(layout.heirs(before).contains(&before) && split.heirs(before).contains(&after));
                assert!(after == before || split.origins(after)[0] == (before, layout), "page {page}");
            }
            layout = split;
        }
        assert_eq!(layout.origins(ShardId(23)).iter().map(|(origin, _)| origin.0).collect::<Vec<_>>(), [11, 5, 2]);
        let other = ShardLayout::new(24, 8).expect("within the limits");
        assert!(!other.is_split_of(ShardLayout::new(12, 16).expect("within the limits")));
        assert!(ShardLayout::new(200, 16).expect("within the limits").split().is_none());
    }

    #[test]
    fn limits() {
        for (shards, stripe_pages, fine) in [(0, 1, false), (1, 0, false), (257, 1, false), (256, 1, true)] {
            assert_eq!(ShardLayout::new(shards, stripe_pages).is_some(), fine, "{shards} shards of {stripe_pages}");
        }
    }
}
