use super::*;
use crate::agreement::hash::Hash32;
use crate::agreement::party::Role;
use crate::agreement::terms::{Disclosure, OnFailure, Split, TermsParty};
use crate::agreement::world::{code, hash, id, terms};

fn error(change: impl Fn(&mut Terms)) -> TermsError {
    let mut t = terms();
    change(&mut t);
    t.with_text_hash().validate().unwrap_err()
}

#[test]
fn good_terms() {
    assert_eq!(terms().validate(), Ok(()));
    let json = serde_json::to_string(&terms()).unwrap();
    assert_eq!(serde_json::from_str::<Terms>(&json).unwrap(), terms());
    assert!(serde_json::from_str::<Terms>(&json.replacen("{", "{\"extra\":1,", 1)).is_err());
}

#[test]
fn parties_by_name() {
    use TermsError as E;
    assert_eq!(error(|t| t.v = 2), E::Version(2));
    assert_eq!(error(|t| t.parties.clear()), E::Empty("parties"));
    assert!(matches!(error(|t| t.parties.push(t.parties[0].clone())), E::Duplicate { list: "parties", .. }));
    assert!(matches!(error(|t| t.parties[5].roles.clear()), E::Role { .. }));
    assert!(matches!(error(|t| t.parties[4].roles = vec![Role::Coordinator]), E::Role { .. }));
    assert!(matches!(error(|t| t.parties[5].roles = vec![Role::Arbiter, Role::Arbiter]), E::Duplicate { .. }));
    assert!(matches!(error(|t| t.parties[5].roles = vec![Role::DataOwner]), E::Role { .. }));
    assert_eq!(error(|t| t.parties[0].roles = vec![Role::Arbiter]), E::OneDataUser(0));
    assert_eq!(error(|t| t.parties[5].roles = vec![Role::DataUser]), E::OneDataUser(2));
    assert_eq!(error(|t| t.parties[4].roles = vec![Role::ComputeProvider]), E::NoIntegrator);
    let many = |t: &mut Terms| {
        t.parties.extend((0..300).map(|n| TermsParty { party: id(&format!("p{n}")), roles: vec![Role::Admin] }));
    };
    assert!(matches!(error(many), E::TooMany { list: "parties", .. }));
}

#[test]
fn inputs_and_algorithms_by_name() {
    use TermsError as E;
    assert!(matches!(error(|t| t.inputs[0].owner = id("nobody")), E::Role { .. } | E::UnknownParty { .. }));
    assert!(matches!(error(|t| t.inputs[1].id = code("in-h1")), E::Duplicate { list: "inputs", .. }));
    assert_eq!(error(|t| t.inputs[0].columns.clear()), E::Empty("columns"));
    assert!(matches!(
        error(|t| t.inputs[0].columns = vec!["a".into(), "a".into()]),
        E::Duplicate { list: "columns", .. }
    ));
    assert!(matches!(error(|t| t.inputs[0].columns[0] = "a\nb".into()), E::Text(_)));
    assert!(matches!(error(|t| t.inputs[0].cohort = "x".repeat(3000)), E::Text(_)));
    assert_eq!(error(|t| t.inputs[0].cohort_min = 0), E::Cohort(code("in-h1")));
    assert_eq!(error(|t| t.inputs[0].row_cap = 9), E::Cohort(code("in-h1")));
    assert_eq!(error(|t| t.inputs[0].row_cap = u64::MAX), E::Number("row_cap"));
    assert_eq!(error(|t| t.algorithms.clear()), E::Empty("algorithms"));
    assert_eq!(error(|t| _ = t.algorithms[0].params.insert("n".into(), Param::Integer(i64::MIN))), E::Number("params"));
    assert!(matches!(error(|t| _ = t.algorithms[0].params.insert("n".into(), Param::Text(String::new()))), E::Text(_)));
}

#[test]
fn stages_by_name() {
    use TermsError as E;
    assert_eq!(error(|t| t.stages[0].id = 0), E::StageOrder(0));
    assert_eq!(error(|t| t.stages[1].id = 1), E::StageOrder(1));
    assert_eq!(error(|t| t.stages[1].after = vec![2]), E::Dependency { stage: 2, after: 2 });
    assert_eq!(error(|t| t.stages[1].after = vec![3]), E::Dependency { stage: 2, after: 3 });
    assert!(matches!(error(|t| t.stages[1].after = vec![1, 1]), E::Duplicate { .. }));
    assert_eq!(error(|t| t.stages[2].state_from = Some(1)), E::StateFrom { stage: 3, from: 1 });
    assert!(matches!(error(|t| t.stages[0].inputs.push(code("x"))), E::StageReference { list: "inputs", .. }));
    assert!(matches!(error(|t| t.stages[0].algorithm = code("x")), E::StageReference { list: "algorithms", .. }));
    assert!(matches!(error(|t| t.stages[0].executor = id("nobody")), E::UnknownParty { place: "executor", .. }));
    assert!(matches!(error(|t| t.stages[0].executor = id("team")), E::Role { .. }));
    assert_eq!(error(|t| t.stages[0].rounds_max = 0), E::StageLimits(1));
    assert_eq!(error(|t| t.stages[0].timeout_ms = 0), E::StageLimits(1));
    assert_eq!(error(|t| t.stages[0].retries = 101), E::StageLimits(1));
    let one = |t: &mut Terms| t.stages[0].inputs.truncate(1);
    assert_eq!(error(one), E::StageHospitals { stage: 1, owners: 1, min: 2 });
    let unused = |t: &mut Terms| t.stages.iter_mut().for_each(|s| s.inputs.retain(|i| *i != code("in-h3")));
    assert_eq!(error(unused), E::UnusedInput(code("in-h3")));
}

#[test]
fn privacy_price_and_windows_by_name() {
    use TermsError as E;
    assert_eq!(error(|t| t.privacy.secure_sum = false), E::SecureSumRequired(3));
    assert_eq!(error(|t| t.privacy.hospitals_min = 1), E::HospitalsMin { min: 2, max: 3 });
    assert_eq!(error(|t| t.privacy.hospitals_min = 4), E::HospitalsMin { min: 2, max: 3 });
    assert_eq!(error(|t| t.privacy.threshold = 1), E::Threshold(3));
    assert_eq!(error(|t| t.privacy.threshold = 4), E::Threshold(3));
    assert_eq!(error(|t| t.privacy.epsilon_micro = 1), E::Epsilon);
    assert_eq!(error(|t| t.privacy.mechanism = code("discrete-gaussian")), E::Epsilon);
    assert_eq!(error(|t| t.price.splits[0].basis_points = 3332), E::Splits(9999));
    assert_eq!(error(|t| t.price.splits.clear()), E::Splits(0));
    assert_eq!(error(|t| (t.price.total_credits, t.price.deposit) = (0, 0)), E::Splits(10_000));
    for d in [(0, 2, 10), (2, 2, 10), (CELL_MAX + 1, 2, 10), (10, 0, 10), (10, 3, 10), (10, 2, 101)] {
        let wrong = Disclosure { cell_min: d.0, cell_hospitals_min: d.1, dominance_percent: d.2 };
        assert_eq!(error(|t| t.privacy.disclosure = wrong), E::Disclosure { max: 2 });
    }
    assert_eq!(error(|t| t.price.per_round = 1001), E::PerRound);
    assert_eq!(error(|t| t.price.total_credits = u64::MAX), E::Number("total_credits"));
    assert_eq!(error(|t| t.price.total_credits = INTEGER_MAX), E::Number("total_credits + deposit"));
    assert!(matches!(error(|t| t.price.splits[0].party = id("nobody")), E::UnknownParty { .. }));
    assert_eq!(error(|t| t.price.splits[0].party = id("team")), E::PayerShare(id("team")));
    assert!(matches!(
        error(|t| t.price.splits.push(Split { party: id("h1"), basis_points: 1 })),
        E::Duplicate { list: "splits", .. }
    ));
    assert!(matches!(error(|t| t.delivery.recipient = id("nobody")), E::UnknownParty { place: "recipient", .. }));
    assert_eq!(error(|t| t.delivery.outputs.clear()), E::Empty("outputs"));
    assert_eq!(error(|t| t.windows.run_by_ms = t.windows.sign_by_ms), E::Windows);
    assert_eq!(error(|t| t.windows.accept_within_ms = 0), E::Windows);
    assert_eq!(error(|t| t.delivery.delete_by_ms = t.windows.run_by_ms), E::Windows);
}

#[test]
fn every_field_is_in_the_text() {
    let changes: [fn(&mut Terms); 19] = [
        |t| t.purpose.commercial = true,
        |t| t.purpose.ehds = None,
        |t| t.inputs[0].row_cap = 199,
        |t| t.inputs[0].cohort = "age > 50".into(),
        |t| t.inputs[0].schema_hash = hash("x"),
        |t| t.algorithms[0].digest = hash("x"),
        |t| _ = t.algorithms[0].params.insert("lambda".into(), Param::Text("0.002".into())),
        |t| t.stages[0].timeout_ms = 60_001,
        |t| t.stages[0].on_failure = OnFailure::Abort,
        |t| t.stages[1].state_from = None,
        |t| t.privacy.threshold = 3,
        |t| t.privacy.disclosure.cell_min = 11,
        |t| t.privacy.disclosure.cell_hospitals_min = 1,
        |t| t.privacy.disclosure.dominance_percent = 0,
        |t| t.price.per_round = 1,
        |t| t.price.deposit = 99,
        |t| t.delivery.review = true,
        |t| t.windows.accept_within_ms = 1,
        |t| t.parties[5].roles = vec![Role::Admin],
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut t = terms();
        change(&mut t);
        assert_ne!(t.text(), terms().text(), "change {i}");
        assert_eq!(t.validate(), Err(TermsError::TextHash), "change {i}");
    }
    let mut t = terms();
    t.text_hash = Hash32([0; 32]);
    assert_eq!(t.validate(), Err(TermsError::TextHash));
}

#[test]
fn the_text_is_golden() {
    let golden = include_str!("../../tests/fixtures/terms.txt");
    assert_eq!(terms().text(), golden);
}
