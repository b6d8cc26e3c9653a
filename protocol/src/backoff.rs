//! How long to wait before dialling again. Pure: it returns delays, somebody else waits.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::limits::{BACKOFF_MAX_MS, BACKOFF_MIN_MS};

/// Exponential backoff with equal jitter: the n-th delay is uniform in [d/2, d] with d = min(max, min * 2^n).
///
/// Half of the delay is fixed, so that a failing peer is never hammered; half is random, so that a thousand hospitals that
/// lost the same coordinator do not come back in the same millisecond (M. Brooker, "Exponential Backoff And Jitter", AWS 2015).
pub struct Backoff {
    rng: ChaCha20Rng,
    min_ms: u64,
    max_ms: u64,
    attempt: u32,
}

impl Backoff {
    /// Delays between [`BACKOFF_MIN_MS`] / 2 and [`BACKOFF_MAX_MS`], drawn from `seed`.
    pub fn new(seed: [u8; 32]) -> Backoff {
        Backoff::between(seed, BACKOFF_MIN_MS, BACKOFF_MAX_MS)
    }

    /// The same with other ends, in milliseconds. `min_ms` is at least 1, `max_ms` at least `min_ms`.
    pub fn between(seed: [u8; 32], min_ms: u64, max_ms: u64) -> Backoff {
        let min_ms = min_ms.max(1);
        Backoff { rng: ChaCha20Rng::from_seed(seed), min_ms, max_ms: max_ms.max(min_ms), attempt: 0 }
    }

    /// Milliseconds to wait before the next try.
    pub fn next_delay_ms(&mut self) -> u64 {
        let factor = 1u64.checked_shl(self.attempt).unwrap_or(u64::MAX);
        self.attempt = self.attempt.saturating_add(1);
        let ceiling = self.min_ms.saturating_mul(factor).min(self.max_ms);
        let fixed = ceiling / 2;
        // The bias of the remainder is below 2^-32 for every delay in use and harms nobody.
        fixed + self.rng.next_u64() % (ceiling - fixed + 1)
    }

    /// Tries since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// Call it when the link has proven itself (a frame came back), so that the next loss is answered quickly again.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;

    #[test]
    fn doubles_within_its_jitter_and_stops_at_the_maximum() {
        let mut backoff = Backoff::between([7; 32], 100, 5_000);
        for ceiling in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let delay = backoff.next_delay_ms();
            assert!((ceiling / 2..=ceiling).contains(&delay), "{delay} is not within {ceiling}/2..={ceiling}");
        }
        assert_eq!(backoff.attempts(), 8);
        backoff.reset();
        assert!(backoff.next_delay_ms() <= 100);
    }

    #[test]
    fn never_overflows_and_never_hammers() {
        let mut backoff = Backoff::between([0; 32], 0, u64::MAX);
        for _ in 0..200 {
            backoff.next_delay_ms();
        }
        assert!(backoff.next_delay_ms() >= u64::MAX / 2);
        let mut backoff = Backoff::new([0; 32]);
        assert!((0..1000).all(|_| backoff.next_delay_ms() >= super::BACKOFF_MIN_MS / 2));
    }

    #[test]
    fn two_seeds_part_and_one_seed_repeats() {
        let draw = |seed| {
            let mut backoff = Backoff::new([seed; 32]);
            (0..8).map(|_| backoff.next_delay_ms()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
