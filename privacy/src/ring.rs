//! The ring of a segment: how many bits a sum needs, with and without noise. Every machine comes to the same answer: only
//! exact operations, square roots and the bits of a number decide.
//!
//! A segment with [`crate::SegmentNoise`] leaves room for the noise of n hospitals as well: 12 standard deviations of their
//! sum, so `n * bound + 12 sqrt(n) sigma` stands for `n * bound` above and `n L + 12 sqrt(n) sigma_int` for `n L`; and its
//! grid is no finer than the noise needs (`f <= 20 - ceil(log2 sigma)`), so that `4 <= sigma_int <= 2^20`. The sum of
//! discrete Gaussians is sub-Gaussian (Canonne, Kamath, Steinke 2020: `E[e^(tX)] <= e^(t^2 sigma^2 / 2)`): beyond the
//! room lies at most `2 e^(-72) < 2^-102` per value, below `2^-68` for the largest vector. A wrap that happened all the
//! same could not be seen in the sum; this probability is the whole protection.

use crate::dp::sample::{SIGMA_MAX, SIGMA_MIN, Variance};
use crate::dp::sensitivity::{ROUNDING_BETA, rounded_norm_l2};
use crate::kernel::Width;
use crate::layout::{CHUNK_BYTES_MAX, CHUNK_LANES_MULTIPLE, Encoding, FRACTION_BITS_MAX, LayoutError, SegmentSpec};

/// The ring of one segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ring {
    /// Fixed point in 2^64 with this many fraction bits.
    Wide {
        /// 0 to 52.
        fraction_bits: u32,
    },
    /// 2^bits, values in `-levels ..= levels`, one level is `clip / levels`.
    Narrow {
        /// Bits of a lane on the wire, 9 to 32.
        bits: u32,
        /// L, the largest absolute value of one hospital.
        levels: i32,
        /// The value that L stands for.
        clip: f32,
    },
}

impl Ring {
    /// Bits of one lane on the wire.
    pub fn wire_bits(self) -> u32 {
        match self {
            Ring::Wide { .. } => 64,
            Ring::Narrow { bits, .. } => bits,
        }
    }

    /// Keystream bytes that one pad spends on one lane: the fewest of 2, 3, 4 and 8 that cover the ring.
    pub(crate) fn pad_bytes(self) -> usize {
        match self {
            Ring::Wide { .. } => 8,
            Ring::Narrow { bits, .. } => Width::for_bits(bits).bytes(),
        }
    }

    /// 2^f of a wide ring, 1 of a narrow one.
    pub(crate) fn fraction_scale(self) -> f64 {
        match self {
            Ring::Wide { fraction_bits } => (1u64 << fraction_bits) as f64,
            Ring::Narrow { .. } => 1.0,
        }
    }

    /// L of a narrow ring, 0 of a wide one.
    pub(crate) fn levels(self) -> i32 {
        match self {
            Ring::Wide { .. } => 0,
            Ring::Narrow { levels, .. } => levels,
        }
    }

    /// Steps of the grid in one unit of the values.
    pub fn steps_per_unit(self) -> f64 {
        match self {
            Ring::Wide { fraction_bits } => (1u64 << fraction_bits) as f64,
            Ring::Narrow { levels, clip, .. } => f64::from(levels) / f64::from(clip),
        }
    }

    pub(crate) fn lanes_per_chunk(self) -> usize {
        let lanes = CHUNK_BYTES_MAX * 8 / self.wire_bits() as usize;
        lanes - lanes % CHUNK_LANES_MULTIPLE
    }
}

/// Standard deviations of the noise of all hospitals that a ring has room for.
const NOISE_ROOM: f64 = 12.0;

pub(crate) fn ring(spec: &SegmentSpec, hospitals: u16) -> Result<(Ring, Option<Variance>), LayoutError> {
    let named = |error: fn(String) -> LayoutError| error(spec.name.clone());
    let sigma = spec.noise.map_or(0.0, |noise| noise.sigma);
    let norm = spec.noise.and_then(|noise| noise.norm).unwrap_or(1.0);
    if spec.noise.is_some() && !(sigma.is_finite() && sigma > 0.0 && norm.is_finite() && norm > 0.0) {
        return Err(named(LayoutError::Noise));
    }
    let root = f64::from(hospitals).sqrt();
    match spec.encoding {
        Encoding::Exact { bound } => {
            if !(bound.is_finite() && bound > 0.0) {
                return Err(named(LayoutError::Bound));
            }
            let overflow = || LayoutError::Overflow(spec.name.clone(), hospitals);
            let largest = bound * f64::from(hospitals) + NOISE_ROOM * root * sigma;
            let integer_bits = ceil_log2(largest).ok_or_else(overflow)?;
            let mut fraction_bits = u32::try_from(62 - integer_bits).map_err(|_| overflow())?.min(FRACTION_BITS_MAX);
            if let (true, Some(bits)) = (sigma > 0.0, ceil_log2(sigma)) {
                let finest = u32::try_from(20 - bits).map_err(|_| named(LayoutError::NoiseTooLarge))?;
                fraction_bits = fraction_bits.min(finest);
            }
            let ring = Ring::Wide { fraction_bits };
            Ok((ring, variance(spec, sigma * ring.steps_per_unit())?))
        }
        Encoding::Compact { clip, bits } => {
            if !(clip.is_finite() && clip > 0.0) {
                return Err(named(LayoutError::Clip));
            }
            if !matches!(bits, 8 | 12 | 16) {
                return Err(LayoutError::Bits(spec.name.clone(), bits));
            }
            let levels = (1i32 << (bits - 1)) - 1;
            let variance = variance(spec, sigma * f64::from(levels) / f64::from(clip))?;
            let room = variance.map_or(0, |v| (NOISE_ROOM * root * v.sigma()) as u64 + 1);
            let values = 2 * (u64::from(hospitals) * u64::from(levels.unsigned_abs()) + room) + 1;
            let bits = values.next_power_of_two().trailing_zeros();
            if bits > 32 {
                return Err(LayoutError::Overflow(spec.name.clone(), hospitals));
            }
            Ok((Ring::Narrow { bits, levels, clip }, variance))
        }
    }
}

/// The L2 norm in steps that values of this norm may have once rounded.
pub(crate) fn integer_norm(ring: Ring, norm: f64, len: u64) -> f64 {
    let norm = norm * ring.steps_per_unit();
    match ring {
        // To the nearest: each of the values is off by half a step at most.
        Ring::Wide { .. } => norm + 0.5 * (len as f64).sqrt(),
        Ring::Narrow { .. } => rounded_norm_l2(norm, len, ROUNDING_BETA).unwrap_or(f64::INFINITY),
    }
}

/// The variance of noise of `sigma` steps, `None` for none.
fn variance(spec: &SegmentSpec, sigma: f64) -> Result<Option<Variance>, LayoutError> {
    if spec.noise.is_none() {
        return Ok(None);
    }
    match Variance::at_least(sigma) {
        Ok(variance) => Ok(Some(variance)),
        Err(_) if sigma < SIGMA_MIN => Err(LayoutError::NoiseTooSmall(spec.name.clone())),
        Err(_) if sigma > SIGMA_MAX => Err(LayoutError::NoiseTooLarge(spec.name.clone())),
        Err(_) => Err(LayoutError::Noise(spec.name.clone())),
    }
}

/// `ceil(log2(x))` for a finite `x > 0`, read from the bits of the number so that every machine agrees.
/// `None` for infinity.
fn ceil_log2(x: f64) -> Option<i32> {
    if !x.is_finite() {
        return None;
    }
    let bits = x.to_bits();
    let exponent = i32::try_from(bits >> 52).ok()? - 1023;
    let mantissa = bits & ((1 << 52) - 1);
    Some(exponent + i32::from(mantissa != 0))
}
