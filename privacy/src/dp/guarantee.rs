//! What (epsilon, delta) a job's noise amounts to: one function for the check of the terms, the worker and the report.
//!
//! # What is computed
//!
//! The sum over the survivors carries the noise of `honest` hospitals at least (what others added may be known to an
//! attacker). Two bounds hold, and the smaller one is the answer:
//!
//! * **Renyi**: the sum of discrete Gaussians at integer shifts, [`super::rdp::integer_gaussian`].
//! * **Privacy loss** of the continuous Gaussian that the integer noise is close to. A continuous Gaussian of variance
//!   `V - 1/12`, rounded, is a post-processing; the discrete Gaussian of variance V differs from it by a
//!   Kullback-Leibler divergence below `3e-6 / V^4` per value (their laws agree up to the fourth cumulant, which is off
//!   by 1/120: `(1/120)^2 / (2 * 24) = 1.45e-6`; `tests/dp_guarantee.rs` sums it exactly). By Pinsker's inequality the
//!   released vectors are within `t = sqrt(KL / 2)`, so (epsilon, delta - (1 + e^epsilon) k t) for the continuous one
//!   gives (epsilon, delta) for k rounds of ours. Used only where that slack is below a thousandth of delta.
//!
//! Fewer survivors than the terms need means another guarantee than the one agreed: the sum is not opened
//! ([`Release::check_survivors`]).

use super::rdp::{self, Curve, Orders};
use super::sample::{SIGMA_MAX, SIGMA_MIN};
use super::sensitivity::rounded_difference_l2;
use super::{DpError, Sampling, check_delta, check_sensitivity, epsilon_micro, gaussian, pld};
use crate::layout::Layout;

/// Fewest hospitals for privacy of whole hospitals, unless the contract forces it.
pub const SILO_MIN: u16 = 100;

/// Whose presence is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// One patient added or removed at one hospital (modes R and D).
    Patient,
    /// One hospital's vector replaced by zeros; that it took part is public (mode S).
    Hospital {
        /// The contract insists although there are fewer than [`SILO_MIN`].
        forced: bool,
    },
}

/// One segment of a released sum, in integer steps of its grid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoisySegment {
    /// Standard deviation of the noise that each hospital adds.
    pub sigma: f64,
    /// L2 distance that one unit can make after rounding ([`super::sensitivity`]).
    pub l2: f64,
    /// Number of values.
    pub dim: u64,
}

/// The same noisy sum, released in every round.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// All segments: one unit may be in each of them.
    pub segments: Vec<NoisySegment>,
    /// Whose presence is hidden.
    pub unit: Unit,
    /// Survivors whose noise nobody else knows; 1 where a hospital adds all the noise by itself (mode R).
    pub honest: u16,
    /// Further survivors that may tell their noise to others. One at least, where hospitals shall not learn about
    /// each other's patients: each knows its own noise.
    pub corrupt: u16,
    /// Largest number of hospitals.
    pub hospitals: u16,
    /// How patients come into a round.
    pub sampling: Sampling,
    /// How many rounds there are.
    pub rounds: u64,
    /// How often it is released in a round, each time from a sample of its own: the local steps of mode R, 1 elsewhere.
    pub per_round: u64,
}

/// Which bound gave the epsilon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Renyi divergence.
    Renyi,
    /// Privacy-loss distribution, or its closed form for the unsampled Gaussian.
    PrivacyLoss,
}

/// A differential-privacy guarantee for neighbours that differ by one unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guarantee {
    /// Epsilon in millionths, rounded up.
    pub epsilon_micro: u64,
    /// Delta.
    pub delta: f64,
    /// Which bound gave it.
    pub method: Method,
}

/// Bound on the Kullback-Leibler divergence per value, times the fourth power of the variance.
const ROUNDED_DIVERGENCE: f64 = 3e-6;
/// Variance lost to rounding.
const ROUNDING_VARIANCE: f64 = 1.0 / 12.0;
/// Share of delta that the step from integer to continuous noise may take.
const SLACK_SHARE: f64 = 1e-3;

/// A release in the terms of the accountants.
struct Noise {
    /// Norm of the shift in standard deviations of the noise.
    shift: f64,
    /// The same for the continuous noise of smaller variance.
    shift_continuous: f64,
    /// Log-ratio between the sum and one discrete Gaussian, all values.
    closeness: f64,
    /// Total variation distance between the noise and the rounded continuous noise, all values of one round.
    distance: f64,
}

impl Release {
    /// The same release with the segments of a layout. `l2` are the sensitivities in the unit of the values, one per
    /// segment: how far one patient moves it, 0 for a segment that does not depend on patients; rounding is added to them
    /// here ([`super::sensitivity::rounded_difference_l2`]). Where hospitals are protected, the norms that the layout
    /// states and the noise step enforces take the place of `l2`, which then only says which segments count.
    ///
    /// # Errors
    /// [`DpError::Layout`], [`DpError::Segments`], [`DpError::Sensitivity`], [`DpError::NoNoise`], [`DpError::NoNorm`].
    pub fn of_layout(mut self, layout: &Layout, l2: &[f64]) -> Result<Release, DpError> {
        let geometry = layout.geometry(self.hospitals)?;
        if l2.len() != layout.segments.len() {
            return Err(DpError::Segments { got: l2.len(), want: layout.segments.len() });
        }
        self.segments.clear();
        for (i, (spec, l2)) in layout.segments.iter().zip(l2).enumerate().filter(|(_, (_, l2))| **l2 != 0.0) {
            check_sensitivity(*l2)?;
            let no_noise = || DpError::NoNoise(spec.name.clone());
            let (Some(noise), Some(ring)) = (spec.noise, geometry.ring(i)) else { return Err(no_noise()) };
            let dim = spec.len as u64;
            let l2 = match self.unit {
                Unit::Patient => rounded_difference_l2(l2 * ring.steps_per_unit(), dim)?,
                Unit::Hospital { .. } => geometry.norm(i).ok_or_else(|| DpError::NoNorm(spec.name.clone()))?,
            };
            self.segments.push(NoisySegment { sigma: noise.sigma * ring.steps_per_unit(), l2, dim });
        }
        Ok(self)
    }

    /// Survivors without which the sum must stay closed.
    pub fn needed(&self) -> u16 {
        self.honest.saturating_add(self.corrupt)
    }

    /// Whether a slot with so many survivors may be opened.
    ///
    /// # Errors
    /// [`DpError::TooFewSurvivors`].
    pub fn check_survivors(&self, survivors: u16) -> Result<(), DpError> {
        let needed = self.needed();
        if survivors < needed { Err(DpError::TooFewSurvivors { survivors, needed }) } else { Ok(()) }
    }

    /// The Renyi curve of one round, for [`super::filter::Filter::reserve`].
    ///
    /// # Errors
    /// As [`guarantee`].
    pub fn curve(&self, orders: &Orders) -> Result<Curve, DpError> {
        let noise = self.noise()?;
        let once = rdp::integer_gaussian(orders, noise.shift, noise.closeness, self.sampling)?;
        Ok(once.times(self.per_round))
    }

    /// How often it is released in all rounds.
    fn times(&self) -> u64 {
        self.rounds.saturating_mul(self.per_round)
    }

    /// The release as it was after `rounds` of its rounds.
    pub fn after(&self, rounds: u64) -> Release {
        Release { rounds: rounds.min(self.rounds), ..self.clone() }
    }

    fn noise(&self) -> Result<Noise, DpError> {
        let (honest, corrupt, hospitals) = (self.honest, self.corrupt, self.hospitals);
        if honest == 0 || honest.checked_add(corrupt).is_none_or(|all| all > hospitals) {
            return Err(DpError::Hospitals { honest, corrupt, hospitals });
        }
        if self.unit == (Unit::Hospital { forced: false }) && hospitals < SILO_MIN {
            return Err(DpError::TooFewForSilo { hospitals, minimum: SILO_MIN });
        }
        if self.segments.is_empty() {
            return Err(DpError::Nothing("sum without segments"));
        }
        if self.per_round == 0 {
            return Err(DpError::Nothing("round without a release"));
        }
        let mut noise = Noise { shift: 0.0, shift_continuous: 0.0, closeness: 0.0, distance: 0.0 };
        let mut divergence = 0.0;
        for segment in &self.segments {
            segment.check()?;
            let (square, dim) = (segment.l2 * segment.l2, segment.dim as f64);
            let variance = segment.sigma * segment.sigma * f64::from(honest);
            noise.shift += square / variance;
            noise.shift_continuous += square / (variance - ROUNDING_VARIANCE);
            noise.closeness += rdp::tau(segment.sigma, honest) * dim;
            divergence += ROUNDED_DIVERGENCE / variance.powi(4) * dim;
        }
        noise.shift = noise.shift.sqrt();
        noise.shift_continuous = noise.shift_continuous.sqrt();
        noise.distance = (0.5 * divergence).sqrt() + noise.closeness;
        Ok(noise)
    }
}

impl NoisySegment {
    fn check(&self) -> Result<(), DpError> {
        super::check_sigma(self.sigma)?;
        check_sensitivity(self.l2)?;
        match self.sigma {
            sigma if sigma < SIGMA_MIN => Err(DpError::SigmaTooSmall(sigma)),
            sigma if sigma > SIGMA_MAX => Err(DpError::SigmaTooLarge(sigma)),
            _ if self.dim == 0 => Err(DpError::Nothing("segment without values")),
            _ => Ok(()),
        }
    }
}

/// The guarantee of all releases of a job together.
///
/// # Errors
/// What a release's fields say: [`DpError::Sigma`] and its kin, [`DpError::Sensitivity`], [`DpError::Hospitals`],
/// [`DpError::TooFewForSilo`], [`DpError::SamplingRate`], [`DpError::WithoutReplacement`], [`DpError::Delta`],
/// [`DpError::Nothing`]; [`DpError::NoEpsilon`] where neither bound is finite.
pub fn guarantee(releases: &[Release], delta: f64) -> Result<Guarantee, DpError> {
    check_delta(delta)?;
    if releases.iter().all(|release| release.rounds == 0) {
        return Err(DpError::Nothing("job without rounds"));
    }
    let orders = Orders::default();
    let mut curve = Curve::zero(&orders);
    for release in releases {
        curve = curve.plus(&release.curve(&orders)?.times(release.rounds))?;
    }
    let renyi = curve.epsilon(delta).map(|(epsilon, _)| (epsilon, Method::Renyi));
    // The second bound may be out of reach (slack, resolution); the first then stands alone.
    let loss = privacy_loss(releases, delta).ok().map(|epsilon| (epsilon, Method::PrivacyLoss));
    let best = renyi.as_ref().ok().copied().into_iter().chain(loss).min_by(|a, b| a.0.total_cmp(&b.0));
    let Some((epsilon, method)) = best else { return Err(renyi.err().unwrap_or(DpError::NoEpsilon(delta))) };
    Ok(Guarantee { epsilon_micro: epsilon_micro(epsilon)?, delta, method })
}

/// Epsilon of the continuous counterpart, where integer noise is close enough to it.
fn privacy_loss(releases: &[Release], delta: f64) -> Result<f64, DpError> {
    let rest = delta * (1.0 - SLACK_SHARE);
    let (mut square, mut distance, mut parts) = (0.0, 0.0, Vec::new());
    let mut sampled = false;
    for release in releases.iter().filter(|release| release.times() > 0) {
        let noise = release.noise()?;
        square += noise.shift_continuous * noise.shift_continuous * release.times() as f64;
        distance += noise.distance * release.times() as f64;
        sampled |= release.sampling.rate()? < 1.0;
        let noise_multiplier = 1.0 / noise.shift_continuous;
        parts.push((pld::Mechanism::Gaussian { noise_multiplier, sampling: release.sampling }, release.times()));
    }
    let epsilon = match sampled {
        false => gaussian::epsilon(1.0 / square.sqrt(), rest)?,
        true => pld::epsilon(&parts, rest)?,
    };
    let slack = (1.0 + libm::exp(epsilon)) * distance;
    if slack <= SLACK_SHARE * delta { Ok(epsilon) } else { Err(DpError::NoEpsilon(delta)) }
}
