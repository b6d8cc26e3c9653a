//! The log has signed two histories and both were certified: people begin a new network, whose first entry proves it. What the hospitals
//! spent of their privacy budgets stays spent.

use std::fs;
use std::process::Command;

use leben_contracts::agreement::hash::Hash32;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::evidence::ForkEvidence;
use leben_contracts::ledger::keyfile;
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner};
use leben_contracts::ledger::store::LogReader;

use crate::deployment::{Deployment, HOSPITALS, files_below, said};
use crate::private::{amounts, describe, job, network};
use crate::process::{program, wait_until};

const ORIGIN: &str = "ledger.example/second";

/// What a coordinator with this deployment's log key signs beside its last checkpoint.
fn evidence(deployment: &Deployment) -> ForkEvidence {
    let last = LogReader::new(&deployment.path("coordinator/ledger")).checkpoint().unwrap();
    let Checkpoint { origin, size, .. } = Checkpoint::of(&last).unwrap();
    let key = keyfile::load(&deployment.path("coordinator/keys/log.key")).unwrap();
    let log = NoteSigner::new(&origin, KeyType::Ed25519, key).unwrap();
    let mut other = Note::new(Checkpoint::new(&origin, size, [7; 32]).to_string()).unwrap();
    other.push(log.sign(other.text(), 0)).unwrap();
    ForkEvidence::of_one_size(log.vkey(), &last, &other).unwrap()
}

#[test]
fn a_new_network_names_the_fork_that_it_comes_after_and_spent_budgets_stay_spent() {
    let mut deployment = network("5", "");
    let contract = deployment.submit(&job("3", &[describe("2")]))["contract"].as_str().unwrap().to_owned();
    deployment.approve(&HOSPITALS, &contract);
    let mut watch = deployment.watch(&contract);
    let end = deployment.end_of(&mut watch);
    assert_eq!(end["phase"], "Delivered", "{end} {}", watch.complained());
    deployment.leben(&["fetch", &contract, "--out", "result"]).ok();
    wait_until("the budget is booked", || amounts(&deployment, "aker")[1] == 0.0);
    let before = amounts(&deployment, "aker");
    assert!(before[0] > 2.0, "{before:?}");

    let proof = evidence(&deployment).to_json();
    fs::write(deployment.path("fork.json"), &proof).unwrap();
    assert_eq!(deployment.leben(&["verify", "fork.json"]).code, 8);
    deployment.workers.clear();
    deployment.coordinator.take().unwrap().kill();
    fs::rename(deployment.path("coordinator"), deployment.path("forked")).unwrap();
    let proof_file = deployment.path("fork.json");
    let init = |origin| deployment.coordinator(&["init", "--origin", origin, "--embed", proof_file.to_str().unwrap()]);
    init("ledger.example/system").complains(&["another --origin"]);
    let made = init(ORIGIN).ok();
    let digest = Hash32::plain(proof.as_bytes()).to_string();
    assert!(made.contains("in place of ledger.example/system") && made.contains(&digest), "{made}");
    let settings = deployment.path("coordinator/coordinator.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(settings, text.replace("127.0.0.1:7443", &deployment.address)).unwrap();
    deployment.serve();

    // A hospital comes with its data, its declaration and what it has spent; its old folder is of another network.
    for hospital in HOSPITALS {
        let invite = deployment.invite(hospital, "hospital", 0);
        deployment.worker(hospital, &["join", &invite]).complains(&["belongs to", "use another folder"]);
        let old = deployment.path(&format!("{hospital}-forked"));
        fs::rename(deployment.path(hospital), &old).unwrap();
        fs::create_dir_all(deployment.path(hospital).join("budget")).unwrap();
        for file in ["worker.toml", "rows.csv"] {
            fs::copy(old.join(file), deployment.path(hospital).join(file)).unwrap();
        }
        for file in files_below(&old.join("budget")) {
            fs::copy(&file, deployment.path(hospital).join("budget").join(file.file_name().unwrap())).unwrap();
        }
        deployment.worker(hospital, &["join", &invite]).ok();
        deployment.run(hospital);
    }
    fs::rename(deployment.path("team"), deployment.path("team-forked")).unwrap();
    deployment.keygen("team", 0);
    deployment.wait_for_offers(HOSPITALS.len());
    wait_until("the budgets are on the new ledger", || {
        let list = deployment.leben(&["ledger", "list", "--kind", "BudgetGenesis", "--json"]).ok();
        list.lines().count() == HOSPITALS.len()
    });
    assert_eq!(amounts(&deployment, "aker"), before);

    let shown = deployment.leben(&["ledger", "show", "0"]).ok();
    let named = "in place of ledger.example/system, whose key signed two histories";
    assert!(shown.contains(named) && shown.contains(&digest), "{shown}");
    let exported = deployment.export("exported");
    let verified = deployment.leben(&["verify", exported.to_str().unwrap()]).ok();
    assert!(verified.contains(named) && verified.contains(&digest), "{verified}");
    // What is left of five is not enough for the same again.
    let second = deployment.submit(&job("3", &[describe("2")]))["contract"].as_str().unwrap().to_owned();
    wait_until("aker sees it", || deployment.worker("aker", &["contracts"]).out.contains(&second));
    let asked = said(Command::new(program("leben-worker")).arg("--dir").arg(deployment.path("aker")).arg("contracts"));
    assert!(asked.out.contains("cannot sign it as it is"), "{asked:?}");
}
