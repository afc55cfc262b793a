//! [`Bloom`]: which keys a run certainly does not hold.

/// Bits for each key: with five probes about one key in fifty is looked for in vain.
const BITS_PER_KEY: usize = 8;
const PROBES: u64 = 5;

/// A filter of a fixed size.
#[derive(Debug)]
pub(super) struct Bloom {
    words: Box<[u64]>,
}

impl Bloom {
    /// For so many keys.
    pub(super) fn new(keys: usize) -> Self {
        let words = (keys.saturating_mul(BITS_PER_KEY)).div_ceil(64).max(1);
        Self { words: vec![0; words].into() }
    }

    fn places(&self, key: &[u8]) -> impl Iterator<Item = (usize, u64)> + use<> {
        let (first, bits) = (hash(key), self.words.len() as u64 * 64);
        let step = first.rotate_left(32) | 1;
        (0..PROBES).map(move |probe| {
            let bit = first.wrapping_add(probe.wrapping_mul(step)) % bits;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }

    pub(super) fn add(&mut self, key: &[u8]) {
        for (word, bit) in self.places(key) {
            self.words[word] |= bit;
        }
    }

    /// False: the key was never added.
    pub(super) fn may_hold(&self, key: &[u8]) -> bool {
        self.places(key).all(|(word, bit)| self.words[word] & bit != 0)
    }

    pub(super) fn bytes(&self) -> usize {
        8 * self.words.len()
    }
}

/// Spreads keys well enough for a filter; nobody outside chooses keys so as to meet.
fn hash(key: &[u8]) -> u64 {
    let mut hash = 0x9E37_79B9_7F4A_7C15 ^ key.len() as u64;
    for chunk in key.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        hash ^= hash >> 32;
    }
    hash = hash.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ (hash >> 29)
}
