//! The exact samplers against an independent implementation, their formulas, and their limits.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use leben_privacy::dp::DpError;
use leben_privacy::dp::sample::{Bits, DiscreteGaussian, DiscreteLaplace, Variance};
use proptest::prelude::*;

fn gaussians(variance: Variance, seed: u8, draws: usize) -> Vec<i64> {
    let (law, mut bits) = (DiscreteGaussian::new(variance), Bits::new([seed; 32]));
    (0..draws).map(|_| law.sample(&mut bits)).collect()
}

/// `sampler_draws.json` comes from a Python program with exact fractions and its own ChaCha20, written from the paper.
#[test]
fn draws_are_those_of_an_independent_implementation() {
    let cases: serde_json::Value = serde_json::from_str(include_str!("fixtures/sampler_draws.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let seed: [u8; 32] = hex::decode(case["seed"].as_str().unwrap()).unwrap().try_into().unwrap();
        let (num, den) = (case["num"].as_u64().unwrap(), case["den"].as_u64().unwrap());
        let mut bits = Bits::new(seed);
        for (i, want) in case["draws"].as_array().unwrap().iter().enumerate() {
            let got = match case["kind"].as_str().unwrap() {
                "gaussian" => DiscreteGaussian::new(Variance::new(num, den).unwrap()).sample(&mut bits),
                _ => DiscreteLaplace::new(num, den).unwrap().sample(&mut bits),
            };
            assert_eq!(Some(got), want.as_i64(), "draw {i} of {num}/{den}");
        }
    }
}

/// Chi-square of counts against expected probabilities, cells below 10 expected pooled; returns (statistic, cells).
fn chi_square(draws: &[i64], weight: impl Fn(i64) -> f64, reach: i64) -> (f64, f64) {
    let total: f64 = (-reach..=reach).map(&weight).sum();
    let n = draws.len() as f64;
    let mut counts = std::collections::HashMap::new();
    draws.iter().for_each(|x| *counts.entry(*x).or_insert(0u32) += 1);
    let (mut statistic, mut cells, mut pooled) = (0.0, 0.0, (0.0, 0.0));
    for x in -reach..=reach {
        let expected = weight(x) / total * n;
        let count = f64::from(counts.remove(&x).unwrap_or(0));
        pooled = (pooled.0 + expected, pooled.1 + count);
        if pooled.0 >= 10.0 {
            statistic += (pooled.1 - pooled.0).powi(2) / pooled.0;
            cells += 1.0;
            pooled = (0.0, 0.0);
        }
    }
    assert!(counts.is_empty(), "draws beyond {reach}: {counts:?}");
    (statistic, cells - 1.0)
}

/// Wilson-Hilferty: the statistic as a standard normal.
fn normal_score((statistic, freedom): (f64, f64)) -> f64 {
    let spread = 2.0 / (9.0 * freedom);
    ((statistic / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
}

#[test]
fn gaussian_frequencies_fit_the_exact_law_and_no_near_one() {
    for (i, (num, den)) in [(16u64, 1u64), (25, 1), (100, 3), (10_000, 7)].into_iter().enumerate() {
        let variance = Variance::new(num, den).unwrap();
        let draws = gaussians(variance, i as u8, 300_000);
        let law = |v: f64| move |x: i64| (-((x * x) as f64) / (2.0 * v)).exp();
        let reach = (12.0 * variance.sigma()) as i64;
        assert!(normal_score(chi_square(&draws, law(variance.value()), reach)).abs() < 4.5, "{num}/{den}");
        // Power: five per cent more variance is noticed.
        assert!(normal_score(chi_square(&draws, law(variance.value() * 1.05), reach)) > 5.0, "{num}/{den}");
    }
}

#[test]
fn laplace_frequencies_fit_the_exact_law() {
    for (i, (num, den)) in [(1u64, 1u64), (10, 3), (20, 1)].into_iter().enumerate() {
        let (law, mut bits) = (DiscreteLaplace::new(num, den).unwrap(), Bits::new([i as u8 + 50; 32]));
        let draws: Vec<i64> = (0..300_000).map(|_| law.sample(&mut bits)).collect();
        let scale = num as f64 / den as f64;
        let weight = |x: i64| (-(x.abs() as f64) / scale).exp();
        assert!(normal_score(chi_square(&draws, weight, (40.0 * scale) as i64)).abs() < 4.5, "{num}/{den}");
    }
}

#[test]
fn mean_variance_and_tails_are_right_at_the_largest_and_a_usual_sigma() {
    for sigma in [1000.0f64, 1_048_576.0] {
        let variance = Variance::at_least(sigma).unwrap();
        assert!(variance.sigma() >= sigma && variance.sigma() < sigma * (1.0 + 1e-6));
        let n = 200_000;
        let draws = gaussians(variance, 9, n);
        let scaled: Vec<f64> = draws.iter().map(|x| *x as f64 / variance.sigma()).collect();
        let mean = scaled.iter().sum::<f64>() / n as f64;
        let square = scaled.iter().map(|x| x * x).sum::<f64>() / n as f64;
        let fourth = scaled.iter().map(|x| x.powi(4)).sum::<f64>() / n as f64;
        // Standard errors: 1, sqrt 2 and sqrt 96 over sqrt n.
        let error = (n as f64).sqrt();
        assert!(mean.abs() * error < 5.0, "mean {mean}");
        assert!((square - 1.0).abs() * error < 5.0 * 2.0f64.sqrt(), "variance {square}");
        assert!((fourth - 3.0).abs() * error < 5.0 * 96.0f64.sqrt(), "fourth moment {fourth}");
        let beyond = |t: f64| scaled.iter().filter(|x| x.abs() > t).count() as f64 / n as f64;
        for (t, p) in [(1.0, 0.317_310_5), (2.0, 0.045_500_3), (3.0, 0.002_699_8)] {
            assert!((beyond(t) - p).abs() < 5.0 * (p / n as f64).sqrt() + 1e-3 / sigma, "beyond {t}: {}", beyond(t));
        }
        // Odd and even are equally likely: no bit of the draw is stuck.
        let odd = draws.iter().filter(|x| **x % 2 != 0).count() as f64 / n as f64;
        assert!((odd - 0.5).abs() * error < 2.5);
    }
}

#[test]
fn variances_out_of_range_are_refused() {
    assert_eq!(Variance::at_least(3.999), Err(DpError::SigmaTooSmall(3.999)));
    assert_eq!(Variance::at_least(0.0), Err(DpError::Sigma(0.0)));
    assert_eq!(Variance::at_least(-1.0), Err(DpError::Sigma(-1.0)));
    assert!(matches!(Variance::at_least(f64::NAN), Err(DpError::Sigma(x)) if x.is_nan()));
    assert_eq!(Variance::at_least(1.1e6), Err(DpError::SigmaTooLarge(1.1e6)));
    assert!(matches!(Variance::new(15, 1), Err(DpError::SigmaTooSmall(_))));
    assert!(matches!(Variance::new(16, 0), Err(DpError::SigmaTooLarge(_))));
    assert!(matches!(Variance::new(16, 1025), Err(DpError::SigmaTooLarge(_))));
    assert!(matches!(Variance::new(u64::MAX, 1), Err(DpError::SigmaTooLarge(_))));
    assert_eq!(DiscreteLaplace::new(0, 1), Err(DpError::Sigma(0.0)));
    assert_eq!(DiscreteLaplace::new(1, 0), Err(DpError::Sigma(0.0)));
}

proptest! {
    #[test]
    fn any_variance_draws_within_forty_deviations_and_repeats(sigma in 4.0f64..1_048_576.0, seed: [u8; 32]) {
        let variance = Variance::at_least(sigma).unwrap();
        prop_assert!(variance.sigma() >= sigma);
        let law = DiscreteGaussian::new(variance);
        let draw = |count| { let mut bits = Bits::new(seed); (0..count).map(|_| law.sample(&mut bits)).collect::<Vec<_>>() };
        let draws = draw(64);
        prop_assert!(draws.iter().all(|x| (*x as f64).abs() < 40.0 * sigma));
        prop_assert_eq!(&draws[..16], &draw(16)[..]);
    }
}
