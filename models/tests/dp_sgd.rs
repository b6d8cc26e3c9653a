//! DP-SGD inside the hospital: sampled by coins, clipped, noisy, from a secret; its epsilon is the subsampled accountant's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "support/noise.rs"]
mod noise;
mod support;

use leben_models::{Algorithm, AlgorithmSpec, Finding, State, Table, pooled, registry};
use leben_privacy::Unmasked;
use leben_privacy::dp::Sampling;
use leben_privacy::dp::guarantee::guarantee;
use leben_privacy::dp::rdp::{self, Orders};
use noise::{Random, built, run, secret, table};
use support::{split, wdbc};

fn spec(sigma: &str, epsilon: &str) -> AlgorithmSpec {
    AlgorithmSpec::new("dp-sgd", [("features", "a,b"), ("outcome", "y"), ("bounds", "a:-1..1,b:-1..1")])
        .with("sigma", sigma)
        .with("epsilon", epsilon)
        .with("rate", "0.05")
        .with("batch", 50)
}

fn update(algorithm: &dyn Algorithm, state: &State, rows: &Table, secret: &[u8; 32]) -> Vec<f64> {
    let layout = algorithm.layout(state, 1).unwrap();
    let own = algorithm.local_with(state, rows, secret).unwrap();
    Unmasked::from_plain(&layout, vec![own]).unwrap().segment("update").unwrap().to_vec()
}

fn auc(scores: &[f64], y: &[f64]) -> f64 {
    let mut order: Vec<(f64, f64)> = scores.iter().copied().zip(y.iter().copied()).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut negatives, mut pairs) = (0.0, 0.0);
    for (_, class) in &order {
        if *class == 1.0 { pairs += negatives } else { negatives += 1.0 }
    }
    pairs / (negatives * (y.len() as f64 - negatives))
}

#[test]
fn the_local_half_needs_a_secret_and_depends_on_it() {
    let algorithm = built(&spec("1", "5"));
    let state = algorithm.start(None).unwrap();
    let rows = table(vec![("a", vec![0.5; 40]), ("b", vec![-0.5; 40]), ("y", vec![1.0; 40])]);
    assert!(matches!(algorithm.local(&state, &rows), Err(Finding::Privacy { .. })));
    let one = update(algorithm.as_ref(), &state, &rows, &secret(1, 0));
    assert_eq!(one, update(algorithm.as_ref(), &state, &rows, &secret(1, 0)), "a chunk asked for again is the same");
    assert_ne!(one, update(algorithm.as_ref(), &state, &rows, &secret(2, 0)));
    // The same secret under another model: unrelated noise, not the same noise twice.
    let moved = state.clone().with("round", vec![1.0]);
    let other = update(algorithm.as_ref(), &moved, &rows, &secret(1, 0));
    assert!(one.iter().zip(&other).all(|(a, b)| a != b));
}

/// One step from zero: the update is -rate_of_learning / batch times (sum of sampled clipped gradients + noise).
#[test]
fn sample_clip_and_noise_are_what_the_parameters_say() {
    let one_step = |sigma: &str, clip: &str| {
        let spec = spec(sigma, "1000").with("rounds", 1).with("steps", 1).with("learning_rate", "1").with("batch", 1);
        built(&spec.with("rate", "0.3").with("gradient_clip", clip).with("delta", "0.001"))
    };
    let n = 400;
    // At zero each gradient is -0.5 (1, 1, 1), of norm 0.87; clipped to 0.1 it is -0.0577 each.
    let rows = table(vec![("a", vec![1.0; n]), ("b", vec![1.0; n]), ("y", vec![1.0; n])]);
    let (mut worst_mean, mut worst_ratio) = (0.0_f64, 0.0_f64);
    for (sigma, clip, each) in [("0.5", "0.1", 0.1 / 3.0_f64.sqrt()), ("40", "10", 0.5)] {
        let algorithm = one_step(sigma, clip);
        let state = algorithm.start(None).unwrap();
        let draws: Vec<Vec<f64>> =
            (0..1500).map(|seed| update(algorithm.as_ref(), &state, &rows, &secret(seed, 0))).collect();
        let noise = sigma.parse::<f64>().unwrap() * clip.parse::<f64>().unwrap();
        // A binomial number of patients, each with the same gradient.
        let (mean, variance) = (each * 0.3 * n as f64, each * each * 0.21 * n as f64 + noise * noise);
        for i in 0..3 {
            let seen = draws.iter().map(|draw| draw[i]).sum::<f64>() / 1500.0;
            let spread = draws.iter().map(|draw| (draw[i] - mean).powi(2)).sum::<f64>() / 1500.0;
            worst_mean = worst_mean.max((seen - mean).abs() / (variance / 1500.0).sqrt());
            worst_ratio = worst_ratio.max((spread / variance - 1.0).abs());
        }
    }
    assert!(worst_mean < 4.5 && worst_ratio < 5.0 * (2.0 / 1500.0_f64).sqrt(), "{worst_mean} {worst_ratio}");
}

#[test]
fn epsilon_is_the_subsampled_accountants() {
    let algorithm = built(&spec("1", "4").with("rounds", 4).with("steps", 15));
    let releases = algorithm.releases(3).unwrap();
    assert_eq!(releases[0].rounds * releases[0].per_round, 60);
    assert_eq!((releases[0].sampling, releases[0].honest), (Sampling::Poisson(0.05), 1));
    let ours = guarantee(&releases, 1e-6).unwrap().epsilon_micro as f64 / 1e6;
    let orders = Orders::default();
    let textbook = rdp::gaussian(&orders, 1.0, Sampling::Poisson(0.05)).unwrap().times(60);
    let (by_renyi, _) = textbook.epsilon(1e-6).unwrap();
    let tables: Vec<Table> =
        (0..3).map(|_| table(vec![("a", vec![0.1; 9]), ("b", vec![0.1; 9]), ("y", vec![1.0; 9])])).collect();
    let fitted = run(algorithm.as_ref(), None, &tables, 1).unwrap();
    let privacy = fitted.outcome.privacy.unwrap();
    eprintln!("epsilon {ours}, by Renyi {by_renyi}");
    assert_eq!((privacy.epsilon, privacy.honest), (ours, 1));
    assert!(ours <= by_renyi * 1.001 && ours > 0.5 * by_renyi);
}

#[test]
fn a_private_model_of_real_rows_ranks() {
    let features = "mean radius,mean texture,mean concave points";
    let spec = AlgorithmSpec::new("dp-sgd", [("features", features), ("outcome", "benign"), ("sigma", "1.5")])
        .with("bounds", "mean radius:5..30,mean texture:8..40,mean concave points:0..0.2")
        .with("rate", "0.2")
        .with("batch", 28)
        .with("rounds", 5)
        .with("steps", 6)
        .with("learning_rate", "2")
        .with("epsilon", "6")
        .with("delta", "0.00001");
    let tables = split(&wdbc(), 4, |row| row % 4);
    let algorithm = built(&spec);
    let evaluate = built(&AlgorithmSpec::new("evaluate", [("features", features), ("outcome", "benign")]));
    let auc = |state: &State| pooled::run(evaluate.as_ref(), Some(state), &tables).unwrap().outcome.figures["auc"];
    let fits: Vec<_> = (0..10).map(|seed| run(algorithm.as_ref(), None, &tables, seed).unwrap()).collect();
    let mut private: Vec<f64> = fits.iter().map(|fit| auc(&fit.state)).collect();
    private.sort_by(f64::total_cmp);
    let epsilon = fits[0].outcome.privacy.clone().unwrap().epsilon;
    eprintln!("epsilon {epsilon}: AUC {:.4} to {:.4}, median {:.4}", private[0], private[9], private[5]);
    assert!(private[5] > 0.94 && private[1] > 0.88);
}

/// The outcome is the sign of a product: no linear score ranks it, a hidden layer does.
#[test]
fn a_hidden_layer_learns_what_a_line_cannot() {
    let mut random = Random(4);
    let mut population = |rows: usize| {
        let a: Vec<f64> = (0..rows).map(|_| 2.0 * random.uniform() - 1.0).collect();
        let b: Vec<f64> = (0..rows).map(|_| 2.0 * random.uniform() - 1.0).collect();
        let y = a.iter().zip(&b).map(|(a, b)| f64::from(u8::from(a * b > 0.0))).collect();
        (a, b, y)
    };
    let tables: Vec<Table> = (0..3)
        .map(|_| {
            let (a, b, y) = population(1500);
            table(vec![("a", a), ("b", b), ("y", y)])
        })
        .collect();
    let (a, b, y): (Vec<f64>, Vec<f64>, Vec<f64>) = population(1000);
    let spec = spec("0.8", "12").with("rounds", 25).with("steps", 10).with("learning_rate", "3").with("batch", 75);
    let score = |hidden: usize| {
        let algorithm = built(&spec.clone().with("hidden", hidden as i64));
        let theta = run(algorithm.as_ref(), None, &tables, 1).unwrap().state.values("theta").unwrap().to_vec();
        let scores: Vec<f64> = (0..a.len())
            .map(|i| {
                let line = |w: &[f64]| w[0] + w[1] * a[i] + w[2] * b[i];
                let units = (0..hidden).map(|j| theta[3 * hidden + 1 + j] * line(&theta[3 * j..3 * j + 3]).tanh());
                if hidden == 0 { line(&theta) } else { units.sum() }
            })
            .collect();
        auc(&scores, &y)
    };
    let (line, layer) = (score(0), score(8));
    eprintln!("AUC of a line {line:.3}, of a hidden layer {layer:.3}");
    assert!((line - 0.5).abs() < 0.1 && layer > 0.8);
}

#[test]
fn wrong_parameters_are_named() {
    let good = spec("1", "5");
    let refused = |spec: &AlgorithmSpec| registry::build(spec).err().unwrap().to_string();
    for (param, value) in [
        ("epsilon", "0"),
        ("epsilon", "NaN"),
        ("sigma", "0.01"),
        ("rate", "0"),
        ("rate", "1.5"),
        ("rate", "NaN"),
        ("batch", "0"),
        ("gradient_clip", "0"),
        ("gradient_clip", "-1"),
        ("learning_rate", "0"),
        ("steps", "0"),
        ("hidden", "-1"),
        ("bounds", "a:-1..1"),
        ("honest", "2"),
        ("rows_cap", "2"),
    ] {
        let text = refused(&good.clone().with(param, value));
        assert!(text.contains(&format!("'{param}'")), "{param} {value}: {text}");
    }
    for param in ["epsilon", "sigma", "rate", "batch", "bounds"] {
        let mut less = good.clone();
        less.params.remove(param);
        assert!(refused(&less).contains(&format!("'{param}'")));
    }
    let much = built(&good.with("rounds", 100).with("steps", 100));
    assert!(matches!(much.releases(3), Err(Finding::Privacy { problem }) if problem.contains("raise 'sigma'")));
}

/// All rows of a patient are one clipped gradient: whatever they are, they move one step by at most the clip.
#[test]
fn a_patient_counts_once_however_many_rows() {
    let spec = spec("10000", "5").with("rounds", 1).with("steps", 1).with("rate", "1").with("batch", 1);
    let algorithm = built(
        &spec.with("learning_rate", "1").with("patient", "id").with("rows_cap", 100).with("gradient_clip", "0.000001"),
    );
    let state = algorithm.start(None).unwrap();
    let rows = |ids: Vec<f64>| {
        let ones = vec![1.0; ids.len()];
        table(vec![("a", ones.clone()), ("b", ones.clone()), ("y", ones), ("id", ids)])
    };
    let of = |ids: Vec<f64>| update(algorithm.as_ref(), &state, &rows(ids), &secret(1, 0));
    let norm = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    // The noise is the same, so the difference is what the patients add, to one step of the grid in each value.
    let grid = 1e-6 * 10_000.0 / 65_536.0;
    let (none, one, many) = (of(vec![]), of(vec![4.0]), of(vec![4.0; 50]));
    assert!(norm(&one, &none) <= 1e-6 + grid * 3.0_f64.sqrt());
    assert!(norm(&many, &none) <= 1e-6 + grid * 3.0_f64.sqrt());
    assert_eq!(algorithm.columns(), ["a", "b", "y", "id"]);
}
