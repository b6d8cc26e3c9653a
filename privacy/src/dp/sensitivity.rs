//! How far one patient, or one hospital, can move the integer vector that is summed.
//!
//! Rounding moves it too, so the sensitivity in integers is not the one in reals times the scale:
//!
//! * **Unit patient** ([`rounded_difference_l2`]): two vectors x, x' of one hospital that differ by one patient, at
//!   most `l2` apart, rounded with the same random threshold per coordinate: `|R(x_i) - R(x'_i)| <= |x_i - x'_i| + 1`
//!   (a step function of step one), so `||R(x) - R(x')|| <= l2 + sqrt(d)` for every outcome of the thresholds. The
//!   thresholds are independent of the data, so the bound holds for the mixture (DP is quasi-convex).
//! * **Unit hospital** ([`rounded_norm_l2`]): its vector against no vector. Kairouz, Liu and Steinke 2021
//!   (arXiv:2102.06387), proposition 22 with conditional rounding: round again until the norm is within the bound,
//!   which one try reaches with probability at least `1 - beta`.
//!
//! Clipping to a norm ([`clip_l2`]) bounds what a patient adds. Alone it is not differential privacy.

use super::{DpError, check_sensitivity};

/// `beta` of conditional rounding: `e^(-1/2)`, as in the paper's experiments.
pub const ROUNDING_BETA: f64 = 0.606_530_659_712_633_4;

/// L2 distance in integers of two vectors of `dim` values that were at most `l2` (in integer steps) apart.
///
/// # Errors
/// [`DpError::Sensitivity`], [`DpError::Nothing`].
pub fn rounded_difference_l2(l2: f64, dim: u64) -> Result<f64, DpError> {
    check_sensitivity(l2)?;
    if dim == 0 {
        return Err(DpError::Nothing("vector without values"));
    }
    Ok(l2 + (dim as f64).sqrt())
}

/// L2 norm in integers of a stochastically rounded vector whose norm was at most `l2`:
/// `min(l2 + sqrt(d), sqrt(l2^2 + d/4 + sqrt(2 ln(1/beta)) (l2 + sqrt(d)/2)))`.
/// With `beta = 0` it holds for every rounding; above zero a rounding that breaks it must be drawn again.
///
/// # Errors
/// [`DpError::Sensitivity`], [`DpError::Nothing`], [`DpError::Delta`] for a beta outside [0, 1).
pub fn rounded_norm_l2(l2: f64, dim: u64, beta: f64) -> Result<f64, DpError> {
    let always = rounded_difference_l2(l2, dim)?;
    if beta == 0.0 {
        return Ok(always);
    }
    super::check_delta(beta)?;
    let root = (dim as f64).sqrt();
    let square = l2 * l2 + 0.25 * dim as f64 + (-2.0 * libm::log(beta)).sqrt() * (l2 + 0.5 * root);
    Ok(always.min(square.sqrt()))
}

/// L1 norm of an integer vector from its L2 norm: `min(sqrt(d) l2, l2^2)`.
pub fn integer_l1(l2: f64, dim: u64) -> f64 {
    ((dim as f64).sqrt() * l2).min(l2 * l2)
}

/// Scales one example's values so that their L2 norm is at most `bound` (Abadi et al. 2016); returns the norm before.
/// The norm afterwards is never above the bound, rounding included. Values that are not finite become zero: which
/// patient had them must not show, so it is no error.
///
/// # Errors
/// [`DpError::Sensitivity`] for a bound that is not a finite number above zero; the values are untouched.
pub fn clip_l2(values: &mut [f32], bound: f64) -> Result<f64, DpError> {
    check_sensitivity(bound)?;
    for x in values.iter_mut().filter(|x| !x.is_finite()) {
        *x = 0.0;
    }
    let norm_of = |values: &[f32]| values.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    let before = norm_of(values);
    let mut norm = before;
    while norm > bound {
        // A f32 keeps 24 bits: aim one part in 2^23 below, and again should that not do.
        let factor = bound / norm * (1.0 - f64::from(f32::EPSILON));
        values.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
        norm = norm_of(values);
    }
    Ok(before)
}
