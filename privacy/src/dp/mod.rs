//! Differential privacy: exact integer noise, what it is worth, and the budget that several jobs share.
//!
//! Reading order: [`sample`] (the noise), [`sensitivity`] (what one patient can change), [`rdp`] and [`pld`] (the two
//! accountants; `moments` and [`gaussian`] hold their formulas), [`guarantee`] (one answer for a job), [`filter`] (one
//! budget for all jobs). `DP.md` says what is differential privacy here and what is not, each claim with its theorem.
//!
//! Noise is drawn in integers; the accountants compute in f64 and round against the hospital: epsilon up, caps down.

pub mod filter;
pub mod gaussian;
pub mod guarantee;
mod losses;
mod moments;
pub mod pld;
pub mod rdp;
pub mod sample;
pub mod sensitivity;

use crate::layout::LayoutError;

/// Why a privacy parameter, an accountant or a budget refuses. Nothing was released and nothing spent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DpError {
    /// Epsilon is zero, negative, NaN or infinite.
    #[error("epsilon is {0}; it must be a finite number above zero")]
    Epsilon(f64),
    /// Delta is outside (0, 1) or NaN.
    #[error("delta is {0}; it must lie strictly between 0 and 1")]
    Delta(f64),
    /// The noise is zero, negative, NaN or infinite.
    #[error("the noise has standard deviation {0}; it must be a finite number above zero")]
    Sigma(f64),
    /// Integer noise below [`sample::SIGMA_MIN`].
    #[error("integer noise of standard deviation {0} is too small; use at least 4 steps of the grid")]
    SigmaTooSmall(f64),
    /// Integer noise above [`sample::SIGMA_MAX`].
    #[error("integer noise of standard deviation {0} is too large for the sampler; use a coarser grid")]
    SigmaTooLarge(f64),
    /// Sensitivity is zero, negative, NaN or infinite.
    #[error("the sensitivity is {0}; it must be a finite number above zero")]
    Sensitivity(f64),
    /// The sampling rate is outside (0, 1] or NaN.
    #[error("the sampling rate is {0}; it must be above 0 and at most 1")]
    SamplingRate(f64),
    /// Sampling without replacement has no accountant here: a wrong answer would be worse than none.
    #[error("sampling without replacement has no sound accountant here; sample each patient by an own coin (Poisson)")]
    WithoutReplacement,
    /// A Renyi order that is not a finite number above one.
    #[error("Renyi order {0} is unusable; orders are finite numbers above 1")]
    Order(f64),
    /// No orders, more than 256 of them, or not strictly increasing.
    #[error("Renyi orders must be 1 to 256 strictly increasing numbers")]
    Orders,
    /// Two curves over different orders.
    #[error("two privacy curves are over different Renyi orders and cannot be added")]
    OrdersDiffer,
    /// No honest hospital, or more of them than there are hospitals.
    #[error(
        "{honest} honest and {corrupt} corrupt survivors do not fit {hospitals} hospitals; at least 1 must be honest"
    )]
    Hospitals {
        /// Honest survivors guaranteed.
        honest: u16,
        /// Survivors that may tell their noise to others.
        corrupt: u16,
        /// Largest number of hospitals.
        hospitals: u16,
    },
    /// Fewer hospitals survived than the guarantee needs: the sum must stay closed.
    #[error("{survivors} hospitals survived, the privacy guarantee needs {needed}; the sum must not be opened")]
    TooFewSurvivors {
        /// Survivors of the slot.
        survivors: u16,
        /// Honest plus corrupt survivors of the terms.
        needed: u16,
    },
    /// The unit is a hospital and there are few of them.
    #[error(
        "privacy of whole hospitals needs about {minimum} of them, there are {hospitals}; protect patients instead"
    )]
    TooFewForSilo {
        /// Hospitals of the job.
        hospitals: u16,
        /// [`guarantee::SILO_MIN`].
        minimum: u16,
    },
    /// The layout cannot be used.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A segment that patients move carries no noise: the rest of the noise would protect nothing.
    #[error("segment '{0}' depends on patients and has no noise; give it noise or leave it out")]
    NoNoise(String),
    /// Whole hospitals are to be protected, and the layout does not limit what one adds.
    #[error("segment '{0}' states no norm; to protect whole hospitals the layout must limit each one's vector")]
    NoNorm(String),
    /// Not one sensitivity per segment.
    #[error("{got} sensitivities for {want} segments; give each segment one, 0 where no patient moves it")]
    Segments {
        /// Sensitivities handed over.
        got: usize,
        /// Segments of the layout.
        want: usize,
    },
    /// No rounds, or no values.
    #[error("a release of {0} makes no sense; give at least one round and one value")]
    Nothing(&'static str),
    /// The accountant cannot give a finite epsilon for this delta.
    #[error("no finite epsilon holds at delta {0}: more noise, fewer rounds or a larger delta")]
    NoEpsilon(f64),
    /// The discretised accountant cannot resolve so small a delta over so many steps.
    #[error("delta {delta} is below what the discretised accountant resolves over {steps} steps; use the Renyi bound")]
    Resolution {
        /// The delta asked for.
        delta: f64,
        /// Steps composed.
        steps: u64,
    },
    /// The lifetime budget does not cover the request at any order.
    #[error("the privacy budget does not cover this job: it needs more than what is left at every Renyi order")]
    BudgetExceeded,
    /// A reservation of that name exists already.
    #[error("there is a reservation of that name already")]
    ReservationExists,
    /// There is no such reservation.
    #[error("there is no such reservation")]
    NoReservation,
    /// More steps than were reserved.
    #[error("{steps} steps are more than the {left} that are left of the reservation")]
    StepsExceeded {
        /// Steps to be spent.
        steps: u64,
        /// Steps left.
        left: u64,
    },
    /// A stored filter contradicts itself.
    #[error(
        "the stored privacy budget is inconsistent ({0}); restore it from the newest copy, never from an older one"
    )]
    State(&'static str),
}

/// Epsilon in millionths, rounded up: what ledger and budget hold.
///
/// # Errors
/// [`DpError::Epsilon`] for anything but a finite number of at least zero that fits.
pub fn epsilon_micro(epsilon: f64) -> Result<u64, DpError> {
    if !(epsilon.is_finite() && (0.0..1e12).contains(&epsilon)) {
        return Err(DpError::Epsilon(epsilon));
    }
    Ok(micro_up(epsilon))
}

/// Millionths, rounded up past any rounding of the product itself; saturates.
pub(crate) fn micro_up(x: f64) -> u64 {
    let scaled = x * 1e6;
    (scaled + scaled * 4.0 * f64::EPSILON).ceil() as u64
}

/// The default delta for a data set of at least `patients_floor` patients: `min(1e-6, 1 / (10 N))`.
pub fn default_delta(patients_floor: u64) -> f64 {
    (1.0 / (10.0 * patients_floor.max(1) as f64)).min(1e-6)
}

/// Default limit of epsilon for one job.
pub const JOB_EPSILON: f64 = 3.0;
/// Default limit of epsilon for the life of a data set.
pub const LIFETIME_EPSILON: f64 = 10.0;

pub(crate) fn check_delta(delta: f64) -> Result<f64, DpError> {
    if delta > 0.0 && delta < 1.0 { Ok(delta) } else { Err(DpError::Delta(delta)) }
}

pub(crate) fn check_sigma(sigma: f64) -> Result<f64, DpError> {
    if sigma.is_finite() && sigma > 0.0 { Ok(sigma) } else { Err(DpError::Sigma(sigma)) }
}

pub(crate) fn check_sensitivity(l2: f64) -> Result<f64, DpError> {
    if l2.is_finite() && l2 > 0.0 { Ok(l2) } else { Err(DpError::Sensitivity(l2)) }
}

/// How patients come into a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// Everybody, every time.
    All,
    /// Each patient by an own coin with this probability, in (0, 1]; nobody learns who was drawn.
    Poisson(f64),
    /// A fixed number drawn without replacement: refused by every accountant ([`DpError::WithoutReplacement`]).
    WithoutReplacement,
}

impl Sampling {
    /// The probability of a patient, 1 for [`Sampling::All`].
    ///
    /// # Errors
    /// [`DpError::SamplingRate`], [`DpError::WithoutReplacement`].
    pub fn rate(self) -> Result<f64, DpError> {
        match self {
            Sampling::All => Ok(1.0),
            Sampling::Poisson(q) if q > 0.0 && q <= 1.0 => Ok(q),
            Sampling::Poisson(q) => Err(DpError::SamplingRate(q)),
            Sampling::WithoutReplacement => Err(DpError::WithoutReplacement),
        }
    }
}
