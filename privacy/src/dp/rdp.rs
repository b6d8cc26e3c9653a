//! The Renyi accountant (Mironov 2017, arXiv:1702.07476): divergences per order, which add up under composition, and
//! the conversion to (epsilon, delta) of Canonne, Kamath and Steinke 2020 (arXiv:2004.00010, proposition 12).
//!
//! Neighbours differ by one unit (patient or hospital) added or removed. Subsampling is Poisson's.

use super::moments::{sampled_gaussian_fractional, sampled_integer, sampled_interpolated};
use super::{DpError, Sampling, check_delta, check_sensitivity, check_sigma};

/// Largest number of orders.
pub const ORDERS_MAX: usize = 256;

/// Renyi orders, strictly increasing, each above one.
#[derive(Debug, Clone, PartialEq)]
pub struct Orders(Vec<f64>);

impl Orders {
    /// Checks the orders.
    ///
    /// # Errors
    /// [`DpError::Orders`], [`DpError::Order`].
    pub fn new(orders: Vec<f64>) -> Result<Self, DpError> {
        if let Some(bad) = orders.iter().find(|a| !(a.is_finite() && (1.0 + 1e-9..1e6).contains(*a))) {
            return Err(DpError::Order(*bad));
        }
        let rising = orders.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        if orders.is_empty() || orders.len() > ORDERS_MAX || !rising {
            return Err(DpError::Orders);
        }
        Ok(Orders(orders))
    }

    /// The orders.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }
}

impl Default for Orders {
    /// 1.1 to 10.9 by tenths, 11 to 63, 128, 256, 512, 1024: those of Google's `dp_accounting`.
    fn default() -> Self {
        let tenths = (1..100).map(|x| 1.0 + f64::from(x) / 10.0);
        Orders(tenths.chain((11..64).map(f64::from)).chain([128.0, 256.0, 512.0, 1024.0]).collect())
    }
}

/// A Renyi divergence for each order; infinite where no bound is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    orders: Orders,
    values: Vec<f64>,
}

impl Curve {
    /// `divergence(order)` at each order; NaN and negative values count as infinite.
    pub fn of(orders: &Orders, divergence: impl Fn(f64) -> f64) -> Self {
        let sound = |x: f64| if x >= 0.0 { x } else { f64::INFINITY };
        Curve { orders: orders.clone(), values: orders.0.iter().map(|a| sound(divergence(*a))).collect() }
    }

    /// Nothing released.
    pub fn zero(orders: &Orders) -> Self {
        Curve::of(orders, |_| 0.0)
    }

    /// The orders.
    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// The divergences, one per order.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Composition: divergences add.
    ///
    /// # Errors
    /// [`DpError::OrdersDiffer`].
    pub fn plus(&self, other: &Curve) -> Result<Curve, DpError> {
        if self.orders != other.orders {
            return Err(DpError::OrdersDiffer);
        }
        let values = self.values.iter().zip(&other.values).map(|(a, b)| a + b).collect();
        Ok(Curve { orders: self.orders.clone(), values })
    }

    /// `steps` releases of the same kind.
    pub fn times(&self, steps: u64) -> Curve {
        // 0 times infinity is nothing released.
        let scaled = |x: &f64| if steps == 0 { 0.0 } else { x * steps as f64 };
        Curve { orders: self.orders.clone(), values: self.values.iter().map(scaled).collect() }
    }

    /// The smallest epsilon over all orders, and its order.
    ///
    /// # Errors
    /// [`DpError::Delta`]; [`DpError::NoEpsilon`] where no order gives a finite one.
    pub fn epsilon(&self, delta: f64) -> Result<(f64, f64), DpError> {
        check_delta(delta)?;
        let each = self.orders.0.iter().zip(&self.values);
        let all = each.map(|(order, value)| (epsilon_at(*order, *value, delta), *order));
        let best = all.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|best| best.0.is_finite());
        best.ok_or(DpError::NoEpsilon(delta))
    }
}

/// Epsilon at delta of a mechanism with this Renyi divergence at this order:
/// `r + ln(1 - 1/a) - (ln delta + ln a) / (a - 1)`, and zero where `delta^2 > 1 - e^(-r)` (Bretagnolle-Huber).
pub(crate) fn epsilon_at(order: f64, divergence: f64, delta: f64) -> f64 {
    if delta * delta + libm::expm1(-divergence) > 0.0 {
        return 0.0;
    }
    (divergence + cost_of_conversion(order, delta)).max(0.0)
}

/// What the conversion adds to the divergence; the part of a budget that is not for spending.
pub(crate) fn cost_of_conversion(order: f64, delta: f64) -> f64 {
    libm::log1p(-1.0 / order) - (libm::log(delta) + libm::log(order)) / (order - 1.0)
}

/// Gaussian noise on real numbers; `noise_multiplier` is its standard deviation over the L2 sensitivity.
///
/// # Errors
/// [`DpError::Sigma`], [`DpError::SamplingRate`], [`DpError::WithoutReplacement`].
pub fn gaussian(orders: &Orders, noise_multiplier: f64, sampling: Sampling) -> Result<Curve, DpError> {
    let z = check_sigma(noise_multiplier)?;
    let q = sampling.rate()?;
    let moment = |k: f64| (k * k - k) / (2.0 * z * z);
    Ok(Curve::of(orders, |order| match q {
        1.0 => order / (2.0 * z * z),
        q if order.fract() == 0.0 => sampled_integer(q, order as u32, moment) / (order - 1.0),
        q => sampled_gaussian_fractional(q, z, order) / (order - 1.0),
    }))
}

/// Laplace noise, real or discrete; `scale` is its scale over the L1 sensitivity (Mironov 2017, proposition 6).
///
/// # Errors
/// As [`gaussian`].
pub fn laplace(orders: &Orders, scale: f64, sampling: Sampling) -> Result<Curve, DpError> {
    let b = check_sigma(scale)?;
    let q = sampling.rate()?;
    let moment = |k: f64| {
        if k < 1.5 {
            return 0.0;
        }
        let both = 2.0 * k - 1.0;
        super::moments::log_add(libm::log(k / both) + (k - 1.0) / b, libm::log((k - 1.0) / both) - k / b)
    };
    // Near order one the two terms cancel; the divergence rises with the order, so the one at 1.5 is a bound.
    Ok(Curve::of(orders, |order| match q {
        1.0 => moment(order.max(1.5)) / (order.max(1.5) - 1.0),
        q => sampled_interpolated(q, order, moment) / (order - 1.0),
    }))
}

/// `tau` of Kairouz, Liu and Steinke 2021 (theorem 1): the log-ratio between a sum of `summands` discrete Gaussians
/// and one discrete Gaussian of the same variance is at most this, per coordinate:
/// `10 sum_{k=1}^{n-1} exp(-2 pi^2 sigma^2 k / (k + 1))`.
pub fn tau(sigma: f64, summands: u16) -> f64 {
    let pi = std::f64::consts::PI;
    let term = |k: f64| libm::exp(-2.0 * pi * pi * sigma * sigma * k / (k + 1.0));
    10.0 * (1..summands).map(|k| term(f64::from(k))).sum::<f64>()
}

/// The sum of `summands` discrete Gaussians of standard deviation `sigma` on each of `dim` integers, against integer
/// shifts of norm `l2` and `l1`: the smallest of three bounds (Kairouz, Liu and Steinke 2021, proposition 14).
///
/// # Errors
/// [`DpError::Sigma`], [`DpError::Sensitivity`], [`DpError::Hospitals`].
pub fn distributed_gaussian(
    orders: &Orders,
    sigma: f64,
    summands: u16,
    l2: f64,
    l1: f64,
    dim: u64,
) -> Result<Curve, DpError> {
    check_sigma(sigma)?;
    check_sensitivity(l2)?;
    check_sensitivity(l1)?;
    if summands == 0 {
        return Err(DpError::Hospitals { honest: 0, corrupt: 0, hospitals: summands });
    }
    let (tau, d, root) = (tau(sigma, summands), dim as f64, f64::from(summands).sqrt() * sigma);
    let shift = l2 / root;
    Ok(Curve::of(orders, |order| {
        let plain = 0.5 * order * shift * shift + tau * d;
        let mixed = 0.5 * order * (shift * shift + 2.0 * l1 / root * tau + tau * tau * d);
        let norm = shift + tau * d.sqrt();
        plain.min(mixed).min(0.5 * order * norm * norm)
    }))
}

/// Integer Gaussian noise of any number of coordinates, Poisson-sampled: `shift` is the L2 norm of the integer shift
/// in standard deviations, `closeness` the log-ratio between the noise and exact discrete Gaussians.
///
/// For an integer shift m, `E_{P0}[(P1/P0)^k] = exp(k (k-1) |m|^2 / 2 sigma^2)` exactly (the sum over the lattice
/// moved by k m is the same sum), so integer orders are those of the continuous Gaussian and the orders between
/// follow by convexity. The closeness costs `(2 a - 1) c / (a - 1)`: each of the 2a - 1 densities is off by `e^c`.
///
/// # Errors
/// [`DpError::Sensitivity`], [`DpError::SamplingRate`], [`DpError::WithoutReplacement`].
pub fn integer_gaussian(orders: &Orders, shift: f64, closeness: f64, sampling: Sampling) -> Result<Curve, DpError> {
    check_sensitivity(shift)?;
    let q = sampling.rate()?;
    let moment = |k: f64| 0.5 * (k * k - k) * shift * shift;
    Ok(Curve::of(orders, |order| {
        let ideal = match q {
            1.0 => 0.5 * order * shift * shift,
            q => sampled_interpolated(q, order, moment) / (order - 1.0),
        };
        ideal + (2.0 * order - 1.0) * closeness / (order - 1.0)
    }))
}
