//! Chance, all of it from one number.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random numbers.
pub struct Dice(ChaCha20Rng);

impl Dice {
    /// The stream of this seed; `purpose` keeps two streams of one seed apart.
    pub fn new(seed: u64, purpose: u64) -> Dice {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&purpose.to_le_bytes());
        Dice(ChaCha20Rng::from_seed(bytes))
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        // The bias of the remainder is of no interest here.
        low + self.0.next_u64() % (high - low + 1)
    }

    /// True this often in a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.between(1, 1000) <= permille
    }

    /// 32 random bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
