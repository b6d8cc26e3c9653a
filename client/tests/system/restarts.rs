//! kill -9, everybody in turn and all at once, while a contract is signed, while it runs and between its stages.

use std::fs;

use serde_json::Value;

use crate::acknowledged::{Bystander, verify_all};
use crate::deployment::{Deployment, HOSPITALS};
use crate::process::wait_until;
use crate::rows::JobFile;

/// The stage (from 1) and round that the coordinator would go on with, by its own file.
fn standing(deployment: &Deployment, contract: &str) -> (u64, u64) {
    let text = fs::read(deployment.path("coordinator/jobs").join(contract).join("job.json")).unwrap_or_default();
    let job: Value = serde_json::from_slice(&text).unwrap_or_default();
    (job["stage"].as_u64().map_or(0, |stage| stage + 1), job["round"].as_u64().unwrap_or(0))
}

/// Waits until the job is at this stage and round, and not yet beyond the stage.
fn wait_for_round(deployment: &Deployment, contract: &str, stage: u64, round: u64) {
    wait_until(&format!("stage {stage}, round {round}"), || {
        let now = standing(deployment, contract);
        assert!(now.0 <= stage, "at {now:?} before stage {stage} was met: the job is too short for this test");
        now >= (stage, round)
    });
}

fn kill_coordinator(deployment: &mut Deployment) {
    deployment.coordinator.take().unwrap().kill();
}

fn kill_worker(deployment: &mut Deployment, hospital: &str) {
    deployment.workers.remove(hospital).unwrap().kill();
}

#[test]
fn a_job_survives_kill_9_of_everybody_and_no_acknowledged_entry_is_lost() {
    let mut deployment = Deployment::running(20_000);
    let bystander = Bystander::start(&deployment);
    let submitted = deployment.submit(&JobFile { more_fits: 4, ..JobFile::default() }.text());
    let contract = submitted["contract"].as_str().unwrap().to_owned();

    // While people sign.
    let mut watch = deployment.watch(&contract);
    deployment.approve(&HOSPITALS[..2], &contract);
    kill_coordinator(&mut deployment);
    deployment.serve();
    deployment.approve(&HOSPITALS[2..3], &contract);
    kill_worker(&mut deployment, "delft");
    watch.kill();
    deployment.run("delft");
    deployment.approve(&HOSPITALS[3..], &contract);
    watch = deployment.watch(&contract);

    // While it runs: the coordinator, a hospital, the team.
    wait_for_round(&deployment, &contract, 2, 2);
    kill_coordinator(&mut deployment);
    deployment.serve();
    wait_for_round(&deployment, &contract, 3, 2);
    kill_worker(&mut deployment, "basel");
    deployment.run("basel");
    wait_for_round(&deployment, &contract, 4, 2);
    watch.kill();
    watch = deployment.watch(&contract);

    // As a stage begins, and then everybody at once.
    wait_for_round(&deployment, &contract, 5, 1);
    kill_coordinator(&mut deployment);
    deployment.serve();
    wait_for_round(&deployment, &contract, 6, 3);
    kill_coordinator(&mut deployment);
    HOSPITALS.iter().for_each(|hospital| kill_worker(&mut deployment, hospital));
    deployment.serve();
    HOSPITALS.iter().for_each(|hospital| deployment.run(hospital));
    let end = deployment.end_of(&mut watch);
    assert_eq!((&end["phase"], &end["ok"]), (&"Delivered".into(), &true.into()), "{end}");

    let fetched = deployment.leben(&["fetch", &contract, "--out", "result", "--json"]).json();
    deployment.leben(&["verify", "result"]).ok();
    wait_until("the price is paid", || deployment.leben(&["status", &contract, "--json"]).json()["phase"] == "Settled");
    let acknowledged = bystander.stop();
    assert!(acknowledged.len() >= 5, "only {} appends were acknowledged", acknowledged.len());
    deployment.leben(&["ledger", "tail", "--json"]).ok();
    let folder = deployment.export("exported");
    verify_all(&folder, &acknowledged);
    let kind = |index: &Value| {
        let text = index.as_u64().unwrap().to_string();
        deployment.leben(&["ledger", "--offline", "show", &text, "--json"]).json()["kind"].as_str().unwrap().to_owned()
    };
    let told = [&submitted["proposed_index"], &submitted["accepted_index"], &fetched["accepted_index"]];
    assert_eq!(told.map(kind), ["Propose", "Accept", "AcceptResult"]);
}
