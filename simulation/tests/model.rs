//! Standardisation, ridge logistic regression and its evaluation on the breast-cancer rows of the crate `smartcore`, split over
//! four hospitals, every number through the masked secure sum: the same as with all rows in one place, to 1e-9.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

mod common;

use common::survivors;
use leben_contracts::agreement::terms::OnDrop;
use leben_models::{AlgorithmSpec, Column, Kind, Outcome, Table, pooled};
use leben_simulation::{Agreement, Deal, End, Sight, Trap, World};

/// `smartcore` stores `f32`; the shortest decimal of each is the number in the published file.
fn wdbc() -> Table {
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

/// Uneven, and by outcome: the first hospital has most of the benign rows, the last few of either.
fn split(table: &Table) -> Vec<Table> {
    let (_, benign) = table.column("benign").unwrap();
    let owner = |row: usize| match (benign[row] == 1.0, row % 10) {
        (true, 0..=6) => 0,
        (false, 0..=6) => 1,
        (_, 7 | 8) => 2,
        _ => 3,
    };
    let of = |index| table.filter(&(0..table.rows()).map(|row| owner(row) == index).collect::<Vec<_>>()).unwrap();
    (0..4).map(of).collect()
}

fn stages(table: &Table) -> Vec<AlgorithmSpec> {
    let features: Vec<&str> = table.columns()[..30].iter().map(|column| column.name.as_str()).collect();
    let base =
        |name: &str| AlgorithmSpec::new(name, [("outcome", "benign")]).with("features", features.join(",").as_str());
    vec![base("standardise"), base("glm").with("ridge", "1"), base("evaluate")]
}

fn agreement(table: &Table, on_drop: OnDrop) -> std::sync::Arc<Agreement> {
    let columns = table.columns().iter().map(|column| column.name.clone()).collect();
    Agreement::new(Deal { stages: stages(table), columns, on_drop, ..Deal::new(4) })
}

fn outcomes(world: &World) -> Vec<Outcome> {
    let checkpoint = world.coordinator.disk.checkpoint.as_ref().unwrap();
    checkpoint.finished.values().map(|stage| stage.outcome.clone()).collect()
}

/// Largest relative difference over everything that is delivered of the model.
fn difference(ours: &[Outcome], pooled: &[pooled::Fitted]) -> f64 {
    let mut worst = 0.0_f64;
    for (stage, grid, column) in [
        (0, "moments", "mean"),
        (0, "moments", "sd"),
        (1, "coefficients", "estimate"),
        (1, "coefficients", "se"),
        (1, "coefficients_original", "estimate"),
        (1, "coefficients_original", "se"),
    ] {
        let ours = ours[stage].grid(grid).unwrap().column(column);
        let theirs = pooled[stage].outcome.grid(grid).unwrap().column(column);
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.into_iter().zip(theirs) {
            let (a, b) = (a.unwrap(), b.unwrap());
            worst = worst.max(if a == b { 0.0 } else { (a - b).abs() / b.abs() });
        }
    }
    worst
}

#[test]
fn with_a_drop_in_the_middle_the_result_is_the_pooled_one() {
    let table = wdbc();
    let pooled = pooled::fit(&stages(&table), &table).unwrap();
    let agreement = agreement(&table, OnDrop::Repeat);
    let mut world = World::with_tables(3, &agreement, split(&table));
    // Hospital 2 is cut off right after its 20th chunk, in the middle of a vector, for longer than the others wait.
    world.traps.push(Trap::cut_after(2, Sight::Chunk, Some(30_000)).nth(20));
    world.traps.push(Trap::cut_before(4, Sight::Reveal, Some(2_000)).nth(5));
    assert_eq!(world.run(), End::Delivered, "{:#?}", world.story);
    assert!(world.traps.is_empty(), "{:?}", world.traps);
    assert!(survivors(&world).iter().all(|seats| *seats == [1, 2, 3, 4]));
    let slots = world.truth.sums.last().unwrap().slot;
    assert!(slots > world.truth.sums.len() as u64, "a round was repeated: {slots} slots");
    let ours = outcomes(&world);
    let worst = difference(&ours, &pooled);
    eprintln!("{} rounds in {slots} slots, largest relative difference {worst:.1e}", world.truth.sums.len());
    assert!(worst < 1e-9, "{worst:e}");
    assert_eq!(ours[2].figures["auc"], pooled[2].outcome.figures["auc"]);
    assert_eq!(ours[2].rows, pooled[2].outcome.rows);
}

#[test]
fn left_out_hospitals_are_left_out_of_the_estimate_too() {
    // Hospital 3 never sends a vector: the result is the pooled one of the three others.
    let table = wdbc();
    let tables = split(&table);
    let agreement = agreement(&table, OnDrop::Continue);
    let mut world = World::with_tables(4, &agreement, tables);
    world.traps.push(Trap::cut_before(3, Sight::Chunk, None));
    assert_eq!(world.run(), End::Delivered, "{:#?}", world.story);
    assert!(survivors(&world).iter().all(|seats| *seats == [1, 2, 4]));
    let (_, benign) = table.column("benign").unwrap();
    let keep: Vec<bool> = (0..table.rows()).map(|row| !matches!(row % 10, 7 | 8)).collect();
    assert_eq!(benign.len(), keep.len());
    let pooled = pooled::fit(&stages(&table), &table.filter(&keep).unwrap()).unwrap();
    assert!(difference(&outcomes(&world), &pooled) < 1e-9);
}
