//! The epsilon that everybody computes of the terms is the one that the result carries, whatever the algorithm.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use leben_models::promise::{epsilon_added_micro, epsilon_micro};
use leben_models::{Algorithm, AlgorithmSpec, registry};
use leben_privacy::dp::guarantee::guarantee;

const DELTA: f64 = 1e-6;

/// One of each private algorithm.
fn all() -> Vec<Box<dyn Algorithm + Send + Sync>> {
    let common = |name: &str| AlgorithmSpec::new(name, [("sigma", "4"), ("epsilon", "3")]).with("honest", 2);
    let model = |spec: AlgorithmSpec| spec.with("features", "a,b").with("outcome", "y").with("bounds", "a:0..1,b:0..1");
    let sgd = AlgorithmSpec::new("dp-sgd", [("sigma", "4"), ("epsilon", "3"), ("rate", "0.2")]);
    let sgd = model(sgd).with("batch", 10).with("rounds", 3).with("steps", 10);
    let specs = [common("dp-statistics").with("means", "a:0..1"), model(common("dp-glm")).with("rounds", 4), sgd];
    specs.iter().map(|spec| registry::build(spec).unwrap()).collect()
}

#[test]
fn all_rounds_of_a_stage_are_worth_what_its_releases_are() {
    for algorithm in all() {
        let rounds = algorithm.rounds_max();
        let whole = guarantee(&algorithm.releases(4).unwrap(), DELTA).unwrap().epsilon_micro;
        let after = |rounds| epsilon_micro([(algorithm.as_ref() as &dyn Algorithm, rounds)], 4, DELTA).unwrap();
        assert_eq!(after(rounds), whole);
        assert_eq!((after(0), after(rounds + 1)), (0, whole));
        let each: Vec<u64> = (0..=rounds).map(after).collect();
        assert!(each.is_sorted_by(|a, b| a < b), "every round adds: {each:?}");
        assert!(each[1] < whole || rounds == 1, "{each:?}");
    }
}

#[test]
fn a_local_step_is_a_release_of_its_own() {
    let sgd = all().pop().unwrap();
    let ten = sgd.releases(4).unwrap().remove(0);
    assert_eq!((ten.rounds, ten.per_round), (3, 10));
    let apart = leben_privacy::dp::guarantee::Release { rounds: 30, per_round: 1, ..ten.clone() };
    let [ten, apart] = [ten, apart].map(|release| guarantee(&[release], DELTA).unwrap().epsilon_micro);
    assert_eq!(ten, apart);
}

#[test]
fn what_stages_add_sums_up_to_what_they_are_together() {
    let all = all();
    let ran: Vec<(&dyn Algorithm, u32)> =
        all.iter().map(|algorithm| (algorithm.as_ref() as &dyn Algorithm, algorithm.rounds_max())).collect();
    let together = epsilon_micro(ran.iter().copied(), 4, DELTA).unwrap();
    let added = |promised| -> u64 { (1..=3).map(|until| epsilon_added_micro(&ran[..until], 4, DELTA, promised)).sum() };
    assert_eq!(added(10_000_000), together);
    assert_eq!(added(1_000_000), 1_000_000, "never more than was promised");
    let alone: u64 = ran.iter().map(|one| epsilon_micro([*one], 4, DELTA).unwrap()).sum();
    assert!(together < alone, "{together} {alone}");
    assert_eq!(epsilon_added_micro(&[], 4, DELTA, 1), 0);
}
