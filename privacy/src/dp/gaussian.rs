//! The Gaussian mechanism in closed form (Balle and Wang 2018, arXiv:1805.06530, theorem 8). k releases with noise
//! multiplier z are one with `z / sqrt(k)`, so this is also the truth that the accountants are held against.

use super::{DpError, check_delta, check_sigma};

/// The standard normal distribution function; relative error of a few ulp in the lower tail.
pub(crate) fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// The smallest delta at which the Gaussian mechanism with this noise multiplier (standard deviation over L2
/// sensitivity) is (epsilon, delta)-DP.
///
/// # Errors
/// [`DpError::Sigma`], [`DpError::Epsilon`] for a negative or infinite epsilon.
pub fn delta(noise_multiplier: f64, epsilon: f64) -> Result<f64, DpError> {
    check_sigma(noise_multiplier)?;
    if !(epsilon.is_finite() && epsilon >= 0.0) {
        return Err(DpError::Epsilon(epsilon));
    }
    Ok(delta_of(noise_multiplier, epsilon))
}

fn delta_of(z: f64, epsilon: f64) -> f64 {
    let shift = 0.5 / z;
    let far = normal_cdf(-shift - epsilon * z);
    // e^epsilon may overflow where the tail it multiplies underflows: together they are below the first term.
    let second = if far == 0.0 { 0.0 } else { libm::exp(epsilon + libm::log(far)) };
    (normal_cdf(shift - epsilon * z) - second).max(0.0)
}

/// The smallest epsilon at this delta, from above, to 1e-9.
///
/// # Errors
/// [`DpError::Sigma`], [`DpError::Delta`], [`DpError::NoEpsilon`] above 10^6.
pub fn epsilon(noise_multiplier: f64, delta: f64) -> Result<f64, DpError> {
    check_sigma(noise_multiplier)?;
    check_delta(delta)?;
    let (mut low, mut high) = (0.0f64, 1.0f64);
    if delta_of(noise_multiplier, 0.0) <= delta {
        return Ok(0.0);
    }
    while delta_of(noise_multiplier, high) > delta {
        low = high;
        high *= 2.0;
        if high > 1e6 {
            return Err(DpError::NoEpsilon(delta));
        }
    }
    while high - low > 1e-10 * high.max(1.0) {
        let middle = 0.5 * (low + high);
        if delta_of(noise_multiplier, middle) > delta { low = middle } else { high = middle }
    }
    Ok(high)
}
