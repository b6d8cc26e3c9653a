//! What a job's noise amounts to, and that the step from integer to continuous noise is as small as claimed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use leben_privacy::dp::guarantee::{Guarantee, Method, NoisySegment, Release, SILO_MIN, Unit, guarantee};
use leben_privacy::dp::rdp::{self, Orders};
use leben_privacy::dp::sensitivity::{clip_l2, integer_l1, rounded_difference_l2, rounded_norm_l2};
use leben_privacy::dp::{DpError, Sampling, gaussian};
use proptest::prelude::*;

fn release() -> Release {
    let segments = vec![NoisySegment { sigma: 1000.0, l2: 2000.0, dim: 50 }];
    let (unit, sampling) = (Unit::Patient, Sampling::All);
    Release { segments, unit, honest: 9, corrupt: 1, hospitals: 12, sampling, rounds: 5, per_round: 1 }
}

fn epsilon(guarantee: Guarantee) -> f64 {
    guarantee.epsilon_micro as f64 * 1e-6
}

/// k rounds of a sum with noise of h hospitals are one Gaussian: sigma sqrt(h) / (l2 sqrt(k)).
#[test]
fn the_unsampled_sum_is_the_closed_form_from_above() {
    let release = release();
    let got = guarantee(std::slice::from_ref(&release), 1e-6).unwrap();
    let truth = gaussian::epsilon(1000.0 * 3.0 / (2000.0 * 5.0f64.sqrt()), 1e-6).unwrap();
    assert_eq!(got.method, Method::PrivacyLoss);
    assert!(epsilon(got) >= truth && epsilon(got) < truth + 1e-3, "{} {truth}", epsilon(got));
    let (by_renyi, _) = release.curve(&Orders::default()).unwrap().times(5).epsilon(1e-6).unwrap();
    assert!(epsilon(got) < by_renyi);
    // Two segments with the same ratio count as one sqrt(2) larger; rounds add up over releases.
    let twice = Release { segments: [release.segments.clone(), release.segments.clone()].concat(), ..release.clone() };
    let ten = Release { rounds: 10, ..release.clone() };
    let (a, b) = (guarantee(&[twice], 1e-6).unwrap(), guarantee(std::slice::from_ref(&ten), 1e-6).unwrap());
    assert!((epsilon(a) - epsilon(b)).abs() < 1e-4);
    let parts = guarantee(&[ten.after(3), release.after(7), release.after(2)], 1e-6).unwrap();
    assert!((epsilon(parts) - epsilon(b)).abs() < 1e-4);
}

#[test]
fn sampling_helps_and_small_noise_falls_back_to_renyi() {
    let all = Release { rounds: 300, ..release() };
    let sampled = Release { sampling: Sampling::Poisson(0.02), ..all.clone() };
    let got = guarantee(&[sampled], 1e-6).unwrap();
    assert_eq!(got.method, Method::PrivacyLoss);
    assert!(epsilon(got) < 0.1 * epsilon(guarantee(&[all], 1e-6).unwrap()));
    // Noise of eight steps on ten million values is too far from continuous: the slack would eat delta.
    let coarse = Release { segments: vec![NoisySegment { sigma: 8.0, l2: 16.0, dim: 10_000_000 }], ..release() };
    assert_eq!(guarantee(&[coarse], 1e-6).unwrap().method, Method::Renyi);
}

#[test]
fn too_few_survivors_keep_the_sum_closed() {
    let release = release();
    assert_eq!(release.needed(), 10);
    assert_eq!(release.check_survivors(10), Ok(()));
    assert_eq!(release.check_survivors(9), Err(DpError::TooFewSurvivors { survivors: 9, needed: 10 }));
    let fewer = Release { honest: 4, ..release.clone() };
    let (less, more) = (guarantee(&[release], 1e-6).unwrap(), guarantee(&[fewer], 1e-6).unwrap());
    assert!(more.epsilon_micro > less.epsilon_micro);
}

#[test]
fn bad_terms_are_named() {
    let of = |release: Release| guarantee(&[release], 1e-6).unwrap_err();
    for (honest, corrupt, hospitals) in [(0, 1, 12), (12, 1, 12), (13, 0, 12), (u16::MAX, 1, u16::MAX)] {
        assert_eq!(
            of(Release { honest, corrupt, hospitals, ..release() }),
            DpError::Hospitals { honest, corrupt, hospitals }
        );
    }
    let segment = |sigma, l2, dim| Release { segments: vec![NoisySegment { sigma, l2, dim }], ..release() };
    assert_eq!(of(segment(3.9, 1.0, 1)), DpError::SigmaTooSmall(3.9));
    assert_eq!(of(segment(2e6, 1.0, 1)), DpError::SigmaTooLarge(2e6));
    assert!(matches!(of(segment(f64::NAN, 1.0, 1)), DpError::Sigma(_)));
    assert_eq!(of(segment(10.0, 0.0, 1)), DpError::Sensitivity(0.0));
    assert!(matches!(of(segment(10.0, f64::NAN, 1)), DpError::Sensitivity(_)));
    assert!(matches!(of(segment(10.0, 1.0, 0)), DpError::Nothing(_)));
    assert!(matches!(of(Release { segments: vec![], ..release() }), DpError::Nothing(_)));
    assert!(matches!(of(Release { rounds: 0, ..release() }), DpError::Nothing(_)));
    assert!(matches!(of(Release { per_round: 0, ..release() }), DpError::Nothing(_)));
    assert_eq!(of(Release { sampling: Sampling::Poisson(1.5), ..release() }), DpError::SamplingRate(1.5));
    assert_eq!(of(Release { sampling: Sampling::WithoutReplacement, ..release() }), DpError::WithoutReplacement);
    assert_eq!(guarantee(&[release()], 0.0), Err(DpError::Delta(0.0)));
    let silo = |hospitals, forced| Release { unit: Unit::Hospital { forced }, hospitals, ..release() };
    assert_eq!(of(silo(99, false)), DpError::TooFewForSilo { hospitals: 99, minimum: SILO_MIN });
    assert!(guarantee(&[silo(99, true)], 1e-6).is_ok() && guarantee(&[silo(100, false)], 1e-6).is_ok());
}

/// The claim of `dp::guarantee`: the divergence between a discrete Gaussian of variance V and a rounded continuous one
/// of variance V - 1/12 is below 3e-6 / V^4. Chi-square is above Kullback-Leibler, and sums without cancellation.
#[test]
fn the_divergence_of_rounded_noise_is_as_small_as_claimed() {
    for sigma in [4.0f64, 5.5, 8.0, 12.0] {
        let variance = sigma * sigma;
        let root = (variance - 1.0 / 12.0).sqrt();
        let weight = |x: f64| (-x * x / (2.0 * variance)).exp();
        let reach = (9.0 * sigma) as i32;
        let total: f64 = (-reach..=reach).map(|x| weight(f64::from(x))).sum();
        // The cell's mass by Simpson's rule on 64 panels: relative error below 1e-12.
        let density = |x: f64| (-x * x / (2.0 * root * root)).exp() / (root * (2.0 * std::f64::consts::PI).sqrt());
        let cell = |x: f64| {
            let at = |i: i32| density(x - 0.5 + f64::from(i) / 64.0);
            let inner: f64 = (1..64).map(|i| if i % 2 == 1 { 4.0 * at(i) } else { 2.0 * at(i) }).sum();
            (at(0) + inner + at(64)) / 192.0
        };
        let divergence: f64 = (-reach..=reach)
            .map(|x| {
                let (p, q) = (weight(f64::from(x)) / total, cell(f64::from(x)));
                (p - q).powi(2) / q
            })
            .sum();
        let scaled = divergence * variance.powi(4);
        // Chi-square is twice the Kullback-Leibler divergence of two laws this close.
        assert!(scaled < 2.0 * 3e-6 && scaled > 2.0 * 1e-6, "sigma {sigma}: {scaled}");
    }
}

/// Integer shifts have exactly the continuous moments: `E_{P0}[(P1/P0)^k]` summed over the lattice.
#[test]
fn integer_orders_of_subsampled_discrete_noise_are_exact() {
    let (sigma, shift, q) = (4.0f64, 3.0f64, 0.2f64);
    let weight = |x: f64| (-x * x / (2.0 * sigma * sigma)).exp();
    let total: f64 = (-300..=300).map(|x| weight(f64::from(x))).sum();
    for order in [2.0, 3.0, 7.0] {
        let moment = |removed: bool| -> f64 {
            let term = |x: i32| {
                let x = f64::from(x);
                let ratio = 1.0 - q + q * ((2.0 * x * shift - shift * shift) / (2.0 * sigma * sigma)).exp();
                weight(x) / total * if removed { ratio.powf(order) } else { ratio.powf(1.0 - order) }
            };
            (-300..=300).map(term).sum()
        };
        let orders = Orders::new(vec![order]).unwrap();
        let got = rdp::integer_gaussian(&orders, shift / sigma, 0.0, Sampling::Poisson(q)).unwrap().values()[0];
        let truth = moment(true).ln() / (order - 1.0);
        assert!((got / truth - 1.0).abs() < 1e-9, "order {order}: {got}, truth {truth}");
        assert!(moment(false) <= moment(true), "the other direction is smaller");
    }
    // Orders between are above the truth, and not by much.
    let got = rdp::integer_gaussian(&Orders::new(vec![2.5]).unwrap(), 0.75, 0.0, Sampling::Poisson(q)).unwrap();
    let exact = rdp::gaussian(&Orders::new(vec![2.5]).unwrap(), 1.0 / 0.75, Sampling::Poisson(q)).unwrap();
    assert!(got.values()[0] >= exact.values()[0] && got.values()[0] < 1.1 * exact.values()[0]);
}

#[test]
fn sensitivities_refuse_what_makes_no_sense() {
    assert!(matches!(rounded_difference_l2(f64::NAN, 4), Err(DpError::Sensitivity(_))));
    assert!(matches!(rounded_difference_l2(1.0, 0), Err(DpError::Nothing(_))));
    assert!(matches!(rounded_norm_l2(1.0, 4, 1.0), Err(DpError::Delta(_))));
    assert!(matches!(clip_l2(&mut [1.0], 0.0), Err(DpError::Sensitivity(_))));
    assert_eq!(integer_l1(3.0, 100), 9.0);
}

proptest! {
    #[test]
    fn a_clipped_example_is_within_its_bound(mut values in prop::collection::vec(any::<f32>(), 1..40), bound in 1e-6f64..1e6) {
        let finite: Vec<f32> = values.iter().map(|x| if x.is_finite() { *x } else { 0.0 }).collect();
        let before = clip_l2(&mut values, bound).unwrap();
        let norm = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        prop_assert!(norm <= bound);
        if before <= bound {
            prop_assert_eq!(values, finite);
        }
    }

    /// Two vectors apart by one patient, rounded with the same thresholds, stay within the bound.
    #[test]
    fn rounding_moves_neighbours_apart_by_at_most_root_dim(
        pairs in prop::collection::vec((-1000.0f64..1000.0, -3.0f64..3.0, 0.0f64..1.0), 1..60)
    ) {
        let l2 = pairs.iter().map(|(_, d, _)| d * d).sum::<f64>().sqrt().max(1e-9);
        let apart = pairs.iter().map(|(x, d, u)| ((x + d + u).floor() - (x + u).floor()).powi(2)).sum::<f64>().sqrt();
        prop_assert!(apart <= rounded_difference_l2(l2, pairs.len() as u64).unwrap() + 1e-9);
        let norm = pairs.iter().map(|(_, d, u)| (d + u).floor().powi(2)).sum::<f64>().sqrt();
        prop_assert!(norm <= rounded_norm_l2(l2, pairs.len() as u64, 0.0).unwrap() + 1e-9);
    }
}
