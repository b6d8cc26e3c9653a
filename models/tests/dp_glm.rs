//! Private regression: the intervals hold what noise and sampling do, the epsilon is that of all rounds together.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "support/noise.rs"]
mod noise;
mod support;

use leben_models::pooled::{self, Fitted};
use leben_models::{AlgorithmSpec, Finding, State, Table, registry};
use leben_privacy::dp::gaussian;
use leben_privacy::dp::guarantee::guarantee;
use noise::{Coverage, Random, built, run, table};
use support::{relative, split, wdbc};

const SLOPES: [f64; 3] = [0.4, 1.5, -0.3];

fn spec(family: &str) -> AlgorithmSpec {
    let bounds = if family == "gaussian" { "a:-1..1,b:0..10,y:-6..8" } else { "a:-1..1,b:0..10" };
    AlgorithmSpec::new("dp-glm", [("features", "a,b"), ("outcome", "y"), ("sigma", "3"), ("epsilon", "2")])
        .with("honest", 2)
        .with("bounds", bounds)
        .with("family", family)
}

/// y = 0.4 + 1.5 a - 0.3 b, as the mean with noise of 0.5 or as a logit.
fn population(rows: usize, family: &str, random: &mut Random) -> Table {
    let (mut a, mut b, mut y) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rows {
        let (u, v) = (2.0 * random.uniform() - 1.0, 10.0 * random.uniform());
        let eta = SLOPES[0] + SLOPES[1] * u + SLOPES[2] * v;
        a.push(u);
        b.push(v);
        y.push(match family {
            "gaussian" => eta + 0.5 * random.normal(),
            _ => f64::from(u8::from(random.uniform() < 1.0 / (1.0 + (-eta).exp()))),
        });
    }
    table(vec![("a", a), ("b", b), ("y", y)])
}

fn coverage(family: &str, rows: usize, draws: u64) -> (f64, f64) {
    let algorithm = built(&spec(family));
    let mut random = Random(draws);
    let (mut all, mut without_noise, mut count) = (Coverage::default(), 0, 0);
    for seed in 0..draws {
        let tables: Vec<Table> = (0..3).map(|_| population(rows, family, &mut random)).collect();
        let fitted = run(algorithm.as_ref(), None, &tables, seed).unwrap();
        assert!(fitted.outcome.warnings.is_empty(), "{:?}", fitted.outcome.warnings);
        for (label, truth) in ["(Intercept)", "a", "b"].into_iter().zip(SLOPES) {
            all.add(&fitted, "coefficients_original", label, truth);
            let value = |column| fitted.outcome.grid("coefficients_original").unwrap().value(label, column).unwrap();
            let sampling = (value("se").powi(2) - value("noise_se").powi(2)).sqrt();
            without_noise += u32::from((value("estimate") - truth).abs() < 1.96 * sampling);
            count += 1;
        }
    }
    (all.share(), f64::from(without_noise) / f64::from(count))
}

#[test]
fn intervals_of_a_linear_model_hold_the_noise() {
    let (share, without) = coverage("gaussian", 500, 150);
    eprintln!("linear: 95 % intervals hold {share}; without the noise in them {without}");
    assert!((0.90..=0.99).contains(&share) && without < 0.80, "{share} {without}");
}

#[test]
fn intervals_of_a_logistic_model_hold_the_noise() {
    let (share, without) = coverage("binomial", 1000, 100);
    eprintln!("logistic: 95 % intervals hold {share}; without the noise in them {without}");
    assert!((0.90..=0.99).contains(&share) && without < 0.90, "{share} {without}");
}

/// An independent road: the same rows through `glm`, which standardises and iterates to the end.
#[test]
fn without_noise_the_estimates_are_those_of_glm() {
    for family in ["gaussian", "binomial"] {
        let mut random = Random(5);
        let tables: Vec<Table> = (0..3).map(|_| population(1000, family, &mut random)).collect();
        let base = |name: &str| AlgorithmSpec::new(name, [("features", "a,b"), ("outcome", "y")]);
        let exact = [base("standardise").with("family", family), base("glm").with("family", family)];
        let exact = pooled::fit(&exact, &Table::stack(&tables).unwrap());
        let exact = exact.unwrap().pop().unwrap();
        let spec = if family == "binomial" { spec(family).with("rounds", 12) } else { spec(family) };
        let ours = pooled::run(built(&spec).as_ref(), None, &tables).unwrap();
        let value = |fit: &Fitted, label, column| {
            fit.outcome.grid("coefficients_original").unwrap().value(label, column).unwrap()
        };
        for label in ["(Intercept)", "a", "b"] {
            let error = relative(value(&ours, label, "estimate"), value(&exact, label, "estimate"));
            assert!(error < 1e-8, "{family} {label}: {error}");
            let sampling = value(&ours, label, "se").powi(2) - value(&ours, label, "noise_se").powi(2);
            // The residual variance is rounded up where the noise hides it.
            assert!(sampling.sqrt() > 0.99 * value(&exact, label, "se"), "{family} {label}");
        }
    }
}

#[test]
fn epsilon_is_that_of_all_rounds() {
    for (family, rounds) in [("gaussian", 1), ("binomial", 6)] {
        let algorithm = built(&spec(family));
        let releases = algorithm.releases(5).unwrap();
        assert_eq!(releases.iter().map(|release| release.rounds).collect::<Vec<_>>(), [rounds]);
        let ours = guarantee(&releases, 1e-6).unwrap().epsilon_micro as f64 / 1e6;
        let truth = gaussian::epsilon(3.0, 1e-6).unwrap();
        assert!(ours >= truth && ours < truth + 1e-3, "{family}: {ours} {truth}");
        let mut random = Random(9);
        let tables: Vec<Table> = (0..3).map(|_| population(800, family, &mut random)).collect();
        let fitted = run(algorithm.as_ref(), None, &tables, 1).unwrap();
        let privacy = fitted.outcome.privacy.unwrap();
        assert_eq!((privacy.epsilon, privacy.delta, privacy.honest), (ours, 1e-6, 2));
    }
}

#[test]
fn a_private_model_of_real_rows_still_ranks() {
    let features = "mean radius,mean texture,mean concave points";
    let spec = AlgorithmSpec::new("dp-glm", [("features", features), ("outcome", "benign"), ("sigma", "2")])
        .with("bounds", "mean radius:5..30,mean texture:8..40,mean concave points:0..0.2")
        .with("epsilon", "3")
        .with("delta", "0.00001")
        .with("honest", 3)
        .with("ridge", "1");
    let tables = split(&wdbc(), 4, |row| row % 4);
    let algorithm = built(&spec);
    let evaluate = built(&AlgorithmSpec::new("evaluate", [("features", features), ("outcome", "benign")]));
    let auc = |state: &State| pooled::run(evaluate.as_ref(), Some(state), &tables).unwrap().outcome.figures["auc"];
    let exact = pooled::fit(
        &[
            AlgorithmSpec::new("standardise", [("features", features), ("outcome", "benign")]),
            AlgorithmSpec::new("glm", [("features", features), ("outcome", "benign")]),
        ],
        &wdbc(),
    );
    let exact = auc(&exact.unwrap()[1].state);
    let mut private: Vec<f64> =
        (0..15).map(|seed| auc(&run(algorithm.as_ref(), None, &tables, seed).unwrap().state)).collect();
    private.sort_by(f64::total_cmp);
    eprintln!("AUC {exact:.4}; with epsilon 3: {:.4} to {:.4}, median {:.4}", private[0], private[14], private[7]);
    assert!(exact > 0.96 && private[7] > exact - 0.04 && private[2] > 0.85);
}

#[test]
fn wrong_parameters_are_named() {
    let good = spec("gaussian");
    let refused = |spec: &AlgorithmSpec| registry::build(spec).err().unwrap().to_string();
    for (param, value) in [
        ("bounds", "a:-1..1,y:-6..8"),
        ("bounds", "a:-1..1,b:0..10"),
        ("bounds", "a:-1..1,b:0..10,y:-6..8,z:0..1"),
        ("bounds", "a:-1..1,b:0..10,y:8..-6"),
        ("bounds", "a:-1..1,a:-1..1,b:0..10,y:-6..8"),
        ("bounds", "a"),
        ("clip", "0"),
        ("clip", "NaN"),
        ("epsilon", "0"),
        ("epsilon", "-2"),
        ("sigma", "0.01"),
        ("honest", "0"),
        ("rounds", "2"),
        ("ridge", "-1"),
    ] {
        let text = refused(&good.clone().with(param, value));
        assert!(text.contains(&format!("'{param}'")), "{param} {value}: {text}");
    }
    let mut less = good.clone();
    less.params.remove("bounds");
    assert!(refused(&less).contains("'bounds'"));
    let algorithm = built(&good);
    assert!(matches!(algorithm.releases(2), Err(Finding::Privacy { .. })), "two honest and one corrupt of two");
    let small = built(&good.with("sigma", "1"));
    assert!(matches!(small.releases(3), Err(Finding::Privacy { problem }) if problem.contains("raise 'sigma'")));
    // So few rows that the noise could be all of them.
    let mut random = Random(2);
    let tables: Vec<Table> = (0..3).map(|_| population(4, "gaussian", &mut random)).collect();
    assert!(matches!(run(algorithm.as_ref(), None, &tables, 1), Err(Finding::TooFewRows { .. })));
}

/// No row, whatever is in it, moves a contribution further than the layout's noise is for.
#[test]
fn one_row_moves_the_sums_by_no_more_than_their_sensitivity() {
    let mut random = Random(3);
    for family in ["gaussian", "binomial"] {
        for clip in ["", "0.7"] {
            let spec = if clip.is_empty() { spec(family) } else { spec(family).with("clip", clip) };
            let algorithm = built(&spec);
            let square: f64 = if clip.is_empty() { 2.0 } else { 0.49 };
            let l2 = match family {
                "gaussian" => vec![2.0 + square],
                _ => vec![(1.0 + square).sqrt(), (1.0 + square) / 4.0],
            };
            let mut state = algorithm.start(None).unwrap();
            for attempt in 0..50 {
                let wild = |random: &mut Random| random.normal() * 10f64.powf(random.uniform() * 300.0 - 10.0);
                let y = if family == "gaussian" { wild(&mut random) } else { f64::from(attempt % 2) };
                let row = table(vec![("a", vec![wild(&mut random)]), ("b", vec![wild(&mut random)]), ("y", vec![y])]);
                let layout = algorithm.layout(&state, 3).unwrap();
                let own = algorithm.local(&state, &row).unwrap();
                let own = leben_privacy::Unmasked::from_plain(&layout, vec![own]).unwrap();
                for (segment, l2) in layout.segments.iter().zip(&l2) {
                    let norm = own.segment(&segment.name).unwrap().iter().map(|x| x * x).sum::<f64>().sqrt();
                    assert!(norm <= l2 * (1.0 + 1e-12), "{family} {}: {norm} {l2}", segment.name);
                }
                if attempt == 25 {
                    state = state.with("beta", vec![3.0, -200.0, 50.0]);
                }
            }
            // Coefficients made to be infinite times nothing for one patient: the others' sums stay.
            let state = state.with("beta", vec![0.0, f64::INFINITY, 0.0]);
            let sums = |a: Vec<f64>| {
                let rows = table(vec![("b", vec![7.0; a.len()]), ("y", vec![0.0; a.len()]), ("a", a)]);
                let own = algorithm.local(&state, &rows).unwrap();
                let layout = algorithm.layout(&state, 3).unwrap();
                let own = leben_privacy::Unmasked::from_plain(&layout, vec![own]).unwrap();
                layout.segments.iter().map(|s| own.segment(&s.name).unwrap().to_vec()).collect::<Vec<_>>()
            };
            let (few, more) = (sums(vec![0.5; 20]), sums([vec![0.5; 20], vec![0.0]].concat()));
            for ((few, more), l2) in few.iter().zip(&more).zip(&l2) {
                let moved = few.iter().zip(more).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                assert!(moved <= l2 * (1.0 + 1e-9), "{family}: {moved} {l2}");
            }
        }
    }
}
