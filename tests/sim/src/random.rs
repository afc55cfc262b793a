//! Choices from the seed.

use logstore::disk::simulated::SeededChoice;

/// The one source of chance.
pub struct Random(SeededChoice);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(SeededChoice::new(seed))
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.below(high - low + 1)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.0.below(100) < chance
    }

    /// One of `items`; `None` if there is none.
    pub fn one_of<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        if items.is_empty() { None } else { Some(items[self.0.below(items.len() as u64) as usize].clone()) }
    }
}
