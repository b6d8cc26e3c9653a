//! A federated estimate is the pooled one, however the rows are split; and what cannot be estimated says so by name.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod support;

use leben_models::{AlgorithmSpec, Column, Finding, Kind, Outcome, Table, pooled};
use proptest::prelude::*;
use support::{difference, federated, relative, split, stages, wdbc, wdbc_stages};

#[test]
fn four_uneven_hospitals_give_the_pooled_estimates() {
    let table = wdbc();
    let pooled = pooled::fit(&wdbc_stages(), &table).unwrap();
    let (_, benign) = table.column("benign").unwrap();
    let (_, radius) = table.column("mean radius").unwrap();
    // Uneven; by outcome; by a feature; one hospital with a single row.
    let owners: [&dyn Fn(usize) -> usize; 4] = [
        &|row| [0, 0, 0, 0, 0, 0, 1, 1, 2, 3][row % 10],
        &|row| if benign[row] == 1.0 { row % 3 } else { 2 + row % 2 },
        &|row| [0, 1, 2, 3][((radius[row] / 6.0) as usize).min(3)],
        &|row| if row == 17 { 3 } else { row % 3 },
    ];
    for owner in owners {
        let fitted = federated(&wdbc_stages(), &split(&table, 4, owner)).unwrap();
        let mut worst = 0.0_f64;
        for (stage, grid, column) in [
            (0, "moments", "mean"),
            (0, "moments", "sd"),
            (1, "coefficients", "estimate"),
            (1, "coefficients", "se"),
            (1, "coefficients_original", "estimate"),
            (1, "coefficients_original", "se"),
        ] {
            worst = worst.max(difference(&fitted[stage], &pooled[stage], grid, column));
        }
        eprintln!("split: {worst:.1e}, rounds {} {} {}", fitted[0].rounds, fitted[1].rounds, fitted[2].rounds);
        assert!(worst < 1e-9);
        assert_eq!(fitted[2].outcome.figures["auc"], pooled[2].outcome.figures["auc"]);
        assert_eq!(fitted[2].outcome.rows, pooled[2].outcome.rows);
        assert!(relative(fitted[2].outcome.figures["log_loss"], pooled[2].outcome.figures["log_loss"]) < 1e-6);
    }
}

#[test]
fn standard_errors_are_those_of_the_final_estimate() {
    // An independent road to the same inverse: Gauss-Jordan on the full matrix at the reported coefficients.
    let table = wdbc();
    let fitted = pooled::fit(&wdbc_stages(), &table).unwrap();
    let coefficients = fitted[1].outcome.grid("coefficients").unwrap();
    let beta: Vec<f64> = coefficients.column("estimate").into_iter().map(Option::unwrap).collect();
    let n = table.rows();
    let mut terms = vec![vec![1.0; n]];
    for column in &table.columns()[..30] {
        let (_, values) = table.column(&column.name).unwrap();
        let mean = values.iter().sum::<f64>() / n as f64;
        let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        terms.push(values.iter().map(|value| (value - mean) / sd).collect());
    }
    let weight: Vec<f64> = (0..n)
        .map(|row| {
            let eta: f64 = terms.iter().zip(&beta).map(|(term, b)| term[row] * b).sum();
            let mu = 1.0 / (1.0 + (-eta).exp());
            mu * (1.0 - mu)
        })
        .collect();
    let mut matrix: Vec<Vec<f64>> = (0..31)
        .map(|i| {
            let entry = |j: usize| -> f64 { (0..n).map(|r| weight[r] * terms[i][r] * terms[j][r]).sum() };
            let ridge = |j: usize| if i == j && i > 0 { 1.0 } else { 0.0 };
            let unit = |j: usize| if i == j { 1.0 } else { 0.0 };
            (0..31).map(|j| entry(j) + ridge(j)).chain((0..31).map(unit)).collect()
        })
        .collect();
    for i in 0..31 {
        let pivot = matrix[i][i];
        matrix[i].iter_mut().for_each(|value| *value /= pivot);
        let row = matrix[i].clone();
        for (k, other) in matrix.iter_mut().enumerate().filter(|(k, _)| *k != i) {
            let factor = other[i];
            assert!(k < 31);
            other.iter_mut().zip(&row).for_each(|(a, b)| *a -= factor * b);
        }
    }
    for (i, se) in coefficients.column("se").into_iter().enumerate() {
        assert!(relative(se.unwrap(), matrix[i][31 + i].sqrt()) < 1e-9, "term {i}");
    }
}

#[test]
fn moments_keep_13_digits_at_any_scale() {
    let n = 1000_usize;
    let noise = |row: usize| ((row * 7919 % 1009) as f64 / 1009.0 - 0.37) * 1.3;
    let scales = [
        ("tiny", 0.0, 1e-12),
        ("small", 0.003, 0.001),
        ("large", 2000.0, 350.0),
        ("narrow", 2000.0, 1e-4),
        ("very narrow", 5e6, 1e-2),
        ("huge", -3e14, 1e15),
    ];
    let mut columns: Vec<(Column, Vec<f64>)> = scales
        .iter()
        .map(|(name, mean, sd)| (Column::new(*name, Kind::Number), (0..n).map(|row| mean + sd * noise(row)).collect()))
        .collect();
    let spikes = (0..n).map(|row| if row == 5 { 1e9 } else { noise(row) }).collect();
    columns.push((Column::new("spike", Kind::Number), spikes));
    columns.push((Column::new("constant", Kind::Number), vec![0.1; n]));
    columns.push((Column::new("zero", Kind::Number), vec![0.0; n]));
    let table = Table::from_columns(columns).unwrap();
    let names: Vec<&str> = table.columns().iter().map(|column| column.name.as_str()).collect();
    let spec = [AlgorithmSpec::new("standardise", [("features", names.join(",").as_str())])];
    let fitted = federated(&spec, &split(&table, 4, |row| row % 4)).unwrap();
    let moments = fitted[0].outcome.grid("moments").unwrap();
    eprintln!("rounds {}", fitted[0].rounds);
    for name in &names {
        let (_, values) = table.column(name).unwrap();
        let (mean, sd) = exact_moments(values);
        let (our_mean, our_sd) = (moments.value(name, "mean").unwrap(), moments.value(name, "sd").unwrap());
        let errors = ((our_mean - mean).abs() / mean.abs().max(sd), relative(our_sd, sd));
        eprintln!("{name}: mean {:.1e} sd {:.1e}", errors.0, errors.1);
        if *name == "constant" || *name == "zero" {
            assert_eq!(our_sd, 0.0);
            assert!((our_mean - values[0]).abs() < 1e-15);
        } else {
            assert!(errors.0 < 1e-13 && errors.1 < 1e-13, "{name}");
        }
    }
    assert_eq!(fitted[0].outcome.warnings.len(), 2);
}

/// Mean and sd by two passes of compensated (Neumaier) sums.
fn exact_moments(values: &[f64]) -> (f64, f64) {
    let sum = |values: &mut dyn Iterator<Item = f64>| {
        let (mut total, mut lost) = (0.0_f64, 0.0);
        for value in values {
            let next = total + value;
            lost += if total.abs() >= value.abs() { (total - next) + value } else { (value - next) + total };
            total = next;
        }
        total + lost
    };
    let n = values.len() as f64;
    let mean = sum(&mut values.iter().copied()) / n;
    let shift = sum(&mut values.iter().map(|value| value - mean)) / n;
    let square = sum(&mut values.iter().map(|value| (value - mean - shift).powi(2))) / n;
    (mean + shift, square.sqrt())
}

#[test]
fn auc_of_a_large_cohort_is_within_its_bound() {
    let n = 60_000_u64;
    let uniform = |row: u64, salt: u64| {
        let mixed =
            (row.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(salt)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11) as f64 / 2f64.powi(53)
    };
    let x: Vec<f64> = (0..n).map(|row| uniform(row, 1) * 4.0 - 2.0).collect();
    let y: Vec<f64> =
        (0..n).map(|row| f64::from(u8::from(uniform(row, 2) < 1.0 / (1.0 + (-x[row as usize]).exp())))).collect();
    let mut order: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut negatives, mut pairs) = (0.0, 0.0);
    for (_, class) in &order {
        if *class == 1.0 { pairs += negatives } else { negatives += 1.0 }
    }
    let exact = pairs / (negatives * (n as f64 - negatives));
    let table =
        Table::from_columns(vec![(Column::new("x", Kind::Number), x), (Column::new("y", Kind::Integer), y)]).unwrap();
    let fitted = federated(&stages("x", "y", "0"), &split(&table, 3, |row| row % 3)).unwrap();
    let figures = &fitted[2].outcome.figures;
    let error = (figures["auc"] - exact).abs();
    eprintln!("AUC {exact:.6}: error {error:.1e}, bound {:.1e}", figures["auc_error_max"]);
    assert!(error <= figures["auc_error_max"] && figures["auc_error_max"] < 1e-4 && error < 1e-6);
    let curve = fitted[2].outcome.curves.iter().find(|curve| curve.name == "roc").unwrap();
    let area: f64 = curve.points.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[1].1 + pair[0].1) / 2.0).sum();
    assert!((area - exact).abs() < 1e-4);
}

fn small(rows: usize, f: impl Fn(usize) -> [f64; 4]) -> Table {
    let names = ["a", "b", "c", "y"];
    let columns = names
        .iter()
        .enumerate()
        .map(|(index, name)| (Column::new(*name, Kind::Number), (0..rows).map(|row| f(row)[index]).collect()));
    Table::from_columns(columns.collect()).unwrap()
}

fn finding(table: &Table, features: &str) -> Finding {
    federated(&stages(features, "y", "0"), &split(table, 3, |row| row % 3)).unwrap_err()
}

#[test]
fn what_cannot_be_estimated_is_named() {
    let wave = |row: usize| ((row * 37 % 101) as f64).sin();
    let class = |row: usize| f64::from(u8::from(row * 31 % 7 > 3));
    let collinear = small(80, |row| [wave(row), row as f64, wave(row) * 2.0 - row as f64, class(row)]);
    assert_eq!(finding(&collinear, "a,b,c"), Finding::Singular { term: "c".to_owned() });
    let separated = small(80, |row| [wave(row), row as f64, 1.0, f64::from(u8::from(row > 40))]);
    assert!(matches!(finding(&separated, "a,b"), Finding::Separation { term, .. } if term == "b"));
    // Quasi-complete: every row with c = 1 has y = 1, the rest overlaps.
    let quasi = small(80, |row| {
        let c = f64::from(u8::from(row % 5 == 0));
        [wave(row), row as f64, c, if c == 1.0 { 1.0 } else { class(row) }]
    });
    assert!(matches!(finding(&quasi, "a,c"), Finding::Separation { term, .. } if term == "c"));
    let one_class = small(80, |row| [wave(row), 1.0, 2.0, 1.0]);
    assert_eq!(finding(&one_class, "a"), Finding::OneClass { rows: 80 });
    let constant = small(80, |row| [wave(row), 7.5, 2.0, class(row)]);
    assert_eq!(finding(&constant, "a,b"), Finding::ConstantTerm { term: "b".to_owned() });
    assert_eq!(finding(&constant, "a,z"), Finding::MissingColumn { column: "z".to_owned() });
    let few = small(3, |row| [wave(row), row as f64, 2.0, class(row)]);
    assert!(matches!(finding(&few, "a,b"), Finding::TooFewRows { used: 3, .. }));
    let empty = small(0, |_| [0.0; 4]);
    assert!(matches!(finding(&empty, "a"), Finding::TooFewRows { used: 0, requested: 0, .. }));
    let wild = small(80, |row| [if row == 3 { 1e30 } else { 1.0 }, 1.0, 1.0, class(row)]);
    assert!(matches!(finding(&wild, "a"), Finding::OutOfRange { column, count: 1, .. } if column == "a"));
}

#[test]
fn rows_are_counted_by_reason_and_factors_by_their_declared_codes() {
    let table = small(120, |row| {
        let a = if row % 10 == 1 { f64::NAN } else { (row as f64).cos() };
        let y = if row % 30 == 2 { 3.0 } else { f64::from(u8::from(row * 31 % 7 > 3)) };
        [a, (row % 4) as f64 + 1.0, 0.0, y]
    });
    let fitted = federated(&stages("a,b:1>2|3", "y", "0"), &split(&table, 3, |row| row % 3)).unwrap();
    let glm = &fitted[1].outcome;
    let labels: Vec<&str> = glm.grid("coefficients").unwrap().rows.iter().map(|row| row.label.as_str()).collect();
    assert_eq!(labels, ["(Intercept)", "a", "b[2]", "b[3]"]);
    assert_eq!(glm.rows.requested, 120);
    assert_eq!(glm.rows.rejected["a: missing"], 12);
    assert_eq!(glm.rows.rejected["b: a code the job does not declare"], 24, "six of the thirty also lack a");
    let bad_outcome = glm.rows.rejected["y: neither 0 nor 1"];
    assert_eq!(glm.rows.used + 12 + 24 + bad_outcome, 120);
    assert_eq!(fitted[0].outcome.rows, glm.rows);
}

#[test]
fn an_outcome_comes_back_bit_for_bit_with_its_pictures() {
    let fitted = pooled::fit(&wdbc_stages(), &wdbc()).unwrap();
    for stage in &fitted {
        assert_eq!(Outcome::from_bytes(&stage.outcome.to_bytes()).unwrap(), stage.outcome);
    }
    let names = |stage: usize| fitted[stage].outcome.pictures().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(1), ["coefficients.svg"]);
    assert_eq!(names(2), ["roc.svg", "calibration.svg"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any small table ends in a result or a finding; a result is the pooled one for any split.
    #[test]
    fn any_table_ends_well(
        cells in proptest::collection::vec((-5_i32..6, -2.0_f64..2.0, 0_u8..9, 0_u8..2), 0..60),
        hospitals in 2_usize..5,
    ) {
        let table = small(cells.len(), |row| {
            let (a, b, c, y) = cells[row];
            [f64::from(a), if c == 8 { f64::NAN } else { b }, f64::from(c), f64::from(y)]
        });
        let specs = stages("a,b,c:1|2", "y", "0.5");
        let split = split(&table, hospitals, |row| (row * row) % hospitals);
        match (pooled::fit(&specs, &table), federated(&specs, &split)) {
            (Ok(pooled), Ok(fitted)) => {
                prop_assert!(difference(&fitted[1], &pooled[1], "coefficients", "se") < 1e-9);
                let grid = |fit: &pooled::Fitted| fit.outcome.grid("coefficients").unwrap().column("estimate");
                for (a, b) in grid(&fitted[1]).into_iter().zip(grid(&pooled[1])) {
                    prop_assert!((a.unwrap() - b.unwrap()).abs() < 1e-10);
                }
            }
            (Err(_), Err(_)) => {}
            (pooled, fitted) => prop_assert!(false, "only one has a result: {:?} {:?}", pooled.err(), fitted.err()),
        }
    }
}
