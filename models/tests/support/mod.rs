//! Data and helpers of the tests: the breast-cancer rows of the crate smartcore, the files of `shared/` where they are
//! present, and the fixed-point rounding of the secure sum without its masks.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of tests fails the test")]

use std::path::PathBuf;

use leben_models::disclosure::Limits;
use leben_models::pooled::Fitted;
use leben_models::{Algorithm, AlgorithmSpec, Column, Finding, Kind, Next, State, Table, registry};
use leben_privacy::{Contribution, Encoding, Layout, Unmasked, Values};
use serde_json::Value;

/// smartcore stores `f32`; the shortest decimal of each is the number in the published file.
pub fn wdbc() -> Table {
    let data = smartcore::dataset::breast_cancer::load_dataset();
    let width = data.num_features;
    let mut columns: Vec<(Column, Vec<f64>)> = Vec::new();
    for (j, name) in data.feature_names.iter().enumerate() {
        let values = (0..data.num_samples).map(|i| data.data[i * width + j].to_string().parse().unwrap()).collect();
        columns.push((Column::new(name.as_str(), Kind::Number), values));
    }
    let target = data.target.iter().map(|y| f64::from(*y)).collect();
    columns.push((Column::new("benign", Kind::Integer), target));
    Table::from_columns(columns).unwrap()
}

pub fn wdbc_stages() -> Vec<AlgorithmSpec> {
    let features = wdbc().columns()[..30].iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(",");
    stages(&features, "benign", "1")
}

pub fn stages(features: &str, outcome: &str, ridge: &str) -> Vec<AlgorithmSpec> {
    let base = |name: &str| AlgorithmSpec::new(name, [("outcome", outcome)]).with("features", features);
    vec![base("standardise"), base("glm").with("ridge", ridge), base("evaluate")]
}

/// A reference file's JSON.
pub fn fixture(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The folder with the data that is not in the repository, or `None` with a line that says so.
pub fn shared(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("LEBEN_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    if path.join("data/fed_heart_disease").is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED {test}: no folder shared/ with data (set LEBEN_SHARED to it); the other tests do not need it");
    None
}

/// A plain CSV with a header; empty is missing, a text becomes its rank among the sorted texts of the column.
pub fn read_csv(path: &std::path::Path) -> Table {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').map(|name| name.trim_matches('"')).collect();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').map(|cell| cell.trim_matches('"')).collect()).collect();
    let mut columns = Vec::new();
    for (j, name) in names.iter().enumerate() {
        let cells: Vec<&str> = rows.iter().map(|row| row[j]).collect();
        let mut texts: Vec<&str> =
            cells.iter().copied().filter(|cell| !cell.is_empty() && cell.parse::<f64>().is_err()).collect();
        texts.sort_unstable();
        texts.dedup();
        let value = |cell: &&str| -> f64 {
            if cell.is_empty() {
                return f64::NAN;
            }
            cell.parse().unwrap_or_else(|_| texts.iter().position(|text| text == cell).unwrap() as f64)
        };
        columns.push((Column::new(*name, Kind::Number), cells.iter().map(value).collect()));
    }
    Table::from_columns(columns).unwrap()
}

/// Splits rows over owners by `owner(row)`.
pub fn split(table: &Table, owners: usize, owner: impl Fn(usize) -> usize) -> Vec<Table> {
    (0..owners)
        .map(|index| {
            let keep: Vec<bool> = (0..table.rows()).map(|row| owner(row) == index).collect();
            table.filter(&keep).unwrap()
        })
        .collect()
}

/// Runs the stages as the network does: clip and fixed-point rounding at every hospital, then the integer sum.
pub fn federated(stages: &[AlgorithmSpec], tables: &[Table]) -> Result<Vec<Fitted>, Finding> {
    fit(stages, tables, |spec| registry::build(spec).unwrap())
}

/// The same under the limits of the terms.
pub fn controlled(stages: &[AlgorithmSpec], limits: Limits, tables: &[Table]) -> Result<Vec<Fitted>, Finding> {
    fit(stages, tables, |spec| registry::controlled(spec, limits).unwrap())
}

fn fit(
    stages: &[AlgorithmSpec],
    tables: &[Table],
    build: impl Fn(&AlgorithmSpec) -> Box<dyn Algorithm + Send + Sync>,
) -> Result<Vec<Fitted>, Finding> {
    let mut fitted: Vec<Fitted> = Vec::new();
    for spec in stages {
        let algorithm = build(spec);
        let from = fitted.last().map(|before| &before.state);
        fitted.push(run(algorithm.as_ref(), from, tables)?);
    }
    Ok(fitted)
}

pub fn run(algorithm: &dyn Algorithm, from: Option<&State>, tables: &[Table]) -> Result<Fitted, Finding> {
    let mut state = algorithm.start(from)?;
    let hospitals = u16::try_from(tables.len()).unwrap();
    for rounds in 1..=algorithm.rounds_max() {
        // What a hospital is told went over the wire as bytes.
        state = State::from_bytes(&state.to_bytes().unwrap()).unwrap();
        let layout = algorithm.layout(&state, hospitals)?;
        layout.validate(hospitals).unwrap();
        let mut rounded = Vec::new();
        for table in tables {
            rounded.push(round(&layout, hospitals, algorithm.local(&state, table)?));
        }
        let sum = Unmasked::from_plain(&sum_layout(&layout, hospitals), rounded).unwrap();
        match algorithm.combine(&state, &sum)? {
            Next::Round(next) => state = next,
            Next::Done(outcome, state) => return Ok(Fitted { outcome, state, rounds }),
        }
    }
    panic!("more rounds than rounds_max");
}

/// The grid of an exact segment: `f = min(52, 62 - ceil(log2(bound * hospitals)))` fraction bits.
fn round(layout: &Layout, hospitals: u16, contribution: Contribution) -> Contribution {
    let clipped = Unmasked::from_plain(layout, vec![contribution]).expect("within its bounds");
    let segments = layout.segments.iter().map(|segment| {
        let Encoding::Exact { bound } = segment.encoding else { panic!("all segments are exact") };
        let bits = (62.0 - (bound * f64::from(hospitals)).log2().ceil()).min(52.0);
        assert!(bits >= 0.0, "segment {} has no room", segment.name);
        let unit = 2f64.powf(bits);
        let values = clipped.segment(&segment.name).unwrap();
        Values::F64(values.iter().map(|value| (value * unit).round() / unit).collect())
    });
    Contribution::new(segments.collect())
}

/// Rounding may lift a value to just above its bound.
fn sum_layout(layout: &Layout, hospitals: u16) -> Layout {
    let mut wider = layout.clone();
    for segment in &mut wider.segments {
        if let Encoding::Exact { bound } = &mut segment.encoding {
            *bound *= f64::from(hospitals);
        }
    }
    wider
}

/// Largest relative difference of two tables' column.
pub fn difference(a: &Fitted, b: &Fitted, grid: &str, column: &str) -> f64 {
    let a = a.outcome.grid(grid).unwrap().column(column);
    let b = b.outcome.grid(grid).unwrap().column(column);
    assert_eq!(a.len(), b.len());
    a.iter().zip(&b).map(|(a, b)| relative(a.unwrap(), b.unwrap())).fold(0.0, f64::max)
}

pub fn relative(a: f64, b: f64) -> f64 {
    if a == b { 0.0 } else { (a - b).abs() / b.abs().max(1e-300) }
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Largest relative difference of a table's column from reference numbers.
pub fn from_reference(fitted: &Fitted, grid: &str, column: &str, reference: &Value) -> f64 {
    let ours = fitted.outcome.grid(grid).unwrap().column(column);
    let theirs = numbers(reference);
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(&theirs).map(|(a, b)| relative(a.unwrap(), *b)).fold(0.0, f64::max)
}
