//! Shamir's secret sharing (1979) over the scalar field of Curve25519 (prime order l = 2^252 + 277...).
//!
//! The share of party `i` (1-based, never 0: that point is the secret) is `f(i)` for a polynomial of degree `t - 1`
//! with `f(0)` the secret. Any `t` shares give it back; `t - 1` are independent of it.

use curve25519_dalek::scalar::Scalar;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A polynomial whose constant term is the secret. Wiped when dropped; no `Debug`.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Polynomial(Vec<Scalar>);

impl Polynomial {
    /// `secret` plus `threshold - 1` coefficients, uniform from `seed`.
    pub fn new(secret: Scalar, threshold: u16, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        // All at once: a growing vector would leave unwiped copies behind.
        let mut coefficients = Vec::with_capacity(usize::from(threshold.max(1)));
        coefficients.push(secret);
        for _ in 1..threshold {
            coefficients.push(scalar(&mut rng));
        }
        Polynomial(coefficients)
    }

    /// The share of party `index`; `None` for 0, which would be the secret.
    pub fn share(&self, index: u16) -> Option<Scalar> {
        let x = Scalar::from(index);
        (index != 0).then(|| self.0.iter().rev().fold(Scalar::ZERO, |sum, c| sum * x + c))
    }
}

/// A uniform scalar: 512 bits reduced modulo l, bias below 2^-250.
pub(crate) fn scalar(rng: &mut ChaCha20Rng) -> Scalar {
    let mut wide = [0u8; 64];
    rng.fill_bytes(&mut wide);
    let scalar = Scalar::from_bytes_mod_order_wide(&wide);
    wide.zeroize();
    scalar
}

/// Lagrange coefficients that take shares at `indices` to the polynomial's value at `at`.
/// `None` where an index is 0 or appears twice.
pub(crate) fn lagrange(indices: &[u16], at: u16) -> Option<Vec<Scalar>> {
    let at = Scalar::from(at);
    let mut coefficients = Vec::with_capacity(indices.len());
    for (i, xi) in indices.iter().enumerate() {
        let mut above = Scalar::ONE;
        let mut below = Scalar::ONE;
        for (j, xj) in indices.iter().enumerate() {
            if i != j {
                above *= at - Scalar::from(*xj);
                below *= Scalar::from(*xi) - Scalar::from(*xj);
            }
        }
        if *xi == 0 || below == Scalar::ZERO {
            return None;
        }
        coefficients.push(above * below.invert());
    }
    Some(coefficients)
}

/// The value that `coefficients` (from [`lagrange`]) give on `shares`, in the same order.
pub(crate) fn interpolate(coefficients: &[Scalar], shares: &[Scalar]) -> Scalar {
    coefficients.iter().zip(shares).map(|(c, s)| c * s).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subsets(n: u16, k: usize) -> Vec<Vec<u16>> {
        (0u32..1 << n)
            .filter(|bits| bits.count_ones() as usize == k)
            .map(|bits| (0..n).filter(|i| bits >> i & 1 == 1).map(|i| i + 1).collect())
            .collect()
    }

    #[test]
    fn any_t_of_n_give_the_secret_and_more_agree() {
        for n in 1..=7u16 {
            for t in 1..=n {
                let secret = Scalar::from(0xfeed_u64) + Scalar::from(n);
                let polynomial = Polynomial::new(secret, t, [t as u8; 32]);
                for k in usize::from(t)..=usize::from(n) {
                    for indices in subsets(n, k) {
                        let shares: Vec<_> = indices.iter().map(|i| polynomial.share(*i).unwrap()).collect();
                        assert_eq!(interpolate(&lagrange(&indices, 0).unwrap(), &shares), secret);
                    }
                }
            }
        }
    }

    /// Independence: t - 1 shares fit every secret. For any of them there is exactly one polynomial of degree t - 1
    /// through the shares and that secret, and it is a legitimate one.
    #[test]
    fn fewer_than_t_shares_fit_every_secret() {
        let (n, t) = (6u16, 4u16);
        let polynomial = Polynomial::new(Scalar::from(7u8), t, [9; 32]);
        for indices in subsets(n, usize::from(t) - 1) {
            let shares: Vec<_> = indices.iter().map(|i| polynomial.share(*i).unwrap()).collect();
            let short = interpolate(&lagrange(&indices, 0).unwrap(), &shares);
            assert_ne!(short, Scalar::from(7u8));
            // For any wished-for secret, some value of one more share leads to it.
            let mut all = indices.clone();
            let more = (1..=n).find(|i| !indices.contains(i)).unwrap();
            all.push(more);
            let coefficients = lagrange(&all, 0).unwrap();
            for wished in [Scalar::ZERO, Scalar::from(7u8), Scalar::from(u64::MAX)] {
                let known = interpolate(&coefficients[..shares.len()], &shares);
                let last = (wished - known) * coefficients[shares.len()].invert();
                let with: Vec<_> = shares.iter().copied().chain([last]).collect();
                assert_eq!(interpolate(&coefficients, &with), wished);
            }
        }
    }

    /// The share of one party is as good as random over the dealer's coins: no byte position is stuck.
    #[test]
    fn one_share_of_the_same_secret_takes_all_values() {
        let mut ones = [0u32; 248];
        let runs = 2000u32;
        for run in 0..runs {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&run.to_le_bytes());
            let share = Polynomial::new(Scalar::ONE, 2, seed).share(1).unwrap().to_bytes();
            for (bit, count) in ones.iter_mut().enumerate() {
                *count += u32::from(share[bit / 8] >> (bit % 8) & 1);
            }
        }
        // 6 sigma of a fair coin; a share that were the secret would have 248 stuck bits.
        let sigma = f64::from(runs).sqrt() / 2.0;
        for (bit, count) in ones.iter().enumerate() {
            assert!((f64::from(*count) - f64::from(runs) / 2.0).abs() < 6.0 * sigma, "bit {bit}: {count}");
        }
    }

    #[test]
    fn known_answer_by_hand() {
        // f(x) = 5 + 3x + 2x^2: f(1) = 10, f(2) = 19, f(4) = 49.
        let polynomial = Polynomial(vec![5u8.into(), 3u8.into(), 2u8.into()]);
        let shares: Vec<_> = [1, 2, 4].iter().map(|i| polynomial.share(*i).unwrap()).collect();
        assert_eq!(shares, [10u8, 19, 49].map(Scalar::from));
        assert_eq!(interpolate(&lagrange(&[1, 2, 4], 0).unwrap(), &shares), Scalar::from(5u8));
        assert_eq!(interpolate(&lagrange(&[1, 2, 4], 3).unwrap(), &shares), Scalar::from(32u8));
    }

    #[test]
    fn zero_and_repeated_points_are_refused() {
        assert!(Polynomial::new(Scalar::ONE, 2, [0; 32]).share(0).is_none());
        assert!(lagrange(&[0, 1], 0).is_none());
        assert!(lagrange(&[2, 3, 2], 0).is_none());
    }
}
