//! Privacy-loss random variables of the mechanisms that the [`super::pld`] accountant knows: how much probability each
//! of a dominating pair (P, Q) puts on losses up to epsilon and above.

use super::gaussian::normal_cdf;
use super::pld::Mechanism;
use super::{DpError, Sampling, check_sigma};

/// Probabilities of `loss <= epsilon` and `loss > epsilon` under both of the pair; kept apart so that either tail has
/// full relative precision.
#[derive(Clone, Copy)]
pub(super) struct Tails {
    pub p_up_to: f64,
    pub p_above: f64,
    pub q_up_to: f64,
    pub q_above: f64,
}

/// One direction of one mechanism.
pub(super) enum Source {
    /// P is the mixture `(1 - q) N(0, z^2) + q N(1, z^2)`, Q is `N(0, z^2)`: a patient was removed.
    Removed { z: f64, q: f64 },
    /// P and Q swapped: a patient was added.
    Added { z: f64, q: f64 },
    /// Laplace of this scale, shifted by one.
    Laplace { scale: f64 },
    /// A finite pair, by increasing loss.
    Atoms(Vec<Atom>),
}

/// All losses up to `loss` together.
#[derive(Clone, Copy)]
pub(super) struct Atom {
    loss: f64,
    up_to: Tails,
}

impl Source {
    /// The directions of a mechanism: two where they differ.
    pub fn of(mechanism: Mechanism, tail: f64) -> Result<Vec<Source>, DpError> {
        match mechanism {
            Mechanism::Gaussian { noise_multiplier, sampling } => {
                let (z, q) = (check_sigma(noise_multiplier)?, sampling.rate()?);
                let removed = Source::Removed { z, q };
                Ok(if q == 1.0 { vec![removed] } else { vec![removed, Source::Added { z, q }] })
            }
            Mechanism::Laplace { scale } => Ok(vec![Source::Laplace { scale: check_sigma(scale)? }]),
            Mechanism::DiscreteGaussian { sigma, sensitivity } => discrete_gaussian(sigma, sensitivity, tail),
            Mechanism::DiscreteLaplace { epsilon } => {
                check_sigma(epsilon).map_err(|_| DpError::Epsilon(epsilon))?;
                let high = 1.0 / (1.0 + libm::exp(-epsilon));
                let low = libm::exp(-epsilon) * high;
                Ok(vec![Source::Atoms(atoms(vec![(-epsilon, low, high), (epsilon, high, low)]))])
            }
        }
    }

    /// Losses outside of this range have probability at most `tail` on either side.
    pub fn range(&self, tail: f64) -> (f64, f64) {
        // P(N > y) <= e^(-y^2 / 2).
        let far = (-2.0 * libm::log(tail)).sqrt();
        match self {
            Source::Removed { z, q } => (loss(*z, *q, -far * z), loss(*z, *q, 1.0 + far * z)),
            Source::Added { z, q } => (-loss(*z, *q, far * z), -loss(*z, *q, -far * z)),
            Source::Laplace { scale } => (-1.0 / scale, 1.0 / scale),
            Source::Atoms(atoms) => {
                (atoms.first().map_or(0.0, |atom| atom.loss), atoms.last().map_or(0.0, |atom| atom.loss))
            }
        }
    }

    pub fn tails(&self, epsilon: f64) -> Tails {
        match self {
            Source::Removed { z, q } => mixture(*z, *q, point(*z, *q, epsilon)),
            Source::Added { z, q } => {
                let pair = mixture(*z, *q, point(*z, *q, -epsilon));
                Tails { p_up_to: pair.q_above, p_above: pair.q_up_to, q_up_to: pair.p_above, q_above: pair.p_up_to }
            }
            Source::Laplace { scale } => laplace(*scale, epsilon),
            Source::Atoms(atoms) => {
                let count = atoms.partition_point(|atom| atom.loss <= epsilon);
                let none = Tails { p_up_to: 0.0, p_above: 1.0, q_up_to: 0.0, q_above: 1.0 };
                count.checked_sub(1).and_then(|i| atoms.get(i)).map_or(none, |atom| atom.up_to)
            }
        }
    }
}

/// `ln(1 - q + q e^((2x - 1) / 2z^2))`.
fn loss(z: f64, q: f64, x: f64) -> f64 {
    let ratio = (x - 0.5) / (z * z);
    if q == 1.0 { ratio } else { super::moments::log_add(libm::log1p(-q), libm::log(q) + ratio) }
}

/// Where the loss is epsilon; minus infinity below the smallest loss.
fn point(z: f64, q: f64, epsilon: f64) -> f64 {
    let ratio = match q {
        1.0 => epsilon,
        // e^epsilon would overflow; (1 - q) is nothing beside it.
        q if epsilon > 500.0 => epsilon - libm::log(q),
        q => {
            let excess = libm::expm1(epsilon) / q;
            if excess <= -1.0 { f64::NEG_INFINITY } else { libm::log1p(excess) }
        }
    };
    z * z * ratio + 0.5
}

fn mixture(z: f64, q: f64, x: f64) -> Tails {
    let (zero, one) = (x / z, (x - 1.0) / z);
    let (q_up_to, q_above) = (normal_cdf(zero), normal_cdf(-zero));
    Tails {
        p_up_to: (1.0 - q) * q_up_to + q * normal_cdf(one),
        p_above: (1.0 - q) * q_above + q * normal_cdf(-one),
        q_up_to,
        q_above,
    }
}

/// P is Laplace around 0, Q around 1: the loss falls from `1 / scale` at 0 to `-1 / scale` at 1.
fn laplace(scale: f64, epsilon: f64) -> Tails {
    if epsilon >= 1.0 / scale {
        return Tails { p_up_to: 1.0, p_above: 0.0, q_up_to: 1.0, q_above: 0.0 };
    }
    if epsilon < -1.0 / scale {
        return Tails { p_up_to: 0.0, p_above: 1.0, q_up_to: 0.0, q_above: 1.0 };
    }
    let x = 0.5 * (1.0 - scale * epsilon);
    let p_up_to = 0.5 * libm::exp(-x / scale);
    let q_above = 0.5 * libm::exp((x - 1.0) / scale);
    Tails { p_up_to, p_above: 1.0 - p_up_to, q_up_to: 1.0 - q_above, q_above }
}

/// Atoms as (loss, P, Q) by increasing loss.
fn atoms(list: Vec<(f64, f64, f64)>) -> Vec<Atom> {
    let mut above = (0.0, 0.0);
    // From the top, so that the small upper tail is exact.
    let mut out: Vec<Atom> = list
        .iter()
        .rev()
        .map(|(loss, p, q)| {
            let up_to = Tails { p_up_to: 0.0, p_above: above.0, q_up_to: 0.0, q_above: above.1 };
            above = (above.0 + p, above.1 + q);
            Atom { loss: *loss, up_to }
        })
        .collect();
    out.reverse();
    let mut below = (0.0, 0.0);
    for (atom, (_, p, q)) in out.iter_mut().zip(&list) {
        below = (below.0 + p, below.1 + q);
        (atom.up_to.p_up_to, atom.up_to.q_up_to) = below;
    }
    out
}

/// Largest number of atoms on one side of a discrete Gaussian.
const ATOMS_MAX: f64 = 2e6;

/// Exact atoms of a one-dimensional discrete Gaussian against its shift; by symmetry one direction is enough. What
/// lies beyond the last atom has probability below `tail`, which the accountant counts as infinite loss.
fn discrete_gaussian(sigma: f64, sensitivity: u32, tail: f64) -> Result<Vec<Source>, DpError> {
    check_sigma(sigma)?;
    let shift = f64::from(sensitivity);
    super::check_sensitivity(shift)?;
    let reach = (sigma * (-2.0 * libm::log(tail * 1e-6)).sqrt() + shift + 2.0).ceil();
    if reach > ATOMS_MAX {
        return Err(DpError::SigmaTooLarge(sigma));
    }
    let reach = reach as i64;
    let weight = |x: f64| libm::exp(-x * x / (2.0 * sigma * sigma));
    let total: f64 = (-reach..=reach).map(|x| weight(x as f64)).sum();
    let atom = |x: i64| {
        let x = x as f64;
        let loss = (shift * shift - 2.0 * x * shift) / (2.0 * sigma * sigma);
        (loss, weight(x) / total, weight(x - shift) / total)
    };
    Ok(vec![Source::Atoms(atoms((-reach..=reach).rev().map(atom).collect()))])
}

impl Mechanism {
    /// A Gaussian without sampling.
    pub fn gaussian(noise_multiplier: f64) -> Self {
        Mechanism::Gaussian { noise_multiplier, sampling: Sampling::All }
    }
}
