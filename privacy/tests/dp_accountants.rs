//! Both accountants against `../shared/vectors` (Google's dp_accounting, google-research/federated) and closed forms.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use leben_privacy::dp::pld::{self, Mechanism};
use leben_privacy::dp::rdp::{self, Curve, Orders};
use leben_privacy::dp::sensitivity::rounded_norm_l2;
use leben_privacy::dp::{DpError, Sampling, epsilon_micro, gaussian};
use serde_json::Value;

/// A release and how often.
#[derive(Clone, Copy)]
enum Step {
    Gauss(f64, u64),
    Sampled(f64, f64, u64),
    Laplace(f64, u64),
}

fn vectors(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

fn row(name: &str) -> Value {
    let rows = vectors(include_str!("fixtures/dp_vectors.json"));
    rows.into_iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row {name}"))
}

fn rows() -> Vec<(&'static str, Vec<Step>)> {
    use Step::*;
    vec![
        ("gauss s=0.5 T=1", vec![Gauss(0.5, 1)]),
        ("gauss s=1.0 T=1", vec![Gauss(1.0, 1)]),
        ("gauss s=2.0 T=1", vec![Gauss(2.0, 1)]),
        ("gauss s=4.0 T=1", vec![Gauss(4.0, 1)]),
        ("gauss s=4 T=100", vec![Gauss(4.0, 100)]),
        ("gauss s=10 T=50", vec![Gauss(10.0, 50)]),
        ("Abadi q=.01 s=4 T=10000", vec![Sampled(0.01, 4.0, 10_000)]),
        ("MNIST N=60000 B=256 s=1.1 15ep", vec![Sampled(256.0 / 60000.0, 1.1, 15 * 60000 / 256)]),
        ("MNIST N=60000 B=250 s=1.3 15ep", vec![Sampled(250.0 / 60000.0, 1.3, 15 * 60000 / 250)]),
        ("MNIST N=60000 B=256 s=1.12 60ep", vec![Sampled(256.0 / 60000.0, 1.12, 60 * 60000 / 256)]),
        ("q=.001 s=0.8 T=10000", vec![Sampled(0.001, 0.8, 10_000)]),
        ("hospital N=2000 B=64 s=1.0 T=310", vec![Sampled(64.0 / 2000.0, 1.0, 310)]),
        ("hospital N=20000 B=256 s=1.0 T=780", vec![Sampled(256.0 / 20000.0, 1.0, 780)]),
        ("q=1 s=1 (sanity)", vec![Sampled(1.0, 1.0, 1)]),
        ("lap b=1 T=1", vec![Laplace(1.0, 1)]),
        ("lap b=10 T=30", vec![Laplace(10.0, 30)]),
        ("hetero: gauss2 x3 + lap5 + q.02 s1.5 x200", vec![Gauss(2.0, 3), Laplace(5.0, 1), Sampled(0.02, 1.5, 200)]),
    ]
}

fn curve(steps: &[Step]) -> Curve {
    let orders = Orders::default();
    steps.iter().fold(Curve::zero(&orders), |sum, step| {
        let (one, times) = match *step {
            Step::Gauss(z, times) => (rdp::gaussian(&orders, z, Sampling::All), times),
            Step::Sampled(q, z, times) => (rdp::gaussian(&orders, z, Sampling::Poisson(q)), times),
            Step::Laplace(b, times) => (rdp::laplace(&orders, b, Sampling::All), times),
        };
        sum.plus(&one.unwrap().times(times)).unwrap()
    })
}

fn releases(steps: &[Step]) -> Vec<(Mechanism, u64)> {
    let release = |step: &Step| match *step {
        Step::Gauss(z, times) => (Mechanism::gaussian(z), times),
        Step::Sampled(q, z, times) => {
            (Mechanism::Gaussian { noise_multiplier: z, sampling: Sampling::Poisson(q) }, times)
        }
        Step::Laplace(scale, times) => (Mechanism::Laplace { scale }, times),
    };
    steps.iter().map(release).collect()
}

/// Every `kind@delta` of a row.
fn targets(row: &Value, kind: &str) -> Vec<(f64, f64)> {
    let prefix = format!("{kind}@");
    let target = |(key, value): (&String, &Value)| Some((key.strip_prefix(&prefix)?.parse().ok()?, value.as_f64()?));
    row.as_object().unwrap().iter().filter_map(target).collect()
}

#[test]
fn renyi_epsilons_are_those_of_the_vectors() {
    for (name, steps) in rows() {
        let targets = targets(&row(name), "rdp");
        assert!(!targets.is_empty());
        for (delta, want) in targets {
            let (got, order) = curve(&steps).epsilon(delta).unwrap();
            assert!((got / want - 1.0).abs() < 1e-3, "{name} at {delta}: {got} (order {order}), vectors say {want}");
        }
    }
}

#[test]
fn loss_epsilons_are_at_most_a_thousandth_above_the_vectors_and_not_below() {
    for (name, steps) in rows() {
        let targets = targets(&row(name), "pld");
        assert!(!targets.is_empty());
        for (delta, want) in targets {
            let got = pld::epsilon(&releases(&steps), delta).unwrap();
            println!("{name} at {delta}: {got:.7}, vectors {want:.7}, difference {:.1e}", got - want);
            // The vectors are upper bounds themselves, on a grid of 1e-4.
            assert!(got < want + 1e-3 && got > want - 1e-3, "{name} at {delta}: {got}, vectors say {want}");
        }
    }
}

/// Unsampled Gaussians, any number and mixture of them, have a closed form: the truth from below.
#[test]
fn composed_gaussians_are_never_below_the_closed_form() {
    for (mixture, delta) in [
        (vec![(0.5, 1)], 1e-5),
        (vec![(1.0, 1)], 1e-6),
        (vec![(4.0, 100)], 1e-5),
        (vec![(10.0, 50)], 1e-6),
        (vec![(30.0, 2000)], 1e-8),
        (vec![(2.0, 3), (7.0, 11), (20.0, 100)], 1e-6),
        (vec![(100.0, 1)], 1e-3),
    ] {
        let square: f64 = mixture.iter().map(|(z, k)| *k as f64 / (z * z)).sum();
        let truth = gaussian::epsilon(1.0 / f64::sqrt(square), delta).unwrap();
        let parts: Vec<_> = mixture.iter().map(|(z, k)| (Mechanism::gaussian(*z), *k)).collect();
        let got = pld::epsilon(&parts, delta).unwrap();
        assert!(got >= truth && got < truth + 1e-3, "{mixture:?} at {delta}: {got}, truth {truth}");
    }
}

/// One and two steps of a subsampled Gaussian by plain numerical integration, in both directions.
#[test]
fn subsampled_gaussians_are_never_below_direct_integration() {
    let (q, z, delta) = (0.1, 1.0, 1e-4);
    let density = |x: f64| (-x * x / (2.0 * z * z)).exp() / (z * (2.0 * std::f64::consts::PI).sqrt());
    let ratio = |x: f64| 1.0 - q + q * ((2.0 * x - 1.0) / (2.0 * z * z)).exp();
    let grid = 0.005;
    let points: Vec<f64> = (-2000..2200).map(|i| f64::from(i) * grid).collect();
    // Hockey stick of one step, then of two: integrate (p - e^eps q)+ over the plane.
    let one = |epsilon: f64, removed: bool| -> f64 {
        let part = |x: f64| {
            let (p, q) = if removed { (ratio(x), 1.0) } else { (1.0, ratio(x)) };
            (p - epsilon.exp() * q).max(0.0) * density(x) * grid
        };
        points.iter().map(|x| part(*x)).sum()
    };
    let coarse: Vec<(f64, f64)> = points.iter().step_by(5).map(|x| (ratio(*x), density(*x) * grid * 5.0)).collect();
    let two = |epsilon: f64, removed: bool| -> f64 {
        let mut sum = 0.0;
        for (r, m) in coarse.iter().filter(|(_, m)| *m > 1e-14) {
            for (s, n) in coarse.iter().filter(|(_, n)| *n > 1e-14) {
                let (p, q) = if removed { (r * s, 1.0) } else { (1.0, r * s) };
                sum += (p - epsilon.exp() * q).max(0.0) * m * n;
            }
        }
        sum
    };
    let smallest = |f: &dyn Fn(f64) -> f64| {
        let (mut low, mut high) = (0.0, 10.0);
        for _ in 0..24 {
            let middle = 0.5 * (low + high);
            if f(middle) > delta { low = middle } else { high = middle }
        }
        low
    };
    let mechanism = Mechanism::Gaussian { noise_multiplier: z, sampling: Sampling::Poisson(q) };
    let truth = smallest(&|e| one(e, true).max(one(e, false)));
    let got = pld::epsilon(&[(mechanism, 1)], delta).unwrap();
    assert!(got > truth - 1e-5 && got < truth + 1e-3, "one step: {got}, truth {truth}");
    let truth = smallest(&|e| two(e, true).max(two(e, false)));
    let got = pld::epsilon(&[(mechanism, 2)], delta).unwrap();
    assert!(got > truth - 1e-4 && got < truth + 1e-3, "two steps: {got}, truth {truth}");
}

#[test]
fn discrete_mechanisms_are_those_of_the_vectors_and_exact_enumeration_agrees() {
    for (name, sigma) in [("sigma=1", 1.0), ("sigma=2", 2.0), ("sigma=5", 5.0), ("sigma=20", 20.0)] {
        let row = row(&format!("discrete gaussian {name} sens=1"));
        let mechanism = Mechanism::DiscreteGaussian { sigma, sensitivity: 1 };
        let want = row["pld@1e-5"].as_f64().unwrap();
        let got = pld::epsilon(&[(mechanism, 1)], 1e-5).unwrap();
        assert!((got - want).abs() < 1e-3, "{name}: {got}, vectors say {want}");
        let want = row["pld T=100@1e-6"].as_f64().unwrap();
        let got = pld::epsilon(&[(mechanism, 100)], 1e-6).unwrap();
        // The vectors round each atom's loss up to their grid of 1e-4: up to 100 steps of it above.
        assert!(got < want + 1e-3 && got > want - 1e-2, "{name} x 100: {got}, vectors say {want}");
        // A hundred discrete Gaussians of sigma 5 and more are a continuous one in all but name.
        let truth = gaussian::epsilon(sigma / 10.0, 1e-6).unwrap();
        assert!(sigma < 5.0 || (got - truth).abs() < 1e-3, "{name} x 100: {got}, truth {truth}");
    }
    for (name, epsilon) in [("eps=0.1", 0.1), ("eps=1.0", 1.0)] {
        let want = row(&format!("discrete laplace {name}"))["pld T=10@1e-6"].as_f64().unwrap();
        let got = pld::epsilon(&[(Mechanism::DiscreteLaplace { epsilon }, 10)], 1e-6).unwrap();
        assert!((got - want).abs() < 1e-3, "{name}: {got}, vectors say {want}");
    }
}

/// A tiny mechanism, its privacy loss summed over every outcome: two draws of a discrete Gaussian of sigma 1.5,
/// sensitivity 2. Both accountants must be above, the loss accountant closely.
#[test]
fn a_tiny_mechanism_enumerated_outcome_by_outcome() {
    let (sigma, shift, delta) = (1.5f64, 2.0f64, 1e-4);
    let weight = |x: f64| (-x * x / (2.0 * sigma * sigma)).exp();
    let total: f64 = (-40..=40).map(|x| weight(f64::from(x))).sum();
    let outcomes: Vec<(f64, f64)> =
        (-40..=40).map(|x| (weight(f64::from(x)) / total, weight(f64::from(x) - shift) / total)).collect();
    let delta_at = |epsilon: f64| -> f64 {
        let pair =
            |(p, q): &(f64, f64)| outcomes.iter().map(|(r, s)| (p * r - epsilon.exp() * q * s).max(0.0)).sum::<f64>();
        outcomes.iter().map(pair).sum()
    };
    let (mut low, mut high) = (0.0, 20.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if delta_at(middle) > delta { low = middle } else { high = middle }
    }
    let mechanism = Mechanism::DiscreteGaussian { sigma, sensitivity: 2 };
    let by_loss = pld::epsilon(&[(mechanism, 2)], delta).unwrap();
    assert!(by_loss >= low && by_loss < high + 1e-3, "{by_loss}, truth {high}");
    let curve = rdp::integer_gaussian(&Orders::default(), shift / sigma, 0.0, Sampling::All).unwrap();
    let (by_renyi, _) = curve.times(2).epsilon(delta).unwrap();
    assert!(by_renyi >= high && by_renyi < high * 1.1, "{by_renyi}, truth {high}");
}

#[test]
fn sums_of_discrete_gaussians_are_those_of_the_vectors() {
    // The vectors used whole orders.
    let orders = Orders::new((2..=256).map(f64::from).collect()).unwrap();
    for row in vectors(include_str!("fixtures/ddg_vectors.json")) {
        let number = |key: &str| row[key].as_f64().unwrap();
        if row["name"].is_string() {
            let got = rounded_norm_l2(number("l2"), number("dim") as u64, number("beta")).unwrap();
            assert!((got / number("value") - 1.0).abs() < 1e-9, "{row}");
            continue;
        }
        let (n, sigma) = (number("n") as u16, number("local_sigma_int"));
        let tau = rdp::tau(sigma, n);
        assert!((tau - number("tau")).abs() <= 1e-9 * number("tau"), "tau {tau}: {row}");
        let (l2, l1, dim) = (number("l2_sens_int"), number("l1_sens_int"), number("dim") as u64);
        let curve = rdp::distributed_gaussian(&orders, sigma, n, l2, l1, dim).unwrap();
        let (got, order) = curve.times(number("steps") as u64).epsilon(number("delta")).unwrap();
        assert!((got / number("ddgauss_eps") - 1.0).abs() < 1e-3, "{got}: {row}");
        assert_eq!(order, number("ddg_order"));
    }
}

#[test]
fn closed_form_of_the_gaussian_and_the_conversion_from_concentrated_privacy() {
    let mut seen = 0;
    for row in vectors(include_str!("fixtures/dp_vectors.json")) {
        let name = row["name"].as_str().unwrap();
        if let Some((sigma, epsilon)) =
            name.strip_prefix("analytic gaussian sigma=").and_then(|s| s.split_once(" eps="))
        {
            let (sigma, epsilon) = (sigma.parse().unwrap(), epsilon.parse().unwrap());
            let want = row["delta"].as_f64().unwrap();
            let got = gaussian::delta(sigma, epsilon).unwrap();
            assert!((got / want - 1.0).abs() < 1e-6, "{name}: {got}, vectors say {want}");
            let back = gaussian::epsilon(sigma, want.min(0.99)).unwrap();
            assert!((back - epsilon).abs() < 1e-4, "{name}: {back}");
            seen += 1;
        }
        if let Some(rho) = name.strip_prefix("zCDP rho=") {
            let rho: f64 = rho.parse().unwrap();
            let orders = Orders::new((1..=256).map(|i| 1.0 + f64::from(i * i) * 0.003).collect()).unwrap();
            let (got, _) = Curve::of(&orders, |a| rho * a).epsilon(1e-6).unwrap();
            let want = row["eps_cks@1e-6"].as_f64().unwrap();
            assert!(got / want > 1.0 - 1e-9 && got / want < 1.0 + 1e-3, "{name}: {got}, vectors say {want}");
            seen += 1;
        }
    }
    assert_eq!(seen, 18);
}

/// The vectors' own row for it says 0, which is an error and no answer.
#[test]
fn sampling_without_replacement_is_refused_everywhere() {
    assert_eq!(row("sampled w/o repl n=50000 b=500 s=1.0 T=1000")["pld@1e-05"].as_f64(), Some(0.0));
    let orders = Orders::default();
    let sampling = Sampling::WithoutReplacement;
    assert_eq!(rdp::gaussian(&orders, 1.0, sampling), Err(DpError::WithoutReplacement));
    assert_eq!(rdp::laplace(&orders, 1.0, sampling), Err(DpError::WithoutReplacement));
    assert_eq!(rdp::integer_gaussian(&orders, 1.0, 0.0, sampling), Err(DpError::WithoutReplacement));
    let mechanism = Mechanism::Gaussian { noise_multiplier: 1.0, sampling };
    assert_eq!(pld::epsilon(&[(mechanism, 1)], 1e-5), Err(DpError::WithoutReplacement));
}

#[test]
fn bad_parameters_are_named() {
    let orders = Orders::default();
    let one = [(Mechanism::gaussian(1.0), 1)];
    for delta in [0.0, 1.0, -1.0, 2.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(pld::epsilon(&one, delta), Err(DpError::Delta(_))));
        assert!(matches!(Curve::zero(&orders).epsilon(delta), Err(DpError::Delta(_))));
        assert!(matches!(gaussian::epsilon(1.0, delta), Err(DpError::Delta(_))));
    }
    for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(rdp::gaussian(&orders, sigma, Sampling::All), Err(DpError::Sigma(_))));
        assert!(matches!(pld::epsilon(&[(Mechanism::gaussian(sigma), 1)], 1e-5), Err(DpError::Sigma(_))));
        assert!(matches!(rdp::laplace(&orders, sigma, Sampling::All), Err(DpError::Sigma(_))));
    }
    for rate in [0.0, -0.1, 1.1, f64::NAN] {
        assert!(matches!(rdp::gaussian(&orders, 1.0, Sampling::Poisson(rate)), Err(DpError::SamplingRate(_))));
    }
    for bad in [vec![1.0], vec![0.5], vec![2.0, f64::NAN], vec![-2.0], vec![f64::INFINITY]] {
        assert!(matches!(Orders::new(bad), Err(DpError::Order(_))));
    }
    for bad in [vec![], vec![3.0, 2.0], vec![2.0, 2.0], (2..1000).map(f64::from).collect()] {
        assert_eq!(Orders::new(bad), Err(DpError::Orders));
    }
    for epsilon in [-0.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(epsilon_micro(epsilon), Err(DpError::Epsilon(_))));
        assert!(matches!(gaussian::delta(1.0, epsilon), Err(DpError::Epsilon(_))));
    }
    let other = Curve::zero(&Orders::new(vec![2.0]).unwrap());
    assert_eq!(Curve::zero(&orders).plus(&other), Err(DpError::OrdersDiffer));
    assert!(matches!(pld::epsilon(&[], 1e-5), Err(DpError::Nothing(_))));
    assert!(matches!(pld::epsilon(&[(Mechanism::gaussian(1.0), 0)], 1e-5), Err(DpError::Nothing(_))));
    let many = [(Mechanism::Gaussian { noise_multiplier: 1.0, sampling: Sampling::Poisson(0.001) }, 1_000_000)];
    assert!(matches!(pld::epsilon(&many, 1e-15), Err(DpError::Resolution { .. })));
}

#[test]
fn epsilon_is_rounded_up() {
    assert_eq!(epsilon_micro(0.0), Ok(0));
    assert_eq!(epsilon_micro(1.0), Ok(1_000_001));
    assert_eq!(epsilon_micro(1e-9), Ok(1));
    for x in [0.1, 0.3, 2.999_999_5, 123.456] {
        let micro = epsilon_micro(x).unwrap();
        assert!(micro as f64 * 1e-6 >= x && (micro as f64) < x * 1e6 + 2.0);
    }
}
