//! Logarithms of the moments that the Renyi accountant sums up.
//!
//! `A(alpha) = E_{x ~ P0} [((1 - q) + q P1(x) / P0(x))^alpha]`, and the Renyi divergence is `ln A / (alpha - 1)`.
//! Mironov, Talwar and Zhang 2019 (arXiv:1908.10530), theorem 5: where a reflection swaps P0 and P1, this direction
//! (one patient removed) is the larger of the two.

/// `ln(e^a + e^b)`.
pub(super) fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + libm::log1p(libm::exp(low - high)) }
}

/// `ln |n over k|`, for real n.
fn log_choose(n: f64, k: f64) -> f64 {
    libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0)
}

/// `ln erfc(x)`, also where erfc underflows.
pub(super) fn log_erfc(x: f64) -> f64 {
    if x < 20.0 {
        return libm::log(libm::erfc(x));
    }
    // erfc(x) = e^(-x^2) / (x sqrt(pi)) (1 - 1/(2x^2) + 3/(4x^4) - 15/(8x^6) ..); beyond 20 four terms give 1e-9.
    let y = 1.0 / (2.0 * x * x);
    let series = -y + 3.0 * y * y - 15.0 * y * y * y;
    -x * x - libm::log(x) - 0.5 * libm::log(std::f64::consts::PI) + libm::log1p(series)
}

/// `ln A(alpha)` for an integer alpha, from `moment(k) = ln E_{P0}[(P1/P0)^k]`: the binomial theorem, exact.
/// 0 < q < 1.
pub(super) fn sampled_integer(q: f64, alpha: u32, moment: impl Fn(f64) -> f64) -> f64 {
    let (log_q, log_rest) = (libm::log(q), libm::log1p(-q));
    let n = f64::from(alpha);
    (0..=alpha)
        .map(f64::from)
        .fold(f64::NEG_INFINITY, |sum, k| log_add(sum, log_choose(n, k) + k * log_q + (n - k) * log_rest + moment(k)))
}

/// `ln A(alpha)` for any alpha >= 1 from the integers around it: `ln A` is convex in alpha, and 0 at 1.
pub(super) fn sampled_interpolated(q: f64, alpha: f64, moment: impl Fn(f64) -> f64) -> f64 {
    let below = alpha.floor();
    let part = alpha - below;
    let low = sampled_integer(q, below as u32, &moment);
    if part == 0.0 {
        return low;
    }
    low * (1.0 - part) + sampled_integer(q, below as u32 + 1, &moment) * part
}

/// Terms after which the series for a fractional order counts as not converged.
const FRACTIONAL_TERMS_MAX: u32 = 1000;

/// `ln A(alpha)` of the continuous Gaussian with noise multiplier z for a fractional alpha (section 3.3 of the paper:
/// two binomial series, split where their terms are equal). Infinite where it does not converge.
pub(super) fn sampled_gaussian_fractional(q: f64, z: f64, alpha: f64) -> f64 {
    let (log_q, log_rest, log_half) = (libm::log(q), libm::log1p(-q), -std::f64::consts::LN_2);
    let split = z * z * libm::log(1.0 / q - 1.0) + 0.5;
    let wide = std::f64::consts::SQRT_2 * z;
    let (mut sum, mut last) = (f64::NEG_INFINITY, (f64::NEG_INFINITY, f64::NEG_INFINITY));
    for i in (0..FRACTIONAL_TERMS_MAX).map(f64::from) {
        let j = alpha - i;
        let choose = log_choose(alpha, i);
        let low = choose + i * log_q + j * log_rest + (i * i - i) / (2.0 * z * z);
        let low = low + log_half + log_erfc((i - split) / wide);
        let high = choose + j * log_q + i * log_rest + (j * j - j) / (2.0 * z * z);
        let high = high + log_half + log_erfc((split - j) / wide);
        sum = log_add(sum, log_add(low, high));
        if low < last.0 && high < last.1 && low.max(high) < sum - 30.0 {
            return sum;
        }
        last = (low, high);
    }
    f64::INFINITY
}
