//! Exact samplers of the discrete Laplace and the discrete Gaussian distribution (Canonne, Kamath, Steinke 2020,
//! arXiv:2004.00010, algorithms 1 to 3), in u128 rational arithmetic.
//!
//! No floating point takes part: every decision compares a uniform integer with an integer, so the distribution is
//! the one of the formula and not of a rounding (Mironov 2012 shows what rounding costs). The only departure is stated:
//! where a candidate is so far out that its acceptance does not fit u128 (beyond 2^33 steps, 2^13 standard deviations),
//! it is refused; its probability is below `exp(-4096)`.
//!
//! Not constant in time: rejection sampling takes longer for some draws than for others, and the number of candidates
//! is a function of the random bits. What can be measured from outside is the time of a whole chunk of thousands of
//! draws (Jin et al. 2022 attack the time of single draws). No branch depends on a patient's data.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::DpError;

/// Smallest standard deviation of integer noise: below it a sum of discrete Gaussians is not close to one.
pub const SIGMA_MIN: f64 = 4.0;
/// Largest standard deviation of integer noise, 2^20: everything below fits u128.
pub const SIGMA_MAX: f64 = 1_048_576.0;

/// Largest denominator of a variance.
const DENOMINATOR_MAX: u64 = 1024;

/// A variance as an exact fraction, between 16 and about 2^40.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variance {
    num: u64,
    den: u64,
}

impl Variance {
    /// `num / den`, with `1 <= den <= 1024`.
    ///
    /// # Errors
    /// [`DpError::SigmaTooSmall`] under 4^2, [`DpError::SigmaTooLarge`] over 2^40 + 1 or with another denominator.
    pub fn new(num: u64, den: u64) -> Result<Self, DpError> {
        if !(1..=DENOMINATOR_MAX).contains(&den) || num / den > 1 << 40 {
            return Err(DpError::SigmaTooLarge((num as f64 / den as f64).sqrt()));
        }
        if num < 16 * den {
            return Err(DpError::SigmaTooSmall((num as f64 / den as f64).sqrt()));
        }
        Ok(Variance { num, den })
    }

    /// The smallest 1024th above `sigma^2`: never less noise than asked for.
    ///
    /// # Errors
    /// [`DpError::Sigma`], [`DpError::SigmaTooSmall`], [`DpError::SigmaTooLarge`].
    pub fn at_least(sigma: f64) -> Result<Self, DpError> {
        super::check_sigma(sigma)?;
        if sigma < SIGMA_MIN {
            return Err(DpError::SigmaTooSmall(sigma));
        }
        if sigma > SIGMA_MAX {
            return Err(DpError::SigmaTooLarge(sigma));
        }
        // At most 2^50, where an f64 still holds quarters: adding one covers the rounding of the product.
        Variance::new((sigma * sigma * DENOMINATOR_MAX as f64) as u64 + 1, DENOMINATOR_MAX)
    }

    /// The fraction as f64.
    pub fn value(self) -> f64 {
        self.num as f64 / self.den as f64
    }

    /// The square root of [`Variance::value`].
    pub fn sigma(self) -> f64 {
        self.value().sqrt()
    }
}

/// A stream of random bits: ChaCha20's keystream, least significant bit of each byte first.
pub struct Bits {
    rng: ChaCha20Rng,
    held: u64,
    count: u32,
}

impl Bits {
    /// The stream of a seed. The seed is a secret: whoever has it can subtract the noise.
    pub fn new(seed: [u8; 32]) -> Self {
        Bits::at(seed, 0)
    }

    /// One of 2^64 independent streams of a seed (ChaCha20's nonce).
    pub fn at(seed: [u8; 32], stream: u64) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        rng.set_stream(stream);
        Bits { rng, held: 0, count: 0 }
    }

    /// The next `n` bits, at most 64.
    #[inline]
    fn take64(&mut self, n: u32) -> u64 {
        let mask = if n >= 64 { u64::MAX } else { (1 << n) - 1 };
        if n <= self.count {
            let out = self.held & mask;
            self.held = self.held.checked_shr(n).unwrap_or(0);
            self.count -= n;
            return out;
        }
        let word = self.rng.next_u64();
        let out = (self.held | word << self.count) & mask;
        let used = n - self.count;
        self.held = word.checked_shr(used).unwrap_or(0);
        self.count = 64 - used;
        out
    }

    /// Uniform in `0 .. below`; `below` is at least one.
    #[inline]
    fn uniform(&mut self, below: u128) -> u128 {
        let n = 128 - (below - 1).leading_zeros();
        loop {
            let low = u128::from(self.take64(n.min(64)));
            let x = if n > 64 { low | u128::from(self.take64(n - 64)) << 64 } else { low };
            if x < below {
                return x;
            }
        }
    }

    /// True with probability `exp(-num / den)` for `num <= den` (algorithm 1, first half).
    fn exp_below_one(&mut self, num: u128, den: u128) -> bool {
        let mut k = 1u128;
        // The k-th turn comes with probability below 1/k!: no overflow before k = 2^20, that is never.
        while let Some(bound) = den.checked_mul(k) {
            if self.uniform(bound) >= num {
                break;
            }
            k += 1;
        }
        k % 2 == 1
    }

    /// True with probability `exp(-num / den)` (algorithm 1).
    fn exp(&mut self, mut num: u128, den: u128) -> bool {
        while num > den {
            if !self.exp_below_one(1, 1) {
                return false;
            }
            num -= den;
        }
        self.exp_below_one(num, den)
    }

    /// Discrete Laplace with scale `t / s`: probability of y proportional to `exp(-|y| s / t)` (algorithm 2).
    fn laplace(&mut self, t: u64, s: u64) -> i64 {
        loop {
            let u = self.uniform(u128::from(t)) as u64;
            if !self.exp_below_one(u128::from(u), u128::from(t)) {
                continue;
            }
            let mut v = 0u64;
            while self.exp_below_one(1, 1) {
                v += 1;
            }
            let y = v.saturating_mul(t).saturating_add(u) / s;
            let negative = self.take64(1) == 1;
            let Ok(y) = i64::try_from(y) else { continue };
            match (negative, y) {
                (true, 0) => {}
                (true, y) => return -y,
                (false, y) => return y,
            }
        }
    }
}

/// The discrete Laplace distribution: probability of y proportional to `exp(-|y| / scale)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscreteLaplace {
    num: u64,
    den: u64,
}

impl DiscreteLaplace {
    /// Scale `num / den`, both 1 to 2^32.
    ///
    /// # Errors
    /// [`DpError::Sigma`] for a zero, [`DpError::SigmaTooLarge`] beyond the limits.
    pub fn new(num: u64, den: u64) -> Result<Self, DpError> {
        if num == 0 || den == 0 {
            return Err(DpError::Sigma(0.0));
        }
        if num > 1 << 32 || den > 1 << 32 {
            return Err(DpError::SigmaTooLarge(num as f64 / den as f64));
        }
        Ok(DiscreteLaplace { num, den })
    }

    /// One draw.
    pub fn sample(self, bits: &mut Bits) -> i64 {
        bits.laplace(self.num, self.den)
    }
}

/// The discrete Gaussian distribution: probability of y proportional to `exp(-y^2 / (2 variance))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscreteGaussian {
    /// `floor(sigma) + 1`.
    t: u64,
    num: u128,
    /// `den * t`.
    den_t: u128,
    /// `2 * num * den * t^2`.
    weight: u128,
}

impl DiscreteGaussian {
    /// The distribution with this variance parameter (the true variance is within `1e-60` of it for sigma >= 4).
    pub fn new(variance: Variance) -> Self {
        let (num, den) = (u128::from(variance.num), u128::from(variance.den));
        let t = (num / den).isqrt() + 1;
        // num <= 2^51, den <= 2^10, t <= 2^21: 2^(1 + 51 + 10 + 42) = 2^104.
        DiscreteGaussian { t: t as u64, num, den_t: den * t, weight: 2 * num * den * t * t }
    }

    /// One draw (algorithm 3).
    pub fn sample(self, bits: &mut Bits) -> i64 {
        loop {
            let y = bits.laplace(self.t, 1);
            // (|y| - sigma^2 / t)^2 / (2 sigma^2), as a fraction over `weight`.
            let distance = u128::from(y.unsigned_abs()).checked_mul(self.den_t).map(|a| a.abs_diff(self.num));
            let Some(square) = distance.and_then(|d| d.checked_mul(d)) else { continue };
            if bits.exp(square, self.weight) {
                return y;
            }
        }
    }
}
