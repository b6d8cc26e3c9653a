//! The privacy-loss accountant: the distribution of the loss on a grid, composed by FFT, always from above.
//!
//! * Discretisation: connect the dots (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, arXiv:2207.04380). The mass
//!   of an interval goes to its two ends so that both P's and Q's mass are kept; the hockey-stick divergence is then
//!   right on the grid and its chord (in e^epsilon) between: never below the true one, and the excess falls with the
//!   square of the step. Rounding in the masses moves mass to the upper end.
//! * What falls off the upper end counts as an infinite loss; what falls off the lower end is raised to it.
//! * Composition: FFT over a window outside of which at most `1e-4 delta` lies (Chernoff), added to the infinite loss,
//!   together with an allowance for the rounding errors of the FFT.
//! * Where add and remove differ, both are composed and the larger epsilon counts (Zhu, Dong, Wang 2022: the
//!   directions dominate separately).

use rayon::prelude::*;
use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

use super::losses::{Source, Tails};
use super::{DpError, Sampling, check_delta};

/// A mechanism with a known dominating pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mechanism {
    /// Gaussian noise on reals; standard deviation over L2 sensitivity; all or Poisson.
    Gaussian {
        /// Above zero.
        noise_multiplier: f64,
        /// How patients come in.
        sampling: Sampling,
    },
    /// Laplace noise on reals; scale over L1 sensitivity.
    Laplace {
        /// Above zero.
        scale: f64,
    },
    /// Discrete Gaussian noise on **one** integer.
    DiscreteGaussian {
        /// Standard deviation.
        sigma: f64,
        /// How far one patient moves the integer.
        sensitivity: u32,
    },
    /// Discrete Laplace noise on one integer that one patient moves by one, of this pure epsilon.
    DiscreteLaplace {
        /// Above zero.
        epsilon: f64,
    },
}

/// The usual step of the grid, in units of epsilon.
const STEP: f64 = 1e-4;
/// Largest window, in steps; beyond it the grid is coarsened.
const WINDOW_MAX: usize = 1 << 22;
/// Share of delta that each of the windowings may cost.
const TAIL_SHARE: f64 = 1e-4;

/// Epsilon at delta of all releases together, from above.
///
/// # Errors
/// Parameters: as the variants say. [`DpError::Resolution`] where delta is too small for the number of steps,
/// [`DpError::NoEpsilon`], [`DpError::WithoutReplacement`].
pub fn epsilon(releases: &[(Mechanism, u64)], delta: f64) -> Result<f64, DpError> {
    check_delta(delta)?;
    let steps = releases.iter().fold(0u64, |sum, (_, steps)| sum.saturating_add(*steps));
    if releases.is_empty() || steps == 0 {
        return Err(DpError::Nothing("composition without steps"));
    }
    let tail = delta * TAIL_SHARE / steps as f64;
    let sources: Vec<(Vec<Source>, u64)> =
        releases.iter().map(|(m, steps)| Ok((Source::of(*m, tail)?, *steps))).collect::<Result<_, DpError>>()?;
    // The excess of each step grows with the square of the grid: keep the sum below 1e-3.
    let mut step = (1e-3 / steps as f64).sqrt().clamp(1e-6, STEP);
    for _ in 0..48 {
        let removed = direction(&sources, 0, step, tail, delta)?;
        let added = direction(&sources, 1, step, tail, delta)?;
        if let (Some(removed), Some(added)) = (removed, added) {
            return Ok(removed.max(added));
        }
        step *= 2.0;
    }
    Err(DpError::NoEpsilon(delta))
}

/// One direction of all releases; `None` where the window is too wide for this step.
fn direction(
    sources: &[(Vec<Source>, u64)],
    side: usize,
    step: f64,
    tail: f64,
    delta: f64,
) -> Result<Option<f64>, DpError> {
    if side > 0 && sources.iter().all(|(sides, _)| sides.len() == 1) {
        return Ok(Some(0.0));
    }
    let mut parts = Vec::with_capacity(sources.len());
    for (sides, steps) in sources.iter().filter(|(_, steps)| *steps > 0) {
        let Some(source) = sides.get(side).or(sides.first()) else { continue };
        let Some(loss) = Loss::discretise(source, step, tail) else { return Ok(None) };
        parts.push((loss, *steps));
    }
    let Some(total) = compose(&parts, delta)? else { return Ok(None) };
    total.epsilon(delta).map(Some)
}

/// A privacy-loss distribution on the grid `step * index`, from above.
struct Loss {
    step: f64,
    first: i64,
    mass: Vec<f64>,
    infinite: f64,
}

impl Loss {
    fn discretise(source: &Source, step: f64, tail: f64) -> Option<Loss> {
        let (low, high) = source.range(tail);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        if !(first.is_finite() && last.is_finite() && last - first < WINDOW_MAX as f64) {
            return None;
        }
        let (first, last) = (first as i64, last as i64);
        let tails: Vec<Tails> = (first..=last).into_par_iter().map(|i| source.tails(i as f64 * step)).collect();
        let mut mass = vec![0.0; tails.len()];
        for (i, pair) in tails.windows(2).enumerate() {
            let [low, high] = pair else { continue };
            let (at_low, at_high) = split(low, high, (first + i as i64) as f64 * step, step);
            mass.iter_mut().skip(i).zip([at_low, at_high]).for_each(|(mass, part)| *mass += part);
        }
        if let (Some(lowest), Some(tails)) = (mass.first_mut(), tails.first()) {
            *lowest += tails.p_up_to;
        }
        Some(Loss { step, first, mass, infinite: tails.last().map_or(0.0, |tails| tails.p_above) + tail })
    }

    /// `ln E[e^(t loss)]` over the finite part, t of either sign.
    fn log_moment(&self, t: f64) -> f64 {
        let peak =
            (t * self.step * self.first as f64).max(t * self.step * (self.first as f64 + self.mass.len() as f64));
        let term = |(i, m): (usize, &f64)| m * libm::exp(t * self.step * (self.first as f64 + i as f64) - peak);
        peak + libm::log(self.mass.par_iter().enumerate().map(term).sum::<f64>())
    }

    /// The smallest epsilon at which the hockey-stick divergence is at most delta.
    fn epsilon(&self, delta: f64) -> Result<f64, DpError> {
        if self.infinite >= delta {
            return Err(DpError::NoEpsilon(delta));
        }
        // delta(e) = infinite + sum over losses above e of m (1 - e^(e - loss)) = infinite + p - e^e q.
        let (mut p, mut q) = (0.0f64, 0.0f64);
        for (i, mass) in self.mass.iter().enumerate().rev() {
            let at = self.first + i as i64;
            let loss = at as f64 * self.step;
            if loss < 0.0 {
                break;
            }
            p += mass;
            q += mass * libm::exp(-loss);
            let below = (loss - self.step).max(0.0);
            if self.infinite + p - libm::exp(below) * q > delta {
                let exact = libm::log((self.infinite + p - delta) / q);
                return Ok(exact.clamp(below, loss));
            }
        }
        Ok(0.0)
    }
}

/// The two masses that stand for the interval `(epsilon, epsilon + step]`.
fn split(low: &Tails, high: &Tails, epsilon: f64, step: f64) -> (f64, f64) {
    let p = between(low.p_up_to, high.p_up_to, low.p_above, high.p_above);
    let q = between(low.q_up_to, high.q_up_to, low.q_above, high.q_above);
    if p.0 <= 0.0 {
        return (0.0, p.1);
    }
    let scale = libm::exp(epsilon);
    let mass = p.0 + p.1;
    // p - q e^epsilon is what must lie above epsilon; both rounding errors count upwards.
    let excess = p.0 - q.0 * scale + p.1 + q.1 * scale;
    let up = (excess / -libm::expm1(-step)).clamp(0.0, mass);
    (mass - up, up)
}

/// A probability as the difference of the smaller tails, and a bound on its rounding error: `erfc` and its argument are
/// good to a few ulp, and an error of the argument x counts `x^2 ~ 2 ln(1/tail)` times.
fn between(low_up_to: f64, high_up_to: f64, low_above: f64, high_above: f64) -> (f64, f64) {
    let (large, small) = if high_up_to < low_above { (high_up_to, low_up_to) } else { (low_above, high_above) };
    if large <= 0.0 {
        return (0.0, 0.0);
    }
    (large - small, 4.0 * f64::EPSILON * large * (1.0 - libm::log(large)))
}

/// The sum of independent losses; `None` where the window would be too wide.
fn compose(parts: &[(Loss, u64)], delta: f64) -> Result<Option<Loss>, DpError> {
    let Some((first, _)) = parts.first() else { return Err(DpError::Nothing("composition without steps")) };
    let step = first.step;
    let steps: u64 = parts.iter().map(|(_, steps)| *steps).sum();
    let high = (bound(parts, delta, 1.0) / step).ceil();
    let low = (-bound(parts, delta, -1.0) / step).floor();
    let width = high - low + 2.0;
    if !(width > 0.0 && width < WINDOW_MAX as f64) {
        return Ok(None);
    }
    let size = (width as usize).next_power_of_two().max(16);
    let (sum, base) = convolve(parts, size)?;
    let low = low as i64;
    let at = |i: usize| (i128::from(low) + i as i128 - base).rem_euclid(size as i128) as usize;
    let mass: Vec<f64> = (0..size).map(|i| sum.get(at(i)).map_or(0.0, |m| m.max(0.0))).collect();
    let norm = mass.iter().map(|m| m * m).sum::<f64>().sqrt();
    let rounds = 8.0 * (size as f64).log2() + 2.0 * steps as f64;
    // Errors of an FFT are spread evenly: their norm is a multiple of the result's, their sum at most sqrt(size) more.
    let allowance = f64::EPSILON * rounds * (size as f64).sqrt() * norm;
    if allowance > 0.01 * delta {
        return Err(DpError::Resolution { delta, steps });
    }
    let lost: f64 = parts.iter().map(|(loss, steps)| loss.infinite * *steps as f64).sum();
    Ok(Some(Loss { step, first: low, mass, infinite: lost + TAIL_SHARE * delta + allowance }))
}

/// Chernoff: the sum of `side * loss` is above this with probability at most `TAIL_SHARE * delta`.
fn bound(parts: &[(Loss, u64)], delta: f64, side: f64) -> f64 {
    let log_tail = -libm::log(TAIL_SHARE * delta);
    let at = |log_t: f64| {
        let t = libm::exp(log_t);
        let moments: f64 = parts.iter().map(|(loss, steps)| loss.log_moment(side * t) * *steps as f64).sum();
        (moments + log_tail) / t
    };
    // Quasi-convex in t: golden section over t from e^-9 to e^9. Any t gives a bound, the best one the narrowest.
    let ratio = 0.5 * (5.0f64.sqrt() - 1.0);
    let (mut low, mut high) = (-9.0f64, 9.0f64);
    let mut best = f64::INFINITY;
    let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_left, mut at_right) = (at(left), at(right));
    for _ in 0..14 {
        best = best.min(at_left).min(at_right);
        if at_left < at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - ratio * (high - low);
            at_left = at(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + ratio * (high - low);
            at_right = at(right);
        }
    }
    // No sum goes beyond the ends of its parts.
    let ends = parts.iter().map(|(loss, steps)| {
        let end = if side > 0.0 { loss.first + loss.mass.len() as i64 } else { -loss.first };
        end as f64 * loss.step * *steps as f64
    });
    best.min(ends.sum())
}

/// The cyclic convolution of all parts, and the grid index of its first place.
fn convolve(parts: &[(Loss, u64)], size: usize) -> Result<(Vec<f64>, i128), DpError> {
    let failed = |_| DpError::Nothing("Fourier transform");
    let mut planner = RealFftPlanner::<f64>::new();
    let forward = planner.plan_fft_forward(size);
    let mut product = vec![Complex::new(1.0, 0.0); size / 2 + 1];
    let mut base = 0i128;
    for (loss, steps) in parts {
        let mut wrapped = vec![0.0; size];
        for run in loss.mass.chunks(size) {
            wrapped.iter_mut().zip(run).for_each(|(place, mass)| *place += mass);
        }
        let mut spectrum = forward.make_output_vec();
        forward.process(&mut wrapped, &mut spectrum).map_err(failed)?;
        product.par_iter_mut().zip(&spectrum).for_each(|(all, one)| *all *= power(*one, *steps));
        base += i128::from(loss.first) * i128::from(*steps);
    }
    // Real input: the ends of the spectrum are real, up to rounding.
    for end in [0, size / 2] {
        if let Some(place) = product.get_mut(end) {
            place.im = 0.0;
        }
    }
    let mut sum = vec![0.0; size];
    planner.plan_fft_inverse(size).process(&mut product, &mut sum).map_err(failed)?;
    sum.iter_mut().for_each(|m| *m /= size as f64);
    Ok((sum, base))
}

fn power(mut x: Complex<f64>, mut k: u64) -> Complex<f64> {
    let mut out = Complex::new(1.0, 0.0);
    while k > 0 {
        if k & 1 == 1 {
            out *= x;
        }
        x *= x;
        k >>= 1;
    }
    out
}
