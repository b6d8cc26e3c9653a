//! The fourth type of the chain: where integer noise for differential privacy is added.
//!
//! [`Noise::None`] adds nothing, and says so in its name; it is what an exact secure sum uses. The distributed
//! discrete Gaussian of PRIVACY's mode D (arXiv 2102.06387, 2112.05307) is another variant of the same enum, so a
//! vector that a contract wants noised cannot skip this step: only [`Noised`] can be masked. It comes with issue 4.

use crate::contribution::ContributionError;
use crate::quantise::Quantised;

/// The integer noise that a contract prescribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Noise {
    /// No noise: the sum is exact and carries no differential-privacy guarantee.
    None,
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
pub struct Noised(pub(crate) Quantised);

impl Quantised {
    /// Adds the prescribed noise, lane by lane, in the ring.
    pub fn noise(self, noise: Noise) -> Noised {
        match noise {
            Noise::None => Noised(self),
        }
    }
}

impl Noised {
    /// The integers of lanes `first ..` of an exact segment, with their noise. Asked for the same range it gives the same lanes.
    ///
    /// # Errors
    /// What `Quantised::wide` refuses.
    pub(crate) fn wide(&self, segment: usize, first: usize, lanes: &mut [u64]) -> Result<(), ContributionError> {
        self.0.wide(segment, first, lanes)
    }

    /// As [`Noised::wide`] for a compact segment.
    ///
    /// # Errors
    /// What `Quantised::narrow` refuses.
    pub(crate) fn narrow(&self, segment: usize, first: usize, lanes: &mut [u32]) -> Result<(), ContributionError> {
        self.0.narrow(segment, first, lanes)
    }
}
