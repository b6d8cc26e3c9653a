//! kill -9, everybody in turn and all at once, while a contract is signed, while it runs and between its stages.

use serde_json::Value;

use crate::acknowledged::{Bystander, verify_all};
use crate::deployment::{Deployment, HOSPITALS};
use crate::process::{Process, wait_until};
use crate::rows::JobFile;

/// The stage and round of each progress line so far.
fn rounds(watch: &Process) -> Vec<(u64, u64)> {
    let printed = watch.printed();
    let events = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let running = events.filter(|event| event["event"] == "progress" && event["phase"] == "Running");
    running.filter_map(|event| Some((event["stage"].as_u64()?, event["round"].as_u64()?))).collect()
}

/// Waits until the job is at this stage and round, or beyond.
fn wait_for_round(watch: &Process, stage: u64, round: u64) {
    wait_until(&format!("stage {stage}, round {round}"), || {
        let printed = watch.printed();
        assert!(!printed.contains("\"event\":\"end\""), "over before stage {stage}, round {round}: {printed}");
        rounds(watch).into_iter().any(|now| now >= (stage, round))
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
    let mut deployment = Deployment::running(400);
    let bystander = Bystander::start(&deployment);
    let submitted = deployment.submit(&JobFile { more_fits: 2, ..JobFile::default() }.text());
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
    wait_for_round(&watch, 2, 2);
    kill_coordinator(&mut deployment);
    deployment.serve();
    wait_for_round(&watch, 2, 4);
    kill_worker(&mut deployment, "basel");
    deployment.run("basel");
    wait_for_round(&watch, 3, 1);
    watch.kill();
    watch = deployment.watch(&contract);

    // Between two stages, and then everybody at once.
    wait_for_round(&watch, 3, 5);
    kill_coordinator(&mut deployment);
    HOSPITALS.iter().for_each(|hospital| kill_worker(&mut deployment, hospital));
    deployment.serve();
    HOSPITALS.iter().for_each(|hospital| deployment.run(hospital));
    let end = deployment.end_of(&mut watch);
    assert_eq!((&end["phase"], &end["ok"]), (&"Delivered".into(), &true.into()), "{end}");

    let fetched = deployment.leben(&["fetch", &contract, "--out", "result", "--json"]).json();
    deployment.leben(&["verify", "result"]).ok();
    wait_until("the price is paid", || {
        deployment.leben(&["status", &contract, "--json"]).json()["phase"] == "Settled"
    });
    let acknowledged = bystander.stop();
    assert!(acknowledged.len() > 10, "only {} appends were acknowledged", acknowledged.len());
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
