//! Noisy statistics: the noise is what the parameters say, the intervals hold, the epsilon is the accountant's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "support/noise.rs"]
mod noise;
mod support;

use leben_models::{AlgorithmSpec, Finding, State, Table, registry};
use leben_privacy::Unmasked;
use leben_privacy::dp::gaussian;
use leben_privacy::dp::guarantee::guarantee;
use noise::{Coverage, Plain, Random, built, run, table};
use support::{split, wdbc};

fn spec(sigma: &str, epsilon: &str) -> AlgorithmSpec {
    AlgorithmSpec::new("dp-statistics", [("sigma", sigma), ("epsilon", epsilon)]).with("honest", 2)
}

/// Symmetric triangle on 0 to 10: mean 5, variance 100/24, median 5, lower quartile sqrt(12.5); code 1 with 0.3.
fn population(rows: usize, random: &mut Random) -> Table {
    let x = (0..rows).map(|_| 5.0 * (random.uniform() + random.uniform())).collect();
    let code = (0..rows).map(|_| f64::from(u8::from(random.uniform() < 0.3))).collect();
    table(vec![("x", x), ("code", code)])
}

#[test]
fn intervals_hold_sampling_and_noise() {
    let spec = spec("3", "2").with("means", "x:0..10").with("histograms", "x:0..10/20").with("counts", "code:0|1");
    let algorithm = built(&spec);
    let mut random = Random(1);
    let [mut rows, mut mean, mut variance, mut share, mut median, mut quartile] =
        std::array::from_fn(|_| Coverage::default());
    for seed in 0..300 {
        let tables: Vec<Table> = (0..3).map(|_| population(200, &mut random)).collect();
        let fitted = run(algorithm.as_ref(), None, &tables, seed).unwrap();
        rows.add(&fitted, "rows", "rows", 600.0);
        mean.add(&fitted, "means", "x", 5.0);
        variance.add(&fitted, "variances", "x", 100.0 / 24.0);
        share.add(&fitted, "shares of code", "1", 0.3);
        median.add(&fitted, "quantiles of x", "0.5", 5.0);
        quartile.add(&fitted, "quantiles of x", "0.25", 12.5_f64.sqrt());
    }
    let exact = [("rows", rows.share()), ("mean", mean.share()), ("share", share.share())];
    let at_least = [("variance", variance.share()), ("median", median.share()), ("quartile", quartile.share())];
    eprintln!("coverage of 95 % intervals: {exact:?} {at_least:?}");
    assert!(exact.iter().all(|(_, share)| (0.90..=0.99).contains(share)), "{exact:?}");
    assert!(at_least.iter().all(|(_, share)| *share >= 0.90), "{at_least:?}");
}

#[test]
fn the_released_number_varies_as_much_as_it_says() {
    let algorithm = built(&spec("2", "3").with("means", "x:0..10"));
    let tables: Vec<Table> = (0..3).map(|_| table(vec![("x", vec![10.0; 50])])).collect();
    let state = algorithm.start(None).unwrap();
    let plain = Plain::of(algorithm.as_ref(), &state, &tables, 0).unwrap();
    // Two parts; sensitivities 1 and sqrt(3); three survivors of which two are counted on.
    let claimed = [2.0 * 2.0_f64.sqrt() * 1.5_f64.sqrt(), 2.0 * 6.0_f64.sqrt() * 1.5_f64.sqrt()];
    let draws: Vec<[f64; 4]> = (0..2000)
        .map(|seed| {
            let sum = plain.noisy(seed);
            let moments = sum.segment("moments 1").unwrap();
            [sum.segment("rows 0").unwrap()[0], moments[0], moments[1], moments[2]]
        })
        .collect();
    for (i, claimed) in [claimed[0], claimed[1], claimed[1], claimed[1]].into_iter().enumerate() {
        let mean = draws.iter().map(|draw| draw[i]).sum::<f64>() / 2000.0;
        let variance = draws.iter().map(|draw| (draw[i] - 150.0).powi(2)).sum::<f64>() / 2000.0;
        assert!((mean - 150.0).abs() < 5.0 * claimed / 2000.0_f64.sqrt(), "value {i}: mean {mean}");
        let ratio = variance / (claimed * claimed);
        assert!((ratio - 1.0).abs() < 5.0 * (2.0 / 2000.0_f64).sqrt(), "value {i}: {ratio} of the variance claimed");
    }
    let fitted = run(algorithm.as_ref(), None, &tables, 3).unwrap();
    let stated = fitted.outcome.grid("rows").unwrap().value("rows", "noise_sd").unwrap();
    assert!((stated / claimed[0] - 1.0).abs() < 1e-12);
}

#[test]
fn epsilon_is_the_accountants_and_of_the_whole_stage() {
    for (sigma, wide) in [("2", false), ("5.5", true)] {
        let mut spec = spec(sigma, "4").with("means", "mean radius:5..30").with("delta", "0.00001");
        if wide {
            spec = spec.with("histograms", "mean area:0..2500/64,mean radius:5..30/8").with("counts", "benign:0|1");
        }
        let algorithm = built(&spec);
        let tables = split(&wdbc(), 4, |row| row % 4);
        let fitted = run(algorithm.as_ref(), None, &tables, 1).unwrap();
        let privacy = fitted.outcome.privacy.clone().unwrap();
        let ours = guarantee(&algorithm.releases(4).unwrap(), 1e-5).unwrap();
        assert_eq!(privacy.epsilon, ours.epsilon_micro as f64 / 1e6);
        let truth = gaussian::epsilon(sigma.parse().unwrap(), 1e-5).unwrap();
        assert!(privacy.epsilon >= truth && privacy.epsilon < truth + 1e-3, "{} {truth}", privacy.epsilon);
        assert_eq!((privacy.delta, privacy.honest), (1e-5, 2));
        assert_eq!(leben_models::Outcome::from_bytes(&fitted.outcome.to_bytes()).unwrap(), fitted.outcome);
        // The figures are those of the rows.
        let (_, radius) = tables[0].column("mean radius").unwrap();
        assert!(radius.iter().all(|x| (5.0..30.0).contains(x)));
        let outcome = &fitted.outcome;
        let row = |column| outcome.grid("means").unwrap().value("mean radius", column).unwrap();
        assert!((row("estimate") - 14.127_291_7).abs() < 4.0 * row("se") && row("se") < 1.0);
        assert!((outcome.rows.used as f64 - 569.0).abs() < 60.0);
    }
}

#[test]
fn wrong_parameters_are_named() {
    let good = spec("3", "2").with("means", "x:0..10");
    let refused = |spec: &AlgorithmSpec| registry::build(spec).err().unwrap().to_string();
    for (param, value) in [
        ("epsilon", "0"),
        ("epsilon", "-1"),
        ("epsilon", "NaN"),
        ("epsilon", "inf"),
        ("sigma", "0"),
        ("sigma", "0.05"),
        ("sigma", "NaN"),
        ("delta", "0"),
        ("delta", "1"),
        ("honest", "0"),
        ("honest", "-3"),
        ("rows_cap", "5"),
        ("means", "x"),
        ("means", "x:0..0"),
        ("means", "x:10..0"),
        ("means", "x:NaN..1"),
        ("means", "x:0..1,x:0..2"),
        ("histograms", "x:0..10"),
        ("histograms", "x:0..10/0"),
        ("histograms", "x:0..10/99999"),
        ("counts", "x:1|1"),
        ("counts", "x:1|a"),
        ("quantiles", "0.5,1"),
    ] {
        let text = refused(&good.clone().with(param, value));
        assert!(text.contains(&format!("'{param}'")), "{param} {value}: {text}");
    }
    for param in ["epsilon", "sigma", "honest", "means"] {
        let mut less = good.clone();
        less.params.remove(param);
        assert!(refused(&less).contains(&format!("'{param}'")));
    }
    let finding = |spec: &AlgorithmSpec, hospitals| match built(spec).layout(&State::default(), hospitals) {
        Err(Finding::Privacy { problem }) => problem,
        other => panic!("{other:?}"),
    };
    assert!(finding(&good.clone().with("honest", 3), 3).contains("do not fit 3 hospitals"), "one may be corrupt");
    assert!(built(&good.clone().with("honest", 3).with("corrupt", 0)).layout(&State::default(), 3).is_ok());
    assert!(finding(&good.clone().with("sigma", "1"), 3).contains("raise 'sigma'"));
    let two: Vec<Table> = (0..2).map(|_| table(vec![("x", vec![1.0])])).collect();
    let algorithm = built(&good);
    let three = [two.clone(), two.clone()].concat();
    let state = algorithm.start(None).unwrap();
    let sum = Plain::of(algorithm.as_ref(), &state, &three[..3], 1).unwrap().noisy(1);
    assert!(algorithm.combine(&state, &sum).is_ok());
    assert!(Plain::of(algorithm.as_ref(), &state, &two, 1).is_err());
    // Fewer survivors than the promise rests on: no result comes of it.
    let layout = algorithm.layout(&state, 3).unwrap();
    let parts = two.iter().map(|table| algorithm.local(&state, table).unwrap()).collect();
    let sum = Unmasked::from_plain(&layout, parts).unwrap();
    let Err(Finding::Privacy { problem }) = algorithm.combine(&state, &sum) else { panic!("two of three") };
    assert!(problem.contains("2 hospitals survived"), "{problem}");
}

/// The grid is coarser where sums are large, and the epsilon a little larger; the end must not refuse what the start took.
#[test]
fn what_was_promised_at_the_start_holds_at_the_end() {
    let spec = |epsilon: &str| spec("0.5", epsilon).with("histograms", "x:0..10/4096").with("rows_max", 1 << 32);
    let loose = built(&spec("100")).releases(3).unwrap();
    let few = guarantee(&loose, 1e-6).unwrap().epsilon_micro as f64 / 1e6;
    let mut taken = 0;
    for step in 0..20 {
        let epsilon = few + 0.005 * f64::from(step) - 0.01;
        let algorithm = built(&spec(&epsilon.to_string()));
        let Ok(layout) = algorithm.layout(&State::default(), 3) else { continue };
        taken += 1;
        let parts = (0..3).map(|_| algorithm.local(&State::default(), &table(vec![("x", vec![1.0])])).unwrap());
        let sum = Unmasked::from_plain(&layout, parts.collect()).unwrap();
        assert!(algorithm.combine(&State::default(), &sum).is_ok(), "promised {epsilon}");
    }
    assert!((1..20).contains(&taken), "{taken} promises of 20 were taken");
}

#[test]
fn one_patient_has_at_most_the_rows_of_the_cap_and_values_stay_in_their_bounds() {
    let spec = spec("3", "2").with("means", "x:0..10").with("histograms", "x:0..10/5");
    let rows = |id: Vec<f64>| table(vec![("x", vec![1e300, -5.0, f64::INFINITY, f64::NAN, 3.0]), ("id", id)]);
    let plain = |spec: &AlgorithmSpec, table: &Table| {
        let algorithm = built(spec);
        let state = algorithm.start(None).unwrap();
        let layout = algorithm.layout(&state, 3).unwrap();
        let own = algorithm.local(&state, table).unwrap();
        let own = Unmasked::from_plain(&layout, vec![own]).unwrap();
        let sigma = layout.segments[0].noise.unwrap().sigma;
        (
            own.segment("rows 0").unwrap()[0],
            own.segment("moments 1").unwrap().to_vec(),
            own.segment("histogram 2").unwrap().to_vec(),
            sigma,
        )
    };
    let all = plain(&spec, &rows(vec![1.0; 5]));
    assert_eq!(
        (all.0, &all.1[..2], &all.2[..]),
        (5.0, &[4.0, 1.0 - 1.0 + 1.0 - 0.4][..], &[1.0, 1.0, 0.0, 0.0, 2.0][..])
    );
    let capped = spec.with("patient", "id").with("rows_cap", 2);
    let one = plain(&capped, &rows(vec![1.0; 5]));
    assert_eq!((one.0, one.1[0], one.3), (2.0, 2.0, 2.0 * all.3), "two rows of the one patient, twice the noise");
    let none = plain(&capped, &rows(vec![f64::NAN; 5]));
    assert_eq!(none.0, 0.0);
    let two = plain(&capped, &rows(vec![1.0, 2.0, 2.0, 2.0, 1.0]));
    assert_eq!(two.0, 4.0);
    assert_eq!(built(&capped).columns(), ["x", "id"]);
}

/// P\[S | D\] <= e^epsilon P\[S | D'\] + delta on half spaces across the line between the two sums, where it is tightest.
#[test]
fn the_privacy_loss_seen_on_a_tiny_table_is_never_above_epsilon() {
    let spec = spec("1", "6").with("honest", 1).with("corrupt", 0).with("means", "x:0..10").with("delta", "0.001");
    let algorithm = built(&spec);
    let state = algorithm.start(None).unwrap();
    let n = 20_000;
    let draws = |x: Vec<f64>, from: u64| {
        let plain = Plain::of(algorithm.as_ref(), &state, &[table(vec![("x", x)])], 0).unwrap();
        let project = |seed| {
            let sum = plain.noisy(seed);
            let moments = sum.segment("moments 1").unwrap();
            // The patient adds (1; 1, 1, 1); in units of each part's own noise.
            sum.segment("rows 0").unwrap()[0] + moments.iter().sum::<f64>() / 3.0
        };
        let mut all: Vec<f64> = (from..from + n).map(project).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let (with, without) = (draws(vec![2.0, 10.0], 0), draws(vec![2.0], n));
    let epsilon = guarantee(&algorithm.releases(1).unwrap(), 1e-3).unwrap().epsilon_micro as f64 / 1e6;
    let above = |draws: &[f64], t: f64| (draws.len() - draws.partition_point(|x| *x <= t)) as f64 / n as f64;
    // A violation beyond four standard errors at this epsilon and delta.
    let violated = |epsilon: f64, delta: f64| {
        with.iter().step_by(50).any(|t| {
            let pairs = [(above(&with, *t), above(&without, *t)), (1.0 - above(&without, *t), 1.0 - above(&with, *t))];
            pairs.into_iter().any(|(p, q)| {
                let error = (p * (1.0 - p) / n as f64).sqrt() + epsilon.exp() * (q * (1.0 - q) / n as f64).sqrt();
                p > epsilon.exp() * q + delta + 4.0 * error + 1e-9 && q > 0.0
            })
        })
    };
    assert!(!violated(epsilon, 1e-3), "epsilon {epsilon}");
    assert!(violated(0.3 * epsilon, 1e-3), "the test notices a third of the noise too little");
}
