//! Contracts that end before their time: only what never ran comes back.

use super::{actors, amounts, budget, describe, entries, job, network, number, standing};
use crate::deployment::{Deployment, HOSPITALS};
use crate::process::wait_until;

fn submit(deployment: &Deployment, text: &str) -> String {
    deployment.submit(text)["contract"].as_str().unwrap().to_owned()
}

fn phase(deployment: &Deployment, contract: &str) -> String {
    deployment.leben(&["status", contract, "--json"]).json()["phase"].as_str().unwrap().to_owned()
}

fn hold(deployment: &Deployment, hospitals: &[&str], contract: &str) {
    deployment.approve(hospitals, contract);
    wait_until("the budgets are held on the ledger", || {
        actors(&entries(deployment, "BudgetReserve", contract)) == hospitals
    });
}

#[test]
fn what_never_ran_comes_back_and_what_may_have_run_does_not() {
    let mut deployment = network("3", "");
    never_armed(&deployment);
    all_of_it_again_and_revoked_while_it_runs(&mut deployment);
}

fn never_armed(deployment: &Deployment) {
    let contract = submit(deployment, &job("3", &[describe("2")]));
    hold(deployment, &HOSPITALS[..3], &contract);
    assert_eq!(amounts(deployment, "aker"), [0.0, 3.0, 0.0]);
    // Stopped before it was armed: the ledger's hold is released, and made again.
    deployment.worker("aker", &["suspend", &contract[..12]]).ok();
    wait_until("aker's hold is released", || actors(&entries(deployment, "BudgetRelease", &contract)) == ["aker"]);
    assert_eq!(amounts(deployment, "aker"), [0.0, 3.0, 0.0], "here it is kept until the contract is over");
    deployment.worker("aker", &["resume", &contract[..12]]).ok();
    wait_until("aker holds again", || entries(deployment, "BudgetReserve", &contract).len() == 4);
    deployment.worker("delft", &["refuse", &contract[..12], "--code", "not_wanted"]).ok();
    wait_until("the contract is over", || phase(deployment, &contract) == "Rejected");
    for hospital in &HOSPITALS[..3] {
        wait_until("all of it is back", || amounts(deployment, hospital) == [0.0, 0.0, 3.0]);
        let (how, booked, rounds) = standing(deployment, hospital, &contract).unwrap();
        assert_eq!((how.as_str(), booked, rounds), ("released", 0.0, 0));
    }
    let text = deployment.worker("aker", &["budget"]).ok();
    assert!(text.contains("spent 0, held 0, left 3") && text.contains("released: 0 of 3, 0 rounds"), "{text}");
}

/// More rounds than any machine gets through before a person has taken the data out.
const LEARN: &str = r#"name = "learn"
algorithm = "dp-sgd"
params = { features = "age,sex", outcome = "target", bounds = "age:25..80,sex:0..1", sigma = "150", rate = "1", batch = 200, rounds = 2000, steps = 1, epsilon = "3" }"#;

/// Two stages: the first is done, and a hospital takes its data out after some rounds of the second.
fn all_of_it_again_and_revoked_while_it_runs(deployment: &mut Deployment) {
    let contract = submit(deployment, &job("2.9", &[describe("4.5"), LEARN.to_owned()]));
    let mut watch = deployment.watch(&contract);
    hold(deployment, &HOSPITALS, &contract);
    wait_until("some rounds have left aker", || {
        standing(deployment, "aker", &contract).is_some_and(|(_, _, rounds)| rounds >= 3)
    });
    deployment.worker("aker", &["revoke", &contract[..12]]).ok();
    let end = deployment.end_of(&mut watch);
    assert_eq!((&end["phase"], &end["ok"]), (&"Aborted".into(), &false.into()), "{end}");
    for hospital in HOSPITALS {
        wait_until("the budget is booked", || amounts(deployment, hospital)[1] == 0.0);
        let (how, booked, rounds) = standing(deployment, hospital, &contract).unwrap();
        assert!(rounds < 2001, "{rounds} rounds: the contract was over before it was revoked");
        // Which rounds ran only the hospital knows: the ledger takes all that was held, and so does the hospital's own sum.
        assert_eq!((how.as_str(), booked), ("spent", 2.9), "{hospital}");
        let budget = budget(deployment, hospital);
        assert!((number(&budget["left"]) - 0.1).abs() < 1e-9, "{budget}");
        let released = number(&budget["released"]);
        assert!(released > 0.0 && released < 2.9, "the other sum counts the rounds that left: {budget}");
    }
    let used = entries(deployment, "StageReceipt", &contract);
    assert_eq!(used.len(), 1, "the second stage has no receipt");
}
