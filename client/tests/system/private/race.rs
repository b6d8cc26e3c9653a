//! Two jobs at once for the last of every budget.

use std::fs;
use std::process::Command;
use std::thread;

use super::{actors, amounts, describe, entries, job, network, obstacle};
use crate::deployment::{Deployment, HOSPITALS, said};
use crate::process::{program, wait_until};

/// From now on every hospital signs by itself what passes review.
fn sign_by_themselves(deployment: &mut Deployment) {
    for hospital in HOSPITALS {
        let path = deployment.path(hospital).join("worker.toml");
        let text = fs::read_to_string(&path).unwrap().replace("auto_approve = false", "auto_approve = true");
        fs::write(path, text).unwrap();
        deployment.run(hospital);
    }
}

#[test]
fn of_two_jobs_that_race_for_the_last_of_the_budget_exactly_one_gets_it() {
    let mut deployment = network("1.5", "");
    deployment.keygen("other", 0);
    fs::write(deployment.path("job.toml"), job("1", &[describe("4.5")])).unwrap();
    let submit = |home: &str| {
        let mut command = Command::new(program("leben"));
        command.arg("--home").arg(deployment.path(home)).args(["submit", "--json"]).arg(deployment.path("job.toml"));
        said(&mut command).json()["contract"].as_str().unwrap().to_owned()
    };
    let submitted = thread::scope(|scope| {
        let all = ["team", "other"].map(|home| scope.spawn(move || submit(home)));
        all.map(|one| one.join().unwrap())
    });
    sign_by_themselves(&mut deployment);
    let phase = |contract: &str| deployment.leben(&["status", contract, "--json"]).json()["phase"].clone();
    let delivered = |contract: &String| phase(contract) == "Delivered";
    wait_until("one of the two is delivered", || submitted.iter().any(delivered));
    let (winner, loser) = match delivered(&submitted[0]) {
        true => (&submitted[0], &submitted[1]),
        false => (&submitted[1], &submitted[0]),
    };
    for hospital in HOSPITALS {
        wait_until("it says why it does not sign the other", || {
            obstacle(&deployment, hospital, loser).is_some_and(|why| why.contains("(budget)"))
        });
        wait_until("and has booked the one", || amounts(&deployment, hospital)[1] == 0.0);
        let [spent, held, left] = amounts(&deployment, hospital);
        assert!((0.9..=1.0).contains(&spent) && held == 0.0 && left >= 0.5, "{hospital}: {spent}, {held}, {left}");
    }
    let hospitals = |kind: &str, contract: &str| {
        let found = entries(&deployment, kind, contract);
        actors(&found).into_iter().filter(|actor| HOSPITALS.contains(actor)).count()
    };
    assert_eq!([hospitals("Accept", winner), hospitals("BudgetReserve", winner)], [4, 4]);
    assert_eq!([hospitals("Accept", loser), hospitals("BudgetReserve", loser)], [0, 0]);
    assert_eq!(entries(&deployment, "StageStart", loser).len(), 0);
}
