//! The fourth type of the chain: where integer noise for differential privacy is added.
//!
//! The layout says which segments carry noise, and its digest is in every pad: a vector cannot skip this step, only
//! [`Noised`] can be masked, and a hospital with another layout produces masks that do not cancel. A segment without
//! [`crate::layout::SegmentNoise`] passes unchanged: its sum is exact and carries no guarantee.
//!
//! Every hospital adds a discrete Gaussian of the layout's variance to each integer (Kairouz, Liu, Steinke 2021,
//! arXiv:2102.06387); what the sum over the survivors is worth says [`crate::dp::guarantee`]. The noise of a value depends
//! on the seed, the segment and the position alone, so a chunk that is asked for again has the same bytes.
//!
//! The seed belongs to one round on the very same rows: an upload that is repeated, in the same slot or in another one,
//! carries the same noise (fresh noise on each attempt could be averaged away), and any other rows or round must have another
//! seed (two sums with the same noise and one patient between them would show that patient).

use zeroize::Zeroizing;

use crate::contribution::ContributionError;
use crate::dp::sample::{Bits, DiscreteGaussian};
use crate::kdf;
use crate::layout::{Layout, LayoutError};
use crate::quantise::Quantised;

/// Values that share one stream of random bits; a value's noise is found without drawing more than this many.
const BLOCK: usize = 64;

/// The noise of one slot, made when it is asked for. Wiped when dropped.
pub(crate) struct NoiseKeys(Vec<Option<(DiscreteGaussian, Zeroizing<[u8; 32]>)>>);

impl NoiseKeys {
    /// Hands the noise of a segment's lanes from `first` on to `add`, lane by lane.
    fn each<T>(&self, segment: usize, first: usize, lanes: &mut [T], add: impl Fn(&mut T, i64)) {
        let Some(Some((law, key))) = self.0.get(segment) else { return };
        let mut skip = first % BLOCK;
        let mut block = (first / BLOCK) as u64;
        let mut left = lanes;
        while !left.is_empty() {
            let mut bits = Bits::at(**key, block);
            (0..skip).for_each(|_| {
                law.sample(&mut bits);
            });
            let (now, rest) = left.split_at_mut(left.len().min(BLOCK - skip));
            now.iter_mut().for_each(|lane| add(lane, law.sample(&mut bits)));
            (left, skip, block) = (rest, 0, block + 1);
        }
    }
}

/// A ring vector that went through the noise step.
///
/// ```compile_fail,E0599
/// # fn leak(noised: leben_privacy::Noised) {
/// noised.chunk(0);
/// # }
/// ```
/// ```compile_fail,E0277
/// fn encode<T: serde::Serialize>(_: T) {}
/// # fn leak(noised: leben_privacy::Noised) {
/// encode(noised);
/// # }
/// ```
pub struct Noised(pub(crate) Quantised, pub(crate) NoiseKeys);

/// Tries to round a segment within its norm: one fails with probability at most 0.61, all of them below 2^-90.
const ROUNDING_TRIES: u64 = 128;

impl Quantised {
    /// Adds the noise that the layout prescribes, where it does. `seed` is a secret of this hospital, of this round and of its rows; the
    /// seed of [`crate::Clipped::quantise`] may be used again, the two are kept apart.
    ///
    /// A segment whose norm the layout limits is rounded again until it is within (conditional rounding: Kairouz, Liu,
    /// Steinke 2021, section 4).
    ///
    /// # Errors
    /// [`ContributionError::NormExceeded`]; what reading a source gives.
    pub fn noise(mut self, seed: [u8; 32]) -> Result<Noised, ContributionError> {
        let seed = Zeroizing::new(seed);
        let geometry = self.geometry.clone();
        let mut keys = Vec::with_capacity(geometry.segments.len());
        for (i, segment) in geometry.segments.iter().enumerate() {
            let place = (i as u64).to_be_bytes();
            if let Some(norm) = segment.norm {
                self.round_within(i, norm, &seed)?;
            }
            let key = || kdf::derive(b"leben/noise/v1", &*seed, &[&place]);
            keys.push(segment.variance.map(|variance| (DiscreteGaussian::new(variance), key())));
        }
        Ok(Noised(self, NoiseKeys(keys)))
    }

    fn round_within(&mut self, segment: usize, norm: f64, seed: &[u8; 32]) -> Result<(), ContributionError> {
        for attempt in 0..ROUNDING_TRIES {
            if self.norm_square(segment)? <= norm * norm {
                return Ok(());
            }
            let place = [(segment as u64).to_be_bytes(), attempt.to_be_bytes()];
            self.round_again(segment, kdf::derive(b"leben/rounding-again/v1", seed, &[&place[0], &place[1]]));
        }
        Err(ContributionError::NormExceeded { segment: self.segment_name(segment) })
    }
}

impl Noised {
    /// The integers of lanes `first ..` of an exact segment, with their noise. Asked for the same range it gives the same lanes.
    ///
    /// # Errors
    /// What `Quantised::wide` refuses.
    pub(crate) fn wide(&self, segment: usize, first: usize, lanes: &mut [u64]) -> Result<(), ContributionError> {
        self.0.wide(segment, first, lanes)?;
        // Two's complement: adding wraps in any ring.
        self.1.each(segment, first, lanes, |lane, noise| *lane = lane.wrapping_add(noise.cast_unsigned()));
        Ok(())
    }

    /// As [`Noised::wide`] for a compact segment.
    ///
    /// # Errors
    /// What `Quantised::narrow` refuses.
    pub(crate) fn narrow(&self, segment: usize, first: usize, lanes: &mut [u32]) -> Result<(), ContributionError> {
        self.0.narrow(segment, first, lanes)?;
        // The low bits of the noise are its value in the smaller ring.
        self.1.each(segment, first, lanes, |lane, noise| *lane = lane.wrapping_add(noise.cast_unsigned() as u32));
        Ok(())
    }
}

/// Standard deviation of the noise in each value of a segment's sum over `survivors` hospitals, in the unit of the
/// values, for intervals that include it. Rounding is counted as well, at its most. Zero for a segment without noise.
///
/// # Errors
/// A [`LayoutError`], also for a segment that is not there ([`LayoutError::SegmentCount`]).
pub fn standard_deviation(
    layout: &Layout,
    hospitals_max: u16,
    segment: usize,
    survivors: u16,
) -> Result<f64, LayoutError> {
    let geometry = layout.geometry(hospitals_max)?;
    let ring = geometry.ring(segment).ok_or(LayoutError::SegmentCount(layout.segments.len()))?;
    // A rounded value is within one step: its variance is at most a quarter.
    let steps = |variance: f64| (f64::from(survivors) * (variance + 0.25)).sqrt();
    Ok(geometry.variance(segment).map_or(0.0, |variance| steps(variance.value()) / ring.steps_per_unit()))
}
