//! The third type of the chain: integers in the ring, so that a sum is exact and a mask can be uniform.
//!
//! * Exact segments round half to even at `fraction_bits` (deterministic): error at most `2^-(f+1)` per hospital.
//! * Compact segments round stochastically: `E[q] = x * L / clip`, error below one level, unbiased to 2^-32.
//!   The random bits come from AES-256-CTR under a key derived from the seed, one 32-bit word per lane, so the result
//!   does not depend on the number of threads.

use std::sync::Arc;

use rayon::prelude::*;

use crate::clip::Clipped;
use crate::contribution::{ContributionError, Values};
use crate::kdf;
use crate::layout::{Geometry, Ring};
use crate::prg::Stream;

/// Lanes of one segment, two's complement modulo 2^64 or 2^32.
pub(crate) enum Lanes {
    Wide(Vec<u64>),
    Narrow(Vec<u32>),
}

/// A ring vector of one hospital, still plain.
///
/// ```compile_fail,E0599
/// # fn leak(quantised: leben_privacy::Quantised) {
/// quantised.chunk(0);
/// # }
/// ```
/// ```compile_fail,E0277
/// fn encode<T: serde::Serialize>(_: T) {}
/// # fn leak(quantised: leben_privacy::Quantised) {
/// encode(quantised);
/// # }
/// ```
pub struct Quantised {
    pub(crate) geometry: Arc<Geometry>,
    pub(crate) layout_digest: [u8; 32],
    pub(crate) lanes: Vec<Lanes>,
}

impl Clipped {
    /// Puts every value into its ring, sized for at most `hospitals` hospitals (the opening's `hospitals_max`).
    /// `seed` must be fresh for every contribution: it decides the stochastic rounding.
    ///
    /// # Errors
    /// [`ContributionError::Layout`] where a sum over `hospitals` could overflow.
    pub fn quantise(self, hospitals: u16, seed: [u8; 32]) -> Result<Quantised, ContributionError> {
        let geometry = Arc::new(self.layout.geometry(hospitals)?);
        let layout_digest = self.layout.digest();
        let mut lanes = Vec::with_capacity(self.segments.len());
        // Each segment's reals are dropped as soon as its integers exist, so the peak is one segment above the vector.
        for (i, (values, segment)) in self.segments.into_iter().zip(&geometry.segments).enumerate() {
            lanes.push(match (values, segment.ring) {
                (Values::F64(v), Ring::Wide { fraction_bits }) => Lanes::Wide(quantise_exact(&v, fraction_bits)),
                (Values::F32(v), Ring::Narrow { levels, clip, .. }) => {
                    let key = kdf::derive(b"leben/rounding/v1", &seed, &[&(i as u64).to_be_bytes()]);
                    Lanes::Narrow(quantise_compact(&v, levels, clip, &key))
                }
                _ => return Err(ContributionError::Type { segment: i.to_string() }),
            });
        }
        Ok(Quantised { geometry, layout_digest, lanes })
    }
}

fn quantise_exact(values: &[f64], fraction_bits: u32) -> Vec<u64> {
    // 2^f is exact and |x| * 2^f <= 2^62, so only the rounding to an integer loses anything.
    let scale = (1u64 << fraction_bits) as f64;
    values.par_iter().map(|x| ((x * scale).round_ties_even() as i64).cast_unsigned()).collect()
}

/// Lanes of one rounding block: 16 KiB of random words.
const ROUNDING_LANES: usize = 4096;

fn quantise_compact(values: &[f32], levels: i32, clip: f32, key: &[u8; 32]) -> Vec<u32> {
    let mut out = vec![0u32; values.len()];
    let scale = f64::from(levels) / f64::from(clip);
    out.par_chunks_mut(ROUNDING_LANES).zip(values.par_chunks(ROUNDING_LANES)).enumerate().for_each(
        |(i, (out, values))| {
            let mut random = [0u8; ROUNDING_LANES * 4];
            Stream::at(key, (i * ROUNDING_LANES / 4) as u64).fill(&mut random);
            let (words, _) = random.as_chunks::<4>();
            for ((q, x), word) in out.iter_mut().zip(values).zip(words) {
                let y = f64::from(*x) * scale;
                let floor = y.floor();
                let up = f64::from(u32::from_le_bytes(*word)) < (y - floor) * 4_294_967_296.0;
                let rounded = floor as i32 + i32::from(up);
                *q = rounded.clamp(-levels, levels).cast_unsigned();
            }
        },
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_rounds_half_to_even() {
        let lanes = quantise_exact(&[0.5, 1.5, 2.5, -0.5, -1.5, 0.25, -0.75], 0);
        assert_eq!(lanes.into_iter().map(u64::cast_signed).collect::<Vec<_>>(), [0, 2, 2, 0, -2, 0, -1]);
        assert_eq!(quantise_exact(&[-1.0], 52), [(-1i64 << 52).cast_unsigned()]);
    }

    #[test]
    fn stochastic_rounding_is_unbiased_and_within_one_level() {
        let draws = 200_000;
        for x in [0.3f32, -0.3, 12.75, -126.5] {
            let lanes = quantise_compact(&vec![x; draws], 127, 127.0, &[5; 32]);
            let signed: Vec<i32> = lanes.into_iter().map(u32::cast_signed).collect();
            assert!(signed.iter().all(|q| (f64::from(*q) - f64::from(x)).abs() < 1.0));
            let mean = signed.iter().map(|q| f64::from(*q)).sum::<f64>() / draws as f64;
            let fraction = f64::from(x) - f64::from(x).floor();
            let sigma = (fraction * (1.0 - fraction) / draws as f64).sqrt();
            assert!((mean - f64::from(x)).abs() < 5.0 * sigma, "{x}: {mean}");
        }
    }

    #[test]
    fn the_ends_stay_at_the_ends() {
        let lanes = quantise_compact(&[1.0, -1.0, 0.0], 32767, 1.0, &[5; 32]);
        assert_eq!(lanes.into_iter().map(u32::cast_signed).collect::<Vec<_>>(), [32767, -32767, 0]);
        // A clip whose inverse is not exact must not push the end beyond L.
        for clip in [0.1f32, 0.3, 3.7, 1e-30, 1e30] {
            let lanes = quantise_compact(&vec![clip; 5000], 127, clip, &[5; 32]);
            assert!(lanes.into_iter().all(|q| matches!(q.cast_signed(), 126 | 127)));
        }
    }
}
