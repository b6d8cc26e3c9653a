//! kill -9 of a hospital's agent at each write of its budget, and an older copy of that file put back.

use std::fs;
use std::path::PathBuf;

use leben_contracts::agreement::hash::Hash32;
use leben_worker::budget::{Budget, Standing};
use leben_worker::io::budgets::load;

use super::{actors, amounts, describe, entries, job, network, obstacle};
use crate::deployment::{Deployment, HOSPITALS};
use crate::faults::io_errors::can_trace;
use crate::process::wait_until;

/// Where a write of the budget is cut.
#[derive(Clone, Copy, Debug)]
enum At {
    /// The next state is written and not yet in its place.
    Before,
    /// It is in its place, and nothing has followed from it.
    After,
}

fn file(deployment: &Deployment) -> PathBuf {
    deployment.path("aker/budget/heart.json")
}

/// As a person would find it on the disk.
fn on_disk(deployment: &Deployment) -> Budget {
    load(&deployment.path("aker")).unwrap().remove(0)
}

/// Runs aker's agent so that it is killed at its next write of the budget.
fn run_to_be_killed(deployment: &mut Deployment, at: At) {
    let folder = deployment.path("aker/budget");
    let path = match at {
        At::Before => folder.join("heart.json.tmp"),
        At::After => folder,
    };
    let path = path.to_str().unwrap().to_owned();
    let above = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", &path, "-e", "trace=fsync", "-e"];
    // A budget that nothing was booked on is written at every start.
    let when = if on_disk(deployment).generation() == 0 { 2 } else { 1 };
    let inject = format!("inject=fsync:signal=KILL:when={when}");
    let above = [&above[..], &[&inject, "--"]].concat();
    deployment.run_below("aker", &above, &[]);
}

/// Waits until it was.
fn killed(deployment: &mut Deployment) {
    let mut worker = deployment.workers.remove("aker").unwrap();
    assert!(!worker.wait().success(), "{}", worker.complained());
}

/// How often aker signed or held on the ledger for this contract, and what it booked there.
fn on_ledger(deployment: &Deployment, contract: &str) -> (usize, u64) {
    let mine = |kind: &str| {
        let all = entries(deployment, kind, contract);
        all.into_iter().filter(|entry| entry["actor"] == "aker").collect::<Vec<_>>()
    };
    let spent = mine("BudgetSpend").iter().map(|entry| entry["body"]["epsilon_micro"].as_u64().unwrap()).sum();
    (mine("BudgetReserve").len() + mine("Accept").len(), spent)
}

/// A job whose every write of aker's budget (the hold, the round, the end) is cut by a kill before it and by one after.
fn a_job_with_a_kill_around_every_write(deployment: &mut Deployment) {
    let contract = deployment.submit(&job("0.5", &[describe("12")]))["contract"].as_str().unwrap().to_owned();
    let id: Hash32 = contract.parse().unwrap();
    let before = on_disk(deployment);
    let next = |deployment: &mut Deployment, at: At| {
        run_to_be_killed(deployment, at);
        killed(deployment);
        on_disk(deployment)
    };

    // The hold, before the signature.
    deployment.workers.remove("aker").unwrap().kill();
    run_to_be_killed(deployment, At::Before);
    deployment.approve(&["aker"], &contract);
    killed(deployment);
    assert_eq!((on_disk(deployment), on_ledger(deployment, &contract).0), (before, 0));
    let disk = next(deployment, At::After);
    assert_eq!(disk.job(&id).unwrap().standing, Standing::Held);
    assert_eq!(on_ledger(deployment, &contract).0, 0, "nothing is signed before it is on the disk");

    // The round, before its vector. If the others are done with it before aker is back, its next write is the end.
    deployment.approve(&HOSPITALS[1..], &contract);
    let disk = next(deployment, At::Before);
    assert_eq!((disk.job(&id).unwrap().standing, disk.job(&id).unwrap().rounds(1)), (Standing::Held, 0));
    assert_eq!(on_ledger(deployment, &contract), (2, 0), "signed and held, once each");
    let mut disk = next(deployment, At::After);
    assert_eq!(on_ledger(deployment, &contract), (2, 0));

    // The end, before the ledger hears of it.
    if disk.job(&id).unwrap().standing == Standing::Held {
        assert_eq!(disk.job(&id).unwrap().rounds(1), 1);
        disk = next(deployment, At::Before);
        let job = disk.job(&id).unwrap();
        assert_eq!(
            (job.standing, job.booked_micro()),
            (Standing::Held, 500_000),
            "until it is closed all of it counts"
        );
        disk = next(deployment, At::After);
    }
    let Standing::Spent(spent) = disk.job(&id).unwrap().standing else { panic!("{disk:?}") };
    assert_eq!(on_ledger(deployment, &contract), (2, 0));
    deployment.run("aker");
    wait_until("everybody has booked it", || actors(&entries(deployment, "BudgetSpend", &contract)) == HOSPITALS);
    assert_eq!(on_ledger(deployment, &contract), (2, spent));
}

#[test]
fn an_agent_killed_at_any_write_of_its_budget_never_counts_too_little_and_goes_on() {
    if !can_trace() {
        return;
    }
    let mut deployment = network("4", "");
    let backup = fs::read(file(&deployment)).unwrap();
    a_job_with_a_kill_around_every_write(&mut deployment);
    let booked = |hospital: &str| amounts(&deployment, hospital)[..2].to_vec();
    for hospital in HOSPITALS {
        wait_until("all have booked the same", || booked(hospital) == booked("basel") && booked(hospital)[1] == 0.0);
    }

    // The disk of before the job.
    deployment.workers.remove("aker").unwrap().kill();
    let newest = fs::read(file(&deployment)).unwrap();
    fs::write(file(&deployment), &backup).unwrap();
    deployment.run("aker");
    let contract = deployment.submit(&job("0.5", &[describe("12")]))["contract"].as_str().unwrap().to_owned();
    wait_until("an older disk signs nothing", || {
        obstacle(&deployment, "aker", &contract).is_some_and(|why| why.contains("budget_behind"))
    });
    let said = deployment.worker("aker", &["status"]).ok();
    for words in ["the disk knows 0", "budget/heart.json is an older copy", "put the newest copy back"] {
        assert!(said.contains(words), "no '{words}': {said}");
    }
    deployment.workers.remove("aker").unwrap().kill();
    assert_eq!((fs::read(file(&deployment)).unwrap(), on_ledger(&deployment, &contract).0), (backup, 0));
    fs::write(file(&deployment), &newest).unwrap();
    deployment.run("aker");
    deployment.approve(&["aker"], &contract);
    wait_until("with the newest copy it signs", || on_ledger(&deployment, &contract).0 == 2);
}
